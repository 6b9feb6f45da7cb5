"""Files in memory: where an ephemeral stream keeps its messages. Its records are written nowhere."""

from __future__ import annotations

from collections.abc import Iterable

from waymaker_core.model.disk_ops import Chunk, Write
from waymaker_core.model.types import StreamId
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.paths import memory_path


class MemoryFiles:
    """One stream's files in memory. A path is never used again once its file was deleted."""

    __slots__ = ("_stream_id", "_block_size", "_ends", "_made", "_open", "_writes")

    def __init__(self, stream_id: StreamId, block_size: int) -> None:
        self._stream_id = stream_id
        self._block_size = block_size
        self._ends: dict[str, int] = {}
        """By path: the length of each file."""
        self._made = 0
        """The number of files that there have been."""
        self._open: tuple[int, str] | None = None
        """The block whose file is being written, and that file."""
        self._writes: dict[str, int] = {}
        """By path: records in flight to that file."""

    def paths(self) -> Iterable[str]:
        """Return the path of every file."""
        return self._ends.keys()

    def append(self, first_seq: int, body: bytes) -> tuple[Chunk, Write]:
        """Give the bodies of messages from a sequence on their place, behind the last ones of their block."""
        block = (first_seq - 1) // self._block_size
        if self._open is None or self._open[0] != block:
            self._made += 1
            self._open = (block, memory_path(self._stream_id, self._made))
        path = self._open[1]
        self._writes[path] = self._writes.get(path, 0) + 1
        offset = self._ends.get(path, 0)
        self._ends[path] = offset + len(body)
        return Chunk(path, offset, len(body), crc32c(body)), Write(path, offset, [body], [(offset, body)])

    def written(self, path: str) -> None:
        """Note that a record in flight to a file has arrived; other paths mean nothing here."""
        left = self._writes.get(path, 0) - 1
        if left > 0:
            self._writes[path] = left
        elif not left:
            del self._writes[path]

    def is_written_to(self, path: str) -> bool:
        """Return True while a record is in flight to this file: it will be needed at once."""
        return path in self._writes

    def remove(self, path: str) -> int:
        """Remove a file that is to be deleted; return its length, or 0 for another stream's file or one on disk."""
        if self._open is not None and self._open[1] == path:
            self._open = None
        return self._ends.pop(path, 0)
