"""Naive stores: a dictionary of entries for hashes and sets, and a list of values for a queue.

The reference for the collections of the core. Written from the documented semantics alone (docs/collections.md). Entries are
named by their subjects, as in the core's requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class NaiveEntries:
    """A hash store or a set store: sequence and value of each entry."""

    entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    last_seq: int = 0

    def put(self, values: dict[str, bytes], *, only_absent: bool) -> list[int]:
        """Store entries in place of those before; return the sequence of each, 0 for what was there and stays."""
        seqs: list[int] = []
        for subject, value in values.items():
            if only_absent and subject in self.entries:
                seqs.append(0)
                continue
            self.last_seq += 1
            self.entries[subject] = (self.last_seq, value)
            seqs.append(self.last_seq)
        return seqs

    def remove(self, subjects: list[str]) -> int:
        """Remove entries; return how many of them there were."""
        return sum(self.entries.pop(subject, None) is not None for subject in subjects)

    def get(self, subjects: list[str]) -> list[tuple[int, bytes] | None]:
        """Return sequence and value of entries, None for what is not there."""
        return [self.entries.get(subject) for subject in subjects]

    def page(self, head: str, after: str, limit: int) -> list[str]:
        """Return the first entries of one hash or set behind another, in the order of their subjects."""
        return sorted(each for each in self.entries if each.startswith(head) and each > after)[:limit]

    def count(self, head: str) -> int:
        """Return how many entries a hash or a set has."""
        return sum(each.startswith(head) for each in self.entries)


@dataclass(slots=True)
class NaiveQueue:
    """A queue: the values that are not taken, with their sequences."""

    values: list[tuple[int, bytes]] = field(default_factory=list)
    last_seq: int = 0

    def push(self, values: list[bytes]) -> int:
        """Append values; return the sequence of the first."""
        first = self.last_seq + 1
        for value in values:
            self.last_seq += 1
            self.values.append((self.last_seq, value))
        return first

    def pop(self, limit: int) -> list[tuple[int, bytes]]:
        """Take the first values."""
        taken, self.values = self.values[:limit], self.values[limit:]
        return taken

    def peek(self, from_seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the first values from a sequence on, and leave them."""
        return [each for each in self.values if each[0] >= from_seq][:limit]
