"""Subscriptions: credit, turns, waking without polling, and every way in which they end."""

from __future__ import annotations

from collections import Counter

from tests.kit.node_kit import Server, publish
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call, Cancel, Credit, Report, Unreadable
from waymaker_core.api.requests import AckKind
from waymaker_core.model.disk_ops import DiskFailure, FailureKind
from waymaker_core.model.result_codes import Refusal, Status
from waymaker_core.model.types import ANYONE, Token


def ready(**settings: object) -> Server:
    server = Server()
    server.create("s")
    server.consumer("s", "c", **settings)
    server.pass_ms(2_000)
    return server


def test_nothing_is_sent_without_credit_and_no_more_than_it_allows() -> None:
    server = ready()
    server.publish("s", *[bytes([i]) for i in range(10)])
    token = server.subscribe("s", "c")
    assert token not in server.delivered
    server.step(Credit(Token(token), 3, 1 << 20))
    assert [seq for seq, _, _ in server.delivered[token]] == [1, 2, 3]
    server.step(Credit(Token(token), 4, 0))
    assert [seq for seq, _, _ in server.delivered[token]] == [1, 2, 3, 4, 5, 6, 7]


def test_one_message_goes_whatever_its_size_and_then_the_bytes_must_be_made_good() -> None:
    server = ready()
    server.publish("s", bytes(1_000), bytes(1_000), bytes(10))
    token = server.subscribe("s", "c", messages=10, byte_count=1)
    assert [seq for seq, _, _ in server.delivered[token]] == [1]
    server.step(Credit(Token(token), 0, 900))
    assert [seq for seq, _, _ in server.delivered[token]] == [1]
    server.step(Credit(Token(token), 0, 1_000))
    assert [seq for seq, _, _ in server.delivered[token]] == [1, 2]


def test_a_commit_wakes_a_waiting_reader_and_nothing_polls() -> None:
    server = ready()
    token = server.subscribe("s", "c", messages=100)
    server.pass_ms(5_000)
    assert server.node.next_deadline() is None
    server.publish("s", b"one")
    assert server.delivered[token] == [(1, 1, b"one")]


def test_a_nak_an_expiry_and_a_term_of_another_wake_a_waiting_reader() -> None:
    server = ready(ack_wait_ms=10_000)
    server.publish("s", b"one")
    token = server.subscribe("s", "c", messages=100)
    server.ack(1, kind=AckKind.NAK)
    assert server.delivered[token] == [(1, 1, b"one"), (1, 2, b"one")]
    server.ack(1, kind=AckKind.NAK, delay=500)
    assert len(server.delivered[token]) == 2
    server.pass_ms(501)
    assert server.delivered[token][2:] == [(1, 3, b"one")]
    server.pass_ms(10_001)
    assert server.delivered[token][3:] == [(1, 4, b"one")]
    server.ack(1)
    server.pass_ms(60_000)
    assert len(server.delivered[token]) == 4


def test_what_one_consumer_of_a_work_queue_lets_go_wakes_the_other() -> None:
    server = Server()
    server.create("s", retention="WORK_QUEUE")
    server.consumer("s", "c")
    server.consumer("s", "d")
    server.publish("s", b"one")
    assert server.fetch() == [(1, 1, b"one")]
    token = server.subscribe("s", "d", messages=5)
    assert token not in server.delivered
    server.ack(1, kind=AckKind.TERM)
    assert server.delivered[token] == [(1, 1, b"one")]


def test_readers_of_one_consumer_take_turns_and_none_starves() -> None:
    server = ready()
    tokens = [server.subscribe("s", "c", batch=5, messages=1_000) for _ in range(4)]
    server.publish("s", *[bytes([i]) for i in range(200)])
    counts = Counter({token: len(server.delivered[token]) for token in tokens})
    assert sum(counts.values()) == 200
    assert max(counts.values()) - min(counts.values()) <= 5


def test_a_reader_without_credit_does_not_hold_up_the_others() -> None:
    server = ready()
    stuck = server.subscribe("s", "c", messages=1)
    free = server.subscribe("s", "c", messages=1_000)
    server.publish("s", *[bytes([i]) for i in range(50)])
    assert len(server.delivered[stuck]) == 1
    assert len(server.delivered[free]) == 49


def test_consumers_of_many_streams_are_served_in_turn() -> None:
    server = Server()
    tokens = []
    for number in range(3):
        server.create(f"s{number}")
        server.consumer(f"s{number}", "c")
        server.publish(f"s{number}", *[b"x"] * 30)
    with Play(server) as play:
        for number in range(3):
            tokens.append(100 + number)
            play.step(Call(Token(100 + number), ANYONE, rq.Subscribe(f"s{number}", "c", 10)))
        play.step(*[Credit(Token(token), 20, 1 << 20) for token in tokens])
        play.expect("""
            deliver 100 1..10 x1
            deliver 101 1..10 x1
            deliver 102 1..10 x1
            deliver 100 11..20 x1
            deliver 101 11..20 x1
            deliver 102 11..20 x1
        """)


def test_stop_when_empty_ends_after_the_backlog() -> None:
    server = ready()
    empty = server.subscribe("s", "c", stop_when_empty=True)
    assert empty not in server.ends, "without credit nobody looks"
    server.step(Credit(Token(empty), 1, 1))
    assert server.ends[empty].reason == "empty"
    server.publish("s", b"one", b"two")
    token = server.subscribe("s", "c", stop_when_empty=True, messages=10)
    assert [seq for seq, _, _ in server.delivered[token]] == [1, 2]
    assert server.ends[token].reason == "empty"


def test_a_filter_that_matches_nothing_ends_too() -> None:
    server = ready(filter_subject="other")
    server.publish("s", b"one", b"two")
    token = server.subscribe("s", "c", stop_when_empty=True, messages=10)
    assert server.ends[token].reason == "empty"
    assert token not in server.delivered


def test_the_end_of_what_it_reads_ends_a_subscription() -> None:
    server = ready()
    server.consumer("s", "d")
    of_c, of_d, other = server.subscribe("s", "c"), server.subscribe("s", "d"), server.subscribe("s", "d")
    server.step(Cancel(Token(other)))
    server.ok(rq.DeleteConsumer("s", "c"))
    assert {token: end.reason for token, end in server.ends.items()} == {of_c: "consumer_deleted"}
    server.ok(rq.DeleteStream("s"))
    assert server.ends[of_d].reason == "stream_deleted"
    server.step(Credit(Token(of_d), 5, 5))
    assert other not in server.ends


def test_a_subscription_to_nothing_is_refused_as_not_found() -> None:
    server = ready()
    for stream, consumer, code in (("x", "c", "no_such_stream"), ("s", "x", "no_such_consumer")):
        refusal = server.ends[server.subscribe(stream, consumer)].refusal
        assert refusal is not None
        assert (refusal.status, refusal.code) == (Status.NOT_FOUND, code)


def test_messages_that_cannot_be_read_end_the_subscription_and_say_where() -> None:
    server = ready()
    server.publish("s", b"one")
    server.subscribe("s", "c")
    token = Token(server.subscribe("s", "c"))
    effects_before = len(server.ends)
    server.step(Credit(token, 1, 1), Unreadable(token, DiskFailure(FailureKind.IO, "blocks/1-2.blk", 77, "no"), []))
    assert len(server.ends) == effects_before + 1
    refusal = server.ends[token].refusal
    assert refusal is not None
    assert refusal.status is Status.DATA_LOSS
    assert "blocks/1-2.blk" in refusal.message
    assert "77" in refusal.message
    assert "'s'" in refusal.message
    assert server.stats().msg_count == 1, "a disk that says no is no proof of damage"


def test_a_reader_that_had_its_last_word_gets_no_other() -> None:
    server = ready()
    server.publish("s", b"one")
    with Play(server) as play:
        play.step(Call(Token(900), ANYONE, rq.Subscribe("s", "c", 10, True)), Credit(Token(900), 10, 1 << 20))
        play.expect("deliver 900 1..1 x1")
        play.step(Report(Token(900), 1))
        play.expect("end 900 empty")
        play.step(Unreadable(Token(900), DiskFailure(FailureKind.IO, "journal/1.seg", 0), []))
        play.expect("log error unreadable")
    server.pass_ms(31_000)
    assert server.fetch() == [(1, 2, b"one")]


def test_a_delivery_that_could_not_be_read_was_no_attempt() -> None:
    server = ready(max_deliver=1)
    server.publish("s", b"one")
    server.broken = DiskFailure(FailureKind.IO, "journal/1.seg", 0)
    for _ in range(3):
        token = server.subscribe("s", "c")
        server.step(Credit(Token(token), 1, 1))
        assert server.ends[token].refusal is not None
        server.pass_ms(31_000)
        assert isinstance(server.call(rq.Fetch("s", "c", 5)), Refusal)
        server.pass_ms(31_000)
    server.broken = None
    assert server.fetch() == [(1, 1, b"one")]
    server.pass_ms(31_000)
    assert server.fetch() == []


def test_a_thousand_waiting_readers_cost_nothing_while_nothing_happens() -> None:
    server = ready()
    for number in range(300):
        server.consumer("s", f"n{number}")
        server.subscribe("s", f"n{number}", messages=5)
    server.pass_ms(3_000)
    assert server.node.next_deadline() is None
    server.ok(publish("s", ("a", b"x")))
    assert sum(map(len, server.delivered.values())) == 300
