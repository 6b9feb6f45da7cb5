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


@pytest.mark.slow
@pytest.mark.process
async def test_every_scenario_gives_its_figures(tmp_path: Path) -> None:
    figures: list[Figure] = []
    for number, scenario in enumerate((publishing, replaying, restarting)):
        folder = tmp_path / str(number)
        folder.mkdir()
        figures += await scenario(folder, MESSAGES)
    single = tmp_path / "single"
    single.mkdir()
    figures += await one_at_a_time(single, calls=20)
    by_client = tmp_path / "alone"
    by_client.mkdir()
    alone_figures = await alone(by_client, calls=20)
    assert [figure.unit for figure in alone_figures] == ["ms"] * len(alone_figures)
    assert len(alone_figures) >= 6
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    key_figures = await keys(bucket, calls=100)
    assert [figure.unit for figure in key_figures] == ["calls/s"] * len(key_figures)
    assert len(key_figures) >= 3 and all(figure.value > 0 for figure in key_figures)
    cold = tmp_path / "cold"
    cold.mkdir()
    figures += await scanning(cold, 200)
    many = tmp_path / "many"
    many.mkdir()
    figures += await restarting_streams(many, 20)
    copying = tmp_path / "copying"
    copying.mkdir()
    figures += await sourcing(copying, MESSAGES)
    assert all(figure.value > 0 for figure in figures)
    units = [figure.unit for figure in figures]
    assert units == ["messages/s", "messages/s", "s", "MiB", *["ms"] * 8, "s", "s", *["messages/s"] * 2]


@pytest.mark.slow
@pytest.mark.process
async def test_comparisons_have_figures_of_every_contestant_that_is_installed(tmp_path: Path) -> None:
    for name, scenario in (("objects", objects), ("stores", stores)):
        folder = tmp_path / name
        folder.mkdir()
        figures = await scenario(folder, 2)
        assert all(figure.value > 0 for figure in figures)
        assert len([figure for figure in figures if figure.name.endswith("synced")]) == (2 if name == "objects" else 12)


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
