"""One object on its way from the server: streamed, verified, and taken up where a lost connection broke it off.

What is taken up is the same revision. Where the object was replaced meanwhile, the download ends as `IncompleteError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import grpc.aio

from waymaker.client.checked import Timeout
from waymaker.client.connection.transport import ends_told
from waymaker.client.errors import DataLossError, IncompleteError, ShaMismatchError, UnavailableError
from waymaker.client.objects.calls import PATH, Calls, within
from waymaker_proto import waymaker_streams_pb2 as pb

PIECE_BYTES: Final = 4 << 20
"""Bytes of one ranged read, where a download goes on."""
ATTEMPTS: Final = 8
"""Lost connections in a row, without a byte in between, after which a download gives up."""


class Download:
    """One object, from an offset on. `info` is known once the first piece has come."""

    def __init__(self, calls: Calls, bucket: str, name: str, timeout: Timeout) -> None:
        self._calls = calls
        self._bucket = bucket
        self._name = name
        self._timeout = timeout
        self.info: pb.ObjectInfo | None = None
        self._digest = sha256()
        self._offset = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the whole payload; it is verified only where the iteration ends without an exception."""
        attempts = self._calls.attempts(self._timeout)
        while True:
            try:
                async for data in self._streamed():
                    yield data
            except UnavailableError as error:
                if self.info is None:
                    await attempts.await_next(error)
                    continue
                if self._calls.backoff_s is None:
                    raise
                await asyncio.sleep(self._calls.backoff_s)
                async for data in self._rest(self.info):
                    yield data
            break
        self._verify()

    async def resume(self, info: pb.ObjectInfo, part: Path, on_bytes: Callable[[int], None] | None) -> None:
        """Complete a file that holds the beginning of a revision; its bytes are on disk at the end."""
        self.info = info
        with await asyncio.to_thread(part.open, "a+b") as out:
            out.seek(0)
            while data := await asyncio.to_thread(out.read, PIECE_BYTES):
                self._take(data)
                if on_bytes is not None:
                    on_bytes(len(data))
            if self._offset > info.total_bytes:
                raise ShaMismatchError(f"{part} is longer than the object")
            async for data in self._rest(info):
                await asyncio.to_thread(out.write, data)
                if on_bytes is not None:
                    on_bytes(len(data))
            await asyncio.to_thread(_sync, out)
        self._verify()

    async def _streamed(self) -> AsyncIterator[bytes]:
        channel = await self._calls.channel(self._timeout)
        request = pb.GetObjectRequest(bucket=self._bucket, name=self._name).SerializeToString()
        call: Any = channel.unary_stream(PATH + "GetObjectStream")(request, metadata=self._calls.metadata)
        step_s = self._calls.seconds(self._timeout)
        done = False
        try:
            with ends_told():
                while True:
                    async with within(step_s, "no piece of the object arrived in time", None):
                        received = await call.read()
                    if received is grpc.aio.EOF:
                        break
                    frame = pb.GetObjectStreamFrame.FromString(received)
                    if frame.HasField("info"):
                        self.info = frame.info
                    data = frame.data  # each look at a field of bytes copies it
                    if data:
                        self._take(data)
                        yield data
                    done = done or frame.done
        finally:
            call.cancel()
        if not done or self.info is None:
            raise DataLossError("the object ended without its last frame")

    async def _rest(self, info: pb.ObjectInfo) -> AsyncIterator[bytes]:
        """Yield what is left of a revision, by ranged reads, the next one under way while one is used."""
        losses = 0
        while self._offset < info.total_bytes:
            ahead = self._ask(info, self._offset)
            try:
                while self._offset < info.total_bytes:
                    data = await ahead
                    losses = 0
                    if not data:
                        raise DataLossError(f"the server gave nothing of {self._name!r} at {self._offset}")
                    behind = self._offset + len(data)
                    if behind < info.total_bytes:
                        ahead = self._ask(info, behind)
                    self._take(data)
                    yield data
            except UnavailableError:
                losses += 1
                if self._calls.backoff_s is None or losses == ATTEMPTS:
                    raise
                await asyncio.sleep(self._calls.backoff_s * 2**losses)
            finally:
                ahead.cancel()

    def _ask(self, info: pb.ObjectInfo, offset: int) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(
            get_range(self._calls, self._bucket, self._name, offset, PIECE_BYTES, info.metadata_seq, self._timeout)
        )

    def _take(self, data: bytes) -> None:
        self._digest.update(data)
        self._offset += len(data)

    def _verify(self) -> None:
        info = self.info
        assert info is not None
        if self._offset != info.total_bytes or self._digest.hexdigest() != info.sha256:
            raise ShaMismatchError(
                f"what arrived of {self._name!r} has {self._offset} bytes and SHA-256 {self._digest.hexdigest()}; the object "
                f"has {info.total_bytes} and {info.sha256}"
            )


async def get_range(
    calls: Calls, bucket: str, name: str, offset: int, length: int, revision: int, timeout: Timeout
) -> bytes:
    """Return a part of an object."""
    request = pb.GetObjectRangeRequest(bucket=bucket, name=name, offset=offset, len=length)
    response = await calls.unary("GetObjectRange", request, pb.GetObjectRangeResponse, timeout, revision)
    return response.payload


async def save(
    calls: Calls, bucket: str, name: str, path: Path, find: Callable[[], Any], on_bytes: Callable[[int], None] | None,
    timeout: Timeout,
) -> pb.ObjectInfo:  # fmt: skip
    """Download into a file, which appears once it is complete, verified and on disk; take up what an earlier try has left.

    What is not complete stays in `PATH.REVISION.part`. An object that is replaced meanwhile is begun anew.
    """
    while True:
        info: pb.ObjectInfo = await find()
        part = path.with_name(f"{path.name}.{info.metadata_seq}.part")
        try:
            await Download(calls, bucket, name, timeout).resume(info, part, on_bytes)
        except (IncompleteError, ShaMismatchError) as error:
            with contextlib.suppress(OSError):
                part.unlink()
            if isinstance(error, ShaMismatchError):
                raise
            continue
        await asyncio.to_thread(_rename, part, path)
        return info


def _sync(out: Any) -> None:
    out.flush()
    os.fsync(out.fileno())


def _rename(part: Path, path: Path) -> None:
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
