"""Pins: chunks that must not be collected although no object has them: a running upload's, or those of a version being read.

Pins exist on the leader only and end with its leading, as uploads and readings do. A chunk counts how many pin it. One that
falls due while it is pinned is put aside, and comes back when its last pin ends.
"""

from __future__ import annotations

from collections.abc import Iterable

from waymaker_core.layers.waits import Waits
from waymaker_core.objects.chunk_map import ChunkMap, decode_chunk_map


class Pins:
    """Pinned chunks, versions that are being read, and the chunks without an object in the order in which they fall due.

    `due` may hold a chunk that has an object again, or one twice; who takes it out compares with the committed state.
    """

    __slots__ = ("due", "_pins", "_aside", "_readers", "_replaced")

    def __init__(self, due: Waits[int]) -> None:
        self.due = due
        self._pins: dict[int, int] = {}
        self._aside: dict[int, None] = {}
        self._readers: dict[int, int] = {}
        self._replaced: dict[int, ChunkMap] = {}
        """Versions that are being read and were replaced meanwhile: their chunks are pinned."""

    def restart(self, loose: Iterable[int]) -> None:
        """Forget every pin; these chunks have no object."""
        self.due.restart(loose)
        for table in (self._pins, self._aside, self._readers, self._replaced):
            table.clear()

    def is_pinned(self, seq: int) -> bool:
        """Return True if a chunk must not be collected."""
        return seq in self._pins

    def put_aside(self, seq: int) -> None:
        """Note a pinned chunk that has fallen due."""
        self._aside[seq] = None

    # ------------------------------------------------------------------ uploads

    def pin(self, seqs: Iterable[int]) -> None:
        """Pin chunks once more."""
        pins = self._pins
        for seq in seqs:
            pins[seq] = pins.get(seq, 0) + 1

    def unpin(self, seqs: Iterable[int]) -> None:
        """End one pin of each of these chunks."""
        pins = self._pins
        for seq in seqs:
            left = pins[seq] - 1
            if left:
                pins[seq] = left
            else:
                del pins[seq]
                if seq in self._aside:
                    del self._aside[seq]
                    self.due.append_keys([seq])

    # ------------------------------------------------------------------ readings

    def begin_reading(self, revision: int) -> None:
        """Note a reader of a version that is not replaced yet. What an object has needs no pin."""
        self._readers[revision] = self._readers.get(revision, 0) + 1

    def replaced(self, revision: int, chunks: bytes) -> None:
        """Pin the chunks of a version that is replaced, if it is being read."""
        if revision in self._readers:
            self._replaced[revision] = decode_chunk_map(chunks)
            self.pin(self._replaced[revision].sequences())

    def end_reading(self, revision: int) -> None:
        """Note the end of a reader."""
        left = self._readers[revision] - 1
        if left:
            self._readers[revision] = left
            return
        del self._readers[revision]
        chunks = self._replaced.pop(revision, None)
        if chunks is not None:
            self.unpin(chunks.sequences())
