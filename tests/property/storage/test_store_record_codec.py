"""Records survive their encoding, and what is not an encoding is refused without surprises."""

from __future__ import annotations

import struct
from array import array

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.store_strategies import plain, publish_records, records
from waymaker_core.model import records as vocabulary
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.records import (
    AckRecord,
    DeliveredRecord,
    PruneRecord,
    PublishRecord,
    Record,
    StreamCreated,
    StreamDeleted,
)
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.record_codec import VERSION, body_bytes, decode, encode, version_of

KINDS = sorted(
    {value.KIND for value in vars(vocabulary).values() if isinstance(value, type) and hasattr(value, "KIND")}
)


def publish(subjects: list[str]) -> PublishRecord:
    count = len(subjects)
    return PublishRecord(1, array("q", [9] * count), array("I", [3] * count), array("I", [5] * count), subjects)


@given(records())
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert plain(decode(record.KIND, version_of(record), encode(record))) == plain(record)


@given(records(), st.data())
def test_a_cut_or_lengthened_record_is_corrupt(record: Record, data: st.DataObject) -> None:
    meta = encode(record)
    cut = data.draw(st.integers(0, len(meta) - 1))
    if not isinstance(record, PublishRecord) or cut < 18:
        # A publish record ends in its last subject, which a cut only shortens: the frame's checksum guards that.
        with pytest.raises(CorruptRecord):
            decode(record.KIND, version_of(record), meta[:cut])
        with pytest.raises(CorruptRecord):
            decode(record.KIND, version_of(record), meta + b"\0")


@given(records(), st.data())
def test_damaged_bytes_end_in_a_record_or_in_corrupt_record_only(record: Record, data: st.DataObject) -> None:
    meta = bytearray(encode(record))
    for _ in range(data.draw(st.integers(1, 3))):
        meta[data.draw(st.integers(0, len(meta) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(record.KIND, version_of(record), bytes(meta))
    except CorruptRecord:
        pass


@given(st.sampled_from(KINDS), st.sampled_from((1, 2)), st.binary(max_size=200))
def test_arbitrary_bytes_end_in_a_record_or_in_corrupt_record_only(kind: int, version: int, meta: bytes) -> None:
    try:
        decode(kind, version if kind == DeliveredRecord.KIND else VERSION, meta)
    except CorruptRecord:
        pass


def test_every_kind_of_record_can_be_decoded() -> None:
    for kind in KINDS:
        with pytest.raises(CorruptRecord):
            decode(kind, VERSION, b"")


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(UnknownVersion, match="record kind has version 31"):
        decode(31, VERSION, b"")


def test_an_unknown_version_is_refused_by_name() -> None:
    with pytest.raises(UnknownVersion, match="a record of kind 1 has version 3; this program knows versions up to 2"):
        decode(1, 3, encode(publish(["a"])))


def test_columns_that_differ_in_length_are_refused() -> None:
    record = publish(["a", "b"])
    record.times_ms.pop()
    with pytest.raises(ValueError, match="differ in length"):
        encode(record)
    with pytest.raises(ValueError, match="needs its size"):
        encode(PruneRecord(0, array("Q", [1])))


def test_deliveries_of_version_1_have_counts_and_no_deadlines() -> None:
    raw = struct.pack("<QQQQI3Q3I", 7, 5, 4, 1, 3, 3, 4, 2, 1, 2, 1)
    back = decode(DeliveredRecord.KIND, 1, raw)
    assert isinstance(back, DeliveredRecord)
    assert (back.consumer_id, back.scanned_to, back.last_delivered, back.dropped, back.uncertain_to) == (7, 5, 4, 1, 0)
    found = [(each.deliver_count, list(each.seqs), each.deadline_ms, each.rest_ms) for each in back.listed]
    assert found == [(1, [2, 3], 0, 0), (2, [4], 0, 0)]


def test_a_subject_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        encode(publish(["a\0b"]))


def test_a_uniform_batch_costs_next_to_nothing_a_message() -> None:
    assert len(encode(publish(["orders.created"] * 256))) < 64


def test_an_array_of_another_item_type_is_stored_as_the_documented_one() -> None:
    back = decode(AckRecord.KIND, VERSION, encode(AckRecord(7, False, array("I", [1, 2, 3]))))
    assert isinstance(back, AckRecord)
    assert back.seqs == array("Q", [1, 2, 3])


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([1.5], id="a float"),
        pytest.param([True], id="a boolean for a number"),
        pytest.param([-1], id="a negative id"),
        pytest.param([1 << 64], id="a number of more than 64 bits"),
        pytest.param([1, 2], id="too many fields"),
        pytest.param({"stream_id": 1}, id="a map"),
    ],
)
def test_a_field_of_another_type_is_corrupt(fields: object) -> None:
    with pytest.raises(CorruptRecord):
        decode(StreamDeleted.KIND, VERSION, cbor2.dumps(fields))


def test_a_longer_encoding_of_the_same_values_is_corrupt() -> None:
    with pytest.raises(CorruptRecord, match="shortest"):
        decode(StreamDeleted.KIND, VERSION, b"\x81\x18\x01")


def test_an_unknown_retention_is_corrupt() -> None:
    meta = bytearray(encode(StreamCreated(1, StreamConfig("s"), 0)))
    meta[meta.index(b"\x61s\x80\x01") + 3] = 9
    with pytest.raises(CorruptRecord):
        decode(StreamCreated.KIND, VERSION, bytes(meta))


@given(publish_records())
def test_body_bytes_are_the_stored_bodies_of_the_messages(record: PublishRecord) -> None:
    assert body_bytes(record) == sum(record.lengths)
    assert body_bytes(PruneRecord()) == 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (36, [b""]), (36, [b"\x80"]), (36, [cbor2.dumps([[2, 1], []])]), (36, [cbor2.dumps([[1], [1]])]), (36, ["text"]),
        (36, [b"\x82\x81\x18\x01\x80"]), (37, [1, 1, []]), (37, [1, 2, [1]]), (37, [1, 1, [1, 1]]), (37, [1, 0, [0]]),
        (37, [1, 1, [1, True]]), (37, [1, 1, [1, "2"]]), (37, [1, 1, list(range(1, 18))]), (37, [1, 1]), (38, [1]),
        (38, [1, -1]), (38, [1, True]),
    ],
)  # fmt: skip
def test_nonsense_about_a_cluster_is_corrupt(kind: int, value: object) -> None:
    with pytest.raises(CorruptRecord):
        decode(kind, 1, cbor2.dumps(value))
