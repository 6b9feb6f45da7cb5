"""A whole server backed up and restored while it runs: under load, through kills, with streams that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import waymaker
from tests.kit.real_server import RealServer
from tests.kit.waiting import wait_for
from waymaker.backups.directory import ArchiveWriter, read_index
from waymaker.backups.index import ArchiveEntry, BackupIndex
from waymaker.backups.verify import verify_backup
from waymaker_core.consumer.snapshot import to_groups
from waymaker_core.storage.archive import ArchiveReader, Batch, Head

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    server = RealServer(tmp_path_factory.mktemp("shared") / "data")
    server.start()
    yield server
    server.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    own = RealServer(tmp_path / "data")
    own.start()
    yield own
    own.close()


@pytest.fixture
async def client(shared: RealServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(shared.address, timeout=20.0) as client:
        for name in await client.list_streams():
            await client.delete_stream(name)
        yield client


def contents(path: Path, entry: ArchiveEntry) -> tuple[Head, dict[int, bytes]]:
    """An archive's head, and its bodies by sequence."""
    reader = ArchiveReader()
    head, *pieces = reader.feed((path / entry.file).read_bytes())
    reader.close()
    assert isinstance(head, Head)
    bodies: dict[int, bytes] = {}
    for piece in pieces:
        if isinstance(piece, Batch):
            at = 0
            for seq, length in zip(piece.seqs, piece.lengths, strict=True):
                bodies[seq] = piece.body[at : at + length]
                at += length
    return head, bodies


async def filled(client: waymaker.Client, *streams: str, messages: int = 100, size: int = 100) -> None:
    """Create streams with messages, and a consumer that has acknowledged ten."""
    for stream in streams:
        await client.create_stream(stream)
        await client.publish_many(stream, [("a", bytes(size))] * messages)
        await client.create_consumer(stream, "reader")
        for message in await client.fetch(stream, "reader", 15):
            if message.seq <= 10:
                await message.ack()


def sound(path: Path) -> None:
    assert verify_backup(path, lambda _: None).findings == []


def nothing_left(path: Path) -> None:
    assert not path.exists(), sorted(each.name for each in path.iterdir())


# ------------------------------------------------------------------------------------------ under load


class Load:
    """Publishers and consumers that run until they are stopped, and what was confirmed to them."""

    def __init__(self, client: waymaker.Client, streams: list[str]) -> None:
        self.client = client
        self.confirmed: dict[str, int] = dict.fromkeys(streams, 0)
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        for stream in self.confirmed:
            await self.client.create_stream(stream)
            await self.client.create_consumer(stream, "reader")
            self.tasks += [asyncio.create_task(self.publish(stream)), asyncio.create_task(self.consume(stream))]
        await asyncio.sleep(1.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        for ended in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended

    async def publish(self, stream: str) -> None:
        while True:
            results = await self.client.publish_many(stream, [(f"a.{n % 3}", b"x" * 500) for n in range(50)])
            self.confirmed[stream] = max(self.confirmed[stream], results.last_seq)
            await asyncio.sleep(0.01)

    async def consume(self, stream: str) -> None:
        async for message in self.client.subscribe(stream, "reader"):
            message.ack()


async def test_a_backup_under_load_has_all_that_was_confirmed_and_consumers_that_fit(
    client: waymaker.Client, tmp_path: Path
) -> None:
    async with Load(client, [f"s{n}" for n in range(6)]) as load:
        path, meanwhile = tmp_path / "b", 0
        for _ in range(3):
            before = dict(load.confirmed)
            index = await client.backup_all(path, force=True)
            meanwhile += sum(load.confirmed.values()) - sum(before.values())
            sound(path)
            assert [entry.stream for entry in index.archives] == sorted(load.confirmed)
            for entry in index.archives:
                head, bodies = contents(path, entry)
                assert entry.last_seq >= before[entry.stream], "confirmed before the backup began"
                assert sorted(bodies) == list(range(1, entry.last_seq + 1)), "one point of the stream's log"
                assert (entry.messages, entry.first_seq) == (entry.last_seq, 1)
                (group,) = to_groups(head.consumers)
                assert group.floor <= group.last_delivered <= entry.last_seq
                assert all(
                    seq <= entry.last_seq for batch in group.pending.batches() for seq in batch.seqs_of(batch.bits)
                )
        report = await client.restore_all(path, prefix="r_")
        index = read_index(path)
    assert meanwhile > 0, "the load went on"
    assert [result.name for result in report.restored] == [f"r_s{n}" for n in range(6)]
    for entry in index.archives:
        info = await client.stream_info(f"r_{entry.stream}")
        assert (info.msg_count, info.last_seq) == (entry.messages, entry.last_seq)
        head, _ = contents(path, entry)
        (group,) = to_groups(head.consumers)
        consumer = await client.consumer_info(f"r_{entry.stream}", "reader")
        assert consumer.ack_floor == group.floor


async def test_a_work_queue_that_is_worked_on_meanwhile_loses_nothing_that_was_not_acknowledged(
    client: waymaker.Client, tmp_path: Path
) -> None:
    """Messages that are acknowledged behind the head of the copy are missing from it, and pending in its consumers."""
    await client.create_stream("q", retention="work_queue")
    for name, subject in (("early", "a"), ("late", "z")):
        await client.create_consumer("q", name, ack_wait_ms=1_000, filter_subject=subject)
    payloads = [b"%d" % n + bytes(4_000) for n in range(12_000)]
    await client.publish_many("q", payloads[:11_000], subject="a")
    await client.publish_many("q", payloads[11_000:], subject="z")
    acknowledged: set[int] = set()

    async def work(consumer: str) -> None:
        async for message in client.subscribe("q", consumer):
            acknowledged.add(message.seq)
            message.ack()

    workers: list[asyncio.Task[None]] = []

    def begin(_: int) -> None:
        if not workers:
            workers.extend(asyncio.ensure_future(work(name)) for name in ("early", "late"))

    index = await client.backup_all(tmp_path / "b", on_bytes=begin)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    sound(tmp_path / "b")
    (entry,) = index.archives
    _, bodies = contents(tmp_path / "b", entry)
    assert set(range(1, len(payloads) + 1)) - acknowledged <= set(bodies)
    assert len(bodies) < len(payloads), "some were acknowledged before the copy reached them"
    await client.restore_all(tmp_path / "b", name="r")
    await asyncio.sleep(1.2)
    again: dict[int, bytes] = {}
    for name in ("early", "late"):
        while messages := await client.fetch("r", name, 2_000):
            again |= {message.seq: message.payload for message in messages}
            await asyncio.gather(*(message.ack() for message in messages))
    assert again == {seq: payloads[seq - 1] for seq in bodies}, "each message of the copy, and no other"
    assert (await client.stream_info("r")).msg_count == 0


async def test_a_message_that_is_given_up_while_its_queue_is_copied_is_in_the_copy_as_its_dead_letter(
    client: waymaker.Client, tmp_path: Path
) -> None:
    await client.create_stream("q", retention="work_queue")
    await client.create_consumer("q", "early", filter_subject="a")
    await client.create_consumer("q", "late", filter_subject="z", max_deliver=1, dead_letter_subject="dead")
    await client.create_consumer("q", "letters", filter_subject="dead")
    payloads = [b"%d" % n + bytes(4_000) for n in range(12_000)]
    await client.publish_many("q", payloads[:11_900], subject="a")
    await client.publish_many("q", payloads[11_900:], subject="z")
    late = await client.fetch("q", "late", 100)
    assert [message.seq for message in late] == list(range(11_901, 12_001))
    given_up: list[asyncio.Future[Any]] = []

    def begin(_: int) -> None:
        if not given_up:
            given_up.append(asyncio.gather(*(message.nak() for message in late), client.publish("q", "a", b"later")))

    index = await client.backup_all(tmp_path / "b", on_bytes=begin)
    await given_up[0]
    sound(tmp_path / "b")
    (entry,) = index.archives
    head, bodies = contents(tmp_path / "b", entry)
    assert head.last_seq == 12_000 < entry.last_seq
    assert set(bodies) >= set(range(1, 11_901))
    await client.restore_all(tmp_path / "b", name="r")
    letters = {
        message.headers["x-waymaker-dlq-seq"]: message.payload for message in await client.fetch("r", "letters", 999)
    }
    assert letters, "some were given up before the copy reached them"
    assert {int(seq) for seq in letters} | set(bodies) >= set(range(11_901, 12_001))
    assert all(payload == payloads[int(seq) - 1] for seq, payload in letters.items())
    assert not any(body.endswith(b"later") for body in bodies.values())
    assert await client.publish("r", "a", b"next") == entry.last_seq + 1


async def test_a_stream_that_is_deleted_while_it_is_copied_is_told_and_leaves_no_archive(
    client: waymaker.Client, tmp_path: Path
) -> None:
    for remade in (False, True):
        await filled(client, "big", messages=300, size=100_000)
        await client.create_stream("small")
        changing: asyncio.Task[None] | None = None

        async def change(remade: bool = remade) -> None:
            await client.delete_stream("big")
            if remade:
                await client.create_stream("big")

        def begin(_: int, change: Callable[[], Coroutine[object, object, None]] = change) -> None:
            nonlocal changing
            changing = changing or asyncio.ensure_future(change())

        path = tmp_path / str(remade)
        index = await client.backup_all(path, ["big", "small"], on_bytes=begin)
        sound(path)
        assert [entry.stream for entry in index.archives] == ["small"]
        assert (index.deleted, index.created) == (("big",), ("big",) if remade else ())
        assert len(list(path.iterdir())) == 2
        for name in await client.list_streams():
            await client.delete_stream(name)


async def test_deliveries_that_were_pending_are_delivered_again(client: waymaker.Client, tmp_path: Path) -> None:
    await client.create_stream("s")
    await client.create_consumer("s", "c", ack_wait_ms=1_000, max_deliver=9)
    await client.publish_many("s", [("a", b"x")] * 10)
    messages = await client.fetch("s", "c", 5)
    await messages[0].ack()
    await messages[2].ack()
    await client.backup_all(tmp_path / "b")
    await client.delete_stream("s")
    assert (await client.restore_all(tmp_path / "b")).restored[0].messages == 10
    assert (await client.consumer_info("s", "c")).ack_floor == 1
    await asyncio.sleep(1.2)
    again = {message.seq: message.deliver_count for message in await client.fetch("s", "c", 10)}
    assert set(again) == {2, 4, *range(5, 11)}
    assert again[2] == again[4] == 2


async def test_an_ephemeral_stream_is_copied_with_its_messages_and_stays_ephemeral(
    server: RealServer, tmp_path: Path
) -> None:
    async with waymaker.connect(server.address, timeout=20.0) as client:
        await client.create_stream("e", ephemeral=True)
        await client.publish_many("e", [("a", b"x")] * 10)
        await client.backup_all(tmp_path / "b")
        await client.restore_all(tmp_path / "b", prefix="r_")
        info = await client.stream_info("r_e")
        assert (info.msg_count, info.config.ephemeral) == (10, True)
    server.kill()
    server.start()
    async with waymaker.connect(server.address, timeout=20.0) as client:
        assert (await client.stream_info("r_e")).msg_count == 0


# ------------------------------------------------------------------------------ what comes and goes


async def test_streams_that_are_created_and_deleted_meanwhile_are_told(client: waymaker.Client, tmp_path: Path) -> None:
    await filled(client, *(f"s{n:02}" for n in range(20)), messages=30, size=60_000)
    changed: asyncio.Task[None] | None = None

    async def change() -> None:
        await client.delete_stream("s00")
        await client.delete_stream("s19")
        await client.create_stream("new")

    def on_archive(_: ArchiveEntry) -> None:
        nonlocal changed
        changed = changed or asyncio.ensure_future(change())

    index = await client.backup_all(tmp_path / "b", on_archive=on_archive)
    sound(tmp_path / "b")
    assert index.created == ("new",)
    assert index.deleted == ("s00", "s19")
    copied = {entry.stream for entry in index.archives}
    assert copied >= {f"s{n:02}" for n in range(1, 19)}
    assert "s19" not in copied


async def test_named_streams_alone_are_backed_up_and_a_missing_one_refused(
    client: waymaker.Client, tmp_path: Path
) -> None:
    await filled(client, "a", "b", "c")
    index = await client.backup_all(tmp_path / "b", ["c", "a", "c"])
    assert [entry.stream for entry in index.archives] == ["a", "c"]
    assert index.created == index.deleted == ()
    with pytest.raises(waymaker.NoSuchStreamError, match="nowhere"):
        await client.backup_all(tmp_path / "x", ["a", "nowhere"])
    nothing_left(tmp_path / "x")
    with pytest.raises(waymaker.UsageError, match="holds a backup"):
        await client.backup_all(tmp_path / "b")
    assert len((await client.backup_all(tmp_path / "b", force=True)).archives) == 3


async def test_a_server_without_streams_has_a_backup(client: waymaker.Client, tmp_path: Path) -> None:
    index = await client.backup_all(tmp_path / "b")
    assert index.archives == ()
    info = await client.server_info()
    assert (index.directory_id, index.node_id) == (info.directory_id, info.node_id)
    report = await client.restore_all(tmp_path / "b")
    assert report == waymaker.RestoreReport((), ())


async def test_a_disk_that_is_full_for_several_archives_is_one_failure(
    client: waymaker.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to fail ends the others, which wait for their own writes: those fail too, unheard."""
    await filled(client, "a", "b", "c")
    full = threading.Barrier(3)

    def write(_: object, data: bytes) -> None:
        if full.wait(10):  # all but one fail a moment after it
            time.sleep(0.2)
        raise OSError(28, "No space left on device")

    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    monkeypatch.setattr(ArchiveWriter, "write", write)
    with pytest.raises(OSError, match="No space left"):
        await client.backup_all(tmp_path / "b")
    gc.collect()
    assert unheard == []
    nothing_left(tmp_path / "b")


async def test_a_cancelled_backup_leaves_nothing(client: waymaker.Client, tmp_path: Path) -> None:
    await filled(client, "a", "b", messages=300, size=100_000)
    begun = asyncio.Event()
    task = asyncio.create_task(client.backup_all(tmp_path / "b", on_bytes=lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    nothing_left(tmp_path / "b")
    await client.backup_all(tmp_path / "b")
    sound(tmp_path / "b")


# ---------------------------------------------------------------------------------------- restores


@pytest.fixture
async def backup(client: waymaker.Client, tmp_path: Path) -> BackupIndex:
    """A backup in `b` of three streams that the server does not have any more."""
    await filled(client, "a", "b", "c")
    index = await client.backup_all(tmp_path / "b")
    for name in "abc":
        await client.delete_stream(name)
    return index


async def test_names_that_exist_are_refused_before_anything_changes(
    client: waymaker.Client, backup: BackupIndex, tmp_path: Path
) -> None:
    for name in ("b", "c"):
        await client.create_stream(name)
    with pytest.raises(waymaker.AlreadyExistsError, match=r"nothing was restored.*: b, c$"):
        await client.restore_all(tmp_path / "b")
    assert await client.list_streams() == ["b", "c"]
    report = await client.restore_all(tmp_path / "b", skip_existing=True)
    assert ([result.name for result in report.restored], report.skipped) == (["a"], ("b", "c"))
    assert (await client.stream_info("b")).msg_count == 0
    report = await client.restore_all(tmp_path / "b", ["c"], name="d")
    assert [result.name for result in report.restored] == ["d"]
    for wrong in ({"name": "d"}, {"name": "d", "prefix": "x", "streams": ["c"]}):
        with pytest.raises(waymaker.UsageError, match="one stream alone"):
            await client.restore_all(tmp_path / "b", **wrong)
    with pytest.raises(waymaker.NoSuchStreamError, match="the backup has no stream x"):
        await client.restore_all(tmp_path / "b", ["a", "x"])


async def test_an_archive_that_the_index_does_not_name_never_becomes_a_stream(
    client: waymaker.Client, backup: BackupIndex, tmp_path: Path
) -> None:
    """The three are of one length, and each is a sound archive of its own: only its SHA-256 tells that it is another."""
    files = [tmp_path / "b" / entry.file for entry in backup.archives]
    assert len({file.stat().st_size for file in files}) == 1
    whole = files[1].read_bytes()
    files[1].write_bytes(files[2].read_bytes())
    with pytest.raises(waymaker.TransferCorruptedError, match="is not the archive that the index names"):
        await client.restore_all(tmp_path / "b", ["b"])
    assert await client.list_streams() == []
    files[1].write_bytes(whole[:-1])
    with pytest.raises(waymaker.TransferCorruptedError, match=r"nothing was restored$"):
        await client.restore_all(tmp_path / "b")
    files[1].unlink()
    with pytest.raises(waymaker.TransferCorruptedError, match="the archive is missing; nothing was restored"):
        await client.restore_all(tmp_path / "b")
    assert await client.list_streams() == []
    files[1].write_bytes(whole)
    (tmp_path / "b" / "backup.jsonl").rename(tmp_path / "index")
    with pytest.raises(waymaker.TransferCorruptedError, match="was not completed"):
        await client.restore_all(tmp_path / "b")
    (tmp_path / "b" / "backup.jsonl").write_bytes((tmp_path / "index").read_bytes().replace(b'"b"', b'"x"'))
    with pytest.raises(waymaker.TransferCorruptedError, match="does not match its checksum"):
        await client.restore_all(tmp_path / "b")
    with pytest.raises(waymaker.UsageError, match="holds no backup"):
        await client.restore_all(tmp_path)


async def test_a_name_that_an_abandoned_restore_has_reserved_is_waited_for_and_never_skipped(
    client: waymaker.Client, shared: RealServer, backup: BackupIndex, tmp_path: Path
) -> None:
    """Until the server discards the other restore, the name is taken and no stream has it."""
    archive = (tmp_path / "b" / backup.archives[0].file).read_bytes()
    reserved = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield archive[:-10]
        reserved.set()
        await asyncio.get_running_loop().create_future()

    async with waymaker.connect(shared.address, timeout=20.0) as other:
        abandoned = asyncio.create_task(other.restore(slowly(), "a"))
        await reserved.wait()
        await asyncio.sleep(0.2)
        with pytest.raises(waymaker.AlreadyExistsError):
            await client.restore([archive], "a")
        restoring = asyncio.create_task(client.restore_all(tmp_path / "b", skip_existing=True))
        await asyncio.sleep(0.5)
        assert not restoring.done()
        abandoned.cancel()
        report = await restoring
    assert [result.name for result in report.restored] == ["a", "b", "c"]
    assert report.skipped == ()


def test_the_synchronous_twin_calls_back_on_the_callers_thread(shared: RealServer, tmp_path: Path) -> None:
    here = threading.get_ident()
    threads: set[int] = set()
    archives: list[ArchiveEntry] = []
    with waymaker.connect_sync(shared.address, timeout=20.0) as client:
        for name in client.list_streams():
            client.delete_stream(name)
        for name in ("a", "b"):
            client.create_stream(name)
            client.publish(name, "x", b"1")

        def told(entry: ArchiveEntry) -> None:
            threads.add(threading.get_ident())
            assert client.stream_info(entry.stream).msg_count == 1, "a callback may call"
            archives.append(entry)

        index = client.backup_all(
            tmp_path / "b", on_archive=told, on_bytes=lambda _: threads.add(threading.get_ident())
        )
        assert sorted(archives, key=lambda entry: entry.file) == list(index.archives)
        report = client.restore_all(tmp_path / "b", prefix="r_", on_stream=lambda _: threads.add(threading.get_ident()))
        assert [result.name for result in report.restored] == ["r_a", "r_b"]
        assert threads == {here}

        def failing(_: ArchiveEntry) -> None:
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            client.backup_all(tmp_path / "x", on_archive=failing)
        wait_for(lambda: not (tmp_path / "x").exists())


# ------------------------------------------------------------------------------------------- kills


async def test_a_server_killed_during_a_backup_leaves_nothing_and_the_next_one_is_whole(
    server: RealServer, tmp_path: Path
) -> None:
    async with waymaker.connect(server.address, timeout=20.0) as client:
        await filled(client, "a", "b", "c", messages=200, size=100_000)

    def kill(_: int) -> None:
        with contextlib.suppress(AssertionError):
            server.kill()

    async with waymaker.connect(server.address, timeout=6.0) as client:
        with pytest.raises(waymaker.WaymakerError) as ended:
            await client.backup_all(tmp_path / "b", on_bytes=kill)
        assert isinstance(ended.value, waymaker.UnavailableError | waymaker.DeadlineExceededError)
        nothing_left(tmp_path / "b")
        server.start()
    async with waymaker.connect(server.address, timeout=20.0) as client:
        index = await client.backup_all(tmp_path / "b")
    sound(tmp_path / "b")
    assert index.messages == 600


async def test_a_server_killed_during_a_restore_has_whole_streams_and_the_next_one_finishes(
    server: RealServer, tmp_path: Path
) -> None:
    names = [f"s{n}" for n in range(8)]
    async with waymaker.connect(server.address, timeout=20.0) as client:
        await filled(client, *names, messages=100, size=20_000)
        await client.backup_all(tmp_path / "b")
        for name in names:
            await client.delete_stream(name)
    for kills in (2, 5):
        restored = 0

        def kill(_: waymaker.RestoreResult, kills: int = kills) -> None:
            nonlocal restored
            restored += 1
            if restored == kills:
                server.kill()

        async with waymaker.connect(server.address, timeout=6.0) as client:
            with pytest.raises(waymaker.WaymakerError):
                await client.restore_all(tmp_path / "b", prefix=f"r{kills}_", on_stream=kill)
        server.start()
        async with waymaker.connect(server.address, timeout=20.0) as client:
            there = [name for name in await client.list_streams() if name.startswith(f"r{kills}_")]
            assert kills <= len(there) < len(names)
            for name in there:
                assert (await client.stream_info(name)).msg_count == 100
                assert (await client.consumer_info(name, "reader")).ack_floor == 10
            report = await client.restore_all(tmp_path / "b", prefix=f"r{kills}_", skip_existing=True)
            assert len(report.restored) + len(report.skipped) == len(names)
            assert sorted(there) == list(report.skipped)
            for name in names:
                assert (await client.stream_info(f"r{kills}_{name}")).msg_count == 100
