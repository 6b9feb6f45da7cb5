"""Block files and their index: what was moved out of the journal is found again, byte for byte."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.store_disk import MemoryDisk
from tests.kit.store_strategies import I64, TEXT, U32, plain
from waymaker_core.model.disk_ops import Chunk, ReadChunk, SyncDir, SyncFile, Write
from waymaker_core.storage.blocks.block_file import (
    FILE_HEADER_BYTES,
    HOLE,
    INDEX_HEAD_BYTES,
    BlockIndex,
    check_file_header,
    decode_index,
    decode_subjects,
    encode_index,
    finish_ops,
    index_ops,
    plan_block,
    plan_shared_file,
    subject_section,
)
from waymaker_core.storage.blocks.block_index import EncodedSubjects
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

KEY = 77


@st.composite
def indexes(draw: st.DrawFn) -> BlockIndex:
    """An index with holes, subjects in order of appearance, and any chunk table."""
    names = draw(st.lists(TEXT, min_size=1, max_size=6, unique=True))
    entries = draw(st.integers(0, 30))
    ids = array("I", [draw(st.sampled_from([HOLE, *range(len(names))])) for _ in range(entries)])
    full = [ident != HOLE for ident in ids]

    def values(kind: st.SearchStrategy[int]) -> list[int]:
        return [draw(kind) if there else 0 for there in full]

    chunks = draw(
        st.lists(
            st.builds(Chunk, st.sampled_from(["blocks/1-2.blk", "blocks/1-3.blk"]), U32, U32, U32),
            max_size=4,
        )
    )
    firsts = sorted(draw(st.lists(st.integers(0, entries), min_size=len(chunks), max_size=len(chunks))))
    return BlockIndex(
        draw(st.integers(1, 1 << 62)), array("I", values(U32)), array("I", values(U32)), array("q", values(I64)), ids, names,
        array("I", firsts), array("Q", [draw(U32) for _ in chunks]), chunks,
    )  # fmt: skip


def chunk_table(index: BlockIndex) -> list[object]:
    return [plain(array("Q", index.chunk_firsts)), plain(index.chunk_skips), [repr(chunk) for chunk in index.chunks]]


@given(indexes())
def test_an_index_comes_back_with_its_subjects_sorted(index: BlockIndex) -> None:
    back = decode_index(encode_index(index))
    assert back.first_seq == index.first_seq
    for name in ("lengths", "sizes", "times_ms"):
        assert plain(getattr(back, name)) == plain(getattr(index, name))
    assert chunk_table(back) == chunk_table(index)
    assert back.subjects == sorted(back.subjects)
    said = [None if ident == HOLE else index.subjects[ident] for ident in index.ids]
    assert [None if ident == HOLE else back.subjects[ident] for ident in back.ids] == said


@given(indexes())
def test_postings_are_the_entries_at_each_subject(index: BlockIndex) -> None:
    data = encode_index(index)
    back = decode_index(data)
    offset, length = subject_section(data[:INDEX_HEAD_BYTES])
    table = decode_subjects(data[offset : offset + length])
    assert table.subjects == back.subjects
    for place, subject in enumerate(back.subjects):
        expected = [
            entry for entry, ident in enumerate(index.ids) if ident != HOLE and index.subjects[ident] == subject
        ]
        assert back.postings[back.posting_starts[place] : back.posting_starts[place + 1]].tolist() == expected
        assert (table.counts[place], table.last_entries[place]) == (len(expected), expected[-1])
        assert table.find(subject) == place
    assert table.find("no such subject, too long to be drawn") == -1


@given(indexes(), st.data())
def test_a_flipped_bit_or_a_cut_anywhere_in_an_index_is_found(index: BlockIndex, data: st.DataObject) -> None:
    raw = bytearray(encode_index(index))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    with pytest.raises(CorruptRecord):
        decode_index(bytes(raw[: bit // 8]))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRecord):
        decode_index(bytes(raw))
    with pytest.raises(CorruptRecord):
        decode_index(bytes(raw) + b"\0")


@given(st.binary(max_size=400))
def test_foreign_bytes_are_no_index(data: bytes) -> None:
    for decode in (decode_index, decode_subjects):
        with pytest.raises(CorruptRecord):
            decode(data)


def test_an_index_of_another_version_is_refused_by_name() -> None:
    raw = bytearray(
        encode_index(BlockIndex(1, array("I"), array("I"), array("q"), array("I"), [], array("I"), array("Q"), []))
    )
    raw[8] = 2
    raw[INDEX_HEAD_BYTES - 4 : INDEX_HEAD_BYTES] = crc32c(bytes(raw[: INDEX_HEAD_BYTES - 4])).to_bytes(4, "little")
    with pytest.raises(UnknownVersion, match="a block's index has version 2"):
        decode_index(bytes(raw))


def test_a_block_of_holes_is_small() -> None:
    holes = array("I", [HOLE]) * 100_000
    zeros = array("I", bytes(400_000))
    holes[5], holes[99_998] = 0, 0
    index = BlockIndex(
        1,
        zeros,
        zeros,
        array("q", bytes(800_000)),
        holes,
        ["a"],
        array("I", [5]),
        array("Q", [0]),
        [Chunk("b", 0, 0, 0)],
    )
    data = encode_index(index)
    assert len(data) < 1_000
    assert decode_index(data).ids == holes


def test_columns_that_disagree_are_not_written() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        encode_index(
            BlockIndex(1, array("I"), array("I"), array("q"), array("I", [0]), ["a"], array("I"), array("Q"), [])
        )


# ---------------------------------------------------------------- files


def sources(disk: MemoryDisk, contents: list[bytes]) -> list[Chunk]:
    disk.perform(Write("source", 0, [b"".join(contents)]))
    chunks: list[Chunk] = []
    offset = 0
    for content in contents:
        chunks.append(Chunk("source", offset, len(content), crc32c(content)))
        offset += len(content)
    return chunks


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8), st.integers(1, 100), st.data())
def test_copied_chunks_hold_what_was_kept_in_parts_of_bounded_size(
    contents: list[bytes], part_bytes_max: int, data: st.DataObject
) -> None:
    disk = MemoryDisk()
    keep: list[list[tuple[int, int]] | None] = []
    kept: list[bytes] = []
    for content in contents:
        cut = data.draw(st.integers(0, len(content)))
        keep.append(data.draw(st.sampled_from([None, [(0, cut)], [(cut, len(content))]])))
        ranges = keep[-1]
        kept.append(content if ranges is None else content[ranges[0][0] : ranges[0][1]])
    numbers = iter(range(10, 100))
    plans = plan_block(KEY, 3, lambda: next(numbers), 7, sources(disk, contents), keep, part_bytes_max)
    found: list[bytes] = []
    for number, plan in enumerate(plans, 10):
        assert plan.path == f"blocks/3-{number}.blk"
        results = disk.run(plan.ops)
        crcs = results[-1]
        assert isinstance(crcs, list)
        check_file_header(KEY, plan.path, number, bytes(disk.names[plan.path].content[:FILE_HEADER_BYTES]))
        assert len(plan.lengths) == 1 or plan.end - FILE_HEADER_BYTES <= part_bytes_max
        for chunk in plan.copied(crcs):
            body = disk.perform(ReadChunk(chunk))
            assert isinstance(body, bytes)
            found.append(body)
        assert len(disk.names[plan.path].content) == plan.end
    assert found == kept


def test_an_index_lies_behind_the_last_part_and_everything_is_synced_with_its_name() -> None:
    disk = MemoryDisk()
    plan = plan_shared_file(KEY, 5, sources(disk, [b"abc"]))
    disk.run(plan.ops)
    ops, location = index_ops(plan.path, plan.end, b"an index")
    disk.run(ops)
    assert disk.perform(ReadChunk(location)) == b"an index"
    assert [type(op) for op in finish_ops([plan.path, "tails/6.tail", "blocks/1-7.blk"])] == [SyncFile] * 3 + [
        SyncDir
    ] * 2


def test_a_flipped_bit_anywhere_in_a_file_s_header_is_found() -> None:
    disk = MemoryDisk()
    plan = plan_shared_file(KEY, 5, sources(disk, [b"abc"]))
    disk.run(plan.ops)
    header = bytes(disk.names[plan.path].content[:FILE_HEADER_BYTES])
    check_file_header(KEY, plan.path, 5, header)
    for bit in range(8 * FILE_HEADER_BYTES):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecord):
            check_file_header(KEY, plan.path, 5, bytes(flipped))
    with pytest.raises(CorruptRecord, match="this is file 5"):
        check_file_header(KEY, "tails/6.tail", 6, header)
    with pytest.raises(CorruptRecord):
        check_file_header(KEY, "blocks/0-5.blk", 5, header)


TOKENS = st.sampled_from(["a", "b", "ab", "ü", "\U0001f600", "\uffff", "z"])
NAMES = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)


@given(st.lists(NAMES, unique=True, max_size=40), NAMES, st.lists(TOKENS, max_size=3))
def test_encoded_subjects_answer_like_a_sorted_list(names: list[str], other: str, tokens: list[str]) -> None:
    names.sort()
    encoded = EncodedSubjects("\0".join(names).encode(), len(names))
    for name in [*names, other]:
        assert encoded.find(name) == (names.index(name) if name in names else -1)
    for prefix in ("", *(token + "." for token in tokens), ".".join(tokens), other):
        fitting = [place for place, name in enumerate(names) if name.startswith(prefix)]
        low, high = encoded.range_of(prefix)
        assert list(range(low, high)) == fitting
        assert encoded.listed(prefix) == [names[place] for place in fitting]
