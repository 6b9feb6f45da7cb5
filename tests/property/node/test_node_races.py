"""Something ends while somebody waits for it: a stream, a disk, a node. Everybody hears a last word, and nothing breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL, Server, consumer_config, publish, stream_config
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Job, Lane
from waymaker_core.api.inputs import Call, Cancel, Drain, Input, JobFailed, Unreadable
from waymaker_core.model.disk_ops import (
    CopyChunks,
    CreateFile,
    DiskFailure,
    DiskOp,
    FailureKind,
    ReadChunk,
    SyncDir,
    SyncFile,
    Write,
)
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import ANYONE, Token

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, index_cache_bytes=1)


def cold(**settings: object) -> Server:
    """A stream of 200 messages at ten subjects whose indexes are on disk and not in memory."""
    server = Server(TINY)
    server.create("s", **{"block_size": 5, **settings})
    server.consumer("s", "c", max_deliver=1, ack_wait_ms=1_000, dead_letter_subject="dlq")
    for number in range(200):
        server.publish("s", number.to_bytes(4, "big") * 20, subject=f"s.{number % 10}")
    server.kill()
    server.pass_ms(3_000)
    return server


def reads(play: Play) -> list[int]:
    """Jobs that read."""
    return [number for number, job in play.jobs.items() if all(isinstance(op, ReadChunk) for op in job.ops)]


def finish(play: Play) -> dict[str, str]:
    """Every job is done; what calls were answered, by token."""
    while play.jobs:
        play.done(min(play.jobs))
    replies = {line.split()[1]: " ".join(line.split()[2:]) for line in play.lines if line.startswith("reply")}
    play.lines.clear()
    play.server.node.check()
    return replies


def delete_while_reading(play: Play) -> list[int]:
    """The stream is deleted, and that is committed, while jobs read: those jobs."""
    waiting = reads(play)
    assert waiting
    play.tell((2000, rq.DeleteStream("s")))
    for number in [number for number, job in play.jobs.items() if job.lane.name == "JOURNAL"]:
        play.done(number)
    assert "s" not in [replica.name for replica in play.server.node._state.replicas.values()]
    return [number for number in waiting if number in play.jobs]


# ---------------------------------------------------------------- a stream ends


@pytest.mark.parametrize("kind", [FailureKind.IO, FailureKind.CORRUPT])
def test_an_index_that_cannot_be_read_of_a_stream_that_is_gone_harms_nobody(kind: FailureKind) -> None:
    server = cold(max_msgs_per_subject=30)
    server.create("t")
    with Play(server) as play:
        play.tell((1001, publish("s", ("s.1", b"x"))), (1002, rq.ScanSubject("s", "s.1", 0, 100)))
        for number in delete_while_reading(play):
            play.fail(number, kind, ReadChunk)
        replies = finish(play)
    assert replies["1001"] == "no_such_stream"
    assert replies["2000"] == "ok"
    assert set(replies) == {"1001", "1002", "2000"}
    assert server.node.quarantined() == []
    assert server.node.stats.parked_calls == server.node.stats.inflight_bytes == 0
    assert server.publish("t", b"unharmed").first_seq == 1


def spending() -> tuple[Server, Play]:
    """A message is spent, and the index that tells where its body lies is being read."""
    server = cold()
    server.fetch("s", "c", 3)
    play = Play(server)
    play.pass_ms(1_001)
    return server, play


def test_a_stream_deleted_while_the_index_of_a_spent_message_is_read_is_deleted() -> None:
    server, play = spending()
    with play:
        for number in delete_while_reading(play):
            play.done(number)
        assert finish(play)["2000"] == "ok"
    assert server.node.stats.dead_letters == 0


@pytest.mark.parametrize("kind", [FailureKind.IO, FailureKind.CORRUPT])
@pytest.mark.parametrize("deleted", [False, True], ids=["alive", "deleted"])
def test_a_spent_message_whose_index_cannot_be_read_is_never_dropped_in_silence(
    kind: FailureKind, deleted: bool
) -> None:
    server, play = spending()
    with play:
        waiting = delete_while_reading(play) if deleted else reads(play)
        assert waiting
        for number in waiting:
            play.fail(number, kind, ReadChunk)
        finish(play)
    assert server.node.stats.dead_letters == 0
    server.pass_ms(2_500)
    assert server.node.stats.dead_letters == (3 if kind is FailureKind.IO and not deleted else 0)
    assert server.node.quarantined() == (["s"] if kind is FailureKind.CORRUPT and not deleted else [])
    server.node.check()


def body_is_read() -> Play:
    """A message is handed out to be given up, and its body is being read."""
    server = Server()
    server.create("s")
    server.consumer("s", "c", max_deliver=1, ack_wait_ms=1_000, dead_letter_subject="dlq", filter_subject="a")
    server.publish("s", b"one")
    server.pass_ms(2_000)
    server.fetch()
    play = Play(server)
    play.pass_ms(1_001)
    play.expect("job 1 READ readchunk journal")
    return play


def test_a_call_that_waits_behind_a_deletion_is_counted_once() -> None:
    server = cold(max_msgs_per_subject=30)
    counted = server.node.stats.calls
    with Play(server) as play:
        play.tell((1001, publish("s", ("s.1", b"x"))), (1002, publish("s", ("s.2", b"y"))))
        delete_while_reading(play)
        replies = finish(play)
    assert all("no_such_stream" in replies[token] for token in ("1001", "1002"))
    assert server.node.stats.calls == counted + 3


def test_a_dead_letter_decided_behind_the_end_of_its_stream_goes_nowhere() -> None:
    with body_is_read() as play:
        play.tell((100, rq.DeleteStream("s")))
        play.expect("job 2 JOURNAL write journal, syncfile journal")
        play.done(1)
        play.expect("")
        play.done(2)
        play.expect("""
            reply 100 ok
            job 3 JOURNAL write journal, syncfile journal
        """)
        play.done(3)
        play.expect("")
        play.server.node.check()
    play.server.kill()
    assert play.server.node.stats.dead_letters == 0
    play.server.create("s")
    assert play.server.all() == []


@pytest.mark.parametrize("kind", [FailureKind.IO, FailureKind.CORRUPT])
def test_a_body_that_cannot_be_read_of_a_stream_that_is_gone_harms_nobody(kind: FailureKind) -> None:
    with body_is_read() as play:
        play.tell((100, rq.DeleteStream("s")))
        play.expect("job 2 JOURNAL write journal, syncfile journal")
        play.done(2)
        play.expect("reply 100 ok")
        play.fail(1, kind, ReadChunk)
        play.expect("")
    assert play.server.node.quarantined() == []


def aged() -> tuple[Server, Play]:
    """Retention must look into blocks whose indexes are not resident, for times come in any order."""
    server = Server(TINY)
    server.create("s", block_size=5, max_age_ms=60_000, strict_limits=True)
    for number in range(100):
        request = publish("s", (f"s.{number % 10}", bytes(80)))
        request.times_ms = [server.wall_ms - 1_000 * (number % 7)]
        server.ok(request)
    server.kill()
    play = Play(server)
    for _ in range(70):
        play.pass_ms(1_000)
        if reads(play):
            return server, play
        for number in list(play.jobs):
            play.done(number)
        play.lines.clear()
    raise AssertionError("retention asked for no index")


def test_a_stream_deleted_while_retention_reads_its_indexes_is_deleted() -> None:
    server, play = aged()
    with play:
        for number in delete_while_reading(play):
            play.done(number)
        assert finish(play)["2000"] == "ok"
    assert server.node.stats.pruned_messages == 0


@pytest.mark.parametrize("kind", [FailureKind.IO, FailureKind.CORRUPT])
@pytest.mark.parametrize("deleted", [False, True], ids=["alive", "deleted"])
def test_retention_goes_on_after_an_index_that_could_not_be_read_and_stops_at_a_damaged_one(
    kind: FailureKind, deleted: bool
) -> None:
    server, play = aged()
    with play:
        for number in delete_while_reading(play) if deleted else reads(play):
            play.fail(number, kind, ReadChunk)
        finish(play)
    server.pass_ms(90_000)
    server.node.check()
    if deleted:
        assert server.node.quarantined() == []
    elif kind is FailureKind.CORRUPT:
        assert server.node.quarantined() == ["s"]
        assert server.node.stats.pruned_messages == 0
    else:
        assert server.node.stats.pruned_messages == 100


def test_calls_that_may_not_wait_for_an_index_are_pushed_back() -> None:
    server = cold(max_msgs_per_subject=30)
    server.config = replace(server.config, limits=replace(TINY, parked_calls_max=0))
    server.kill()
    for request in (publish("s", ("s.1", b"x")), rq.ScanSubject("s", "s.1", 0, 100)):
        answer = server.call(request)
        assert isinstance(answer, Refusal)
        assert answer.status is Status.RESOURCE_EXHAUSTED
    assert server.node.stats.parked_calls == server.node.stats.inflight_bytes == 0


# ---------------------------------------------------------------- what is on its way


def test_a_subscription_whose_messages_are_damaged_ends_once_and_with_its_stream() -> None:
    server = Server()
    server.create("s")
    server.consumer("s", "c")
    server.publish("s", b"a needle")
    path = next(path for path, inode in server.disk.names.items() if b"a needle" in inode.content)
    server.disk.flip(path, 8 * bytes(server.disk.names[path].content).index(b"a needle"))
    token = server.subscribe("s", "c", messages=5)
    refusal = server.ends[token].refusal
    assert refusal is not None
    assert refusal.status is Status.DATA_LOSS
    assert server.node.quarantined() == ["s"]
    server.node.check()


def test_what_turns_out_unreadable_behind_the_end_of_its_reader_and_its_stream_harms_nobody() -> None:
    server = Server()
    server.create("s")
    server.consumer("s", "c")
    server.publish("s", b"one")
    token = server.subscribe("s", "c", messages=5)
    assert len(server.delivered[token]) == 1
    server.step(Cancel(Token(token)))
    server.ok(rq.DeleteStream("s"))
    server.step(Unreadable(Token(token), DiskFailure(FailureKind.CORRUPT, "journal/1", 0), []))
    assert server.node.quarantined() == []
    server.create("s")
    assert server.publish("s", b"two").first_seq == 1


def full(server: Server) -> None:
    """Not a byte more on the disk, and publishes were refused for it."""
    server.disk.space = sum(len(inode.content) for inode in server.disk.names.values())
    for _ in range(400):
        answer = server.call(publish("s", ("a", bytes(500))))
        if isinstance(answer, Refusal):
            assert answer.status is Status.RESOURCE_EXHAUSTED
            return
    raise AssertionError("the disk does not get full")


def test_when_the_reserve_is_used_up_too_every_change_is_refused_and_nothing_is_half_done() -> None:
    server = Server(TINY)
    server.create("s")
    full(server)
    made: list[str] = []
    refused: list[Refusal] = []
    for number in range(400):
        name = f"{'long' * 20}{number}"
        for answer, what in (
            (server.call(rq.CreateConsumer("s", consumer_config(name))), "consumer"),
            (server.call(rq.CreateStream(stream_config(name))), "stream"),
        ):
            if isinstance(answer, Refusal):
                refused.append(answer)
            else:
                made.append(f"{what} {name}")
        if len(refused) >= 4:
            break
    assert made
    assert {refusal.status for refusal in refused} == {Status.RESOURCE_EXHAUSTED}
    assert {"the reserve is used up" in refusal.message for refusal in refused} == {True}
    server.disk.space = None
    server.pass_ms(5_000)
    server.create("later")
    names = server.ok(rq.ListStreams())
    assert isinstance(names, rq.Page)
    assert sorted(f"stream {name}" for name in names.entries if name not in {"s", "later"}) == sorted(
        one for one in made if one.startswith("stream")
    )
    server.node.check()


def test_who_asks_for_a_consumer_that_is_just_being_made_waits_with_the_first() -> None:
    server = Server()
    server.create("s")
    server.pass_ms(2_000)
    with Play(server) as play:
        config = consumer_config("c")
        play.tell((101, rq.CreateConsumer("s", config)), (102, rq.CreateConsumer("s", config)))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.done(1)
        play.expect("""
            reply 101 ok
            reply 102 ok
        """)


# ---------------------------------------------------------------- calls that wait


def waiting_for_room(*, read_first: bool = False) -> tuple[Server, Play, list[int]]:
    """More publishes than the journal has room for: some of them wait. Perhaps call 999 has just read a message."""
    server = Server(TINY)
    server.create("s")
    server.publish("s", b"first")
    server.pass_ms(2_000)
    play = Play(server)
    if read_first:
        play.tell((999, rq.ReadLatest("s", "a")))
        play.lines.clear()
    tokens = list(range(1001, 1201))
    play.tell(*[(token, publish("s", ("a", bytes(500)))) for token in tokens])
    assert server.node.stats.parked_calls > 0
    return server, play, tokens


def test_a_drain_refuses_what_waits_for_room_and_commits_what_was_admitted() -> None:
    server, play, tokens = waiting_for_room()
    with play:
        parked = server.node.stats.parked_calls
        play.step(Drain())
        play.step(Drain())
        assert server.node.stats.parked_calls == 0
        while play.jobs:
            play.done(min(play.jobs))
        replies = [line for line in play.lines if line.startswith("reply")]
        halts = [line for line in play.lines if line.startswith("halt")]
        play.lines.clear()
        assert len(replies) == len(tokens)
        assert len([line for line in replies if "refused UNAVAILABLE not-applied" in line]) == parked
        assert halts == ["halt clean"]
    server.disk.kill()
    server.open()
    assert len(server.all()) == 1 + len(tokens) - parked


def test_a_stream_in_quarantine_answers_what_waits_for_room_in_it() -> None:
    server, play, tokens = waiting_for_room(read_first=True)
    with play:
        parked = server.node.stats.parked_calls
        play.step(Unreadable(Token(999), DiskFailure(FailureKind.CORRUPT, "journal/1", 64), []))
        assert server.node.stats.parked_calls == 0
        while play.jobs:
            play.done(min(play.jobs))
        replies = [line for line in play.lines if line.startswith("reply")]
        play.lines.clear()
        assert len([line for line in replies if "refused DATA_LOSS not-applied" in line]) == parked + 1
        assert len(replies) == len(tokens) + 1
        server.node.check()


# ---------------------------------------------------------------- a disk that fails


class FragileServer(Server):
    """A background job fails once, at its first operation of a type in a folder."""

    armed: tuple[type[DiskOp], str, FailureKind] | None = None

    def has_failed(self) -> bool:
        """Whether it came to that."""
        return self.armed is None

    def do(self, job: Job) -> Input:
        if self.armed is not None and job.lane is Lane.BACKGROUND:
            for index, op in enumerate(job.ops):
                path = getattr(op, "path", getattr(op, "folder", ""))
                if isinstance(op, self.armed[0]) and path.partition("/")[0] == self.armed[1]:
                    for before in job.ops[:index]:
                        self.disk.perform(before)
                    failure, self.armed = DiskFailure(self.armed[2], path, 0, "as told", index), None
                    return JobFailed(job.id, failure)
        return super().do(job)


def busy(server: Server) -> None:
    """Write until the node halts, or long enough for spares and checkpoints."""
    for number in range(120):
        if server.halted is not None:
            return
        token = server.token()
        server.step(Call(Token(token), ANYONE, publish("s", ("a", number.to_bytes(4, "big") * 40))))


@pytest.mark.parametrize(
    ("kind", "where", "failure"),
    [
        pytest.param(SyncFile, "journal", FailureKind.IO, id="a spare's sync"),
        pytest.param(SyncFile, "checkpoints", FailureKind.IO, id="a checkpoint's sync"),
        pytest.param(SyncDir, "", FailureKind.NO_SPACE, id="the sync of the manifest's name, for want of room"),
    ],
)
def test_where_it_is_not_known_what_is_durable_the_node_ends(
    kind: type[DiskOp], where: str, failure: FailureKind
) -> None:
    server = FragileServer(TINY)
    server.create("s")
    server.armed = (kind, where, failure)
    busy(server)
    assert server.halted is not None
    assert not server.halted.clean
    server.node.check()
    assert server.node.step(server.now(), []) == []
    assert server.node.next_deadline() is None
    told = len([answer for answer in server.replies.values() if isinstance(answer, Answer)])
    server.disk.kill()
    server.open()
    assert len(server.all()) >= told - 1


@pytest.mark.parametrize(
    ("kind", "where", "failure"),
    [
        pytest.param(CreateFile, "journal", FailureKind.NO_SPACE, id="a spare without room"),
        pytest.param(CopyChunks, "tails", FailureKind.CORRUPT, id="a copy that is nobody's damage"),
        pytest.param(Write, "checkpoints", FailureKind.IO, id="a checkpoint that cannot be written"),
    ],
)
def test_what_failed_in_the_background_is_tried_again(kind: type[DiskOp], where: str, failure: FailureKind) -> None:
    server = FragileServer(TINY)
    server.create("s")
    server.armed = (kind, where, failure)
    busy(server)
    server.pass_ms(5_000)
    busy(server)
    assert server.has_failed()
    assert server.halted is None
    assert server.node.quarantined() == []
    assert server.node.stats.checkpoints > 1
    server.node.check()
    assert server.node.stats.disk_full is False
