"""The child process: it runs seeds and property tests, on a core with mutants or with markers in it.

Its order is one JSON object on standard input. It writes its findings to standard output, one JSON object a line, as
soon as they are known, so that the lines of a child that crashes are kept. With `marked` mutations nothing is changed,
and each line lists those that were reached. With `planted` one is in place, and the child ends at the first run or test
that notices.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypedDict

from waymaker_sim.mutation.planting import MARKER, Change, plant
from waymaker_sim.mutation.sites import mark, mutations

MEMORY_BYTES_MAX = 3 << 30
"""Memory, at most; a mutant that needs more is noticed by that."""
Emit = Callable[[dict[str, Any]], None]


class Order(TypedDict):
    """The work of a child. Mutations are named by module and number, limits are CPU seconds."""

    marked: list[tuple[str, int]]
    planted: list[tuple[str, int]]
    seeds: list[tuple[int, float]]
    tests: list[str]
    tests_limit: float


class OutOfTime(BaseException):
    """The CPU time of a run or of the tests is used up. No `except Exception` stops it."""


def main() -> None:
    """Carry out the order."""
    order: Order = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    signal.signal(signal.SIGPROF, _out_of_time)

    def emit(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")

    reached: set[int] = set()
    plant(_changes(order), reached.add)
    if _simulate(order, reached, emit):
        _test(order, reached, emit)


def _changes(order: Order) -> dict[str, Change]:
    numbers: dict[str, list[tuple[int, int]]] = {}
    for index, (module, number) in enumerate(order["marked"] or order["planted"]):
        numbers.setdefault(module, []).append((index, number))
    change = _with_markers if order["marked"] else _with_mutants
    return {module: partial(change, those) for module, those in numbers.items()}


def _with_markers(numbers: list[tuple[int, int]], tree: ast.Module) -> None:
    found = mutations(tree, with_texts=False)
    for index, number in numbers:
        mark(found[number], MARKER, index)


def _with_mutants(numbers: list[tuple[int, int]], tree: ast.Module) -> None:
    found = mutations(tree, with_texts=False)
    for _, number in numbers:
        found[number].apply()


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


@contextmanager
def _limit(cpu_seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` once this process has used so much CPU time."""
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


# ---------------------------------------------------------------- simulation


def _simulate(order: Order, reached: set[int], emit: Emit) -> bool:
    """Run the seeds. Returns False if one noticed, and the rest need not run."""
    for seed, cpu_seconds in order["seeds"]:
        reached.clear()
        begun = time.process_time()
        check, detail, digest = _run_seed(seed, cpu_seconds)
        emit(
            {
                "seed": seed,
                "check": check,
                "detail": detail[:300],
                "digest": digest,
                "cpu": round(time.process_time() - begun, 3),
                "reached": sorted(reached),
            }
        )
        if check and order["planted"]:
            return False
    return True


def _run_seed(seed: int, cpu_seconds: float) -> tuple[str, str, str]:
    """Run one seed: the check, the detail and the digest. An error in the simulator itself counts as noticed."""
    try:
        with _limit(cpu_seconds):
            from waymaker_sim.kernel.digest import Digest
            from waymaker_sim.kernel.tape import Tape
            from waymaker_sim.world.run import run_tape

            report = run_tape(Tape(seed), Digest())
    except OutOfTime:
        return "time limit", f"more than {cpu_seconds:.0f} CPU seconds", ""
    except Exception as error:
        return "raised", f"{type(error).__name__}: {error}", ""
    return report.check, report.detail, report.digest


# ---------------------------------------------------------------- property tests


class _Plugin:
    """Collects pytest's report on each test: its outcome, its CPU time, and the markers that it reached."""

    def __init__(self, reached: set[int], emit: Emit) -> None:
        self._reached = reached
        self._emit = emit
        self._failed = ""

    def pytest_runtest_logstart(self, nodeid: str, location: object) -> None:
        """Note that a test begins."""
        self._reached.clear()
        self._failed = ""
        self._begun = time.process_time()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note that a phase of a test is over."""
        if report.failed and not self._failed:
            lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E ")]
            self._failed = " ".join((lines[0] if lines else report.when).split())[:300]

    def pytest_runtest_logfinish(self, nodeid: str, location: object) -> None:
        """Note that a test is over."""
        cpu = round(time.process_time() - self._begun, 3)
        self._emit({"test": nodeid, "detail": self._failed, "cpu": cpu, "reached": sorted(self._reached)})

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that was read, or could not be."""
        if report.failed:
            self._emit({"test": report.nodeid, "detail": "cannot be collected", "cpu": 0, "reached": []})


def _test(order: Order, reached: set[int], emit: Emit) -> None:
    """Run the tests; with a mutant in place, until one fails."""
    if not order["tests"]:
        return
    import pytest

    stop = ["-x"] if order["planted"] else []
    try:
        with _limit(order["tests_limit"]):
            code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *stop, *order["tests"]],
                               plugins=[_Plugin(reached, emit)])  # fmt: skip
    except OutOfTime:
        emit({"test": "property tests", "detail": "time limit", "cpu": order["tests_limit"], "reached": []})
        return
    emit({"ended": int(code)})


if __name__ == "__main__":
    main()
