"""Archives: they come back whole or not at all."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.store_strategies import I64, STREAM_CONFIGS, TEXT, U32, plain
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.storage.archive import LAST_SEQ_MAX, ArchiveError, ArchiveReader, ArchiveWriter, Batch, Head, Summary
from waymaker_core.storage.checksum import crc32c

Piece = Head | Batch | Summary
HEADERS = st.lists(st.tuples(st.sampled_from(["a", "é"]), TEXT), max_size=2)


@st.composite
def archives(draw: st.DrawFn) -> tuple[list[Piece], bytes]:
    """The pieces of an archive and its bytes."""
    writer = ArchiveWriter()
    consumers = draw(st.none() | st.lists(st.lists(st.integers(0, 1 << 40) | TEXT, max_size=3), max_size=3))
    head = Head(draw(STREAM_CONFIGS), draw(U32), draw(U32), draw(U32), draw(U32), draw(U32), consumers)
    pieces: list[Piece] = [head]
    data = [writer.head(head)]
    seq = count = body_bytes = 0
    for _ in range(draw(st.integers(0, 4))):
        gaps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 1000]), min_size=1, max_size=5))
        seqs = array("Q")
        for gap in gaps:
            seq += gap
            seqs.append(seq)
        subjects = [draw(TEXT) for _ in seqs]
        encoded = [encode_body(subject, draw(HEADERS), draw(st.binary(max_size=20)), Limits()) for subject in subjects]
        bodies = [body for body, _ in encoded]
        batch = Batch(
            seqs,
            array("q", [draw(I64) for _ in seqs]),
            subjects,
            array("I", [size for _, size in encoded]),
            array("I", map(len, bodies)),
            b"".join(bodies),
        )
        count += len(seqs)
        body_bytes += len(batch.body)
        pieces.append(batch)
        data.append(writer.batch(batch))
    seq += draw(st.integers(0, 3))
    pieces.append(Summary(count, body_bytes, seq))
    data.append(writer.finish(seq))
    return pieces, b"".join(data)


def read_whole(data: bytes) -> list[Piece]:
    reader = ArchiveReader()
    pieces = reader.feed(data)
    reader.close()
    return pieces


@given(archives(), st.data())
def test_an_archive_comes_back_however_it_is_cut_into_pieces(
    archive: tuple[list[Piece], bytes], data: st.DataObject
) -> None:
    pieces, raw = archive
    reader = ArchiveReader()
    found: list[Piece] = []
    at = 0
    while at < len(raw):
        size = data.draw(st.integers(1, 200))
        found += reader.feed(raw[at : at + size])
        at += size
    summary = reader.close()
    assert [plain(piece) for piece in found] == [plain(piece) for piece in pieces]
    assert plain(summary) == plain(pieces[-1])


@given(archives(), st.data())
def test_a_flipped_bit_anywhere_is_found(archive: tuple[list[Piece], bytes], data: st.DataObject) -> None:
    raw = bytearray(archive[1])
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ArchiveError) as caught:
        read_whole(bytes(raw))
    assert 0 <= caught.value.offset <= bit // 8


@given(archives(), st.data())
def test_a_truncated_archive_is_found(archive: tuple[list[Piece], bytes], data: st.DataObject) -> None:
    raw = archive[1]
    with pytest.raises(ArchiveError):
        read_whole(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(archives(), st.binary(min_size=1, max_size=60))
def test_something_behind_the_summary_is_found(archive: tuple[list[Piece], bytes], more: bytes) -> None:
    with pytest.raises(ArchiveError, match="follows the summary"):
        read_whole(archive[1] + more)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError):
        read_whole(data)


BODY = encode_body("a", (), b"x", Limits())[0]


@pytest.mark.parametrize(
    ("body", "size", "problem"),
    [
        (b"\xff\xff", 1, "truncated"),
        (BODY[:-1], 1, "runs past"),
        (BODY + BODY, 1, "not a message at the subject"),
        (BODY.replace(b"a", b"b"), 1, "not a message at the subject"),
        (BODY[3:] + BODY[:3], 1, "not a message at the subject"),
        (b"", 0, "not a message at the subject"),
        (BODY, 7, "counts more bytes"),
    ],
)
def test_a_body_that_no_node_wrote_is_refused(body: bytes, size: int, problem: str) -> None:
    writer = ArchiveWriter()
    head = writer.head(Head(StreamConfig("s"), 0, 1, 1, 1, 1, None))
    batch = Batch(array("Q", [1]), array("q", [0]), ["a"], array("I", [size]), array("I", [len(body)]), body)
    with pytest.raises(ArchiveError, match=problem):
        read_whole(head + writer.batch(batch) + writer.finish(1))


@pytest.mark.parametrize("figure", [-1, LAST_SEQ_MAX + 1, 1 << 63, 1 << 64, 1 << 200])
def test_a_stream_that_could_not_go_on_is_refused(figure: int) -> None:
    head = ArchiveWriter().head(Head(StreamConfig("s"), 0, 1, figure, 1, 1, None))
    with pytest.raises(ArchiveError, match="out of range"):
        ArchiveReader().feed(head)
    writer = ArchiveWriter()
    writer.head(Head(StreamConfig("s"), 0, 1, 1, 1, 1, None))
    if 0 < figure < 1 << 64:
        batch = Batch(array("Q", [figure]), array("q", [0]), ["a"], array("I", [1]), array("I", [6]), BODY)
        with pytest.raises(ValueError, match="a sequence above"):
            writer.batch(batch)


def two_batches() -> tuple[bytes, bytes, bytes, bytes]:
    writer = ArchiveWriter()
    head = writer.head(Head(StreamConfig("s"), 0, 1, 2, 2, 2, None))
    batches = [
        writer.batch(Batch(array("Q", [seq]), array("q", [0]), ["a"], array("I", [1]), array("I", [6]), BODY))
        for seq in (1, 2)
    ]
    return head, batches[0], batches[1], writer.finish(2)


def test_pieces_that_are_missing_doubled_or_swapped_are_found() -> None:
    head, first, second, summary = two_batches()
    assert len(read_whole(head + first + second + summary)) == 4
    for pieces in (
        [head, second, summary],
        [head, first, first, second, summary],
        [head, second, first, summary],
        [first, second],
    ):
        with pytest.raises(ArchiveError):
            read_whole(b"".join(pieces))


def test_another_version_is_refused_by_name() -> None:
    head = bytearray(two_batches()[0])
    head[8] = 2
    head[12:16] = crc32c(bytes(head[:12])).to_bytes(4, "little")
    with pytest.raises(ArchiveError, match="an archive has version 2; this program knows versions up to 1"):
        read_whole(bytes(head))


@pytest.mark.parametrize("seqs", [[], [0], [3, 3], [5, 4]], ids=["none", "zero", "equal", "descending"])
def test_a_batch_out_of_order_is_not_written(seqs: list[int]) -> None:
    writer = ArchiveWriter()
    writer.head(Head(StreamConfig("s"), 0, 1, 2, 2, 2, None))
    count = len(seqs)
    with pytest.raises(ValueError, match=r"sequences|messages"):
        writer.batch(
            Batch(
                array("Q", seqs),
                array("q", [0] * count),
                ["a"] * count,
                array("I", [0] * count),
                array("I", [0] * count),
                b"",
            )
        )
