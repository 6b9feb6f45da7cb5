"""One object on its way out: a version that stays while it is read, its chunks in windows, the next one read ahead.

The hash of what was read is compared with the metadata's where the whole payload is read. Every chunk also has the checksum of
the storage, which each read from disk verifies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Final

from waymaker.server.node_runner import NodeRunner
from waymaker.server.objects.asking import Lease, bodies_of, good, payload_of
from waymaker.wire.objects import Found, found_object
from waymaker_core.api.object_requests import OpenObject, ReadChunks
from waymaker_core.api.requests import Messages
from waymaker_core.model.result_codes import INCOMPLETE, SHA_MISMATCH, CodeError
from waymaker_core.model.types import Principal
from waymaker_core.objects.names import stream_name

WINDOW_BYTES: Final = 2 << 20
WINDOW_CHUNKS: Final = 1_000
"""Chunks that are read together; a single chunk may have more bytes."""


class Download:
    """A reading in progress. Use: `begin`, `chunks` or `range`; `close` in any case."""

    def __init__(self, runner: NodeRunner, principal: Principal, bucket: str, name: str, revision: int = 0) -> None:
        self._runner = runner
        self._principal = principal
        self._stream = stream_name(bucket)
        self._name = name
        self._revision = revision
        self._lease = Lease(runner, principal)
        self.found: Found

    async def begin(self) -> Found:
        """Begin; return the object's metadata. Raises `RefusedError` and `CodeError`, as every step does."""
        answer, bodies = await self._lease.begin(OpenObject(self._stream, self._name, self._revision))
        assert isinstance(answer.value, Messages)
        self.found = found_object(bodies_of(answer.value, bodies)[0])
        return self.found

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield every chunk. CodeError (`sha_mismatch`) at the end where they are not what was stored."""
        whole = sha256()
        async for chunk in self._pieces(0, self.found.total_bytes):
            whole.update(chunk)
            yield chunk
        if whole.digest() != self.found.metadata.sha256:
            raise CodeError(SHA_MISMATCH, f"what was read of {self._name[:80]!r} is not what was stored")

    async def range(self, offset: int, length: int) -> bytes:
        """Return a part of the payload, which lies within it."""
        parts: list[bytes] = []
        async for piece in self._pieces(offset, length):
            parts.append(piece)
        return b"".join(parts)

    async def _pieces(self, offset: int, length: int) -> AsyncIterator[bytes]:
        end = offset + length
        ahead = self._read_ahead(offset, end)
        try:
            while ahead is not None:
                chunks, begin = await ahead
                behind = begin + sum(map(len, chunks))
                ahead = self._read_ahead(behind, end)
                for chunk in chunks:
                    first, last = max(0, offset - begin), min(len(chunk), end - begin)
                    begin += len(chunk)
                    yield chunk if last - first == len(chunk) else chunk[first:last]
        finally:
            if ahead is not None:
                ahead.cancel()

    def _read_ahead(self, offset: int, end: int) -> asyncio.Task[tuple[list[bytes], int]] | None:
        return asyncio.ensure_future(self._read(offset, end)) if offset < end else None

    async def _read(self, offset: int, end: int) -> tuple[list[bytes], int]:
        """Return the chunks from an offset on, as many as a window holds, and the offset of the first one."""
        chunks = self.found.metadata.chunks
        ranges, begin = chunks.covering(offset, end - offset, WINDOW_CHUNKS, WINDOW_BYTES)
        answer, bodies = await self._runner.ask(self._principal, ReadChunks(self._stream, self._lease.token, ranges))
        value = good(answer).value
        assert isinstance(value, Messages)
        found = [payload_of(body) for _, _, body in bodies_of(value, bodies)]
        if len(found) != sum(last - first + 1 for first, last in ranges):
            raise CodeError(INCOMPLETE, f"chunks of {self._name[:80]!r} are missing")
        return found, begin

    def close(self) -> None:
        """End the reading."""
        self._lease.end()
