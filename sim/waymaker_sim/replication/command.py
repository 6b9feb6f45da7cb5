"""`waymaker sim replication`: run schedules of one stream's replicas, with every rule or without one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import click

from waymaker_sim.cli.command import SeedRange
from waymaker_sim.replication.rules import RULES
from waymaker_sim.replication.schedule import Schedule
from waymaker_sim.replication_model.committed_log import Lost

STEPS = 3_000
EXIT_LOST = 6


@dataclass(slots=True)
class Outcome:
    """The result of some schedules: `lost` describes the first broken promise, and is empty without one."""

    runs: int = 0
    steps: int = 0
    committed: int = 0
    answers: int = 0
    seed: int = -1
    lost: str = ""


def run_schedules(seeds: Iterable[int], steps: int = STEPS, without: str = "") -> Outcome:
    """Run schedules one after the other, up to the first that breaks a promise."""
    outcome = Outcome()
    with RULES[without].planted() if without else nullcontext():
        for seed in seeds:
            outcome.runs += 1
            schedule = Schedule(seed)
            try:
                outcome.committed += schedule.run(steps)
            except Lost as lost:
                outcome.seed, outcome.lost = seed, str(lost)
            outcome.steps += schedule.steps
            outcome.answers += schedule.answers
            if outcome.lost:
                break
    return outcome


@click.command("replication")
@click.option("--seeds", type=SeedRange(), default="1..300", show_default=True, help="Schedules to run.")
@click.option("--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="Steps of each, with faults.")
@click.option("--without", type=click.Choice(sorted(RULES)), help="Leave one rule out.")
def schedules(seeds: range, steps: int, without: str | None) -> None:
    """Run the replicas of one stream: no schedule may lose what was committed."""
    begun = time.perf_counter()
    outcome = run_schedules(seeds, steps, without or "")
    if outcome.lost:
        click.echo(f"seed {outcome.seed}: {outcome.lost}")
        raise SystemExit(EXIT_LOST)
    seconds = max(time.perf_counter() - begun, 1e-9)
    click.echo(
        f"{outcome.runs:,} schedules, {outcome.steps:,} steps ({outcome.steps / seconds:,.0f} a second),"
        f" {outcome.committed:,} records committed, {outcome.answers:,} questions answered; nothing was lost"
    )
