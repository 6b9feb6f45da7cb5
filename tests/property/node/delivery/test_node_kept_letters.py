"""Dead letters that could not stay: nothing is dropped without a trace, and what is kept is told of; one sentence a test."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.node_kit import SMALL, Server, consumer_config
from waymaker_core.api import requests as rq
from waymaker_core.api.requests import AckKind
from waymaker_core.model.result_codes import Answer

LONG = "dead." + "x" * 60


def spend(server: Server, count: int) -> None:
    """Hand back what there is after its only attempt."""
    seqs = [seq for seq, _, _ in server.fetch(batch=count)]
    server.ack(*seqs, kind=AckKind.NAK)


def test_a_cap_that_keeps_the_last_dead_letter_only_is_refused() -> None:
    server = Server()
    server.create("s", max_msgs_per_subject=1)
    answer = server.call(rq.CreateConsumer("s", consumer_config("c", dead_letter_subject="dead")))
    assert isinstance(answer, Answer) and answer.code == "invalid_config"
    assert "max_msgs_per_subject" in answer.message
    server.consumer("s", "c")
    server.create("two", max_msgs_per_subject=2)
    server.consumer("two", "c", dead_letter_subject="dead")


def test_a_dead_letter_that_strict_limits_would_remove_at_once_keeps_its_message() -> None:
    server = Server()
    server.create("s", max_bytes=120, strict_limits=True)
    server.consumer("s", "c", max_deliver=1, dead_letter_subject=LONG, filter_subject="a")
    server.publish("s", b"x" * 100)
    spend(server, 1)
    server.pass_ms(5_000)
    assert server.all() == [(1, 0, b"x" * 100)]
    info = server.info()
    assert (info.redelivered_dropped, info.pending, info.ack_floor) == (0, 1, 0)
    assert server.fetch() == [], "it had all its attempts"
    assert server.node.stats.dead_letters_kept_back > 1
    assert [log.event for log in server.logs].count("dead_letters_kept_back") == 1
    server.restart()
    server.pass_ms(5_000)
    assert server.all() == [(1, 0, b"x" * 100)] and server.fetch() == []
    server.ok(rq.UpdateStream("s", max_bytes=1_000))
    assert [seq for seq, _, _ in server.all()] == [1, 2]
    assert server.info().redelivered_dropped == 1 and server.info().pending == 0


def test_what_is_kept_can_still_be_acknowledged() -> None:
    server = Server()
    server.create("s", max_bytes=120, strict_limits=True)
    server.consumer("s", "c", max_deliver=1, dead_letter_subject=LONG, filter_subject="a")
    server.publish("s", b"x" * 100)
    spend(server, 1)
    server.ack(1)
    assert server.info().pending == 0 and server.info().redelivered_dropped == 0


def test_what_is_kept_stands_in_nobody_else_s_way() -> None:
    server = Server()
    server.create("s", max_bytes=100_000, strict_limits=True)
    server.consumer("s", "c", max_deliver=1, dead_letter_subject=LONG, filter_subject="a")
    server.publish("s", b"x" * 99_990, b"y")
    server.publish("s", b"z")
    assert server.all()[0][0] == 1
    spend(server, 9)
    assert [payload for _, _, payload in server.all()][-2:] == [b"y", b"z"]
    assert server.info().redelivered_dropped == 2


def test_by_interest_a_dead_letter_that_nobody_asks_for_keeps_its_message() -> None:
    server = Server()
    server.create("s", retention="INTEREST", block_size=1)
    server.consumer("s", "c", max_deliver=1, dead_letter_subject="dead", filter_subject="a")
    server.publish("s", b"one")
    spend(server, 1)
    server.pass_ms(5_000)
    assert server.all() == [(1, 0, b"one")] and server.info().pending == 1
    server.consumer("s", "undertaker", filter_subject="dead")
    server.pass_ms(600)
    assert server.info().redelivered_dropped == 1
    assert server.all() == [(2, 0, b"one")]


@settings(max_examples=40)
@given(
    st.sampled_from([{"max_msgs_per_subject": 3}, {"max_msgs": 2}, {"max_bytes": 250}]),
    st.booleans(),
    st.integers(1, 12),
    st.integers(1, 5),
)
def test_no_commit_removes_a_dead_letter_that_it_writes(
    bounds: dict[str, int], strict: bool, count: int, block_size: int
) -> None:
    server = Server(replace(SMALL, block_size_default=block_size))
    retention = "WORK_QUEUE" if "max_msgs_per_subject" in bounds and strict else "LIMITS"
    server.create("s", retention=retention, strict_limits=strict and retention == "LIMITS", **bounds)
    server.consumer("s", "c", max_deliver=1, ack_wait_ms=1_000, dead_letter_subject="dead", filter_subject="a.>")
    written: list[int] = []
    stream = next(iter(server.node._state.replicas.values())).stream
    apply = stream.apply

    def watched(position: int, record: object, chunk: object) -> None:
        apply(position, record, chunk)  # type: ignore[arg-type]
        copies = getattr(record, "copies", None)
        if copies is not None:
            seqs = range(copies.first_seq, copies.first_seq + len(copies.subjects))
            assert all(map(stream.is_live, seqs)), "a dead letter went with the commit that wrote it"
            written.extend(seqs)

    stream.apply = watched  # type: ignore[method-assign]
    for number in range(count):
        server.publish("s", b"%d" % number * 20, subject=f"a.{number}")
    out = server.fetch(batch=count)
    server.pass_ms(1_001)
    server.pass_ms(1_001)
    assert server.info().redelivered_dropped == len(written)
    assert len(written) <= len(out)
