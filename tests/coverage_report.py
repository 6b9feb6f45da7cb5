"""How much of the core the tests of its rules come to: `make coverage`, or ``python -m tests.coverage_report``.

Measured are the branches of ``waymaker_core``, each to both sides, under the property tests and a bounded number of
simulated worlds; nothing that starts a server counts. Hypothesis repeats its examples (profile ``ci``) and a seed
is always the same world, so the same code has the same figure. A file's row names the branches never taken, as
``from->to`` in lines. The command fails below ``--least`` per cent of all branches, or where a test or a world fails.
coverage.py's own percentage mixes lines with branches and is therefore not used. A condition inside a line, such as a
comparison within a comprehension, is no branch to it.

Everything it writes is below ``.coverage-core/`` in the checkout, which `make clean` removes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".coverage-core"
PACKAGE = "waymaker_core"
LEAST_PERCENT = 95.0
SEEDS = "1..60"
COVERAGE = [sys.executable, "-m", "coverage"]


class Summary(msgspec.Struct):
    """The counted branches of a file, or of all files."""

    covered_branches: int
    num_branches: int

    def percent(self) -> float:
        """Taken branches out of all; what has no branch misses none."""
        return 100.0 * self.covered_branches / self.num_branches if self.num_branches else 100.0


class File(msgspec.Struct):
    """One file of the package. A branch is a pair of lines; a negative one is the way out of the function there."""

    summary: Summary
    missing_branches: list[tuple[int, int]]


class Measured(msgspec.Struct):
    """What ``coverage json`` says, as far as it is used here."""

    files: dict[str, File]
    totals: Summary


def sources(seeds: str) -> Mapping[str, list[str]]:
    """What is measured, by name: each a program for ``coverage run``."""
    waymaker = str(Path(sys.executable).with_name("waymaker"))
    return {
        "simulation": [waymaker, "sim", "run", "--seeds", seeds],
        "property": ["-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "tests/property"],
    }


def ran(name: str, program: list[str]) -> bool:
    """Run one source under measurement; its data stands in the folder afterwards, whether it passed or not."""
    began = time.perf_counter()
    print(f"measuring {name}: {' '.join(program)}", flush=True)
    environment = {"HYPOTHESIS_PROFILE": "ci", **os.environ}
    command = [*COVERAGE, "run", "--branch", "--parallel-mode", f"--source={PACKAGE}", f"--data-file={FOLDER / name}"]
    passed = subprocess.run([*command, *program], cwd=ROOT, env=environment, check=False).returncode == 0
    print(f"{name} took {time.perf_counter() - began:.0f} s{'' if passed else ' and FAILED'}", flush=True)
    return passed


def measured(*names: str) -> Measured:
    """The branches that any of these sources took."""
    together, result = FOLDER / "-".join(["all", *names]), FOLDER / "report.json"
    parts = [str(part) for name in names for part in sorted(FOLDER.glob(f"{name}.*"))]
    for command in (
        ["combine", "--keep", "--quiet", f"--data-file={together}", *parts],
        ["json", "--quiet", f"--data-file={together}", "-o", str(result)],
    ):
        subprocess.run([*COVERAGE, *command], cwd=ROOT, check=True)
    return msgspec.json.decode(result.read_bytes(), type=Measured)


def told(all_of_it: Measured) -> list[str]:
    """The report: a row for each file, what is missed most standing last, and the sum."""
    rows = [f"{'branches':>10} {'missed':>6} {'%':>6}  file"]
    by_misses = sorted(all_of_it.files.items(), key=lambda item: (len(item[1].missing_branches), item[0]))
    for path, file in by_misses:
        ways = ", ".join(f"{start}->{'exit' if end < 0 else end}" for start, end in sorted(file.missing_branches))
        name = path.rpartition(f"{PACKAGE}/")[2]
        summary = file.summary
        missed = summary.num_branches - summary.covered_branches
        rows.append(f"{summary.num_branches:>10} {missed:>6} {summary.percent():>6.1f}  {name}  {ways}".rstrip())
    totals = all_of_it.totals
    rows.append(
        f"{PACKAGE}: {totals.covered_branches:,} of {totals.num_branches:,} branches, {totals.percent():.2f} per cent"
    )
    return rows


def enough(totals: Summary, least: float) -> bool:
    """Whether so much is covered; nothing measured is not."""
    return totals.num_branches > 0 and totals.percent() >= least


def main(arguments: list[str] | None = None) -> int:
    """Measure, tell, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.coverage_report", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", default=SEEDS, help=f"simulated worlds to measure, both ends included ({SEEDS})")
    parser.add_argument("--least", type=float, default=LEAST_PERCENT, help=f"per cent to reach ({LEAST_PERCENT:g})")
    options = parser.parse_args(arguments)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    names = sources(options.seeds)
    passed = [ran(name, program) for name, program in names.items()]
    alone = {name: measured(name).totals.percent() for name in names}
    together = measured(*names)
    print("\n".join(told(together)))
    print("alone: " + ", ".join(f"{name} {percent:.2f} per cent" for name, percent in alone.items()))
    if not all(passed):
        print("a test or a world failed", file=sys.stderr)
        return 1
    if not enough(together.totals, options.least):
        print(f"below the {options.least:g} per cent of branches that are asked for", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
