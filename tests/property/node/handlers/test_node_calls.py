"""Calls that must wait: for an index, for room, for their turn. Order is kept and nobody is forgotten."""

from __future__ import annotations

from dataclasses import replace

from tests.kit.node_kit import SMALL, Server, publish
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call
from waymaker_core.model.disk_ops import FailureKind, ReadChunk
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import ANYONE, Token

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, index_cache_bytes=1)


def cold() -> Server:
    """A stream of exact size whose indexes are on disk and not in memory."""
    server = Server(TINY)
    server.create("s", block_size=5, max_msgs_per_subject=30)
    server.consumer("s", "c")
    for number in range(200):
        server.publish("s", number.to_bytes(4, "big") * 20, subject=f"s.{number % 10}")
    server.kill()
    server.pass_ms(3_000)
    return server


def index_jobs(play: Play) -> list[int]:
    return [number for number, job in play.jobs.items() if all(isinstance(op, ReadChunk) for op in job.ops)]


def test_publishes_keep_their_order_while_an_index_is_read() -> None:
    server = cold()
    with Play(server) as play:
        play.tell(
            (1001, publish("s", ("s.1", b"first"))),
            (1002, publish("s", ("s.2", b"second"), ("s.3", b"third"))),
            (1003, rq.UpdateStream("s", max_msg_bytes=9_999)),
            (1004, publish("s", ("s.4", b"fourth"))),
        )
        assert index_jobs(play), "the decision needs indexes that are not resident"
        assert server.node.stats.parked_calls == 4
        while play.jobs:
            play.done(min(play.jobs))
        replies = [line for line in play.lines if line.startswith("reply")]
        play.lines.clear()
        assert replies == [
            "reply 1001 ok published 201..201",
            "reply 1002 ok published 202..203",
            "reply 1003 ok",
            "reply 1004 ok published 204..204",
        ]
    assert server.node.stats.parked_calls == 0
    assert server.node.stats.inflight_bytes == 0


def test_a_long_queue_is_asked_without_growing_the_stack() -> None:
    server = cold()
    with Play(server) as play:
        play.tell(*[(1_000 + number, publish("s", ("s.1", b"x"))) for number in range(3_000)])
        assert server.node.stats.parked_calls == 3_000
        while play.jobs:
            play.done(min(play.jobs))
        replies = [int(line.split()[1]) for line in play.lines if line.startswith("reply")]
        play.lines.clear()
        assert replies == list(range(1_000, 4_000))


def test_reads_do_not_wait_for_parked_publishes() -> None:
    server = cold()
    with Play(server) as play:
        play.tell((1001, publish("s", ("s.1", b"first"))), (1002, rq.GetStreamInfo("s")))
        assert "reply 1002 ok" in play.lines
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()


def test_an_index_that_cannot_be_read_answers_the_head_and_asks_the_next() -> None:
    server = cold()
    with Play(server) as play:
        play.tell((1001, publish("s", ("s.1", b"first"))), (1002, publish("s", ("s.2", b"second"))))
        jobs = index_jobs(play)
        play.fail(jobs[0], FailureKind.IO, ReadChunk)
        while play.jobs:
            play.done(min(play.jobs))
        replies = sorted(line for line in play.lines if line.startswith("reply"))
        play.lines.clear()
        assert replies == ["reply 1001 refused DATA_LOSS not-applied", "reply 1002 ok published 201..201"]
    assert server.node.stats.parked_calls == 0


def test_a_stream_deleted_while_calls_wait_answers_them_all() -> None:
    server = cold()
    with Play(server) as play:
        play.tell(
            (1001, publish("s", ("s.1", b"first"))),
            (1002, publish("s", ("s.2", b"second"))),
            (1003, rq.ScanSubject("s", "s.1", 0, 100)),
            (1004, rq.DeleteStream("s")),
        )
        journal = [number for number, job in play.jobs.items() if job.lane.name == "JOURNAL"]
        play.done(journal[0])
        while play.jobs:
            play.done(min(play.jobs))
        replies = {line.split()[1]: " ".join(line.split()[2:]) for line in play.lines if line.startswith("reply")}
        play.lines.clear()
        assert replies == dict.fromkeys(("1001", "1002", "1003"), "no_such_stream") | {"1004": "ok"}
    assert server.node.stats.parked_calls == 0
    assert server.node.stats.inflight_bytes == 0


def test_more_than_the_journal_has_room_for_at_once_is_put_off_and_done() -> None:
    server = Server(TINY)
    server.create("s")
    tokens = [Token(server.token()) for _ in range(200)]
    server.step(*[Call(token, ANYONE, publish("s", ("a", bytes(500)))) for token in tokens])
    firsts = []
    for token in tokens:
        answer = server.replies[token]
        assert isinstance(answer, Answer)
        assert isinstance(answer.value, rq.Published)
        firsts.append(answer.value.first_seq)
    assert firsts == list(range(1, 201)), "one caller's publishes are stored in the order in which they came"


def test_a_message_longer_than_a_segment_is_stored() -> None:
    server = Server(TINY)
    server.create("s")
    server.publish("s", b"small")
    server.publish("s", bytes(30_000))
    server.publish("s", b"small")
    server.kill()
    assert [len(payload) for _, _, payload in server.all()] == [5, 30_000, 5]


def test_a_flood_is_pushed_back_and_nothing_is_half_done() -> None:
    server = Server(
        replace(SMALL, inflight_bytes_max=20_000, message_bytes_max=10_000, publish_batch_bytes_max=20_000,
                header_bytes_max=1_000, parked_calls_max=5)
    )  # fmt: skip
    server.create("s")
    tokens = [Token(server.token()) for _ in range(60)]
    server.step(*[Call(token, ANYONE, publish("s", ("a", bytes(1_000)))) for token in tokens])
    answers = [server.replies[token] for token in tokens]
    stored = [answer for answer in answers if isinstance(answer, Answer)]
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert refused
    assert {answer.status for answer in refused} == {Status.RESOURCE_EXHAUSTED}
    assert server.stats().msg_count == len(stored)
    assert server.node.stats.inflight_bytes == 0
    assert server.publish("s", b"later").first_seq == len(stored) + 1


def test_absurd_numbers_are_refused_and_change_nothing() -> None:
    server = Server()
    server.create("s")
    server.consumer("s", "c")
    for request in (
        rq.Fetch("s", "c", -1), rq.Fetch("s", "c", 10_001), rq.ListStreams("", 10_001), rq.ListStreams("", -1),
        rq.ScanSubject("s", "a", 0, -5), rq.ReadRange("s", 0, 10_001), rq.ListSubjects("s", "", "", 10_001),
    ):  # fmt: skip
        answer = server.call(request)
        assert isinstance(answer, Refusal), request
        assert answer.status is Status.INVALID_ARGUMENT


def test_every_call_is_counted_once_and_every_refusal_too() -> None:
    server = cold()
    stats = server.node.stats
    assert (stats.calls, stats.calls_refused) == (0, 0)
    server.publish("s", b"one")  # waits for an index, and is asked again
    assert (stats.calls, stats.calls_refused) == (1, 0)
    server.call(rq.ReadRange("s", 0, 10))
    server.call(rq.GetStreamInfo("nowhere"))
    assert (stats.calls, stats.calls_refused) == (3, 0), "a code is an answer"
    server.step(Call(Token(901), ANYONE, rq.Subscribe("s", "nobody", 1, True)))
    assert server.ends.keys() == {901}
    assert (stats.calls, stats.calls_refused) == (4, 1)
    server.step(Call(Token(902), ANYONE, rq.ListStreams("", 0)), Call(Token(903), ANYONE, rq.ListStreams("", 0)))
    assert (stats.calls, stats.calls_refused) == (6, 1)
    stats.draining = True
    server.step(
        Call(Token(904), ANYONE, rq.ListStreams("", 0)), Call(Token(905), ANYONE, rq.Subscribe("s", "c", 1, True))
    )
    assert (stats.calls, stats.calls_refused) == (8, 3)
