"""Frames: every byte of them is guarded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.store_strategies import U32, U64
from waymaker_core.storage import paths
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.frame import (
    HEADER_BYTES,
    MAGIC,
    PADDING,
    FrameHeader,
    content_problem,
    decode_header,
    directory_key,
    encode_frame,
    encode_header,
    frame_bytes,
    padded,
)

U8 = st.integers(0, 255)
U16 = st.integers(0, 65535)
KEY = directory_key(b"0123456789abcdef")


@given(st.tuples(U8, U8, U16, U64, U64, U64, U64, U32, U32, U32, U32, U32))
def test_a_header_comes_back_as_it_was(fields: tuple[int, ...]) -> None:
    data = encode_header(KEY, *fields)
    assert len(data) == HEADER_BYTES
    assert decode_header(KEY, b"x" * 8 + data + b"y", 8) == FrameHeader(MAGIC, *fields)


def test_a_flipped_bit_anywhere_in_a_header_makes_it_invalid() -> None:
    data = encode_header(KEY, 1, 1, 0, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    for bit in range(8 * HEADER_BYTES):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_header(KEY, bytes(flipped)) is None


def test_a_cut_header_is_invalid() -> None:
    data = encode_header(KEY, 1, 1, 0, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    assert all(decode_header(KEY, data[:cut]) is None for cut in range(HEADER_BYTES))


def test_a_header_of_another_directory_is_invalid() -> None:
    data = encode_header(directory_key(b"another directory"), 1, 1, 0, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    assert decode_header(KEY, data) is None


@given(st.binary(max_size=40), st.binary(max_size=40), st.data())
def test_a_flipped_bit_anywhere_behind_a_header_is_named(meta: bytes, body: bytes, data: st.DataObject) -> None:
    content = meta + PADDING[-len(meta) & 7] + body + PADDING[-len(body) & 7]
    head = encode_header(KEY, 1, 1, 0, 1, 1, 1, 0, 1, len(meta), len(body), crc32c(meta), crc32c(body))
    header = decode_header(KEY, head)
    assert header is not None
    assert frame_bytes(len(meta), len(body)) == HEADER_BYTES + len(content)
    assert content_problem(header, content) == ""
    assert content_problem(header, content + b"\0") != ""
    if content:
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert content_problem(header, bytes(flipped)) != ""


@given(st.binary(max_size=40))
def test_a_frame_without_body_is_its_header_and_meta(meta: bytes) -> None:
    data = encode_frame(KEY, 65, 1, 3, 4, meta, segment=5)
    header = decode_header(KEY, data)
    assert header is not None
    assert (header.kind, header.stream_id, header.position, header.segment, header.durable_lsn) == (65, 3, 4, 5, 0)
    assert content_problem(header, data[HEADER_BYTES:]) == ""
    assert len(data) == frame_bytes(len(meta), 0)


@given(st.integers(0, 1 << 40))
def test_padding_reaches_the_next_multiple_of_eight(length: int) -> None:
    assert padded(length) % 8 == 0
    assert 0 <= padded(length) - length < 8


# ---------------------------------------------------------------- names


@given(st.integers(0, 1 << 63), st.integers(0, 1 << 63))
def test_numbers_come_back_out_of_paths(stream_id: int, number: int) -> None:
    assert paths.segment_number(paths.segment_path(number).removeprefix("journal/")) == number
    for folder, path in (
        (paths.BLOCKS, paths.block_path(stream_id, number)),
        (paths.SHARED_BLOCKS, paths.shared_block_path(number)),
        (paths.CHECKPOINTS, paths.checkpoint_path(number)),
    ):
        assert paths.file_number(folder, path.removeprefix(folder + "/")) == number
    assert paths.block_owner(paths.block_path(stream_id, number)) == stream_id


@pytest.mark.parametrize(
    "name", ["", ".seg", "1.seg", "0000000000000001", "0000000000000001.seg.tmp", "²000000000000001.seg", "-1.seg"]
)
def test_a_foreign_name_is_not_a_segment(name: str) -> None:
    assert paths.segment_number(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "1", ".blk", "1-.blk", "-1.blk", "01-1.blk", "1-1.blk.tmp", "1-1-1.blk", "x-1.blk", "1.tail~", "+1.tail"],
)
def test_a_foreign_name_is_no_block_tail_or_checkpoint(name: str) -> None:
    for folder in (paths.BLOCKS, paths.SHARED_BLOCKS, paths.CHECKPOINTS):
        assert paths.file_number(folder, name) is None
    assert paths.block_owner(f"blocks/{name}") is None
    assert paths.block_owner("tails/1.tail") is None
