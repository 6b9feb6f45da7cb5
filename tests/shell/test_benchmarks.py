"""The benchmarks run and measure what they say; how fast, only a quiet machine can tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.alone import alone
from benchmarks.contestants import nats_servers, redis_servers
from benchmarks.figures import Figure, as_json, table
from benchmarks.keys import keys
from benchmarks.many_streams import restarting_streams
from benchmarks.objects import objects
from benchmarks.scanning import scanning
from benchmarks.scenarios import one_at_a_time, publishing, replaying, restarting
from benchmarks.sourcing import sourcing
from benchmarks.stores import stores

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = 4_096


SCENARIOS = {
    # what runs, how much of it, the units of its figures
    "publish": (publishing, MESSAGES, ["messages/s"]),
    "replay": (replaying, MESSAGES, ["messages/s"]),
    "restart": (restarting, MESSAGES, ["s", "MiB"]),
    "single": (one_at_a_time, 20, ["ms"] * 2),
    "scan": (scanning, 200, ["ms"] * 6),
    "streams": (restarting_streams, 20, ["s"] * 2),
    "sources": (sourcing, MESSAGES, ["messages/s"] * 2),
}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_gives_its_figures(tmp_path: Path, name: str) -> None:
    run, load, units = SCENARIOS[name]
    figures = await run(tmp_path, load)
    assert all(figure.value > 0 for figure in figures)
    assert [figure.unit for figure in figures] == units


COMPARISONS = {
    # what runs, how much of it, the unit, how many figures are ours
    "alone": (alone, 5, "ms", 4),
    "kv": (keys, 20, "calls/s", 3),
    "objects": (objects, 1, "MiB/s", 2),
    "collections": (stores, 2, "calls/s", 12),
}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", COMPARISONS)
async def test_a_comparison_has_figures_of_every_contestant_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("benchmarks.contestants.ROUNDS", 1)
    run, load, unit, ours = COMPARISONS[name]
    figures = await run(tmp_path, load)
    assert all(figure.value > 0 and figure.unit == unit for figure in figures)
    assert len([figure for figure in figures if "synced" in figure.name or "publish, " in figure.name]) == ours


def test_what_is_not_installed_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with nats_servers(tmp_path) as nats, redis_servers(tmp_path) as redis:
        assert nats == redis == {}
    assert capsys.readouterr().err == "nats: not installed, left out\nredis: not installed, left out\n"


def test_a_missed_target_is_said_so() -> None:
    slow = Figure("publish", 10.0, "messages/s", target=100)
    late = Figure("restart", 12.0, "s", target=10, smaller_is_better=True)
    quick = Figure("replay", 200.0, "messages/s", target=100)
    assert [figure.met for figure in (slow, late, quick)] == [False, False, True]
    lines = table([slow, late, quick]).splitlines()
    assert [("MISSED" in line, " met" in line) for line in lines[1:]] == [(True, False), (True, False), (False, True)]
    assert [row["met"] for row in json.loads(as_json([slow, late, quick]))] == [False, False, True]


def test_an_unknown_scenario_is_refused_by_name() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks", "swimming"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert "'swimming'" in answer.stderr
