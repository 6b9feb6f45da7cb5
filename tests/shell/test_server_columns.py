"""Batches of the pipeline become the very bytes that single messages become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker.server import columns
from waymaker.server.guard import parse_frame
from waymaker_core.limits import Limits
from waymaker_core.message import encode_body
from waymaker_core.outcomes import RefusedError, Status
from waymaker_core.requests import Ack, AckKind, Publish
from waymaker_proto import pipeline_pb2 as pipe

LIMITS = Limits()


def publish_request(batch: pipe.PublishBatch, limits: Limits) -> Publish:
    """As the server does it: from the bytes of a frame."""
    return columns.publish_request(
        parse_frame(pipe.Frame(publishes=[batch]).SerializeToString(), 10).publishes[0], limits
    )


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
        ({"ts_ms": [1, -1]}, Status.INVALID_ARGUMENT),
        ({"expected_last_seq": [1]}, Status.INVALID_ARGUMENT),
        ({"expected_last_seq": [1, -2]}, Status.INVALID_ARGUMENT),
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


@pytest.mark.parametrize("key", ["waymaker-source-x", "wmkv.op", ""])
def test_headers_that_only_the_server_sets_are_refused_in_batches_too(key: str) -> None:
    batch = pipe.PublishBatch(stream="s", subjects=["a"], payloads=[b"1"])
    batch.headers.add(index=0).headers.add(key=key, value="1")
    with pytest.raises(RefusedError):
        publish_request(batch, LIMITS)


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
