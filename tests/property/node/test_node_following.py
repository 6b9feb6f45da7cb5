"""A replica that does not lead keeps what it is asked to keep: records byte for byte, cuts, promises and memberships."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL, Server, publish
from tests.kit.node_play import Play
from tests.kit.store_disk import Crash, MemoryDisk
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Append, Call, Cut, Enrol, Lead, Promise, Replicated, SentRecord, StepDown
from waymaker_core.model.limits import KIB
from waymaker_core.model.records import EpochRecord, StreamDeleted
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE, StreamId, Token
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.storage import record_codec
from waymaker_core.storage.frame import HEADER_BYTES, FrameHeader, decode_header, directory_key, frame_bytes
from waymaker_core.storage.journal.facts import Membership
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES
from waymaker_core.storage.recovery.verify import verify

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)
RARE = replace(TINY, checkpoint_journal_bytes=64 * KIB)


def log_of(server: Server, name: str = "s") -> StreamLog:
    return next(replica.log for replica in server.node._state.replicas.values() if replica.name == name)


def ends(server: Server, name: str = "s") -> tuple[int, int, int]:
    log = log_of(server, name)
    return log.applied, log.durable, log.end


def payloads(server: Server, name: str = "s") -> list[bytes]:
    return [payload for _, _, payload in server.all(name)]


def frames(disk: MemoryDisk, key: int) -> list[tuple[FrameHeader, bytes, bytes]]:
    """Return header, meta and body of every frame of the journal, in order."""
    found = []
    for path in sorted(path for path in disk.names if path.startswith("journal/")):
        data, at = bytes(disk.names[path].content), SEGMENT_HEADER_BYTES
        while (header := decode_header(key, data, at)) is not None and header.segment == int(path[8:-4]):
            meta_at = at + HEADER_BYTES
            body_at = meta_at + (header.meta_length + 7 & ~7)
            meta = data[meta_at : meta_at + header.meta_length]
            found.append((header, meta, data[body_at : body_at + header.body_length]))
            at += frame_bytes(header.meta_length, header.body_length)
    return found


def key_of(server: Server) -> int:
    return directory_key(bytes.fromhex(server.node.directory_id))


def records_of(server: Server, stream_id: int) -> list[SentRecord]:
    """Return the records of a log as its journal holds them."""
    return [
        SentRecord(header.kind, header.version, meta, body)
        for header, meta, body in frames(server.disk, key_of(server))
        if header.stream_id == stream_id and header.kind < 64
    ]


def follower() -> tuple[Server, int]:
    server = Server(replicated=True)
    server.create("s")
    stream_id = server.log_id("s")
    server.step(StepDown(stream_id))
    return server, stream_id


def busy_leader() -> tuple[Server, list[SentRecord]]:
    """A leader whose log has records of many kinds, and those."""
    server = Server(replicated=True)
    server.create("s")
    server.consumer("s", "c", dead_letter_subject="dead.letters", max_deliver=1, ack_wait_ms=100)
    server.publish("s", b"1", b"2", b"3")
    server.fetch("s", "c", 3)
    server.ack(1)
    server.pass_ms(500)
    server.ok(rq.UpdateStream("s", max_msgs=9))
    return server, records_of(server, server.log_id("s"))


# ---------------------------------------------------------------- records


def test_a_follower_stores_what_it_was_sent_byte_for_byte_and_comes_to_the_same_state() -> None:
    leader, sent = busy_leader()
    assert {each.kind for each in sent} >= {1, 3, 5, 6, 8}
    server = Server(replicated=True)
    server.create("s")
    stream_id = server.log_id("s")
    server.step(StepDown(stream_id))
    server.step(Append(7, stream_id, 1, sent[:3]))
    server.step(Append(8, stream_id, 4, sent[3:]))
    assert server.kept == [7, 8]
    assert ends(server) == (0, len(sent), len(sent))
    assert not [each for each in server.asked if each.stream_id == stream_id], "a follower sends nothing on"
    assert records_of(server, stream_id) == sent
    mine, theirs = (
        [
            (header.kind, header.version, header.position, header.meta_crc, header.body_crc, meta, body)
            for header, meta, body in frames(each.disk, key_of(each))
            if header.stream_id == each.log_id("s") and header.kind < 64
        ]
        for each in (server, leader)
    )
    assert mine == theirs
    server.step(Replicated(stream_id, len(sent)))
    server.step(Lead(stream_id))
    server.node.check()
    assert server.all() == leader.all()
    assert server.info().ack_floor == leader.info().ack_floor
    server.kill()
    assert server.all() == leader.all()


def test_what_was_sent_is_carried_forward_and_found_by_a_start_as_it_was_sent() -> None:
    _, sent = busy_leader()
    server = Server(TINY, replicated=True)
    server.create("s")
    server.create("busy", block_size=20, max_msgs=50)
    stream_id = server.log_id("s")
    server.pass_ms(200)
    server.step(StepDown(stream_id))
    server.step(Append(1, stream_id, 1, sent))
    server.starve("s")
    for _ in range(2):
        first = log_of(server).entries[0].segment
        for _ in range(150):
            server.publish("busy", bytes(300))
        assert log_of(server).entries[0].segment > first
        assert records_of(server, stream_id)[-len(sent) :] == sent
        server.kill()
        server.step(StepDown(stream_id))
        assert ends(server) == (0, len(sent), len(sent))


def test_records_are_kept_whole_and_in_order_or_not_at_all() -> None:
    _, sent = busy_leader()
    server, stream_id = follower()
    publish_record = next(each for each in sent if each.kind == 1)
    deletion = StreamDeleted(1)
    alien = SentRecord(deletion.KIND, 1, record_codec.encode(deletion), b"")
    for number, (first, records, reason) in enumerate(
        [
            (2, sent, "the log ends at 0, and record 2 was sent"),
            (1, [*sent, SentRecord(99, 1, b"", b"")], "record kind has version 99"),
            (1, [SentRecord(1, 1, b"nonsense", b"")], "a record of kind 1"),
            (1, [publish_record._replace(body=b"short")], "the record does not fit its messages"),
            (1, [alien], "a record of the catalog in a stream's log"),
        ]
    ):
        server.step(Append(number, stream_id, first, records))
        assert reason in server.declined[number].reason
        assert server.declined[number].end == 0
    server.step(Lead(stream_id))
    server.step(Append(9, stream_id, 1, sent))
    assert server.declined[9].reason == "this node leads the stream"
    assert not server.kept
    server.node.check()


def test_a_follower_takes_no_more_than_its_bounds() -> None:
    leader = Server(replicated=True)
    leader.create("s")
    leader.publish("s", b"1")
    (record,) = records_of(leader, leader.log_id("s"))
    server = Server(replace(SMALL, uncommitted_records_max=10), replicated=True)
    server.create("s")
    stream_id = server.log_id("s")
    server.step(StepDown(stream_id))
    prune = SentRecord(2, 1, b"\0" * 12, b"")
    for position in range(1, 20):
        server.step(Append(position, stream_id, log_of(server).end + 1, [record if position == 1 else prune]))
    assert len(server.kept) == 10
    assert server.declined[19].reason == "too much waits to be committed here"


def test_records_of_a_stream_that_is_not_known_yet_are_kept_until_it_is() -> None:
    leader = Server(replicated=True)
    leader.create("s")
    leader.publish("s", b"1")
    sent, created = records_of(leader, leader.log_id("s")), records_of(leader, 0)
    server = Server(replicated=True)
    stream_id = leader.log_id("s")
    server.step(Append(1, stream_id, 1, sent))
    assert server.kept == [1]
    assert [log.event for log in server.logs if log.event == "unknown_stream"]
    server.kill()
    assert list(server.node._state.unknown) == [stream_id]
    server.create("s")
    assert server.log_id("s") == stream_id
    assert created
    assert payloads(server) == [b"1"]
    server.node.check()
    server.step(Append(2, stream_id - 1 or 999_999, 1, sent))


# ---------------------------------------------------------------- cuts


def with_suffix(limits: object = SMALL, count: int = 3) -> tuple[Server, int]:
    """A deposed node with one committed message and `count` records that are not."""
    server = Server(limits, replicated=True)  # type: ignore[arg-type]
    server.create("s")
    server.create("busy", block_size=20, max_msgs=50)
    server.publish("s", b"0")
    server.pass_ms(200)
    server.starve("s")
    for number in range(count):
        server.ask(publish("s", ("a", b"%d" % (number + 1))))
    stream_id = server.log_id("s")
    server.step(StepDown(stream_id))
    return server, stream_id


def test_a_cut_takes_records_back_for_good_and_their_positions_are_given_again() -> None:
    server, stream_id = with_suffix()
    server.step(Cut(5, stream_id, 2))
    assert server.kept == [5]
    assert ends(server) == (1, 2, 2)
    server.node.check()
    server.kill()
    assert ends(server) == (1, 2, 2)
    server.feed()
    assert payloads(server) == [b"0", b"1"]
    assert server.publish("s", b"new").first_seq == 3
    server.kill()
    server.feed()
    assert payloads(server) == [b"0", b"1", b"new"]
    server.node.check()


def test_a_cut_is_refused_below_what_is_committed_and_where_the_node_leads() -> None:
    server, stream_id = with_suffix()
    server.step(Cut(1, stream_id, 0), Cut(2, 999, 0))
    assert server.declined[1].reason == "it is committed up to 1"
    assert server.declined[2].reason == "no such stream"
    server.step(Replicated(stream_id, 2), Cut(3, stream_id, 1))
    assert server.declined[3].reason == "it is committed up to 2"
    server.step(Cut(4, 0, 0), Cut(5, server.log_id("busy"), 0))
    assert server.declined[4].reason == server.declined[5].reason == "this node leads the stream"
    server.step(Cut(6, stream_id, 4), Cut(7, stream_id, 99))
    assert server.kept == [6, 7], "there is nothing to take back"
    assert ends(server) == (2, 4, 4)


def test_a_cut_takes_back_what_is_pending_and_what_is_in_flight() -> None:
    server, stream_id = with_suffix(count=1)
    server.feed()
    server.step(Lead(stream_id))
    server.starve("s")
    with Play(server) as play:
        play.tell((1001, publish("s", ("a", b"in flight"))))
        play.tell((1002, publish("s", ("a", b"pending"))))
        assert ends(server) == (2, 2, 4)
        play.step(StepDown(stream_id))
        play.step(Cut(1, stream_id, 2))
        assert ends(server) == (2, 2, 2)
        assert "Kept 1" not in play.lines
        while play.jobs:
            play.done(min(play.jobs))
        assert "Kept 1" in play.lines
        play.lines.clear()
    server.step(Lead(stream_id))
    server.node.check()
    assert (server.node.stats.pending_records, server.node.stats.inflight_bytes) == (0, 0)
    server.feed()
    assert server.publish("s", b"2").first_seq == 3
    server.kill()
    server.feed()
    assert payloads(server) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_records_that_a_cut_takes_back_before_they_are_durable_are_answered_before_it(in_one_step: bool) -> None:
    _, sent = busy_leader()
    server, stream_id = follower()
    inputs: list[Append | Cut] = [
        Append(11, stream_id, 1, sent[:2]),
        Append(12, stream_id, 3, sent[2:4]),
        Cut(13, stream_id, 1),
    ]
    with Play(server) as play:
        if in_one_step:
            play.step(*inputs)
        else:
            for each in inputs:
                play.step(each)
        while play.jobs:
            play.done(min(play.jobs))
        answers = [line for line in play.lines if line.startswith(("Kept", "Declined"))]
        play.lines.clear()
    assert answers == ["Kept 11", "Kept 12", "Kept 13"]
    assert server.node.log_end(stream_id) == 1
    server.node.check()


def test_an_answer_that_waits_for_another_log_first_does_not_outlive_the_step_down() -> None:
    server = Server(replicated=True)
    server.create("e", ephemeral=True)
    server.starve("", "e")
    token = server.ask(rq.UpdateStream("e", max_msgs=5))
    stream_id = server.log_id("e")
    server.step(StepDown(stream_id), Cut(1, stream_id, 0))
    answer = server.replies[token]
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.outcome) == (Status.ABORTED, Outcome.UNKNOWN)
    server.step(Lead(stream_id))
    server.feed()
    server.node.check()


def write_past(server: Server) -> None:
    while log_of(server).entries[0].segment >= server.node._group_commit.journal.current_segment():
        server.publish("busy", bytes(300))


def require_sound(disk: MemoryDisk) -> None:
    report = disk.copy().drive(verify(Restoring(TINY), TINY))
    assert not [finding for finding in report.findings if not finding.harmless], report.findings


STEPS = ("cut", "carry", "write")


@pytest.mark.parametrize("orders", [(a, b, c, d) for a in STEPS for b in STEPS for c in STEPS for d in STEPS])
def test_cuts_carries_and_new_records_in_any_order_leave_the_log_that_they_mean(orders: tuple[str, ...]) -> None:
    """After each step a start finds exactly the log: no void record comes back, none is taken for the new one."""
    server, stream_id = with_suffix(RARE)
    expected = [b"0", b"1", b"2", b"3"]
    fresh = 0
    for number, step in enumerate(orders):
        if step == "cut" and len(expected) > 1:
            expected.pop()
            server.step(Cut(number, stream_id, len(expected)))
        elif step == "carry" and len(expected) > 1:
            write_past(server)
            server.node._checkpoints.begin()
            server.step()
        elif step == "write":
            fresh += 1
            record = records_of(server, stream_id)[-1]
            leader = Server(replicated=True)
            leader.create("s")
            for body in [*expected, b"new %d" % fresh]:
                leader.publish("s", body)
            record = records_of(leader, leader.log_id("s"))[-1]
            server.step(Append(number, stream_id, len(expected) + 1, [record]))
            expected.append(b"new %d" % fresh)
        assert not server.declined
        require_sound(server.disk)
        again = Server(RARE, server.disk.copy(), replicated=True)
        assert payloads(again) == expected, (number, step)
        again.node.check()
    server.starving = []
    server.lose_power()
    assert payloads(server) == expected


# ---------------------------------------------------------------- crashes


def cut_and_carried(crash_in: int | None) -> tuple[Server, int, list[list[bytes]]]:
    """Carry a suffix, cut it, write anew and carry again, unless a crash comes; also the logs that a start may find."""
    server, stream_id = with_suffix(RARE)
    write_past(server)
    may_be = [[b"0", b"1", b"2", b"3"]]
    begun = server.disk.written_ops
    server.disk.crash_in = crash_in
    try:
        server.node._checkpoints.begin()
        server.step()
        may_be.append([b"0", b"1"])
        server.step(Cut(1, stream_id, 2))
        may_be.pop(0)
        server.starving = []
        may_be.append([b"0", b"1", b"again"])
        server.step(Replicated(stream_id, 2), Lead(stream_id))
        server.publish("s", b"again")
        may_be.pop(0)
        server.pass_ms(150)
        write_past(server) if log_of(server).entries else None
        server.node._checkpoints.begin()
        server.step()
    except Crash:
        pass
    server.disk.crash_in = None
    return server, server.disk.written_ops - begun, may_be


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_a_crash_at_any_operation_leaves_the_log_before_or_behind_a_cut(power: bool) -> None:
    _, operations, _ = cut_and_carried(None)
    assert operations > 15
    for crash_in in range(operations):
        server, _, may_be = cut_and_carried(crash_in)
        server.starving = []
        server.lose_power() if power else server.kill()
        require_sound(server.disk)
        assert server.node.quarantined() == []
        found = payloads(server)
        assert found in may_be, crash_in
        server.node.check()
        assert server.publish("s", b"next").first_seq == len(found) + 1
        server.restart()
        assert payloads(server) == [*found, b"next"], crash_in


# ---------------------------------------------------------------- promises and memberships


def facts(server: Server) -> tuple[dict[int, int], dict[int, Membership]]:
    found = server.node.replica_facts()
    return found.promises, found.replicas


def test_promises_and_memberships_are_known_after_checkpoints_and_starts() -> None:
    server = Server(TINY, replicated=True)
    server.create("busy", block_size=20, max_msgs=50)
    server.create("s")
    busy, other = server.log_id("busy"), server.log_id("s")
    server.step(Promise(1, [busy, other], 4), Enrol(2, other, 3, 4))
    server.step(Promise(3, [other], 9), Promise(4, [busy], 2))
    assert server.kept == [1, 2, 3, 4]
    expected = ({busy: 4, other: 9}, {other: Membership(3, 4)})
    for _ in range(3):
        assert facts(server) == expected
        server.lose_power()
        assert facts(server) == expected
        for _ in range(120):
            server.publish("busy", bytes(300))
    assert server.node.stats.checkpoints > 1
    alone = Server(TINY, server.disk.copy())
    for _ in range(120):
        alone.publish("busy", bytes(300))
    alone.kill()
    assert facts(alone) == expected
    server.ok(rq.DeleteStream("s"))
    server.step(Promise(5, [other], 11), Enrol(6, other, 1, 1))
    assert server.declined[6].reason == "no such stream"
    server.restart()
    assert facts(server) == ({busy: 4}, {})


def test_a_promise_is_answered_when_it_is_durable() -> None:
    server = Server(replicated=True)
    server.create("s")
    with Play(server) as play:
        play.step(Promise(1, [server.log_id("s")], 4))
        assert "Kept 1" not in play.lines
        play.done(min(play.jobs))
        assert "Kept 1" in play.lines
        play.lines.clear()


def test_where_the_journal_has_no_free_space_nothing_is_kept() -> None:
    server, stream_id = with_suffix()
    server.node._group_commit.journal.fits = lambda *_, **__: False  # type: ignore[method-assign]
    server.step(Promise(1, [stream_id], 4), Cut(2, stream_id, 1), Enrol(3, stream_id, 1, 1))
    assert sorted(server.declined) == [1, 2, 3]
    assert ends(server) == (1, 4, 4)


# ---------------------------------------------------------------- epochs


def test_the_first_record_of_an_epoch_says_so_and_the_table_is_a_function_of_the_log() -> None:
    server, stream_id = with_suffix(count=0)
    server.starving = []
    server.step(Lead(stream_id, 3))
    server.publish("s", b"1")
    server.step(StepDown(stream_id))
    server.step(Lead(stream_id, 5))
    server.step(StepDown(stream_id))
    server.step(Lead(stream_id, 5))
    replica = server.node._state.replicas[StreamId(stream_id)]
    assert replica.stream.epochs.starts == [(3, 2), (5, 4)]
    for _ in range(2):
        server.restart()
        assert server.node._state.replicas[StreamId(stream_id)].stream.epochs.starts == [(3, 2), (5, 4)]
        server.node._checkpoints.begin()
        server.step()


def test_an_epoch_that_is_not_later_is_declined() -> None:
    server, stream_id = follower()
    late, early = EpochRecord(4), EpochRecord(4)
    server.step(Append(1, stream_id, 1, [SentRecord(10, 1, record_codec.encode(late), b"")]))
    server.step(Append(2, stream_id, 2, [SentRecord(10, 1, record_codec.encode(early), b"")]))
    assert server.kept == [1]
    assert server.declined[2].reason == "epoch 4 follows epoch 4"


# ---------------------------------------------------------------- files


def test_a_file_goes_only_when_it_is_durable_that_its_record_is_committed() -> None:
    server = Server(TINY, replicated=True)
    server.create("s", block_size=5, max_msgs=10)
    for number in range(10):
        server.publish("s", b"%d" % number * 400)
    server.create("busy", block_size=20, max_msgs=50)
    for _ in range(60):
        server.publish("busy", bytes(300))
    files = {path for path in server.disk.names if path.startswith(f"blocks/{server.log_id('s')}-")}
    assert files
    server.pass_ms(200)
    with Play(server) as play:
        for token in range(1001, 1006):
            play.step(Call(Token(token), ANYONE, publish("s", ("a", b"x" * 400))))
        for _ in range(30):
            if not play.jobs:
                break
            play.done(min(play.jobs))
        assert files <= set(server.disk.names), "the records are durable and committed; no frame says so"
        server.mono_ns += 150_000_000
        play.step()
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()
