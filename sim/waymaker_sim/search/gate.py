"""The gate: runs worlds with each mutant until a check notices; it fails if no check notices one, which has then
escaped.

A seed counts only if it is clean with the rule in place. The gate prefers what a client can notice (a safety or
liveness check): where the node itself threw or one of its invariants broke, it searches a while longer for such a
check.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from waymaker_sim.compare.conversations import converse
from waymaker_sim.compare.pair import Disagreement
from waymaker_sim.kernel.checks import CRASH
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.swarm import Plan, plan_of
from waymaker_sim.mutants import MUTANTS, planted
from waymaker_sim.mutants.planting import as_drawn
from waymaker_sim.world import world
from waymaker_sim.world.run import Report, run_seed, run_tape

RUNS_MAX = 200
"""Seeds that a mutant runs without notice before it has escaped."""
TURNS_MAX = 8_000
"""Turns of a world, at most."""
OUTSIDE_RUNS = 20
"""After a crash of the node: number of further seeds that are tried for a check that a client can notice."""
STEPS = 1_500
"""Calls of a conversation with naive services."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result for one mutant: the seed and the check that noticed it; all empty if it escaped."""

    mutant: str
    seed: int
    check: str
    detail: str
    outside: bool
    """True if a client could have noticed."""
    inside: str
    """The check of the node's inside that noticed before, if one did."""
    runs: int
    cpu_seconds: float

    def escaped(self) -> bool:
        """Return True if no check noticed."""
        return not self.check

    def expected(self) -> bool:
        """Return True if one of the checks that must notice did."""
        return self.check in MUTANTS[self.mutant].caught_by

    def __str__(self) -> str:
        cost = f"{self.runs} runs, {self.cpu_seconds:.1f} CPU seconds"
        if self.escaped():
            return f"{self.mutant}: ESCAPED {cost} ({MUTANTS[self.mutant].rule})"
        notes = [] if self.expected() else [f"expected: {' or '.join(MUTANTS[self.mutant].caught_by)}"]
        if self.inside:
            notes.append(f"before: {self.inside}" if self.outside else "seen from the inside only")
        noted = f" [{'; '.join(notes)}]" if notes else ""
        return f"{self.mutant}: seed {self.seed}, {cost}{noted}: {self.check}: {self.detail[:120]}"


def clean(seed: int, name: str) -> bool:
    """Return True if the world that a mutant is tried in is clean with every rule in place."""
    if MUTANTS[name].conversation:
        return run_conversation(MUTANTS[name].conversation, seed).clean()
    return _clean(seed, "" if MUTANTS[name].adapt is as_drawn else name)


def run_without(seed: int, name: str) -> Report:
    """Run a seed without a rule: a world, or the conversation that the mutant names."""
    conversation = MUTANTS[name].conversation
    return run_conversation(conversation, seed, name) if conversation else run_seed(seed, mutant=name)


def run_conversation(conversation: str, seed: int, mutant: str = "") -> Report:
    """Hold a conversation, and report where the answers of the node and of the naive services differ."""
    report = Report(seed)
    with planted(mutant):
        try:
            converse(conversation, seed, STEPS)
        except Disagreement as error:
            report.check, report.detail = "answers alike", str(error)
    return report


@cache
def _clean(seed: int, made_for: str) -> bool:
    return run_tape(Tape(seed), made_for=made_for).clean()


@contextmanager
def without_invariants(wanted: bool) -> Iterator[None]:
    """Turn the node's invariants off, so that a run continues until a client notices."""
    if not wanted:
        yield
        return
    original = world.check_node
    world.check_node = lambda process: None
    try:
        yield
    finally:
        world.check_node = original


def turns(plan: Plan) -> int:
    """Return the rough number of turns in a world: small ones cost least and find most."""
    actors = plan.publishers + plan.workers + plan.readers + 1
    return plan.faults_ns // plan.think_ns * actors


def _reaches(seed: int, name: str, *, whatever_size: bool) -> bool:
    """Return True if a seed's world is small, and can reach the rule."""
    plan = plan_of(Tape(seed))
    MUTANTS[name].adapt(plan)
    return (whatever_size or turns(plan) <= TURNS_MAX) and MUTANTS[name].needs(plan)


def find_seed(name: str, seeds: Iterable[int], runs_max: int = RUNS_MAX, known: int | None = None) -> GateResult:
    """Run small worlds that can reach the rule, without it, until a check notices; a `known` seed's whatever its size.

    A mutant that names a conversation has that held instead of worlds.
    """
    begun = time.process_time()
    runs, last = 0, runs_max
    found: tuple[int, str, str, str] | None = None
    for seed in seeds:
        if runs >= last:
            break
        if not MUTANTS[name].conversation and not _reaches(seed, name, whatever_size=seed == known):
            continue
        runs += 1
        with without_invariants(found is not None):
            report = run_without(seed, name)
        if report.clean() or (found is not None and report.kind() == CRASH) or not clean(seed, name):
            continue
        inside = found[1] if found is not None else ""
        found = (seed, report.check, report.detail, inside)
        if report.kind() != CRASH:
            return GateResult(name, *found[:3], True, inside, runs, time.process_time() - begun)
        last = min(runs_max, runs + OUTSIDE_RUNS)
    cpu_seconds = time.process_time() - begun
    if found is None:
        return GateResult(name, 0, "", "", False, "", runs, cpu_seconds)
    return GateResult(name, *found[:3], False, found[1], runs, cpu_seconds)


def summary(results: list[GateResult]) -> str:
    """Return one line about all of them."""
    fell = [result for result in results if not result.escaped()]
    inside = [result.mutant for result in fell if not result.outside]
    escaped = [result.mutant for result in results if result.escaped()]
    return (
        f"{len(results)} mutants: {len(fell)} fell, {len(fell) - len(inside)} of them by what clients can notice; "
        f"from the inside only: {', '.join(inside) or 'none'}; escaped: {', '.join(escaped) or 'none'}; "
        f"{sum(result.runs for result in results)} runs, {sum(result.cpu_seconds for result in results):.0f} CPU seconds"
    )
