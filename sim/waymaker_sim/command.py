"""`waymaker sim`: run seeds, compare with the naive broker, hunt for as long as there is time.

Exit codes: 0 clean; 2 wrong usage; 3 a safety check was violated; 4 liveness; 5 the node threw; 6 a mutant escaped. The
worst decides.
"""

from __future__ import annotations

import json
import multiprocessing
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import click

from waymaker_sim import cases, marks
from waymaker_sim.checks import CHECKS, CRASH, LIVENESS, SAFETY
from waymaker_sim.compare import converse
from waymaker_sim.digest import Digest, first_difference
from waymaker_sim.mutants import MUTANTS
from waymaker_sim.pair import Disagreement
from waymaker_sim.run import Report, run_seed, run_tape
from waymaker_sim.story.command import story
from waymaker_sim.tape import Tape

EXIT_CODES = {"": 0, SAFETY: 3, LIVENESS: 4, CRASH: 5}
EXIT_ESCAPED = 6
YEAR_SECONDS = 365.25 * 86_400
NS = 1_000_000_000


@click.group()
def sim() -> None:
    """Live through simulated crashes, torn disks and hostile clocks, from a seed."""


sim.add_command(story)


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


@sim.command()
@click.option("--seed", type=int, help="Run one seed and tell what happened.")
@click.option("--seeds", type=SeedRange(), help="Run every seed of a range, both ends included.")
@click.option("--jobs", default=1, show_default=True, help="Processes to run seeds in.")
@click.option("--double", is_flag=True, help="Live every run twice and compare the digests.")
@click.option("--mutant", default="", help="Take one rule out of the core first; see `waymaker sim mutants`.")
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Write every step of the run to a file.")
@click.option(
    "--save", type=click.Path(file_okay=False, path_type=Path), help="Save the tape of each failing run here."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run.")
def run(
    seed: int | None,
    seeds: range | None,
    jobs: int,
    double: bool,
    mutant: str,
    trace: Path | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """Run one seed or a range of them."""
    if (seed is None) == (seeds is None):
        raise click.UsageError("give either --seed N or --seeds A..B")
    if mutant and mutant not in MUTANTS:
        raise click.UsageError(f"there is no mutant {mutant!r}; known are {', '.join(sorted(MUTANTS))}")
    if seed is not None and trace is not None:
        sys.exit(_finish([_traced(seed, mutant, trace)], as_json, save, time.perf_counter()))
    wanted: Iterable[int] = [seed] if seed is not None else seeds or ()
    begun = time.perf_counter()
    reports = _run_all(wanted, jobs, double, mutant)
    sys.exit(_finish(reports, as_json, save, begun))


def _traced(seed: int, mutant: str, trace: Path) -> Report:
    digest = Digest(keep_lines=True)
    report = run_tape(Tape(seed), digest, mutant)
    trace.write_text("\n".join(digest.lines) + "\n")
    return report


def _run_all(seeds: Iterable[int], jobs: int, double: bool, mutant: str) -> Iterator[Report]:
    work = partial(run_seed, double=double, mutant=mutant)
    if jobs <= 1:
        yield from map(work, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(work, seeds, chunksize=1)


def _finish(reports: Iterable[Report], as_json: bool, save: Path | None, begun: float) -> int:
    """Tell of every failing run as it comes, then the sum; the exit code of the worst."""
    total = Report(0)
    count, worst = 0, 0
    for report in reports:
        count += 1
        _add(total, report)
        if as_json:
            click.echo(json.dumps(_plain(report)))
        elif not report.clean():
            click.echo(f"seed {report.seed}: {report.kind()} violated: {report.check}: {report.detail}")
        if not report.clean():
            worst = max(worst, EXIT_CODES[report.kind()])
            if save is not None:
                _save(save, report.seed)
        if count % 20 == 0 and sys.stderr.isatty():
            click.echo(f"\r{count} seeds, {total.virtual_ns / NS:,.0f} virtual seconds", err=True, nl=False)
    _tell_sum(total, count, time.perf_counter() - begun)
    return worst


def _add(total: Report, report: Report) -> None:
    total.virtual_ns += report.virtual_ns
    total.asked += report.asked
    total.confirmed += report.confirmed
    total.syncs += report.syncs
    total.crashes += report.crashes
    for name, times in report.marks.items():
        total.marks[name] = total.marks.get(name, 0) + times


def _tell_sum(total: Report, count: int, seconds: float) -> None:
    virtual = total.virtual_ns / NS
    click.echo(
        f"{count} runs, {virtual:,.0f} virtual seconds in {seconds:,.1f} s ({virtual / max(seconds, 1e-9):,.0f} a second), "
        f"{total.asked:,} calls ({total.asked / max(seconds, 1e-9):,.0f} a second), {total.confirmed:,} messages confirmed, "
        f"{total.syncs:,} syncs, {total.crashes:,} stops",
        err=True,
    )


def _plain(report: Report) -> dict[str, object]:
    return {
        "seed": report.seed,
        "check": report.check,
        "kind": report.kind(),
        "detail": report.detail,
        "virtual_seconds": report.virtual_ns / NS,
        "calls": report.asked,
        "confirmed": report.confirmed,
        "syncs": report.syncs,
        "stops": report.crashes,
        "digest": report.digest,
        "marks": report.marks,
    }


def _save(folder: Path, seed: int) -> None:
    """Live the run once more to have its tape."""
    folder.mkdir(parents=True, exist_ok=True)
    tape = Tape(seed)
    run_tape(tape)
    (folder / f"seed-{seed}.json").write_text(cases.to_text(cases.made(seed, tape.saved())))


@sim.command()
@click.argument("case", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--mutant", default="", help="Take one rule out of the core first.")
def replay(case: Path, mutant: str) -> None:
    """Replay a saved case, twice, and compare."""
    saved = cases.from_text(case.read_text())
    report = saved.run(mutant=mutant)
    again = saved.run(mutant=mutant)
    if report.digest != again.digest:
        report.check, report.detail = "same twice", f"digests {report.digest} and {again.digest}"
    sys.exit(_finish([report], False, None, time.perf_counter()))


@sim.command()
@click.option("--seed", type=int, required=True)
def twice(seed: int) -> None:
    """Live one seed twice and point at the first difference."""
    one, other = Digest(keep_lines=True), Digest(keep_lines=True)
    run_tape(Tape(seed), one)
    run_tape(Tape(seed), other)
    if one.hex() == other.hex():
        click.echo(f"seed {seed}: the same twice, {one.steps} steps, {one.hex()}")
        return
    click.echo(first_difference(one.lines, other.lines))
    sys.exit(EXIT_CODES[SAFETY])


@sim.command()
@click.option("--steps", default=10_000, show_default=True, help="Exchanges with both brokers.")
@click.option("--seed", default=1, show_default=True)
def compare(steps: int, seed: int) -> None:
    """Compare the node with the naive broker, answer by answer."""
    try:
        conversation = converse(seed, steps)
    except Disagreement as error:
        click.echo(str(error))
        sys.exit(EXIT_CODES[SAFETY])
    click.echo(f"{steps} steps, {conversation.pair.compared} answers compared, all the same")


@sim.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long to hunt.")
@click.option("--jobs", default=multiprocessing.cpu_count(), show_default="all cores")
@click.option("--first", type=int, help="First seed; drawn where it is not given.")
@click.option(
    "--save", type=click.Path(file_okay=False, path_type=Path), help="Save the tape of each failing run here."
)
def campaign(minutes: float, jobs: int, first: int | None, save: Path | None) -> None:
    """Run new seeds for so many minutes, each of them twice."""
    start = first if first is not None else secrets.randbelow(1 << 40)
    begun = time.perf_counter()

    def seeds() -> Iterator[int]:
        seed = start
        while time.perf_counter() - begun < minutes * 60:
            yield seed
            seed += 1

    click.echo(f"seeds from {start}", err=True)
    total = Report(0)
    worst = count = 0
    for report in _in_batches(seeds(), jobs):
        count += 1
        _add(total, report)
        if not report.clean():
            worst = max(worst, EXIT_CODES[report.kind()])
            click.echo(f"seed {report.seed}: {report.kind()} violated: {report.check}: {report.detail}")
            if save is not None:
                _save(save, report.seed)
    _tell_sum(total, count, time.perf_counter() - begun)
    click.echo(f"{total.virtual_ns / NS / YEAR_SECONDS:.4f} virtual years; marks:")
    for line in marks.report(total.marks):
        click.echo(line)
    sys.exit(worst)


def _in_batches(seeds: Iterator[int], jobs: int) -> Iterator[Report]:
    """As `_run_all`, but the seeds are drawn only as fast as they are run."""
    work = partial(run_seed, double=True)
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        while batch := [seed for seed, _ in zip(seeds, range(jobs * 8), strict=False)]:
            yield from pool.imap_unordered(work, batch, chunksize=1)


@sim.command()
def checks() -> None:
    """List the checks and the rules they guard."""
    for name, (kind, rule) in CHECKS.items():
        click.echo(f"{name:<24} {kind:<9} {rule}")


@sim.command()
@click.option("--seeds", type=SeedRange(), default="1..300", show_default=True, help="Seeds to try on each, in order.")
@click.option("--only", default="", help="One mutant.")
def mutants(seeds: range, only: str) -> None:
    """Take each rule out of the core in turn; fails where no seed notices."""
    escaped = 0
    for name in [only] if only else sorted(MUTANTS):
        fell = next((report for seed in seeds if not (report := run_seed(seed, mutant=name)).clean()), None)
        if fell is None:
            escaped += 1
            click.echo(f"{name}: ESCAPED {len(seeds)} seeds ({MUTANTS[name].rule})")
        else:
            click.echo(f"{name}: seed {fell.seed}: {fell.check}: {fell.detail[:120]}")
    sys.exit(EXIT_ESCAPED if escaped else 0)
