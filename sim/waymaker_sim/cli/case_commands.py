"""`waymaker sim replay` and `waymaker sim shrink`: replay saved cases, and shrink a failing run."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from waymaker_sim.cli.command import Nodes
from waymaker_sim.cli.reporting import EXIT_CODES, Tally, shrinking_shown, violation
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.mutants import MUTANTS
from waymaker_sim.search.cases import Case, CaseRefused, code_digest, from_text, made, to_text
from waymaker_sim.search.makers import maker
from waymaker_sim.search.minimize import RUNS_MAX, minimize
from waymaker_sim.search.shrink import flat
from waymaker_sim.world.run import Report, run_tape

CASE_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def known_mutant(name: str) -> str:
    """Return the name if it is a mutant's or empty; else fail."""
    if name and name not in MUTANTS:
        raise click.UsageError(f"there is no mutant {name!r}; known are {', '.join(sorted(MUTANTS))}")
    return name


def opened(path: Path) -> Case:
    """Read the case in a file."""
    try:
        return from_text(path.read_text())
    except (CaseRefused, UnicodeDecodeError) as refused:
        raise click.UsageError(f"{path}: {refused}") from refused


def save_into(folder: Path, report: Report, mutant: str, nodes: str = "") -> None:
    """Run a failing seed once more and save its tape."""
    folder.mkdir(parents=True, exist_ok=True)
    tape = Tape(report.seed)
    run_tape(tape, mutant=mutant, make=maker(nodes))
    case = made(report.seed, tape.saved(), mutant, nodes=nodes)
    case.check, case.detail = report.check, report.detail
    name = "-".join(("seed", str(report.seed), *filter(None, (mutant, nodes and f"nodes-{nodes}"))))
    (folder / f"{name}.json").write_text(to_text(case))


@click.command()
@click.argument("case", type=CASE_FILE)
@click.option("--mutant", help="Remove another rule from the core than the case says; '' for none.")
def replay(case: Path, mutant: str | None) -> None:
    """Replay a saved case, twice, and compare it with its saved result."""
    saved = opened(case)
    tally = Tally()
    wanted = saved.mutant if mutant is None else known_mutant(mutant)
    report, again = saved.run(mutant=wanted), saved.run(mutant=wanted)
    same_code, same_steps = saved.code == code_digest(), saved.digest == report.digest
    if report.digest != again.digest:
        report.check, report.detail = "same twice", f"digests {report.digest} and {again.digest}"
    elif same_code and not same_steps and wanted == saved.mutant:
        report.check, report.detail = "same twice", f"digest {report.digest}, {saved.digest} when it was saved"
    tally.add(report)
    before = f"{saved.check!r} violated" if saved.check else "clean"
    click.echo(f"{'clean' if report.clean() else f'{report.check!r} violated'}; when it was saved: {before}")
    code = "the same code" if same_code else "other code than it was saved with"
    click.echo(f"{'the same steps, byte for byte' if same_steps else 'other steps'}, with {code}; {report.digest}")
    tally.print_sum()
    sys.exit(tally.worst)


@click.command()
@click.argument("case", required=False, type=CASE_FILE)
@click.option("--seed", type=int, help="The run of this seed, if no saved case is given.")
@click.option("--nodes", type=Nodes(), default="", help="The seed is one of a cluster of so many members.")
@click.option("--mutant", default="", help="Remove one rule from the core first; a case names its own.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Save the result here, not print it.")
@click.option("--budget", default=60.0, show_default=True, help="Seconds of CPU time to spend.")
@click.option("--runs", default=RUNS_MAX, show_default=True, help="Runs to spend.")
@click.option("--about", default="", help="The reason to keep the case, in words.")
def shrink(
    case: Path | None,
    seed: int | None,
    nodes: str,
    mutant: str,
    save: Path | None,
    budget: float,
    runs: int,
    about: str,
) -> None:
    """Find the smallest run that fails like a seed or a saved case: without needless faults, actors, operations.

    The same run shrinks to the same result, unless the budget ends the search.
    """
    if (case is None) == (seed is None):
        raise click.UsageError("give either a saved case or --seed N")
    if case is not None and nodes:
        raise click.UsageError("a saved case names its own number of nodes")
    start = opened(case) if case is not None else Case({}, seed or 0, nodes=nodes)
    start.mutant = known_mutant(mutant) or start.mutant
    make = maker(start.nodes)
    tape = Tape(start.seed, start.tracks) if case is not None else Tape(start.seed)
    found = run_tape(tape, mutant=start.mutant, make=make)
    if found.clean():
        click.echo(f"seed {start.seed}: clean, nothing to shrink")
        return
    tracks = tape.saved()
    click.echo(f"{violation(found)}\nfrom {len(flat(tracks))} draws, {found.asked} calls", err=True)
    begun = time.process_time()
    with shrinking_shown() as on_progress:
        result = minimize(
            tracks, start.mutant, make=make, on_progress=on_progress,
            may_go_on=lambda made: made < runs and time.process_time() - begun < budget,
        )  # fmt: skip
    end = "" if result.finished else "; the budget was spent, more may go"
    click.echo(
        f"to {result.figures()}, in {result.runs} runs and {time.process_time() - begun:.1f} s of CPU time{end}",
        err=True,
    )
    text = to_text(made(start.seed, result.tracks, start.mutant, about or start.about, start.nodes))
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(text)
        click.echo(violation(result.report))
    else:
        click.echo(text, nl=False)
    sys.exit(EXIT_CODES[result.report.kind()])
