"""Keys of a bucket through the Python client, beside NATS KV through its own, in turn.

Ours syncs every put before its answer. NATS takes part where `nats-server` and `nats-py` are installed, once without a sync, as
it comes, and once with a sync of each put. The targets are multiples of NATS without a sync in the same run.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import waymaker
from benchmarks.contestants import NATS, START_S_MAX, in_turn, median_and_range, nats_servers
from benchmarks.figures import Figure
from tests.kit.real_server import RealServer
from waymaker import event_loop

BUCKET = "bench"
KEYS = 1_000
VALUE = bytes(128)
TASKS = 64
WARM_UP = 200

GETS = f"{TASKS} gets at a time"
PUTS = f"{TASKS} puts at a time"
ONE_GET = "one get at a time"
TARGETS = {GETS: 4.0, PUTS: 2.0, ONE_GET: 1.0}
"""The goals: so many times the calls a second of NATS without a sync."""
OURS = "synced"
PEER = "NATS KV, no sync"

Call = Callable[[str], Awaitable[object]]


async def keys(folder: Path, calls: int) -> list[Figure]:
    """Measure each contestant in turn, in several rounds; the figures are medians of the rounds."""
    return await asyncio.to_thread(_measured, folder, calls)


def _measured(folder: Path, calls: int) -> list[Figure]:
    server = RealServer(folder / "data")
    server.start()
    try:
        with nats_servers(folder) as ports:
            contestants = {OURS: ["client", server.address]}
            contestants |= {f"NATS KV, {mode}": [NATS, str(port)] for mode, port in ports.items()}
            found = in_turn("benchmarks.keys", contestants, calls)
    finally:
        server.close()
    return [figure for measured in TARGETS for figure in _figures(measured, found)]


def _figures(measured: str, found: dict[str, list[dict[str, float]]]) -> list[Figure]:
    rates = {name: [each[measured] for each in rounds] for name, rounds in found.items()}
    base = median_and_range(rates.get(PEER, [0.0]), "")[0]
    figures = []
    for name, values in rates.items():
        rate, beside = median_and_range(values, "calls/s")
        if base and name != PEER:
            beside += f"; {rate / base:.2f} times NATS without a sync"
        target = TARGETS[measured] * base if name == OURS else 0.0
        figures.append(Figure(f"{measured}, {name}", rate, "calls/s", target, beside=beside))
    return figures


# ------------------------------------------------------------------------------------ the contestants


async def _client(target: str, calls: int) -> dict[str, float]:
    async with waymaker.connect(target) as wm:
        kv = await wm.kv(BUCKET, create=True)
        return await _rates(kv.get, lambda key: kv.put(key, VALUE), calls)


async def _nats_client(port: str, calls: int) -> dict[str, float]:
    nats: Any = __import__("nats")
    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    kv = await connection.jetstream(timeout=START_S_MAX).create_key_value(bucket=BUCKET)
    try:
        return await _rates(kv.get, lambda key: kv.put(key, VALUE), calls)
    finally:
        await connection.close()


async def _rates(get: Call, put: Call, calls: int) -> dict[str, float]:
    names = [f"user.{number:06}.name" for number in range(min(KEYS, calls))]
    await _at_once(put, names, len(names))
    rates = {}
    for measured, call, tasks in ((GETS, get, TASKS), (PUTS, put, TASKS), (ONE_GET, get, 1)):
        await _at_once(call, names, min(WARM_UP, calls), tasks)
        count = calls if tasks > 1 else calls // 4
        began = time.perf_counter()
        await _at_once(call, names, count, tasks)
        rates[measured] = count / (time.perf_counter() - began)
    return rates


async def _at_once(call: Call, names: list[str], count: int, tasks: int = TASKS) -> None:
    """Make so many calls, each task the next one after the answer to its last."""
    numbers = iter(range(count))

    async def each() -> None:
        for number in numbers:
            await call(names[number % len(names)])

    await asyncio.gather(*(each() for _ in range(tasks)))


def main(contestant: str, where: str, calls: str) -> None:
    """Be one contestant of the measurement."""
    measure = _nats_client if contestant == NATS else _client
    print(json.dumps(event_loop.run(measure(where, int(calls)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
