"""Key-value buckets through the client, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import waymaker
from tests.kit.client_fake_server import until
from tests.kit.real_server import RealServer
from waymaker.client.kv import KeyValue, KvEntry

pytestmark = pytest.mark.process


@pytest.fixture
async def kv(server: RealServer) -> AsyncIterator[KeyValue]:
    async with waymaker.connect(server.address, timeout=20.0) as wm:
        for name in await wm.list_streams():
            await wm.delete_stream(name)
        yield await wm.kv("cfg", create=True)


async def listed(kv: KeyValue, *, deleted: bool = False) -> list[str]:
    return [key async for key in kv.keys(deleted=deleted)]


async def test_values_revisions_and_tombstones(kv: KeyValue) -> None:
    assert await kv.get("a") is None
    assert await kv.put("a", "one") == 1
    entry = await kv.get("a")
    assert entry is not None
    assert (entry.key, entry.value, entry.revision, entry.deleted) == ("a", b"one", 1, False)
    assert await kv.update("a", b"two", 1) == 2
    with pytest.raises(waymaker.WrongRevisionError) as wrong:
        await kv.update("a", b"three", 1)
    assert wrong.value.seq == 2
    with pytest.raises(waymaker.WrongRevisionError):
        await kv.create("a", b"")
    assert await kv.delete("a") == 3
    assert await kv.get("a") is None
    assert await kv.create("a", b"") == 4
    history = [(each.value, each.revision) for each in await kv.history("a")]
    assert history == [(b"one", 1), (b"two", 2), (None, 3), (b"", 4)]


async def test_a_time_to_live_ends_and_touch_changes_it(kv: KeyValue) -> None:
    await kv.put("a", b"1", ttl=0.3)
    await kv.put("b", b"1", ttl=0.3)
    assert await kv.touch("b", None) == 2
    await asyncio.sleep(0.35)
    assert await kv.get("a") is None
    assert await kv.get("b") is not None
    with pytest.raises(waymaker.WrongRevisionError):
        await kv.touch("a", 5)
    assert await listed(kv) == ["b"]
    assert await listed(kv, deleted=True) == ["a", "b"]


async def test_many_tasks_share_frames_records_and_each_has_its_answer(kv: KeyValue) -> None:
    names = [f"k.{number}" for number in range(3_000)]
    revisions = await asyncio.gather(*[kv.put(name, name.encode()) for name in names])
    assert sorted(revisions) == list(range(1, 3_001))
    entries = await asyncio.gather(*[kv.get(name) for name in [*names, "missing"]])
    assert [entry.value for entry in entries if entry is not None] == [name.encode() for name in names]
    assert entries[-1] is None
    outcomes = await asyncio.gather(
        kv.put("good", b"1"),
        kv.put("bad..key", b"1"),
        kv.get("bad..key"),
        kv.create("k.1", b""),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], int)
    assert [type(each) for each in outcomes[1:]] == [
        waymaker.InvalidKeyError, waymaker.InvalidArgumentError, waymaker.WrongRevisionError,
    ]  # fmt: skip
    assert await listed(kv) == sorted([*names, "good"])


async def test_large_values_read_at_once_come_in_several_answers(kv: KeyValue) -> None:
    for number in range(30):
        await kv.put(f"k{number}", bytes([number]) * 800_000)
    entries = await asyncio.gather(*[kv.get(f"k{number}") for number in range(30)])
    assert all(entry is not None and entry.value == bytes([n]) * 800_000 for n, entry in enumerate(entries))


async def test_a_watch_brings_live_values_then_changes(kv: KeyValue) -> None:
    await kv.put("a.1", b"1")
    await kv.put("b.1", b"1")
    await kv.put("a.1", b"2")
    seen: list[KvEntry] = []

    async def look() -> None:
        async for change in kv.watch("a.*"):
            seen.append(change)
            if change.key == "a.end":
                return

    task = asyncio.create_task(look())
    await until(lambda: bool(seen))
    await kv.put("a.2", b"3", ttl=0.1)
    await kv.delete("a.1")
    await asyncio.sleep(0.2)
    await kv.put("b.2", b"4")
    await kv.put("a.end", b"")
    await asyncio.wait_for(task, 10)
    assert [(each.key, each.value, each.revision) for each in seen] == [
        ("a.1", b"2", 3), ("a.2", b"3", 4), ("a.1", None, 5), ("a.2", None, 6), ("a.end", b"", 8),
    ]  # fmt: skip


async def test_a_watch_goes_on_through_a_restart_and_misses_nothing(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "data")
    server.start()
    try:
        async with waymaker.connect(server.address, timeout=30.0) as wm:
            kv = await wm.kv("cfg", create=True, history=3)
            await kv.put("a", b"1")
            watch = kv.watch()
            assert (await anext(watch)).revision == 1
            await kv.put("b", b"2")
            assert (await anext(watch)).revision == 2
            server.kill()
            server.start()
            await wm.list_streams()
            await kv.delete("a")
            await kv.put("c", b"3")
            assert [(await asyncio.wait_for(anext(watch), 20)).revision for _ in range(2)] == [3, 4]
            await wm.delete_bucket("cfg")
            with pytest.raises(waymaker.NoSuchBucketError):
                await asyncio.wait_for(anext(watch), 20)
    finally:
        server.close()


async def test_buckets_are_bound_made_with_settings_and_deleted(server: RealServer) -> None:
    async with waymaker.connect(server.address, timeout=20.0) as wm:
        with pytest.raises(waymaker.NoSuchBucketError):
            await wm.kv("none")
        with pytest.raises(waymaker.UsageError):
            await wm.kv("none", max_bytes=3)
        kv = await wm.kv("small", create=True, max_messages=2, max_value_size=5, history=1)
        await kv.put("a", b"12345")
        with pytest.raises(waymaker.ResourceExhaustedError):
            await kv.put("a", b"123456")
        await kv.put("b", b"")
        with pytest.raises(waymaker.ResourceExhaustedError, match="max_messages"):
            await kv.put("c", b"")
        assert await (await wm.kv("small")).get("b") is not None
        await wm.delete_bucket("small")
        with pytest.raises(waymaker.NoSuchBucketError):
            await kv.put("a", b"")
        await wm.create_stream("kv:plain")
        with pytest.raises(waymaker.SubjectRejectedError):
            await wm.publish("kv:plain", "plain.a", b"")
        await wm.delete_stream("kv:plain")


def test_the_synchronous_twin(wm: waymaker.SyncClient) -> None:
    kv = wm.kv("cfg", create=True)
    assert kv.put("a", "1") == 1
    assert kv.create("b", "2", ttl=100) == 2
    assert kv.touch("b", None) == 2
    assert kv.update("a", "3", 1) == 3
    assert list(kv.keys()) == ["a", "b"]
    entry = kv.get("a")
    assert entry is not None and entry.value == b"3"
    watch: Iterator[KvEntry] = kv.watch()
    assert [next(watch).revision, next(watch).revision] == [2, 3]
    assert kv.delete("a") == 4
    assert next(watch).deleted
    assert len(kv.history("a")) == 3
    wm.delete_bucket("cfg")
