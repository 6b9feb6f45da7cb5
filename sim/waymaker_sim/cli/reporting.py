"""Reports of runs on the command line: every failure at once, progress on a terminal, and the sum.

Results are written to standard output, progress and sums to standard error. Only this module reads real time; the
simulator has its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from waymaker_sim.kernel.checks import CRASH, LIVENESS, SAFETY
from waymaker_sim.search.shrink import Progress
from waymaker_sim.world.run import Report

EXIT_CODES = {"": 0, SAFETY: 3, LIVENESS: 4, CRASH: 5}
NS = 1_000_000_000


class Tally:
    """Counts runs and prints those that failed. The real time runs from here, so make it before the first of them."""

    def __init__(self, *, as_json: bool = False, save: Callable[[Report], None] | None = None) -> None:
        self.total = Report(0)
        self.count = 0
        self.worst = 0
        """The exit code of the worst run."""
        self._as_json = as_json
        self._save = save
        self._begun = time.perf_counter()

    def seconds(self) -> float:
        """Return the real time so far."""
        return max(time.perf_counter() - self._begun, 1e-9)

    def take(self, reports: Iterable[Report], expected: int | None = None) -> None:
        """Add every report, with a progress bar if standard error is a terminal."""
        with _bar(expected) as moved:
            for report in reports:
                self.add(report)
                moved(f"{self.count / self.seconds():,.1f} seeds/s, {self._virtual():,.0f} virtual seconds", self.count)

    def add(self, report: Report) -> None:
        """Add one run."""
        self.count += 1
        total = self.total
        total.virtual_ns += report.virtual_ns
        total.asked += report.asked
        total.confirmed += report.confirmed
        total.syncs += report.syncs
        total.crashes += report.crashes
        for name, times in report.marks.items():
            total.marks[name] = total.marks.get(name, 0) + times
        if self._as_json:
            click.echo(json.dumps(_plain(report)))
        elif not report.clean():
            click.echo(f"seed {report.seed}: {violation(report)}")
        if not report.clean():
            self.worst = max(self.worst, EXIT_CODES[report.kind()])
            if self._save is not None:
                self._save(report)

    def _virtual(self) -> float:
        return self.total.virtual_ns / NS

    def print_sum(self) -> None:
        """Print the sum of all runs."""
        total, seconds, virtual = self.total, self.seconds(), self._virtual()
        click.echo(
            f"{self.count} runs, {virtual:,.0f} virtual seconds in {seconds:,.1f} s ({virtual / seconds:,.0f} a second), "
            f"{total.asked:,} calls ({total.asked / seconds:,.0f} a second), {total.confirmed:,} messages confirmed, "
            f"{total.syncs:,} syncs, {total.crashes:,} stops",
            err=True,
        )


def violation(report: Report) -> str:
    """Return a failure as one line."""
    return f"{report.kind()} violated: {report.check}: {report.detail}"


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


@contextmanager
def _bar(expected: int | None) -> Iterator[Callable[[str, int], None]]:
    """Show a progress bar on standard error if it is a terminal; yields the function that advances it."""
    if not sys.stderr.isatty():
        yield lambda text, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=expected)
        yield lambda text, done: progress.update(task, description=text, completed=done)


@contextmanager
def shrinking_shown() -> Iterator[Callable[[Progress], None]]:
    """Show the progress of a search: a line that changes on a terminal, a line for each step elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("shrinking") as status:
            yield lambda at: status.update(f"{at.draws} draws after {at.runs} runs: {at.step}")
        return
    last = ""

    def show(at: Progress) -> None:
        nonlocal last
        if at.step != last:
            last = at.step
            click.echo(f"{at.draws} draws after {at.runs} runs: {at.step}", err=True)

    yield show
