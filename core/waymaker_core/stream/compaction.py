"""Leaving the dead behind: blocks of which little lives are copied without what was deleted.

A sealed block keeps its entries, for its sequences do not change; what was deleted becomes a hole, without a body, in its new
index. Half must be gone, so a message is copied a few times at most however slowly its neighbours go, and what the
disk holds stays in proportion to what lives.
"""

from __future__ import annotations

from array import array

from waymaker_core.disk import Chunk
from waymaker_core.store.block_index import BlockIndex
from waymaker_core.stream.block import Block
from waymaker_core.stream.columns import HOLE, Columns
from waymaker_core.stream.state import StreamState

COMPACT_BELOW = 2
"""Files are written anew once less than one message in so many of theirs lives."""


def is_sparse(alive: int, stored: int) -> bool:
    """Whether so few of the stored messages live that the rest should go."""
    return alive * COMPACT_BELOW < stored


def sparse_blocks(state: StreamState) -> list[Block]:
    """Sealed blocks to write anew, in order: those that share a file all together, if all their indexes are resident."""
    sharing: dict[str, list[Block]] = {}
    for block in state.blocks.values():
        if block.index is not None:
            sharing.setdefault(block.index.path, []).append(block)
    found: list[Block] = []
    for blocks in sharing.values():
        if any(block.columns is None for block in blocks) or not any(block.dead for block in blocks):
            continue
        if is_sparse(sum(block.alive for block in blocks), sum(_stored(block) for block in blocks)):
            found += blocks
    return found


def _stored(block: Block) -> int:
    """Messages whose bodies lie in a block's files, the deleted ones included."""
    return block.size - block.resident().ids.count(HOLE)


def live_ranges(columns: Columns, place: int, dead: bytes) -> list[tuple[int, int]]:
    """The bytes of a chunk that hold bodies of live messages."""
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


def without_dead(block: Block, dead: bytes, places: list[int], copies: list[Chunk]) -> BlockIndex:
    """A block's index with holes for its dead. `copies`: the chunks of the live ones, by place in the chunk table."""
    columns = block.resident()
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
    return BlockIndex(block.first, lengths, sizes, times_ms, ids, columns.subjects, firsts, skips, copies)
