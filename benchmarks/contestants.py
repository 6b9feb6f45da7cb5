"""Contestants of a comparison: servers that run beside each other, and measurements in processes of their own, in turn.

NATS and Redis take part where their programs and Python clients are installed; the others go on without them. One contestant
is measured at a time, round by round, so that a busy minute hits all of them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.kit.real_server import free_port

ROUNDS = 5
START_S_MAX = 30.0
NATS = "nats"
REDIS = "redis"
NATS_MODES = {"no sync": "", "sync always": "sync_interval: always"}
Write = Callable[[Path, int], list[str]]
"""Writes what a server needs into a folder of its own; returns the arguments with which it listens on a port."""


def in_process(module: str, *arguments: str) -> Any:
    """Run one contestant as a process; return what it measured."""
    ran = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{arguments[0]} failed:\n{ran.stderr.decode(errors='replace')}")
    return json.loads(ran.stdout)


def in_turn(module: str, contestants: Mapping[str, Sequence[str]], load: int) -> dict[str, list[Any]]:
    """Measure each contestant in turn, in several rounds; return what each measured, by its name."""
    found: dict[str, list[Any]] = {}
    for _ in range(ROUNDS):
        for name, arguments in contestants.items():
            found.setdefault(name, []).append(in_process(module, *arguments, str(load)))
    return found


def median_and_range(values: Sequence[float], unit: str) -> tuple[float, str]:
    """Return the median of the rounds, and the least and the greatest as text."""
    return statistics.median(values), f"{_short(min(values))} to {_short(max(values))} {unit}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


# ------------------------------------------------------------------------------------ other servers


@contextmanager
def nats_servers(folder: Path) -> Iterator[dict[str, int]]:
    """Run NATS without a sync and with one for each message, where it is installed; yield the ports."""

    def write(setting: str) -> Write:
        def written(place: Path, port: int) -> list[str]:
            file = place / "nats.conf"
            file.write_text(f'listen: 127.0.0.1:{port}\njetstream {{ store_dir: "{place}"\n{setting} }}\n')
            return ["-c", str(file)]

        return written

    modes = {mode: write(setting) for mode, setting in NATS_MODES.items()}
    with _servers(folder, nats_program(), NATS, modes, b"") as ports:
        yield ports


@contextmanager
def nats_clusters(folder: Path, members: int) -> Iterator[dict[str, str]]:
    """Run clusters of NATS, one without a sync and one with one for each message; yield the addresses of their members."""
    with ExitStack() as stack:
        found = {}
        for mode, setting in NATS_MODES.items():
            name = mode.replace(" ", "-")
            routes = {f"{name}-{number}": free_port() for number in range(1, members + 1)}
            ports = stack.enter_context(
                _servers(folder, nats_program(), NATS, _nats_members(name, setting, routes), b"")
            )
            if ports:
                found[mode] = ",".join(f"nats://127.0.0.1:{port}" for port in ports.values())
        yield found


def _nats_members(cluster_name: str, setting: str, routes: dict[str, int]) -> dict[str, Write]:
    urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes.values())

    def write(name: str, route: int) -> Write:
        def written(place: Path, port: int) -> list[str]:
            file = place / "nats.conf"
            group = f'cluster {{ name: "{cluster_name}", listen: "127.0.0.1:{route}", routes: [{urls}] }}'
            file.write_text(
                f'server_name: "{name}"\nlisten: 127.0.0.1:{port}\n{group}\n'
                f'jetstream {{ store_dir: "{place}"\n{setting} }}\n'
            )
            return ["-c", str(file)]

        return written

    return {name: write(name, route) for name, route in routes.items()}


def nats_program() -> str | None:
    return shutil.which("nats-server", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))


@contextmanager
def redis_servers(folder: Path) -> Iterator[dict[str, int]]:
    """Run Redis with a sync a second and with one before each answer, where it is installed; yield the ports."""

    def write(mode: str) -> Write:
        def written(place: Path, port: int) -> list[str]:
            return [
                "--bind", "127.0.0.1", "--port", str(port), "--dir", str(place), "--save", "", "--appendonly", "yes",
                "--appendfsync", mode,
            ]  # fmt: skip

        return written

    modes = {mode: write(mode) for mode in ("everysec", "always")}
    with _servers(folder, shutil.which("redis-server"), REDIS, modes, b"PING\r\n") as ports:
        yield ports


@contextmanager
def _servers(
    folder: Path, program: str | None, client: str, modes: Mapping[str, Write], greeting: bytes
) -> Iterator[dict[str, int]]:
    ports: dict[str, int] = {}
    running = []
    if program is None or importlib.util.find_spec(client) is None:
        print(f"{client}: not installed, left out", file=sys.stderr)
        yield ports
        return
    try:
        for mode, write in modes.items():
            ports[mode] = free_port()
            place = folder / f"{client}-{ports[mode]}"
            place.mkdir()
            command = [program, *write(place, ports[mode])]
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for port in ports.values():
            _await_port(port, greeting)
        yield ports
    finally:
        for process in running:
            process.kill()
            process.wait()


def _await_port(port: int, greeting: bytes) -> None:
    """Wait until a server answers there."""
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=START_S_MAX) as connection:
                connection.sendall(greeting)
                if connection.recv(4):
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
