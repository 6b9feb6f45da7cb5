"""How sealed blocks share files."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.node.checkpoint.relocations import (
    RELOCATION_FILE_BLOCKS_MAX,
    RELOCATION_FILE_BYTES_MAX,
    relocation_files,
)
from waymaker_core.stream import BlockRelocation
from waymaker_core.stream.blocks.columns import Columns


def move(block: int, lengths: list[int]) -> BlockRelocation:
    chunks = [Chunk("journal/1.seg", 0, length, 0) for length in lengths]
    count = len(lengths)
    return BlockRelocation(block, block + 1, count, list(range(count)), chunks, [None] * count, lengths, Columns())


def blocks(found: list[list[BlockRelocation]]) -> list[list[int]]:
    return [[one.block for one in together] for together in found]


def test_small_neighbours_share_a_file_and_large_blocks_do_not() -> None:
    moves = [move(0, [10]), move(1, [10]), move(2, [RELOCATION_FILE_BYTES_MAX]), move(3, [10]), move(4, [10, 20])]
    assert blocks(relocation_files(moves, 4 * RELOCATION_FILE_BYTES_MAX)) == [[0, 1], [2], [3, 4]]
    assert blocks(relocation_files(moves[:2], 15)) == [[0], [1]]
    assert relocation_files([], 100) == []


def test_a_file_holds_so_many_blocks_and_no_more() -> None:
    found = relocation_files(
        [move(number, [1]) for number in range(2 * RELOCATION_FILE_BLOCKS_MAX + 1)], RELOCATION_FILE_BYTES_MAX
    )
    assert list(map(len, found)) == [RELOCATION_FILE_BLOCKS_MAX, RELOCATION_FILE_BLOCKS_MAX, 1]


@given(st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=4), max_size=40), st.integers(1, 2000))
def test_every_block_lies_in_one_place_and_shared_files_keep_their_bounds(sizes: list[list[int]], part: int) -> None:
    found = relocation_files([move(number, lengths) for number, lengths in enumerate(sizes)], part)
    assert [block for together in blocks(found) for block in together] == list(range(len(sizes)))
    for together in found:
        assert len(together) == 1 or sum(sum(one.lengths) for one in together) <= part
    for before, behind in pairwise(found):
        assert sum(sum(one.lengths) for one in [*before, behind[0]]) > part, "they would have fitted"
