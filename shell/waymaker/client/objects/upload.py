"""One object on its way to the server: cut into chunks, hashed, and sent no faster than the server takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final

import grpc.aio

from waymaker.client.checked import Timeout
from waymaker.client.connection.transport import ends_told
from waymaker.client.connection.work import check_result
from waymaker.client.errors import NOT_APPLIED, UNKNOWN, ShaMismatchError, WrongTypeError
from waymaker.client.objects.calls import PATH, Calls, raise_end, within
from waymaker.wire.grpc_calls import CallEnded, begin, send
from waymaker.wire.objects import data_frame
from waymaker_proto import waymaker_streams_pb2 as pb

Source = bytes | bytearray | memoryview | PathLike[str] | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]
"""The payload of an object: bytes, a file by its path, an open file, or pieces as they come."""

JUDGED_BYTES_PER_S: Final = 16 * 1024 * 1024
"""Bytes that a server stores and syncs in a second, at the least."""
_FINISH: Final = pb.PutObjectStreamFrame(finish=True).SerializeToString()


def check_source(source: object) -> None:
    """Refuse (WrongTypeError) what no object can be made of."""
    if isinstance(source, str) or not (
        isinstance(source, bytes | bytearray | memoryview | PathLike | Iterable | AsyncIterable)
        or hasattr(source, "read")
    ):
        raise WrongTypeError(
            f"an object is made of bytes, a Path, an open file or an iterable of bytes, not {type(source).__name__}"
        )


async def chunks_of(source: Source, chunk_size: int) -> AsyncIterator[bytes | memoryview]:
    """Yield a source in chunks of one size; only the last may be shorter. Bytes are not copied: nothing changes them."""
    if isinstance(source, bytes):
        view = memoryview(source)
        for at in range(0, len(view), chunk_size):
            yield view[at : at + chunk_size]
    elif isinstance(source, bytearray | memoryview):
        view = memoryview(source).cast("B")
        for at in range(0, len(view), chunk_size):
            yield bytes(view[at : at + chunk_size])
    elif isinstance(source, PathLike):
        with await asyncio.to_thread(Path(source).open, "rb") as opened:
            async for chunk in _read(opened, chunk_size):
                yield chunk
    elif hasattr(source, "read"):
        async for chunk in _read(source, chunk_size):
            yield chunk
    else:
        waiting = bytearray()
        async for piece in _each(source):
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise WrongTypeError(f"an object is made of bytes; the iterable gave {type(piece).__name__}")
            view = memoryview(piece).cast("B")
            while len(waiting) + len(view) >= chunk_size:
                taken = chunk_size - len(waiting)
                yield b"".join((waiting, view[:taken]))
                waiting.clear()
                view = view[taken:]
            waiting += view
        if waiting:
            yield bytes(waiting)


async def _read(opened: Any, chunk_size: int) -> AsyncIterator[bytes]:
    """Yield a file's bytes; a read may return less than it was asked for."""
    while True:
        chunk = await asyncio.to_thread(opened.read, chunk_size)
        while 0 < len(chunk) < chunk_size:
            more = await asyncio.to_thread(opened.read, chunk_size - len(chunk))
            if not more:
                break
            chunk += more
        if not chunk:
            return
        yield chunk


async def _each(source: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(source, AsyncIterable):
        async for piece in source:
            yield piece
    else:
        for piece in source:
            yield piece


async def send_object(
    calls: Calls, start: pb.PutObjectStart, chunks: AsyncIterator[bytes | memoryview], on_bytes: Callable[[int], None] | None,
    timeout: Timeout,
) -> pb.ObjectInfo:  # fmt: skip
    """Send an object; return what the server made of it. Each step may take `timeout`.

    The server may judge before it has seen everything, and reads no further then. So the call is a bidirectional one: its
    answer can be read while a write waits.
    """
    step_s = calls.seconds(timeout)
    channel = await calls.channel(timeout)
    call: Any = channel.stream_stream(PATH + "PutObjectStream")(metadata=calls.metadata)
    try:
        with ends_told(changes=True):
            data, digest = await _send(call, start, chunks, on_bytes, step_s)
    finally:
        call.cancel()
    response = pb.PutObjectResponse.FromString(data)
    check_result(response)
    if response.info.sha256 != digest:
        raise ShaMismatchError(
            f"the server stored an object with SHA-256 {response.info.sha256}; what was sent has {digest}",
            outcome=UNKNOWN,
        )
    return response.info


async def _send(
    call: Any, start: pb.PutObjectStart, chunks: AsyncIterator[bytes | memoryview], on_bytes: Callable[[int], None] | None,
    step_s: float | None,
) -> tuple[bytes, str]:  # fmt: skip
    answer = asyncio.ensure_future(call.read())
    digest = sha256()
    sent = 0
    try:
        try:
            async with within(step_s, "the server did not begin the upload in time", NOT_APPLIED):
                await begin(call)
                await send(call, pb.PutObjectStreamFrame(start=start).SerializeToString())
            async for chunk in chunks:
                if answer.done():
                    break
                digest.update(chunk)
                async with within(step_s, f"the server took no more of the object after {sent} bytes", NOT_APPLIED):
                    await send(call, data_frame(chunk))
                sent += len(chunk)
                if on_bytes is not None:
                    on_bytes(len(chunk))
            else:
                await send(call, _FINISH)
                await call.done_writing()
        except CallEnded:
            pass  # the end of the call met a write; why it ended is the answer's to say
        last_s = None if step_s is None else step_s + sent / JUDGED_BYTES_PER_S
        async with within(last_s, "the whole object was sent, and no answer came in time", UNKNOWN):
            await asyncio.wait([answer])
        response = await answer
    except BaseException:
        answer.cancel()
        raise
    if response is grpc.aio.EOF:
        await raise_end(call)
    return response, digest.hexdigest()
