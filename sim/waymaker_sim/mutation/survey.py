"""The survey: the seeds and tests that reach each drawn mutant, on the core as it is, and their CPU times.

It runs once for a draw. Each mutant is then tried by the runs and tests that reach it, and by nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.swarm import plan_of
from waymaker_sim.mutation.child import Order
from waymaker_sim.mutation.drawing import Drawn
from waymaker_sim.search.gate import turns

TURNS_MAX = 4_000
"""Turns of a world, at most: many small worlds find more in the same time."""
SURVEY_SECONDS = 3_600.0
UNMARKED_TESTS = ("test_purity.py",)
"""Tests that read the core's text and not its behaviour."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One clean run on the core as it is: a seed, or a test by its name. `digest` is that of a seed's steps."""

    name: str
    cpu: float
    reached: list[int]
    digest: str = ""


@dataclass(slots=True)
class Survey:
    """The runs and tests that reach each mutant. Mutants are named by their place in the draw."""

    seeds: list[Seen] = field(default_factory=list)
    tests: list[Seen] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Survey:
        """Read what `as_json` returned."""
        return Survey([Seen(**each) for each in value["seeds"]], [Seen(**each) for each in value["tests"]])

    def seeds_for(self, index: int, most: int) -> list[Seen]:
        """Return so many of the seeds that reach a mutant, cheap and expensive ones, the cheapest first."""
        reaching = sorted((each for each in self.seeds if index in each.reached), key=lambda each: each.cpu)
        return [reaching[at * len(reaching) // most] for at in range(most)] if len(reaching) > most else reaching

    def tests_for(self, index: int, cpu_seconds: float) -> list[Seen]:
        """Return tests that reach a mutant, the cheapest first, that together take no longer than this."""
        found: list[Seen] = []
        left = cpu_seconds
        for each in sorted((each for each in self.tests if index in each.reached), key=lambda each: each.cpu):
            left -= each.cpu
            if left < 0 and found:
                break
            found.append(each)
        return found


def small_seeds(seeds: Iterable[int], most: int) -> list[int]:
    """Return the first seeds whose worlds are small."""
    found: list[int] = []
    for seed in seeds:
        if len(found) == most:
            break
        if turns(plan_of(Tape(seed))) <= TURNS_MAX:
            found.append(seed)
    return found


def survey(drawn: Sequence[Drawn], seeds: Sequence[int], tests: Path | None) -> Survey:
    """Run seeds and tests, with markers at the drawn mutants. Raises RuntimeError if a child fails."""
    order = Order(
        marked=[(one.module, one.number) for one in drawn],
        planted=[],
        seeds=[(seed, SURVEY_SECONDS) for seed in seeds],
        tests=test_files(tests),
        tests_limit=SURVEY_SECONDS,
    )
    lines, died = child(order, SURVEY_SECONDS, tests)
    result = Survey()
    for line in lines:
        if "seed" in line and not line["check"]:
            result.seeds.append(Seen(str(line["seed"]), line["cpu"], line["reached"], line["digest"]))
        elif "test" in line and not line["detail"]:
            result.tests.append(Seen(line["test"], line["cpu"], line["reached"]))
    finished = any("ended" in line for line in lines) or not order["tests"]
    if died or not finished:
        raise RuntimeError(f"the survey of the core as it is did not end: {died or 'the tests could not be run'}")
    return result


def test_files(folder: Path | None) -> list[str]:
    """Return the files of tests that check behaviour, in the folder and those inside of it."""
    if folder is None:
        return []
    return [str(path) for path in sorted(folder.rglob("test_*.py")) if path.name not in UNMARKED_TESTS]


def child(order: Order, seconds: float, tests: Path | None) -> tuple[list[dict[str, Any]], str]:
    """Run a child. Returns its lines, and how it failed if it did."""
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "waymaker_sim.mutation.child"]
    folder = tests.resolve().parents[1] if tests is not None else None
    died = ""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        cwd=folder,
    )  # fmt: skip
    try:
        out, err = process.communicate(json.dumps(order), seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        died = f"still running after {seconds:.0f} seconds"
    if process.returncode and not died:
        last = (err.strip().splitlines() or [""])[-1]
        died = f"exit code {process.returncode}: {last[:200]}"
    return [json.loads(line) for line in out.splitlines() if line.endswith("}")], died
