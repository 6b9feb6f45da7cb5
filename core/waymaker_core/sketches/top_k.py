"""The most frequent values: a count-min sketch, and the k values that it counted highest.

Source: Cormode and Muthukrishnan 2005, section 5.2 (see `count_min`). After each batch the candidates are the k greatest of the
former ones and the batch's values, by count and, of equal counts, by the lesser bytes: the choice depends on no order
inside of a batch and on no hash of the process.

A candidate's count is an upper bound of its true one: the sketch's answer when it was last added, which is closer than a later
answer would be. A value that makes up more than 1 / k + error of the total is always found, unless the sketch failed on one of
the candidates; so it is after merges. A rarer value may have been pushed out before it grew.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.errors import BadValue, CorruptSnapshot, DifferentParameters, check_range
from waymaker_core.sketches.snapshot_format import HEAD_BYTES, Kind, body, fields, head

VERSION: Final = 1
K_MAX: Final = 1_000
VALUE_BYTES_MAX: Final = 1_024
"""Length of a value: candidates are kept whole."""

_LAYOUT: Final = struct.Struct("<IIH")
_ENTRY: Final = struct.Struct("<QH")


class Candidate(NamedTuple):
    """A frequent value and an upper bound of how often it was added."""

    value: bytes
    times: int


class TopK:
    """A count-min sketch with candidates. Memory: the sketch, and at most `k` values of at most 1,024 bytes."""

    __slots__ = ("k", "counts", "_candidates")

    def __init__(self, k: int, error_ppb: int, failure_ppb: int) -> None:
        """Make an empty list of `k` values over a count-min sketch with these parameters. BadParameters."""
        check_range("k", k, 1, K_MAX)
        self.k = k
        self.counts = CountMin(error_ppb, failure_ppb)
        self._candidates: dict[bytes, int] = {}

    def add(self, values: Sequence[bytes]) -> None:
        """Count each value once more. BadValue where one is too long to be kept, or past the greatest total."""
        batch = Counter(values)
        longest = max(map(len, batch), default=0)
        if longest > VALUE_BYTES_MAX:
            raise BadValue(
                f"a value has {longest:,} bytes; at most {VALUE_BYTES_MAX:,} are allowed, for frequent values are kept whole"
            )
        self.counts.add_counts(batch)
        distinct = list(batch)
        self._keep(self._candidates | dict(zip(distinct, self.counts.estimate(distinct), strict=True)))

    def top(self, most: int) -> list[Candidate]:
        """Return the most frequent values, the greatest count first and, of equal counts, the lesser bytes first."""
        return [Candidate(value, count) for value, count in _ranked(self._candidates)[: max(0, most)]]

    def merge(self, other: TopK) -> None:
        """Add all that another list counted. Commutative; DifferentParameters, BadValue.

        A value that only one of the two has as a candidate gets the other's answer added.
        """
        if other.k != self.k:
            raise DifferentParameters(
                f"a list of the {self.k:,} most frequent values cannot take in one of {other.k:,}: make both with the same k"
            )
        union = list(self._candidates | other._candidates)
        mine, others = self._bounds(union), other._bounds(union)
        self.counts.merge(other.counts)
        self._keep({value: one + two for value, one, two in zip(union, mine, others, strict=True)})

    def _bounds(self, values: list[bytes]) -> list[int]:
        answers = self.counts.estimate(values)
        return [self._candidates.get(value, answer) for value, answer in zip(values, answers, strict=True)]

    def _keep(self, candidates: dict[bytes, int]) -> None:
        self._candidates = dict(_ranked(candidates)[: self.k])

    def snapshot(self) -> bytes:
        """Return the list as bytes: k (u32), length of the sketch (u32), number of candidates (u16), the snapshot of the
        sketch, then each candidate in order: count (u64), length (u16), bytes.
        """
        counts = self.counts.snapshot()
        fixed = _LAYOUT.pack(self.k, len(counts), len(self._candidates))
        entries = [_ENTRY.pack(count, len(value)) + value for value, count in self._candidates.items()]
        return head(Kind.TOP_K, VERSION) + fixed + counts + b"".join(entries)

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """Return the list of a snapshot. CorruptSnapshot."""
        content = body(data, Kind.TOP_K, VERSION)
        k, length, size = fields(_LAYOUT, content)
        if not (1 <= k <= K_MAX and size <= k):
            raise CorruptSnapshot(f"the snapshot has {size:,} candidates for k = {k:,}; k lies between 1 and {K_MAX:,}")
        at = _LAYOUT.size + length
        if length < HEAD_BYTES or at > len(content):
            raise CorruptSnapshot(
                f"the snapshot's count-min sketch has {length:,} bytes and the snapshot {len(content):,}"
            )
        counts = CountMin.restore(content[_LAYOUT.size : at])
        restored = cls(k, counts.error_ppb, counts.failure_ppb)
        restored.counts = counts
        restored._candidates = _candidates(content[at:], size, counts)
        return restored


def _ranked(candidates: dict[bytes, int]) -> list[tuple[bytes, int]]:
    return sorted(candidates.items(), key=lambda item: (-item[1], item[0]))


def _candidates(entries: bytes, size: int, counts: CountMin) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    at = 0
    for _ in range(size):
        count, length = fields(_ENTRY, entries[at : at + _ENTRY.size])
        at += _ENTRY.size
        value = entries[at : at + length]
        at += length
        if len(value) != length or length > VALUE_BYTES_MAX:
            raise CorruptSnapshot(
                f"a candidate of the snapshot has a length of {length:,} bytes, past the end or its limit"
            )
        found[value] = count
    if at != len(entries) or len(found) != size or _ranked(found) != list(found.items()):
        raise CorruptSnapshot("the candidates of the snapshot are not in order, or not all that is there")
    for (value, count), answer in zip(found.items(), counts.estimate(list(found)), strict=True):
        if not 1 <= count <= answer:
            raise CorruptSnapshot(
                f"the snapshot counts {value[:40]!r} {count:,} times and its sketch at most {answer:,} times"
            )
    return found
