"""Messages given up after their last delivery: dropped once, copied once, through any stop."""

from __future__ import annotations

import pytest

from tests.kit.node_kit import Server
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.requests import AckKind
from waymaker_core.model.disk_ops import FailureKind, ReadChunk
from waymaker_core.model.message_codec import decode_body


def ready(retention: str = "LIMITS", letters: str = "dlq") -> Server:
    server = Server()
    server.create("s", retention=retention)
    server.consumer("s", "c", max_deliver=2, ack_wait_ms=1_000, dead_letter_subject=letters, filter_subject="a")
    return server


def spend(server: Server) -> None:
    """Deliver what there is for the last time and let it expire."""
    server.fetch()
    server.ack(*range(1, 10), kind=AckKind.NAK)
    server.fetch()
    server.pass_ms(1_001)


def headers(server: Server, seq: int) -> dict[str, str]:
    message = server.call(rq.ReadRange("s", seq, 1))
    assert isinstance(message.value, rq.Messages)  # type: ignore[union-attr]
    run = message.value.runs[0]  # type: ignore[union-attr]
    chunk = server.disk.perform(ReadChunk(run.chunk))
    assert isinstance(chunk, bytes)
    _, found, _ = decode_body(chunk[run.start : run.start + run.lengths[0]])
    return dict(found)


def test_a_dead_letter_is_a_copy_that_says_where_it_comes_from() -> None:
    server = ready()
    server.publish("s", b"one", b"two")
    spend(server)
    assert server.all() == [(1, 0, b"one"), (2, 0, b"two"), (3, 0, b"one"), (4, 0, b"two")]
    found = headers(server, 4)
    assert found["x-waymaker-dlq-stream"] == "s"
    assert found["x-waymaker-dlq-consumer"] == "c"
    assert found["x-waymaker-dlq-seq"] == "2"
    assert found["x-waymaker-dlq-subject"] == "a"
    assert found["x-waymaker-dlq-deliver-count"] == "2"
    assert server.info().redelivered_dropped == 2
    assert server.info().ack_floor >= 2
    assert server.node.stats.dead_letters == 2
    server.kill()
    server.pass_ms(5_000)
    assert len(server.all()) == 4
    assert server.fetch() == []
    assert server.info().redelivered_dropped == 2


def test_without_a_dead_letter_subject_the_message_stays() -> None:
    server = ready(letters="")
    server.publish("s", b"one")
    spend(server)
    assert server.all() == [(1, 0, b"one")]
    assert server.fetch() == []
    assert server.info().redelivered_dropped == 1


def test_a_work_queues_original_goes_with_its_copy() -> None:
    server = ready("WORK_QUEUE")
    server.publish("s", b"one")
    spend(server)
    assert server.all() == [(2, 0, b"one")]
    server.kill()
    assert server.all() == [(2, 0, b"one")]


def story() -> Play:
    """A message handed out to be given up: its body is being read."""
    server = ready()
    server.publish("s", b"one")
    server.pass_ms(2_000)
    server.fetch()
    server.ack(1, kind=AckKind.NAK)
    server.pass_ms(1_100)
    server.fetch()
    server.pass_ms(900)
    play = Play(server)
    play.pass_ms(101)
    return play


def test_an_ack_that_comes_while_the_body_is_read_wins() -> None:
    with story() as play:
        play.expect("""
            job 1 READ readchunk journal
        """)
        play.tell((100, rq.Ack("s", "c", AckKind.ACK, [1])))
        play.expect("job 2 JOURNAL write journal, syncfile journal")
        play.done(1)
        play.expect("")
        play.done(2)
        play.expect("reply 100 ok")
    assert play.server.all() == [(1, 0, b"one")]
    assert play.server.info().redelivered_dropped == 0


def test_a_stream_deleted_while_the_body_is_read_is_deleted() -> None:
    with story() as play:
        play.expect("job 1 READ readchunk journal")
        play.tell((100, rq.DeleteStream("s")))
        play.expect("job 2 JOURNAL write journal, syncfile journal")
        play.done(2)
        play.expect("reply 100 ok")
        play.done(1)
        play.expect("")


def test_a_body_that_cannot_be_read_for_now_is_tried_again() -> None:
    with story() as play:
        play.expect("job 1 READ readchunk journal")
        play.fail(1, FailureKind.IO, ReadChunk)
        play.expect("log error unreadable")
        play.pass_ms(1_000)
        play.expect("job 2 READ readchunk journal")
        play.done(2)
        play.expect("job 3 JOURNAL write journal, syncfile journal")
        play.done(3)
    assert play.server.all() == [(1, 0, b"one"), (2, 0, b"one")]


def test_a_damaged_body_is_never_dropped_in_silence() -> None:
    with story() as play:
        play.expect("job 1 READ readchunk journal")
        play.fail(1, FailureKind.CORRUPT, ReadChunk)
        play.expect("log error unreadable")
        play.tell((100, rq.GetStreamInfo("s")))
        play.expect("reply 100 refused DATA_LOSS not-applied")
        play.tell((101, rq.DeleteStream("s")))
        play.expect("job 2 JOURNAL write journal, syncfile journal")
        play.done(2)
        play.expect("reply 101 ok")


@pytest.mark.parametrize("crash_after", range(12))
def test_a_crash_at_any_operation_leaves_one_copy(crash_after: int) -> None:
    from tests.kit.store_disk import Crash

    server = ready("WORK_QUEUE")
    server.publish("s", b"one", b"two")
    server.fetch()
    server.ack(1, 2, kind=AckKind.NAK)
    server.fetch()
    server.disk.crash_in = crash_after
    try:
        server.pass_ms(1_500)
    except Crash:
        pass
    server.lose_power()
    for _ in range(4):
        server.fetch()
        server.pass_ms(1_001)
    assert sorted(payload for _, _, payload in server.all()) == [b"one", b"two"]
    assert min(seq for seq, _, _ in server.all()) > 2
