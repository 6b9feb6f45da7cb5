"""A cluster on this machine for development: every member a child process, watched, and started again where it dies.

The members listen on loopback, on ports side by side where these are free. Their logs are forwarded with the member's number.
A first Ctrl-C lets all of them stop in order, a second one kills them. When this process ends in any way they stop, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from waymaker.cli import exits, output
from waymaker.cli.child_server import command_of
from waymaker.cli.failure import CommandError

PORTS_APART: Final = 10
"""The distance between the ports of two members; a member has its links and its probes right behind its own port."""
RESTART_S: Final = 1.0
STOP_S: Final = 20.0
_PROBE_S: Final = 0.1
_LINE_BYTES: Final = 1 << 20
HOST: Final = "127.0.0.1"


@dataclass(slots=True, eq=False)
class LocalMember:
    """One member: its ports, its directory, and its process while it runs."""

    node_id: int
    data_dir: Path
    port: int
    link_port: int
    metrics_port: int
    peer_port: int
    process: asyncio.subprocess.Process | None = None
    is_announced: bool = False
    """True once the present process listens."""
    starts: int = 0
    last_lines: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Return where clients reach it."""
        return f"{HOST}:{self.port}"


def plan(directory: Path, count: int, first_port: int) -> list[LocalMember]:
    """Choose the ports of all members: those side by side, and another one where one of them is taken."""
    members = []
    with contextlib.ExitStack() as held:
        for index in range(count):
            base = first_port + PORTS_APART * index
            port, link, probes, peers = [
                held.enter_context(_free_port(base + offset if first_port else 0)) for offset in range(4)
            ]
            members.append(LocalMember(index + 1, directory / str(index + 1), port, link, probes, peers))
    return members


@contextlib.contextmanager
def _free_port(wanted: int) -> Iterator[int]:
    """Yield a port that is free, by preference a certain one, and hold it meanwhile so that none is chosen twice."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted if wanted < 1 << 16 else 0))
        except OSError:
            probe.bind((HOST, 0))
        yield probe.getsockname()[1]


class LocalCluster:
    """All members of one cluster. `arguments` go to each of them; `on_ready` is called once all know a leader."""

    def __init__(
        self, members: list[LocalMember], arguments: list[str], environment: dict[str, str],
        on_ready: Callable[[list[LocalMember]], None],
    ) -> None:  # fmt: skip
        self._members = members
        self._arguments = arguments
        self._environment = environment
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._problem = ""

    async def run(self) -> int:
        """Run until a signal; the exit code. Raises `CommandError` where a member cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        watching = [loop.create_task(self._supervise(member)) for member in self._members]
        announcing = loop.create_task(self._announce())
        try:
            await self._stopping.wait()
            announcing.cancel()
            codes = await self._stop_all(watching)
        finally:
            self._kill_all()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        if self._problem:
            raise CommandError(self._problem, exits.FAILED, code="cannot_start")
        return exits.OK if not any(codes) else exits.FAILED

    # ------------------------------------------------------------ members

    async def _supervise(self, member: LocalMember) -> int:
        """Run one member, again and again until all stop; return the exit code of its last process."""
        while True:
            process = await self._start(member)
            reading = asyncio.create_task(self._await_announcement(member, process))
            await self._forward(member, process)
            code = await process.wait()
            await reading
            was_announced, member.is_announced, member.process = member.is_announced, False, None
            if self._stopping.is_set():
                # Before it listens it has nothing to stop in order.
                return code if was_announced or code != -signal.SIGTERM else exits.OK
            if not was_announced and member.starts == 1:
                said = "\n".join(member.last_lines[-5:])
                self._problem = f"node {member.node_id} did not start, and ended with {code}: {said}"
                self._stopping.set()
                return code
            output.note(f"node {member.node_id} {_end(code)}; it starts again in {RESTART_S:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESTART_S):
                    await self._stopping.wait()
                    return code

    async def _start(self, member: LocalMember) -> asyncio.subprocess.Process:
        cluster = ",".join(f"{each.node_id}={HOST}:{each.peer_port}" for each in self._members)
        command = command_of(
            "serve", *self._arguments, "--json", "--node-id", str(member.node_id), "--cluster", cluster,
            "--data-dir", str(member.data_dir), "--listen", member.address, "--link-listen", f"{HOST}:{member.link_port}",
            "--metrics-listen", f"{HOST}:{member.metrics_port}",
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=self._environment, limit=_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for this process, which stops the members in order
        )  # fmt: skip
        member.process = process
        member.starts += 1
        member.last_lines.clear()
        if self._stopping.is_set():
            process.terminate()
        return process

    async def _await_announcement(self, member: LocalMember, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        if await process.stdout.readline():
            member.is_announced = True
            if member.starts > 1:
                output.note(f"node {member.node_id} is back on {member.address}")

    async def _forward(self, member: LocalMember, process: asyncio.subprocess.Process) -> None:
        """Forward the log until the process ends."""
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than any line of a log
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            member.last_lines = [*member.last_lines[-4:], text]
            output.note(f"{member.node_id} | {text}")

    # ------------------------------------------------------------ ready

    async def _announce(self) -> None:
        """Report once all members are ready."""
        waiting = list(self._members)
        while waiting:
            waiting = [each for each in waiting if not (each.is_announced and await _is_ready(each))]
            await asyncio.sleep(_PROBE_S)
        self._on_ready(self._members)

    # ------------------------------------------------------------ stopping

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._kill_all()
        else:
            output.note("stopping all nodes; once more ends them at once")
        self._stopping.set()

    async def _stop_all(self, watching: list[asyncio.Task[int]]) -> list[int]:
        for member in self._members:
            if member.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    member.process.terminate()
        _, late = await asyncio.wait(watching, timeout=STOP_S)
        if late:
            self._kill_all()
        return list(await asyncio.gather(*watching))

    def _kill_all(self) -> None:
        for member in self._members:
            if member.process is not None and member.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    member.process.kill()


async def _is_ready(member: LocalMember) -> bool:
    """Return True if a member serves, and knows a leader."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(HOST, member.metrics_port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in status


def _end(code: int) -> str:
    """Return how a process ended."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with {code}"


def announce(members: list[LocalMember], as_json: bool) -> None:
    """Print where all members listen."""
    if as_json:
        rows = [
            {
                "node_id": each.node_id, "address": each.address, "metrics_address": f"{HOST}:{each.metrics_port}",
                "data_dir": str(each.data_dir.resolve()), "pid": each.process.pid if each.process is not None else None,
            }
            for each in members
        ]  # fmt: skip
        output.write((json.dumps({"nodes": rows, "pid": os.getpid()}) + "\n").encode())
        return
    lines = [f"A cluster of {len(members)} is ready."]
    for each in members:
        pid = each.process.pid if each.process is not None else "-"
        lines.append(f"  node {each.node_id}   {each.address}   data {each.data_dir}   pid {pid}")
    server = members[0].address
    lines.append(f"  try      waymaker stream add orders --subjects 'orders.>' --server {server}")
    lines.append(f"  status   waymaker cluster status --server {server}")
    lines.append("  failover kill -9 a pid; the others go on, and it is started again")
    lines.append("  stop     Ctrl-C")
    output.note("\n".join(lines))
