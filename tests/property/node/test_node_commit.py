"""Group commit as stories: what leaves when, and what becomes of writes and syncs that fail."""

from __future__ import annotations

from dataclasses import replace

from tests.kit.node_kit import SMALL, Server, publish
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Lane
from waymaker_core.api.requests import AckKind
from waymaker_core.model.disk_ops import FailureKind, SyncFile, Write
from waymaker_core.model.limits import KIB


def ready() -> Server:
    server = Server()
    server.create("s")
    server.consumer("s", "c")
    server.pass_ms(2_000)
    return server


def test_answers_leave_with_their_commit_and_the_next_batch_gathers_meanwhile() -> None:
    with Play(ready()) as play:
        play.tell((1, publish("s", ("a", b"one"))))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.tell((2, publish("s", ("a", b"two"), ("b", b"three"))), (3, publish("s", ("a", b"four"))))
        play.tell((4, publish("s", ("a", b"five"))))
        play.expect("")
        play.done(1)
        play.expect("""
            reply 1 ok published 1..1
            job 2 JOURNAL write journal, syncfile journal
        """)
        play.done(2)
        play.expect("""
            reply 2 ok published 2..3
            reply 3 ok published 4..4
            reply 4 ok published 5..5
        """)
    records = play.server.node.stats.records_committed
    assert records == 4, "the three publishes that gathered are one record, behind stream, consumer and the first"


def test_what_is_not_committed_is_not_read_and_not_delivered() -> None:
    with Play(ready()) as play:
        play.tell((1, publish("s", ("a", b"one"))))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.tell((2, rq.ReadLatest("s", "a")), (3, rq.Fetch("s", "c")))
        play.expect("""
            reply 2 ok nothing
            reply 3 ok nothing
        """)
        play.done(1)
        play.expect("reply 1 ok published 1..1")
        play.tell((4, rq.ReadLatest("s", "a")), (5, rq.Fetch("s", "c")))
        play.expect("""
            reply 4 ok 1..1
            reply 5 ok 1..1 x1
        """)


def test_a_refusal_that_rests_on_an_uncommitted_record_leaves_with_it() -> None:
    with Play(ready()) as play:
        play.tell((1, publish("s", ("a", b"one"), expected=[0])), (2, publish("s", ("a", b"two"), expected=[0])))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.tell((3, publish("s", ("a", b"three"), expected=[0])))
        play.expect("")
        play.done(1)
        play.expect("""
            reply 1 ok published 1..1
            reply 2 ok published nothing, 0: wrong_revision(1)
            reply 3 ok published nothing, 0: wrong_revision(1)
        """)
        play.tell((4, publish("s", ("a", b"four"), expected=[0])))
        play.expect("reply 4 ok published nothing, 0: wrong_revision(1)")


def test_an_ack_is_confirmed_by_its_commit_and_a_second_one_waits_for_it() -> None:
    server = ready()
    server.publish("s", b"one")
    with Play(server) as play:
        play.tell((1, rq.Fetch("s", "c")))
        play.expect("reply 1 ok 1..1 x1")
        play.tell((2, rq.Ack("s", "c", AckKind.ACK, [1])))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.tell((3, rq.Ack("s", "c", AckKind.ACK, [1])), (4, rq.Ack("s", "c", AckKind.ACK, [77])))
        play.done(1)
        play.expect("""
            reply 2 ok
            reply 3 ok
            reply 4 ok
        """)


def test_a_sync_that_fails_is_the_end() -> None:
    with Play(ready()) as play:
        play.tell((1, publish("s", ("a", b"one"))))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.fail(1, FailureKind.IO, SyncFile)
        play.expect("halt unclean")
        play.tell((2, publish("s", ("a", b"two"))))
        play.expect("")


def test_a_write_without_room_is_written_again_and_publishes_are_refused_meanwhile() -> None:
    with Play(ready()) as play:
        play.tell((1, publish("s", ("a", b"one"))))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.fail(1, FailureKind.NO_SPACE, Write)
        play.expect("log error disk_full")
        play.tell((2, publish("s", ("a", b"two"))), (3, rq.ReadLatest("s", "a")))
        play.expect("""
            reply 2 refused RESOURCE_EXHAUSTED not-applied
            reply 3 ok nothing
        """)
        play.pass_ms(1_000)
        play.expect("job 2 JOURNAL write journal, syncfile journal")
        play.fail(2, FailureKind.NO_SPACE, Write)
        play.pass_ms(1_000)
        play.expect("job 3 JOURNAL write journal, syncfile journal")
        play.done(3)
        play.expect("""
            reply 1 ok published 1..1
            log info disk_has_room
        """)
    assert play.server.node.stats.commit_retries == 2


def test_a_publish_that_waited_for_a_segment_is_written_though_nothing_else_happens() -> None:
    """It is decided after the flush of the step in which the segment is there."""
    server = Server(replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=64 * KIB))
    server.create("s")
    server.pass_ms(2_000)
    with Play(server) as play:
        spares: list[int] = []
        token = 0
        while not server.node.stats.parked_calls:
            token += 1
            play.tell((token, publish("s", ("a", bytes(3_000)))))
            for number, job in list(play.jobs.items()):
                if job.lane is Lane.JOURNAL:
                    play.done(number)
            spares = sorted(play.jobs)
        play.lines.clear()
        play.done(spares[0])
        due = server.node.next_deadline()
        assert due is not None and due <= server.mono_ns, "the node asks for another step at once"
        play.step()
        assert any(job.lane is Lane.JOURNAL for job in play.jobs.values()), play.lines
        while play.jobs:
            play.done(min(play.jobs))
        assert f"reply {token} ok published {token}..{token}" in [line.strip() for line in play.lines]
        play.lines.clear()


def test_creating_a_stream_is_confirmed_by_its_commit() -> None:
    from tests.kit.node_kit import stream_config

    with Play(ready()) as play:
        play.tell((1, rq.CreateStream(stream_config("t"))), (2, rq.CreateStream(stream_config("t"))))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.tell((3, rq.GetStreamInfo("t")))
        play.expect("reply 3 no_such_stream")
        play.done(1)
        play.expect("""
            reply 1 ok
            reply 2 already_exists
        """)


def test_an_idle_node_says_once_what_is_durable() -> None:
    server = Server()
    server.create("s")
    with Play(server) as play:
        play.pass_ms(1_001)
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.done(1)
        play.pass_ms(60_000)
        play.expect("")


def test_with_interval_sync_answers_leave_after_the_write_and_one_sync_follows() -> None:
    server = Server(sync_interval_ms=50)
    server.create("s")
    server.publish("s", b"reserves")
    server.pass_ms(2_000)
    with Play(server) as play:
        play.tell((1, publish("s", ("a", b"one"))))
        play.expect("job 1 JOURNAL write journal")
        play.done(1)
        play.expect("reply 1 ok published 2..2")
        play.tell((2, publish("s", ("a", b"two"))))
        play.expect("job 2 JOURNAL write journal")
        play.done(2)
        play.expect("reply 2 ok published 3..3")
        play.pass_ms(50)
        play.expect("job 3 JOURNAL syncfile journal")
        play.done(3)
        play.pass_ms(500)
        play.expect("")


def test_with_interval_sync_what_was_created_is_there_after_a_loss_of_power() -> None:
    for seed in range(8):
        server = Server(sync_interval_ms=1_000_000, seed=seed)
        server.create("s")
        server.lose_power()
        server.consumer("s", "c")
        server.lose_power()
        server.consumer("s", "d")
        page = server.ok(rq.ListConsumers("s"))
        assert isinstance(page, rq.Page)
        found = [info for info in page.entries if isinstance(info, rq.ConsumerInfo)]
        assert [(info.config.name, info.consumer_id) for info in found] == [("c", 1), ("d", 2)]


def test_with_interval_sync_no_sequence_is_used_again_after_a_loss_of_power() -> None:
    for seed in range(8):
        server = Server(sync_interval_ms=1_000_000, seed=seed)
        server.create("s")
        last = 0
        for _ in range(4):
            published = server.publish("s", b"x", b"y", b"z")
            assert published.first_seq > last
            last = published.first_seq + 2
            server.lose_power()
        server.kill()
        assert server.publish("s", b"x").first_seq > last
