"""`waymaker sim model`: run schedules of the replication model, with every rule or without one.

There are two kinds. Long ones draw thousands of steps with all faults in one run. Small ones take a few dozen steps in a small
scope, where rare orders of steps are frequent. `waymaker sim scope` tries every order of a scope.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import click

from waymaker_sim.cli.command import SeedRange
from waymaker_sim.replication_model.committed_log import Lost
from waymaker_sim.replication_model.rules import RULES
from waymaker_sim.replication_model.schedule import Schedule
from waymaker_sim.replication_model.small_scope import Scope, Walk, describe, search, shorten

STEPS = 3_000
SMALL_STEPS = 60
SEEDS_A_PIECE = 200
EXIT_BROKEN = 6


@dataclass(slots=True)
class Outcome:
    """The result of some schedules: `broken` describes the first violation, and is empty without one."""

    runs: int = 0
    steps: int = 0
    committed: int = 0
    seed: int = -1
    broken: str = ""


def run_schedules(seeds: Iterable[int], steps: int, without: str = "") -> Outcome:
    """Run long schedules one after the other, up to the first that breaks a promise."""
    outcome = Outcome()
    for seed in seeds:
        outcome.runs += 1
        outcome.steps += steps
        try:
            outcome.committed += Schedule(seed, [without] if without else []).run(steps)
        except Lost as lost:
            outcome.seed, outcome.broken = seed, str(lost)
            break
    return outcome


def run_walks(seeds: Iterable[int], steps: int, without: str = "") -> Outcome:
    """Run small schedules one after the other, up to the first that breaks a promise; `broken` names its steps."""
    outcome = Outcome()
    for seed in seeds:
        outcome.runs += 1
        walk = Walk(seed, [without] if without else [])
        try:
            outcome.committed += walk.run(steps)
            outcome.steps += len(walk.steps)
        except Lost as lost:
            shortest = shorten(walk.scope, walk.missing, walk.steps)
            outcome.seed = seed
            outcome.broken = "\n  ".join([str(lost), *map(describe, shortest)])
            break
    return outcome


@click.command("model")
@click.option("--seeds", type=SeedRange(), default="1..1000", show_default=True, help="Schedules to run.")
@click.option("--small", is_flag=True, help="Small scopes with few steps, where rare orders of steps are frequent.")
@click.option("--steps", type=click.IntRange(1), help=f"Steps of each.  [default: {STEPS:,}; small: {SMALL_STEPS}]")
@click.option("--without", type=click.Choice(sorted(RULES)), help="Leave one rule of the protocol out.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes to run schedules in.")
def model(seeds: range, small: bool, steps: int | None, without: str | None, jobs: int) -> None:
    """Run the model of replication: no schedule may lose or change what was committed."""
    begun = time.perf_counter()
    pieces = [seeds[at : at + SEEDS_A_PIECE] for at in range(0, len(seeds), SEEDS_A_PIECE)]
    run, most = (run_walks, SMALL_STEPS) if small else (run_schedules, STEPS)
    work = partial(run, steps=steps or most, without=without or "")
    total = Outcome()
    with ProcessPoolExecutor(jobs) as processes:
        for outcome in processes.map(work, pieces) if jobs > 1 else map(work, pieces):
            total.runs += outcome.runs
            total.steps += outcome.steps
            total.committed += outcome.committed
            if outcome.broken:
                click.echo(f"seed {outcome.seed}: {outcome.broken}")
                raise SystemExit(EXIT_BROKEN)
    seconds = max(time.perf_counter() - begun, 1e-9)
    click.echo(
        f"{total.runs:,} schedules, {total.steps:,} steps ({total.steps / seconds:,.0f} a second),"
        f" {total.committed:,} records committed, nothing lost"
    )


@click.command("scope")
@click.option("--claims", type=click.IntRange(0), default=1, show_default=True, help="Claims of replica 1.")
@click.option("--records", type=click.IntRange(0), default=1, show_default=True, help="Records that clients send.")
@click.option("--stops", type=click.IntRange(0), default=0, show_default=True, help="Stops, with or without a loss.")
@click.option("--tears", type=click.IntRange(0), default=0, show_default=True, help="Torn journals.")
@click.option("--appends", type=click.IntRange(0), default=2, show_default=True, help="Appends that are sent.")
@click.option("--questions", type=click.IntRange(0), default=0, show_default=True, help="Questions of clients.")
@click.option("--without", type=click.Choice(sorted(RULES)), help="Leave one rule of the protocol out.")
@click.option("--states", type=click.IntRange(1), default=1_000_000, show_default=True, help="States to stop behind.")
def scope(
    claims: int, records: int, stops: int, tears: int, appends: int, questions: int, without: str | None, states: int
) -> None:
    """Try every order of the steps of a small scope."""
    bounds = Scope(claims=claims, records=records, stops=stops, tears=tears, appends=appends, questions=questions)
    found = search(bounds, [without] if without else [], states)
    if found.broken:
        click.echo("\n  ".join([found.broken, *map(describe, found.steps)]))
        raise SystemExit(EXIT_BROKEN)
    click.echo(f"{found.states:,} states, {'every one there is' if found.complete else 'and more'}; nothing lost")
