"""Hashes, sets, queues and a HyperLogLog through the Python client, one call at a time and of 64 tasks, beside Redis, in turn.

Redis is asked twice: by its Python client, a connection for each task, and over one bare connection that writes a command and
takes the answers in order, as quickly as a Python program can ask.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import waymaker
from benchmarks.contestants import REDIS, in_turn, median_and_range, redis_servers
from benchmarks.figures import Figure
from tests.kit.real_server import RealServer
from waymaker import event_loop

TASKS = (1, 64)
MORE_FOR_TASKS = 16
"""So many times the calls of a single task are made by many together."""
VALUE = bytes(128)
FIELDS = 1_000
Call = Callable[[int], Awaitable[object]]


async def stores(folder: Path, calls: int) -> list[Figure]:
    """Measure each contestant in turn, in several rounds; the figures are medians of the rounds."""
    return await asyncio.to_thread(_measured, folder, calls)


def _measured(folder: Path, calls: int) -> list[Figure]:
    server = RealServer(folder / "data")
    server.start()
    try:
        with redis_servers(folder) as ports:
            contestants = {"synced": ["client", server.address]}
            for mode, port in ports.items():
                contestants[f"Redis {mode}, its client"] = [REDIS, str(port)]
                contestants[f"Redis {mode}, bare"] = ["bare", str(port)]
            found = in_turn("benchmarks.stores", contestants, calls)
    finally:
        server.close()
    figures = []
    for what in found["synced"][0]:
        for name, rounds in found.items():
            rate, beside = median_and_range([rates[what] for rates in rounds], "calls/s")
            figures.append(Figure(f"{what}, {name}", rate, "calls/s", beside=beside))
    return figures


async def _rates(kinds: dict[str, Call], calls: int) -> dict[str, float]:
    """Return how many calls a second each kind makes, alone and of many tasks."""
    rates = {}
    for tasks in TASKS:
        for name, call in kinds.items():
            total = calls if tasks == 1 else calls * MORE_FOR_TASKS
            numbers = iter(range(total))

            async def work(call: Call = call, numbers: Any = numbers) -> None:
                for number in numbers:
                    await call(number)

            began = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(tasks)))
            rates[f"{name}, {tasks} task{'s' * (tasks > 1)}"] = total / (time.perf_counter() - began)
    return rates


# ------------------------------------------------------------------------------------ the contestants


async def _client(target: str, calls: int) -> dict[str, float]:
    async with waymaker.connect(target) as wm:
        hashes, sets, queue = wm.hash_store("bench"), wm.set_store("bench"), wm.queue("bench")
        for store in (hashes, sets, queue):
            try:
                await store.create()
            except waymaker.AlreadyExistsError:
                await store.delete()
                await store.create()
        entries, members, sketch = hashes["one"], sets["one"], wm.sketch("bench")
        try:
            await sketch.create_hyperloglog()
        except waymaker.AlreadyExistsError:
            await sketch.delete()
            await sketch.create_hyperloglog()
        kinds: dict[str, Call] = {
            "hash set": lambda number: entries.set(str(number % FIELDS), VALUE),
            "hash get": lambda number: entries.get(str(number % FIELDS)),
            "set add": lambda number: members.add(str(number)),
            "queue push": lambda _: queue.append(VALUE),
            "queue pop": lambda _: queue.popleft(),
            "sketch add": lambda number: sketch.add([str(number)]),
        }
        return await _rates(kinds, calls)


def _commands(ask: Callable[..., Awaitable[object]]) -> dict[str, Call]:
    return {
        "hash set": lambda number: ask("HSET", "h", str(number % FIELDS), VALUE),
        "hash get": lambda number: ask("HGET", "h", str(number % FIELDS)),
        "set add": lambda number: ask("SADD", "s", str(number)),
        "queue push": lambda _: ask("RPUSH", "q", VALUE),
        "queue pop": lambda _: ask("LPOP", "q"),
        "sketch add": lambda number: ask("PFADD", "p", str(number)),
    }


async def _redis_client(port: str, calls: int) -> dict[str, float]:
    redis: Any = __import__("redis.asyncio").asyncio
    client = redis.Redis(port=int(port), max_connections=max(TASKS))
    try:
        await client.flushall()
        return await _rates(_commands(client.execute_command), calls)
    finally:
        await client.aclose()


class _Bare(asyncio.Protocol):
    """One connection to Redis; each answer belongs to the oldest command without one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._unread = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, *words: str | bytes) -> asyncio.Future[bytes]:
        encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
        self._transport.write(
            b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
        )
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append(future)
        return future

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        at = 0
        while (line := data.find(b"\r\n", at)) >= 0:
            assert data[at : at + 1] in (b"+", b":", b"$"), data[at:line]
            end = line + 2
            if data[at : at + 1] == b"$" and data[at + 1 : at + 2] != b"-":
                end += int(data[at + 1 : line]) + 2
            if end > len(data):
                break
            self._waiting.popleft().set_result(data[line + 2 : end - 2])
            at = end
        self._unread = data[at:]


async def _bare(port: str, calls: int) -> dict[str, float]:
    transport, bare = await asyncio.get_running_loop().create_connection(_Bare, "127.0.0.1", int(port))
    await bare.ask("FLUSHALL")
    rates = await _rates(_commands(bare.ask), calls)
    transport.close()
    return rates


def main(contestant: str, target: str, calls: str) -> None:
    """Be one contestant of the measurement."""
    measure = {"client": _client, REDIS: _redis_client, "bare": _bare}[contestant]
    print(json.dumps(event_loop.run(measure(target, int(calls)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
