"""The calls about objects that are more than one request to the node: whole payloads in and out, and parts of them.

A caller that leaves, in whatever way, ends its upload or its reading. Hashes are compared on the way in and on the way out.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from waymaker.server.grpc.calls import Context, SessionCall, StreamCall, Turns, UnaryCall
from waymaker.server.grpc.metadata import revision_of
from waymaker.server.grpc.rpcs import Serving, coded
from waymaker.server.incidents import internal_error
from waymaker.server.node_runner import NodeRunner
from waymaker.server.objects.download import Download
from waymaker.server.objects.upload import Upload
from waymaker.server.refusals import abort, status_name
from waymaker.wire.guard import WALKED_BYTES_MIN, within
from waymaker.wire.objects import data_frame, object_info_pb
from waymaker_core.model.limits import MIB
from waymaker_core.model.message_codec import decode_body, encode_headers
from waymaker_core.model.result_codes import (
    OK,
    SHA_MISMATCH,
    CodeError,
    Outcome,
    Refusal,
    RefusedError,
    Status,
    invalid,
    resource_exhausted,
)
from waymaker_core.model.types import Principal
from waymaker_proto import waymaker_streams_pb2 as pb

CHUNK_BYTES: Final = 1 * MIB
UNARY_BYTES_MAX: Final = 16 * MIB
"""Payload of one unary call, in or out."""
UNARY_CHUNKS_MAX: Final = 10_000
UNARY_AT_ONCE: Final = 4
"""Unary calls with payloads that one connection has under way; its further ones wait their turn."""
PAUSE_S: Final = 600.0
"""The time for which an upload may stand still."""
TRANSFERS_MAX: Final = 256
"""Uploads and downloads that one server moves at a time: each holds a few megabytes."""

_HASH: Final = re.compile("[0-9a-fA-F]{64}")

Request = TypeVar("Request", bound=Message)


class ObjectCalls:
    """The calls about whole payloads and parts of them."""

    def __init__(self, runner: NodeRunner, serving: Serving, observe: Callable[[str, str, float], None]) -> None:
        self._runner = runner
        self._serving = serving
        self._observe = observe
        self._transfers = 0
        self._turns = Turns(UNARY_AT_ONCE)

    def unary(self) -> dict[str, UnaryCall]:
        """Return calls with one message each way."""
        return {
            "PutObject": partial(self._unary, "PutObject", self._put),
            "GetObject": partial(self._unary, "GetObject", self._get),
            "GetObjectRange": partial(self._unary, "GetObjectRange", self._range),
        }

    def streams(self) -> dict[str, StreamCall]:
        """Return calls with many messages out."""
        return {"GetObjectStream": self.get_stream}

    def sessions(self) -> dict[str, SessionCall]:
        """Return calls with many messages in."""
        return {"PutObjectStream": self.put_stream}

    # ------------------------------------------------------------------ how each call ends

    async def _unary(
        self, name: str, serve: Callable[[Principal, bytes, Context], Awaitable[bytes]], principal: Principal, data: bytes,
        context: Context,
    ) -> bytes:  # fmt: skip
        await self._turns.take(context)
        outcome = await self._outcome(name, principal, serve(principal, data, context))
        if isinstance(outcome, Refusal):
            await abort(context, outcome)
        return outcome

    async def _outcome(self, name: str, principal: Principal, serving: Awaitable[bytes]) -> bytes | Refusal:
        """Run a call, count it, and return its response or its refusal."""
        started = time.perf_counter()
        status = "OK"
        self._transfers += 1
        try:
            if self._transfers > TRANSFERS_MAX:
                _close(serving)
                raise resource_exhausted(f"{TRANSFERS_MAX} objects are on their way already; try again later")
            return await serving
        except CodeError as error:
            return coded(error.code, error.message)
        except RefusedError as error:
            status = status_name(error.refusal)
            return error.refusal
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except Exception as error:
            status = "INTERNAL"
            return internal_error(error, name, principal, admitted=True)
        finally:
            self._transfers -= 1
            self._observe(name, status, time.perf_counter() - started)

    # ------------------------------------------------------------------ in

    async def _put(self, principal: Principal, data: bytes, context: Context) -> bytes:
        r = _parsed(pb.PutObjectRequest, data)
        del data
        chunk_size, payload = r.chunk_size or CHUNK_BYTES, r.payload
        if len(payload) > UNARY_BYTES_MAX:
            raise resource_exhausted(
                f"a payload of {len(payload):,} bytes; PutObject takes {UNARY_BYTES_MAX:,}, PutObjectStream any number"
            )
        if chunk_size > self._serving.limits.message_bytes_max:
            raise invalid(
                f"chunk_size = {chunk_size}; at most {self._serving.limits.message_bytes_max} bytes are a chunk"
            )
        if len(payload) > chunk_size * UNARY_CHUNKS_MAX:
            raise resource_exhausted(
                f"chunk_size = {chunk_size} makes more than {UNARY_CHUNKS_MAX:,} chunks of {len(payload):,} bytes; "
                f"at least {-(-len(payload) // UNARY_CHUNKS_MAX)} is needed"
            )
        store = _Store(self, principal, r, r.dedupe, chunk_size)
        del r
        return await store.run(_cut(payload, chunk_size))

    async def put_stream(self, principal: Principal, requests: object, context: Context) -> None:
        """Store what comes in frames."""
        outcome = await self._outcome("PutObjectStream", principal, self._put_frames(principal, context))
        if isinstance(outcome, Refusal):
            await abort(context, outcome)
        await context.write(outcome)

    async def _put_frames(self, principal: Principal, context: Context) -> bytes:
        frame = await _frame(context)
        if frame is None or not frame.HasField("start"):
            raise invalid("an upload begins with a frame that carries start")
        start = frame.start
        store = _Store(self, principal, start, start.dedupe, start.chunk_size)
        return await store.run(_frames(frame, context, self._serving.limits.message_bytes_max))

    # ------------------------------------------------------------------ out

    async def _get(self, principal: Principal, data: bytes, context: Context) -> bytes:
        r = _parsed(pb.GetObjectRequest, data)
        download = Download(self._runner, principal, r.bucket, r.name, revision_of(context.invocation_metadata()))
        try:
            found = await download.begin()
            if found.total_bytes > UNARY_BYTES_MAX:
                raise resource_exhausted(
                    f"an object of {found.total_bytes:,} bytes; GetObject gives {UNARY_BYTES_MAX:,}, GetObjectStream any number"
                )
            payload = b"".join([chunk async for chunk in download.chunks()])
        finally:
            download.close()
        info = object_info_pb(found)
        return pb.GetObjectResponse(success=True, result_code=OK, info=info, payload=payload).SerializeToString()

    async def _range(self, principal: Principal, data: bytes, context: Context) -> bytes:
        r = _parsed(pb.GetObjectRangeRequest, data)
        download = Download(self._runner, principal, r.bucket, r.name, revision_of(context.invocation_metadata()))
        try:
            found = await download.begin()
            offset = min(r.offset, found.total_bytes)
            length = min(r.len or found.total_bytes, found.total_bytes - offset)
            if length > UNARY_BYTES_MAX:
                raise resource_exhausted(
                    f"a range of {length:,} bytes; at most {UNARY_BYTES_MAX:,} are given at once: ask for shorter ones with "
                    f"metadata wmkr-revision {found.revision}, or use GetObjectStream"
                )
            payload = await download.range(offset, length)
        finally:
            download.close()
        return pb.GetObjectRangeResponse(
            success=True, result_code=OK, info=object_info_pb(found), actual_offset=offset, payload=payload
        ).SerializeToString()

    async def get_stream(self, principal: Principal, data: bytes, context: Context) -> None:
        """Send an object in frames, as fast as the caller reads."""
        outcome = await self._outcome("GetObjectStream", principal, self._get_frames(principal, data, context))
        if isinstance(outcome, Refusal):
            await abort(context, outcome)
        if outcome:  # a result code, where there is no message to carry one
            ended = pb.AckResponse.FromString(outcome)
            status = Status.ABORTED if ended.result_code == SHA_MISMATCH else Status.NOT_FOUND
            await abort(context, Refusal(status, ended.message, Outcome.NOT_APPLIED, ended.result_code))

    async def _get_frames(self, principal: Principal, data: bytes, context: Context) -> bytes:
        r = _parsed(pb.GetObjectRequest, data)
        del data  # the sending may last
        download = Download(self._runner, principal, r.bucket, r.name, revision_of(context.invocation_metadata()))
        try:
            info = object_info_pb(await download.begin())
            await context.write(pb.GetObjectStreamFrame(info=info).SerializeToString())
            async for chunk in download.chunks():
                await context.write(data_frame(chunk))
            await context.write(pb.GetObjectStreamFrame(done=True).SerializeToString())
        finally:
            download.close()
        return b""

    def upload(self, principal: Principal, bucket: str, name: str, *, dedupe: bool) -> Upload:
        """Return an upload that is not begun."""
        return Upload(self._runner, principal, bucket, name, dedupe=dedupe)

    def encoded_headers(self, headers: Any) -> bytes:
        """Return a caller's headers as a stored body has them."""
        return encode_headers(((each.key, each.value) for each in headers), self._serving.limits)[0]


class _Store:
    """One put, unary or streamed: `asked` has the fields that both have."""

    def __init__(self, calls: ObjectCalls, principal: Principal, asked: Any, dedupe: bool, chunk_size: int) -> None:
        self._name = asked.name
        self._headers = calls.encoded_headers(asked.headers)
        self._expected = _digest_of(asked.sha256)
        self._chunk_size = chunk_size
        if chunk_size > (1 << 63) - 1:
            raise invalid("chunk_size is out of range")
        self._dedupe = dedupe
        self._upload = calls.upload(principal, asked.bucket, asked.name, dedupe=dedupe)

    async def run(self, chunks: AsyncIterator[bytes]) -> bytes:
        """Store all chunks; return the response."""
        upload = self._upload
        try:
            await upload.begin()
            async for chunk in chunks:
                self._chunk_size = self._chunk_size or len(chunk)
                await upload.add(chunk)
            digest = await upload.sha256()
            if self._expected and digest != self._expected:
                raise CodeError(
                    SHA_MISMATCH,
                    f"the payload's SHA-256 is {digest.hex()}, not {self._expected.hex()}; nothing was stored",
                )
            revision, time_ms = await upload.finish(self._chunk_size, self._headers)
        finally:
            upload.close()
        headers = decode_body(self._headers)[1]
        info = pb.ObjectInfo(
            name=self._name, total_bytes=upload.total_bytes, chunk_size=self._chunk_size if upload.count else 0,
            chunk_count=upload.count, sha256=digest.hex(), ts_ms=time_ms,
            headers=[pb.MessageHeader(key=key, value=value) for key, value in headers], metadata_seq=revision,
            deduped=self._dedupe,
        )  # fmt: skip
        return pb.PutObjectResponse(success=True, result_code=OK, info=info).SerializeToString()


def _parsed(kind: type[Request], data: bytes) -> Request:
    """Return a request. RefusedError where it is none, or has too many fields."""
    name = kind.DESCRIPTOR.name
    if len(data) > WALKED_BYTES_MIN and not within(data, kind.DESCRIPTOR):
        raise invalid(f"the request is not a valid {name}, or has too many fields")
    try:
        return kind.FromString(data)
    except DecodeError:
        raise invalid(f"the request is not a valid {name}") from None


async def _cut(payload: bytes, chunk_size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(payload), chunk_size):
        yield payload[at : at + chunk_size]


async def _frame(context: Context) -> pb.PutObjectStreamFrame | None:
    """Return the next frame; None at the end of the call."""
    try:
        async with asyncio.timeout(PAUSE_S):
            data: Any = await context.read()
    except TimeoutError:
        text = f"no frame came for {PAUSE_S:.0f} s; nothing was stored"
        raise RefusedError(Refusal(Status.ABORTED, text, Outcome.NOT_APPLIED)) from None
    return None if data is grpc.aio.EOF else _parsed(pb.PutObjectStreamFrame, data)


async def _frames(first: pb.PutObjectStreamFrame, context: Context, bytes_max: int) -> AsyncIterator[bytes]:
    """Yield the data of each frame up to the one that says `finish`."""
    frame: pb.PutObjectStreamFrame | None = first
    while frame is not None:
        if frame is not first and frame.HasField("start"):
            raise invalid("only the first frame of an upload carries start")
        finish, data = frame.finish, frame.data  # each look at a field of bytes copies it
        if len(data) > bytes_max:
            raise resource_exhausted(f"a frame of {len(data):,} bytes; at most {bytes_max:,} are a chunk")
        if data:
            yield data
        if finish:
            return
        frame = await _frame(context)
    raise invalid("the upload ended without finish; nothing was stored")


def _digest_of(text: str) -> bytes:
    """Return the hash that a caller expects, or nothing."""
    if text and _HASH.fullmatch(text) is None:
        raise invalid("sha256 is not 64 hexadecimal digits")
    return bytes.fromhex(text)


def _close(serving: Awaitable[bytes]) -> None:
    """Drop a coroutine that is never awaited."""
    close = getattr(serving, "close", None)
    if close is not None:
        close()
