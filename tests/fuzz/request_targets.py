"""Targets for what clients send: subjects and filters, unary requests, frames of the pipeline."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError

from tests.fuzz.target import Target
from waymaker.server.grpc.collection_rpcs import COLLECTION_RPCS
from waymaker.server.grpc.kv_rpcs import KV_RPCS
from waymaker.server.grpc.metadata import Metadata
from waymaker.server.grpc.rpcs import PREVIEW_UPDATE, UNARY, Serving
from waymaker.server.grpc.sketch_rpcs import SKETCH_RPCS
from waymaker.server.pipeline.key_columns import key_columns
from waymaker.wire.batches import ack_request, publish_request
from waymaker.wire.guard import parse_frame, within
from waymaker_core.api.kv_requests import KvWrite
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body
from waymaker_core.model.result_codes import CodeError, RefusedError
from waymaker_core.model.subjects import (
    Pattern,
    SubjectFilter,
    covers,
    first_overlap,
    is_pattern,
    overlap,
    subject_bytes,
)
from waymaker_proto import pipeline_pb2 as pipe
from waymaker_proto import waymaker_streams_pb2 as pb

LIMITS = Limits()
SERVING = Serving(LIMITS, 1)

# ---------------------------------------------------------------- subjects


def subject_seeds() -> list[bytes]:
    """A subject and patterns, a line each."""
    return [
        text.encode()
        for text in (
            "a.b.c\na.*.c\na.>\n>",
            "orders.1\norders.*\norders.1",
            "x\n*\n*.*\nx.>",
            "é.ß\n*.ß\né.>",
            "a..b\n.a\na.\n*.>",
        )
    ]


def run_subjects(data: bytes) -> None:
    """Matching agrees with the definition, token by token; what cannot be a subject or a pattern is told apart."""
    subject, *patterns = data.decode(errors="surrogateescape").split("\n")[:12]
    literal = subject_bytes(subject, LIMITS) > 0
    valid = [pattern for pattern in patterns if is_pattern(pattern, LIMITS)]
    if literal:
        assert is_pattern(subject, LIMITS), "every subject is a pattern"
        assert Pattern(subject).literal
        assert not set(subject) & set("*> \0")
        for pattern in valid:
            assert Pattern(pattern).matches(subject) == _selects(pattern, subject), (pattern, subject)
            assert overlap(pattern, subject) == _selects(pattern, subject)
            assert covers(pattern, subject) == _selects(pattern, subject)
        selected = any(_selects(pattern, subject) for pattern in valid)
        assert SubjectFilter(valid).accepts(subject) == (selected or not valid)
    pairs = [(a, b) for index, a in enumerate(valid) for b in valid[index + 1 :] if overlap(a, b)]
    assert (first_overlap(valid) is not None) == bool(pairs)


def _selects(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > place
        if place >= len(tokens) or token not in ("*", tokens[place]):
            return False
    return len(wanted) == len(tokens)


# ---------------------------------------------------------------- requests


RPCS = (
    *UNARY.values(), PREVIEW_UPDATE, *KV_RPCS.values(), *COLLECTION_RPCS.values(), *SKETCH_RPCS.values(),
)  # fmt: skip


def request_seeds() -> list[bytes]:
    """A few requests with fields of every kind, behind the number of their RPC."""
    config = pb.StreamConfigPb(
        name="s",
        subjects_filter=["a.>", "b"],
        block_size=10,
        retention=pb.Retention(limits=pb.LimitsRetention(max_msgs=5)),
    )
    headers = [pb.MessageHeader(key="k", value="v"), pb.MessageHeader(key="x-waymaker-dlq-a", value="")]
    samples = {
        "CreateStream": pb.CreateStreamRequest(config=config),
        "Publish": pb.PublishRequest(
            stream="s", subject="a.b", headers=headers, payload=b"x", expected_last_seq=3, ts_ms=5
        ),
        "CreateConsumer": pb.CreateConsumerRequest(
            stream="s", config=pb.ConsumerConfigPb(name="c", delivery_policy=pb.DeliveryPolicyPb(start_seq=1))
        ),
        "UpdateStream": pb.UpdateStreamRequest(name="s", max_msgs=5, strict_limits=True),
        "Nak": pb.NakRequest(stream="s", consumer="c", seq=1, delay_ms=4),
        "Fetch": pb.FetchRequest(stream="s", consumer="c", batch_size=3),
        "Put": pb.KvPutRequest(bucket="b", key="a.b", value=b"v", ttl_ms=5),
        "Update": pb.KvUpdateRequest(bucket="b", key="a.b", value=b"v", expected_revision=5),
        "History": pb.KvHistoryRequest(bucket="b", key="a.b", from_revision=1, limit=2),
        "HashSet": pb.HashSetRequest(bucket="b", hash_key="h", field="f", value=b"v"),
    }
    numbers = {rpc.name: number for number, rpc in enumerate(RPCS)}
    seeds = [bytes([number]) for number in range(len(RPCS))]
    return seeds + [bytes([numbers[name]]) + sample.SerializeToString() for name, sample in samples.items()]


def run_request(data: bytes) -> None:
    """A request is refused with a code or a status, or becomes the core's; the guard never refuses what is small and valid."""
    if not data:
        return
    rpc = RPCS[data[0] % len(RPCS)]
    small = within(data[1:], rpc.request.DESCRIPTOR)
    request: object = None
    with suppress(RefusedError, CodeError):
        request = rpc.parse(data[1:], Metadata(), SERVING)
    if request is not None and rpc.name == "Publish":
        subject, _, _ = decode_body(request.body)  # type: ignore[attr-defined]
        assert subject == request.subjects[0]  # type: ignore[attr-defined]
    if small:
        with suppress(DecodeError):
            rpc.request.FromString(data[1:])


# ---------------------------------------------------------------- frames


def frame_seeds() -> list[bytes]:
    """Frames with everything that clients send."""
    frame = pipe.Frame(hello=pipe.Hello(version=1, client="c"), unsubscribes=[1])
    frame.calls.add(id=1, method="Publish", request=b"\x0a\x01s", after="a", limit=9)
    batch = frame.publishes.add(
        id=2, stream="s", subjects=["a", "b"], subject_index=[0, 1], payloads=[b"x", b""], ts_ms=[0, 5],
        expected_last_seq=[-1, 7],
    )  # fmt: skip
    batch.headers.add(index=1).headers.add(key="k", value="v")
    frame.acks.add(id=3, stream="s", consumer="c", kind=pipe.NAK, seqs=[4], delay_ms=5).ranges.add(first=6, last=9)
    frame.subscribes.add(id=4, stream="s", consumer="c", batch_size=5, credit_messages=6, credit_bytes=10)
    frame.credits.add(subscription=4, messages=1, bytes=2)
    frame.key_batches.add(
        id=5,
        bucket="b",
        calls=[pipe.KEY_PUT, pipe.KEY_UPDATE],
        keys=["a", "b"],
        values=[b"1", b""],
        expected=[0, 7],
        ttl_ms=[9, 0],
    )
    frame.key_batches.add(id=6, bucket="b", calls=[pipe.KEY_GET], keys=["a", "b"])
    small = pipe.Frame()
    small.publishes.add(id=1, stream="s", subjects=["a"], payloads=[b"1", b"2", b"3"])
    return [frame.SerializeToString(), small.SerializeToString()]


def frame_of(data: bytes, **bounds: int) -> Any:
    """The frame, or None where it is refused."""
    try:
        return parse_frame(data, 100, **bounds)
    except (DecodeError, ValueError):
        return None


def run_frame(data: bytes) -> None:
    """A frame is refused, or its batches become columns that fit together."""
    frame = frame_of(data)
    counted = frame_of(data, walked_bytes_min=-1)
    assert counted is None or counted == frame, "counting only ever refuses"
    if frame is None:
        return
    for batch in frame.publishes:
        with suppress(RefusedError):
            request, malformed = publish_request(batch, LIMITS)
            assert all(index < len(batch.payloads) for index in malformed)
            payloads = [payload for index, payload in enumerate(batch.payloads) if index not in malformed]
            if request is None:
                assert not payloads
                continue
            assert len(request.subjects) == len(request.sizes) == len(request.lengths) == len(payloads)
            assert sum(request.lengths) == len(request.body)
            at = 0
            for subject, length, payload in zip(request.subjects, request.lengths, payloads, strict=True):
                assert decode_body(request.body[at : at + length])[::2] == (subject, payload)
                at += length
    for keys in frame.key_batches:
        with suppress(RefusedError):
            key_request = key_columns(keys).request()
            assert key_request.keys == list(keys.keys)
            if isinstance(key_request, KvWrite):
                assert len(key_request.ops) == len(key_request.lengths) == len(key_request.keys)
                assert sum(key_request.lengths) == len(key_request.body)
    for ack in frame.acks:
        with suppress(RefusedError):
            assert 0 < len(ack_request(ack, LIMITS).seqs) <= LIMITS.ack_batch_max


VARINTS = (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff" * 11)

TARGETS = (
    Target(
        "subjects", subject_seeds, run_subjects, (b"*", b">", b".", b"\n", b"\xff", b" ", b"\0", b"\xc2\x85", b"a.*.>")
    ),
    Target("request", request_seeds, run_request, VARINTS),
    Target("frame", frame_seeds, run_frame, VARINTS),
)
