"""What an object store writes: maps of chunks, metadata, facts, snapshots. Read back as written, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.objects.chunk_map import ChunkMap, decode_chunk_map
from waymaker_core.objects.facts import Deleted, Fact, Finished, Loaded, Stored, Swept, decode_fact, encode_fact
from waymaker_core.objects.metadata import Metadata, decode_metadata, encode_metadata
from waymaker_core.objects.state import ObjectEntry, ObjectState
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

CHUNKS = st.lists(
    st.tuples(st.integers(1, 40) | st.integers(1, SEQ_MAX - 1), st.integers(1, 3) | st.integers(1, 1 << 24)),
    max_size=12,
)


def map_of(chunks: list[tuple[int, int]]) -> ChunkMap:
    made = ChunkMap()
    for seq, size in chunks:
        made.add_chunk(seq, size)
    return made


@given(CHUNKS)
def test_a_map_is_read_back_as_it_was_written(chunks: list[tuple[int, int]]) -> None:
    made = map_of(chunks)
    encoded = made.encode()
    again = decode_chunk_map(encoded)
    assert list(again.sequences()) == [seq for seq, _ in chunks]
    assert (
        (again.count, again.total_bytes) == (made.count, made.total_bytes) == (len(chunks), sum(s for _, s in chunks))
    )
    assert len(encoded) == made.encoded_bytes == again.encoded_bytes


@given(CHUNKS, st.integers(0, 60), st.integers(0, 60), st.integers(1, 5), st.integers(1, 60))
def test_a_range_is_covered_by_the_chunks_that_it_touches(
    chunks: list[tuple[int, int]], offset: int, length: int, count_max: int, bytes_max: int
) -> None:
    made = map_of(chunks)
    ranges, begin = made.covering(offset, length, count_max, bytes_max)
    touched: list[tuple[int, int, int]] = []
    at = 0
    for seq, size in chunks:
        if at < offset + length and at + size > offset:
            touched.append((seq, at, size))
        at += size
    seqs = [seq for first, last in ranges for seq in range(first, last + 1)]
    assert seqs == [seq for seq, _, _ in touched][: len(seqs)]
    if not touched:
        assert not seqs
        return
    assert begin == touched[0][1]
    assert 1 <= len(seqs) <= count_max
    assert len(seqs) == 1 or sum(size for _, _, size in touched[: len(seqs)]) <= bytes_max
    if len(seqs) < len(touched):
        assert len(seqs) == count_max or sum(size for _, _, size in touched[: len(seqs) + 1]) > bytes_max


@given(st.binary(max_size=40))
def test_other_bytes_are_no_map(data: bytes) -> None:
    try:
        assert decode_chunk_map(data).encode() == data
    except CorruptRecord:
        pass


def test_a_map_that_cannot_be_is_refused() -> None:
    for data in (
        b"\x00",
        b"\x02\x00\x01",
        b"\x02\x01\x00",
        b"\x01\x01\x01",
        b"\x02\x01\x01\x00\x01\x01",
        b"\x02\x81\x00\x01",
    ):
        with pytest.raises(CorruptRecord):
            decode_chunk_map(data)


@given(CHUNKS, st.integers(0, SEQ_MAX), st.binary(min_size=32, max_size=32), st.booleans())
def test_metadata_is_read_back_as_it_was_written(
    chunks: list[tuple[int, int]], chunk_size: int, digest: bytes, shared: bool
) -> None:
    again = decode_metadata(encode_metadata(Metadata(False, chunk_size, digest, shared, map_of(chunks))))
    assert (again.chunk_size, again.sha256, again.shared) == (chunk_size, digest, shared)
    assert list(again.chunks.sequences()) == [seq for seq, _ in chunks]
    assert decode_metadata(encode_metadata(Metadata(deleted=True))).deleted


def test_metadata_of_another_kind_or_version_is_refused() -> None:
    with pytest.raises(UnknownVersion):
        decode_metadata(encode_plain([2, False]))
    for value in (
        [1],
        [1, False],
        [0, True],
        [1, False, -1, bytes(32), True, b""],
        [1, False, 1, b"", True, b""],
        7,
        [True, True],
    ):
        with pytest.raises(CorruptRecord):
            decode_metadata(encode_plain(value))
    with pytest.raises(CorruptRecord):
        decode_metadata(encode_metadata(Metadata(deleted=True)) + b"\x00")


FACTS: list[Fact] = [
    Stored(),
    Finished("a", 3, True, b"\x02\x01\x03"),
    Deleted("ä"),
    Swept(["a", ""]),
    Loaded([[1]], [[2, 3]]),
]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_a_fact_is_read_back_as_it_was_written(fact: Fact) -> None:
    assert decode_fact(encode_fact(fact)) == fact
    for cut in range(len(encode_fact(fact))):
        with pytest.raises(CorruptRecord):
            decode_fact(encode_fact(fact)[:cut])


def test_a_snapshot_that_contradicts_itself_is_refused() -> None:
    state = ObjectState()
    state.add_loose(range(9, 11), 5)
    state.put("x", ObjectEntry(3, 2, True, map_of([(1, 1), (2, 1)]).encode(), False, 7))
    state.put("y", ObjectEntry(4, 1, True, map_of([(2, 1)]).encode(), False, 7))
    state.put("z", ObjectEntry(5, 0, False, b"", True, 8))
    plain = decode_plain(encode_plain(state.snapshot()))
    again = ObjectState()
    again.restore(plain)
    assert again.snapshot() == state.snapshot()
    assert (again.uses, again.chunk_count, again.metadata_count) == ({1: 1, 2: 2}, 2, 3)
    assert isinstance(plain, list)
    _, (x, y, z), loose, tombstones = plain
    wrong: list[object] = [
        [1, [x, x], loose, []], [1, [x, y, z], loose, []], [1, [x, y, z], [[1, 5]], tombstones], [1, [x], [[0, 5]], []],
        [1, [[*x[:2], 9, *x[3:]]], [], []], [1, [[*x[:7], [4]]], [], []], [1, [x[:7]], [], []], [0, [], [], []], 5,
    ]  # fmt: skip
    for value in wrong:
        with pytest.raises(CorruptRecord):
            ObjectState().restore(value)
    with pytest.raises(UnknownVersion):
        ObjectState().restore([2, [], [], []])
