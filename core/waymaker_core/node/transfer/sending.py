"""Sending a stream: its snapshot at one position and all that it names, as pieces, while the node goes on.

The state is frozen at the beginning, as a copy. What it names stays until the end: block files are held (`file_gc`), journal
segments pinned. So a transfer costs the disk at most what the stream took at its beginning. One block's index and a few of its
chunks are in memory at a time. It must never change the stream.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator
from typing import Final

from waymaker_core.model.disk_ops import Chunk, DiskOp, OpResult, ReadChunk
from waymaker_core.model.limits import SEQ_MAX, Limits
from waymaker_core.model.types import Now
from waymaker_core.node.checkpoint.snapshots import StreamSnapshot, decode_stream, encode_parts, encode_stream
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.paths import JOURNAL, segment_number
from waymaker_core.storage.transfer_format import Begin, Bodies, Index, State, TransferWriter
from waymaker_core.stream.answers import BlockRelocation
from waymaker_core.stream.relocation import relocation as relocating
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot
from waymaker_core.stream.stream import Stream

PIECE_BYTES: Final = 1 << 20
"""Bytes of chunks in one piece, about."""
CHUNKS_A_PIECE: Final = 1_024
NOWHERE: Final = "tails/0.tail"
"""The place of what the receiver will place."""

SendingSteps = Generator[list[DiskOp] | bytes, list[OpResult], None]
"""Yields reads, and is sent their results, or yields a piece."""


class FrozenStream:
    """A stream as it was when its transfer began."""

    def __init__(self, replica: StreamReplica, now: Now, limits: Limits) -> None:
        self._snapshot: StreamSnapshot = decode_stream(encode_stream(replica, now))
        self.stream: Stream = decode_snapshot(self._snapshot.stream, limits)
        self.files = list(relocating.files(self.stream))
        self.sent = False
        """True once the last piece is made."""
        self._blocks: list[int] = []
        """Blocks with bodies in the journal."""
        self._segments: list[int] = []
        """The oldest segment that each of them, and those behind it, need."""
        for number in reversed(self.stream.blocks):
            columns = self.stream.blocks[number].columns
            needed = [] if columns is None else [_segment(path) for path in columns.paths if path.startswith(JOURNAL)]
            if needed:
                self._blocks.append(number)
                self._segments.append(min([*needed, *self._segments[-1:]]))
        self._blocks.reverse()
        self._segments.reverse()

    def oldest_segment(self, block: int) -> int:
        """Return the oldest segment that blocks from a number on need; one that never is where they need none."""
        place = bisect_left(self._blocks, block)
        return self._segments[place] if place < len(self._segments) else SEQ_MAX

    def state(self) -> bytes:
        """Encode the snapshot, whose blocks name what `NOWHERE` holds."""
        return encode_parts(self._snapshot._replace(stream=encode_snapshot(self.stream)))


def send(frozen: FrozenStream, reached: Callable[[int], None]) -> SendingSteps:
    """Send a stream; `reached` is told each block that it comes to."""
    writer, stream = TransferWriter(), frozen.stream
    yield writer.first(Begin(stream.id, stream.position))
    for number in list(stream.blocks):
        reached(number)
        block = stream.blocks[number]
        if block.index is not None and block.columns is None:
            place = block.index
            results = yield [ReadChunk(place)]
            relocating.load_index(stream, number, place, _bytes(results[0]))
        relocation = relocating.whole_block(stream, block)
        copies: list[Chunk] = []
        for first, after in _pieces_of(relocation):
            results = yield [ReadChunk(chunk) for chunk in relocation.sources[first:after]]
            bodies = _bodies(relocation, first, [_bytes(result) for result in results])
            at = copies[-1].offset + copies[-1].length if copies else 0
            for length, crc in zip(bodies.lengths, bodies.crcs, strict=True):
                copies.append(Chunk(NOWHERE, at, length, crc))
                at += length
            yield writer.bodies(bodies)
        index: Chunk | None = None
        if relocation.sealed:
            data = relocating.encode_sealed(stream, relocation, copies)
            index = Chunk(NOWHERE, 0, len(data), crc32c(data))
            yield from writer.index(Index(number, data))
        applied = relocating.apply_relocation(stream, relocation, copies, index)
        assert applied, "nothing else changes a frozen stream"
        relocating.evict_index(stream, number)
    *parts, last = writer.state(State(frozen.state()))
    yield from parts
    frozen.sent = True
    yield last


def _pieces_of(relocation: BlockRelocation) -> Iterator[tuple[int, int]]:
    """Yield the chunks of each piece, as places in the relocation."""
    first = byte_count = 0
    for place, length in enumerate(relocation.lengths):
        if place > first and (byte_count + length > PIECE_BYTES or place - first == CHUNKS_A_PIECE):
            yield first, place
            first, byte_count = place, 0
        byte_count += length
    yield first, len(relocation.lengths)


def _bodies(relocation: BlockRelocation, first: int, chunks: list[bytes]) -> Bodies:
    """Return what is kept of some chunks that were read and verified."""
    lengths, crcs, parts = array("I"), array("I"), list[bytes]()
    for place, data in enumerate(chunks, first):
        keep = relocation.keep[place]
        crc = relocation.sources[place].crc
        if keep is not None:
            data = b"".join([data[start:end] for start, end in keep])
            crc = crc32c(data)
        lengths.append(len(data))
        crcs.append(crc)
        parts.append(data)
    return Bodies(relocation.block, relocation.sealed, lengths, crcs, b"".join(parts))


def _segment(path: str) -> int:
    return segment_number(path.rpartition("/")[2]) or 0


def _bytes(result: OpResult) -> bytes:
    assert isinstance(result, bytes)
    return result
