"""The client with three real servers: every family of calls through any member, and failures of members while it works."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import waymaker
from tests.kit.client_arrivals import Arrivals
from tests.kit.client_fake_server import until
from tests.kit.real_cluster import RealCluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

FAILOVER_S = 20.0
"""The longest time for which a loaded machine may need to fail over; the cluster itself needs some two seconds."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Return a cluster whose members stay alive."""
    own = RealCluster(tmp_path_factory.mktemp("calm"))
    own.start()
    yield own
    own.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    own = RealCluster(tmp_path)
    own.start()
    yield own
    own.close()


def addresses(cluster: RealCluster) -> list[str]:
    return [server.address for server in cluster.servers.values()]


@asynccontextmanager
async def connected(target: str | list[str], **options: Any) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(target, **{"timeout": FAILOVER_S, **options}) as wm:
        yield wm


async def primary_of(wm: waymaker.Client, stream: str) -> int:
    """Return the member that serves a stream, as a client finds out."""
    await wm.stream_info(stream)
    members = wm._connection
    return members._serves.get(stream, members.main.node_id)


@pytest.mark.parametrize("node", [1, 2, 3])
@pytest.mark.parametrize("transport", ["auto", "grpc"])
async def test_every_family_of_calls_is_served_through_any_member(
    calm: RealCluster, node: int, transport: str, tmp_path: Path
) -> None:
    own = f"{transport}{node}"
    async with connected(calm.servers[node].address, transport=transport) as wm:
        await _streams(wm, f"streams-{own}")
        await _services(wm, own)
        await _objects(wm, f"objects-{own}")
        await _archives(wm, f"streams-{own}", tmp_path)
        info = await wm.server_info()
        assert info.node_id == node
        assert info.members == {each: server.address for each, server in calm.servers.items()}


async def _streams(wm: waymaker.Client, name: str) -> None:
    await wm.create_stream(name)
    assert name in await wm.list_streams()
    assert await wm.publish(name, "a", b"1") == 1
    results = await wm.publish_many(name, [b"2", b"3", b"4"], subject="a")
    assert (results.stored, results.last_seq) == (3, 4)
    with pytest.raises(waymaker.WrongRevisionError):
        await wm.publish(name, "a", b"no", expected_last_seq=1)
    latest = await wm.get(name, "a")
    assert latest is not None and latest.payload == b"4"
    assert [message.seq async for message in wm.scan(name, "a")] == [1, 2, 3, 4]
    assert await wm.subjects(name) == ["a"]
    await wm.create_consumer(name, "c")
    fetched = await wm.fetch(name, "c", 2)
    assert [message.payload for message in fetched] == [b"1", b"2"]
    for message in fetched:
        await message.ack()
    seen: list[int] = []
    async for message in wm.subscribe(name, "c", stop_when_empty=True):
        seen.append(message.seq)
        await message.ack()
    assert seen == [3, 4]
    assert (await wm.consumer_info(name, "c")).ack_floor == 4
    assert [each.config.name for each in await wm.list_consumers(name)] == ["c"]
    assert (await wm.update_stream(name, max_msgs=3)).pruned == 1
    assert (await wm.preview_update(name, max_msgs=2)).pruned == 1
    assert (await wm.stream_info(name)).msg_count == 3
    with pytest.raises(waymaker.NoSuchStreamError):
        await wm.stream_info(name + "-absent")


async def _services(wm: waymaker.Client, own: str) -> None:
    bucket = await wm.kv(f"kv-{own}", create=True)
    assert await bucket.put("k", b"v") == 1
    entry = await bucket.get("k")
    assert entry is not None and entry.value == b"v"
    watched: list[bytes] = []

    async def watch() -> None:
        async for change in bucket.watch():
            watched.append(change.value or b"")

    watching = asyncio.create_task(watch())
    await until(lambda: watched)
    await bucket.put("k", b"w")
    await until(lambda: watched == [b"v", b"w"])
    watching.cancel()
    store = wm.hash_store(f"h-{own}")
    await store.create()
    await store["m"].set("f", b"1")
    assert await store["m"].get("f") == b"1"
    queue = wm.queue(f"q-{own}")
    await queue.create()
    await queue.append(b"x")
    assert await queue.popleft() == b"x"
    sketch = wm.sketch(f"sk-{own}")
    await sketch.create_hyperloglog()
    await sketch.add(["a", "b"])
    assert round(await sketch.distinct()) == 2


async def _objects(wm: waymaker.Client, name: str) -> None:
    store = await wm.objects(name, create=True)
    small, large = b"small", bytes(range(256)) * 20_000
    await store.put("small", small)
    await store.put("large", large)
    assert await store.get("small") == small
    assert await store.get("large") == large
    assert (await store.get_range("large", 256, 256)) == bytes(range(256))
    assert [info.name for info in await store.list()] == ["large", "small"]
    await store.delete("small")


@pytest.mark.parametrize("node", [1, 2, 3])
async def test_streamed_calls_wait_until_a_new_stream_is_served(calm: RealCluster, node: int) -> None:
    payload = bytes(range(256)) * 8_000

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(payload), 100_000):
            yield payload[at : at + 100_000]

    async with connected(calm.servers[node].address) as wm:
        for number in range(3):
            name = f"fresh-{node}-{number}"
            store = await wm.objects(name, create=True)
            assert (await store.put("file", payload if number else pieces())).total_bytes == len(payload)
            assert await store.get("file") == payload
            await wm.create_stream(name)
            assert [data async for data in wm.backup(name)]


async def test_streams_copy_from_sources_that_other_members_lead(calm: RealCluster) -> None:
    async with connected(addresses(calm)) as wm:
        await wm.create_stream("origin")
        await wm.publish_many("origin", [b"1", b"2", b"3"], subject="a")
        copies = [f"copy-{number}" for number in range(6)]
        for name in copies:
            await wm.create_stream(name, sources=["origin"])
        await wm.publish("origin", "a", b"4")
        async with asyncio.timeout(FAILOVER_S):
            for name in copies:
                while (await wm.stream_info(name)).msg_count < 4:  # noqa: ASYNC110 - copied in the background
                    await asyncio.sleep(0.05)
                assert [message.payload async for message in wm.scan(name, "a")] == [b"1", b"2", b"3", b"4"]
            assert len({await primary_of(wm, name) for name in copies}) > 1
            expected = {(name, 4) for name in copies}
            while expected - {(each.stream, each.last_sourced_seq) for each in await wm.stream_sources()}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def _archives(wm: waymaker.Client, name: str, folder: Path) -> None:
    archive = [piece async for piece in wm.backup(name)]
    restored = await wm.restore(archive, f"{name}-again")
    assert restored.messages == 3
    assert [message.payload async for message in wm.scan(f"{name}-again", "a")] == [b"2", b"3", b"4"]


async def test_a_killed_primary_costs_nothing_that_was_confirmed(
    cluster: RealCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = Arrivals(monkeypatch)
    async with connected(addresses(cluster)) as wm:
        await wm.create_stream("s")
        await wm.create_consumer("s", "c")
        await wm.publish("s", "a", b"first")
        confirmed: dict[int, bytes] = {}
        delivered: dict[int, list[bytes]] = {}
        acked: set[int] = set()
        stop = asyncio.Event()

        async def produce(lane: int) -> None:
            count = 0
            while not stop.is_set():
                payload = b"%d-%d" % (lane, count)
                count += 1
                seq = await wm.publish("s", "a", payload)
                assert seq not in confirmed, "a sequence is given twice"
                confirmed[seq] = payload

        async def consume() -> None:
            async for message in wm.subscribe("s", "c"):
                delivered.setdefault(message.seq, []).append(message.payload)
                await message.ack()
                acked.add(message.seq)

        consuming = asyncio.create_task(consume())
        producing = [asyncio.create_task(produce(lane)) for lane in range(16)]
        await until(lambda: len(confirmed) > 200 and len(acked) > 50)
        killed = await primary_of(wm, "s")
        cluster.kill(killed)
        began, before = time.monotonic(), len(confirmed)
        await until(lambda: len(confirmed) > before + 500, FAILOVER_S)
        print(f"published again after {time.monotonic() - began:.2f} s")
        stop.set()
        await asyncio.gather(*producing)
        last = max(confirmed)
        await until(lambda: all(seq in acked for seq in confirmed), FAILOVER_S)
        assert acked <= arrivals.confirmed
        # What the new primary sent before it knew of an ack may still wait here when that is confirmed.
        assert not arrivals.late, "what was confirmed as acknowledged is delivered again"
        stored = {message.seq: message.payload async for message in wm.scan("s", "a")}
        assert {seq: stored.get(seq) for seq in confirmed} == confirmed
        assert len(set(stored.values())) == len(stored), "a message is there twice"
        assert await primary_of(wm, "s") != killed
        cluster.servers[killed].start()
        assert await wm.publish("s", "a", b"last") > last
        await until(lambda: max(delivered) > last, FAILOVER_S)
        consuming.cancel()


async def test_a_batch_in_flight_is_stored_once_in_its_order_when_the_primary_dies(cluster: RealCluster) -> None:
    async with connected(addresses(cluster)) as wm:
        await wm.create_stream("s")
        await wm.publish("s", "a", b"first")
        payloads = [b"%06d" % place for place in range(60_000)]
        answered: list[int] = []
        publishing = asyncio.create_task(wm.publish_many("s", payloads, subject="a", on_progress=answered.append))
        await until(lambda: len(answered) > 2)
        cluster.kill(await primary_of(wm, "s"))
        results = await publishing
        assert results.stored == len(payloads)
        stored = [message.payload async for message in wm.scan("s", "a")]
        assert stored == [b"first", *payloads]


async def test_without_a_majority_calls_end_in_time_and_go_on_when_it_is_back(cluster: RealCluster) -> None:
    async with connected(addresses(cluster)) as wm:
        await wm.create_stream("s")
        await wm.publish("s", "a", b"1")
        primary = await primary_of(wm, "s")
        dead = [primary, next(node for node in cluster.servers if node != primary)]
        for node in dead:
            cluster.kill(node)
        began = time.monotonic()
        with pytest.raises((waymaker.UnavailableError, waymaker.DeadlineExceededError)):
            await wm.publish("s", "a", b"2", timeout=2.0)
        with pytest.raises((waymaker.UnavailableError, waymaker.DeadlineExceededError)):
            await wm.stream_info("s", timeout=2.0)
        assert time.monotonic() - began < 6.0
        waiting = asyncio.create_task(wm.publish("s", "a", b"3", timeout=None))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        for node in dead:
            cluster.servers[node].start()
        async with asyncio.timeout(FAILOVER_S):
            await waiting
        stored = [message.payload async for message in wm.scan("s", "a")]
        assert stored[0] == b"1"
        assert stored.count(b"3") == 1
        assert stored.count(b"2") <= 1


async def test_members_stopped_in_order_one_after_the_other_cost_nothing(cluster: RealCluster) -> None:
    async with connected(addresses(cluster)) as wm:
        await wm.create_stream("s")
        confirmed: list[int] = []
        stop = asyncio.Event()

        async def produce() -> None:
            while not stop.is_set():
                confirmed.append(await wm.publish("s", "a", b"%d" % len(confirmed)))

        async def more() -> None:
            before = len(confirmed)
            await until(lambda: len(confirmed) > before + 50, FAILOVER_S)

        producing = asyncio.create_task(produce())
        for node in cluster.servers:
            await more()
            assert await asyncio.to_thread(cluster.servers[node].terminate) == 0
            await more()
            await asyncio.to_thread(cluster.servers[node].start)
            await asyncio.to_thread(cluster.await_ready, node)
        stop.set()
        await producing
        stored = [message.payload async for message in wm.scan("s", "a")]
        assert stored == [b"%d" % place for place in range(len(confirmed))]


async def test_one_address_is_enough_and_a_dead_one_is_passed(cluster: RealCluster) -> None:
    async with connected(cluster.servers[1].address) as wm:
        await wm.create_stream("s")
        await wm.publish("s", "a", b"1")
        cluster.kill(1)
        assert await wm.publish("s", "a", b"2") == 2
    async with connected(",".join(addresses(cluster))) as wm:
        assert (await wm.stream_info("s")).last_seq == 2
    with pytest.raises(waymaker.UnavailableError, match=cluster.servers[1].address):
        async with connected(cluster.servers[1].address):
            pass
    await asyncio.to_thread(_without_asyncio, addresses(cluster))


def _without_asyncio(targets: list[str]) -> None:
    """Use the synchronous client and the command line with the address of a dead member in front."""
    with waymaker.connect_sync(targets, timeout=FAILOVER_S) as wm:
        assert wm.publish("s", "a", b"3") == 3
        wm.create_consumer("s", "c")
        assert [message.seq for message in wm.subscribe("s", "c", stop_when_empty=True)] == [1, 2, 3]
    command = [sys.executable, "-m", "waymaker.cli", "pub", "s", "a", "4", "--server", ",".join(targets)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


async def test_a_primary_that_hangs_is_left(cluster: RealCluster) -> None:
    async with connected(addresses(cluster)) as wm:
        await wm.create_stream("s")
        await wm.create_consumer("s", "c")
        await wm.publish("s", "a", b"1")
        seen: list[int] = []

        async def consume() -> None:
            async for message in wm.subscribe("s", "c"):
                seen.append(message.seq)
                await message.ack()

        consuming = asyncio.create_task(consume())
        await until(lambda: seen == [1])
        hanging = await primary_of(wm, "s")
        cluster.pause(hanging)
        began = time.monotonic()
        try:
            assert await wm.publish("s", "a", b"2") == 2
            await until(lambda: 2 in seen, FAILOVER_S)
            print(f"served again after {time.monotonic() - began:.2f} s")
        finally:
            cluster.resume(hanging)
        assert await wm.publish("s", "a", b"3") == 3
        await until(lambda: 3 in seen, FAILOVER_S)
        consuming.cancel()
