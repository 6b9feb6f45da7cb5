"""Batches of the pipeline become the very bytes that single messages become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker.wire import batches as columns
from waymaker.wire.guard import parse_frame
from waymaker_core.api.requests import Ack, AckKind, Publish
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.result_codes import RefusedError, Status
from waymaker_proto import pipeline_pb2 as pipe

LIMITS = Limits()


def judged(batch: pipe.PublishBatch, limits: Limits) -> tuple[Publish | None, columns.Malformed]:
    """As the server does it: from the bytes of a frame."""
    return columns.publish_request(
        parse_frame(pipe.Frame(publishes=[batch]).SerializeToString(), 10).publishes[0], limits
    )


def publish_request(batch: pipe.PublishBatch, limits: Limits) -> Publish:
    """A batch without malformed messages."""
    request, malformed = judged(batch, limits)
    assert request is not None
    assert malformed == {}
    return request


def ack_request(batch: pipe.AckBatch, limits: Limits) -> Ack:
    return columns.ack_request(parse_frame(pipe.Frame(acks=[batch]).SerializeToString(), 10).acks[0], limits)


payloads = st.lists(st.binary(max_size=200), min_size=1, max_size=12)
texts = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def batches(draw: st.DrawFn) -> tuple[pipe.PublishBatch, list[tuple[str, list[tuple[str, str]], bytes]]]:
    bodies = draw(payloads)
    table = draw(st.lists(texts, min_size=1, max_size=3))
    indexed = draw(st.booleans())
    places = [draw(st.integers(0, len(table) - 1)) if indexed else 0 for _ in bodies]
    keys = texts.filter(bool)
    headers = draw(st.dictionaries(st.integers(0, len(bodies) - 1), st.lists(st.tuples(keys, texts), max_size=3)))
    batch = pipe.PublishBatch(stream="s", subjects=table, payloads=bodies)
    if indexed:
        batch.subject_index.extend(places)
    for index, pairs in headers.items():
        entry = batch.headers.add(index=index)
        for key, value in pairs:
            entry.headers.add(key=key, value=value)
    messages = [
        (table[place], headers.get(n, []), body) for n, (place, body) in enumerate(zip(places, bodies, strict=True))
    ]
    return batch, messages


@given(batches())
def test_a_batch_is_stored_as_its_messages_one_by_one_would_be(
    drawn: tuple[pipe.PublishBatch, list[tuple[str, list[tuple[str, str]], bytes]]],
) -> None:
    batch, messages = drawn
    encoded = [encode_body(subject, headers, payload, LIMITS) for subject, headers, payload in messages]
    request = publish_request(batch, LIMITS)
    assert request.stream == "s"
    assert request.subjects == [subject for subject, _, _ in messages]
    assert request.sizes == [size for _, size in encoded]
    assert request.lengths == [len(body) for body, _ in encoded]
    assert request.body == b"".join(body for body, _ in encoded)
    assert request.times_ms is None
    assert request.expected is None


def test_times_and_conditions_travel_as_they_are() -> None:
    batch = pipe.PublishBatch(
        stream="s", subjects=["a"], payloads=[b"1", b"2"], ts_ms=[0, 5], expected_last_seq=[-1, 0]
    )
    request = publish_request(batch, LIMITS)
    assert (request.times_ms, request.expected) == ([0, 5], [-1, 0])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"payloads": []}, Status.INVALID_ARGUMENT),
        ({"subjects": []}, Status.INVALID_ARGUMENT),
        ({"subject_index": [0]}, Status.INVALID_ARGUMENT),
        ({"subject_index": [0, 1]}, Status.INVALID_ARGUMENT),
        ({"ts_ms": [1]}, Status.INVALID_ARGUMENT),
        ({"expected_last_seq": [1]}, Status.INVALID_ARGUMENT),
        ({"headers": [pipe.HeadersAt(index=2)]}, Status.INVALID_ARGUMENT),
        ({"headers": [pipe.HeadersAt(index=1), pipe.HeadersAt(index=1)]}, Status.INVALID_ARGUMENT),
        ({"payloads": [b""] * (LIMITS.publish_batch_max + 1)}, Status.RESOURCE_EXHAUSTED),
    ],
)
def test_columns_that_do_not_fit_together_are_refused_unapplied(change: dict[str, object], status: Status) -> None:
    fields: dict[str, object] = {"stream": "s", "subjects": ["a"], "payloads": [b"1", b"2"]}
    with pytest.raises(RefusedError) as caught:
        publish_request(pipe.PublishBatch(**{**fields, **change}), LIMITS)  # type: ignore[arg-type]
    assert caught.value.refusal.status is status
    assert caught.value.refusal.outcome is not None


KiB = 1024
BAD_HEADERS: dict[str, list[tuple[str, str]]] = {
    "a key of the server": [("wmkv.op", "1")],
    "another key of the server": [("waymaker-source-x", "1")],
    "no key": [("", "1")],
    "73 of them": [(f"k{n}", "") for n in range(73)],
    "over 64 KiB": [("k", "x" * (64 * KiB))],
    "far over 64 KiB": [("k", "x" * (100 * KiB)), ("l", "y")],
    "more than can be looked at": [("k", "")] * 12_000,
}  # fmt: skip


BAD_HEADERS_STATUS = dict.fromkeys(list(BAD_HEADERS)[:3], Status.INVALID_ARGUMENT)


@pytest.mark.parametrize("bad", BAD_HEADERS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_bad_headers_keep_out_their_own_message_alone(bad: str, at: int) -> None:
    batch = pipe.PublishBatch(stream="s", subjects=["a", "b"], subject_index=[0, 1, 0], payloads=[b"0", b"", b"2"])
    good = (at + 1) % 3
    for index, pairs in ((at, BAD_HEADERS[bad]), (good, [("fine", "v")])):
        entry = batch.headers.add(index=index)
        for key, value in pairs:
            entry.headers.add(key=key, value=value)
    request, malformed = judged(batch, LIMITS)
    assert malformed[at].outcome is not None
    assert (list(malformed), malformed[at].status) == ([at], BAD_HEADERS_STATUS.get(bad, Status.RESOURCE_EXHAUSTED))
    kept = [n for n in range(3) if n != at]
    bodies = [encode_body("aba"[n], [("fine", "v")] if n == good else [], batch.payloads[n], LIMITS)[0] for n in kept]
    assert request is not None
    assert request.subjects == ["aba"[n] for n in kept]
    assert request.body == b"".join(bodies)
    assert request.lengths == list(map(len, bodies))


def test_headers_say_whose_they_are_wherever_they_say_it() -> None:
    batch = pipe.PublishBatch(stream="s", subjects=["a"], payloads=[b"0", b"1"])
    frame = parse_frame(pipe.Frame(publishes=[batch]).SerializeToString(), 10)
    first, second = b"\x12\x05\x0a\x01k\x12\x00" * 8_000, b"\x08\x01"
    frame.publishes[0].headers.append(first + second)
    request, malformed = columns.publish_request(frame.publishes[0], LIMITS)
    assert list(malformed) == [1]
    assert request is not None
    frame.publishes[0].headers[0] = b"\x12\x00" * 20_000 + second
    with pytest.raises(RefusedError, match="headers"):
        columns.publish_request(frame.publishes[0], LIMITS)


def test_numbers_out_of_range_keep_out_their_own_message_alone() -> None:
    batch = pipe.PublishBatch(
        stream="s", subjects=["a"], payloads=[b"0", b"1", b"2", b"3"], ts_ms=[5, -1, 0, 7],
        expected_last_seq=[-1, 0, -2, 9],
    )  # fmt: skip
    request, malformed = judged(batch, LIMITS)
    assert request is not None
    assert {n: refusal.status for n, refusal in malformed.items()} == dict.fromkeys((1, 2), Status.INVALID_ARGUMENT)
    assert (request.times_ms, request.expected, request.sizes) == ([5, 7], [-1, 9], [1, 1])
    assert judged(pipe.PublishBatch(subjects=["a"], payloads=[b""], ts_ms=[-1]), LIMITS)[0] is None


def test_acknowledgements_name_sequences_and_ranges() -> None:
    batch = pipe.AckBatch(stream="s", consumer="c", kind=pipe.NAK, seqs=[9, 2], delay_ms=7)
    batch.ranges.add(first=4, last=6)
    request = ack_request(batch, LIMITS)
    assert (request.kind, request.seqs, request.delay_ms) == (AckKind.NAK, [9, 2, 4, 5, 6], 7)


@pytest.mark.parametrize(
    ("batch", "status"),
    [
        (pipe.AckBatch(kind=pipe.ACK), Status.INVALID_ARGUMENT),
        (pipe.AckBatch(seqs=[1]), Status.INVALID_ARGUMENT),
        (pipe.AckBatch(kind=77, seqs=[1]), Status.INVALID_ARGUMENT),  # type: ignore[arg-type]
        (pipe.AckBatch(kind=pipe.ACK, ranges=[pipe.SeqRange(first=2, last=1)]), Status.INVALID_ARGUMENT),
        (pipe.AckBatch(kind=pipe.ACK, ranges=[pipe.SeqRange(first=0, last=2**64 - 1)]), Status.RESOURCE_EXHAUSTED),
        (pipe.AckBatch(kind=pipe.ACK, seqs=[1] * (LIMITS.ack_batch_max + 1)), Status.RESOURCE_EXHAUSTED),
    ],
)
def test_impossible_acknowledgements_are_refused_without_being_spelled_out(
    batch: pipe.AckBatch, status: Status
) -> None:
    with pytest.raises(RefusedError) as caught:
        ack_request(batch, LIMITS)
    assert caught.value.refusal.status is status


@pytest.mark.parametrize(
    ("numbers", "kept"),
    [([], None), ([5], [5, 7]), ([5, 7, 9], [5, 9]), ([1 << 63], [1 << 63, (1 << 63) + 2])],
)
def test_numbers_of_a_producer_are_one_a_message(numbers: list[int], kept: list[int] | None) -> None:
    batch = pipe.PublishBatch(
        stream="s", subjects=["a"], payloads=[b"x", b"y", b"z"], numbers=numbers, resent=True, ts_ms=[0, -1, 0]
    )
    frame = parse_frame(pipe.Frame(publishes=[batch]).SerializeToString(), 10)
    request, malformed = columns.publish_request(frame.publishes[0], LIMITS, (9, 2))
    assert list(malformed) == [1]
    assert request is not None
    if kept is None:
        assert request.producer is None
    else:
        assert request.producer is not None
        assert (request.producer.id, request.producer.epoch, request.producer.resent) == (9, 2, True)
        assert list(request.producer.numbers) == kept, "of the messages that are not malformed"
    if numbers:
        with pytest.raises(RefusedError, match="hello"):
            columns.publish_request(frame.publishes[0], LIMITS)


def test_numbers_that_do_not_fit_the_batch_are_refused() -> None:
    batch = pipe.PublishBatch(stream="s", subjects=["a"], payloads=[b"x", b"y", b"z"], numbers=[1, 2])
    frame = parse_frame(pipe.Frame(publishes=[batch]).SerializeToString(), 10)
    with pytest.raises(RefusedError, match="numbers has 2 entries for 3 messages"):
        columns.publish_request(frame.publishes[0], LIMITS, (9, 2))
