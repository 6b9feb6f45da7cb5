"""Corners of a node: bounds on what it remembers and takes, records in the wrong log, figures, ends in the middle of things."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.kit.node_kit import SMALL, Server, publish, stream_config
from tests.kit.node_play import Play
from tests.kit.store_disk import MemoryDisk
from tests.kit.store_toy import ToyNode
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call, Drain, Unreadable
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import DiskFailure, FailureKind, ReadChunk, Write
from waymaker_core.model.limits import KIB
from waymaker_core.model.records import PruneRecord, StreamCreated, StreamDeleted
from waymaker_core.model.result_codes import Refusal, Status
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.node import context as state
from waymaker_core.storage.errors import CorruptStore

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, index_cache_bytes=1)
NO_DISK = DiskFailure(FailureKind.IO, "journal/1", 0, "as told")


def refused(server: Server, request: rq.Request) -> Refusal:
    answer = server.call(request)
    assert isinstance(answer, Refusal), answer
    return answer


# ---------------------------------------------------------------- bounds


def test_a_batch_over_the_bounds_of_one_call_is_refused_as_a_whole() -> None:
    server = Server(
        replace(SMALL, publish_batch_max=3, publish_batch_bytes_max=1_000, message_bytes_max=500, header_bytes_max=100)
    )
    server.create("s")
    for batch in ([b"x"] * 4, [bytes(400)] * 3):
        refusal = refused(server, publish("s", *[("a", payload) for payload in batch]))
        assert refusal.status is Status.RESOURCE_EXHAUSTED
    assert server.publish("s", b"x", b"y", b"z").first_seq == 1


def test_whose_messages_an_answer_carried_is_remembered_for_a_bounded_number_of_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "REPLIES_REMEMBERED", 2)
    server = Server()
    server.create("s")
    server.publish("s", b"x")
    tokens = [server.token() for _ in range(3)]
    server.step(*[Call(Token(token), ANYONE, rq.ReadLatest("s", "a")) for token in tokens])
    damage = DiskFailure(FailureKind.CORRUPT, "journal/1", 64)
    for token in (tokens[0], tokens[2]):
        del server.replies[token]
        server.step(Unreadable(Token(token), damage, []))
        answer = server.replies[token]
        assert isinstance(answer, Refusal)
        assert answer.status is Status.DATA_LOSS
        assert server.node.quarantined() == ([] if token == tokens[0] else ["s"])


def test_an_import_begins_with_the_head_of_an_archive() -> None:
    server = Server()
    assert refused(server, rq.ImportBegin("s", "not a head")).status is Status.INVALID_ARGUMENT
    names = server.ok(rq.ListStreams())
    assert isinstance(names, rq.Page)
    assert names.entries == []


def creations(play: Play, count: int) -> list[int]:
    """So many streams are asked for at once; the tokens."""
    tokens = list(range(3001, 3001 + count))
    play.tell(*[(token, rq.CreateStream(stream_config(f"{'long' * 20}{token}"))) for token in tokens])
    return tokens


@pytest.mark.parametrize("parked_max", [0, 5, 10_000])
def test_creations_beyond_the_room_there_is_wait_or_are_pushed_back(parked_max: int) -> None:
    server = Server(replace(TINY, parked_calls_max=parked_max))
    server.pass_ms(2_000)
    with Play(server) as play:
        tokens = creations(play, 150)
        parked = server.node.stats.parked_calls
        assert parked == min(parked_max, parked)
        while play.jobs:
            play.done(min(play.jobs))
        replies = [line for line in play.lines if line.startswith("reply")]
        play.lines.clear()
    assert len(replies) == len(tokens)
    pushed_back = len([line for line in replies if "refused RESOURCE_EXHAUSTED not-applied" in line])
    assert (pushed_back == 0) == (parked_max == 10_000)
    assert server.node.stats.streams == len(tokens) - pushed_back
    assert server.node.stats.parked_calls == 0
    server.node.check()


def test_a_drain_refuses_creations_that_wait_for_room() -> None:
    server = Server(TINY)
    server.pass_ms(2_000)
    with Play(server) as play:
        tokens = creations(play, 150)
        parked = server.node.stats.parked_calls
        assert parked > 0
        play.step(Drain())
        assert server.node.stats.parked_calls == 0
        while play.jobs:
            play.done(min(play.jobs))
        refusals = [line for line in play.lines if "refused UNAVAILABLE not-applied" in line]
        assert play.lines[-1] == "halt clean"
        play.lines.clear()
    assert len(refusals) == parked
    server.disk.kill()
    server.open()
    assert server.node.stats.streams == len(tokens) - parked


def test_a_publish_that_may_not_even_wait_is_pushed_back_and_nothing_of_it_is_kept() -> None:
    server = Server(replace(TINY, parked_calls_max=0))
    server.create("s")
    tokens = [Token(server.token()) for _ in range(200)]
    server.step(*[Call(token, ANYONE, publish("s", ("a", bytes(500)))) for token in tokens])
    stored = [token for token in tokens if not isinstance(server.replies[token], Refusal)]
    assert 0 < len(stored) < 200
    assert server.stats().msg_count == len(stored)
    assert server.node.stats.parked_calls == server.node.stats.inflight_bytes == 0


# ---------------------------------------------------------------- records in the wrong log


def written(*records: tuple[int, StreamCreated | StreamDeleted | PruneRecord]) -> MemoryDisk:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(1))
    for stream_id, record in records:
        node.journal.append(stream_id, node.positions.get(stream_id, 0) + 1, record)
        node.positions[stream_id] = node.positions.get(stream_id, 0) + 1
        flush = node.journal.flush()
        assert flush is not None
        disk.run(flush.ops)
        node.journal.done(flush)
    return disk


def test_a_record_of_the_catalogue_in_a_stream_s_log_quarantines_the_stream() -> None:
    created = [(0, StreamCreated(number, StreamConfig(name, block_size=4), 5)) for number, name in ((1, "s"), (2, "t"))]
    server = Server(disk=written(*created, (1, StreamDeleted(2))))
    assert server.node.quarantined() == ["s"]
    assert "a record of the catalogue" in refused(server, rq.GetStreamInfo("s")).message
    assert server.publish("t", b"unharmed").first_seq == 1
    server.node.check()


def test_a_record_of_a_stream_in_the_catalogue_s_log_refuses_the_directory() -> None:
    with pytest.raises(CorruptStore, match="a record of a stream in the catalogue's log"):
        Server(disk=written((0, PruneRecord(1))))


# ---------------------------------------------------------------- figures


def test_figures_for_metrics_name_every_stream_served_and_its_consumers() -> None:
    server = Server()
    for name in ("t", "s", "damaged"):
        server.create(name)
        server.consumer(name, "c2")
        server.consumer(name, "c1")
        server.publish(name, b"x")
    server.fetch("s", "c1")
    token = server.token()
    server.step(Call(Token(token), ANYONE, rq.ReadLatest("damaged", "a")))
    del server.replies[token]
    server.step(Unreadable(Token(token), DiskFailure(FailureKind.CORRUPT, "journal/1", 64), []))
    assert [(name, stats.msg_count) for name, stats in server.node.stream_figures()] == [("s", 1), ("t", 1)]
    assert [(name, info.config.name, info.pending) for name, info in server.node.consumer_figures()] == [
        ("s", "c1", 1), ("s", "c2", 0), ("t", "c1", 0), ("t", "c2", 0),
    ]  # fmt: skip
    server.node.check()


# ---------------------------------------------------------------- ends in the middle of things


@pytest.mark.parametrize("rounds", range(6))
def test_a_stream_may_end_at_any_moment_of_giving_up_a_message(rounds: int) -> None:
    """The index of the message, its body, and the indexes that the limit of its dead letter's subject asks for."""
    server = Server(TINY)
    server.create("s", block_size=5, max_msgs_per_subject=15)
    server.consumer("s", "c", max_deliver=1, ack_wait_ms=1_000, dead_letter_subject="s.3")
    for number in range(200):
        server.publish("s", number.to_bytes(4, "big") * 20, subject=f"s.{number % 10}")
    server.kill()
    server.pass_ms(3_000)
    server.fetch("s", "c", 2)
    with Play(server) as play:
        play.pass_ms(1_001)
        for _ in range(rounds):
            for number in [number for number, job in play.jobs.items() if isinstance(job.ops[0], ReadChunk)]:
                play.done(number)
        play.tell((1, rq.DeleteStream("s")))
        for number in [number for number, job in play.jobs.items() if job.lane.name == "JOURNAL"]:
            play.done(number)
        while play.jobs:
            play.done(min(play.jobs))
        assert [line for line in play.lines if line.startswith("reply")] == ["reply 1 ok"]
        play.lines.clear()
        server.node.check()
    server.kill()
    server.create("s")
    assert server.all() == []


def test_a_dead_letter_put_off_for_want_of_room_ends_with_its_stream() -> None:
    server = Server(replace(SMALL, disk_retry_ms=100))
    server.create("s")
    server.create("t")
    server.consumer("s", "c", max_deliver=1, ack_wait_ms=1_000, dead_letter_subject="dlq", filter_subject="a")
    server.publish("s", b"one")
    server.pass_ms(2_000)
    server.fetch()
    with Play(server) as play:
        play.pass_ms(1_001)
        play.expect("job 1 READ readchunk journal")
        play.tell((100, publish("t", ("a", b"x"))), (101, rq.DeleteStream("s")))
        play.expect("job 2 JOURNAL write journal, syncfile journal")
        play.fail(2, FailureKind.NO_SPACE, Write)
        play.lines.clear()
        play.done(1)
        play.expect("")
        play.pass_ms(server.config.limits.disk_retry_ms)
        play.expect("job 3 JOURNAL ...")
        play.done(3)
        replies = [line for line in play.lines if line.startswith("reply")]
        play.lines.clear()
        assert replies == ["reply 100 ok published 1..1", "reply 101 ok"]
        play.tell((102, publish("t", ("a", b"y"))))
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()
        server.node.check()
    assert server.node.stats.dead_letters == 0
    assert len(server.all("t")) == 2


def test_a_stream_deleted_while_a_checkpoint_writes_it_is_gone_from_the_next_one() -> None:
    server = Server(TINY)
    for name in ("s", "t"):
        server.create(name)
    server.consumer("s", "c")
    server.pass_ms(2_000)
    with Play(server) as play:
        deleted = False
        for number in range(300):
            play.tell((5_000 + number, publish("t", ("a", bytes(200)))))
            if not deleted:
                play.tell((9_000 + number, publish("s", ("a", bytes(200)))))
            if not deleted and any(
                getattr(op, "path", "").startswith("checkpoints/") for job in play.jobs.values() for op in job.ops
            ):
                play.tell((1, rq.DeleteStream("s")))
                deleted = True
                for one in [one for one, job in play.jobs.items() if job.lane.name == "JOURNAL"]:
                    play.done(one)
                for one in [one for one, job in play.jobs.items() if job.lane.name == "JOURNAL"]:
                    play.done(one)
            for one in sorted(play.jobs):
                if deleted or job_is_not_a_checkpoint(play, one):
                    play.done(one)
            play.lines.clear()
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()
    assert deleted
    assert server.node.stats.checkpoints > 2
    server.kill()
    names = server.ok(rq.ListStreams())
    assert isinstance(names, rq.Page)
    assert names.entries == ["t"]
    assert 1 not in server.node._checkpoints._chain.latest


def job_is_not_a_checkpoint(play: Play, number: int) -> bool:
    return not any(getattr(op, "path", "").startswith("checkpoints/") for op in play.jobs[number].ops)
