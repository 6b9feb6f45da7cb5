"""A Bloom filter: was this value added? Never a false no; a false yes at a bounded rate.

Source: B. Bloom, Space/time trade-offs in hash coding with allowable errors, CACM 13(7), 1970. `hashes` is the least k for
which 2 ** -k is at most the error rate, `bits` at least k * capacity / ln 2; both by integer arithmetic. Half of the bits are
set when `capacity` distinct values were added, and a value that was not added is then found with probability 2 ** -k.
Adding is a union: order, repetition and batches are without influence.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import log
from typing import Final, Self

from waymaker_core.sketches.errors import BadParameters, CorruptSnapshot, DifferentParameters, check_range
from waymaker_core.sketches.hashing import words_of
from waymaker_core.sketches.snapshot_format import STATE_BYTES_MAX, Kind, body, check_length, fields, head

VERSION: Final = 1
CAPACITY_MAX: Final = 1 << 32
ERROR_PPB_MAX: Final = 500_000_000
"""Error rates are whole numbers of parts in a billion, from 1 to this."""

_BILLION: Final = 1_000_000_000
_BITS_PER_HASH_PPB: Final = 1_442_695_041
"""1 / ln 2, rounded up."""
_LAYOUT: Final = struct.Struct("<QI")


class BloomFilter:
    """A set of bits. Memory: `bits` / 8 bytes, from 16 bytes to 8 MiB, whatever is added."""

    __slots__ = ("capacity", "error_ppb", "hashes", "bits", "_field")

    def __init__(self, capacity: int, error_ppb: int) -> None:
        """Make an empty filter for `capacity` distinct values, with an error rate in parts in a billion. BadParameters."""
        self.capacity = capacity
        self.error_ppb = error_ppb
        self.hashes, self.bits = dimensions(capacity, error_ppb)
        self._field = bytearray(self.bits // 8)

    def add(self, values: Sequence[bytes]) -> None:
        """Add values. Costs `hashes` steps for each."""
        bits, field = self.bits, self._field
        for words in words_of(values, self.hashes):
            for word in words:
                at = word % bits
                field[at >> 3] |= 1 << (at & 7)

    def contains(self, values: Sequence[bytes]) -> list[bool]:
        """Return for each value whether it may have been added; False is certain."""
        bits, hashes, field = self.bits, self.hashes, self._field
        found: list[bool] = []
        for words in words_of(values, hashes):
            for first in range(0, len(words), hashes):
                for word in words[first : first + hashes]:
                    at = word % bits
                    if not field[at >> 3] >> (at & 7) & 1:
                        found.append(False)
                        break
                else:
                    found.append(True)
        return found

    def bits_set(self) -> int:
        """Return how many bits are set. Above half of them, the error rate is above the promised one."""
        return int.from_bytes(self._field, "little").bit_count()

    def estimate_distinct(self) -> float:
        """Return about how many distinct values were added: -bits / hashes * ln(share of clear bits), Swamidass and Baldi 2007.

        Of a filter with every bit set, which can tell no more, it is the answer for one clear bit.
        """
        clear = max(1, self.bits - self.bits_set())
        return self.bits / self.hashes * log(self.bits / clear)

    def merge(self, other: BloomFilter) -> None:
        """Add all that another filter holds; the result is the filter of both. DifferentParameters."""
        if (other.capacity, other.error_ppb) != (self.capacity, self.error_ppb):
            raise DifferentParameters(
                f"a Bloom filter for {self.capacity:,} values at {self.error_ppb:,} parts in a billion cannot take in one "
                f"for {other.capacity:,} at {other.error_ppb:,}: make both with the same parameters"
            )
        union = int.from_bytes(self._field, "little") | int.from_bytes(other._field, "little")
        self._field[:] = union.to_bytes(len(self._field), "little")

    def snapshot(self) -> bytes:
        """Return the filter as bytes: capacity (u64), error rate (u32), bits from the lowest."""
        return head(Kind.BLOOM, VERSION) + _LAYOUT.pack(self.capacity, self.error_ppb) + self._field

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """Return the filter of a snapshot. CorruptSnapshot."""
        content = body(data, Kind.BLOOM, VERSION)
        capacity, error_ppb = fields(_LAYOUT, content)
        try:
            _, bits = dimensions(capacity, error_ppb)
        except BadParameters as refused:
            raise CorruptSnapshot(f"the snapshot's parameters are out of range: {refused}") from refused
        check_length(content, _LAYOUT.size + bits // 8)
        restored = cls(capacity, error_ppb)
        restored._field[:] = content[_LAYOUT.size :]
        return restored


def dimensions(capacity: int, error_ppb: int) -> tuple[int, int]:
    """Return the numbers of hashes and bits of a filter. BadParameters."""
    check_range("the capacity", capacity, 1, CAPACITY_MAX)
    check_range("the error rate in parts in a billion", error_ppb, 1, ERROR_PPB_MAX)
    hashes = 1
    while error_ppb << hashes < _BILLION:
        hashes += 1
    least = -(-hashes * capacity * _BITS_PER_HASH_PPB // _BILLION)
    # One word more than rounding up: in small filters the share of set bits is a little above its limit.
    bits = (least + 63) // 64 * 64 + 64
    if bits > 8 * STATE_BYTES_MAX:
        raise BadParameters(
            f"a Bloom filter for {capacity:,} values at {error_ppb:,} parts in a billion takes {bits // 8:,} bytes; at most "
            f"{STATE_BYTES_MAX:,} are allowed: lower the capacity or allow a greater error rate"
        )
    return hashes, bits
