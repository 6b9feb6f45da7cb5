"""The chunks of an object: their sequences and sizes, in the order of the payload.

Neighbours with consecutive sequences and equal sizes form a run, so that a map costs what uploads have interleaved, not what
they have uploaded. The encoding is stored, in metadata and in facts: for each run, three variable-length integers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.message_codec import read_varint, varint
from waymaker_core.storage.errors import CorruptRecord


class ChunkMap:
    """Chunks as runs: the first sequence of each run, how many chunks it has, and the bytes of each of them.

    `count` and `total_bytes` are of all runs; `encoded_bytes` is the length of the encoding.
    """

    __slots__ = ("firsts", "counts", "sizes", "count", "total_bytes", "encoded_bytes")

    def __init__(self) -> None:
        self.firsts = array("Q")
        self.counts = array("Q")
        self.sizes = array("Q")
        self.count = 0
        self.total_bytes = 0
        self.encoded_bytes = 0

    def add_chunk(self, seq: int, size: int) -> None:
        """Add a chunk behind the others."""
        if self.firsts and self.sizes[-1] == size and self.firsts[-1] + self.counts[-1] == seq:
            before = len(varint(self.counts[-1]))
            self.counts[-1] += 1
            self.encoded_bytes += len(varint(self.counts[-1])) - before
        else:
            self.encoded_bytes += len(varint(_zigzag(seq - self._end()))) + 1 + len(varint(size))
            self.firsts.append(seq)
            self.counts.append(1)
            self.sizes.append(size)
        self.count += 1
        self.total_bytes += size

    def _end(self) -> int:
        return self.firsts[-1] + self.counts[-1] if self.firsts else 0

    def encode(self) -> bytes:
        """Return the stored form."""
        parts: list[bytes] = []
        end = 0
        for first, count, size in zip(self.firsts, self.counts, self.sizes, strict=True):
            parts += (varint(_zigzag(first - end)), varint(count), varint(size))
            end = first + count
        return b"".join(parts)

    def sequences(self) -> Iterator[int]:
        """Yield the sequence of each chunk, in the order of the payload; one that occurs twice, twice."""
        for first, count in zip(self.firsts, self.counts, strict=True):
            yield from range(first, first + count)

    def covering(self, offset: int, length: int, count_max: int, bytes_max: int) -> tuple[list[tuple[int, int]], int]:
        """Return ranges of sequences that hold payload from an offset on, and the offset of their first byte.

        They hold all of the `length` bytes, or as much as `count_max` chunks and `bytes_max` bytes allow, at least one chunk.
        Nothing at or behind the end.
        """
        ranges: list[tuple[int, int]] = []
        at = begin = 0
        left, chunks_left, end = bytes_max, count_max, min(offset + length, self.total_bytes)
        for first, count, size in zip(self.firsts, self.counts, self.sizes, strict=True):
            run_end = at + count * size
            if run_end > offset and at < end:
                skip = max(0, offset - at) // size
                if not ranges:
                    begin = at + skip * size
                wanted = -(-(min(end, run_end) - at) // size) - skip
                taken = min(wanted, chunks_left, max(left // size, 0 if ranges else 1))
                if taken:
                    ranges.append((first + skip, first + skip + taken - 1))
                left -= taken * size
                chunks_left -= taken
                if taken < wanted or not chunks_left:
                    break
            at = run_end
        return ranges, begin


def decode_chunk_map(data: bytes) -> ChunkMap:
    """Return the map that `ChunkMap.encode` wrote. `CorruptRecord` for anything else. Costs what the bytes cost."""
    chunks = ChunkMap()
    at = end = 0
    try:
        while at < len(data):
            delta, at = read_varint(data, at)
            count, at = read_varint(data, at)
            size, at = read_varint(data, at)
            first = end + ((delta >> 1) ^ -(delta & 1))
            end = first + count
            if not (first > 0 and count > 0 and size > 0 and end <= SEQ_MAX):
                raise CorruptRecord("a run of chunks that cannot be")
            if chunks.firsts and not delta and chunks.sizes[-1] == size:
                raise CorruptRecord("two runs where one is enough")
            chunks.firsts.append(first)
            chunks.counts.append(count)
            chunks.sizes.append(size)
            chunks.count += count
            chunks.total_bytes += count * size
    except (ValueError, OverflowError) as problem:
        raise CorruptRecord(f"not a map of chunks: {problem}") from problem
    chunks.encoded_bytes = len(data)
    if chunks.total_bytes > SEQ_MAX or chunks.encode() != data:
        raise CorruptRecord("not the shortest map of chunks")
    return chunks


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1
