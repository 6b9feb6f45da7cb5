"""Objects through a real server and the client: every way in and out, verified at both ends."""

from __future__ import annotations

import asyncio
import hashlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import waymaker
from tests.kit.real_server import RealServer
from waymaker.client.objects.store import ObjectStore
from waymaker.client.objects.upload import Source

MIB = 1 << 20


def noise(size: int, seed: int = 660_001) -> bytes:
    return random.Random(seed).randbytes(size)


def with_store(server: RealServer, work: Callable[[waymaker.Client, ObjectStore], Awaitable[None]]) -> None:
    async def run() -> None:
        async with waymaker.connect(server.address, timeout=20.0) as wm:
            for name in await wm.list_streams():
                await wm.delete_stream(name)
            await work(wm, await wm.objects("b", create=True))

    asyncio.run(run())


def test_an_object_comes_back_however_it_went_in(server: RealServer, tmp_path: Path) -> None:
    payload = noise(3 * MIB + 17)
    source = tmp_path / "source"
    source.write_bytes(payload)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(payload), 300_007):
            yield payload[at : at + 300_007]

    async def work(wm: waymaker.Client, store: ObjectStore) -> None:
        with source.open("rb") as opened:
            sources: dict[str, Source] = {
                "bytes": payload, "view": memoryview(payload), "path": source, "file": opened, "async": pieces(),
                "pieces": [payload[:5], payload[5:]],
            }  # fmt: skip
            for name, each in sources.items():
                info = await store.put(name, each, headers={"kind": name})
                assert (info.name, info.total_bytes, info.chunk_count) == (name, len(payload), 4)
                assert info.sha256 == hashlib.sha256(payload).hexdigest()
                assert info.headers == (("kind", name),)
                assert await store.info(name) == info
                assert await store.get(name) == payload
        assert [entry.name for entry in await store.list()] == sorted(sources)

    with_store(server, work)


def test_small_and_empty_objects(server: RealServer) -> None:
    async def work(wm: waymaker.Client, store: ObjectStore) -> None:
        for name, payload in {"": b"", "a.b *>%": b"1", "ü/" * 80: noise(MIB)}.items():
            info = await store.put(name, payload)
            assert await store.get(name) == payload
            assert info.chunk_count == (1 if payload else 0)
        assert len(await store.list("ü/")) == 1

    with_store(server, work)


def test_parts_of_an_object(server: RealServer) -> None:
    payload = noise(100_000)

    async def work(wm: waymaker.Client, store: ObjectStore) -> None:
        old = await store.put("x", payload, chunk_size=1_000)
        for offset, length in [
            (0, 0),
            (0, 1),
            (999, 2),
            (1_000, 1_000),
            (99_999, 10),
            (100_000, 5),
            (1 << 40, 1),
            (12_345, 0),
        ]:
            part = await store.get_range("x", offset, length)
            assert part == payload[offset : offset + length if length else None]
        assert await store.get_range("x", 5, 5, revision=old.revision) == payload[5:10]
        await store.put("x", b"new")
        with pytest.raises(waymaker.IncompleteError):
            await store.get_range("x", 5, 5, revision=old.revision)

    with_store(server, work)


def test_deletion_and_revisions(server: RealServer) -> None:
    async def work(wm: waymaker.Client, store: ObjectStore) -> None:
        first = await store.put("x", b"1")
        tombstone = await store.delete("x")
        assert await store.delete("never") == 0
        second = await store.put("x", b"22")
        revisions = await store.revisions("x")
        assert [(each.revision, each.deleted, each.total_bytes) for each in revisions] == [
            (first.revision, False, 1), (tombstone, True, 0), (second.revision, False, 2),
        ]  # fmt: skip
        await store.delete("x")
        missing: list[Awaitable[object]] = [store.info("x"), store.get("x"), store.get_range("x"), store.info("y")]
        for each in missing:
            with pytest.raises(waymaker.NoSuchObjectError):
                await each
        assert await store.list() == []
        assert [entry.deleted for entry in await store.list(include_deleted=True)] == [True]
        with pytest.raises(waymaker.NoSuchBucketError):
            await wm.objects("other")
        await wm.delete_stream("obj:b")
        calls: list[Awaitable[object]] = [
            store.put("x", b"1"), store.put("x", noise(2 * MIB)), store.get("x"), store.info("x"), store.list(),
        ]  # fmt: skip
        for each in calls:
            with pytest.raises(waymaker.NoSuchBucketError):
                await each

    with_store(server, work)


def test_shared_chunks_are_stored_once(server: RealServer) -> None:
    payload = noise(2 * MIB)

    async def work(wm: waymaker.Client, store: ObjectStore) -> None:
        await store.put("x", payload + payload, dedupe=True)
        await store.put("y", payload, dedupe=True)
        assert (await wm.stream_info("obj:b")).msg_count == 2 + 2
        assert await store.get("x") == payload + payload
        assert (await store.info("y")).deduped

    with_store(server, work)


def test_a_file_is_downloaded_and_taken_up_again(server: RealServer, tmp_path: Path) -> None:
    payload = noise(9 * MIB)

    async def work(wm: waymaker.Client, store: ObjectStore) -> None:
        info = await store.put("x", payload)
        target = tmp_path / "out"
        part = tmp_path / f"out.{info.revision}.part"
        part.write_bytes(payload[: 5 * MIB])
        counted: list[int] = []
        assert await store.get_file("x", target, on_bytes=counted.append) == info
        assert target.read_bytes() == payload
        assert sum(counted) == len(payload)
        assert not part.exists()
        part.write_bytes(b"?" * MIB)
        with pytest.raises(waymaker.ShaMismatchError):
            await store.get_file("x", target)
        assert not part.exists()
        assert target.read_bytes() == payload

    with_store(server, work)


def test_concurrent_uploads_of_one_name_never_mix(server: RealServer) -> None:
    payloads = [noise(2 * MIB, seed) for seed in range(660_010, 660_014)]

    async def work(wm: waymaker.Client, store: ObjectStore) -> None:
        async def read() -> None:
            for _ in range(6):
                try:
                    assert await store.get("x") in payloads
                except waymaker.NoSuchObjectError:
                    pass

        infos, _ = await asyncio.gather(asyncio.gather(*(store.put("x", each) for each in payloads)), read())
        last = max(infos, key=lambda info: info.revision)
        assert (await store.info("x")).revision == last.revision
        assert hashlib.sha256(await store.get("x")).hexdigest() == last.sha256

    with_store(server, work)


def test_the_synchronous_client_has_objects_too(server: RealServer, tmp_path: Path) -> None:
    with waymaker.connect_sync(server.address, timeout=20.0) as wm:
        store = wm.objects("sync", create=True)
        payload = noise(3 * MIB)
        info = store.put("x", (payload[at : at + 1000] for at in range(0, len(payload), 1000)))
        assert store.get("x") == payload == b"".join(store.read("x"))
        assert store.get_range("x", 10, 5) == payload[10:15]
        assert store.get_file("x", tmp_path / "x") == info == store.info("x")
        assert [each.name for each in store.list()] == ["x"]
        assert len(store.revisions("x")) == 1
        assert store.delete("x") > info.revision


def test_an_archive_of_a_bucket_brings_its_objects_back(server: RealServer) -> None:
    payload = noise(3 * MIB)

    async def work(wm: waymaker.Client, store: ObjectStore) -> None:
        await store.put("x", b"old")
        await store.put("x", payload)
        await store.put("y", payload, dedupe=True)
        archive = [piece async for piece in wm.backup("obj:b")]
        await wm.restore(archive, "obj:copy")
        copy = await wm.objects("copy")
        assert await copy.get("x") == await copy.get("y") == payload
        assert len(await copy.revisions("x")) == 2
        await copy.put("z", b"1")

    with_store(server, work)


def test_a_stopped_server_with_objects_is_sound_and_starts_with_them(tmp_path: Path) -> None:
    own = RealServer(tmp_path / "data")
    own.start()
    try:
        with waymaker.connect_sync(own.address, timeout=20.0) as wm:
            store = wm.objects("b", create=True)
            store.put("x", noise(2 * MIB))
            store.put("x", noise(3 * MIB), dedupe=True)
        own.kill()
        command = [sys.executable, "-m", "waymaker.cli", "check", str(own.data_dir)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        own.start()
        with waymaker.connect_sync(own.address, timeout=20.0) as wm:
            assert wm.objects("b").get("x") == noise(3 * MIB)
    finally:
        own.close()
