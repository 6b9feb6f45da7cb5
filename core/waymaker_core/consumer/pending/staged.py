"""Staged acks of a group: what it is done with once the records are committed.

A staged message has left `pending`, so that nothing delivers, drops or acknowledges it again, but the floor waits for its
commit. Records are committed in the order in which they were staged. The least sequence of all of them is kept by the
monotone queue of the sliding window minimum.
"""

from __future__ import annotations

from collections import deque

from waymaker_core.consumer.pending.batch import Part
from waymaker_core.model.records import AckRecord, DropRecord


class StagedDone:
    """One record and what it took: parts of batches, and sequences that were not known to be out (`unknown_acks`).

    `claimed`: the parts whose messages the group had claimed when the record was decided; the claims last until the commit.
    The batches stay, without these messages; their columns say for good which ones a mask means.
    """

    __slots__ = ("record", "parts", "unknown_acks", "claimed", "least")

    def __init__(self, record: AckRecord | DropRecord, parts: list[Part], unknown_acks: list[int]) -> None:
        self.record = record
        self.parts = parts
        self.unknown_acks = unknown_acks
        self.claimed = [part for part in parts if part[0].claiming]
        self.least = min(record.seqs)


class Staged:
    """All staged records of one group, oldest first: an overlay (docs/architecture.md)."""

    __slots__ = ("_entries", "_minima")

    def __init__(self) -> None:
        self._entries: deque[StagedDone] = deque()
        self._minima: deque[int] = deque()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def stage(self, entry: StagedDone) -> None:
        """Stage one more record. Constant time, amortized."""
        self._entries.append(entry)
        while self._minima and self._minima[-1] > entry.least:
            self._minima.pop()
        self._minima.append(entry.least)

    def commit(self, record: AckRecord | DropRecord) -> StagedDone:
        """Let go of the oldest record, which must be this one; return what it took."""
        entry = self._entries.popleft()
        assert entry.record is record, "records of a group are committed in the order they were decided"
        if self._minima[0] == entry.least:
            self._minima.popleft()
        return entry

    def least(self) -> int:
        """Return the least staged sequence; there must be one."""
        return self._minima[0]

    def entries(self) -> list[StagedDone]:
        """Return all of them, oldest first."""
        return list(self._entries)

    def discard(self) -> list[StagedDone]:
        """Drop them all; return what they took, oldest first."""
        entries = list(self._entries)
        self._entries.clear()
        self._minima.clear()
        return entries
