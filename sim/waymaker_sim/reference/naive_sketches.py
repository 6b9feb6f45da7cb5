"""Naive sketches: all values that were added, counted exactly, and the documented bounds of what a sketch may answer instead.

The reference for the sketches of the core. Written from the documented bounds alone (docs/sketches.md), which are calculated in
integers: rates are parts in a billion, doubles are taken as the fractions that they are. Where a bound holds with a
probability, `Chances` counts how often it did not; the questions that it counts must not depend on each other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from fractions import Fraction
from math import isqrt
from typing import Final

BILLION: Final = 1_000_000_000
DEVIATIONS: Final = 6
"""Standard deviations that a random count may be off by: what is right is off by more once in 500 million questions."""
PI_UP_PPB: Final = 3_141_592_654
SHARES_OFF: Final = 2
"""Shares of a centroid that ranks may be off by for values of any order of magnitude (docs/sketches.md)."""


@dataclass(slots=True)
class Chances:
    """A count of how often something came true whose probability is at most `ppb` in a billion each time."""

    ppb: int
    asked: int = 0
    true: int = 0

    def count(self, outcomes: list[bool]) -> None:
        """Count more of them."""
        self.asked += len(outcomes)
        self.true += sum(outcomes)

    def too_often(self) -> bool:
        """Return True if it came true more often than such a probability explains."""
        over = self.true * BILLION - self.asked * self.ppb
        return over > 0 and self.true > 1 and over * over > DEVIATIONS**2 * self.asked * self.ppb * BILLION


@dataclass(slots=True)
class NaiveCounts:
    """Values of bytes and how often each was added; the truth for all sketches but a t-digest."""

    counts: dict[bytes, int] = field(default_factory=dict)
    added: int = 0
    """Values of batches; those of merges are in `counts` only."""

    def add(self, values: list[bytes]) -> None:
        """Add a batch."""
        self.added += len(values)
        for value in values:
            self.counts[value] = self.counts.get(value, 0) + 1

    def merge(self, other: NaiveCounts) -> None:
        """Add what another one counted."""
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count

    def total(self) -> int:
        """Return how many values were added, repetitions and merges included."""
        return sum(self.counts.values())

    # ------------------------------------------------------------ bounds

    def distinct_fault(self, answer: Fraction, precision: int) -> str:
        """Return what is wrong with a HyperLogLog's answer: a standard error is 1.04 / sqrt(2 ** precision) of the truth."""
        truth = len(self.counts)
        off = max(abs(round(answer) - truth) - 1, 0)
        if off * off * (1 << precision) * 10_000 > DEVIATIONS**2 * 10_816 * truth * truth:
            return f"{truth} distinct values, and the answer is {float(answer):.1f}"
        return ""

    def about_fault(self, answer: Fraction) -> str:
        """Return what is wrong with a Bloom filter's answer, up to its capacity: no bound is promised, a tenth is plenty."""
        truth = len(self.counts)
        off = abs(answer - truth) > 5 + Fraction(truth, 10)
        return f"{truth} distinct values, and the answer is {float(answer):.1f}" if off else ""

    def count_fault(self, value: bytes, answer: int, error_ppb: int) -> str:
        """Return what is wrong with the answer to how often a value was added: never too low, and too high by a share."""
        truth, bound = self.counts.get(value, 0), self.total() * error_ppb // BILLION
        if not truth <= answer <= truth + bound:
            return (
                f"{value!r} was added {truth} times of {self.total()}, and the answer is {answer}, allowed {bound} more"
            )
        return ""

    def top_fault(self, top: list[tuple[bytes, int]], k: int, limit: int, error_ppb: int) -> str:
        """Return what is wrong with a list of the most frequent values."""
        if top != sorted(dict(top).items(), key=lambda pair: (-pair[1], pair[0])):
            return f"{top} is not in order, or names a value twice"
        if len(top) != min(k, limit, len(self.counts)):
            return f"{len(top)} values of {len(self.counts)} are named, k is {k} and the limit {limit}"
        faults = [fault for value, count in top if (fault := self.count_fault(value, count, error_ppb))]
        if faults or limit < k:
            return "; ".join(faults)
        least = self.total() * (BILLION + k * error_ppb)
        missing = [
            value for value, count in self.counts.items() if count * k * BILLION > least and value not in dict(top)
        ]
        return f"{missing} are above 1 / {k} and the error of {self.total()} values, and not named" if missing else ""


@dataclass(slots=True)
class NaiveNumbers:
    """Whole numbers, sorted; the truth for a t-digest."""

    numbers: list[int] = field(default_factory=list)
    added: int = 0

    def add(self, numbers: list[int]) -> None:
        """Add a batch."""
        self.added += len(numbers)
        for number in numbers:
            insort(self.numbers, number)

    def merge(self, other: NaiveNumbers) -> None:
        """Add what another one holds."""
        for number in other.numbers:
            insort(self.numbers, number)

    def rank_fault(self, number: int, answer: Fraction, compression: int) -> str:
        """Return what is wrong with the share of numbers that are said to be not above one."""
        return self._fault(Fraction(number), answer, compression)

    def quantile_fault(self, share: Fraction, answer: Fraction, compression: int) -> str:
        """Return what is wrong with the number that is said to be at a share of all; least and greatest are exact."""
        if share in (0, 1):
            extreme = self.numbers[-int(share)]
            return "" if answer == extreme else f"the extreme at {share} is {extreme}, not {float(answer)}"
        return self._fault(answer, share, compression)

    def _fault(self, number: Fraction, share: Fraction, compression: int) -> str:
        """Return what is wrong with a number and its share of all: the ranks at the number are too far from it."""
        count = len(self.numbers)
        below, up_to = bisect_left(self.numbers, number), bisect_right(self.numbers, number)
        slack = SHARES_OFF * centroid_share_ppb(share, compression)
        # A number between two others is said to be at any rank from the one's to the other's.
        low, high = max(below - 1, 0), min(up_to + 1, count)
        if low * BILLION - slack * count <= share * BILLION * count <= high * BILLION + slack * count:
            return ""
        return (
            f"{below} of {count} numbers are below {float(number)}, {up_to} not above, and the share is {float(share)}"
        )


def centroid_share_ppb(q: Fraction, compression: int) -> int:
    """Return the share of ranks of the centroid at rank q, rounded up: pi / c * (2 sqrt(q (1 - q)) + pi / c)."""
    ppb = int(q * BILLION)
    step = -(-PI_UP_PPB // compression)
    return step * (2 * (isqrt(ppb * (BILLION - ppb)) + 1) + step) // BILLION + 1
