"""`waymaker bench`: every kind of work against a real server, with tiny counts, and what is left behind: nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.real_server import LAUNCH, RealServer
from waymaker.cli import exits
from waymaker.cli.bench.figures import Durations, Figures
from waymaker.cli.bench.kinds import KINDS
from waymaker.cli.bench.measuring import Load, Measurement
from waymaker.storage.lock import LOCK_NAME

if TYPE_CHECKING:
    from waymaker.client.client import Client

BATCHED = {"publish", "fetch", "push", "pop"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    own = RealServer(Path(tmp_path_factory.mktemp("bench")) / "data")
    own.start()
    yield own
    own.close()


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("WAYMAKER_")}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", LAUNCH, "bench", *arguments]


def bench(*arguments: str, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    done = subprocess.run(command(*arguments, "--json"), capture_output=True, check=False, env=environment())
    assert done.returncode == code, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def streams(server: RealServer) -> bytes:
    arguments = [sys.executable, "-c", LAUNCH, "stream", "ls", "--server", server.address]
    return subprocess.run(arguments, capture_output=True, check=True).stdout


@pytest.mark.process
def test_every_kind_does_its_count_and_leaves_nothing_behind(server: RealServer) -> None:
    shape = ("--count", "12", "--batch", "5", "--tasks", "2", "--streams", "2", "--size", "64")
    rows, said = bench(*KINDS, *shape, "--server", server.address)
    assert [row["kind"] for row in rows] == list(KINDS)
    for row in rows:
        assert row["messages"] == 12 and not row["interrupted"] and row["per_second"] > 0, row
        assert row["mb_per_second"] == pytest.approx(12 * 64 / row["seconds"] / 1e6, rel=0.2, abs=0.002)
        if row["kind"] == "replay":
            assert row["calls"] == 0 and row["p50_ms"] is None, "nothing was waited for"
        else:
            calls = range(3, 12) if row["kind"] in BATCHED else [12]
            assert row["calls"] in calls, row
            assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert not said and not streams(server)


@pytest.mark.process
def test_a_single_task_makes_one_call_a_message_until_the_time_is_over(server: RealServer) -> None:
    began = time.monotonic()
    rows, _ = bench("publish", "push", "pop", "--seconds", "0.2", "--server", server.address)
    assert time.monotonic() - began < 60
    for row in rows:
        assert row["messages"] == row["calls"] > 0 and row["seconds"] >= 0.2
    assert not streams(server)


@pytest.mark.process
def test_without_a_server_it_runs_one_of_its_own_and_removes_it(tmp_path: Path) -> None:
    rows, _ = bench("publish", "kv-get", "--count", "5", "--folder", str(tmp_path))
    assert [row["messages"] for row in rows] == [5, 5]
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_ctrl_c_prints_what_was_measured_and_removes_what_was_made(server: RealServer) -> None:
    arguments = command("publish", "kv-put", "--seconds", "600", "--server", server.address, "--json")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    deadline = time.monotonic() + 60
    try:
        while b"bench-" not in streams(server):
            assert time.monotonic() < deadline
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == exits.INTERRUPTED, said
    (row,) = [json.loads(line) for line in printed.splitlines()]
    assert row["kind"] == "publish" and row["interrupted"] and row["messages"] > 0
    assert not streams(server)


@pytest.mark.process
def test_ctrl_c_without_a_server_names_what_it_leaves_behind(tmp_path: Path) -> None:
    own = RealServer(tmp_path / "data")
    own.start()
    try:
        arguments = command("publish", "--seconds", "600", "--timeout", "1", "--server", own.address)
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        deadline = time.monotonic() + 60
        try:
            while b"bench-" not in (made := streams(own)):
                assert time.monotonic() < deadline
            own.kill()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    finally:
        own.close()
    name = made.decode().split()[0]
    assert f"the stream {name} is left behind: " in said.decode()
    assert process.returncode in {exits.INTERRUPTED, exits.UNAVAILABLE}, "whichever came first"


@pytest.mark.process
def test_at_a_terminal_a_bar_shows_how_far_it_is(server: RealServer) -> None:
    ours, theirs = pty.openpty()
    arguments = command("publish", "fetch", "--seconds", "0.6", "--count", "20k", "--server", server.address, "--json")
    surroundings = environment() | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs, env=surroundings) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal's end, once the process has left it
            while part := os.read(ours, 4_096):
                seen += part
        os.close(ours)
        assert process.stdout is not None
        rows = [json.loads(line) for line in process.stdout.read().splitlines()]
    assert [row["kind"] for row in rows] == ["publish", "fetch"]
    shown = seen.decode(errors="replace")
    assert re.search(r"publish: preparing|publish: [\d,]+, [\d,]+/s", shown)
    assert "fetch: preparing" in shown, "what is stored beforehand is said, not measured"
    assert re.search(r"fetch: [\d,]+, [\d,]+/s", shown) and "%" in shown
    assert not streams(server)


@pytest.mark.parametrize(
    ("count", "seconds", "messages", "share"), [(100, 0.0, 25, 0.25), (0, 1e9, 25, 0.0), (100, 1e9, 400, 1.0)]
)
def test_how_far_a_measurement_is(count: int, seconds: float, messages: int, share: float) -> None:
    measurement = Measurement(cast("Client", None), "publish", Load(count, seconds, 1, 1, 1, 1))
    assert measurement.state() == (0.0, "publish: preparing")
    measurement.begin()
    measurement.add(messages, messages)
    done, said = measurement.state()
    assert done == pytest.approx(share, abs=0.001) and said.startswith(f"publish: {messages}, ") and said.endswith("/s")
    measurement.end()
    assert measurement.state() == (1.0, "publish: removing what was made")


@pytest.mark.process
def test_its_own_server_ends_with_it_however_it_ends(tmp_path: Path) -> None:
    arguments = command("publish", "--seconds", "600", "--folder", str(tmp_path))
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    deadline = time.monotonic() + 60
    try:
        while not (found := list(tmp_path.glob(f".waymaker-bench-*/data/{LOCK_NAME}"))):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    check = [sys.executable, "-c", LAUNCH, "check", str(found[0].parent)]
    while subprocess.run(check, capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, "the server still holds its directory"
        time.sleep(0.2)


@pytest.mark.process
def test_what_cannot_be_measured_is_said_before_anything_is_made(server: RealServer) -> None:
    _, said = bench("consume", "--size", "7", "--server", server.address, code=exits.USAGE)
    assert "consume needs 8 bytes" in said
    _, said = bench("publish", "--count", "1", "--server", "127.0.0.1:1", "--timeout", "1", code=exits.UNAVAILABLE)
    assert "127.0.0.1:1" in said
    bench("nothing", code=exits.USAGE)
    assert not streams(server)


# ---------------------------------------------------------------- figures


@given(st.lists(st.integers(0, 1 << 50), min_size=1))
def test_a_percentile_is_never_below_the_truth_and_little_above(durations: list[int]) -> None:
    found = Durations()
    for duration_ns in durations:
        found.add(duration_ns)
    for percent in (1, 50, 99, 100):
        truth = sorted(durations)[-(-len(durations) * percent // 100) - 1]
        assert truth <= found.percentile(percent) <= truth + truth // 64
    assert found.percentile(100) == found.longest == max(durations)


def test_figures_without_time_or_calls_are_no_division_by_zero() -> None:
    row = Figures("publish").row()
    assert (row["per_second"], row["mb_per_second"], row["p50_ms"]) == (0, 0.0, None)
