"""`waymaker sim model`: run schedules of the replication model, with every rule or without one."""

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

STEPS = 3_000
SEEDS_A_PIECE = 200
EXIT_BROKEN = 6


@dataclass(slots=True)
class Outcome:
    """The result of some schedules: `broken` describes the first violation, and is empty without one."""

    runs: int = 0
    committed: int = 0
    seed: int = -1
    broken: str = ""


def run_schedules(seeds: Iterable[int], steps: int, without: str = "") -> Outcome:
    """Run schedules one after the other, up to the first that breaks a promise."""
    outcome = Outcome()
    for seed in seeds:
        outcome.runs += 1
        try:
            outcome.committed += Schedule(seed, [without] if without else []).run(steps)
        except Lost as lost:
            outcome.seed, outcome.broken = seed, str(lost)
            break
    return outcome


@click.command("model")
@click.option("--seeds", type=SeedRange(), default="1..1000", show_default=True, help="Schedules to run.")
@click.option("--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="Steps of each.")
@click.option("--without", type=click.Choice(sorted(RULES)), help="Leave one rule of the protocol out.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes to run schedules in.")
def model(seeds: range, steps: int, without: str | None, jobs: int) -> None:
    """Run the model of replication: no schedule may lose or change what was committed."""
    begun = time.perf_counter()
    pieces = [seeds[at : at + SEEDS_A_PIECE] for at in range(0, len(seeds), SEEDS_A_PIECE)]
    work = partial(run_schedules, steps=steps, without=without or "")
    total = Outcome()
    with ProcessPoolExecutor(jobs) as processes:
        for outcome in processes.map(work, pieces) if jobs > 1 else map(work, pieces):
            total.runs += outcome.runs
            total.committed += outcome.committed
            if outcome.broken:
                click.echo(f"seed {outcome.seed}: {outcome.broken}")
                raise SystemExit(EXIT_BROKEN)
    seconds = max(time.perf_counter() - begun, 1e-9)
    click.echo(
        f"{total.runs:,} schedules, {total.runs * steps:,} steps ({total.runs * steps / seconds:,.0f} a second),"
        f" {total.committed:,} records committed, nothing lost"
    )
