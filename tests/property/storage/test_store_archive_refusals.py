"""Archives whose checksums are right and whose content no node wrote: each is refused, and says why."""

from __future__ import annotations

from array import array
from struct import pack

import pytest

from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.records import PublishRecord
from waymaker_core.storage.archive import BATCH_BYTES_MAX, ArchiveError, ArchiveReader, ArchiveWriter, Batch, Head
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.config_codec import encode_plain, stream_config_list
from waymaker_core.storage.record_codec import encode

BODY = encode_body("a", (), b"x", Limits())[0]
HEAD, BATCH, SUMMARY = 1, 2, 3
HEAD_FIELDS = [stream_config_list(StreamConfig("s")), 0, 1, 1, 1, 1, None]
START = ArchiveWriter().head(Head(StreamConfig("s"), 0, 1, 1, 1, 1, None))


def piece(
    kind: int, number: int, meta: bytes, body: bytes = b"", *, version: int = 1, magic: bytes = b"WMpc", zeros: int = 0,
    meta_length: int | None = None, body_length: int | None = None,
) -> bytes:  # fmt: skip
    """A piece with right checksums."""
    lengths = (
        len(meta) if meta_length is None else meta_length,
        len(body) if body_length is None else body_length,
    )
    head = pack("<4sBBHIIIII", magic, kind, version, zeros, number, *lengths, crc32c(meta), crc32c(body))
    return head + pack("<I", crc32c(head)) + meta + body


def batch_meta(seqs: list[int], lengths: list[int], first_seq: int | None = None) -> bytes:
    """The meta of a batch of messages at `a`; without `first_seq` with sequences of their own."""
    count = len(lengths)
    return encode(
        PublishRecord(
            seqs[0] if first_seq is None else first_seq,
            array("q", [0] * count),
            array("I", [1] * count),
            array("I", lengths),
            ["a"] * count,
            array("Q", seqs) if first_seq is None else None,
        )
    )


def one_message(number: int = 1) -> bytes:
    return piece(BATCH, number, batch_meta([1], [len(BODY)]), BODY)


def refused(*pieces: bytes) -> ArchiveError:
    """What the reader says to an archive that begins well and goes on with these pieces."""
    with pytest.raises(ArchiveError) as caught:
        ArchiveReader().feed(START + b"".join(pieces))
    return caught.value


def test_the_pieces_made_here_are_those_of_the_format() -> None:
    summary = piece(SUMMARY, 2, encode_plain([1, len(BODY), 1]))
    reader = ArchiveReader()
    assert len(reader.feed(START + one_message() + summary)) == 3
    assert reader.close().count == 1
    assert START[16:] == piece(HEAD, 0, encode_plain(HEAD_FIELDS))


@pytest.mark.parametrize(
    ("follows", "problem"),
    [
        pytest.param(piece(BATCH, 1, b"", magic=b"WMpd"), "there is no piece", id="another magic word"),
        pytest.param(piece(BATCH, 1, b"", zeros=1), "there is no piece", id="something in the zeros"),
        pytest.param(piece(BATCH, 1, b"", version=2), "a piece of the archive has version 2", id="a later version"),
        pytest.param(piece(BATCH, 1, b"", meta_length=(256 << 20) + 1), "longer than any", id="a head without end"),
        pytest.param(piece(BATCH, 1, b"", body_length=BATCH_BYTES_MAX + 1), "longer than any", id="endless bodies"),
        pytest.param(piece(HEAD, 1, encode_plain(HEAD_FIELDS)), "its one head", id="a second head"),
        pytest.param(piece(SUMMARY, 1, encode_plain([0, 0, 0]), b"x"), "a body where none", id="a summary's body"),
        pytest.param(piece(4, 1, b""), "a piece's kind has version 4", id="a kind to come"),
        pytest.param(piece(BATCH, 1, batch_meta([], [], 0)), "without messages", id="an empty batch"),
        pytest.param(piece(BATCH, 1, batch_meta([1], [6]), BODY[:-1]), "does not fit", id="a body too short"),
        pytest.param(piece(BATCH, 1, batch_meta([2, 2], [6, 6]), BODY + BODY), "ascend", id="one sequence twice"),
        pytest.param(piece(BATCH, 1, batch_meta([], [6, 6], (1 << 64) - 1), BODY * 2), "out of range", id="no sequence left"),
        pytest.param(one_message() + one_message(2), "ascend", id="the same batch twice"),
        pytest.param(piece(SUMMARY, 1, encode_plain([1, 0, 0])), "counts 1 messages, but 0 came", id="a message less"),
        pytest.param(one_message() + piece(SUMMARY, 2, encode_plain([1, 6, 0])), "counts 1", id="an end before its end"),
        pytest.param(piece(SUMMARY, 1, encode_plain([1, 2])), "not a summary", id="another list"),
    ],
)  # fmt: skip
def test_a_piece_that_no_node_wrote_is_refused(follows: bytes, problem: str) -> None:
    error = refused(follows)
    assert problem in error.detail
    assert error.offset >= len(START)


def test_an_archive_begins_with_its_head() -> None:
    with pytest.raises(ArchiveError, match="its one head"):
        ArchiveReader().feed(START[:16] + piece(SUMMARY, 0, encode_plain([0, 0, 0])))
    with pytest.raises(ArchiveError, match="not the head"):
        ArchiveReader().feed(START[:16] + piece(HEAD, 0, encode_plain(HEAD_FIELDS[:-1])))


@pytest.mark.parametrize("size", [1, 31, 32, 100])
@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
def test_nothing_follows_the_summary_however_little_it_is(size: int, at_once: bool) -> None:
    reader = ArchiveReader()
    whole, more = START + piece(SUMMARY, 1, encode_plain([0, 0, 0])), bytes(size)
    if not at_once:
        reader.feed(whole)
        whole = b""
    with pytest.raises(ArchiveError, match="follows the summary"):
        reader.feed(whole + more)


@pytest.mark.parametrize(
    ("times", "lengths", "body", "problem"),
    [
        ([], [6], BODY, "columns of a batch differ"),
        ([0], [6], BODY[1:], "does not fit its messages"),
        ([0], [BATCH_BYTES_MAX + 1], bytes(BATCH_BYTES_MAX + 1), "a batch of more than"),
    ],
    ids=["columns", "a body", "too much"],
)
def test_a_batch_that_could_not_be_read_is_not_written(
    times: list[int], lengths: list[int], body: bytes, problem: str
) -> None:
    writer = ArchiveWriter()
    writer.head(Head(StreamConfig("s"), 0, 1, 1, 1, 1, None))
    batch = Batch(array("Q", [1]), array("q", times), ["a"], array("I", [1]), array("I", lengths), body)
    with pytest.raises(ValueError, match=problem):
        writer.batch(batch)
