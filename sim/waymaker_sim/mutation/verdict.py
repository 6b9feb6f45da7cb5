"""Verdicts: one mutant tried by the runs and tests that reach it, simulation first, then the property tests."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from waymaker_sim.mutation.child import Order
from waymaker_sim.mutation.drawing import Drawn
from waymaker_sim.mutation.equivalent import reason_for
from waymaker_sim.mutation.survey import Seen, Survey, child

SLOWER = 10
"""A run or test this many times slower than on the core as it is has noticed."""
SLACK_SECONDS = 20.0
WALL = 10
"""Seconds that one CPU second may take on a busy machine."""


class VerdictKind(StrEnum):
    """The result of trying a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    NOT_REACHED = "not reached"
    EQUIVALENT = "equivalent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One mutant and its result."""

    drawn: Drawn
    kind: VerdictKind
    by: str = ""
    """The seed or the test that noticed, with its detail; for an equivalent one the reason."""
    runs: int = 0
    differed: int = 0
    """Runs with other steps than on the core as it is, in which no check failed."""
    tests: int = 0
    cpu: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Verdict:
        """Read what `as_json` returned."""
        return Verdict(**{**value, "drawn": Drawn(**value["drawn"]), "kind": VerdictKind(value["kind"])})

    def __str__(self) -> str:
        notes = {
            VerdictKind.KILLED: self.by,
            VerdictKind.SURVIVED: f"{self.runs} runs, {self.differed} of them took other steps; {self.tests} tests",
            VerdictKind.NOT_REACHED: "no seed and no test came to it",
            VerdictKind.EQUIVALENT: self.by,
        }
        return f"{self.kind.upper()} [{self.drawn.operator}] {self.drawn}: {notes[self.kind]}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds for each mutant: runs, and CPU seconds of tests."""

    runs: int
    tests_seconds: float


def try_mutant(index: int, drawn: Drawn, survey: Survey, bounds: Bounds, tests: Path | None) -> Verdict:
    """Plant one mutant in a child and find out if a run or a test notices."""
    reason = reason_for(drawn)
    if reason:
        return Verdict(drawn, VerdictKind.EQUIVALENT, reason)
    seeds, chosen = survey.seeds_for(index, bounds.runs), survey.tests_for(index, bounds.tests_seconds)
    if not seeds and not chosen:
        return Verdict(drawn, VerdictKind.NOT_REACHED)
    tests_cpu = sum(each.cpu for each in chosen)
    order = Order(
        marked=[],
        planted=[(drawn.module, drawn.number)],
        seeds=[(int(each.name), SLACK_SECONDS + SLOWER * each.cpu) for each in seeds],
        tests=[each.name for each in chosen],
        tests_limit=SLACK_SECONDS + SLOWER * tests_cpu,
    )
    usual = sum(each.cpu for each in seeds) + tests_cpu
    lines, died = child(order, WALL * (2 * SLACK_SECONDS + SLOWER * usual), tests)
    return _read(drawn, seeds, lines, died)


def _read(drawn: Drawn, seeds: list[Seen], lines: list[dict[str, Any]], died: str) -> Verdict:
    digests = {each.name: each.digest for each in seeds}
    runs = differed = tests = 0
    cpu = 0.0
    by = ""
    for line in lines:
        cpu += line.get("cpu", 0.0)
        if "seed" in line:
            runs += 1
            if line["check"]:
                by = by or f"seed {line['seed']}: {line['check']}: {line['detail']}"
            elif line["digest"] != digests[str(line["seed"])]:
                differed += 1
        elif "test" in line:
            tests += 1
            if line["detail"]:
                by = by or f"{line['test']}: {line['detail']}"
        elif line["ended"]:
            by = by or f"pytest ended with {line['ended']}"
    by = by or died
    return Verdict(drawn, VerdictKind.KILLED if by else VerdictKind.SURVIVED, by, runs, differed, tests, round(cpu, 1))
