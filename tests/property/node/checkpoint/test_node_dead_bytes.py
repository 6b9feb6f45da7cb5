"""Room of messages that ended: on disk there is little more than what lives, and on a full disk pruning makes room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.kit.node_kit import Server, publish
from tests.property.node.checkpoint.test_node_checkpoints import TINY
from waymaker_core.api import requests as rq
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import Answer
from waymaker_core.node.checkpoint.checkpoints import Checkpoints
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.stream.relocation import relocation as relocating

PLAIN = replace(TINY, checkpoint_journal_bytes=32 * KIB, block_bytes_max=64 * KIB, index_cache_bytes=64 * KIB)
ROOMY = replace(PLAIN, segment_bytes=64 * KIB, checkpoint_journal_bytes=128 * KIB)
SIZE = 200


def used(server: Server, *folders: str) -> int:
    return sum(len(inode.content) for path, inode in server.disk.names.items() if path.partition("/")[0] in folders)


def fill(server: Server, count: int, subjects: int = 1) -> None:
    for number in range(count):
        server.publish("s", bytes(SIZE), subject=f"a.{number * 7919 % subjects}")


def strict(server: Server) -> None:
    server.create("s", max_msgs=40, strict_limits=True, block_size=1_000)
    fill(server, 4_000)


def capped(server: Server) -> None:
    server.create("s", max_msgs_per_subject=1, block_size=1_000)
    fill(server, 4_000, subjects=40)


def queue(server: Server, every: int = 100) -> None:
    """A work queue in which one message in so many stays."""
    server.create("s", retention="WORK_QUEUE", block_size=300)
    server.consumer(ack_wait_ms=3_600_000)
    for _ in range(40):
        fill(server, 100)
        server.ack(*[seq for seq, _, _ in server.fetch(batch=100) if seq % every])


@pytest.mark.parametrize("shape", [strict, capped, queue])
def test_the_disk_holds_a_small_multiple_of_what_lives(shape: Callable[[Server], None]) -> None:
    server = Server(PLAIN)
    shape(server)
    live = server.all()
    assert 30 <= len(live) <= 40
    fill_other(server, 2 * PLAIN.checkpoint_journal_bytes)
    assert used(server, "blocks", "tails") < 3 * len(live) * (SIZE + 30) + 4 * KIB
    server.kill()
    assert server.all() == live


def fill_other(server: Server, byte_count: int, name: str = "other") -> None:
    """Let checkpoints pass without touching the stream."""
    server.create(name, max_msgs=1, block_size=1)
    for _ in range(byte_count // 500 + 1):
        server.publish(name, bytes(500))


def test_what_dies_is_left_behind_before_the_journal_has_grown() -> None:
    """Acknowledgements are short: a queue of large messages would hold them until the journal is full of acks."""
    server = Server(replace(PLAIN, checkpoint_journal_bytes=128 * KIB, segment_bytes=32 * KIB))
    server.create("s", retention="WORK_QUEUE", block_size=50)
    server.consumer(ack_wait_ms=3_600_000, max_deliver=100)
    for _ in range(300):
        server.publish("s", bytes(2_000))
    before = server.node.stats.checkpoints
    journal = server.node._group_commit.journal.end_lsn
    for _ in range(3):
        server.ack(*[seq for seq, _, _ in server.fetch(batch=100) if seq % 10])
    assert server.node._group_commit.journal.end_lsn - journal < 16 * KIB
    assert server.node.stats.checkpoints > before
    assert used(server, "blocks", "tails") < 300 * 2_000 // 2, "a tenth lives"
    assert len(server.all()) == 30


def test_dead_blocks_whose_indexes_are_not_in_memory_are_left_behind_too() -> None:
    server = Server(replace(PLAIN, index_cache_bytes=1))
    server.create("s", retention="WORK_QUEUE", block_size=50)
    server.consumer(ack_wait_ms=3_600_000)
    fill(server, 1_000)
    server.ack(*[seq for seq, _, _ in server.fetch(batch=1_000) if seq % 25])
    server.kill()
    server.publish("s", b"changed")
    fill_other(server, 3 * PLAIN.checkpoint_journal_bytes)
    assert used(server, "blocks", "tails") < 3 * 41 * (SIZE + 30) + 8 * KIB
    assert [seq for seq, _, _ in server.all()] == [*range(25, 1_001, 25), 1_001]


# ---------------------------------------------------------------- a full disk


def prune(server: Server) -> None:
    server.ok(rq.UpdateStream("s", max_msgs=5))


def delete(server: Server) -> None:
    server.ok(rq.DeleteStream("s"))
    server.create("s")


def acknowledge(server: Server) -> None:
    while got := server.fetch(batch=50):
        server.ack(*[seq for seq, _, _ in got])
        server.pass_ms(50)


def accepted(server: Server) -> bool:
    answer = server.call(publish("s", ("a", bytes(2_000))))
    return isinstance(answer, Answer) and answer.code == "ok"


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("left_over", [0, 300, 6_000])
@pytest.mark.parametrize("free_up", [prune, delete, acknowledge])
def test_pruning_on_a_full_disk_makes_room_within_seconds(
    free_up: Callable[[Server], None], left_over: int, restart: bool
) -> None:
    server = Server(ROOMY)
    server.disk.space = 1_000 * KIB
    kind = "WORK_QUEUE" if free_up is acknowledge else "LIMITS"
    server.create("s", retention=kind, block_size=10_000)
    server.consumer(ack_wait_ms=3_600_000)
    for _ in range(10_000):
        if not accepted(server):
            break
    assert not accepted(server)
    assert server.node.stats.disk_full
    server.disk.space = used(server, *{path.partition("/")[0] for path in server.disk.names}) + left_over
    free_up(server)
    if restart:
        server.kill()
    for _ in range(50):
        if accepted(server):
            break
        server.pass_ms(100)
    else:
        raise AssertionError("publishes are still refused after five seconds")
    live = server.all()
    for _ in range(30):
        assert accepted(server), "there is room for more than one"
    assert server.all()[: len(live)] == live
    server.kill()
    assert server.all()[: len(live)] == live


def fill_the_disk(server: Server, kib: int, live: Callable[[int], object] = lambda number: None) -> None:
    """Publish what is pruned later until the disk is full, with live messages in between; no byte is left over."""
    server.disk.space = kib * KIB
    server.create("s", block_size=10_000)
    for number in range(10_000):
        if not accepted(server):
            break
        live(number)
    assert server.node.stats.disk_full


def takes_publishes_again(server: Server) -> bool:
    server.disk.space = used(server, *{path.partition("/")[0] for path in server.disk.names})
    prune(server)
    for _ in range(50):
        if accepted(server):
            return True
        server.pass_ms(100)
    return False


def test_pruning_makes_room_though_the_states_of_idle_streams_do_not_fit() -> None:
    """A checkpoint of all streams is due, and larger than the reserve; that of the pruned stream is not."""
    server = Server(ROOMY)
    for number in range(10):
        server.create(f"idle{number}", block_size=10_000)
        for _ in range(40):
            server.publish(f"idle{number}", bytes(20))
    fill_the_disk(server, 1_120)
    for number in range(30):
        server.ok(rq.UpdateStream("s", max_age_ms=10_000_000 + number))
        server.pass_ms(50)
    chain = server.node._checkpoints._chain
    assert chain.full_wanted()
    assert chain.live_bytes > ROOMY.segment_bytes // 2
    assert takes_publishes_again(server)
    server.kill()
    assert server.node.stats.streams == 11


def test_pruning_makes_room_though_live_messages_lie_between_the_dead() -> None:
    """The checkpoints that release the segments write all streams, so that the files before them can go."""
    server = Server(ROOMY)
    for number in range(3):
        server.create(f"live{number}", block_size=10_000)
    fill_the_disk(server, 1_000, lambda number: server.call(publish(f"live{number % 3}", ("a", bytes(1_500)))))
    kept = [len(server.all(f"live{number}")) for number in range(3)]
    assert takes_publishes_again(server)
    server.kill()
    assert [len(server.all(f"live{number}")) for number in range(3)] == kept


def test_a_checkpoint_that_needs_more_indexes_than_the_cache_holds_loads_each_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though others push some out that were resident when it asked."""
    server = Server(replace(ROOMY, index_cache_bytes=16 * KIB, checkpoint_journal_bytes=512 * KIB))
    server.create("s", retention="WORK_QUEUE", block_size=4)
    server.consumer(ack_wait_ms=3_600_000, max_deliver=100)
    fill(server, 800)
    fill_other(server, 2 * 512 * KIB)
    for _ in range(80):
        server.fetch(batch=10)
    server.ack(*[seq for seq in range(1, 801) if seq % 4])
    server.kill()
    server.messages(rq.ReadRange("s", 1, 60))
    stats = server.node.stats
    waits: list[int] = []
    when_resident = Indexes.when_resident

    def others_push_out(self: Indexes, replica: StreamReplica, action: Any, *rest: Any) -> bool:
        done = when_resident(self, replica, action, *rest)
        if not done and action.func.__func__ is Checkpoints._copy_batch:
            held = {block for waiting in self._loading.values() for wait in waiting for _, block in wait.held}
            waits.append(len(held))
            assert len(waits) == 1, "the wait adds to what it holds"
            for number in replica.stream.blocks.keys() - held:
                relocating.evict_index(replica.stream, number)
        return done

    monkeypatch.setattr(Indexes, "when_resident", others_push_out)
    loads, checkpoints = stats.index_loads, stats.checkpoints
    fill_other(server, 2 * 512 * KIB, "another")
    assert stats.checkpoints > checkpoints
    assert waits[0] > 150
    assert waits[0] < stats.index_loads - loads <= 200
    live = len(server.all())
    assert live == 200
    assert used(server, "blocks", "tails") < 3 * live * (SIZE + 30)
