"""`waymaker sim raft`: run schedules of the consensus group, with every rule or without one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import click

from waymaker_sim.cli.command import SeedRange
from waymaker_sim.raft.promises import Broken
from waymaker_sim.raft.rules import RULES
from waymaker_sim.raft.schedule import Schedule

STEPS = 600
SEEDS_A_PIECE = 50
EXIT_BROKEN = 6


@dataclass(slots=True)
class Outcome:
    """The result of some schedules: `broken` describes the first broken promise, and is empty without one."""

    runs: int = 0
    steps: int = 0
    committed: int = 0
    reads: int = 0
    seed: int = -1
    promise: str = ""
    broken: str = ""
    leaders: int = 0


def run_schedules(seeds: Iterable[int], steps: int = STEPS, without: str = "") -> Outcome:
    """Run schedules one after the other, up to the first that breaks a promise."""
    outcome = Outcome()
    with RULES[without].planted() if without else nullcontext():
        for seed in seeds:
            outcome.runs += 1
            schedule = Schedule(seed)
            try:
                outcome.committed += schedule.run(steps)
            except Broken as broken:
                outcome.seed, outcome.promise, outcome.broken = seed, broken.promise, str(broken)
            outcome.steps += schedule.steps
            outcome.reads += schedule.watch.reads
            outcome.leaders += len(schedule.watch.leaders)
            if outcome.broken:
                break
    return outcome


@click.command("raft")
@click.option("--seeds", type=SeedRange(), default="1..1000", show_default=True, help="Schedules to run.")
@click.option("--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="Steps of each, with faults.")
@click.option("--without", type=click.Choice(sorted(RULES)), help="Leave one rule of the group out.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes to run schedules in.")
def schedules(seeds: range, steps: int, without: str | None, jobs: int) -> None:
    """Run the consensus group: no schedule may break what Raft promises."""
    begun = time.perf_counter()
    pieces = [seeds[at : at + SEEDS_A_PIECE] for at in range(0, len(seeds), SEEDS_A_PIECE)]
    work = partial(run_schedules, steps=steps, without=without or "")
    total = Outcome()
    with ProcessPoolExecutor(jobs) as processes:
        for outcome in processes.map(work, pieces) if jobs > 1 else map(work, pieces):
            total.runs += outcome.runs
            total.steps += outcome.steps
            total.committed += outcome.committed
            total.reads += outcome.reads
            total.leaders += outcome.leaders
            if outcome.broken:
                click.echo(f"seed {outcome.seed}: {outcome.broken}")
                raise SystemExit(EXIT_BROKEN)
    seconds = max(time.perf_counter() - begun, 1e-9)
    click.echo(
        f"{total.runs:,} schedules, {total.steps:,} steps ({total.steps / seconds:,.0f} a second),"
        f" {total.leaders:,} leaders, {total.committed:,} entries committed, {total.reads:,} reads; no promise broken"
    )
