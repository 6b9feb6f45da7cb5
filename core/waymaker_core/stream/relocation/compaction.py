"""Compaction: sealed blocks with few live messages are copied without what was deleted.

A sealed block keeps its entries, because its sequences do not change; what was deleted becomes a hole, without a body,
in its new index. A file is rewritten once half of it is dead. So a message is copied a few times at most, and what the
disk holds stays in proportion to what is live.
"""

from __future__ import annotations

from array import array

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.storage.blocks.block_file import FILE_HEADER_BYTES
from waymaker_core.storage.blocks.block_index import BlockIndex
from waymaker_core.stream.blocks.block import Block
from waymaker_core.stream.blocks.columns import HOLE, Columns
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.stream import Stream

COMPACT_BELOW = 2
"""Files are written anew once less than one byte in so many of theirs is live."""
ENTRIES_AT_ONCE = 200_000
"""Entries of the blocks that are planned together, unless the blocks of one file have more: their indexes are in memory."""


def sparse_blocks(stream: Stream) -> list[Block]:
    """Return sealed blocks to write anew, in order; those that share a file all together. `NeedBlocks`.

    More of them than are given at once are left for the next time.
    """
    sharing: dict[str, list[Block]] = {}
    for block in stream.blocks.values():
        if block.index is not None:
            sharing.setdefault(block.index.path, []).append(block)
    found: list[Block] = []
    entries = 0
    for blocks in sharing.values():
        if _is_sparse(blocks):
            entries += sum(block.size for block in blocks)
            if found and entries > ENTRIES_AT_ONCE:
                break
            found += blocks
    absent = [block.number for block in found if block.columns is None]
    if absent:
        raise NeedBlocks(absent)
    return found


def _is_sparse(blocks: list[Block]) -> bool:
    """Return True if little is live in the file that holds the indexes of these blocks, and no others' any more."""
    for block in blocks:
        if not block.stored and block.columns is not None:
            block.stored = block.size - block.columns.ids.count(HOLE)
            block.stored_bytes = sum(block.columns.lengths)
    if any(not block.stored for block in blocks):
        # Not known since the start. Where it looks like it, the indexes are loaded, and then it is.
        return sum(block.alive for block in blocks) * COMPACT_BELOW < sum(block.size for block in blocks)
    live = sum(block.stored_bytes * block.alive // block.stored for block in blocks)
    total = sum(block.stored_bytes for block in blocks)
    if all(len(block.files) == 1 for block in blocks):
        # Bodies come first in a shared file, then the indexes: so much there was, with the deleted blocks.
        first_index = min(block.index.offset for block in blocks if block.index is not None)
        total = max(total, first_index - FILE_HEADER_BYTES)
    return live * COMPACT_BELOW < total


def live_ranges(columns: Columns, place: int, dead: bytes) -> list[tuple[int, int]]:
    """Return the bytes of a chunk that hold bodies of live messages."""
    ranges: list[tuple[int, int]] = []
    at = columns.chunk_skips[place]
    for entry in range(columns.chunk_firsts[place], columns.chunk_end(place)):
        end = at + columns.lengths[entry]
        if not dead[entry] and end > at:
            if ranges and ranges[-1][1] == at:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((at, end))
        at = end
    return ranges


def without_dead(first_seq: int, columns: Columns, dead: bytes, places: list[int], copies: list[Chunk]) -> BlockIndex:
    """Return a block's index with holes for its dead. `copies`: the chunks of the live ones, by place in the chunk table."""
    gone = [entry for entry, flag in enumerate(dead) if flag]
    lengths, sizes, times_ms, ids = columns.lengths[:], columns.sizes[:], columns.times_ms[:], columns.ids[:]
    for entry in gone:
        lengths[entry] = sizes[entry] = times_ms[entry] = 0
        ids[entry] = HOLE
    firsts = array("I", [columns.chunk_firsts[place] for place in places])
    if firsts:
        # Chunks that hold nothing any more are left out; the holes before the first one belong to it.
        firsts[0] = 0
    skips = array("Q", bytes(8 * len(places)))
    return BlockIndex(first_seq, lengths, sizes, times_ms, ids, columns.subjects, firsts, skips, copies)
