"""`waymaker sim`: run seeds, shrink failures, compare with the naive broker, search for as long as there is time.

Exit codes: 0 clean; 2 wrong usage; 3 a safety check was violated; 4 liveness; 5 the node threw; 6 a mutant escaped or
survived. The worst decides. Commands import their modules when they run, for the program's list of all commands reads
this module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from waymaker_sim.world.run import Report
    from waymaker_sim.world.world import World

EXIT_ESCAPED = 6
YEAR_SECONDS = 365.25 * 86_400
ELSEWHERE = {
    "story": "waymaker_sim.timeline.command:timeline",
    "shrink": "waymaker_sim.cli.case_commands:shrink",
    "replay": "waymaker_sim.cli.case_commands:replay",
    "model": "waymaker_sim.replication_model.command:model",
    "scope": "waymaker_sim.replication_model.command:scope",
    "members": "waymaker_sim.members.command:worlds",
    "replication": "waymaker_sim.replication.command:schedules",
    "raft": "waymaker_sim.raft.command:schedules",
    "mutate": "waymaker_sim.mutation.command:mutate",
}
"""Command to the module that defines it, and its name there."""


class _Lazy(click.Group):
    """A group that imports a command when it is used, so that listing it costs another program nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, name = ELSEWHERE[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_Lazy)
def sim() -> None:
    """Run simulated crashes and disk faults from a seed."""


class SeedRange(click.ParamType[range]):
    """`A..B`, both ends included."""

    name = "A..B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        first, dots, last = str(value).partition("..")
        if not dots or not first.isdigit() or not last.isdigit() or int(last) < int(first):
            self.fail(f"{value!r} is not a range of seeds; write it as 1..1000", param, ctx)
        return range(int(first), int(last) + 1)


class Nodes(click.ParamType[str]):
    """`N` or `A..B`."""

    name = "N|A..B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from waymaker_sim.search.makers import NoNumber, nodes_of, text_of

        try:
            return text_of(nodes_of(str(value))) if value else ""
        except NoNumber as error:
            self.fail(str(error), param, ctx)


@sim.command()
@click.option("--seed", type=int, help="Run one seed and print its result.")
@click.option("--seeds", type=SeedRange(), help="Run every seed of a range, both ends included.")
@click.option("--jobs", default=1, show_default=True, help="Processes to run seeds in.")
@click.option("--double", is_flag=True, help="Run every seed twice and compare the digests.")
@click.option("--mutant", default="", help="Remove one rule from the core first; see `waymaker sim mutants`.")
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Write every step of the run to a file.")
@click.option(
    "--save", type=click.Path(file_okay=False, path_type=Path), help="Save the tape of each failing run here."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run.")
@click.option(
    "--nodes", type=Nodes(), default="", help="Run a cluster of so many members, or of a number drawn from a range."
)
def run(
    seed: int | None,
    seeds: range | None,
    jobs: int,
    double: bool,
    mutant: str,
    trace: Path | None,
    save: Path | None,
    as_json: bool,
    nodes: str,
) -> None:
    """Run one seed or a range of them."""
    from waymaker_sim.cli.case_commands import known_mutant
    from waymaker_sim.cli.reporting import Tally
    from waymaker_sim.search.makers import maker

    if (seed is None) == (seeds is None):
        raise click.UsageError("give either --seed N or --seeds A..B")
    known_mutant(mutant)
    make = maker(nodes)
    tally = Tally(as_json=as_json, save=_saver(save, mutant, nodes))
    if seed is not None and trace is not None:
        tally.add(_traced(seed, mutant, trace, make))
    else:
        wanted = range(seed, seed + 1) if seed is not None else seeds or range(0)
        tally.take(_run_all(wanted, jobs, double, mutant, make), len(wanted))
    tally.print_sum()
    sys.exit(tally.worst)


def _saver(folder: Path | None, mutant: str = "", nodes: str = "") -> Callable[[Report], None] | None:
    from waymaker_sim.cli.case_commands import save_into

    return None if folder is None else lambda report: save_into(folder, report, mutant, nodes)


def _traced(seed: int, mutant: str, trace: Path, make: Callable[..., World]) -> Report:
    from waymaker_sim.kernel.digest import Digest
    from waymaker_sim.kernel.tape import Tape
    from waymaker_sim.world.run import run_tape

    digest = Digest(keep_lines=True)
    report = run_tape(Tape(seed), digest, mutant, make=make)
    trace.write_text("\n".join(digest.lines) + "\n")
    return report


def _run_all(
    seeds: Iterable[int], jobs: int, double: bool, mutant: str, make: Callable[..., World]
) -> Iterator[Report]:
    import multiprocessing

    from waymaker_sim.world.run import run_seed

    work = partial(run_seed, double=double, mutant=mutant, make=make)
    if jobs <= 1:
        yield from map(work, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(work, seeds, chunksize=1)


@sim.command()
@click.option("--seed", type=int, required=True)
def twice(seed: int) -> None:
    """Run one seed twice and show the first difference."""
    from waymaker_sim.cli.reporting import EXIT_CODES
    from waymaker_sim.kernel.checks import SAFETY
    from waymaker_sim.kernel.digest import Digest, first_difference
    from waymaker_sim.kernel.tape import Tape
    from waymaker_sim.world.run import run_tape

    one, other = Digest(keep_lines=True), Digest(keep_lines=True)
    run_tape(Tape(seed), one)
    run_tape(Tape(seed), other)
    if one.hex() == other.hex():
        click.echo(f"seed {seed}: the same twice, {one.steps} steps, {one.hex()}")
        return
    click.echo(first_difference(one.lines, other.lines))
    sys.exit(EXIT_CODES[SAFETY])


@sim.command()
@click.option("--steps", default=10_000, show_default=True, help="Calls to both brokers.")
@click.option("--seed", default=1, show_default=True)
def compare(steps: int, seed: int) -> None:
    """Compare the node with the naive broker, and its services with naive ones, answer by answer.

    The services are buckets of keys, watches, hashes, sets, queues, objects and sketches.
    """
    from waymaker_sim.cli.reporting import EXIT_CODES
    from waymaker_sim.compare.compare import compare_brokers
    from waymaker_sim.compare.conversations import CONVERSATIONS, converse
    from waymaker_sim.compare.pair import Disagreement
    from waymaker_sim.kernel.checks import SAFETY

    try:
        brokers = compare_brokers(seed, steps)
        services = {name: converse(name, seed, steps).compared for name in CONVERSATIONS}
    except Disagreement as error:
        click.echo(str(error))
        sys.exit(EXIT_CODES[SAFETY])
    found = ", ".join(f"{compared} of {name}" for name, compared in services.items())
    click.echo(f"{steps} steps each, {brokers.pair.compared} answers compared, {found}, all the same")


@sim.command()
@click.option("--minutes", default=10.0, show_default=True, help="Minutes to search.")
@click.option("--jobs", default=lambda: os.cpu_count() or 1, show_default="all cores")
@click.option("--first", type=int, help="First seed; drawn if it is not given.")
@click.option(
    "--save", type=click.Path(file_okay=False, path_type=Path), help="Save the tape of each failing run here."
)
def campaign(minutes: float, jobs: int, first: int | None, save: Path | None) -> None:
    """Run new seeds for so many minutes, each of them twice."""
    import secrets
    import time

    from waymaker_sim.cli.reporting import NS, Tally
    from waymaker_sim.kernel import coverage_marks as marks

    start = first if first is not None else secrets.randbelow(1 << 40)
    begun = time.perf_counter()

    def seeds() -> Iterator[int]:
        seed = start
        while time.perf_counter() - begun < minutes * 60:
            yield seed
            seed += 1

    click.echo(f"seeds from {start}", err=True)
    tally = Tally(save=_saver(save))
    tally.take(_in_batches(seeds(), jobs))
    tally.print_sum()
    total = tally.total
    click.echo(f"{total.virtual_ns / NS / YEAR_SECONDS:.4f} virtual years; marks:")
    for line in marks.report(total.marks):
        click.echo(line)
    sys.exit(tally.worst)


def _in_batches(seeds: Iterator[int], jobs: int) -> Iterator[Report]:
    """Run like `_run_all`, but draw the seeds only as fast as they are run."""
    import multiprocessing

    from waymaker_sim.world.run import run_seed

    work = partial(run_seed, double=True)
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        while batch := [seed for seed, _ in zip(seeds, range(jobs * 8), strict=False)]:
            yield from pool.imap_unordered(work, batch, chunksize=1)


@sim.command()
def checks() -> None:
    """List the checks and the rules they guard."""
    from waymaker_sim.kernel.checks import CHECKS

    for name, (kind, rule) in CHECKS.items():
        click.echo(f"{name:<24} {kind:<9} {rule}")


@sim.command()
@click.option("--seeds", type=SeedRange(), default="1..20000", show_default=True, help="Seeds to try, in order.")
@click.option("--runs", default=200, show_default=True, help="Runs that a mutant may survive.")
@click.option("--only", default="", help="One mutant.")
@click.option("--jobs", default=1, show_default=True, help="Processes to run mutants in.")
@click.option(
    "--known", type=click.Path(dir_okay=False, path_type=Path), help="File of seeds to try first; it is written anew."
)
def mutants(seeds: range, runs: int, only: str, jobs: int, known: Path | None) -> None:
    """Remove each rule of the core in turn; fails where no seed notices."""
    import multiprocessing

    from waymaker_sim.mutants import MUTANTS
    from waymaker_sim.search import gate
    from waymaker_sim.search.seeds import find_seed_from, load_seeds, save_seeds

    if only and only not in MUTANTS:
        raise click.UsageError(f"there is no mutant {only!r}; known are {', '.join(sorted(MUTANTS))}")
    results: list[gate.GateResult] = []
    find_seed = partial(
        find_seed_from, known=load_seeds(known) if known is not None else {}, seeds=seeds, runs_max=runs
    )
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for result in pool.imap(find_seed, [only] if only else MUTANTS, chunksize=1):
            results.append(result)
            click.echo(str(result))
    if known is not None:
        save_seeds(known, results, MUTANTS)
    click.echo(gate.summary(results))
    escaped = any(result.escaped() for result in results)
    sys.exit(EXIT_ESCAPED if escaped else 0)
