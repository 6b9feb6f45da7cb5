"""A count-min sketch: how often was this value added? Never less than the truth; rarely more than a bounded share of all.

Source: G. Cormode, S. Muthukrishnan, An improved data stream summary: the count-min sketch and its applications, 2005. There
are `depth` rows of `width` counters; a value counts in one counter of each row, and its answer is the least of them. With
width = e / error and depth = ln(1 / failure), an answer is above the truth by more than error * total with probability
`failure` at most. Everything is integer arithmetic.

Counters only add up, without conservative update. So order is without influence and a merged sketch is, to the bit, the sketch
that had taken both streams.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import add
from typing import Final, Self

from waymaker_core.sketches.errors import BadParameters, BadValue, CorruptSnapshot, DifferentParameters, check_range
from waymaker_core.sketches.hashing import words_of
from waymaker_core.sketches.snapshot_format import (
    STATE_BYTES_MAX,
    Kind,
    body,
    check_length,
    column_bytes,
    fields,
    head,
    integers,
)

VERSION: Final = 1
FAILURE_PPB_MIN: Final = 1_000
RATE_PPB_MAX: Final = 500_000_000
"""Rates are whole numbers of parts in a billion, up to this."""
TOTAL_MAX: Final = (1 << 63) - 1

_BILLION: Final = 1_000_000_000
_E_UP_PPB: Final = 2_718_281_829
_E_DOWN_PPB: Final = 2_718_281_828
_LAYOUT: Final = struct.Struct("<IIQ")


class CountMin:
    """A table of counters. Memory: 8 * `width` * `depth` bytes, at most 8 MiB, whatever is added.

    `total` is the number of values that were added, repetitions included; it stays below 2 ** 63.
    """

    __slots__ = ("error_ppb", "failure_ppb", "width", "depth", "total", "_counters")

    def __init__(self, error_ppb: int, failure_ppb: int) -> None:
        """Make an empty sketch from the share of the total that answers may be off by, and how often they may be off by more.

        Both are parts in a billion. BadParameters.
        """
        self.error_ppb = error_ppb
        self.failure_ppb = failure_ppb
        self.width, self.depth = dimensions(error_ppb, failure_ppb)
        self.total = 0
        self._counters = array("Q", bytes(8 * self.width * self.depth))

    def add(self, values: Sequence[bytes]) -> None:
        """Count each value once more. BadValue past the greatest total."""
        self.add_counts(Counter(values))

    def add_counts(self, counts: Mapping[bytes, int]) -> None:
        """Count each value as often as it says. Costs `depth` steps a distinct value. BadValue."""
        if counts and min(counts.values()) < 1:
            raise BadValue("a count below 1: a count-min sketch only adds")
        more = sum(counts.values())
        if self.total + more > TOTAL_MAX:
            raise BadValue(f"the total would be {self.total + more:,}; at most {TOTAL_MAX:,} is counted")
        self.total += more
        width, depth, counters = self.width, self.depth, self._counters
        each = iter(counts.values())
        for words in words_of(list(counts), depth):
            chunk = list(islice(each, len(words) // depth))
            for row in range(depth):
                start = row * width
                for word, count in zip(words[row::depth], chunk, strict=True):
                    counters[start + word % width] += count

    def estimate(self, values: Sequence[bytes]) -> list[int]:
        """Return for each value about how often it was added: never less than it was."""
        width, depth, counters = self.width, self.depth, self._counters
        found: list[int] = []
        for words in words_of(values, depth):
            least = [counters[word % width] for word in words[::depth]]
            for row in range(1, depth):
                start = row * width
                least = list(map(min, least, [counters[start + word % width] for word in words[row::depth]]))
            found += least
        return found

    def error_bound(self) -> int:
        """Return by how much an answer may be above the truth, at the present total."""
        return self.total * self.error_ppb // _BILLION

    def merge(self, other: CountMin) -> None:
        """Add all that another sketch counted; the result is the sketch of both. DifferentParameters, BadValue."""
        if (other.error_ppb, other.failure_ppb) != (self.error_ppb, self.failure_ppb):
            raise DifferentParameters(
                f"a count-min sketch with error {self.error_ppb:,} and failure {self.failure_ppb:,} parts in a billion cannot "
                f"take in one with {other.error_ppb:,} and {other.failure_ppb:,}: make both with the same parameters"
            )
        if self.total + other.total > TOTAL_MAX:
            raise BadValue(f"the total would be {self.total + other.total:,}; at most {TOTAL_MAX:,} is counted")
        self.total += other.total
        self._counters = array("Q", map(add, self._counters, other._counters))

    def snapshot(self) -> bytes:
        """Return the sketch as bytes: error and failure (u32), total (u64), the rows one after the other (u64 each)."""
        fixed = _LAYOUT.pack(self.error_ppb, self.failure_ppb, self.total)
        return head(Kind.COUNT_MIN, VERSION) + fixed + column_bytes(self._counters)

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """Return the sketch of a snapshot. CorruptSnapshot."""
        content = body(data, Kind.COUNT_MIN, VERSION)
        error_ppb, failure_ppb, total = fields(_LAYOUT, content)
        try:
            width, depth = dimensions(error_ppb, failure_ppb)
        except BadParameters as refused:
            raise CorruptSnapshot(f"the snapshot's parameters are out of range: {refused}") from refused
        check_length(content, _LAYOUT.size + 8 * width * depth)
        restored = cls(error_ppb, failure_ppb)
        restored.total = total
        restored._counters = integers(content[_LAYOUT.size :])
        for row in range(0, width * depth, width):
            # Each value counts once in each row. This bounds the counters too, so that none can overflow later.
            if total > TOTAL_MAX or sum(restored._counters[row : row + width]) != total:
                raise CorruptSnapshot(
                    f"the counters of row {row // width} do not add up to the snapshot's total of {total:,}"
                )
        return restored


def dimensions(error_ppb: int, failure_ppb: int) -> tuple[int, int]:
    """Return width and depth of a sketch. BadParameters."""
    check_range("the error in parts in a billion", error_ppb, 1, RATE_PPB_MAX)
    check_range("the failure in parts in a billion", failure_ppb, FAILURE_PPB_MIN, RATE_PPB_MAX)
    width = -(-_E_UP_PPB // error_ppb)
    depth, grown, one = 1, failure_ppb * _E_DOWN_PPB, _BILLION * _BILLION
    while grown < one:
        depth, grown, one = depth + 1, grown * _E_DOWN_PPB, one * _BILLION
    if 8 * width * depth > STATE_BYTES_MAX:
        raise BadParameters(
            f"a count-min sketch with error {error_ppb:,} and failure {failure_ppb:,} parts in a billion takes "
            f"{8 * width * depth:,} bytes; at most {STATE_BYTES_MAX:,} are allowed: allow a greater error"
        )
    return width, depth
