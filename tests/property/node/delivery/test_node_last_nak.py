"""The nak of a message's last attempt: its `ok` tells that the message is given up, and nothing makes it wait for ever."""

from __future__ import annotations

import pytest

from tests.kit.node_kit import Server
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Drain
from waymaker_core.api.requests import AckKind
from waymaker_core.model.disk_ops import FailureKind, ReadChunk

NAK = rq.Ack("s", "c", AckKind.NAK, [1])


def ready(letters: str = "dlq", max_deliver: int = 1) -> Server:
    """The first of two messages is out for the last time."""
    server = Server()
    server.create("s")
    server.consumer(
        "s", "c", max_deliver=max_deliver, ack_wait_ms=1_000, dead_letter_subject=letters, filter_subject="a"
    )
    server.publish("s", b"one", b"two")
    server.pass_ms(2_000)
    assert server.fetch(batch=1) == [(1, 1, b"one")]
    return server


@pytest.mark.parametrize("letters", ["", "dlq"])
def test_right_after_the_answer_the_message_is_given_up(letters: str) -> None:
    server = ready(letters)
    server.ok(NAK)
    assert server.info().redelivered_dropped == 1
    assert server.info().pending == 0
    assert len(server.all()) == (3 if letters else 2)


@pytest.mark.parametrize("letters", ["", "dlq"])
@pytest.mark.parametrize("end", ["kill", "lose_power", "restart"])
def test_after_the_answer_no_end_of_the_process_brings_it_back(letters: str, end: str) -> None:
    server = ready(letters)
    server.ok(NAK)
    getattr(server, end)()
    server.pass_ms(2_000)
    assert server.fetch() == [(2, 1, b"two")]
    assert server.info().redelivered_dropped == 1
    assert len(server.all()) == (3 if letters else 2)


def test_the_answer_waits_for_the_drop_and_its_dead_letter() -> None:
    with Play(ready()) as play:
        play.tell((100, NAK))
        play.expect("""
            job 1 READ readchunk journal
            job 2 JOURNAL write journal, syncfile journal
        """)
        play.done(2)
        play.expect("")
        play.done(1)
        play.expect("job 3 JOURNAL write journal, syncfile journal")
        play.done(3)
        play.expect("reply 100 ok")


def test_a_crash_before_the_drop_gives_up_once_and_delivers_no_more() -> None:
    server = ready()
    play = Play(server)
    play.tell((100, NAK))
    play.done(2)
    server.lose_power()
    server.pass_ms(2_000)
    assert server.fetch() == [(2, 1, b"two")]
    assert [payload for _, _, payload in server.all()] == [b"one", b"two", b"one"]


def test_a_body_that_cannot_be_read_for_now_keeps_nobody_waiting() -> None:
    with Play(ready()) as play:
        play.tell((100, NAK))
        play.done(2)
        play.lines = []
        play.fail(1, FailureKind.IO, ReadChunk)
        play.expect("""
            log error unreadable
            reply 100 ok
        """)
        play.pass_ms(1_000)
        play.done(3)
        play.done(4)
        play.done(5)
        play.lines = []
    assert play.server.info().redelivered_dropped == 1


@pytest.mark.parametrize("written", [True, False])
def test_a_damaged_body_keeps_nobody_waiting_either(written: bool) -> None:
    with Play(ready()) as play:
        play.tell((100, NAK))
        play.lines = []
        if written:
            play.done(2)
        play.fail(1, FailureKind.CORRUPT, ReadChunk)
        play.expect("log error unreadable" + ("\nreply 100 ok" if written else ""))
        if not written:
            play.done(2)
            play.expect("reply 100 ok")


def test_an_ack_in_between_ends_the_wait() -> None:
    with Play(ready()) as play:
        play.tell((100, NAK))
        play.tell((101, rq.Ack("s", "c", AckKind.ACK, [1])))
        play.lines = []
        play.done(2)
        play.expect("job 3 JOURNAL write journal, syncfile journal")
        play.done(3)
        play.expect("""
            reply 101 ok
            reply 100 ok
        """)
        play.done(1)
    assert play.server.info().redelivered_dropped == 0


def test_the_end_of_the_consumer_or_of_the_stream_ends_the_wait() -> None:
    for last in (rq.DeleteConsumer("s", "c"), rq.DeleteStream("s")):
        with Play(ready()) as play:
            play.tell((100, NAK))
            play.done(2)
            play.lines = []
            play.tell((101, last))
            play.done(3)
            assert sorted(line for line in play.lines if line.startswith("reply")) == ["reply 100 ok", "reply 101 ok"]
            play.done(1)
            play.jobs.clear()
            play.lines = []


def test_a_server_that_stops_answers_once_the_nak_is_durable() -> None:
    server = ready()
    play = Play(server)
    play.tell((100, NAK))
    play.step(Drain())
    assert not any(line.startswith("reply") for line in play.lines)
    play.done(2)
    assert "reply 100 ok" in play.lines


def test_an_attempt_that_was_not_the_last_waits_for_its_own_record_only() -> None:
    with Play(ready(max_deliver=2)) as play:
        play.tell((100, NAK))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.done(1)
        play.expect("reply 100 ok")


def test_a_nak_that_is_sent_again_waits_for_the_drop_as_well() -> None:
    with Play(ready()) as play:
        play.tell((100, NAK), (101, NAK))
        play.lines = []
        play.done(1)
        play.tell((102, NAK))
        play.done(2)
        play.expect("job 3 JOURNAL write journal, syncfile journal")
        play.done(3)
        play.expect("""
            reply 100 ok
            reply 101 ok
            reply 102 ok
        """)
