"""The group's log as one member holds it: entries behind the last release, the sets of members in it, and what is durable.

It knows no term but those of its entries, and no other member. What was handed to the disk and not reported yet is a list of
writes; a cut lowers their ends, so that the end of an old write never makes a new entry durable that took an old one's place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Final

from waymaker_core.raft.entries import Durable, Entry, EntryKind, SnapshotMeta, size_of
from waymaker_core.raft.members import Members, decode_members

UNKNOWN: Final = -1
"""The term of an entry that this log does not have."""


def _term(entry: Entry) -> int:
    return entry.term


class RaftLog:
    """Entries `base + 1 .. last`, in memory. `base` is at or before the last snapshot."""

    __slots__ = (
        "base", "base_term", "entries", "sums", "last", "snapshot", "sets", "handed", "unwritten", "durable", "writes",
    )  # fmt: skip

    def __init__(self, durable: Durable) -> None:
        snapshot = durable.snapshot
        self.base = snapshot.index
        self.base_term = snapshot.term
        self.entries: list[Entry] = []
        self.sums: list[int] = []
        """The bytes of all entries up to each one, counted from some point in the past."""
        self.last = self.base
        self.snapshot = snapshot
        self.sets: list[tuple[int, Members]] = [(snapshot.index, snapshot.members)]
        """The sets of members in the log by their index, in order; the last one is in force."""
        self.unwritten = self.base + 1
        """The first entry that was not handed to the disk as it is now."""
        for entry in durable.entries:
            self.append_entry(entry)
        self.handed = self.last
        """The last entry that the disk was handed, as it was then."""
        self.unwritten = self.last + 1
        self.durable = self.last
        """This log is durable up to here."""
        self.writes: deque[tuple[int, int]] = deque()
        """Writes that the disk has not reported: number, and the last entry that is durable with it."""

    # ------------------------------------------------------------ reading

    @property
    def last_term(self) -> int:
        """Return the term of the last entry."""
        return self.entries[-1].term if self.entries else self.base_term

    @property
    def members(self) -> Members:
        """Return the set in force: the newest in the log, committed or not (Raft thesis, 4.1)."""
        return self.sets[-1][1]

    @property
    def members_index(self) -> int:
        """Return the index of the set in force."""
        return self.sets[-1][0]

    def term_at(self, index: int) -> int:
        """Return the term of an entry; UNKNOWN where the log does not have it, or no more."""
        at = index - self.base - 1
        if 0 <= at < len(self.entries):
            return self.entries[at].term
        return self.base_term if at == -1 else UNKNOWN

    def members_at(self, index: int) -> Members:
        """Return the set that was in force at an index, from the last snapshot on."""
        at = len(self.sets) - 1
        while at > 0 and self.sets[at][0] > index:
            at -= 1
        return self.sets[at][1]

    def bytes_between(self, first: int, last: int) -> int:
        """Return the bytes of entries `first .. last`, as far as they are in memory."""
        base = self.base
        first, last = max(first, base + 1), min(last, self.last)
        if first > last:
            return 0
        before = self.sums[first - base - 2] if first > base + 1 else self._released()
        return self.sums[last - base - 1] - before

    def _released(self) -> int:
        return self.sums[0] - size_of(self.entries[0]) if self.sums else 0

    @property
    def size(self) -> int:
        """Return the bytes of all entries in memory."""
        return self.sums[-1] - self._released() if self.sums else 0

    def slice(self, first: int, last: int) -> tuple[Entry, ...]:
        """Return entries `first .. last`."""
        base = self.base
        return tuple(self.entries[first - base - 1 : last - base])

    def batch(self, first: int, entries_max: int, bytes_max: int) -> tuple[Entry, ...]:
        """Return entries from `first` on within both bounds, at least one if there is one. Costs a search, and a copy."""
        at = first - self.base - 1
        if at >= len(self.entries):
            return ()
        before = self.sums[at] - size_of(self.entries[at])
        end = bisect_right(self.sums, before + bytes_max, at)
        return tuple(self.entries[at : min(max(end, at + 1), at + entries_max)])

    def last_not_newer(self, index: int, term: int) -> int:
        """Return the last index up to `index` whose term is not above `term`; the base if there is none.

        Terms never fall along a log, so that nothing behind the result can agree with a log that has `term` there.
        """
        index = min(index, self.last)
        if index <= self.base:
            return index
        return self.base + bisect_right(self.entries, term, 0, index - self.base, key=_term)

    # ------------------------------------------------------------ changing

    def append_entry(self, entry: Entry) -> None:
        """Add an entry at the end. A set of members is in force at once."""
        self.sums.append((self.sums[-1] if self.sums else 0) + size_of(entry))
        self.entries.append(entry)
        self.last += 1
        if entry.kind == EntryKind.MEMBERS:
            self.sets.append((self.last, decode_members(entry.data)))

    def cut_at(self, first: int) -> None:
        """Remove the entries from `first` on."""
        assert first > self.snapshot.index, "what a snapshot covers is committed"
        at = first - self.base - 1
        del self.entries[at:], self.sums[at:]
        self.last = first - 1
        self.unwritten = min(self.unwritten, first)
        self._drop_sets()
        self._lower_durable()

    def _drop_sets(self) -> None:
        """Go back to the set that was in force before a cut."""
        while self.sets[-1][0] > self.last:
            self.sets.pop()

    def _lower_durable(self) -> None:
        """Let no write that was handed over before a cut make anything durable that comes after it."""
        last = self.last
        self.durable = min(self.durable, last)
        if self.writes and self.writes[-1][1] > last:
            self.writes = deque((number, min(end, last)) for number, end in self.writes)

    def hand_over(self, number: int) -> tuple[int, int, tuple[Entry, ...]]:
        """Give a write all that is unwritten: where it cuts (0: nowhere), its first index, its entries."""
        first = self.unwritten
        cut_from = first if first <= self.handed else 0
        entries = self.slice(first, self.last)
        self.handed = self.last
        self.unwritten = self.last + 1
        self.writes.append((number, self.last))
        return cut_from, first, entries

    def saved(self, number: int) -> None:
        """Note that all writes up to a number are durable."""
        writes = self.writes
        while writes and writes[0][0] <= number:
            self.durable = max(self.durable, writes.popleft()[1])

    def snapshot_taken(self, index: int, keep: int, keep_bytes: int) -> None:
        """Release entries that a durable snapshot at `index` covers, but for the last `keep` of them within some bytes."""
        self.snapshot = self.meta_at(index)
        while len(self.sets) > 1 and self.sets[1][0] <= index:
            del self.sets[0]
        base = max(self.base, index - keep)
        while self.bytes_between(base + 1, index) > keep_bytes:
            base += 1
        if base > self.base:
            self.base_term = self.term_at(base)
            at = base - self.base
            del self.entries[:at], self.sums[:at]
            self.base = base

    def meta_at(self, index: int) -> SnapshotMeta:
        """Return the meta of a snapshot at an index of the log."""
        return SnapshotMeta(index, self.term_at(index), self.members_at(index))

    def install(self, snapshot: SnapshotMeta, number: int, commit: int) -> None:
        """Begin anew behind a snapshot of another member, whose write has this number.

        Until that is durable, only what was committed is known to agree with it.
        """
        self.base, self.base_term = snapshot.index, snapshot.term
        self.entries, self.sums = [], []
        self.last = self.handed = snapshot.index
        self.unwritten = self.last + 1
        self.snapshot = snapshot
        self.sets = [(snapshot.index, snapshot.members)]
        self.durable = min(self.durable, commit)
        self.writes = deque((earlier, min(end, self.durable)) for earlier, end in self.writes)
        self.writes.append((number, snapshot.index))
