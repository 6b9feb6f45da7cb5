"""Streams that copy: how fast a new one catches up, and whether one keeps up with its source being published to."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import waymaker
from benchmarks.figures import Figure
from benchmarks.scenarios import BATCH_MESSAGES, IN_FLIGHT, STREAM, batch_of, fresh_server, session_with
from benchmarks.session import publish

COPIES = "copies"
CATCH_UP_TARGET = 100_000
KEEP_UP_SHARE = 0.5
"""The share of the source's own rate with which a stream that copies keeps up."""


async def sourcing(folder: Path, messages: int) -> list[Figure]:
    """Measure the source alone, a new copy that catches up, and source and copy together."""
    batch = batch_of(BATCH_MESSAGES, subjects=16)
    batches = messages // BATCH_MESSAGES
    async with fresh_server(folder) as server, session_with(server) as session:
        began = time.perf_counter()
        await publish(session, batch, batches, IN_FLIGHT)
        alone = batches * BATCH_MESSAGES / (time.perf_counter() - began)
        async with waymaker.connect(server.address) as wm:
            began = time.perf_counter()
            await wm.create_stream(COPIES, sources=[STREAM])
            caught_up = batches * BATCH_MESSAGES / (await _reached(wm, batches * BATCH_MESSAGES) - began)
            began = time.perf_counter()
            await publish(session, batch, batches, IN_FLIGHT)
            published = time.perf_counter()
            reached = await _reached(wm, 2 * batches * BATCH_MESSAGES)
    together = batches * BATCH_MESSAGES / (reached - began)
    return [
        Figure("a new copy of 128 B catches up", caught_up, "messages/s", CATCH_UP_TARGET),
        Figure(
            "publish and copy 128 B together", together, "messages/s", KEEP_UP_SHARE * alone,
            beside=f"the source alone takes {alone:,.0f}/s; the copy was {reached - published:.2f} s behind at the end",
        ),
    ]  # fmt: skip


async def _reached(wm: waymaker.Client, seq: int) -> float:
    """Return the time at which the copy was seen to have reached a sequence of the source."""
    while True:
        info = await wm.stream_info(COPIES)
        if info.sources[0].last_sourced_seq >= seq:
            return time.perf_counter()
        await asyncio.sleep(0.02)
