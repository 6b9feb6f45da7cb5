"""Requests are counted before they are parsed, and frames are parsed lazily."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker.wire.guard import (
    FIELDS_A_MESSAGE_MAX,
    FIELDS_MAX,
    PACKED_BYTES_A_MESSAGE_MAX,
    WALKED_FRAME_BYTES_MIN,
    LazyFrame,
    parse_frame,
    within,
)
from waymaker_core.model.message_codec import varint
from waymaker_proto import pipeline_pb2 as pipe
from waymaker_proto import waymaker_streams_pb2 as pb

PUBLISH = pb.PublishRequest.DESCRIPTOR
CREATE = pb.CreateStreamRequest.DESCRIPTOR
EMPTY_HEADER = b"\x22\x00"


@given(st.binary(max_size=60))
def test_no_bytes_make_the_guard_raise_and_what_it_refuses_is_rightly_refused(data: bytes) -> None:
    if not within(data, PUBLISH):
        return
    # What passed can be walked to its end: the parser may still refuse it, for its texts for one.
    try:
        pb.PublishRequest.FromString(data)
    except ValueError:
        pass
    except Exception as error:
        assert type(error).__name__ == "DecodeError"


def test_honest_requests_pass_with_all_their_fields_counted() -> None:
    request = pb.PublishRequest(stream="s", subject="a", payload=b"x" * 1000, ts_ms=-1, expected_last_seq=2**64 - 1)
    for _ in range(72):
        request.headers.add(key="k", value="v")
    data = request.SerializeToString()
    assert within(data, PUBLISH)
    assert within(data, PUBLISH, 5 + 72 + 144)
    assert not within(data, PUBLISH, 5 + 72 + 143), "fields of nested messages count"
    config = pb.StreamConfigPb(name="s", subjects_filter=["a"] * 1_024, sources=[pb.StreamSourceConfigPb()])
    assert within(pb.CreateStreamRequest(config=config).SerializeToString(), CREATE)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80" * 11,
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0b" * 1_000,
        b"\x0a\x05abc",
        b"\x0d\x00",
        b"\x22\x03\x0a\x05a",
        EMPTY_HEADER * (FIELDS_MAX + 1),
        b"\x12\x00" * (FIELDS_MAX + 1),
    ],
)
def test_what_is_no_message_or_too_much_of_one_is_refused(data: bytes) -> None:
    assert not within(data, PUBLISH)


def test_a_refusal_takes_no_time_however_large_the_request() -> None:
    data = EMPTY_HEADER * (8 << 20)
    frame = b"\x12\x00" * (8 << 20)
    started = time.thread_time()  # other processes may keep this one waiting
    assert not within(data, PUBLISH)
    assert parse_frame(frame, 10_000) is None
    assert time.thread_time() - started < 0.5


def test_a_lazy_frame_reads_what_clients_write() -> None:
    frame = pipe.Frame(hello=pipe.Hello(version=3, client="c"), unsubscribes=[1, 2])
    frame.calls.add(id=1, method="Publish", request=b"r", after="a", limit=9)
    batch = frame.publishes.add(
        id=2, stream="s", subjects=["a", "b"], subject_index=[0, 1], payloads=[b"x", b""], ts_ms=[0, -5],
        expected_last_seq=[-1, 7],
    )  # fmt: skip
    batch.headers.add(index=1).headers.add(key="k", value="v")
    frame.acks.add(id=3, stream="s", consumer="c", kind=pipe.NAK, seqs=[4], delay_ms=5).ranges.add(first=6, last=7)
    frame.subscribes.add(id=4, stream="s", consumer="c", batch_size=5, stop_when_empty=True, credit_messages=6)
    frame.credits.add(subscription=4, messages=1, bytes=2)
    lazy = parse_frame(frame.SerializeToString(), 100)
    assert lazy.HasField("hello")
    assert (lazy.hello.version, list(lazy.unsubscribes)) == (3, [1, 2])
    assert lazy.publishes[0].headers[0] == batch.headers[0].SerializeToString()
    assert lazy.acks[0].ranges[0] == frame.acks[0].ranges[0].SerializeToString()
    assert lazy.SerializeToString() == frame.SerializeToString(), "the same schema on the wire"


def test_fields_that_only_servers_send_are_not_built() -> None:
    frame = pipe.Frame(deliveries=[pipe.DeliveryBatch(runs=[pipe.DeliveryRun()] * 100)], closing=pipe.Closing())
    lazy = parse_frame(frame.SerializeToString(), 100)
    assert [field.name for field, _ in lazy.ListFields()] == []
    assert {field.name for field in LazyFrame.DESCRIPTOR.fields} == {
        "hello", "calls", "publishes", "acks", "subscribes", "credits", "unsubscribes", "received", "cancels",
        "key_batches",
    }  # fmt: skip


@pytest.mark.parametrize("data", [b"\x80" * 11, b"\x12\x05a", b"\x13" * 10, b"\x0a\x02\xff\xff"])
def test_a_frame_that_is_none_is_a_value_error_or_a_decode_error(data: bytes) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - protobuf's own is not a ValueError
        parse_frame(data, 100)
    assert type(caught.value).__name__ in {"ValueError", "DecodeError"}


def batch(number: int, parts: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(parts)) + parts


@pytest.mark.parametrize("part", [b"\x1a\x00", b"\x2a\x00", b"\x32\x00", b"\x20\x00", b"\x38\x00"])
def test_the_parts_of_batches_in_large_frames_are_counted(part: bytes) -> None:
    most = FIELDS_A_MESSAGE_MAX * 1_000
    filler = batch(5, b"x" * WALKED_FRAME_BYTES_MIN)
    assert parse_frame(batch(3, filler + part * (most - 1)), 100, 1_000) is not None
    assert parse_frame(batch(3, filler + part * most), 100, 1_000) is None
    assert parse_frame(batch(3, filler + part * (most // 2)) + batch(3, part * (most // 2)), 100, 1_000) is None
    assert parse_frame(batch(3, part * most), 100, 1_000) is not None, "a small frame is not walked"


@pytest.mark.parametrize(("number", "column"), [(3, 4), (3, 7), (3, 8), (4, 5)])
def test_packed_columns_are_bounded_by_their_bytes(number: int, column: int) -> None:
    most = PACKED_BYTES_A_MESSAGE_MAX * 1_000
    filler = batch(15, b"x" * WALKED_FRAME_BYTES_MIN)
    for size, taken in ((most, True), (most + 1, False)):
        frame = batch(number, filler + batch(column, b"\x01" * size))
        assert (parse_frame(frame, 100, 1_000) is not None) == taken
    assert parse_frame(batch(7, b"\x01" * (most + 1)), 100, 1_000) is None, "unsubscribes, in any frame"


def test_the_largest_honest_frame_passes() -> None:
    count = 65_536
    frame = pipe.Frame()
    frame.publishes.add(
        id=1, stream="s", subjects=[str(n) for n in range(count)], subject_index=range(count), payloads=[b"x" * 30] * count,
        ts_ms=[1 << 45] * count, expected_last_seq=[1 << 62] * count,
    )  # fmt: skip
    data = frame.SerializeToString()
    assert len(data) > WALKED_FRAME_BYTES_MIN
    assert parse_frame(data, 10_000, count) is not None


def test_items_are_counted_at_the_top_alone() -> None:
    inner = b"\x32\x00" * 50_000
    assert parse_frame(b"\x1a" + varint(len(inner)) + inner, 1) is not None
    assert parse_frame(b"\x12\x00" * 2, 1) is None
