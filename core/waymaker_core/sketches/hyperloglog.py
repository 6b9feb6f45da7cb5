"""HyperLogLog: how many distinct values were added?

Sources: Flajolet et al., HyperLogLog, 2007, for the registers; O. Ertl, New cardinality estimation algorithms for
HyperLogLog sketches, arXiv 1702.01284, for the answer. A value's hash of 64 bits names a register by its first p bits; the
register keeps the greatest position of the first set bit in the rest. Ertl's improved estimator is unbiased from 0 to 2 ** 64
without tables or a switch to linear counting, and needs multiplication, addition and square roots only.

The standard error is 1.04 / sqrt(2 ** p). Adding is a maximum: order and repetition are without influence.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import sqrt
from typing import Final, Self

from waymaker_core.sketches.errors import CorruptSnapshot, DifferentParameters, check_range
from waymaker_core.sketches.hashing import longs_of
from waymaker_core.sketches.snapshot_format import Kind, body, check_length, fields, head

VERSION: Final = 1
PRECISION_MIN: Final = 4
PRECISION_MAX: Final = 18
HASH_BITS: Final = 64

_ALPHA: Final = 0.7213475204444817
"""1 / (2 ln 2), the limit of the paper's alpha."""
_ESTIMATE_MAX: Final = 18446744073709551616.0
"""2 ** 64: there are no more hashes."""
_LAYOUT: Final = struct.Struct("<B")


class HyperLogLog:
    """A table of registers, a byte each. Memory: 2 ** `precision` bytes, from 16 bytes to 256 KiB, whatever is added."""

    __slots__ = ("precision", "_registers")

    def __init__(self, precision: int) -> None:
        """Make an empty sketch. BadParameters unless the precision lies between 4 and 18."""
        check_range("the precision", precision, PRECISION_MIN, PRECISION_MAX)
        self.precision = precision
        self._registers = bytearray(1 << precision)

    def add(self, values: Sequence[bytes]) -> None:
        """Add values. Costs a hash and one register each."""
        registers = self._registers
        shift = HASH_BITS - self.precision
        mask, highest = (1 << shift) - 1, shift + 1
        for hashes in longs_of(values):
            for each in hashes:
                rank = highest - (each & mask).bit_length()
                at = each >> shift
                if rank > registers[at]:
                    registers[at] = rank

    def estimate(self) -> float:
        """Return about how many distinct values were added; 0 where there were none."""
        size = len(self._registers)
        highest = HASH_BITS - self.precision + 1
        counts = [self._registers.count(rank) for rank in range(highest + 1)]
        if counts[0] == size:
            return 0.0
        z = size * _tau(1.0 - counts[highest] / size)
        for rank in range(highest - 1, 0, -1):
            z = 0.5 * (z + counts[rank])
        z += size * _sigma(counts[0] / size)
        return min(_ALPHA * size * size / z, _ESTIMATE_MAX) if z > 0.0 else _ESTIMATE_MAX

    def merge(self, other: HyperLogLog) -> None:
        """Add all that another sketch holds; the result is the sketch of both. DifferentParameters."""
        if other.precision != self.precision:
            raise DifferentParameters(
                f"a HyperLogLog of precision {self.precision} cannot take in one of precision {other.precision}: "
                "make both with the same one"
            )
        self._registers[:] = bytes(map(max, self._registers, other._registers))

    def snapshot(self) -> bytes:
        """Return the sketch as bytes: precision (u8), then each register (u8)."""
        return head(Kind.HYPERLOGLOG, VERSION) + _LAYOUT.pack(self.precision) + self._registers

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """Return the sketch of a snapshot. CorruptSnapshot."""
        content = body(data, Kind.HYPERLOGLOG, VERSION)
        (precision,) = fields(_LAYOUT, content)
        if not PRECISION_MIN <= precision <= PRECISION_MAX:
            raise CorruptSnapshot(
                f"the snapshot's precision is {precision}; it lies between {PRECISION_MIN} and {PRECISION_MAX}"
            )
        check_length(content, _LAYOUT.size + (1 << precision))
        restored = cls(precision)
        restored._registers[:] = content[_LAYOUT.size :]
        highest = HASH_BITS - precision + 1
        if max(restored._registers) > highest:
            raise CorruptSnapshot(
                f"a register of the snapshot holds more than {highest}, the greatest position in a hash"
            )
        return restored


def _sigma(x: float) -> float:
    """Return the paper's sigma for the share of registers that no value reached: x + sum of 2 ** (k - 1) * x ** (2 ** k)."""
    y, z = 1.0, x
    while True:
        x *= x
        before, z = z, z + x * y
        y += y
        if z == before:
            return z


def _tau(x: float) -> float:
    """Return the paper's tau for the share of registers below the greatest value."""
    if x == 0.0 or x == 1.0:
        return 0.0
    y, z = 1.0, 1.0 - x
    while True:
        x = sqrt(x)
        y *= 0.5
        before, z = z, z - (1.0 - x) * (1.0 - x) * y
        if z == before:
            return z / 3.0
