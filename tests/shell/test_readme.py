"""The README's commands work, in the order in which a newcomer types them.

Every fenced block marked ``sh`` or ``python`` is run verbatim, in a directory that looks like a fresh checkout with its
environment set up. The one thing that differs from a newcomer's terminal is a free port in place of the default one, so
that the test disturbs nobody: the environment names it, and it takes the default's place in Python blocks. A block that
starts the node keeps running until the end, as a terminal would. ``make test`` is the one exception: it is looked up, not
run, for it would run this test again.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.real_server import answers, free_port
from waymaker.cli.local_cluster import PORTS_APART

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DEFAULT_ADDRESS = "127.0.0.1:7411"
CLUSTER_PORT = 7421
"""The first member's port in the README; those of the others follow at a distance."""
START_S_MAX = 60
BLOCK_S_MAX = 120


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks that are to be run, as (language, content), in order."""
    return re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def never_returns(block: str) -> bool:
    commands = [line.partition("#")[0].strip() for line in block.splitlines()]
    return any(command == "make dev" or command.startswith("waymaker dev") for command in commands)


def with_free_ports(block: str, first: int) -> str:
    """The block with a cluster at other ports, as far apart as in the README."""
    for place in range(3):
        block = block.replace(f":{CLUSTER_PORT + PORTS_APART * place}", f":{first + PORTS_APART * place}")
    return block


def is_the_test_suite(block: str) -> bool:
    return block.partition("#")[0].strip() == "make test"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project's files by link, and an environment that counts as set up."""
    folder = tmp_path / "waymaker"
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in {".venv", ".git", "waymaker-data", "waymaker-cluster"} and not entry.name.startswith(
            ".bench-"
        ):
            (folder / entry.name).symlink_to(entry)
    environment = folder / ".venv"
    environment.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if not entry.name.startswith(".ready-"):
            (environment / entry.name).symlink_to(entry)
    for stamp in (".ready-to-run", ".ready-to-develop"):
        (environment / stamp).touch()
    return folder


@pytest.fixture
def terminals(checkout: Path) -> Iterator[Terminals]:
    opened = Terminals(checkout)
    yield opened
    opened.close()


class Terminals:
    """Shells in one directory that share an environment; what runs on is ended with them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self.cluster_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("WAYMAKER_", "MAKE", "ARGS"))
        }
        self._environment = inherited | {
            "WAYMAKER_LISTEN": self.address,
            "WAYMAKER_SERVER": self.address,
            "COLUMNS": "120",
        }
        self._running: list[subprocess.Popen[str]] = []

    def run(self, command: list[str]) -> str:
        answer = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=BLOCK_S_MAX,
            check=False,
        )
        assert answer.returncode == 0, f"{command[-1]}\nended with {answer.returncode}:\n{answer.stdout}{answer.stderr}"
        return answer.stdout

    def start(self, command: list[str], port: int) -> None:
        """Starts what does not return, and waits until it answers."""
        process = subprocess.Popen(
            command, cwd=self._folder, env=self._environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._running.append(process)
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            assert process.poll() is None, f"{command[-1]}\nended:\n{process.stdout.read() if process.stdout else ''}"
            if answers(port):
                return
            time.sleep(0.05)
        raise AssertionError(f"{command[-1]}\ndid not answer within {START_S_MAX} s")

    def close(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.slow
@pytest.mark.process
def test_the_commands_of_the_readme_work(terminals: Terminals) -> None:
    output = ""
    for language, written in blocks(README.read_text()):
        block = with_free_ports(written, terminals.cluster_port)
        if language == "python":
            output += terminals.run([sys.executable, "-c", block.replace(DEFAULT_ADDRESS, terminals.address)])
        elif is_the_test_suite(block):
            terminals.run(["bash", "-ec", block.replace("make test", "make --dry-run test")])
        elif never_returns(block):
            terminals.start(["bash", "-ec", block], terminals.port if block == written else terminals.cluster_port)
        else:
            output += terminals.run(["bash", "-ec", block])
    # What the node was given came back: the first and the last event of the example file.
    events = (ROOT / "examples" / "parcels.ndjson").read_text().splitlines()
    assert events[0] in output
    assert events[-1] in output


def test_the_readme_has_something_to_run() -> None:
    found = blocks(README.read_text())
    assert any(never_returns(block) for _, block in found)
    assert any(is_the_test_suite(block) for _, block in found)
    assert any(language == "python" for language, _ in found)


def test_a_block_is_found_as_it_stands() -> None:
    text = "words\n```sh\nmake dev   # starts\n```\n```text\nno\n```\n```python\nprint(1)\n```\n"
    assert blocks(text) == [("sh", "make dev   # starts\n"), ("python", "print(1)\n")]
    assert never_returns("make dev   # starts\n")
    assert not never_returns("make test\n")
    assert is_the_test_suite("make test\n")
