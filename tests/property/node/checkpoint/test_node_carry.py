"""Checkpoints release segments while a stream waits for its majority: they carry its records forward.

Each record then stands twice in the journal for a while. A restart at any moment has every record once and in order.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL, Server, publish, stream_config
from tests.kit.node_play import Play
from tests.kit.store_disk import Crash, MemoryDisk
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Lane
from waymaker_core.api.inputs import Replicated
from waymaker_core.api.requests import AckKind
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.result_codes import Answer
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.storage.recovery.verify import verify

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, index_cache_bytes=1)


RARE = replace(TINY, checkpoint_journal_bytes=64 * KIB)
"""Limits under which segments roll between checkpoints."""


def starving(limits: Limits = TINY, count: int = 6) -> Server:
    """A node with a busy stream, and one with `count` records that wait for a majority behind one that does not."""
    server = Server(limits, replicated=True)
    server.create("busy", block_size=20, max_msgs=50)
    server.create("s")
    server.consumer("s", "c")
    server.publish("s", b"0")
    server.fetch()
    server.starve("s")
    for number in range(count):
        server.ask(publish("s", ("a", b"%d" % (number + 1))))
    return server


def log_of(server: Server, name: str = "s") -> StreamLog:
    return next(replica.log for replica in server.node._state.replicas.values() if replica.name == name)


def write(server: Server, count: int) -> None:
    """Publish to the busy stream, so that checkpoints run."""
    for _ in range(count):
        server.publish("busy", bytes(300))


def write_past(server: Server) -> None:
    """Publish to the busy stream, until what starves lies in a segment that a checkpoint would release."""
    while log_of(server).entries[0].segment >= server.node._group_commit.journal.current_segment():
        write(server, 1)


def payloads(server: Server, name: str = "s") -> list[bytes]:
    return [payload for _, _, payload in server.all(name)]


def in_order(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count + 1)]


def oldest_segment(server: Server) -> int:
    return server.node._group_commit.journal.oldest_segment()


def require_sound(disk: MemoryDisk) -> None:
    """Require that a verification of the whole directory finds nothing that is wrong."""
    report = disk.copy().drive(verify(Restoring(TINY), TINY))
    assert not [finding for finding in report.findings if not finding.harmless]


# ---------------------------------------------------------------- serving


def test_checkpoints_release_segments_while_a_stream_waits_for_its_majority() -> None:
    server = starving()
    places = [[entry.segment for entry in log_of(server).entries]]
    for _ in range(40):
        write(server, 5)
        now = [entry.segment for entry in log_of(server).entries]
        if now != places[-1]:
            places.append(now)
        assert min(now) >= oldest_segment(server)
    assert len(places) > 3, "they were carried forward several times"
    assert server.node.stats.journal_bytes < 5 * TINY.checkpoint_journal_bytes
    require_sound(server.disk)
    server.feed()
    assert payloads(server) == in_order(6)
    server.kill()
    assert payloads(server) == in_order(6)


def test_what_was_carried_forward_is_there_after_a_start() -> None:
    for power in (False, True):
        server = starving()
        write(server, 200)
        server.starving = []
        server.lose_power() if power else server.kill()
        assert payloads(server) == in_order(6)
        server.node.check()
        write(server, 200)
        server.restart()
        assert payloads(server) == in_order(6)


def test_acks_settings_and_consumers_are_carried_forward_in_their_order() -> None:
    server = starving()
    server.feed()
    server.fetch()
    server.starve("s")
    server.ask(rq.Ack("s", "c", AckKind.ACK, [1, 2]))
    server.ask(rq.UpdateStream("s", max_msgs=5))
    server.ask(publish("s", ("a", b"last")))
    write(server, 200)
    started = Server(TINY, server.disk.copy(), replicated=True)
    server.feed()
    assert payloads(started) == payloads(server)
    assert payloads(started)[-1] == b"last"
    assert started.stats().first_seq == server.stats().first_seq > 1
    assert started.info().ack_floor == server.info().ack_floor >= 2


def test_records_of_the_catalog_are_carried_forward() -> None:
    server = starving(count=0)
    server.feed()
    server.starve("")
    token = server.ask(rq.DeleteStream("s"))
    write(server, 200)
    assert token not in server.replies
    server.starving = []
    server.kill()
    assert isinstance(server.call(rq.CreateStream(stream_config("s"))), Answer)
    assert payloads(server) == []


def test_records_in_flight_are_carried_forward_behind_themselves() -> None:
    server = starving(RARE)
    write_past(server)
    with Play(server) as play:
        play.tell((1001, publish("s", ("a", b"7"))), (1002, publish("busy", ("a", bytes(300)))))
        server.node._checkpoints.begin()
        play.tell((1003, publish("s", ("a", b"8"))))
        assert log_of(server).carrying
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()
    assert not log_of(server).carrying
    segments = [entry.segment for entry in log_of(server).entries]
    assert len(segments) == 8
    assert segments == sorted(segments)
    server.node.check()
    require_sound(server.disk)
    server.starving = []
    server.kill()
    assert payloads(server) == in_order(8)


def test_a_checkpoint_is_in_force_only_when_what_it_carried_forward_is_durable() -> None:
    server = starving(RARE)
    write_past(server)
    with Play(server) as play:
        server.node._checkpoints.begin()
        play.step()
        (journal,) = [number for number, job in play.jobs.items() if job.lane is Lane.JOURNAL]
        while len(play.jobs) > 1:
            play.done(next(number for number in play.jobs if number != journal))
        assert "rename" not in " ".join(play.lines)
        play.done(journal)
        assert "rename" in " ".join(play.lines)
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()
    server.node.check()


def test_what_a_majority_confirms_while_it_is_carried_forward_is_applied_behind_that() -> None:
    server = starving(RARE)
    write_past(server)
    log = log_of(server)
    with Play(server) as play:
        server.node._checkpoints.begin()
        play.step(Replicated(log.stream_id, log.durable))
        assert log.carrying
        assert log.applied < log.committed == log.durable
        while play.jobs:
            play.done(min(play.jobs))
        assert log.applied == log.durable
        play.lines.clear()
    server.starving = []
    assert payloads(server) == in_order(6)
    server.node.check()


def test_a_stream_that_is_deleted_while_it_is_carried_forward_is_gone() -> None:
    server = starving(RARE)
    write_past(server)
    log = log_of(server)
    with Play(server) as play:
        play.tell((1001, rq.DeleteStream("s")))
        server.node._checkpoints.begin()
        assert log.carrying
        play.step()
        for _ in range(200):
            if not play.jobs:
                break
            play.done(min(play.jobs))
            play.step(Replicated(0, server.node._state.catalog_log.durable))
        play.lines.clear()
    assert not log.entries
    server.node.check()
    server.kill()
    server.create("s")
    assert payloads(server) == []


def test_where_the_journal_has_no_free_space_for_them_the_segments_stay() -> None:
    server = starving(count=0)
    big = [bytes([number]) * 1_000 for number in range(60)]
    for body in big:
        server.ask(publish("s", ("a", body)))
    held = [entry.segment for entry in log_of(server).entries]
    write(server, 100)
    assert [entry.segment for entry in log_of(server).entries] == held
    assert oldest_segment(server) <= held[0]
    require_sound(server.disk)
    before = server.disk.copy()
    server.feed()
    assert payloads(server) == [b"0", *big]
    write(server, 100)
    assert oldest_segment(server) > held[-1]
    again = Server(TINY, before, replicated=True)
    assert payloads(again) == [b"0", *big]


# ---------------------------------------------------------------- restarts


def carried_twice(crash_in: int | None) -> tuple[Server, int]:
    """Carry the records forward twice, unless a crash comes at this operation; how many operations there were."""
    server = starving(count=4)
    server.ask(rq.Ack("s", "c", AckKind.ACK, [1]))
    log, changes = log_of(server), 0
    while len({entry.segment for entry in log.entries}) == 1 and changes == 0:
        # Up to the last publish before the first of them.
        used = server.node._group_commit.journal.end_lsn - server.node._checkpoints._covered
        if used > TINY.checkpoint_journal_bytes - 500:
            break
        write(server, 1)
    before, begun = log.entries[0].segment, server.disk.written_ops
    server.disk.crash_in = crash_in
    try:
        while changes < 2:
            write(server, 1)
            if log.entries[0].segment != before:
                before, changes = log.entries[0].segment, changes + 1
    except Crash:
        pass
    server.disk.crash_in = None
    return server, server.disk.written_ops - begun


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_a_crash_at_any_operation_leaves_every_record_once_and_in_order(power: bool) -> None:
    _, operations = carried_twice(None)
    assert operations > 20
    for crash_in in range(operations):
        server, _ = carried_twice(crash_in)
        server.starving = []
        server.lose_power() if power else server.kill()
        require_sound(server.disk)
        assert server.node.quarantined() == []
        assert payloads(server) == in_order(4), crash_in
        assert server.info().ack_floor == 1
        server.node.check()
        assert server.publish("s", b"5").first_seq == 6
        server.restart()
        assert payloads(server) == in_order(5), crash_in


def flip(disk: MemoryDisk, chunk: Chunk | None) -> None:
    assert chunk is not None
    disk.flip(chunk.path, 8 * chunk.offset)


def carried_and_not_in_force() -> tuple[MemoryDisk, list[Chunk | None], list[Chunk | None]]:
    """Return a disk with both frames of each record, all proved durable, and the bodies of the first and the second ones."""
    server = starving(RARE)
    write_past(server)
    log = log_of(server)
    first = [entry.chunk for entry in log.entries]
    with Play(server) as play:
        server.node._checkpoints.begin()
        play.step()
        while log.carrying:
            play.done(next(number for number, job in play.jobs.items() if job.lane is Lane.JOURNAL))
        play.tell((1001, publish("busy", ("a", b"proof"))))
        play.done(next(number for number, job in play.jobs.items() if job.lane is Lane.JOURNAL))
        disk = server.disk.copy()
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()
    return disk, first, [entry.chunk for entry in log.entries]


@pytest.mark.parametrize("second", [False, True], ids=["first frame", "second frame"])
def test_damage_in_one_of_two_frames_loses_nothing_and_is_mentioned(second: bool) -> None:
    disk, *places = carried_and_not_in_force()
    flip(disk, places[second][2])
    report = disk.copy().drive(verify(Restoring(TINY), TINY))
    assert [
        finding.harmless for finding in report.findings if "stands twice" in finding.detail or finding.stream_id > 0
    ]
    assert not report.has_damage
    server = Server(TINY, disk, replicated=True)
    assert server.node.quarantined() == []
    assert payloads(server) == in_order(6)


def test_damage_in_both_frames_puts_the_stream_into_quarantine() -> None:
    disk, first, second = carried_and_not_in_force()
    flip(disk, first[2])
    flip(disk, second[2])
    report = disk.copy().drive(verify(Restoring(TINY), TINY))
    assert report.has_damage
    server = Server(TINY, disk, replicated=True)
    assert server.node.quarantined() == ["s"]


def test_a_record_whose_first_frame_stands_behind_a_gap_is_not_forgotten_with_a_torn_second_one() -> None:
    server = starving(RARE, count=2)
    write_past(server)
    for number in (3, 4):
        server.ask(publish("s", ("a", b"%d" % number)))
    first = [entry.segment for entry in log_of(server).entries]
    server.node._checkpoints.begin()
    server.step()
    assert [segment >= oldest_segment(server) for segment in first] == [False, False, True, True]
    flip(server.disk, log_of(server).entries[3].chunk)
    report = server.disk.copy().drive(verify(Restoring(TINY), TINY))
    assert report.has_damage
    server.starving = []
    server.kill()
    assert server.node.quarantined() == ["s"], "its first frame proves that there was such a record"


def test_a_record_that_is_really_missing_puts_its_stream_into_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    server = starving()
    monkeypatch.setattr(GroupCommit, "carry", lambda self, cut: (cut, 0))
    write(server, 200)
    server.ask(publish("s", ("a", b"behind the gap")))
    report = server.disk.copy().drive(verify(Restoring(TINY), TINY))
    (found,) = [finding for finding in report.findings if not finding.harmless]
    assert found.stream_id == log_of(server).stream_id
    assert "follows, where" in found.detail
    server.starving = []
    server.kill()
    assert server.node.quarantined() == ["s"]
    assert server.publish("busy", b"x").count == 1
