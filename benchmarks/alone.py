"""One publish at a time through the Python client: over gRPC and the native link, beside bare and other peers, in turn.

The bare peer is an echo of the same bytes on the same kind of loop, with a write and a sync of as many bytes before each
answer: no server that syncs can be quicker on this machine. NATS takes part where `nats-server` and `nats-py` are installed.
Everything runs in processes of its own and one after the other, round by round, so that a busy minute hits all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import waymaker
from benchmarks.contestants import NATS, START_S_MAX, in_turn, nats_servers
from benchmarks.figures import Figure
from tests.kit.real_server import RealServer
from waymaker import event_loop

STREAM = "alone"
PAYLOAD = bytes(128)
ANSWER_BYTES = 30
SYNCED_BYTES = 512
FILE_BYTES = 32 << 20
WARM_UP = 100


async def alone(folder: Path, calls: int) -> list[Figure]:
    """Measure each contestant in turn, in several rounds; the figures are medians of the rounds."""
    return await asyncio.to_thread(_measured, folder, calls)


def _measured(folder: Path, calls: int) -> list[Figure]:
    server = RealServer(folder / "data")
    server.start()
    try:
        with nats_servers(folder) as ports:
            contestants = {
                "bare echo with a sync": ["bare", str(folder)],
                "publish, native link": ["client", server.address, "auto"],
                "publish, gRPC": ["client", server.address, "grpc"],
            }
            contestants |= {f"NATS, {mode}": [NATS, str(port)] for mode, port in ports.items()}
            found = in_turn("benchmarks.alone", contestants, calls)
    finally:
        server.close()
    bare = _median(found["bare echo with a sync"], 49)
    figures = []
    for name, rounds in found.items():
        medians = [statistics.quantiles(times, n=100)[49] for times in rounds]
        beside = f"{min(medians):.2f} to {max(medians):.2f} ms; {_median(rounds, 49) / bare:.2f} of the bare echo"
        figures.append(Figure(f"{name}, median", _median(rounds, 49), "ms", smaller_is_better=True, beside=beside))
        figures.append(Figure(f"{name}, 99th percentile", _median(rounds, 98), "ms", smaller_is_better=True))
    return figures


def _median(rounds: list[list[float]], cut: int) -> float:
    return statistics.median(statistics.quantiles(times, n=100)[cut] for times in rounds)


async def _timed(call: Any, calls: int) -> list[float]:
    times = []
    warm_up = min(WARM_UP, calls)
    for number in range(warm_up + calls):
        began = time.perf_counter()
        await call()
        if number >= warm_up:
            times.append((time.perf_counter() - began) * 1_000)
    return times


# ------------------------------------------------------------------------------------ the contestants


async def _client(target: str, transport: str, calls: int) -> list[float]:
    async with waymaker.connect(target, transport=transport) as wm:
        if STREAM not in await wm.list_streams():
            await wm.create_stream(STREAM)
        return await _timed(lambda: wm.publish(STREAM, "a", PAYLOAD), calls)


async def _nats_client(port: str, calls: int) -> list[float]:
    nats: Any = __import__("nats")
    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    streams = connection.jetstream(timeout=START_S_MAX)
    await streams.add_stream(name=STREAM, subjects=["a"])
    times = await _timed(lambda: streams.publish("a", PAYLOAD), calls)
    await streams.delete_stream(STREAM)
    await connection.close()
    return times


class _Echo(asyncio.Protocol):
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        os.pwrite(self._descriptor, bytes(SYNCED_BYTES), self._offset)
        os.fdatasync(self._descriptor)
        self._offset = (self._offset + SYNCED_BYTES) % (FILE_BYTES - SYNCED_BYTES)
        self._transport.write(bytes(ANSWER_BYTES))


class _Asking(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._answer.set_result(None)

    def ask(self) -> asyncio.Future[None]:
        self._answer: asyncio.Future[None] = self._loop.create_future()
        self._transport.write(PAYLOAD)
        return self._answer


async def _bare_server(folder: str) -> None:
    path = os.path.join(folder, f"bare-{os.getpid()}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, bytes(FILE_BYTES), 0)
    os.fsync(descriptor)
    os.unlink(path)
    server = await asyncio.get_running_loop().create_server(lambda: _Echo(descriptor), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _bare(folder: str, calls: int) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.alone", "bare-server", folder]
    server = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = int(await server.stdout.readline())
        _, asking = await asyncio.get_running_loop().create_connection(_Asking, "127.0.0.1", port)
        return await _timed(asking.ask, calls)
    finally:
        server.kill()
        await server.wait()


def main(contestant: str, *arguments: str) -> None:
    """Be one contestant of the measurement."""
    if contestant == "bare-server":
        event_loop.run(_bare_server(*arguments))
        return
    calls = int(arguments[-1])
    if contestant == "bare":
        times = event_loop.run(_bare(arguments[0], calls))
    elif contestant == NATS:
        times = event_loop.run(_nats_client(arguments[0], calls))
    else:
        times = event_loop.run(_client(arguments[0], arguments[1], calls))
    print(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
