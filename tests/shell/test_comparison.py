"""The comparison of `make bench`: every contestant does all of its work, and what is written is what was measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.comparison import report
from benchmarks.comparison.charts import Panel, svg, ticks
from benchmarks.comparison.ours import Ours
from benchmarks.comparison.report import BEGIN, END, MarksMissing, replaced
from benchmarks.comparison.rounds import Comparison, Entry, TurnFailed, compare, contestants
from benchmarks.comparison.turn import KINDS, MEASURE, PREPARE, TABLE, decoded, encoded, turn
from benchmarks.comparison.works import FULL, GET, ONE, PUT, Load, Measured, cell, cells, drive, percentile, prepare

ROOT = Path(__file__).resolve().parents[2]
TINY = Load(
    0.001, (128,), (128,), 20, 1 << 20, dict.fromkeys(("connections", "streams", "subjects", "consumers"), (1, 3)), 40
)


# ------------------------------------------------------------------------------------ measuring


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Entry]]:
    with contestants(tmp_path_factory.mktemp("comparison")) as found:
        yield {entry.kind: entry for entry in found}


@pytest.mark.process
@pytest.mark.parametrize("kind", KINDS)
async def test_a_contestant_that_is_installed_measures_every_cell(entries: dict[str, Entry], kind: str) -> None:
    if kind not in entries:
        pytest.skip("not installed")
    found = await turn(kind, entries[kind].target, TABLE, TINY)
    assert list(found) == [cell(work, size) for work, size in cells(TINY)]
    for name, measured in found.items():
        assert measured["rate"] > 0
        if name.startswith((ONE, GET, PUT)):
            assert measured["p50_ms"] is not None and measured["p99_ms"] is not None
            assert 0 < measured["p50_ms"] <= measured["p99_ms"]


@pytest.mark.process
@pytest.mark.parametrize("kind", ["ours", "nats", "redis"])
async def test_a_contestant_that_is_installed_measures_every_point(entries: dict[str, Entry], kind: str) -> None:
    if kind not in entries:
        pytest.skip("not installed")
    ready = await turn(kind, entries[kind].target, PREPARE, TINY)
    found = await turn(kind, entries[kind].target, MEASURE, TINY)
    assert list(found) == list(ready) == [f"{curve} {point}" for curve in TINY.curves for point in (1, 3)]
    assert all(measured["rate"] > 0 for measured in found.values())


@pytest.mark.process
def test_a_comparison_has_each_round_of_each_contestant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    said: list[str] = []
    found = compare(tmp_path, Load(0.001, (128,), (), 20, 1 << 20, {"streams": (1,)}, 40), 1, 60.0, said.append)
    assert list(found.table) == ["Waymaker", "Waymaker, bare"] and list(found.curves) == ["Waymaker"]
    assert all(len(rounds) == 1 for cells_ in found.table.values() for rounds in cells_.values())
    assert said == ["preparing Waymaker", "round 1 of 1: Waymaker", "round 1 of 1: Waymaker, bare"]
    assert not list(tmp_path.iterdir()), "nothing is left on disk"


NATS, OURS = Entry("NATS, no sync", "nats", "1"), Entry("Waymaker", "ours", "1")


@pytest.mark.parametrize("entry", [NATS, OURS], ids=["theirs", "ours"])
def test_a_turn_that_fails_is_named_and_the_others_go_on_unless_it_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Entry
) -> None:
    @contextlib.contextmanager
    def found(_: Path) -> Iterator[list[Entry]]:
        yield [entry]

    def fails(entry: Entry, task: str, load: Load) -> dict[str, Measured]:
        raise TurnFailed(f"{entry.name} broke")

    monkeypatch.setattr("benchmarks.comparison.rounds.contestants", found)
    monkeypatch.setattr("benchmarks.comparison.rounds.run_turn", fails)
    said: list[str] = []
    if entry is OURS:
        with pytest.raises(TurnFailed, match="Waymaker broke"):
            compare(tmp_path, SMALL, 2, 60.0, said.append)
        return
    whole = compare(tmp_path, SMALL, 1, 60.0, said.append)
    tasks = [line.split(", ")[2] for line in whole.failed]
    assert tasks == [PREPARE, TABLE, MEASURE] and said.count("NATS, no sync broke") == 3
    assert "Failed: NATS, no sync, prepare, after 0 whole rounds; " in report.section(whole, SMALL, AROUND, "bench")


def test_no_round_begins_for_which_there_is_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    @contextlib.contextmanager
    def found(_: Path) -> Iterator[list[Entry]]:
        yield [Entry("Waymaker, bare", "ours-bare", "1"), Entry("NATS, bare", "nats-bare", "1")]

    def takes_a_while(entry: Entry, task: str, load: Load) -> dict[str, Measured]:
        now[0] += 10.0
        return {cell(ONE, 128): measured(1.0)}

    monkeypatch.setattr("benchmarks.comparison.rounds.contestants", found)
    monkeypatch.setattr("benchmarks.comparison.rounds.run_turn", takes_a_while)
    monkeypatch.setattr("benchmarks.comparison.rounds.clock", lambda: now[0])
    said: list[str] = []
    whole = compare(tmp_path, SMALL, 50, 70.0, said.append)
    assert (whole.rounds, whole.rounds_wanted, whole.took_s) == (3, 50, 60.0), "a fourth would end after 80 s"
    assert all(len(cells_[cell(ONE, 128)]) == 3 for cells_ in whole.table.values())
    names = [line.split(": ")[1] for line in said]
    assert names[:4] == ["Waymaker, bare", "NATS, bare", "NATS, bare", "Waymaker, bare"], (
        "each round begins with another"
    )


async def test_a_task_makes_one_call_at_least_and_none_after_the_time() -> None:
    calls: list[tuple[int, int]] = []

    async def call(number: int, task: int) -> int:
        calls.append((number, task))
        return 5 if number < 3 else 0

    measured = await drive(call, 3, 0.0)
    assert calls == [(0, 0), (1, 1), (2, 2)] and measured["rate"] > 0


async def test_calls_that_find_nothing_are_no_measurement() -> None:
    async def call(number: int, task: int) -> int:
        return 0

    with pytest.raises(RuntimeError, match="not a single call"):
        await drive(call, 2, 0.0)


async def test_a_point_whose_preparation_takes_too_long_is_left_out() -> None:
    class Slow(Ours):
        """Makes streams, each of which takes a while."""

        def __init__(self) -> None:
            self.made: list[str] = []

        async def make_stream(self, stream: str) -> None:
            self.made.append(stream)
            await asyncio.sleep(0.02)

    slow = Slow()
    assert await prepare(slow, "streams", (1, 100_000), 0.05) == [1]
    assert len(slow.made) < 1_000 and slow.made[:2] == ["s0", "s1"], "what one point has is not made again"


def test_a_percentile_is_the_least_duration_that_so_many_do_not_exceed() -> None:
    times = [float(value) for value in range(200, 0, -1)]
    assert (percentile(times, 50), percentile(times, 99), percentile([7.0], 99)) == (100.0, 198.0, 7.0)


def test_a_load_is_the_same_after_its_way_to_the_process() -> None:
    assert decoded(encoded(FULL)) == FULL


# ------------------------------------------------------------------------------------ writing


def measured(rate: float, p50: float | None = None, p99: float | None = None) -> Measured:
    return {"rate": rate, "p50_ms": p50, "p99_ms": p99}


def comparison() -> Comparison:
    """Make a comparison of two contestants, of which one lacks a row."""
    one, get = cell(ONE, 128), cell(GET, 128)
    ours = {
        one: [measured(900, 1.0, 3.0), measured(1_000, 0.9, 2.0), measured(1_200, 0.8, 2.5)],
        get: [measured(3_000, 0.25, 0.5)],
    }
    return Comparison(
        table={"Waymaker": ours, "NATS, no sync": {one: [measured(4_000, 0.125, 0.5)]}},
        curves={
            "Waymaker": {"streams 1": [measured(1e4, 1, 4), measured(3e4, 1, 6)], "streams 100": [measured(2e4, 1, 8)]}
        },
        left_out=["NATS, no sync, 100 streams"],
        rounds=3,
        rounds_wanted=5,
        took_s=90.0,
    )  # fmt: skip


AROUND = {"date": "2026-01-02 03:04 UTC", "machine": "2 cores", "NATS": "2.15.1"}
SMALL = Load(0.01, (128,), (128,), 1, 1, {"streams": (1, 100)}, 1)
SECTION = """\
Measured 2026-01-02 03:04 UTC in 3 of 5 rounds and 1.5 minutes.

- machine: 2 cores
- NATS: 2.15.1

Messages or calls a second: medians of the rounds, and their range. `Waymaker` is the Python client; its server
syncs before it answers. `bare` is the same server's protocol without a client library. The second column is the rate
of the Python client as a multiple of NATS, no sync.

| Work | of NATS, no sync | Waymaker | NATS, no sync |
|---|---|---|---|
| publish, one at a time, 128 B | 0.25 | 1,000 (900 to 1,200) | 4,000 |
| publish, 64 tasks that wait, 128 B | – | – | – |
| publish, pipelined, 128 B | – | – | – |
| fetch 1,000 and ack, 128 B | – | – | – |
| replay, 128 B | – | – | – |
| KV get, one at a time, 128 B | – | 3,000 | – |
| KV put, one at a time, 128 B | – | – | – |

One call at a time, in milliseconds: p50 / p99, medians of the rounds.

| Work | Waymaker | NATS, no sync |
|---|---|---|
| publish, one at a time, 128 B | 0.90 / 2.50 | 0.12 / 0.50 |
| KV get, one at a time, 128 B | 0.25 / 0.50 | – |
| KV put, one at a time, 128 B | – | – |

![Rate and p99 over streams](bench/streams.svg)

Not measured, for the preparation takes too long: NATS, no sync, 100 streams.

The figures of each round: [figures.json](bench/figures.json)."""


def test_a_section_has_medians_ranges_ratios_and_what_is_missing() -> None:
    assert report.section(comparison(), SMALL, AROUND, "bench") == SECTION


PICTURE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 420 340" width="420" height="340" \
font-family="sans-serif" font-size="11" fill="#1f2933">
<rect width="420" height="340" fill="#ffffff"/>
<g transform="translate(0 0)">
<text x="64" y="18" font-size="13" font-weight="bold">Rate</text>
<line x1="64" y1="256.0" x2="408" y2="256.0" stroke="#d9dee4"/>
<text x="58" y="260.0" text-anchor="end">100</text>
<line x1="64" y1="189.2" x2="408" y2="189.2" stroke="#d9dee4"/>
<text x="58" y="193.2" text-anchor="end">200</text>
<line x1="64" y1="100.8" x2="408" y2="100.8" stroke="#d9dee4"/>
<text x="58" y="104.8" text-anchor="end">500</text>
<line x1="64" y1="34.0" x2="408" y2="34.0" stroke="#d9dee4"/>
<text x="58" y="38.0" text-anchor="end">1k</text>
<line x1="64.0" y1="256" x2="64.0" y2="260" stroke="#1f2933"/>
<text x="64.0" y="272" text-anchor="middle">1</text>
<line x1="400.0" y1="256" x2="400.0" y2="260" stroke="#1f2933"/>
<text x="400.0" y="272" text-anchor="middle">1,000</text>
<line x1="64" y1="256" x2="408" y2="256" stroke="#1f2933"/>
<text x="236" y="290" text-anchor="middle">streams</text>
<text transform="translate(14 145) rotate(-90)" text-anchor="middle">messages/s</text>
<polyline points="64.0,34.0 400.0,256.0" fill="none" stroke="#0b6e4f" stroke-width="2"/>
<circle cx="64.0" cy="34.0" r="3" fill="#0b6e4f"/>
<circle cx="400.0" cy="256.0" r="3" fill="#0b6e4f"/>
<polyline points="64.0,145.0" fill="none" stroke="#c1121f" stroke-width="2"/>
<circle cx="64.0" cy="145.0" r="3" fill="#c1121f"/>
</g>
<rect x="64" y="304" width="14" height="4" fill="#0b6e4f"/>
<text x="84" y="310">ours &amp; theirs</text>
<rect x="64" y="320" width="14" height="4" fill="#c1121f"/>
<text x="84" y="326">other</text>
</svg>
"""


def test_a_picture_is_the_same_text_for_the_same_figures() -> None:
    lines = {"ours & theirs": [(1_000.0, 100.0), (1.0, 1_000.0)], "other": [(1.0, 10**2.5)]}
    assert svg([Panel("Rate", "streams", "messages/s", lines)]) == PICTURE


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (100, 1_000, [100, 200, 500, 1_000]),
        (0.3, 0.4, [0.2, 0.5]),
        (3, 70_000, [1, 10, 100, 1_000, 10_000, 100_000]),
        (10, 10, [10, 100]),
    ],
)
def test_ticks_are_round_and_enclose_what_is_drawn(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_a_picture_without_figures_says_so() -> None:
    assert "nothing was measured" in svg([Panel("Rate", "x", "y", {})])


def test_marks_enclose_what_is_replaced_and_the_rest_stays() -> None:
    page = f"# Page\n\nabove\n\n{BEGIN}\nold\nold\n{END}\n\nbelow\n"
    once = replaced(page, "new")
    assert once == f"# Page\n\nabove\n\n{BEGIN}\n\nnew\n\n{END}\n\nbelow\n"
    assert replaced(once, "new") == once


@pytest.mark.parametrize(
    "page", ["no marks", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{END}\n", f"text {BEGIN}\n{END}\n"]
)
def test_a_page_without_its_two_marks_is_refused(page: str) -> None:
    with pytest.raises(MarksMissing, match="needs the line"):
        replaced(page, "new")


def test_the_page_of_the_documentation_has_its_marks() -> None:
    assert replaced((ROOT / "docs" / "performance.md").read_text(), "new")


def test_everything_is_written_beside_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\n{END}\nbelow\n")
    written = report.write(comparison(), SMALL, AROUND, page, tmp_path / "bench")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == [
        "bench/figures.json", "bench/streams.svg", "page.md",
    ]  # fmt: skip
    assert SECTION in page.read_text() and page.read_text().startswith("above\n")
    figures = json.loads((tmp_path / "bench" / "figures.json").read_text())
    assert figures["table"]["Waymaker"][cell(ONE, 128)][1] == measured(1_000, 0.9, 2.0)
    assert figures["circumstances"] == AROUND and figures["rounds"] == 3
    assert ET.parse(tmp_path / "bench" / "streams.svg").getroot().get("width") == "840"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "figures.json", "page.md", "streams.svg",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ the command


def processes_in(folder: Path) -> list[int]:
    """Return the processes whose commands name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if os.fsencode(folder) in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are looked for in /proc")
@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)])
def test_an_interrupted_run_writes_nothing_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals, to_all: bool
) -> None:
    folder, page = tmp_path / "data", tmp_path / "page.md"
    folder.mkdir()
    page.write_text(f"{BEGIN}\nold\n{END}\n")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--folder", str(folder), "--page", str(page)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None
        while "preparing" not in (line := process.stderr.readline()):
            assert line, "it ended by itself"
        time.sleep(0.2)
        assert processes_in(folder)
        if to_all:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted: nothing was written"
    assert page.read_text() == f"{BEGIN}\nold\n{END}\n"
    assert not list(folder.iterdir()) and not processes_in(folder)


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are looked for in /proc")
def test_a_server_that_ended_before_its_time_hides_no_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    def interrupted() -> None:
        with contestants(tmp_path):
            (server,) = processes_in(tmp_path)
            os.kill(server, signal.SIGKILL)
            os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)  # ended, and not asked for yet
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--page", "nowhere.md"), "nowhere.md"),
        (("--page", "README.md"), "needs the line"),
        (("--folder", "nowhere"), "nowhere"),
        (("--minutes", "0"), "above 0"),
    ],
)
def test_wrong_input_is_refused_before_a_server_starts(arguments: tuple[str, ...], named: str) -> None:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 2 and named in answer.stderr
