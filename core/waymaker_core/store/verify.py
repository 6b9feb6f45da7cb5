"""Verification of a data directory at rest: everything is read and nothing is changed. Sans-I/O.

Goes the way of recovery (manifest, checkpoint chain, journal), then reads every block and tail file that the streams'
states name: each chunk against its checksum, each index against its own and against its chunks. Where recovery stops at
the first damage that it cannot attribute, verification goes on as far as it can and reports all it finds.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Protocol

from waymaker_core.disk import Chunk, DiskOp
from waymaker_core.limits import Limits
from waymaker_core.store.recovery import Target


class Finding:
    """Something wrong: `stream_id` is the stream it belongs to, or -1. `harmless`: it takes nothing away (an orphan)."""

    __slots__ = ("path", "offset", "stream_id", "detail", "harmless")

    def __init__(self, path: str, offset: int, stream_id: int, detail: str, harmless: bool = False) -> None:
        self.path = path
        self.offset = offset
        self.stream_id = stream_id
        self.detail = detail
        self.harmless = harmless

    def __repr__(self) -> str:
        return f"Finding({self.path} at {self.offset}, stream {self.stream_id}: {self.detail})"


class StreamChunks(Protocol):
    """A recovery target that can also say which chunks and indexes its streams name."""

    def chunks(self) -> Iterable[tuple[int, Chunk]]:
        """(stream id, chunk) of all open blocks, wherever they lie."""
        ...

    def indexes(self) -> Iterable[tuple[int, str, int, int]]:
        """(stream id, path, offset, length) of all sealed blocks' indexes."""
        ...


class VerifyTarget(Target, StreamChunks, Protocol):
    """What verification fills and then asks."""


class Report:
    """What verification read and found."""

    __slots__ = ("findings", "files", "bytes_read", "records", "messages")

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.files = 0
        self.bytes_read = 0
        self.records = 0
        self.messages = 0


def verify(target: VerifyTarget, limits: Limits) -> Generator[DiskOp, object, Report]:
    """Read everything. Driven like `recover`; only yields `ListDir`, `Read` and `ReadChunk`."""
    raise NotImplementedError
    yield
