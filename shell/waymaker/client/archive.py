"""Archives on the wire: a backup as it arrives, and a restore as it is sent. Nothing here reads the archive's format."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable

import grpc
import grpc.aio

from waymaker.client.contract import backup_summary
from waymaker.client.errors import NOT_APPLIED, UNKNOWN, DeadlineExceededError, TransferCorruptedError
from waymaker.client.values import BackupSummary
from waymaker.wire.grpc_calls import Call, CallEnded, begin, send
from waymaker_proto import admin_pb2 as admin

PIECE_BYTES = 256 * 1024
JUDGED_BYTES_PER_S = 16 * 1024 * 1024
"""Bytes of an archive that a server verifies and syncs in a second, at the least."""


async def read_backup(
    call: Call, on_summary: Callable[[BackupSummary], None] | None, piece_s: float | None
) -> AsyncIterator[bytes]:
    """Yield the archive's bytes; TransferCorruptedError where the summary is missing or states another length.

    Each piece may take `piece_s` to arrive.
    """
    total = 0
    summary: BackupSummary | None = None
    while True:
        async with _within(piece_s, "no piece of the backup arrived in time", None):
            chunk = await call.read()
        if chunk is grpc.aio.EOF:
            break
        if chunk.WhichOneof("body") == "summary":
            summary = backup_summary(chunk.summary)
        else:
            total += len(chunk.data)
            yield chunk.data
    if summary is None:
        raise TransferCorruptedError(f"the backup ended after {total} bytes without its summary", outcome=None)
    if summary.total_bytes != total:
        raise TransferCorruptedError(f"{total} bytes arrived of a backup of {summary.total_bytes}", outcome=None)
    if on_summary is not None:
        on_summary(summary)


async def send_archive(
    call: Call, archive: Iterable[bytes] | AsyncIterable[bytes], name: str, step_s: float | None
) -> admin.RestoreResponse:
    """Send an archive in pieces of the transport's size and return the server's word on it. Each step may take `step_s`.

    The server may judge before it has seen everything, and reads no further then. So the call is made as a bidirectional
    one: its answer can be read while a write waits, which it could not be in the transport's client-streaming shape.
    """
    answer = asyncio.ensure_future(call.read())
    sent = 0
    try:
        try:
            async with _within(step_s, "the server did not begin the restore in time", NOT_APPLIED):
                await begin(call)
                await send(call, admin.RestoreFrame(start=admin.RestoreStart(name=name)).SerializeToString())
            async for piece in _pieces(archive):
                if answer.done():
                    break
                async with _within(step_s, f"the server took no more of the archive after {sent} bytes", UNKNOWN):
                    await send(call, admin.RestoreFrame(data=piece).SerializeToString())
                sent += len(piece)
            else:
                await call.done_writing()
        except CallEnded:
            pass  # the end of the call met a write; why it ended is the answer's to say
        last_s = None if step_s is None else step_s + sent / JUDGED_BYTES_PER_S
        async with _within(last_s, "the whole archive was sent, and no answer came in time", UNKNOWN):
            await asyncio.wait([answer])
        response = await answer
    except BaseException:
        answer.cancel()
        raise
    if response is grpc.aio.EOF:
        raise grpc.aio.AioRpcError(
            await call.code(),
            await call.initial_metadata(),
            await call.trailing_metadata(),
            details=await call.details(),
        )
    return admin.RestoreResponse.FromString(response)


@contextlib.asynccontextmanager
async def _within(seconds: float | None, problem: str, outcome: str | None) -> AsyncIterator[None]:
    """Bound one step of a transfer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceededError(problem, outcome=outcome) from None


async def _pieces(archive: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for data in _each(archive):
        for at in range(0, len(data), PIECE_BYTES):
            yield data[at : at + PIECE_BYTES]


async def _each(archive: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(archive, AsyncIterable):
        async for data in archive:
            yield data
    else:
        for data in archive:
            yield data
