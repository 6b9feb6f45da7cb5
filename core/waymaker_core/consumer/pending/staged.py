"""Decisions on their way to disk: what a group is done with once its record is committed.

Staged messages are out of `pending` already, so that nothing delivers, drops or acknowledges them again, but the floor
waits for them. Records are committed in the order they were staged; the least sequence of all of them is kept
by the monotone queue of the sliding window minimum.
"""

from __future__ import annotations

from collections import deque

from waymaker_core.consumer.pending.batch import Part
from waymaker_core.model.records import AckRecord, DropRecord


class StagedDone:
    """One record and what it took: parts of batches, and sequences that were not known to be out (`unknown_acks`).

    `held` are the parts that kept their messages from other groups when the record was decided, which goes on until the
    commit. The batches live on without these messages; their columns say for ever which ones a mask means.
    """

    __slots__ = ("record", "parts", "unknown_acks", "claimed", "least")

    def __init__(self, record: AckRecord | DropRecord, parts: list[Part], unknown_acks: list[int]) -> None:
        self.record = record
        self.parts = parts
        self.unknown_acks = unknown_acks
        self.claimed = [part for part in parts if part[0].claiming]
        self.least = min(record.seqs)


class Staged:
    """All staged records of one group, oldest first."""

    __slots__ = ("_entries", "_minima")

    def __init__(self) -> None:
        self._entries: deque[StagedDone] = deque()
        self._minima: deque[int] = deque()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def push(self, entry: StagedDone) -> None:
        """One more record is decided."""
        self._entries.append(entry)
        while self._minima and self._minima[-1] > entry.least:
            self._minima.pop()
        self._minima.append(entry.least)

    def committed(self, record: AckRecord | DropRecord) -> StagedDone:
        """The oldest record is committed; it must be this one."""
        entry = self._entries.popleft()
        assert entry.record is record, "records of a group are committed in the order they were decided"
        if self._minima[0] == entry.least:
            self._minima.popleft()
        return entry

    def least(self) -> int:
        """The least staged sequence; there must be one."""
        return self._minima[0]

    def entries(self) -> list[StagedDone]:
        """All of them, oldest first."""
        return list(self._entries)

    def clear(self) -> list[StagedDone]:
        """Forget them all; what they were, oldest first."""
        entries = list(self._entries)
        self._entries.clear()
        self._minima.clear()
        return entries
