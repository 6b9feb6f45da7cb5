"""The client's choice of transport: the native link where it is the server's own, gRPC in every other case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import waymaker
from tests.kit.client_fake_server import FakeServer, until
from tests.kit.fake_link import FakeLink
from tests.kit.real_server import RealServer
from waymaker.client.connection import link as link_module
from waymaker.client.connection.members import Members


@pytest.fixture(autouse=True)
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLink, "offered", True)


@asynccontextmanager
async def connected(fake: FakeServer, **options: Any) -> AsyncIterator[tuple[waymaker.Client, Members]]:
    async with waymaker.connect(fake.target, backoff_first=0.01, **options) as wm:
        if "s" not in fake.streams:
            await wm.create_stream("s")
        yield wm, wm._connection


async def test_the_link_is_preferred_where_the_server_tells_of_it() -> None:
    async with FakeServer() as fake, connected(fake, token="abc") as (wm, connection):
        assert connection.over_link
        assert fake.metadata == [{"authorization": "Bearer abc"}]
        assert await wm.publish("s", "a", b"x") == 1
        assert (await wm.server_info()).version == "fake", "other calls go on over gRPC"


async def test_grpc_alone_may_be_asked_for() -> None:
    async with FakeServer() as fake, connected(fake, transport="grpc") as (wm, connection):
        assert not connection.over_link
        assert await wm.publish("s", "a", b"x") == 1
    with pytest.raises(waymaker.UsageError, match="auto, grpc"):
        waymaker.connect("127.0.0.1:1", transport="pigeon")


async def test_a_link_that_is_closed_or_another_server_s_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "OPEN_S", 0.3)
    async with FakeServer() as fake, FakeServer() as other:
        assert fake._link is not None
        own = fake._link
        fake._link = other._link
        async with connected(fake, token="secret") as (wm, connection):
            assert not connection.over_link
            assert await wm.publish("s", "a", b"x") == 1
        assert other.metadata == [], "no credentials for a server that is not the one that was meant"
        fake._link = own
        own.stop()
        async with connected(fake) as (wm, connection):
            assert not connection.over_link
        silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
        async with silent:
            own.port = silent.sockets[0].getsockname()[1]
            async with connected(fake) as (wm, connection):
                assert not connection.over_link
                assert await wm.publish("s", "a", b"x") == 2
        fake._link = None


async def test_a_link_that_refuses_the_session_is_passed_over_and_not_tried_again() -> None:
    async with FakeServer() as fake:
        tries = 0
        frames_of = fake.frames_of

        async def refuse(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            nonlocal tries
            if "Context" in type(context).__name__ and type(context).__module__.endswith("fake_link"):
                tries += 1
                await context.abort(__import__("grpc").StatusCode.RESOURCE_EXHAUSTED, "too many connections")
            async for data in frames_of(requests, context):
                yield data

        fake.frames_of = refuse  # type: ignore[method-assign]
        async with connected(fake) as (wm, connection):
            assert not connection.over_link
            fake.sessions[-1].break_off()
            await until(lambda: connection.sessions == 2)
            assert await wm.publish("s", "a", b"x") == 1
        assert tries == 1


async def test_what_tasks_ask_in_one_turn_travels_together_and_what_one_asks_leaves_at_once() -> None:
    async with FakeServer() as fake, connected(fake) as (wm, connection):
        for _ in range(3):
            await wm.publish("s", "a", b"x")
        before = connection.main.frames_sent
        one = asyncio.create_task(wm.publish("s", "a", b"x"))
        await asyncio.sleep(0)
        assert connection.main.frames_sent == before + 1, "the frame left in the caller's own turn"
        await one
        for _ in range(2):
            await asyncio.gather(*(wm.publish("s", "a", b"x") for _ in range(64)))
        before = connection.main.frames_sent
        await asyncio.gather(*(wm.publish("s", "a", b"x") for _ in range(64)))
        assert connection.main.frames_sent == before + 1


async def test_a_killed_server_is_found_again_and_every_message_is_stored_once(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "data")
    server.start()
    try:
        async with waymaker.connect(server.address, timeout=60.0, backoff_first=0.01) as wm:
            assert wm._connection.over_link
            await wm.create_stream("s")
            done = 0
            stop = asyncio.Event()

            async def publish(name: int) -> int:
                nonlocal done
                count = 0
                while not stop.is_set():
                    await wm.publish("s", "a", f"{name}.{count}".encode())
                    count, done = count + 1, done + 1
                return count

            tasks = [asyncio.create_task(publish(name)) for name in range(8)]
            for kill in range(2):
                target = done + 200
                await until(lambda: done >= target, 60)  # noqa: B023
                server.kill()
                await asyncio.to_thread(server.start)
                await until(lambda: wm._connection.sessions >= kill + 2, 60)  # noqa: B023
                assert wm._connection.over_link, "the new process has a link of its own"
            stop.set()
            counts = await asyncio.gather(*tasks)
            await wm.create_consumer("s", "all")
            seen = [m.payload.decode() async for m in wm.subscribe("s", "all", stop_when_empty=True)]
            assert sorted(seen) == sorted(f"{name}.{n}" for name, count in enumerate(counts) for n in range(count))
    finally:
        server.close()
