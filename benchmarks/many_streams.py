"""A restart with many streams: what a start costs that grows with streams, and not with messages."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import waymaker
from benchmarks.figures import Figure
from benchmarks.scenarios import PAYLOAD, fresh_server
from tests.kit.real_server import RealServer

MESSAGES = 5
"""Messages of each stream."""
AT_ONCE = 200
"""Streams that are made at the same time."""
RESTART_TARGET_S = 3


async def restarting_streams(folder: Path, streams: int) -> list[Figure]:
    """Measure from the start of the process to the first answer, after a kill and after an orderly stop."""
    async with fresh_server(folder) as server:
        async with waymaker.connect(server.address) as wm:
            for first in range(0, streams, AT_ONCE):
                await asyncio.gather(*(_make(wm, number) for number in range(first, min(first + AT_ONCE, streams))))
        server.kill()
        after_kill_s = await _start(server, streams)
        server.terminate()
        after_stop_s = await _start(server, streams)
    return [
        Figure(f"restart after a kill, {streams:,} streams", after_kill_s, "s", RESTART_TARGET_S, smaller_is_better=True),
        Figure(
            f"restart after an orderly stop, {streams:,} streams", after_stop_s, "s", RESTART_TARGET_S,
            smaller_is_better=True,
        ),
    ]  # fmt: skip


async def _make(wm: waymaker.Client, number: int) -> None:
    await wm.create_stream(f"many-{number}")
    await wm.publish_many(f"many-{number}", [(f"many.{number}", PAYLOAD)] * MESSAGES)


async def _start(server: RealServer, streams: int) -> float:
    began = time.perf_counter()
    server.start()
    async with waymaker.connect(server.address) as wm:
        info = await wm.stream_info(f"many-{streams - 1}")
        took_s = time.perf_counter() - began
    assert info.msg_count == MESSAGES, info
    return took_s
