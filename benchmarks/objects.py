"""Objects put and got whole through the Python client, beside the object store of NATS, in turn.

Each process stores one object of random bytes, reads it again, and compares: both clients hash what they send and receive.
NATS gives an object no faster than the flow control of its ordered consumer; the same chunks are also fetched with a pull
consumer and hashed, which its object store does not do.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
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
MIB = 1 << 20
TARGET = 1.3
"""The goal: so many times the faster of the rates of NATS."""
NATS_CHUNKS = {"128 KiB": 128 << 10, "512 KiB": 512 << 10}
"""The chunk that its client uses by default, and one of half its server's largest message."""
PULLED = 64
"""Chunks that a pull consumer is asked for at a time."""


async def objects(folder: Path, mebibytes: int) -> list[Figure]:
    """Measure each contestant in turn, in several rounds; the figures are medians of the rounds."""
    return await asyncio.to_thread(_measured, folder, mebibytes)


def _measured(folder: Path, mebibytes: int) -> list[Figure]:
    server = RealServer(folder / "data")
    server.start()
    try:
        with nats_servers(folder) as ports:
            contestants = {"synced": ["client", server.address]}
            for mode, port in ports.items():
                for name, chunk in NATS_CHUNKS.items():
                    contestants[f"NATS, {mode}, chunks of {name}"] = [NATS, str(port), str(chunk)]
            found = in_turn("benchmarks.objects", contestants, mebibytes)
    finally:
        server.close()
    figures = []
    for what in ("put", "get", "pull"):
        rates = {name: [times[what] for times in rounds] for name, rounds in found.items() if what in rounds[0]}
        best = max((median_and_range(rates[name], "")[0] for name in rates if name != "synced"), default=0.0)
        for name, values in rates.items():
            rate, beside = median_and_range(values, "MiB/s")
            target = TARGET * best if name == "synced" else 0
            figures.append(Figure(f"{what} {mebibytes} MiB, {name}", rate, "MiB/s", target, beside=beside))
    return figures


async def _timed(
    put: Callable[[bytes], Awaitable[object]], get: Callable[[], Awaitable[bytes]], mebibytes: int
) -> dict[str, float]:
    payload = os.urandom(mebibytes * MIB)
    began = time.perf_counter()
    await put(payload)
    stored = time.perf_counter()
    got = await get()
    took = time.perf_counter() - stored
    assert got == payload, "what was got is what was put"
    return {"put": mebibytes / (stored - began), "get": mebibytes / took}


async def _client(target: str, mebibytes: int) -> dict[str, float]:
    async with waymaker.connect(target) as wm:
        store = await wm.objects(BUCKET, create=True)
        await store.put("warm up", b"x")
        times = await _timed(lambda data: store.put("one", data), lambda: store.get("one"), mebibytes)
        await store.delete("one")
        return times


async def _pulled(streams: Any, bucket: str, nuid: str, mebibytes: int) -> float:
    """Return the rate at which the chunks of an object come through a pull consumer, and are hashed."""
    api: Any = __import__("nats.js.api").js.api
    settings = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE)
    pulling = await streams.pull_subscribe(f"$O.{bucket}.C.{nuid}", config=settings, stream=f"OBJ_{bucket}")
    digest, pieces, missing = hashlib.sha256(), [], mebibytes * MIB
    began = time.perf_counter()
    while missing > 0:
        for message in await pulling.fetch(PULLED, timeout=START_S_MAX):
            digest.update(message.data)
            pieces.append(message.data)
            missing -= len(message.data)
    whole = b"".join(pieces)
    took = time.perf_counter() - began
    assert len(whole) == mebibytes * MIB
    await pulling.unsubscribe()
    return mebibytes / took


async def _nats_client(port: str, chunk_bytes: int, mebibytes: int) -> dict[str, float]:
    nats: Any = __import__("nats.js.api")
    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    try:
        streams, bucket = connection.jetstream(timeout=START_S_MAX), f"{BUCKET}{os.getpid()}"
        store = await streams.create_object_store(bucket)
        options = nats.js.api.ObjectMetaOptions(max_chunk_size=chunk_bytes)
        await store.put("warm up", b"x")

        async def get() -> bytes:
            # Without a file of its own the client copies all that it has with each chunk that comes.
            file = io.BytesIO()
            await store.get("one", writeinto=file)
            return file.getvalue()

        put = lambda data: store.put("one", data, nats.js.api.ObjectMeta(options=options))  # noqa: E731
        times = await _timed(put, get, mebibytes)
        times["pull"] = await _pulled(streams, bucket, (await store.get_info("one")).nuid, mebibytes)
        await store.delete("one")
        return times
    finally:
        await connection.close()


def main(contestant: str, target: str, *arguments: str) -> None:
    """Be one contestant of the measurement."""
    mebibytes = int(arguments[-1])
    if contestant == NATS:
        times = event_loop.run(_nats_client(target, int(arguments[0]), mebibytes))
    else:
        times = event_loop.run(_client(target, mebibytes))
    print(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
