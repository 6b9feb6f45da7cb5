"""What counts as an attempt, at the node: what is reported. What is not goes back uncounted, at once; one sentence a test."""

from __future__ import annotations

from tests.kit.node_kit import Server
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call, Cancel, Credit, Report
from waymaker_core.api.requests import AckKind
from waymaker_core.model.types import ANYONE, Token

WAIT_MS = 30_000


def ready(count: int, **settings: object) -> Server:
    """Messages for one consumer, and nobody who reports for the test."""
    server = Server()
    server.create("s")
    server.consumer("s", "c", **settings)
    for _ in range(count):
        server.publish("s", b"x")
    server.reports = False
    return server


def subscribed(server: Server, credit: int, batch: int = 0, window: int = 0) -> Token:
    token = Token(server.token())
    server.step(Call(token, ANYONE, rq.Subscribe("s", "c", batch, False, window)), Credit(token, credit, 1 << 20))
    return token


def seqs(server: Server, token: Token) -> list[tuple[int, int]]:
    return [(seq, count) for seq, count, _ in server.delivered.pop(token, [])]


def fetched(server: Server) -> list[tuple[int, int]]:
    return [(seq, count) for seq, count, _ in server.fetch("s", "c", 100)]


def test_what_was_handed_out_counts_and_the_rest_goes_back_at_once() -> None:
    server = ready(5)
    token = subscribed(server, 5)
    server.step(Report(token, 2))
    server.step(Cancel(token))
    assert fetched(server) == [(3, 1), (4, 1), (5, 1)]
    server.pass_ms(WAIT_MS)
    assert fetched(server)[:2] == [(1, 2), (2, 2)]


def test_what_is_handed_back_goes_back_at_once_and_uncounted() -> None:
    server = ready(4)
    token = subscribed(server, 4)
    server.step(Report(token, 3, [(2, 3)]))
    assert fetched(server) == [(2, 1), (3, 1)]


def test_what_waits_too_long_without_a_report_is_never_dropped() -> None:
    server = ready(3, max_deliver=1)
    token = subscribed(server, 1_000)
    for _ in range(5):
        server.pass_ms(WAIT_MS)
    assert {count for _, count in seqs(server, token)} == {1}
    server.step(Cancel(token))
    assert fetched(server) == [(1, 1), (2, 1), (3, 1)]


def test_a_late_report_counts_where_the_message_did_not_go_out_again() -> None:
    server = ready(1, max_deliver=2)
    token = subscribed(server, 1)
    server.pass_ms(WAIT_MS)
    server.step(Report(token, 1))
    assert fetched(server) == [(1, 2)]


def test_an_answer_shows_that_a_message_arrived() -> None:
    server = ready(2)
    token = subscribed(server, 2)
    server.ack(1, kind=AckKind.NAK)
    server.ack(2, kind=AckKind.IN_PROGRESS)
    server.step(Cancel(token))
    assert fetched(server) == [(1, 2)]


def test_a_cancelled_fetch_takes_nothing() -> None:
    server = ready(3, max_deliver=1)
    for _ in range(3):
        token = Token(server.token())
        server.step(Call(token, ANYONE, rq.Fetch("s", "c", 3)))
        server.step(Cancel(token))
    assert fetched(server) == [(1, 1), (2, 1), (3, 1)]


def test_nothing_is_lost_or_counted_through_a_crash() -> None:
    for stop in (Server.kill, Server.restart):
        server = ready(4, max_deliver=2)
        token = subscribed(server, 4)
        server.step(Report(token, 1))
        server.ok(rq.GetConsumerInfo("s", "c"))  # logs what is out
        stop(server)
        assert fetched(server) == [(2, 1), (3, 1), (4, 1)]
        server.ack(3)
        server.pass_ms(WAIT_MS)
        again = fetched(server)
        assert (1, 2) in again and all(seq != 3 for seq, _ in again)


def test_an_answer_counts_after_a_restart_for_what_nobody_reported() -> None:
    for stop in (Server.kill, Server.restart):
        server = ready(2)
        subscribed(server, 2)
        server.ok(rq.GetConsumerInfo("s", "c"))
        stop(server)
        server.ack(1)
        assert fetched(server) == [(2, 1)]


def test_a_window_bounds_what_is_unanswered() -> None:
    server = ready(20)
    token = subscribed(server, 1_000, batch=2, window=4)
    assert seqs(server, token) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    server.step(Report(token, 4))
    assert seqs(server, token) == []
    server.ack(1, 2)
    assert seqs(server, token) == [(5, 1), (6, 1)]


def test_of_a_window_only_what_the_reader_came_to_counts() -> None:
    server = ready(6, max_deliver=1)
    token = subscribed(server, 1_000, batch=1, window=4)
    server.step(Report(token, 4))
    server.ack(1)
    server.step(Report(token, 5))
    server.step(Cancel(token))
    assert fetched(server) == [(3, 1), (4, 1), (5, 1), (6, 1)]
    server.pass_ms(WAIT_MS)
    assert all(seq != 2 for seq, _ in fetched(server)), "the one that it had begun with was its last attempt"
