"""The programs beside `waymaker`: they are what the package installs, and do what the commands they stand for do."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.kit.real_server import LAUNCH, RealServer

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def run(program: str, *arguments: str, code: int = 0) -> bytes:
    """Run a program in a process of its own, as its script would, and return what it prints."""
    module, _, function = SCRIPTS[program].partition(":")
    launch = f"import sys; from {module} import {function}; sys.exit({function}())"
    done = subprocess.run([sys.executable, "-c", launch, *arguments], capture_output=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


def test_every_script_of_the_package_names_a_function() -> None:
    assert set(SCRIPTS) == {"waymaker", "streams-cli", "wmkr-status"}
    for target in SCRIPTS.values():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))


@pytest.mark.process
def test_keys_and_their_history_are_those_of_waymaker_kv(server: RealServer) -> None:
    there = ("--server", server.address)
    for arguments in (["add", "cfg"], ["put", "cfg", "a.b", "one"], ["put", "cfg", "c", "two"], ["rm", "cfg", "c"]):
        subprocess.run(
            [sys.executable, "-c", LAUNCH, "kv", *arguments, *there], check=True, capture_output=True, timeout=60
        )
    assert run("streams-cli", "kv-keys", "cfg", *there) == b"a.b\n"
    assert run("streams-cli", "kv-keys", "cfg", "--all", *there) == b"a.b\nc\n"
    lines = run("streams-cli", "kv-history", "cfg", "c", "--json", *there).splitlines()
    assert [json.loads(line).get("value") for line in lines] == ["two", None]
    status = run("wmkr-status", "--json", *there).splitlines()
    assert json.loads(status[0])["streams"] >= 1
    figures = next(json.loads(line) for line in status[1:] if json.loads(line)["name"] == "kv:cfg")
    assert (figures["messages"], figures["last_seq"]) == (3, 3)


def test_mistakes_and_help_speak_of_the_program_that_was_called() -> None:
    assert b"Usage: streams-cli" in run("streams-cli", "--help")
    assert b"kv-history" in run("streams-cli", "--help")
    assert b"Usage: streams-cli kv-keys" in run("streams-cli", "kv-keys", "--help")
    assert b"Usage: wmkr-status" in run("wmkr-status", "--help")
    assert b"kv-nothing" in run("streams-cli", "kv-nothing", code=2)
    assert b"cannot reach it" in run("wmkr-status", "--server", "127.0.0.1:1", "--timeout", "1", code=6)
