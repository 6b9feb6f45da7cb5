"""Rounds of a comparison: the servers, the contestants that are installed, and their turns, within a bound of time.

All contestants have had a turn before one has the next, so that a busy minute hits all. Each round begins with another one.
A round begins only if there is time for one like the longest before. Where another contestant fails its turn is left out, and
the others go on. Nothing is left running or on disk, however it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic as clock
from typing import Any, Final

from benchmarks.comparison.turn import MEASURE, PREPARE, TABLE, encoded
from benchmarks.comparison.works import Load, Measured
from benchmarks.contestants import nats_servers, redis_servers
from tests.kit.real_server import RealServer, ServerFailed, free_port

OURS: Final = "Waymaker"
NATS_NO_SYNC: Final = "NATS, no sync"
BARE: Final = "bare"
UNCOUNTED: Final = {"redis": ("subjects",)}
"""Curves that mean nothing to a kind: a stream of Redis has no subjects."""
SYNCED_FROM_S: Final = 0.1
"""A load with cells of at least this is measured in earnest, and every turn begins with caches that are written."""
TURN_PREPARATIONS: Final = 12
"""A turn takes no longer than this many of a point's preparations, or it hangs: that is many times what a turn takes."""
Say = Callable[[str], None]


class TurnFailed(RuntimeError):
    """The process of a turn failed or hung; carries what it said."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant of the comparison, by the name that tables give it."""

    name: str
    kind: str
    target: str

    @property
    def is_bare(self) -> bool:
        return self.kind.endswith(BARE)


Rounds = dict[str, dict[str, list[Measured]]]
"""By contestant and cell, or contestant and point: the figures of each round."""


@dataclass(slots=True)
class Comparison:
    """Everything that was measured."""

    table: Rounds = field(default_factory=dict)
    curves: Rounds = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Points of curves whose preparation would have taken too long."""
    failed: list[str] = field(default_factory=list)
    """Turns that failed."""
    rounds: int = 0
    rounds_wanted: int = 0
    took_s: float = 0.0


@contextmanager
def contestants(folder: Path) -> Iterator[list[Entry]]:
    """Run the servers of all contestants that are installed, each with its data in the folder."""
    link = free_port()
    server = RealServer(folder / "data", "--link-listen", f"127.0.0.1:{link}")
    server.start()
    try:
        with nats_servers(folder) as nats, redis_servers(folder) as redis:
            target = f"{server.address},{link}"
            entries = [Entry(OURS, "ours", target), Entry(f"{OURS}, {BARE}", "ours-bare", target)]
            for name, kind, ports in (("NATS", "nats", nats), ("Redis", "redis", redis)):
                entries += [Entry(f"{name}, {mode}", kind, str(port)) for mode, port in ports.items()]
                for mode, port in list(ports.items())[:1]:
                    entries.append(Entry(f"{name}, {mode}, {BARE}", f"{kind}-{BARE}", str(port)))
            yield entries
    finally:
        with suppress(ServerFailed):  # Ctrl-C at a terminal has reached the server, too
            server.close()


def compare(folder: Path, load: Load, rounds: int, seconds: float, say: Say) -> Comparison:
    """Measure everything in so many rounds, or in fewer where the time does not suffice. Raises `TurnFailed` of our own."""
    began = clock()
    found = Comparison(rounds_wanted=rounds)
    with (
        tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as place,
        contestants(Path(place).resolve()) as entries,
    ):
        plotted: dict[str, Load] = {}
        for entry in (entry for entry in entries if not entry.is_bare):
            say(f"preparing {entry.name}")
            plotted[entry.name] = _prepared(found, entry, _plotted(entry, load), say)
        longest = 0.0
        for number in range(rounds):
            round_began = clock()
            if number and round_began + longest > began + seconds:
                break
            for turn_ in range(len(entries)):
                entry = entries[(turn_ + number) % len(entries)]
                say(f"round {number + 1} of {rounds}: {entry.name}")
                _add(found.table, entry, _turn(found, entry, TABLE, load, say))
                if entry.name in plotted:
                    _add(found.curves, entry, _turn(found, entry, MEASURE, plotted[entry.name], say))
            found.rounds += 1
            longest = max(longest, clock() - round_began)
    found.took_s = clock() - began
    return found


def _prepared(found: Comparison, entry: Entry, wanted: Load, say: Say) -> Load:
    """Let a contestant prepare its curves; return the load with the points that are ready."""
    ready = _turn(found, entry, PREPARE, wanted, say)
    curves = {
        curve: tuple(point for point in points if f"{curve} {point}" in ready)
        for curve, points in wanted.curves.items()
    }
    for curve, points in wanted.curves.items():
        found.left_out += [f"{entry.name}, {point:,} {curve}" for point in points if point not in curves[curve]]
    return replace(wanted, curves=curves)


def _plotted(entry: Entry, load: Load) -> Load:
    """Return the load with the curves that mean something to a contestant."""
    skipped = UNCOUNTED.get(entry.kind, ())
    return replace(load, curves={curve: points for curve, points in load.curves.items() if curve not in skipped})


def _add(rounds: Rounds, entry: Entry, measured: dict[str, Measured]) -> None:
    cells = rounds.setdefault(entry.name, {})
    for name, figures in measured.items():
        cells.setdefault(name, []).append(figures)


def _turn(found: Comparison, entry: Entry, task: str, load: Load, say: Say) -> dict[str, Measured]:
    """Run a turn; note where it fails, and return nothing. Without our own there is nothing to compare."""
    if load.seconds >= SYNCED_FROM_S:
        os.sync()  # what the last turn left in the system's caches would be written, and waited for, in this one
    try:
        return run_turn(entry, task, load)
    except TurnFailed as error:
        if entry.kind.startswith("ours"):
            raise
        say(str(error))
        found.failed.append(f"{entry.name}, {task}, after {found.rounds} whole rounds")
        return {}


def run_turn(entry: Entry, task: str, load: Load) -> dict[str, Measured]:
    """Run a turn as a process. Raises `TurnFailed`."""
    command = [sys.executable, "-m", "benchmarks.comparison.turn", entry.kind, entry.target, task, encoded(load)]
    limit = TURN_PREPARATIONS * load.prepare_s
    try:
        ran = subprocess.run(command, capture_output=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired as expired:
        raise TurnFailed(f"{entry.name}: {task} was not done within {limit:.0f} s") from expired
    if ran.returncode:
        raise TurnFailed(f"{entry.name}: {task} failed:\n{ran.stderr.decode(errors='replace')[-4_000:]}")
    measured: Any = json.loads(ran.stdout)
    return dict[str, Measured](measured)
