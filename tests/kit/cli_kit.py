"""The command line in this process, against a fake server: what the tests of commands share.

Responsible for running one command line with nothing of the surroundings. A test module takes the fixtures as attributes of
its own, as in `server = cli_kit.server`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from tests.kit.client_fake_server import FakeServer, run_beside, threaded_server
from waymaker.cli import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Ran]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with threaded_server() as fake:
        yield fake


@pytest.fixture
def waymaker(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line with nothing of the surroundings; a str or bytes `input` is standard input.

    It runs on the fake server's loop: gRPC now and then forgets a process of two loops.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asyncio, "run", run_beside)

    def run(*arguments: str, input: str | bytes = b"", target: str | None = None) -> Ran:  # noqa: A002
        environment = {"WAYMAKER_SERVER": target or server.target, "WAYMAKER_TOKEN": None, "WAYMAKER_CA": None}
        with CliRunner().isolation(input=input, env=environment) as (out, err, _):
            code = main(arguments)
            return Ran(code, out.getvalue().decode(), err.getvalue().decode())

    return run


@pytest.fixture
def orders(server: FakeServer, waymaker: Command) -> FakeServer:
    """Make a stream with three messages and a consumer."""
    assert waymaker("stream", "add", "orders", "-s", "orders.>").code == 0
    for n in range(3):
        assert waymaker("pub", "orders", f"orders.{n}", f"payload {n}").code == 0
    assert waymaker("consumer", "add", "orders", "reader").code == 0
    return server
