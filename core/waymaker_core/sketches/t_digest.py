"""A t-digest: which value has a given rank, and which rank has a given value? Close in the middle, closer at both ends.

Source: T. Dunning, O. Ertl, arXiv 1902.04023, the merging variant. Values are added to a buffer; when it is full, buffer and
centroids are sorted and neighbours are joined as far as the scale function allows (`scale_function`). Least and greatest value
are kept exactly. A rank is off by less than a centroid's share where centroids do not overlap; at rank q the share is at most
pi / compression * (2 sqrt(q (1 - q)) + pi / compression). Values in an order made against it can do worse.

The buffer is part of the state, and questions and snapshots leave it as it is: two digests that took the same values in the
same order are the same bytes, however often one was asked and in whatever batches the values came. Basic operations on
floats only, never `sum`, whose rounding differs between versions of Python.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import reduce
from itertools import repeat, starmap
from math import isfinite
from operator import add
from typing import Final, NamedTuple, Self

from waymaker_core.sketches.errors import BadValue, CorruptSnapshot, DifferentParameters, check_range
from waymaker_core.sketches.scale_function import ArcsineScale
from waymaker_core.sketches.snapshot_format import (
    Kind,
    body,
    check_length,
    column_bytes,
    fields,
    floats,
    head,
    integers,
)

VERSION: Final = 1
COMPRESSION_MIN: Final = 20
COMPRESSION_MAX: Final = 1_000
BUFFER_PER_COMPRESSION: Final = 8
"""A longer buffer costs memory and saves time and some error."""
COUNT_MAX: Final = (1 << 63) - 1

_LAYOUT: Final = struct.Struct("<HHH")


class Centroid(NamedTuple):
    """Values that are joined: their mean and how many they are."""

    mean: float
    weight: int


class TDigest:
    """Centroids in order of their means, and a buffer of values in order of their coming.

    Memory: at most 2 * `compression` centroids and 8 * `compression` values of 16 and 8 bytes. `count` is the number of
    values that were added, `least` and `greatest` are the extremes (0 while there are none).
    """

    __slots__ = ("compression", "count", "least", "greatest", "_scale", "_centroids", "_buffer")

    def __init__(self, compression: int) -> None:
        """Make an empty digest. BadParameters unless the compression lies between 20 and 1,000; 100 is usual."""
        check_range("the compression", compression, COMPRESSION_MIN, COMPRESSION_MAX)
        self.compression = compression
        self.count = 0
        self.least = 0.0
        self.greatest = 0.0
        self._scale = ArcsineScale(compression)
        self._centroids: list[tuple[float, int]] = []
        self._buffer = array("d")

    def add(self, values: Sequence[float]) -> None:
        """Add finite values. BadValue, and nothing is added, where one is not finite."""
        if not all(map(isfinite, values)):
            wrong = next(value for value in values if not isfinite(value))
            raise BadValue(f"{wrong} is not a finite number: a t-digest ranks finite numbers only")
        if self.count + len(values) > COUNT_MAX:
            raise BadValue(f"at most {COUNT_MAX:,} values are counted")
        if not values:
            return
        self._widen(min(values) + 0.0, max(values) + 0.0)
        self.count += len(values)
        capacity = self.compression * BUFFER_PER_COMPRESSION
        at = 0
        while at < len(values):
            free = capacity - len(self._buffer)
            # Adding 0 makes -0 one with 0, which it is equal to.
            self._buffer.extend([value + 0.0 for value in values[at : at + free]])
            at += free
            if len(self._buffer) == capacity:
                self._centroids = self._compressed(self._buffer, self._centroids)
                del self._buffer[:]

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return for each share q the least value such that about q of all values are not above it. BadValue.

        Exact at 0, at 1, and for values that stand alone in their centroid; between centroids by linear interpolation.
        """
        for share in shares:
            if not 0.0 <= share <= 1.0:
                raise BadValue(f"{share} is not a share of values: it must lie between 0 and 1")
        if not self.count:
            raise BadValue("an empty t-digest has no quantiles")
        knots = self._knots()
        return [knots.value_at(share * self.count) for share in shares]

    def ranks(self, values: Sequence[float]) -> list[float]:
        """Return for each value the share of all values that are not above it (the empirical distribution). BadValue."""
        for value in values:
            if value != value:
                raise BadValue("nan has no rank")
        if not self.count:
            raise BadValue("an empty t-digest has no ranks")
        knots = self._knots()
        return [min(1.0, knots.rank_of(value) / self.count) for value in values]

    def centroids(self) -> list[Centroid]:
        """Return the centroids as they would be if the buffer were joined to them now."""
        return list(starmap(Centroid, self._compressed(self._buffer, self._centroids)))

    def merge(self, other: TDigest) -> None:
        """Add all that another digest holds. Commutative to the bit; DifferentParameters, BadValue.

        Merging in another order gives another digest with the same bound of its error.
        """
        if other.compression != self.compression:
            raise DifferentParameters(
                f"a t-digest of compression {self.compression} cannot take in one of {other.compression}: "
                "make both with the same one"
            )
        if self.count + other.count > COUNT_MAX:
            raise BadValue(f"at most {COUNT_MAX:,} values are counted")
        if other.count:
            buffer, centroids = self._buffer + other._buffer, self._centroids + other._centroids
            self._widen(other.least, other.greatest)
            self.count += other.count
            self._centroids = self._compressed(buffer, centroids)
            self._buffer = array("d")

    def _widen(self, least: float, greatest: float) -> None:
        self.least = min(self.least, least) if self.count else least
        self.greatest = max(self.greatest, greatest) if self.count else greatest

    def _compressed(self, buffer: array[float], centroids: list[tuple[float, int]]) -> list[tuple[float, int]]:
        """Join neighbours as far as the scale function allows. Costs sorting; at most `compression` + 1 remain."""
        if not buffer and centroids is self._centroids:
            return centroids
        entries = sorted([*centroids, *zip(buffer, repeat(1))])
        total = 0
        for _, weight in entries:
            total += weight
        joined: list[tuple[float, int]] = []
        before = 0
        end = total * self._scale.limit(0.0)
        mean, size = entries[0]
        for value, weight in entries[1:]:
            both = size + weight
            if before + both <= end:
                # Weighted by shares, so that nothing overflows; rounding may not leave the interval of the two.
                mean = min(max(mean * (size / both) + value * (weight / both), mean), value)
                size = both
                continue
            joined.append((mean, size))
            before += size
            end = total * self._scale.limit(before / total)
            mean, size = value, weight
        joined.append((mean, size))
        return joined

    def _knots(self) -> _Knots:
        return _Knots(self.centroids(), self.count, self.least, self.greatest)

    def snapshot(self) -> bytes:
        """Return the digest as bytes: compression, number of centroids and of values in the buffer (u16 each), then the
        extremes and the means (f64), the weights (u64), and the buffer (f64).
        """
        fixed = _LAYOUT.pack(self.compression, len(self._centroids), len(self._buffer))
        means = array("d", [self.least, self.greatest, *(mean for mean, _ in self._centroids)])
        weights = array("Q", [weight for _, weight in self._centroids])
        columns = column_bytes(means) + column_bytes(weights) + column_bytes(self._buffer)
        return head(Kind.T_DIGEST, VERSION) + fixed + columns

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """Return the digest of a snapshot. CorruptSnapshot."""
        content = body(data, Kind.T_DIGEST, VERSION)
        compression, size, waiting = fields(_LAYOUT, content)
        if not COMPRESSION_MIN <= compression <= COMPRESSION_MAX:
            raise CorruptSnapshot(
                f"the snapshot's compression is {compression}; it lies between {COMPRESSION_MIN} and {COMPRESSION_MAX}"
            )
        if size > 2 * compression or waiting >= BUFFER_PER_COMPRESSION * compression:
            raise CorruptSnapshot(
                f"{size:,} centroids and {waiting:,} values waiting are too many for compression {compression}"
            )
        check_length(content, _LAYOUT.size + 8 * (2 + 2 * size + waiting))
        at = _LAYOUT.size + 16
        restored = cls(compression)
        means, weights = floats(content[at : at + 8 * size]), integers(content[at + 8 * size : at + 16 * size])
        restored._centroids = list(zip(means, weights, strict=True))
        restored._buffer = floats(content[at + 16 * size :])
        restored.least, restored.greatest = floats(content[_LAYOUT.size : at])
        restored.count = reduce(add, weights, waiting)
        restored._check()
        return restored

    def _check(self) -> None:
        """Raise CorruptSnapshot unless all values lie in order between the extremes."""
        values = [self.least, *(mean for mean, _ in self._centroids), self.greatest]
        if not all(map(isfinite, values)) or not all(map(isfinite, self._buffer)):
            raise CorruptSnapshot("the snapshot holds a number that is not finite")
        if values != sorted(values) or any(not self.least <= value <= self.greatest for value in self._buffer):
            raise CorruptSnapshot("the values of the snapshot are not in order between its extremes")
        if self.count > COUNT_MAX or any(weight < 1 for _, weight in self._centroids):
            raise CorruptSnapshot("the snapshot has a centroid without values, or more values than are counted")
        if not self.count and (self.least != 0.0 or self.greatest != 0.0):
            raise CorruptSnapshot("the snapshot has extremes and no values")


class _Knots:
    """The distribution as a line from knot to knot: values, and how many of all values are not above each; both ascend.

    A value that stands alone is a step of one. Half of a larger centroid lies on either side of its mean. The
    extremes are steps of one, too, for each of them is one of the values.
    """

    def __init__(self, centroids: list[Centroid], count: int, least: float, greatest: float) -> None:
        self._values: list[float] = [least]
        self._ranks: list[float] = [0.0]
        before = 0
        for mean, weight in centroids:
            if before == 0 and weight > 1:
                self._put(least, 1.0)
            if weight == 1:
                self._put(mean, float(before))
                self._put(mean, float(before + 1))
            else:
                self._put(mean, before + 0.5 * weight)
            before += weight
            if before == count and weight > 1:
                self._put(greatest, float(count - 1))
        self._put(greatest, float(count))

    def _put(self, value: float, rank: float) -> None:
        self._values.append(value)
        self._ranks.append(rank)

    def value_at(self, rank: float) -> float:
        """Return the value where the line first comes to a rank."""
        at = bisect_left(self._ranks, rank)
        if at == 0:
            return self._values[0]
        if at == len(self._ranks):
            return self._values[-1]
        low, high = self._ranks[at - 1], self._ranks[at]
        return _between(self._values[at - 1], self._values[at], (rank - low) / (high - low))

    def rank_of(self, value: float) -> float:
        """Return the rank where the line last is at a value."""
        at = bisect_right(self._values, value)
        if at == 0:
            return 0.0
        if at == len(self._values):
            return self._ranks[-1]
        low, high = self._values[at - 1], self._values[at]
        # As in `_between`.
        unit = 1.0 if isfinite(high - low) else 0.5
        share = (value * unit - low * unit) / (high * unit - low * unit)
        return _between(self._ranks[at - 1], self._ranks[at], share)


def _between(low: float, high: float, share: float) -> float:
    """Return the number at a share of the way; never less for a greater share: each operation keeps order."""
    span = high - low
    # The difference of two floats may be too great for a float; that of their halves never is.
    between = low + span * share if isfinite(span) else 2.0 * (0.5 * low + (0.5 * high - 0.5 * low) * share)
    return min(max(between, low), high)
