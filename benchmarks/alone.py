"""One publish at a time through the Python client: over gRPC and the native link, beside bare and other peers, in turn.

The bare peer is an echo of the same bytes on the same kind of loop, with a write and a sync of as many bytes before each
answer: no server that syncs can be quicker on this machine. NATS takes part where `nats-server` and `nats-py` are installed.
Everything runs in processes of its own and one after the other, round by round, so that a busy minute hits all of them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import waymaker
from benchmarks.figures import Figure
from tests.kit.real_server import RealServer, free_port
from waymaker import event_loop

ROUNDS = 5
STREAM = "alone"
PAYLOAD = bytes(128)
ANSWER_BYTES = 30
SYNCED_BYTES = 512
FILE_BYTES = 32 << 20
WARM_UP = 100
START_S_MAX = 30.0
NATS = "nats"


async def alone(folder: Path, calls: int) -> list[Figure]:
    """Measure each contestant in turn, in several rounds; the figures are medians of the rounds."""
    return await asyncio.to_thread(_measured, folder, calls)


def _measured(folder: Path, calls: int) -> list[Figure]:
    found: dict[str, list[list[float]]] = {}
    server = RealServer(folder / "data")
    server.start()
    with _nats(folder) as ports:
        try:
            for _ in range(ROUNDS):
                for name, arguments in (
                    ("bare echo with a sync", ("bare", str(folder))),
                    ("publish, native link", ("client", server.address, "auto")),
                    ("publish, gRPC", ("client", server.address, "grpc")),
                    *((f"NATS, {mode}", (NATS, str(port))) for mode, port in ports.items()),
                ):
                    found.setdefault(name, []).append(_in_process(*arguments, str(calls)))
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


def _in_process(*arguments: str) -> list[float]:
    """Run one contestant as a process; return what each call took, in milliseconds."""
    ran = subprocess.run([sys.executable, "-m", "benchmarks.alone", *arguments], capture_output=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{arguments[0]} failed:\n{ran.stderr.decode(errors='replace')}")
    times: list[float] = json.loads(ran.stdout)
    return times


async def _timed(call: Any, calls: int) -> list[float]:
    times = []
    for number in range(WARM_UP + calls):
        began = time.perf_counter()
        await call()
        if number >= WARM_UP:
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


def _await_port(port: int) -> None:
    """Wait until a server answers there."""
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=START_S_MAX) as connection:
                if connection.recv(4):
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def _nats(folder: Path) -> Iterator[dict[str, int]]:
    """Run NATS without a sync and with one for each message, where it is installed; yield the ports."""
    program = shutil.which("nats-server", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    ports: dict[str, int] = {}
    running = []
    try:
        if program is not None and importlib.util.find_spec(NATS) is not None:
            for mode, setting in (("no sync", ""), ("sync always", "sync_interval: always")):
                ports[mode] = free_port()
                settings = folder / f"nats-{ports[mode]}.conf"
                store = folder / f"nats-{ports[mode]}"
                settings.write_text(
                    f'listen: 127.0.0.1:{ports[mode]}\njetstream {{ store_dir: "{store}"\n{setting} }}\n'
                )
                running.append(
                    subprocess.Popen(
                        [program, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                    )
                )
            for port in ports.values():
                _await_port(port)
        yield ports
    finally:
        for process in running:
            process.kill()
            process.wait()


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
