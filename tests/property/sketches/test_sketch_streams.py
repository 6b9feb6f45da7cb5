"""Sketches on a node: the same state as one sketch in one process, live, restarted, from checkpoints and from archives."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TypeVar

import pytest

from tests.kit.node_kit import SMALL, Server
from waymaker_core.api import requests as rq
from waymaker_core.api import sketch_requests as sq
from waymaker_core.api.inputs import Call, Lead, StepDown
from waymaker_core.layers.layer import FACT_BYTES_MAX, SKETCHES
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.sketches.answers import SketchAnswer
from waymaker_core.sketches.layer import SketchLayer
from waymaker_core.sketches.merging import merge
from waymaker_core.sketches.parameters import parameters_of
from waymaker_core.sketches.restoring import Sketch
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.storage.archive import Head

T = TypeVar("T")
NAME = "sketch:s"
KINDS = [
    b"bloom.100.10000000",
    b"hyperloglog.8",
    b"count_min.10000000.10000000",
    b"top_k.5.10000000.10000000",
    b"t_digest.20",
]
NUMBERS = [float(n * n % 97) for n in range(600)]
VALUES = [f"value {n * n % 61}".encode() for n in range(600)]


def parts(values: list[T]) -> list[list[T]]:
    return [values[at : at + 50] for at in range(0, len(values), 50)]


def server_with(settings: bytes, limits: Limits = SMALL, name: str = NAME, **more: bool) -> Server:
    server = Server(limits, **more)  # type: ignore[arg-type]
    server.ok(rq.CreateStream(StreamConfig(name, service_settings=settings)))
    return server


def layer_of(server: Server, name: str = NAME) -> SketchLayer:
    replica = next(each for each in server.node._state.replicas.values() if each.name == name)
    layer = replica.layers.by_kind[SKETCHES]
    assert isinstance(layer, SketchLayer)
    return layer


def batches(settings: bytes) -> list[sq.AddToSketch]:
    """Return requests that add all values, for a kind of sketch."""
    if settings.startswith(b"t_digest"):
        return [sq.AddToSketch(NAME, numbers=struct.pack(f"<{len(part)}d", *part)) for part in parts(NUMBERS)]
    return [sq.AddToSketch(NAME, list(part)) for part in parts(VALUES)]


def alone(settings: bytes) -> Sketch:
    """Return the sketch of the same batches in one process."""
    sketch = parameters_of(settings).make()
    for request in batches(settings):
        if isinstance(sketch, TDigest):
            sketch.add(struct.unpack(f"<{len(request.numbers) // 8}d", request.numbers))
        else:
            sketch.add(request.values)
    return sketch


def refusal(server: Server, request: rq.Request) -> Refusal:
    answer = server.call(request)
    assert isinstance(answer, Refusal), answer
    return answer


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("how", ["live", "kill", "lose_power", "restart", "checkpoint"])
def test_a_sketch_is_the_same_as_one_in_one_process(settings: bytes, how: str) -> None:
    limits = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=4 * KIB)
    server = server_with(settings, limits if how == "checkpoint" else SMALL)
    for request in batches(settings):
        server.ok(request)
    if how == "checkpoint":
        server.create("busy")
        done = server.node.stats.checkpoints
        while server.node.stats.checkpoints < done + 2:
            server.publish("busy", bytes(500))
        server.kill()
    elif how != "live":
        getattr(server, how)()
    assert layer_of(server).sketch.snapshot() == alone(settings).snapshot()
    assert layer_of(server).added == 600
    assert server.ok(sq.GetSketchSnapshot(NAME)) == alone(settings).snapshot()
    server.node.check()


@pytest.mark.parametrize("settings", KINDS)
def test_a_merge_is_that_of_the_structures_and_survives_a_crash(settings: bytes) -> None:
    server = server_with(settings)
    for request in batches(settings)[:6]:
        server.ok(request)
    first = layer_of(server).sketch.snapshot()
    server.ok(sq.MergeIntoSketch(NAME, alone(settings).snapshot()))
    expected = parameters_of(settings).make()
    for request in batches(settings)[:6]:
        if isinstance(expected, TDigest):
            expected.add(struct.unpack(f"<{len(request.numbers) // 8}d", request.numbers))
        else:
            expected.add(request.values)
    assert expected.snapshot() == first
    merge(expected, alone(settings))
    for _ in range(2):
        assert layer_of(server).sketch.snapshot() == expected.snapshot()
        server.kill()


def test_a_snapshot_larger_than_a_fact_is_merged_whole() -> None:
    settings = b"bloom.400000.1000000"
    limits = Limits()
    server = server_with(settings, limits)
    other = parameters_of(settings).make()
    assert not isinstance(other, TDigest)
    other.add(VALUES)
    assert len(other.snapshot()) > 2 * FACT_BYTES_MAX
    server.ok(sq.MergeIntoSketch(NAME, other.snapshot()))
    for _ in range(2):
        assert layer_of(server).sketch.snapshot() == other.snapshot()
        assert layer_of(server).pieces is None
        server.kill()


@pytest.mark.parametrize("settings", KINDS)
def test_an_archive_carries_a_sketch(settings: bytes) -> None:
    server = server_with(settings)
    for request in batches(settings):
        server.ok(request)
    head = server.ok(rq.ExportStream(NAME))
    assert isinstance(head, Head)
    id_ = server.ok(rq.ImportBegin("sketch:copy", head))
    assert isinstance(id_, int)
    server.ok(rq.ImportEnd(id_, True))
    for _ in range(2):
        assert layer_of(server, "sketch:copy").sketch.snapshot() == alone(settings).snapshot()
        assert layer_of(server, "sketch:copy").added == 600
        server.kill()


def test_what_only_a_leader_staged_is_forgotten_and_what_a_majority_has_is_applied() -> None:
    server = server_with(KINDS[1], replicated=True)
    server.ok(sq.AddToSketch(NAME, [b"a"]))
    server.starve(NAME)
    token = server.ask(sq.AddToSketch(NAME, [b"b"]))
    assert token not in server.replies
    log = server.log_id(NAME)
    server.step(StepDown(log))
    assert not layer_of(server).has_staged()
    server.feed()
    server.step(Lead(log))
    assert layer_of(server).added == 2


REFUSED = {
    "numbers for a sketch of bytes": (KINDS[1], sq.AddToSketch(NAME, numbers=bytes(8)), Status.INVALID_ARGUMENT),
    "bytes for a digest": (KINDS[4], sq.AddToSketch(NAME, [b"a"]), Status.INVALID_ARGUMENT),
    "nothing": (KINDS[1], sq.AddToSketch(NAME), Status.INVALID_ARGUMENT),
    "half a number": (KINDS[4], sq.AddToSketch(NAME, numbers=bytes(7)), Status.INVALID_ARGUMENT),
    "an infinity": (KINDS[4], sq.AddToSketch(NAME, numbers=struct.pack("<d", float("inf"))), Status.INVALID_ARGUMENT),
    "not a number": (KINDS[4], sq.AddToSketch(NAME, numbers=struct.pack("<d", float("nan"))), Status.INVALID_ARGUMENT),
    "a long candidate": (KINDS[3], sq.AddToSketch(NAME, [bytes(1_025)]), Status.INVALID_ARGUMENT),
    "too many values": (KINDS[1], sq.AddToSketch(NAME, [b""] * 10_001), Status.RESOURCE_EXHAUSTED),
    "too many bytes": (KINDS[1], sq.AddToSketch(NAME, [bytes(FACT_BYTES_MAX)]), Status.RESOURCE_EXHAUSTED),
    "no snapshot": (KINDS[1], sq.MergeIntoSketch(NAME, b"x"), Status.INVALID_ARGUMENT),
    "another kind": (KINDS[1], sq.MergeIntoSketch(NAME, alone(KINDS[0]).snapshot()), Status.INVALID_ARGUMENT),
    "other parameters": (
        KINDS[1],
        sq.MergeIntoSketch(NAME, alone(b"hyperloglog.9").snapshot()),
        Status.INVALID_ARGUMENT,
    ),
    "another question": (KINDS[1], sq.QuerySketch(NAME, sq.Question.TOP), Status.INVALID_ARGUMENT),
    "an empty digest": (
        KINDS[4],
        sq.QuerySketch(NAME, sq.Question.QUANTILES, numbers=bytes(8)),
        Status.INVALID_ARGUMENT,
    ),
    "too many questions": (
        KINDS[0],
        sq.QuerySketch(NAME, sq.Question.CONTAINS, [b""] * 10_001),
        Status.RESOURCE_EXHAUSTED,
    ),
}


@pytest.mark.parametrize(("settings", "request_", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_what_a_sketch_cannot_take_is_refused_and_changes_nothing(
    settings: bytes, request_: rq.Request, status: Status
) -> None:
    server = server_with(settings)
    before = layer_of(server).sketch.snapshot()
    assert refusal(server, request_).status is status
    assert layer_of(server).sketch.snapshot() == before
    assert not layer_of(server).has_staged()


def test_a_total_that_would_not_fit_counts_what_is_not_committed() -> None:
    server = server_with(KINDS[2])
    full = parameters_of(KINDS[2]).make()
    full.add_counts({b"a": (1 << 62)})  # type: ignore[union-attr]
    tokens = [server.token() for _ in range(3)]
    server.step(*[Call(Token(token), ANYONE, sq.MergeIntoSketch(NAME, full.snapshot())) for token in tokens])
    answers = [server.replies[token] for token in tokens]
    assert [isinstance(answer, Answer) for answer in answers] == [True, False, False]
    server.node.check()


def test_answers_are_those_of_the_sketch() -> None:
    server = server_with(KINDS[3])
    for request in batches(KINDS[3]):
        server.ok(request)
    sketch = alone(KINDS[3])
    found = server.ok(sq.QuerySketch(NAME, sq.Question.TOP, limit=3))
    assert isinstance(found, SketchAnswer)
    assert list(found.top) == sketch.top(3)  # type: ignore[union-attr]
    found = server.ok(sq.QuerySketch(NAME, sq.Question.COUNTS, [b"value 0", b"none"]))
    assert isinstance(found, SketchAnswer)
    assert list(found.counts) == sketch.counts.estimate([b"value 0", b"none"])  # type: ignore[union-attr]
    info = server.ok(sq.GetSketchInfo(NAME))
    assert isinstance(info, sq.SketchInfo)
    assert (info.parameters, info.added, info.ephemeral) == (KINDS[3].decode(), 600, False)


@pytest.mark.parametrize(
    "settings", [b"", b"hyperloglog", b"hyperloglog.3", b"hyperloglog.014", b"hyperloglog.14.1", b"moments.3", b"bloom.1.-1",
                 b"count_min.1.1000", b"hyperloglog.\xd9\xa1\xd9\xa4", b"bloom." + b"9" * 30 + b".1"],
)  # fmt: skip
def test_parameters_that_no_sketch_has_are_an_invalid_configuration(settings: bytes) -> None:
    answer = Server().call(rq.CreateStream(StreamConfig(NAME, service_settings=settings)))
    assert isinstance(answer, Answer)
    assert answer.code == "invalid_config"


def test_sketches_together_take_no_more_memory_than_allowed() -> None:
    server = server_with(b"hyperloglog.10", replace(SMALL, sketch_bytes_max=2_000))
    answer = server.call(rq.CreateStream(StreamConfig("sketch:t", service_settings=b"hyperloglog.10")))
    assert isinstance(answer, Refusal)
    assert answer.status is Status.RESOURCE_EXHAUSTED
    server.ok(rq.CreateStream(StreamConfig("sketch:t", service_settings=b"hyperloglog.9")))
    server.ok(rq.DeleteStream(NAME))
    server.ok(rq.CreateStream(StreamConfig(NAME, service_settings=b"hyperloglog.10")))


def test_the_settings_of_a_kind_are_a_text_that_gives_them_back() -> None:
    for settings in KINDS:
        assert parameters_of(settings).text.encode() == settings
        assert parameters_of(settings).memory_bytes() >= 100
