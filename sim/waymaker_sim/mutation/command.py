"""`waymaker sim mutate`: draw random mutants of the core and list those that no check and no test notices."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from waymaker_sim.mutation import report as reports
from waymaker_sim.mutation.drawing import Drawn, code_digest, draw, modules
from waymaker_sim.mutation.survey import Survey, small_seeds, survey
from waymaker_sim.mutation.verdict import Bounds, Verdict, VerdictKind, try_mutant

EXIT_SURVIVED = 6
TESTS = Path("tests/property")


@click.command()
@click.option("--count", default=30, show_default=True, help="Number of mutants to draw.")
@click.option("--seed", default=1, show_default=True, help="Seed of the draw.")
@click.option("--only", default="", metavar="MODULE", help="Draw from one module, such as stream.admission.")
@click.option("--runs", default=8, show_default=True, help="Simulated runs that a mutant must survive.")
@click.option("--worlds", default=60, show_default=True, help="Small worlds that the runs are chosen from.")
@click.option("--first", default=1, show_default=True, help="The seed of the first of these worlds.")
@click.option("--tests-seconds", default=60.0, show_default=True, help="CPU seconds of property tests for each mutant.")
@click.option(
    "--tests", type=click.Path(file_okay=False, path_type=Path), default=TESTS, show_default=True,
    help="Folder of the property tests; without it, simulation alone tries the mutants.",
)  # fmt: skip
@click.option("--jobs", default=1, show_default=True, help="Mutants to try at a time.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path),
    help="Write verdicts to this file as JSON, and continue from those that it holds.",
)  # fmt: skip
@click.option("--list", "list_only", is_flag=True, help="Print the drawn mutants, and stop.")
def mutate(
    count: int,
    seed: int,
    only: str,
    runs: int,
    worlds: int,
    first: int,
    tests_seconds: float,
    tests: Path,
    jobs: int,
    report: Path | None,
    list_only: bool,
) -> None:
    """Draw random mutants of the core; exits with 6 where one survives."""
    drawn = draw(seed, count, only)
    if not drawn:
        raise click.UsageError(f"no module of the core is called {only!r}; known are {', '.join(modules())}")
    if list_only:
        for one in drawn:
            click.echo(f"[{one.operator}] {one}")
        return
    folder = tests if tests.is_dir() else None
    if folder is None:
        click.echo(f"{tests} is not here: simulation alone judges", err=True)
    about: dict[str, str | int] = {
        "code": code_digest(*[folder] if folder is not None else []),
        "seed": seed, "count": count, "only": only, "worlds": worlds, "first": first,
    }  # fmt: skip
    try:
        found = reports.read(report, about) if report is not None else reports.Report(about)
    except reports.ReportRefused as refused:
        raise click.UsageError(str(refused)) from refused
    if found.survey is None:
        click.echo(f"looking what {worlds} worlds and the tests come to", err=True)
        found.survey = survey(drawn, small_seeds(range(first, first + 100 * worlds), worlds), folder)
        _keep(found, report)
    verdicts = _try_all(drawn, found, found.survey, Bounds(runs, tests_seconds), folder, jobs, report)
    click.echo(reports.summary(verdicts))
    sys.exit(EXIT_SURVIVED if any(verdict.kind is VerdictKind.SURVIVED for verdict in verdicts) else 0)


def _keep(found: reports.Report, path: Path | None) -> None:
    if path is not None:
        found.write(path)


def _try_all(
    drawn: list[Drawn], found: reports.Report, seen: Survey, bounds: Bounds, tests: Path | None, jobs: int,
    path: Path | None,
) -> list[Verdict]:  # fmt: skip
    """Try the mutants without a verdict, and print all verdicts in the order of the draw."""

    def verdict(index: int) -> Verdict:
        known = found.verdicts.get(drawn[index].key())
        return known if known is not None else try_mutant(index, drawn[index], seen, bounds, tests)

    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(jobs) as pool:
        for each in pool.map(verdict, range(len(drawn))):
            verdicts.append(each)
            click.echo(str(each))
            if each.drawn.key() not in found.verdicts:
                found.verdicts[each.drawn.key()] = each
                _keep(found, path)
    return verdicts
