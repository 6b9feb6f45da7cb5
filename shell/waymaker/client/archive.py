"""Archives on the wire: a backup as it arrives, and a restore as it is sent. Nothing here reads the archive's format."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

from waymaker.client.errors import TransferCorruptedError
from waymaker.client.values import BackupSummary
from waymaker.client.wire import backup_summary_from_wire
from waymaker_proto import admin_pb2 as admin

PIECE_BYTES = 256 * 1024


async def read_backup(
    call: AsyncIterable[admin.ArchiveChunk], on_summary: Callable[[BackupSummary], None] | None
) -> AsyncIterator[bytes]:
    """The archive's bytes; TransferCorruptedError where the summary is missing or tells of another length."""
    total = 0
    summary: BackupSummary | None = None
    async for chunk in call:
        if chunk.WhichOneof("body") == "summary":
            summary = backup_summary_from_wire(chunk.summary)
        else:
            total += len(chunk.data)
            yield chunk.data
    if summary is None:
        raise TransferCorruptedError(f"the backup ended after {total} bytes without its summary", outcome=None)
    if summary.total_bytes != total:
        raise TransferCorruptedError(f"{total} bytes arrived of a backup of {summary.total_bytes}", outcome=None)
    if on_summary is not None:
        on_summary(summary)


async def send_archive(call: Any, archive: Iterable[bytes] | AsyncIterable[bytes], name: str) -> admin.RestoreResponse:
    """Sends an archive in pieces of the transport's size and returns the server's word on it."""
    await call.write(admin.RestoreFrame(start=admin.RestoreStart(name=name)).SerializeToString())
    async for data in _each(archive):
        for at in range(0, len(data), PIECE_BYTES):
            if call.done():  # the server has judged already
                return await _answer(call)
            await call.write(admin.RestoreFrame(data=data[at : at + PIECE_BYTES]).SerializeToString())
    await call.done_writing()
    return await _answer(call)


async def _answer(call: Any) -> admin.RestoreResponse:
    response: admin.RestoreResponse = await call
    return response


async def _each(archive: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(archive, AsyncIterable):
        async for data in archive:
            yield data
    else:
        for data in archive:
            yield data
