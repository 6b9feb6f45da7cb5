"""`waymaker sim story`: run a world once more and print its timeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from waymaker_sim.cli.command import Nodes
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.mutants import MUTANTS
from waymaker_sim.search.cases import CaseRefused, from_text
from waymaker_sim.search.makers import maker
from waymaker_sim.timeline.page import page
from waymaker_sim.timeline.selection import select
from waymaker_sim.timeline.text import extent_of, lines_of
from waymaker_sim.timeline.timeline import Timeline, record_run
from waymaker_sim.world.world import World

EVENTS_MAX = 1_500
"""Rows of a page, at most; a longer one is slow to scroll."""


@click.command("story")
@click.argument("case", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", type=int, help="The run of this seed, if no saved case is given.")
@click.option("--nodes", type=Nodes(), default="", help="The seed is one of a cluster of so many members.")
@click.option("--mutant", default="", help="Remove one rule from the core first; see `waymaker sim mutants`.")
@click.option(
    "--about", default="", help="Show this, written as in `s0/c1 seq 5`, instead of the subjects of the violation."
)
@click.option("--all", "everything", is_flag=True, help="Show every event.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one page with a diagram to a file."
)
@click.option(
    "--events",
    type=click.IntRange(min=0),
    default=EVENTS_MAX,
    show_default=True,
    help="Number of last events on a page; 0: all.",
)
def timeline(
    case: Path | None,
    seed: int | None,
    nodes: str,
    mutant: str,
    about: str,
    everything: bool,
    html: Path | None,
    events: int,
) -> None:
    """Print the timeline of a run: its violation, and the faults around it."""
    if (case is None) == (seed is None):
        raise click.UsageError("give either a saved case or --seed N")
    if case is not None and nodes:
        raise click.UsageError("a saved case names its own number of nodes")
    if mutant and mutant not in MUTANTS:
        raise click.UsageError(f"there is no mutant {mutant!r}; known are {', '.join(sorted(MUTANTS))}")
    found = _recorded(case, seed, mutant, about, maker(nodes))
    selected = found.moments if everything else select(found)
    if html is not None:
        shown = selected[-events:]
        html.write_text(page(found, shown, len(selected) - len(shown)), encoding="utf-8")
        click.echo(f"{html}: {extent_of(found, shown, len(selected) - len(shown))}")
        return
    for line in lines_of(found, selected):
        click.echo(line)


def _recorded(path: Path | None, seed: int | None, mutant: str, about: str, make: Callable[..., World]) -> Timeline:
    if path is None:
        return record_run(Tape(seed or 0), mutant, about, make)
    try:
        case = from_text(path.read_text())
    except CaseRefused as error:
        raise click.UsageError(f"{path}: {error}") from error
    return record_run(Tape(case.seed, case.tracks), mutant or case.mutant, about, maker(case.nodes))
