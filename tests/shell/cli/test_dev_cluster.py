"""`waymaker dev --nodes`: one command, three members; one that dies comes back, and none outlives the command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cli_kit import Command
from tests.kit.cli_kit import server as _server
from tests.kit.cli_kit import waymaker as _waymaker
from tests.kit.real_server import LAUNCH, free_port
from tests.kit.waiting import wait_for
from waymaker.cli.local_cluster import PORTS_APART, plan

server = _server
waymaker = _waymaker
processes = pytest.mark.process


class Dev:
    """A cluster for development, as a child process. It is ready once it has said so."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / "log").open("wb+")
        command = [
            sys.executable,
            "-c",
            LAUNCH,
            "dev",
            "--nodes",
            "3",
            "--json",
            "--listen",
            f"127.0.0.1:{free_port()}",
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYMAKER_")}
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=self._log, env=environment, stdin=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        self.nodes: list[dict[str, Any]] = json.loads(self.process.stdout.readline() or "null")["nodes"]

    def said(self) -> str:
        """Return what it printed for people."""
        self._log.seek(0)
        return self._log.read().decode()

    def are_gone(self) -> bool:
        """Return True if no member runs any more."""
        return not any(Path(f"/proc/{each['pid']}").exists() for each in self.nodes)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        for each in self.nodes:  # a paused one cannot see that the command is gone
            with contextlib.suppress(OSError):
                os.kill(each["pid"], signal.SIGCONT)
        self._log.close()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    own = Dev(tmp_path)
    yield own
    own.close()


@processes
@pytest.mark.slow
def test_a_member_that_is_killed_comes_back_and_all_stop_in_order(dev: Dev, tmp_path: Path) -> None:
    assert [each["node_id"] for each in dev.nodes] == [1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "waymaker-cluster").iterdir()) == ["1", "2", "3"]
    os.kill(dev.nodes[1]["pid"], signal.SIGKILL)
    wait_for(lambda: "node 2 was ended by SIGKILL; it starts again in 1 s" in dev.said())
    wait_for(lambda: f"node 2 is back on {dev.nodes[1]['address']}" in dev.said(), 40)
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(30) == 0, dev.said()
    assert dev.are_gone()
    assert "Traceback" not in dev.said()


@processes
@pytest.mark.slow
def test_no_member_outlives_a_command_that_is_killed(dev: Dev) -> None:
    dev.process.kill()
    wait_for(dev.are_gone, 30)


@processes
@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(dev: Dev) -> None:
    for each in dev.nodes:
        os.kill(each["pid"], signal.SIGSTOP)  # none of them can stop in order
    dev.process.send_signal(signal.SIGINT)
    wait_for(lambda: "once more ends them at once" in dev.said())
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(10) == 1
    assert dev.are_gone()


def test_ports_lie_side_by_side_and_a_taken_one_is_replaced(tmp_path: Path) -> None:
    first = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        members = plan(tmp_path, 3, taken.getsockname()[1])
        assert members[0].port != taken.getsockname()[1]
    ports = [port for each in members for port in (each.port, each.link_port, each.metrics_port, each.peer_port)]
    assert len(set(ports)) == 12
    assert plan(tmp_path, 1, first)[0].port == first
    assert PORTS_APART > 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--node-id", "2"], "dev --nodes chooses it"),
        (["--cluster", "1=127.0.0.1:1"], "dev --nodes chooses it"),
        (["--listen", "0.0.0.0:1", "--insecure-listen-anywhere"], "listens on 127.0.0.1"),
        (["--sync", "never"], "sync"),
    ],
)
def test_settings_that_do_not_fit_are_refused(waymaker: Command, arguments: list[str], complaint: str) -> None:
    ran = waymaker("dev", "--nodes", "3", *arguments)
    assert ran.code == 2
    assert complaint in ran.err
