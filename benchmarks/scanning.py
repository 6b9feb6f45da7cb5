"""The cost of a cold search to others: publishes of another client while indexes are loaded and searched."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import waymaker
from benchmarks.figures import Figure
from benchmarks.scenarios import PAYLOAD, STREAM, fresh_server

OTHER = "other"
ROUNDS = 5
"""Messages at each subject."""


async def scanning(folder: Path, subjects: int) -> list[Figure]:
    """Measure a scan at one of many subjects and a filter that matches next to nothing, each the first after a start."""
    async with fresh_server(folder) as server:
        async with waymaker.connect(server.address) as wm:
            await wm.create_stream(OTHER)
            await wm.publish_many(STREAM, _messages(subjects))
            await wm.publish(STREAM, "rare.one", b"")
            await wm.create_consumer(STREAM, "rare", filter_subject="*.one")
        server.terminate()
        server.start()
        async with waymaker.connect(server.address) as wm, waymaker.connect(server.address) as publisher:
            alone = await _publishes(publisher, asyncio.create_task(asyncio.sleep(min(2.0, subjects / 2_500))))
            began = time.perf_counter()
            scan = asyncio.create_task(_scan(wm, f"sensor.{subjects // 2}.event"))
            beside_scan = await _publishes(publisher, scan)
            scan_s = time.perf_counter() - began
            began = time.perf_counter()
            fetch = asyncio.create_task(_fetch(wm))
            beside_fetch = await _publishes(publisher, fetch)
            fetch_s = time.perf_counter() - began
            assert scan.result() == ROUNDS and fetch.result() == 1
    return [
        Figure("publish, nothing else: median", alone[0], "ms", smaller_is_better=True),
        Figure("cold scan at one subject", scan_s * 1_000, "ms", smaller_is_better=True),
        Figure("publishes beside it: slowest", beside_scan[1], "ms", smaller_is_better=True),
        Figure("cold fetch of a filter that matches 1", fetch_s * 1_000, "ms", smaller_is_better=True),
        Figure("publishes beside it: median", beside_fetch[0], "ms", smaller_is_better=True),
        Figure("publishes beside it: slowest", beside_fetch[1], "ms", smaller_is_better=True),
    ]


def _messages(subjects: int) -> Iterator[tuple[str, bytes]]:
    for _ in range(ROUNDS):
        for number in range(subjects):
            yield f"sensor.{number}.event", PAYLOAD


async def _scan(wm: waymaker.Client, subject: str) -> int:
    return len([message async for message in wm.scan(STREAM, subject)])


async def _fetch(wm: waymaker.Client) -> int:
    return len(await wm.fetch(STREAM, "rare"))


async def _publishes(wm: waymaker.Client, meanwhile: asyncio.Task[object]) -> tuple[float, float]:
    """Return median and slowest, in milliseconds, of publishes one after the other until something else is done."""
    took: list[float] = []
    while not meanwhile.done() or not took:
        began = time.perf_counter()
        await wm.publish(OTHER, "a", PAYLOAD)
        took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took), max(took)
