"""Damage: named by file, offset and stream; never served, never passed over, never a reason to delete."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.member_kit import Cluster
from tests.kit.node_kit import SMALL, Server, publish
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Unreadable
from waymaker_core.model.disk_ops import DiskFailure, FailureKind
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import Token
from waymaker_core.storage.errors import CorruptStore
from waymaker_core.stream.relocation import relocation as relocating

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, index_cache_bytes=256)


def damaged(answer: object) -> Refusal:
    assert isinstance(answer, Refusal), answer
    assert answer.status is Status.DATA_LOSS
    return answer


def flip(server: Server, needle: bytes) -> tuple[str, int]:
    """Flip a bit of some stored bytes; the file and the offset."""
    for path, inode in server.disk.names.items():
        at = inode.content.find(needle)
        if at >= 0:
            server.disk.flip(path, 8 * at + 3)
            return path, at
    raise AssertionError("not on disk")


def test_a_damaged_message_quarantines_its_stream_by_name() -> None:
    server = Server()
    server.create("s")
    server.create("t")
    server.consumer("s", "c")
    token = server.subscribe("s", "c")
    server.publish("s", b"a needle")
    server.publish("t", b"untouched")
    path, _ = flip(server, b"a needle")
    refusal = damaged(server.call(rq.ReadLatest("s", "a")))
    assert path in refusal.message
    assert "'s'" in refusal.message
    assert server.ends[token].refusal is not None
    for request in (
        publish("s", ("a", b"x")), rq.Fetch("s", "c"), rq.GetStreamInfo("s"), rq.ListSubjects("s"), rq.ListConsumers("s"),
        rq.UpdateStream("s", max_msgs=1), rq.ExportStream("s"),
    ):  # fmt: skip
        damaged(server.call(request))
    assert server.all("t") == [(1, 0, b"untouched")]
    assert server.node.quarantined() == ["s"]
    page = server.ok(rq.ListStreams())
    assert isinstance(page, rq.Page)
    assert page.entries == ["s", "t"]
    server.ok(rq.DeleteStream("s"))
    assert server.node.quarantined() == []
    server.create("s")
    assert server.publish("s", b"anew").first_seq == 1


def test_damage_in_the_journal_is_found_at_the_start_and_outlives_it() -> None:
    server = Server(TINY)
    server.create("s")
    server.create("t")
    server.publish("s", b"a needle")
    server.publish("s", b"behind")
    server.publish("t", b"untouched")
    server.pass_ms(2_000)
    path, _ = flip(server, b"a needle")
    server.kill()
    refusal = damaged(server.call(rq.GetStreamInfo("s")))
    assert path in refusal.message
    assert any(log.event == "quarantined" and log.fields["stream"] == "s" for log in server.logs)
    for number in range(200):
        server.publish("t", number.to_bytes(4, "big") * 40)
    assert server.node.stats.checkpoints > 1
    server.restart()
    damaged(server.call(rq.GetStreamInfo("s")))
    assert len(server.all("t")) == 201
    server.ok(rq.DeleteStream("s"))
    server.restart()
    answer = server.call(rq.GetStreamInfo("s"))
    assert isinstance(answer, Answer)
    assert answer.code == "no_such_stream"


@pytest.mark.parametrize("checkpoints", range(2, 7))
def test_damage_that_a_read_found_is_remembered_by_the_next_checkpoint(checkpoints: int) -> None:
    server = Server(TINY)
    server.create("s")
    server.create("t")
    server.publish("s", b"a needle")
    server.publish("s", b"behind")

    def write_until(checkpoints: int) -> None:
        while server.node.stats.checkpoints < checkpoints:
            server.publish("t", b"x" * 160)

    write_until(checkpoints)
    path, _ = flip(server, b"a needle")
    assert not path.startswith("journal/")
    damaged(server.call(rq.ReadRange("s", 1, 1)))
    write_until(checkpoints + 1)
    server.kill()
    damaged(server.call(rq.GetStreamInfo("s")))


@pytest.mark.parametrize("rotten", range(4))
def test_what_is_damaged_in_the_journal_keeps_no_neighbour_from_the_checkpoint(rotten: int) -> None:
    """The copying of several streams fails for the damage of one: the others are copied by the next attempt."""
    server = Server(TINY)
    names = [f"s{number}" for number in range(4)]
    for name in [*names, "busy"]:
        server.create(name)
        server.publish(name, b"needle of " + name.encode(), b"behind")
    flip(server, b"needle of " + names[rotten].encode())
    while server.node.stats.checkpoints < 2:
        server.publish("busy", b"x" * 160)
    assert server.node.stats.checkpoint_failures == 0
    assert server.node.quarantined() == [names[rotten]]
    used = {path for replica in server.node._state.replicas.values() for path in relocating.files(replica.stream)}
    kept = {path for path in server.disk.names if path.startswith(("blocks/", "tails/"))}
    assert kept <= used, "what the failed attempt wrote is given up"
    for begin in (None, server.kill):
        if begin is not None:
            begin()
        for name in names:
            if name == names[rotten]:
                damaged(server.call(rq.GetStreamInfo(name)))
            else:
                assert server.all(name) == [(1, 0, b"needle of " + name.encode()), (2, 0, b"behind")]


def test_the_files_of_a_damaged_stream_are_not_swept_away() -> None:
    server = Server(TINY)
    server.create("s", block_size=5)
    for number in range(100):
        server.publish("s", number.to_bytes(4, "big") * 40)
    server.publish("s", b"a needle")
    server.publish("s", b"behind")
    server.pass_ms(2_000)
    before = sorted(path for path in server.disk.names if path.startswith("blocks/"))
    assert before
    flip(server, b"a needle")
    server.kill()
    server.pass_ms(3_000)
    damaged(server.call(rq.GetStreamInfo("s")))
    assert sorted(path for path in server.disk.names if path.startswith("blocks/")) == before


def test_damage_that_belongs_to_nobody_refuses_the_start_by_name() -> None:
    server = Server()
    server.create("s")
    server.publish("s", b"one")
    server.publish("s", b"two")
    server.pass_ms(2_000)
    image = server.disk.copy()
    path = next(path for path in server.disk.names if path.startswith("journal/"))
    at = server.disk.names[path].content.index(b"WMfr")
    server.disk.flip(path, 8 * (at + 20))
    with pytest.raises(CorruptStore) as refused:
        server.kill()
    assert refused.value.path == path
    assert server.disk.image() == {**image.image(), path: server.disk.image()[path]}, "a refused start changes nothing"


def test_a_damaged_index_quarantines_its_stream() -> None:
    server = Server(TINY)
    server.create("s", block_size=5)
    for number in range(200):
        server.publish("s", number.to_bytes(4, "big") * 20, subject=f"s.{number % 3}")
    server.kill()
    replica = server.node._state.replicas
    stream = next(iter(replica.values())).stream
    chunk = relocating.index_location(stream, 2)
    assert chunk is not None
    server.disk.flip(chunk.path, 8 * (chunk.offset + chunk.length // 2))
    refusal = damaged(server.call(rq.ScanSubject("s", "s.1", 0, 100)))
    assert chunk.path in refusal.message


def test_a_missing_block_file_quarantines_its_stream_at_the_start() -> None:
    server = Server(TINY)
    server.create("s", block_size=5)
    server.create("t")
    for number in range(200):
        server.publish("s", number.to_bytes(4, "big") * 20)
    server.publish("t", b"untouched")
    path = next(path for path in server.disk.names if path.startswith("blocks/"))
    del server.disk.names[path]
    server.disk.durable_names.pop(path, None)
    server.kill()
    assert path in damaged(server.call(rq.GetStreamInfo("s"))).message
    assert server.all("t") == [(1, 0, b"untouched")]


def test_an_unreadable_answer_of_an_unknown_call_is_still_answered() -> None:
    server = Server()
    token = Token(server.token())
    server.step(Unreadable(token, DiskFailure(FailureKind.CORRUPT, "blocks/9-9.blk", 5), []))
    assert "blocks/9-9.blk" in damaged(server.replies[token]).message


def test_a_member_starts_with_a_damaged_stream_of_which_it_has_more_than_is_committed() -> None:
    """What is durable and not committed stands behind a state that is not there: the start took it for a gap, and failed."""
    cluster = Cluster(limits=TINY)
    stream_id, primary = cluster.serve(block_size=4)
    for number in range(40):
        cluster.publish(primary, stream_id, b"%d" % number * 300)
    follower = next(member for member in cluster.members if member is not primary)
    primary.ask(publish("s", ("a", b"behind")))
    cluster.send(primary, follower, stream_id)
    blocks = [path for path in follower.disk.names if path.startswith("blocks/")]
    del follower.disk.names[min(blocks)]
    follower.restart()
    assert follower.node.quarantined() == ["s"]
