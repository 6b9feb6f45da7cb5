"""Sets of sequences as bitmaps, and the bit arithmetic they and the delivery batches share.

A chunk of 1,024 sequences is one integer, so a thousand neighbours cost about what one costs; chunks lie in a sorted
dictionary, so that the least member and an ascending walk need no search. Sparse members cost one chunk each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sortedcontainers import SortedDict

CHUNK_BITS = 10
CHUNK = 1 << CHUNK_BITS
_LOW = CHUNK - 1
_FULL = (1 << CHUNK) - 1


def ones(count: int) -> int:
    """Return a mask of `count` bits, all set."""
    return (1 << count) - 1


def positions(mask: int) -> list[int]:
    """Return the indexes of the set bits, ascending. A mask without gaps costs nothing a bit."""
    if not mask:
        return []
    low = (mask & -mask).bit_length() - 1
    high = mask.bit_length()
    if mask.bit_count() == high - low:
        return list(range(low, high))
    text = bin(mask)[:1:-1]
    return [index for index, digit in enumerate(text) if digit == "1"]


def mask_at(indexes: list[int]) -> int:
    """Return the mask of ascending bit indexes: `positions` the other way round."""
    if len(indexes) < 8:
        mask = 0
        for index in indexes:
            mask |= 1 << index
        return mask
    top = indexes[-1]
    digits = bytearray(b"0") * (top + 1)
    for index in indexes:
        digits[top - index] = 49
    return int(digits, 2)


def lowest(mask: int, count: int) -> int:
    """Return the `count` lowest set bits of a mask (all of them, if there are fewer)."""
    if mask.bit_count() <= count:
        return mask
    kept = positions(mask)[:count]
    return mask & ones(kept[-1] + 1) if kept else 0


def is_run(seqs: list[int]) -> bool:
    """Return True if ascending, distinct sequences follow one another without a gap."""
    return seqs[-1] - seqs[0] == len(seqs) - 1


class SeqSet:
    """A set of sequences with a cheap least member, ranges and masks."""

    __slots__ = ("_chunks", "_count")

    def __init__(self, seqs: Iterable[int] = ()) -> None:
        self._chunks: SortedDict[int, int] = SortedDict()
        self._count = 0
        for seq in seqs:
            self.add(seq)

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    def __contains__(self, seq: object) -> bool:
        assert isinstance(seq, int)
        bits = self._chunks.get(seq >> CHUNK_BITS)
        return bits is not None and bits >> (seq & _LOW) & 1 == 1

    def add(self, seq: int) -> None:
        """Add a member; one that is there stays."""
        self.add_mask(seq, 1)

    def discard(self, seq: int) -> None:
        """Remove a member, if it is there."""
        self.discard_mask(seq, 1)

    def add_mask(self, first: int, mask: int) -> None:
        """Add every sequence whose bit is set; bit 0 stands for `first`."""
        key, rest = first >> CHUNK_BITS, mask << (first & _LOW)
        while rest:
            part = rest & _FULL
            if part:
                old = self._chunks.get(key, 0)
                self._count += (part & ~old).bit_count()
                self._chunks[key] = old | part
            rest >>= CHUNK
            key += 1

    def discard_mask(self, first: int, mask: int) -> None:
        """Remove every sequence whose bit is set; bit 0 stands for `first`."""
        key, rest = first >> CHUNK_BITS, mask << (first & _LOW)
        while rest:
            part = rest & _FULL
            old = self._chunks.get(key, 0)
            gone = part & old
            if gone:
                self._count -= gone.bit_count()
                if gone == old:
                    del self._chunks[key]
                else:
                    self._chunks[key] = old ^ gone
            rest >>= CHUNK
            key += 1

    def add_all(self, seqs: list[int]) -> None:
        """Add ascending, distinct sequences; a run of them in one go."""
        if seqs and is_run(seqs):
            self.add_mask(seqs[0], ones(len(seqs)))
        else:
            for seq in seqs:
                self.add_mask(seq, 1)

    def discard_all(self, seqs: list[int]) -> None:
        """Remove ascending, distinct sequences; a run of them in one go."""
        if seqs and is_run(seqs):
            self.discard_mask(seqs[0], ones(len(seqs)))
        elif self._count:
            for seq in seqs:
                self.discard_mask(seq, 1)

    def among(self, seqs: list[int]) -> list[int]:
        """Return those of ascending, distinct sequences that are members."""
        if not seqs or not self._count:
            return []
        if is_run(seqs):
            first = seqs[0]
            return [first + index for index in positions(self.mask_of(first, len(seqs)))]
        return [seq for seq in seqs if seq in self]

    def mask_of(self, first: int, count: int) -> int:
        """Return the members among `count` sequences from `first` as a mask; bit 0 stands for `first`."""
        key, shift = first >> CHUNK_BITS, first & _LOW
        last_key = (first + count - 1) >> CHUNK_BITS
        chunks = self._chunks
        mask = chunks.get(key, 0) >> shift
        filled = CHUNK - shift
        while key < last_key:
            key += 1
            mask |= chunks.get(key, 0) << filled
            filled += CHUNK
        return mask & ones(count)

    def least(self) -> int:
        """Return the least member; the set must not be empty."""
        key, bits = self._chunks.peekitem(0)
        return (key << CHUNK_BITS) + (bits & -bits).bit_length() - 1

    def first(self, limit: int, without: SeqSet | None = None) -> list[int]:
        """Return up to `limit` members, ascending, those of `without` left out."""
        found: list[int] = []
        for key, bits in self._chunks.items():
            free = bits if without is None else bits & ~without._chunks.get(key, 0)
            if free:
                base = key << CHUNK_BITS
                found.extend([base + index for index in positions(free)])
                if len(found) >= limit:
                    del found[limit:]
                    break
        return found

    def drop_below(self, seq: int) -> None:
        """Remove the members below `seq`."""
        chunks = self._chunks
        key = seq >> CHUNK_BITS
        while chunks and chunks.peekitem(0)[0] < key:
            self._count -= chunks.popitem(0)[1].bit_count()
        if key in chunks:
            self.discard_mask(key << CHUNK_BITS, ones(seq & _LOW))

    def to_list(self) -> list[int]:
        """Return all members, ascending."""
        return self.first(self._count) if self._count else []

    def check(self) -> None:
        """Assert that no chunk is empty and the count is right."""
        assert all(0 < bits <= _FULL for bits in self._chunks.values())
        assert self._count == sum(bits.bit_count() for bits in self._chunks.values())


def ascending(seqs: Sequence[int]) -> list[int]:
    """Return distinct sequences in order; what clients usually send is so already."""
    wanted = list(seqs)
    if wanted and wanted == list(range(wanted[0], wanted[0] + len(wanted))):
        return wanted
    return sorted(dict.fromkeys(wanted))
