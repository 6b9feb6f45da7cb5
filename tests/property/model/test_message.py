"""Stored bodies against the contract's own encoder and decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.model.limits import SEQ_MAX, U64_MAX, Limits
from waymaker_core.model.message_codec import (
    decode_body,
    encode_body,
    encode_headers,
    plain_body,
    read_varint,
    readdress,
    varint,
    wire_message,
)
from waymaker_core.model.result_codes import RefusedError, Status
from waymaker_proto.waymaker_streams_pb2 import MessageHeader, MessagePb

LIMITS = Limits()
text = st.text(st.characters(codec="utf-8"), max_size=200)
keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(
    lambda key: not key.lower().startswith(("waymaker-source-", "wmkv.", "x-waymaker-dlq-"))
)
headers = st.lists(st.tuples(keys, text), max_size=10)
subjects = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)


def parsed(body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
    message = MessagePb.FromString(body)
    return message.subject, [(h.key, h.value) for h in message.headers], message.payload


@given(subjects, st.binary(max_size=300))
def test_a_body_without_headers_is_the_one_that_a_message_becomes(subject: str, payload: bytes) -> None:
    assert plain_body(subject, payload) == encode_body(subject, [], payload, LIMITS)[0]


@given(st.integers(0, U64_MAX))
def test_a_varint_reads_back(value: int) -> None:
    encoded = varint(value)
    assert read_varint(b"x" + encoded + b"y", 1) == (value, 1 + len(encoded))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10, b"\xff" * 11 + b"\x01"])
def test_a_truncated_or_overlong_varint_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="varint"):
        read_varint(data, 0)


@given(subjects, headers, st.binary(max_size=5000))
def test_a_stored_body_is_the_contracts_own_encoding(
    subject: str, pairs: list[tuple[str, str]], payload: bytes
) -> None:
    body, size = encode_body(subject, pairs, payload, LIMITS)
    entries = [MessageHeader(key=k, value=v) for k, v in pairs]
    reference = MessagePb(subject=subject, headers=entries, payload=payload)
    assert parsed(body) == parsed(reference.SerializeToString())
    assert decode_body(body) == (subject, pairs, payload)
    assert size == len(payload) + sum(len(k.encode()) + len(v.encode()) for k, v in pairs)


@given(subjects, headers, st.binary(max_size=300), subjects, headers)
def test_readdressing_changes_the_subject_and_adds_headers_only(
    subject: str, pairs: list[tuple[str, str]], payload: bytes, other: str, extra: list[tuple[str, str]]
) -> None:
    body = encode_body(subject, pairs, payload, LIMITS)[0]
    got_subject, got_headers, got_payload = parsed(readdress(body, other, extra))
    assert (got_subject, got_payload) == (other, payload)
    assert sorted(got_headers) == sorted(pairs + extra)


@given(st.integers(1, SEQ_MAX), st.integers(0, SEQ_MAX), subjects, st.binary(max_size=200), st.integers(0, 1 << 31))
def test_a_wire_message_parses_to_what_went_in(
    seq: int, time_ms: int, subject: str, payload: bytes, count: int
) -> None:
    body = encode_body(subject, [], payload, LIMITS)[0]
    message = MessagePb.FromString(wire_message(seq, time_ms, body, count))
    assert (message.seq, message.ts_ms, message.deliver_count) == (seq, time_ms, count)
    assert (message.subject, message.payload) == (subject, payload)


@given(st.binary(max_size=100))
def test_garbage_decodes_or_is_refused_and_nothing_else(data: bytes) -> None:
    try:
        decode_body(data)
    except ValueError:
        pass


@pytest.mark.parametrize("key", ["waymaker-source-stream", "wmkv.tombstone", "Waymaker-Source-X", "WMKV.", "wMkV.x"])
def test_a_client_cannot_forge_a_servers_header(key: str) -> None:
    with pytest.raises(RefusedError, match=key.replace(".", r"\.")) as caught:
        encode_headers([(key, "x")], LIMITS)
    assert caught.value.refusal.status is Status.INVALID_ARGUMENT


def test_dead_letter_headers_are_left_out_and_count_for_nothing() -> None:
    fields, size = encode_headers([("x-waymaker-dlq-seq", "9" * 70_000), ("a", "b")] * 72, LIMITS)
    assert size == 2 * 72
    assert len(decode_body(fields)[1]) == 72
    assert encode_headers([("X-Waymaker-DLQ-Seq", "9"), ("X-WAYMAKER-DLQ-", "")], LIMITS) == (b"", 0)


@pytest.mark.parametrize(("pairs", "word"), [([("k", "v")] * 73, "72 headers"), ([("k", "v" * 65_536)], "65537 bytes")])
def test_too_many_or_too_large_headers_are_over_a_limit(pairs: list[tuple[str, str]], word: str) -> None:
    with pytest.raises(RefusedError, match=word) as caught:
        encode_headers(pairs, LIMITS)
    assert caught.value.refusal.status is Status.RESOURCE_EXHAUSTED
