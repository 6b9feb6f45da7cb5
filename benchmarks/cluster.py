"""Publishes to a stream of three replicas, beside NATS with three replicas, both through their Python clients, in turn.

Three members, and then the client, share the machine. Ours confirms what a majority has synced. NATS takes part where
`nats-server` and `nats-py` are installed, once without a sync, as it comes, and once with a sync of each message. A single node
of ours takes part for the price of the replicas alone.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import waymaker
from benchmarks.contestants import NATS, START_S_MAX, in_turn, median_and_range, nats_clusters
from benchmarks.figures import Figure
from tests.kit.real_server import RealServer, free_port
from waymaker import event_loop

STREAM = "bench"
MEMBERS = 3
PAYLOAD = bytes(128)
TASKS = 64
PART = 5_000
"""Publishes of a pipeline that are in flight at once."""
WARM_UP = 200
SINGLE_SHARE = 20
"""So much smaller is the number of publishes that are awaited one by one."""
READY_S_MAX = 30.0

PIPELINED = "pipelined"
BY_TASKS = f"by {TASKS} tasks"
ONE = "one at a time"
OURS = "three members, synced"
ALONE = "one node, synced"
PEER = "NATS R3, no sync"
PIPELINED_TARGET = 2.0
"""The goal: so many times the rate of NATS without a sync."""
ONE_TARGET = 2.5
"""The goal: at most so many times the time of a single node."""


async def cluster(folder: Path, calls: int) -> list[Figure]:
    """Measure each contestant in turn, in several rounds; the figures are medians of the rounds."""
    return await asyncio.to_thread(_measured, folder, calls)


def _measured(folder: Path, calls: int) -> list[Figure]:
    with ExitStack() as stack:
        members = stack.enter_context(three_members(folder))
        single = RealServer(folder / "single")
        stack.callback(single.close)
        single.start()
        clusters = stack.enter_context(nats_clusters(folder, MEMBERS))
        contestants = {OURS: ["client", members], ALONE: ["client", single.address]}
        contestants |= {f"NATS R{MEMBERS}, {mode}": [NATS, urls] for mode, urls in clusters.items()}
        found = in_turn("benchmarks.cluster", contestants, calls)
    return [*_rates(PIPELINED, found), *_rates(BY_TASKS, found), *_times(found)]


@contextmanager
def three_members(folder: Path) -> Iterator[str]:
    """Run a cluster; yield the addresses of its members for a client."""
    ports = [free_port() for _ in range(MEMBERS)]
    peers = ",".join(f"{number}=127.0.0.1:{port}" for number, port in enumerate(ports, 1))
    servers = [
        RealServer(folder / str(number), "--node-id", str(number), "--cluster", peers)
        for number in range(1, MEMBERS + 1)
    ]
    try:
        for server in servers:
            server.start()
        yield ",".join(server.address for server in servers)
    finally:
        for server in servers:
            server.close()


def _rates(measured: str, found: dict[str, list[dict[str, Any]]]) -> Iterator[Figure]:
    rates = {name: [each[measured] for each in rounds] for name, rounds in found.items()}
    base = median_and_range(rates.get(PEER, [0.0]), "")[0]
    for name, values in rates.items():
        rate, beside = median_and_range(values, "messages/s")
        if base and name != PEER:
            beside += f"; {rate / base:.2f} times NATS without a sync"
        target = PIPELINED_TARGET * base if name == OURS and measured == PIPELINED else 0.0
        yield Figure(f"publish {measured}, {name}", rate, "messages/s", target, beside=beside)


def _times(found: dict[str, list[dict[str, Any]]]) -> Iterator[Figure]:
    cuts = {name: [statistics.quantiles(each[ONE], n=100) for each in rounds] for name, rounds in found.items()}
    alone = statistics.median(each[49] for each in cuts[ALONE])
    for name, rounds in cuts.items():
        median, beside = median_and_range([each[49] for each in rounds], "ms")
        beside += f"; {median / alone:.2f} times one node"
        target = ONE_TARGET * alone if name == OURS else 0.0
        yield Figure(f"publish {ONE}, {name}, median", median, "ms", target, smaller_is_better=True, beside=beside)
        slow = statistics.median(each[98] for each in rounds)
        yield Figure(f"publish {ONE}, {name}, 99th percentile", slow, "ms", smaller_is_better=True)


# ------------------------------------------------------------------------------------ the contestants


async def _client(targets: str, calls: int) -> dict[str, Any]:
    async with waymaker.connect(targets) as wm:
        await _created(wm)

        async def pipeline(count: int) -> None:
            results = await wm.publish_many(STREAM, (("a", PAYLOAD) for _ in range(count)))
            results.raise_first()

        return await _figures(lambda: wm.publish(STREAM, "a", PAYLOAD), pipeline, calls)


async def _created(wm: waymaker.Client) -> None:
    """Create the stream, as soon as the cluster has a leader."""
    deadline = time.monotonic() + READY_S_MAX
    while True:
        try:
            if STREAM not in await wm.list_streams():
                await wm.create_stream(STREAM)
            return
        except waymaker.WaymakerError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def _nats_client(urls: str, calls: int) -> dict[str, Any]:
    nats: Any = __import__("nats")
    connection = await nats.connect(urls.split(","))
    streams = connection.jetstream(timeout=START_S_MAX, publish_async_max_pending=PART)
    await _nats_stream(streams)

    async def pipeline(count: int) -> None:
        await asyncio.gather(*[await streams.publish_async("a", PAYLOAD) for _ in range(count)])

    figures = await _figures(lambda: streams.publish("a", PAYLOAD), pipeline, calls)
    await streams.delete_stream(STREAM)
    await connection.close()
    return figures


async def _nats_stream(streams: Any) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while True:
        try:
            await streams.add_stream(name=STREAM, subjects=["a"], num_replicas=MEMBERS)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def _figures(
    one: Callable[[], Awaitable[object]], pipeline: Callable[[int], Awaitable[object]], calls: int
) -> dict[str, Any]:
    """Measure a pipeline, tasks that each await their publish, and one publish after the other."""
    await pipeline(WARM_UP)
    began = time.perf_counter()
    await pipeline(calls)
    pipelined = calls / (time.perf_counter() - began)

    async def task(count: int) -> None:
        for _ in range(count):
            await one()

    share = max(1, calls // TASKS // 2)
    began = time.perf_counter()
    await asyncio.gather(*(task(share) for _ in range(TASKS)))
    by_tasks = TASKS * share / (time.perf_counter() - began)
    times = []
    for _ in range(max(10, calls // SINGLE_SHARE)):
        began = time.perf_counter()
        await one()
        times.append((time.perf_counter() - began) * 1_000)
    return {PIPELINED: pipelined, BY_TASKS: by_tasks, ONE: times}


def main(contestant: str, target: str, calls: str) -> None:
    """Be one contestant of the measurement."""
    client = _nats_client if contestant == NATS else _client
    print(json.dumps(event_loop.run(client(target, int(calls)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
