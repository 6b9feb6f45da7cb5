"""Files and records whose checksums are right and whose content this version never wrote: refused, each in its words."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from struct import pack, pack_into

import cbor2
import pytest

from tests.fuzz.mending import mend_header, mend_index, mend_manifest, mend_subjects
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.model.disk_ops import Chunk, Write
from waymaker_core.model.records import (
    ConsumerCreated,
    DropRecord,
    PublishRecord,
    StreamCreated,
)
from waymaker_core.storage.blocks.block_file import check_file_header, plan_shared_file
from waymaker_core.storage.blocks.block_index import (
    HOLE,
    INDEX_HEAD_BYTES,
    BlockIndex,
    decode_index,
    decode_subjects,
    encode_index,
)
from waymaker_core.storage.checkpoint.writer import (
    CheckpointWriter,
    check_checkpoint_header,
    decode_damage,
    encode_checkpoint_header,
)
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.config_codec import encode_plain, stream_config_list
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.journal.segment import SegmentHeader, decode_segment_header, encode_segment_header
from waymaker_core.storage.manifest import ID_BYTES, CheckpointFile, Manifest, decode_manifest, encode_manifest
from waymaker_core.storage.record_codec import COUNT_MAX, VERSION, decode, encode, version_of

KEY = 77
Change = Callable[[bytearray], None]


def put(layout: str, at: int, *values: int) -> Change:
    """Numbers at a place."""
    return lambda data: pack_into(layout, data, at, *values)


# ---------------------------------------------------------------- headers


def changed_header(header: bytes, change: Change) -> bytes:
    data = bytearray(header)
    change(data)
    mend_header(KEY, data)
    return bytes(data)


def test_a_segment_of_a_version_to_come_is_refused_by_name() -> None:
    header = encode_segment_header(KEY, SegmentHeader(1, 2, 3, 4, 5))
    with pytest.raises(UnknownVersion, match="a journal segment has version 3"):
        decode_segment_header(KEY, changed_header(header, put("<I", 8, 3)))
    assert decode_segment_header(KEY, changed_header(header, put("<B", 50, 1))) is None


def test_a_block_or_tail_of_a_version_to_come_is_refused_by_name() -> None:
    plan = plan_shared_file(KEY, 5, [Chunk("journal/1.seg", 0, 3, 0)])
    write = plan.ops[0]
    assert isinstance(write, Write)
    header = b"".join(write.parts)
    with pytest.raises(UnknownVersion, match="a block or tail file has version 2"):
        check_file_header(KEY, plan.path, 5, changed_header(header, put("<I", 8, 2)))


def test_a_checkpoint_of_a_version_to_come_or_in_another_s_place_is_refused() -> None:
    header = encode_checkpoint_header(KEY, 5, True)
    check_checkpoint_header(KEY, 5, header)
    with pytest.raises(UnknownVersion, match="a checkpoint has version 3"):
        check_checkpoint_header(KEY, 5, changed_header(header, put("<I", 8, 3)))
    with pytest.raises(CorruptRecord, match="this is checkpoint 5"):
        check_checkpoint_header(KEY, 6, header)
    with pytest.raises(CorruptRecord, match="this is checkpoint 5"):
        check_checkpoint_header(KEY, 5, changed_header(header, put("<I", 12, 2)))


def test_a_place_of_damage_has_a_path_an_offset_and_words() -> None:
    assert decode_damage(encode_plain(["a", 1, "b"])) == ("a", 1, "b")
    with pytest.raises(CorruptRecord, match="not a place of damage"):
        decode_damage(encode_plain(["a", 1]))


def test_a_checkpoint_writes_each_frame_once_however_often_it_is_asked() -> None:
    writer = CheckpointWriter(KEY, 1, full=True)
    writer.add_snapshot(1, 1, b"state")
    assert len(writer.take()) == 1
    assert writer.take() == []


# ---------------------------------------------------------------- the manifest


def manifest(content: object = None) -> bytes:
    raw = encode_manifest(Manifest(bytes(ID_BYTES), 1, 1, 1, 1, [CheckpointFile(1, 2, 3)]))
    if content is None:
        return raw
    data = bytearray(raw[:16] + encode_plain(content) + bytes(4))
    mend_manifest(data)
    return bytes(data)


@pytest.mark.parametrize(
    "content",
    [
        [],
        [bytes(ID_BYTES - 1), 1, 1, 1, 1, []],
        [bytes(ID_BYTES), 1, -1, 1, 1, []],
        [bytes(ID_BYTES), 1, 1, 1, 1, [[1, 2]]],
        [bytes(ID_BYTES), 1, 1, 1, 1, [7]],
    ],
    ids=["nothing", "a short id", "a negative number", "a checkpoint of two fields", "a checkpoint that is a number"],
)
def test_a_manifest_of_other_fields_is_refused(content: object) -> None:
    assert decode_manifest(manifest([bytes(ID_BYTES), 1, 2, 3, 4, [[5, 6, 7]]])).open_epoch == 2
    with pytest.raises(CorruptRecord, match="does not have its fields"):
        decode_manifest(manifest(content))


def test_a_manifest_of_another_length_is_refused() -> None:
    with pytest.raises(CorruptRecord, match="cut short"):
        decode_manifest(manifest()[:19])
    data = bytearray(manifest())
    data[12] += 1
    mended = bytes(data[:-4])
    with pytest.raises(CorruptRecord, match="does not have its length"):
        decode_manifest(mended + pack("<I", crc32c(mended)))


# ---------------------------------------------------------------- records


def publish(subjects: list[str], seqs: list[int] | None = None) -> PublishRecord:
    count = len(subjects)
    return PublishRecord(
        1, array("q", range(count)), array("I", range(count)), array("I", range(count)), subjects,
        None if seqs is None else array("Q", seqs),
    )  # fmt: skip


def head(count: int, subjects: int, flags: int) -> bytes:
    return pack("<QIIH", 1, count, subjects, flags)


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        (head(0, 0, 1 << 10), "unknown flags"),
        (head(100, 1, 0), "more messages than bytes"),
        (head(1, 2, 0) + bytes(20), "more subjects than messages"),
        (head(1, 0, 0) + bytes(20), "more subjects than messages"),
        (head(3, 2, 0) + bytes(60), "messages without a subject"),
        (head(COUNT_MAX + 1, 1, 7) + bytes(20), f"{COUNT_MAX + 1} messages in one record"),
    ],
)
def test_a_publish_record_whose_head_contradicts_itself_is_corrupt(meta: bytes, problem: str) -> None:
    with pytest.raises(CorruptRecord, match=problem):
        decode(PublishRecord.KIND, VERSION, meta)


def test_dead_letters_that_are_cut_short_or_nobody_s_are_corrupt() -> None:
    meta = encode(DropRecord(1, array("Q", [5]), publish(["d"]), array("Q"), array("Q")))
    with pytest.raises(CorruptRecord, match="a part runs past the end"):
        decode(DropRecord.KIND, VERSION, meta[:-1])
    for flag, problem in ((0, "copies of nothing"), (2, "neither 0 nor 1")):
        flagged = bytearray(meta)
        flagged[12] = flag
        with pytest.raises(CorruptRecord, match=problem):
            decode(DropRecord.KIND, VERSION, bytes(flagged))


def test_a_publish_record_that_could_not_be_read_is_not_written() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        encode(publish(["a", "b"], [1]))
    count = COUNT_MAX + 1
    times, column = array("q", bytes(8 * count)), array("I", bytes(4 * count))
    many = PublishRecord(1, times, column, column, ["a"] * count)
    with pytest.raises(ValueError, match="more than"):
        encode(many)


STREAM = stream_config_list(StreamConfig("s"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ([*STREAM[:1], [1], *STREAM[2:]], "a subject that is not text"),
        ([*STREAM[:3], -1, *STREAM[4:]], "a negative bound"),
        (STREAM[:-1], "not a stream's settings"),
    ],
)
def test_settings_of_a_stream_that_no_node_wrote_are_corrupt(settings: list[object], problem: str) -> None:
    with pytest.raises(CorruptRecord, match=problem):
        decode(StreamCreated.KIND, VERSION, cbor2.dumps([1, settings, 5, False, 0]))


def test_settings_of_a_consumer_that_no_node_wrote_are_corrupt() -> None:
    record = ConsumerCreated(1, ConsumerConfig("c", inactive_ms=5_000), 1, 0)
    fields = cbor2.loads(encode(record))
    for settings, problem in (
        (fields[1][:-1], "not the 10 settings"),
        ([*fields[1][:2], 99, *fields[1][3:]], "99 is not a valid"),
        ([*fields[1][:-1], -1], "not a consumer's settings"),
        ([*fields[1][:-1], "5m"], "not a consumer's settings"),
    ):
        with pytest.raises(CorruptRecord, match=problem):
            decode(ConsumerCreated.KIND, version_of(record), cbor2.dumps([1, settings, 1, 0]))


def test_settings_of_a_consumer_in_version_1_have_no_inactivity_timeout() -> None:
    fields = cbor2.loads(encode(ConsumerCreated(1, ConsumerConfig("c", inactive_ms=5_000), 1, 0)))
    old = decode(ConsumerCreated.KIND, 1, cbor2.dumps([1, fields[1][:-1], 1, 0]))
    assert isinstance(old, ConsumerCreated)
    assert old.config == ConsumerConfig("c")
    with pytest.raises(CorruptRecord, match="not the 9 settings"):
        decode(ConsumerCreated.KIND, 1, cbor2.dumps([1, fields[1], 1, 0]))


# ---------------------------------------------------------------- block indexes

RUNS, IDS, POSTINGS, SUBJECTS, CHUNKS = 0, 4, 5, 6, 7


def index(**other: object) -> BlockIndex:
    """Three messages and a hole at two subjects, in one chunk."""
    fields: dict[str, object] = {
        "first_seq": 1, "lengths": array("I", [6, 6, 0, 6]), "sizes": array("I", [1, 1, 0, 1]),
        "times_ms": array("q", [0, 0, 0, 0]), "ids": array("I", [0, 1, HOLE, 0]), "subjects": ["a", "b"],
        "chunk_firsts": array("I", [0]), "chunk_skips": array("Q", [0]), "chunks": [Chunk("blocks/1-2.blk", 64, 18, 0)],
    } | other  # fmt: skip
    return BlockIndex(**fields)  # type: ignore[arg-type]


def section(data: bytes | bytearray, number: int) -> tuple[int, int]:
    place = 48 + 20 * number
    return int.from_bytes(data[place : place + 8], "little"), int.from_bytes(data[place + 8 : place + 16], "little")


def changed_index(*changes: Change) -> bytes:
    data = bytearray(encode_index(index()))
    for change in changes:
        change(data)
    mend_index(data)
    return bytes(data)


def within(number: int, at: int, *values: int) -> Change:
    """Numbers at a place of a section."""
    return lambda data: pack_into(f"<{len(values)}I", data, section(data, number)[0] + at, *values)


def cut(number: int, size: int) -> Change:
    """A section without its last bytes."""

    def change(data: bytearray) -> None:
        offset, length = section(data, number)
        del data[offset + length - size : offset + length]
        pack_into("<Q", data, 48 + 20 * number + 8, length - size)

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(put("<I", 12, 8), "an index of 8 sections", id="sections"),
        pytest.param(put("<Q", 24, 1 << 40), "entries, where", id="entries"),
        pytest.param(cut(IDS, 4), "a column of a block's index", id="a short column"),
        pytest.param(within(IDS, 0, 2), "its subject table differ", id="an id without a subject"),
        pytest.param(put("<I", 36, 3), "its subject table differ", id="a subject less"),
        pytest.param(within(POSTINGS, 0, 4), "postings outside", id="a posting outside"),
        pytest.param(within(RUNS, 8, 1), "runs out of order", id="runs that overlap"),
        pytest.param(within(RUNS, 4, 0), "runs out of order", id="an empty run"),
        pytest.param(within(RUNS, 8, 9), "runs outside it", id="a run outside"),
        pytest.param(put("<I", 40, 2), "chunk table does not have its length", id="a chunk less"),
        pytest.param(within(CHUNKS, 4, 1), "names a file that is not listed", id="a chunk of no file"),
    ],
)
def test_an_index_that_contradicts_itself_is_corrupt(change: Change, problem: str) -> None:
    assert decode_index(changed_index()).subjects == ["a", "b"]
    with pytest.raises(CorruptRecord, match=problem.replace("an index", "a block's index")):
        decode_index(changed_index(change), entries_max=100)


def test_an_index_with_bytes_behind_it_is_corrupt() -> None:
    with pytest.raises(CorruptRecord, match="does not have its length"):
        decode_index(encode_index(index()) + b"\0")


def test_a_subject_table_of_another_length_is_corrupt() -> None:
    data = encode_index(index())
    offset, length = section(data, SUBJECTS)
    for place, value in ((0, 1), (4, 2)):
        table = bytearray(data[offset : offset + length])
        pack_into("<I", table, place, value)
        mend_subjects(table, 0, len(table))
        with pytest.raises(CorruptRecord, match="does not have its length"):
            decode_subjects(bytes(table))


def test_an_index_that_could_not_be_read_is_not_written() -> None:
    with pytest.raises(ValueError, match="chunk table's columns"):
        encode_index(index(chunk_skips=array("Q")))
    with pytest.raises(ValueError, match="NUL"):
        encode_index(index(subjects=["a\0", "b"]))
    assert len(encode_index(index())) > INDEX_HEAD_BYTES
