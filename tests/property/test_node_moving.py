"""How sealed blocks share files."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.disk import Chunk
from waymaker_core.node.moving import PACK_BLOCKS, PACK_BYTES, packs
from waymaker_core.stream import BlockMove
from waymaker_core.stream.columns import Columns


def move(block: int, lengths: list[int]) -> BlockMove:
    chunks = [Chunk("journal/1.seg", 0, length, 0) for length in lengths]
    count = len(lengths)
    return BlockMove(block, block + 1, count, list(range(count)), chunks, [None] * count, lengths, Columns())


def blocks(found: list[list[BlockMove]]) -> list[list[int]]:
    return [[one.block for one in together] for together in found]


def test_small_neighbours_share_a_file_and_large_blocks_do_not() -> None:
    moves = [move(0, [10]), move(1, [10]), move(2, [PACK_BYTES]), move(3, [10]), move(4, [10, 20])]
    assert blocks(packs(moves, 4 * PACK_BYTES)) == [[0, 1], [2], [3, 4]]
    assert blocks(packs(moves[:2], 15)) == [[0], [1]]
    assert packs([], 100) == []


def test_a_file_holds_so_many_blocks_and_no_more() -> None:
    found = packs([move(number, [1]) for number in range(2 * PACK_BLOCKS + 1)], PACK_BYTES)
    assert list(map(len, found)) == [PACK_BLOCKS, PACK_BLOCKS, 1]


@given(st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=4), max_size=40), st.integers(1, 2000))
def test_every_block_lies_in_one_place_and_shared_files_keep_their_bounds(sizes: list[list[int]], part: int) -> None:
    found = packs([move(number, lengths) for number, lengths in enumerate(sizes)], part)
    assert [block for together in blocks(found) for block in together] == list(range(len(sizes)))
    for together in found:
        assert len(together) == 1 or sum(sum(one.lengths) for one in together) <= part
    for before, behind in pairwise(found):
        assert sum(sum(one.lengths) for one in [*before, behind[0]]) > part, "they would have fitted"
