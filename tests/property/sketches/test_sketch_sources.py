"""Sketches with sources: each message of a source is counted once, whatever stops; what has no item is told and passed over."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.node_kit import SMALL, publish
from tests.kit.source_kit import SourceServer, source
from tests.property.node.handlers.test_node_archives import export, put_back
from waymaker_core.api import requests as rq
from waymaker_core.api import sketch_requests as sq
from waymaker_core.api.inputs import Lead, StepDown
from waymaker_core.layers.layer import FACT_BYTES_MAX, SKETCHES
from waymaker_core.model.config import SourceConfig, StreamConfig
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.message_codec import encode_body, payload_of
from waymaker_core.model.result_codes import Answer
from waymaker_core.sketches.answers import SketchAnswer
from waymaker_core.sketches.count_min import TOTAL_MAX
from waymaker_core.sketches.errors import BadParameters
from waymaker_core.sketches.items import Item, Part, item_of, take_items
from waymaker_core.sketches.layer import SketchLayer
from waymaker_core.sketches.parameters import parameters_of
from waymaker_core.sketches.snapshot_format import Kind, packed
from waymaker_core.sketches.t_digest import TDigest

NAME = "sketch:s"
PAYLOADS = [b"%d.5e-1" % (n * n % 97) if n % 7 else b"none" for n in range(120)]
SUBJECTS = [f"a.{n % 11}" if n % 5 else "a" for n in range(120)]
SETTINGS = [
    b"count_min.10000000.10000000",
    b"count_min.10000000.10000000/subject",
    b"count_min.10000000.10000000/payload",
    b"count_min.10000000.10000000/token.2",
    b"t_digest.20",
    b"t_digest.20/token.2",
    b"hyperloglog.8/payload",
    b"bloom.100.10000000/token.1",
]


def counting(settings: bytes, *sources: SourceConfig, limits: Limits = SMALL, **more: bool) -> SourceServer:
    """Return a server with the source `a` and a sketch of it."""
    server = SourceServer(limits, **more)  # type: ignore[arg-type]
    server.create("a")
    server.ok(rq.CreateStream(StreamConfig(NAME, service_settings=settings, sources=sources or (source(),))))
    return server


def info(server: SourceServer, name: str = NAME) -> sq.SketchInfo:
    value = server.ok(sq.GetSketchInfo(name))
    assert isinstance(value, sq.SketchInfo)
    return value


def snapshot(server: SourceServer, name: str = NAME) -> bytes:
    value = server.ok(sq.GetSketchSnapshot(name))
    assert isinstance(value, bytes)
    return value


def stored(server: SourceServer) -> int:
    value = server.ok(rq.GetStreamInfo(NAME))
    assert isinstance(value, rq.StreamInfo)
    return value.stats.msg_count


def ask(server: SourceServer, question: sq.Question, *values: bytes, numbers: bytes = b"") -> SketchAnswer:
    answer = server.ok(sq.QuerySketch(NAME, question, list(values), numbers))
    assert isinstance(answer, SketchAnswer)
    return answer


def send_all(server: SourceServer, start: int = 0, end: int = 120) -> None:
    for at in range(start, end, 10):
        server.ok(publish("a", *zip(SUBJECTS[at : at + 10], PAYLOADS[at : at + 10], strict=True)))


def expected(settings: bytes) -> tuple[bytes, int, int]:
    """Return the sketch of all messages in one process, how many were added, and how many have no item."""
    sketch = parameters_of(settings).make()
    text = settings.partition(b"/")[2]
    parts: list[bytes | None] = []
    for subject, payload in zip(SUBJECTS, PAYLOADS, strict=True):
        tokens = subject.split(".")
        if text == b"payload" or (not text and isinstance(sketch, TDigest)):
            parts.append(payload)
        elif text.startswith(b"token"):
            number = int(text[6:])
            parts.append(tokens[number - 1].encode() if len(tokens) >= number else None)
        else:
            parts.append(subject.encode())
    there = [part for part in parts if part is not None]
    if isinstance(sketch, TDigest):
        there = [part for part in there if part != b"none"]
        sketch.add(list(map(float, there)))
    else:
        sketch.add(there)
    return sketch.snapshot(), len(there), len(parts) - len(there)


# ---------------------------------------------------------------- counting


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("how", ["live", "kill", "lose_power", "restart", "checkpoint", "deposed", "archive"])
def test_each_message_is_counted_once(settings: bytes, how: str) -> None:
    limits = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=4 * KIB)
    server = counting(settings, limits=limits if how == "checkpoint" else SMALL)
    name = NAME
    send_all(server, 0, 60)
    if how == "checkpoint":
        server.create("busy")
        done = server.node.stats.checkpoints
        while server.node.stats.checkpoints < done + 2:
            server.publish("busy", bytes(500))
        server.kill()
    elif how == "deposed":
        server.step(StepDown(server.log_id(NAME)))
        send_all(server, 60, 80)
        server.step(Lead(server.log_id(NAME)))
        send_all(server, 80, 120)
    elif how == "archive":
        head, batches = export(server, NAME)
        name = "sketch:again"
        put_back(server, name, head, batches)
    elif how != "live":
        getattr(server, how)()
    if how != "deposed":
        send_all(server, 60, 120)
    found = info(server, name)
    assert (snapshot(server, name), found.added, found.skipped) == expected(settings)
    assert found.sources[0].last_sourced_seq == 120
    server.node.check()


def test_a_sketch_of_what_was_there_before_takes_many_at_a_time() -> None:
    server = SourceServer(SMALL)
    server.create("a")
    send_all(server)
    records = server.node.stats.calls
    server.ok(rq.CreateStream(StreamConfig(NAME, service_settings=SETTINGS[4], sources=(source(),))))
    assert (snapshot(server), info(server).added, info(server).skipped) == expected(SETTINGS[4])
    assert server.node.stats.calls <= records + 4, "nothing calls for each message"
    assert not stored(server), "a sketch keeps no messages"


def test_filters_transforms_and_several_sources_are_heeded() -> None:
    server = counting(
        b"count_min.10000000.10000000/token.1",
        source(filter_subject="x.*", rule=("x.*", "{{wildcard(1)}}")),
        source("b"),
    )
    server.create("b")
    server.ok(publish("a", ("x.one", b""), ("y.two", b""), ("x.one", b"")))
    server.ok(publish("b", ("two.three", b"")))
    assert list(ask(server, sq.Question.COUNTS, b"one", b"two", b"x").counts) == [2, 1, 0]
    assert [status.last_sourced_seq for status in info(server).sources] == [3, 1]


def test_what_the_transform_does_not_take_is_skipped() -> None:
    server = counting(b"count_min.10000000.10000000/payload", source(rule=("x.*", "{{wildcard(1)}}")))
    server.ok(publish("a", ("x.one", b"1"), ("other", b"2"), ("x.two", b"3")))
    assert (info(server).added, info(server).skipped) == (2, 1)
    assert "message 2 is not counted: subject 'other' does not match" in server.status(NAME).last_error


def test_what_does_not_parse_is_told_counted_and_written_about() -> None:
    server = counting(b"t_digest.20", source(dlq_stream="letters"))
    server.create("letters")
    for text in (b"1", b"", b"nan", b"inf", b"1e999", b"1_0", b"0x1", b" 2.5e0 ", b"9" * 401, b"\xff", b"-3"):
        server.ok(publish("a", ("x", text)))
    found = info(server)
    assert (found.added, found.skipped, found.item) == (3, 8, "payload")
    assert ask(server, sq.Question.QUANTILES, numbers=bytes(8)).numbers == packed([-3.0])
    letters = [json.loads(copy.payload) for copy in server.copies("letters")]
    assert [letter["seq"] for letter in letters] == [2, 3, 4, 5, 6, 7, 9, 10]
    assert "is not a finite decimal number" in letters[0]["error"]
    assert "is not counted" in server.status(NAME).last_error
    server.kill()
    assert (info(server).added, info(server).skipped) == (3, 8)


def test_values_that_are_too_long_are_skipped_and_large_ones_go_in_several_records() -> None:
    server = counting(b"top_k.3.10000000.10000000/payload", limits=Limits())
    server.ok(publish("a", ("x", bytes(1_024)), ("x", bytes(1_025))))
    assert (info(server).added, info(server).skipped) == (1, 1)
    server.ok(rq.CreateStream(StreamConfig("sketch:h", service_settings=b"hyperloglog.8/payload", sources=(source(),))))
    server.ok(publish("a", *[("x", b"%d" % number + bytes(100 * KIB)) for number in range(9)]))
    server.ok(publish("a", ("x", bytes(FACT_BYTES_MAX))))
    assert (info(server, "sketch:h").added, info(server, "sketch:h").skipped) == (11, 1)
    assert info(server, "sketch:h").sources[0].last_sourced_seq == 12


def test_a_total_that_is_full_is_waited_for_and_told() -> None:
    server = counting(b"count_min.10000000.10000000", limits=Limits())
    replica = next(each for each in server.node._state.replicas.values() if each.name == NAME)
    layer = replica.layers.by_kind[SKETCHES]
    assert isinstance(layer, SketchLayer)
    full = layer.total
    layer.total = lambda: TOTAL_MAX  # type: ignore[method-assign]
    server.send("a", 3)
    server.pass_ms(20_000)
    assert "the total would be" in server.status(NAME).last_error
    assert info(server).added == 0
    layer.total = full  # type: ignore[method-assign]
    server.pass_ms(20_000)
    assert (info(server).added, server.status(NAME).last_error) == (3, "")


def test_clients_add_and_merge_beside_the_sources() -> None:
    server = counting(b"count_min.10000000.10000000")
    server.send("a", 3)
    server.ok(sq.AddToSketch(NAME, [b"x.y"]))
    server.ok(sq.MergeIntoSketch(NAME, snapshot(server)))
    assert list(ask(server, sq.Question.COUNTS, b"x.y").counts) == [8]


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "sourced", "reason"),
    [
        (b"hyperloglog.8/nothing", True, "item is subject, payload or token.<n>"),
        (b"hyperloglog.8/token.0", True, "n from 1"),
        (b"hyperloglog.8/token.1001", True, "n from 1"),
        (b"hyperloglog.8/token", True, "n from 1"),
        (b"hyperloglog.8/", True, "item is"),
        (b"t_digest.20/subject", True, "item is payload or token.<n>"),
        (b"hyperloglog.8/payload", False, "name sources, or no item"),
    ],
)
def test_items_that_cannot_be_meant_are_refused(settings: bytes, sourced: bool, reason: str) -> None:
    server = SourceServer(SMALL)
    sources = (source(),) if sourced else ()
    answer = server.call(rq.CreateStream(StreamConfig(NAME, service_settings=settings, sources=sources)))
    assert isinstance(answer, Answer) and answer.code == "invalid_config"
    assert reason in answer.message


@pytest.mark.parametrize("name", ["obj:b", "kv:b", "hash:b", "set:b", "queue:b"])
def test_other_services_have_no_sources(name: str) -> None:
    server = SourceServer(SMALL)
    answer = server.call(rq.CreateStream(StreamConfig(name, sources=(source(),))))
    assert isinstance(answer, Answer) and answer.code == "invalid_config" and "no sources" in answer.message


def test_an_item_is_read_as_it_is_written() -> None:
    for item in (Item(Part.SUBJECT), Item(Part.PAYLOAD), Item(Part.TOKEN, 3)):
        assert item_of(b"hyperloglog.8/" + item.text.encode(), Kind.HYPERLOGLOG) == item
    assert item_of(b"hyperloglog.8", Kind.HYPERLOGLOG) == Item(Part.SUBJECT)
    assert item_of(b"t_digest.20", Kind.T_DIGEST) == Item(Part.PAYLOAD)
    with pytest.raises(BadParameters):
        item_of(b"t_digest.20/subject", Kind.T_DIGEST)


@given(st.binary(max_size=300), st.lists(st.tuples(st.text("ab", min_size=1), st.text("cd")), max_size=3))
def test_the_payload_of_a_body_is_what_was_put_in(payload: bytes, headers: list[tuple[str, str]]) -> None:
    body, _ = encode_body("a.b", headers, payload, Limits())
    assert payload_of(body) == payload


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_each_number_is_taken_as_it_was_written(number: float) -> None:
    body, _ = encode_body("a", (), repr(number).encode(), Limits())
    found = take_items(Item(Part.PAYLOAD), Kind.T_DIGEST, ["a"], [body])
    assert not found.skipped
    assert found.added[1:] == packed([number])
