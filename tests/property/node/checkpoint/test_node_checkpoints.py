"""Checkpoints: what they move and give up, and that they may be interrupted anywhere."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.kit.node_kit import SMALL, Server, consumer_config, publish, stream_config
from tests.kit.store_disk import Crash, MemoryDisk
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Job, Lane
from waymaker_core.api.inputs import Call, Input, JobFailed
from waymaker_core.api.requests import AckKind
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.model.disk_ops import DiskFailure, FailureKind, SyncDir, SyncFile, Write
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.stream.relocation import relocation as relocating

TINY = replace(
    SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, block_bytes_max=2 * KIB, index_cache_bytes=256,
    record_bytes_max=1 * KIB,
)  # fmt: skip
FEW_RECORDS = replace(SMALL, segment_bytes=1 << 20, checkpoint_journal_bytes=1 << 20, checkpoint_records=50)


def fill(server: Server, stream: str, count: int, size: int = 100) -> None:
    for number in range(count):
        server.publish(stream, number.to_bytes(4, "big") + bytes(size), subject=f"a.{number % 7}")


def disk_is_full(server: Server) -> bool:
    return server.node.stats.disk_full


def test_the_journal_stays_short_and_restarts_replay_little() -> None:
    server = Server(TINY)
    server.create("s", block_size=20)
    fill(server, "s", 400)
    assert server.node.stats.checkpoints > 3
    assert server.node.stats.journal_bytes < 5 * TINY.checkpoint_journal_bytes
    before = server.all()
    assert len(before) == 400
    server.kill()
    assert server.all() == before
    assert server.node.stats.recovered_records < 200


def test_a_start_replays_a_bounded_number_of_records_however_short_they_are() -> None:
    server = Server(FEW_RECORDS)
    server.create("s")
    fill(server, "s", 400, size=1)
    assert 6 <= server.node.stats.checkpoints <= 8
    for _ in range(5):
        before = server.all()
        server.kill()
        assert server.all() == before
        assert server.node.stats.recovered_records < 60
        # What a start has replayed counts: starts that come one after the other do not let the journal grow.
        fill(server, "s", 30, size=1)


def test_one_idle_stream_does_not_pin_the_journal() -> None:
    server = Server(TINY)
    for number in range(20):
        server.create(f"idle{number}")
        server.publish(f"idle{number}", b"kept")
    server.create("busy", block_size=10)
    fill(server, "busy", 600)
    server.kill()
    segments = [path for path in server.disk.names if path.startswith("journal/")]
    assert len(segments) < 12
    for number in range(20):
        assert server.all(f"idle{number}") == [(1, 0, b"kept")]
    tails = [path for path in server.disk.names if path.startswith("tails/")]
    assert len(tails) < 6, "a tail file goes when nobody uses it"


def test_a_tail_file_goes_with_the_last_stream_that_used_it() -> None:
    server = Server(TINY)
    for number in range(6):
        server.create(f"small{number}")
        server.publish(f"small{number}", b"in a tail file")
    server.create("busy", block_size=5)
    fill(server, "busy", 200)
    assert [path for path in server.disk.names if path.startswith("tails/")]
    for number in range(6):
        server.ok(rq.DeleteStream(f"small{number}"))
    fill(server, "busy", 300)
    entry = server.node._state.catalog.find("", "busy")
    assert entry is not None
    used = set(relocating.files(server.node._state.replicas[entry.stream_id].stream))
    assert {path for path in server.disk.names if path.startswith("tails/")} <= used


def test_files_of_blocks_that_are_gone_go() -> None:
    server = Server(TINY)
    server.create("s", block_size=10, max_msgs=50)
    fill(server, "s", 800)
    server.kill()
    blocks = [path for path in server.disk.names if path.startswith("blocks/")]
    assert 1 <= len(blocks) <= 14
    server.ok(rq.DeleteStream("s"))
    server.pass_ms(5_000)
    assert [path for path in server.disk.names if path.startswith("blocks/")] == []


def test_reads_of_old_blocks_load_their_indexes_and_the_cache_stays_bounded() -> None:
    server = Server(TINY)
    server.create("s", block_size=10)
    fill(server, "s", 300)
    server.kill()
    found = server.messages(rq.ScanSubject("s", "a.3", 0, 100))
    assert [seq for seq, _, _ in found] == list(range(4, 301, 7))
    assert server.node.stats.index_loads > 5
    assert server.node.stats.index_evictions > 0
    assert server.messages(rq.ReadLatest("s", "a.5"))[0][0] == 300


def test_a_checkpoint_that_finds_no_room_is_given_up_and_tried_again() -> None:
    server = Server(TINY)
    server.create("s", block_size=20)
    fill(server, "s", 60)
    server.disk.space = sum(len(inode.content) for inode in server.disk.names.values()) + 9_000
    accepted = 0
    for _ in range(400):
        answer = server.call(publish("s", ("x", bytes(100))))
        if isinstance(answer, Answer):
            accepted += 1
        else:
            assert answer.status.name == "RESOURCE_EXHAUSTED"
    assert accepted < 400
    assert disk_is_full(server)
    assert len(server.all()) == 60 + accepted
    server.consumer("s", "c")
    taken = server.fetch(batch=10)
    server.ack(*[seq for seq, _, _ in taken])
    server.disk.space = None
    server.pass_ms(3_000)
    assert not disk_is_full(server)
    fill(server, "s", 100)
    server.kill()
    assert len(server.all()) == 160 + accepted
    assert server.info().ack_floor == 10


@pytest.mark.parametrize("sync_interval_ms", [0, 40])
@pytest.mark.parametrize("seed", range(5))
def test_a_crash_at_any_operation_loses_nothing_confirmed(seed: int, sync_interval_ms: int) -> None:
    random = Random(seed)
    server = Server(TINY, MemoryDisk(), sync_interval_ms, seed)
    model: dict[str, dict[int, bytes]] = {}
    acked: dict[str, set[int]] = {}
    for _ in range(14):
        power = sync_interval_ms == 0 and random.random() < 0.5
        server.disk.crash_in = random.randrange(1, 160)
        unsure: set[str] = set()
        try:
            while True:
                act(server, random, model, acked, unsure)
        except Crash:
            pass
        server.lose_power() if power else server.kill()
        for name in sorted(model):
            verify(server, name, model, acked, unsure)


def act(
    server: Server, random: Random, model: dict[str, dict[int, bytes]], acked: dict[str, set[int]], unsure: set[str]
) -> None:
    """One call; what is confirmed goes into the model, what was begun into `unsure`."""
    name = random.choice("abcd")
    choice = random.random()
    if name not in model:
        unsure.add(name)
        server.call(rq.CreateStream(server_config(name, random)))
        server.call(rq.CreateConsumer(name, consumer()))
        model[name], acked[name] = {}, set()
        unsure.discard(name)
    elif choice < 0.03:
        unsure.add(name)
        server.ok(rq.DeleteStream(name))
        del model[name], acked[name]
        unsure.discard(name)
    elif choice < 0.2:
        taken = server.fetch(name, "c", 20)
        assert not acked[name] & {seq for seq, _, _ in taken}, "delivered after its confirmed ack"
        some = [seq for seq, _, _ in taken if random.random() < 0.8]
        server.ack(*some, stream=name, consumer="c", kind=AckKind.ACK)
        acked[name] |= set(some)
    elif choice < 0.25:
        server.pass_ms(random.randrange(1, 2_000))
    else:
        payloads = [random.randbytes(random.choice([0, 10, 100, 700])) for _ in range(random.randrange(1, 9))]
        first = server.publish(name, *payloads, subject=random.choice(["a", "b.c", "d"])).first_seq
        model[name].update(enumerate(payloads, first))


def server_config(name: str, random: Random) -> StreamConfig:
    return stream_config(name, block_size=random.choice([1, 7, 50]))


def consumer() -> ConsumerConfig:
    return consumer_config("c", ack_wait_ms=1_000, max_deliver=1_000)


def verify(
    server: Server, name: str, model: dict[str, dict[int, bytes]], acked: dict[str, set[int]], unsure: set[str]
) -> None:
    answer = server.call(rq.GetStreamInfo(name))
    assert isinstance(answer, Answer)
    if name in unsure and answer.code == "no_such_stream":
        model.pop(name)
        acked.pop(name)
        return
    assert answer.code == "ok", (name, answer)
    found = {seq: payload for seq, _, payload in server.all(name)}
    for seq, payload in model[name].items():
        assert found[seq] == payload
    assert len(found) - len(model[name]) <= 8, "at most the publish that was under way"
    model[name] = found
    server.pass_ms(1_001)
    again = {seq for seq, _, _ in server.fetch(name, "c", 50)}
    assert not again & acked[name], "delivered after its confirmed ack"


def test_a_failed_copy_names_its_stream_and_the_others_go_on() -> None:
    server = Server(TINY)
    server.create("good", block_size=20)
    server.create("bad", block_size=20)
    server.publish("bad", b"to be damaged")
    path = next(path for path, inode in server.disk.names.items() if b"to be damaged" in inode.content)
    at = server.disk.names[path].content.index(b"to be damaged")
    server.disk.flip(path, 8 * at)
    fill(server, "good", 200)
    assert server.node.stats.checkpoints >= 1
    answer = server.call(rq.GetStreamInfo("bad"))
    assert "DATA_LOSS" in repr(answer)
    assert path in repr(answer)
    server.kill()
    assert "DATA_LOSS" in repr(server.call(rq.GetStreamInfo("bad"))), "the damage outlives the journal that showed it"
    assert len(server.all("good")) == 200
    server.ok(rq.DeleteStream("bad"))
    server.create("bad")
    server.kill()
    assert server.all("bad") == []


def test_a_failed_sync_of_a_checkpoint_is_the_end() -> None:
    server = Server(TINY)
    server.create("s", block_size=20)
    perform = server.do

    def failing(job: Job) -> Input:
        for index, op in enumerate(job.ops):
            if isinstance(op, SyncFile) and op.path.startswith(("blocks", "tails", "checkpoints")):
                assert job.lane is Lane.BACKGROUND
                return JobFailed(job.id, DiskFailure(FailureKind.IO, op.path, 0, "no", index))
        return perform(job)

    server.do = failing  # type: ignore[method-assign]
    for _ in range(200):
        server.step(Call(Token(server.token()), ANYONE, publish("s", ("a", bytes(100)))))
        if server.halted is not None:
            break
    assert server.halted is not None
    assert not server.halted.clean


@pytest.mark.parametrize("limits", [TINY, FEW_RECORDS], ids=["bytes", "records"])
def test_a_failed_checkpoint_is_tried_again_though_the_journal_grows_no_more(limits: Limits) -> None:
    server = Server(limits)
    server.create("s", block_size=20)
    perform = server.do

    def failing(job: Job) -> Input:
        for index, op in enumerate(job.ops):
            if isinstance(op, Write) and op.path.startswith("checkpoints"):
                return JobFailed(job.id, DiskFailure(FailureKind.IO, op.path, 0, "no", index))
        return perform(job)

    server.do = failing  # type: ignore[method-assign]
    while server.node.stats.checkpoint_failures < 1:
        server.publish("s", bytes(100))
    assert server.node.stats.checkpoints < 1
    server.do = perform  # type: ignore[method-assign]
    server.pass_ms(10_000)
    assert server.node.stats.checkpoints >= 1


def test_the_indexes_of_a_deleted_stream_leave_the_cache() -> None:
    server = Server(replace(TINY, index_cache_bytes=64 * KIB))
    for name in ("s", "other"):
        server.create(name, block_size=10)
        fill(server, name, 100)
    server.kill()
    for name in ("s", "other"):
        server.messages(rq.ScanSubject(name, "a.3", 0, 100))
    indexes = server.node._indexes
    resident = {key[0] for key in indexes._resident}
    server.ok(rq.DeleteStream("s"))
    left = {key[0] for key in indexes._resident}
    assert len(resident) == 2
    assert len(left) == 1
    assert indexes._bytes == sum(size for _, size in indexes._resident.values())


def test_what_a_failed_checkpoint_was_to_say_the_next_one_says() -> None:
    server = Server(TINY)
    server.create("old", block_size=20)
    fill(server, "old", 200)
    taken = server.node.stats.checkpoints
    assert taken >= 1
    perform = server.do
    failed: list[str] = []

    def failing(job: Job) -> Input:
        for index, op in enumerate(job.ops):
            if isinstance(op, Write) and op.path.startswith("checkpoints") and isinstance(job.ops[-1], SyncDir):
                failed.append(op.path)
                return JobFailed(job.id, DiskFailure(FailureKind.NO_SPACE, op.path, 0, "no", index))
        return perform(job)

    server.do = failing  # type: ignore[method-assign]
    server.create("new")
    server.consumer("new", "c")
    server.publish("new", b"kept")
    while not failed:
        server.publish("old", bytes(100), subject="a.b")
    server.do = perform  # type: ignore[method-assign]
    server.pass_ms(5_000)
    while server.node.stats.checkpoints < taken + 3:
        server.publish("old", bytes(100), subject="a.b")
    server.kill()
    assert [payload for _, _, payload in server.all("new")] == [b"kept"]
    assert server.info("new", "c").pending == 0
    server.consumer("new", "d")
    page = server.ok(rq.ListConsumers("new"))
    assert isinstance(page, rq.Page)
    assert len({info.consumer_id for info in page.entries if isinstance(info, rq.ConsumerInfo)}) == 2
