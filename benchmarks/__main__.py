"""The command: the comparison that is written into the documentation, or scenarios by name, with their loads.

Ctrl-C and SIGTERM end the servers, remove their data and write nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

# The road that the pipeline is measured and documented with; must stand before gRPC is first imported.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from benchmarks.alone import alone
from benchmarks.cluster import cluster
from benchmarks.comparison.machine import circumstances
from benchmarks.comparison.report import MarksMissing, replaced, section, write
from benchmarks.comparison.rounds import TurnFailed, compare
from benchmarks.comparison.works import FULL, LARGE_PREPARE_S, LARGE_STREAMS, QUICK, Load
from benchmarks.contestants import ROUNDS
from benchmarks.figures import Figure, as_json, table
from benchmarks.keys import keys
from benchmarks.many_streams import restarting_streams
from benchmarks.objects import objects
from benchmarks.scanning import scanning
from benchmarks.scenarios import one_at_a_time, publishing, replaying, restarting
from benchmarks.sourcing import sourcing
from benchmarks.stores import stores

Scenario = Callable[[Path, int], Coroutine[None, None, list[Figure]]]

SCENARIOS: dict[str, tuple[Scenario, int, int]] = {
    # name: what runs, how much of it, how much of it with --quick
    "publish": (publishing, 1_000_000, 50_000),
    "single": (one_at_a_time, 2_000, 200),
    "alone": (alone, 1_000, 50),
    "kv": (keys, 20_000, 500),
    "replay": (replaying, 1_000_000, 50_000),
    "restart": (restarting, 10_000_000, 100_000),
    "streams": (restarting_streams, 10_000, 500),
    "sources": (sourcing, 1_000_000, 50_000),
    "scan": (scanning, 100_000, 5_000),
    "objects": (objects, 64, 4),
    "collections": (stores, 1_000, 50),
    "cluster": (cluster, 50_000, 2_000),
}


ALL = "all"
DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "performance.md"
PICTURES = "bench"
MINUTES = 15.0
INTERRUPTED = 130


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.scenarios:
            return _run_scenarios(options)
        return _run_comparison(options)
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return INTERRUPTED


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the real server. Without a SCENARIO: beside NATS and Redis, in turn, written into a page.",
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}; {ALL}: all of them")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny load: whether it runs, not how fast; nothing is written"
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="where data goes and the disk is; default: here")
    scenarios = parser.add_argument_group("scenarios")
    scenarios.add_argument("--json", action="store_true", help="print the figures as JSON")
    scenarios.add_argument("--strict", action="store_true", help="exit with 1 where a target is missed")
    comparison = parser.add_argument_group("the comparison")
    comparison.add_argument(
        "--rounds", type=int, default=0, help=f"turns of each contestant; default: {ROUNDS}, --quick 1"
    )
    comparison.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"no more rounds than fit in; default: {MINUTES:g}"
    )
    comparison.add_argument(
        "--large", action="store_true", help=f"a point for {LARGE_STREAMS:,} streams, which takes minutes"
    )
    comparison.add_argument(
        "--page", type=Path, default=None,
        help="the page whose section is written, pictures and figures beside it; default: docs/performance.md, --quick none",
    )  # fmt: skip
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in SCENARIOS and name != ALL]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}, {ALL}")
    if options.rounds < 0 or options.minutes <= 0:
        parser.error("--rounds and --minutes are above 0")
    if not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder}")
    options.page = options.page or (None if options.quick else PAGE)
    if options.page is not None:
        try:
            replaced(options.page.read_text(), "")
        except (OSError, MarksMissing) as error:
            parser.error(f"--page {options.page}: {error}")
    return options


def _run_scenarios(options: argparse.Namespace) -> int:
    figures: list[Figure] = []
    for name in SCENARIOS if ALL in options.scenarios else options.scenarios:
        run, full, quick = SCENARIOS[name]
        print(f"{name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as folder:
            figures += asyncio.run(run(Path(folder).resolve(), quick if options.quick else full))
    print(as_json(figures) if options.json else table(figures))
    return 1 if options.strict and not all(figure.met for figure in figures) else 0


def _run_comparison(options: argparse.Namespace) -> int:
    load = _load(options)
    around = circumstances(options.folder)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

    rounds = options.rounds or (1 if options.quick else ROUNDS)
    try:
        found = compare(options.folder, load, rounds, options.minutes * 60, say)
    except TurnFailed as error:
        print(f"{error}\nnothing was written", file=sys.stderr)
        return 1
    if options.page is None:
        print(section(found, load, around, PICTURES))
    else:
        for path in write(found, load, around, options.page, options.page.parent / PICTURES):
            print(f"written: {path}")
    return 1 if found.failed else 0


def _load(options: argparse.Namespace) -> Load:
    load = QUICK if options.quick else FULL
    if options.large:
        curves = {**load.curves, "streams": (*load.curves["streams"], LARGE_STREAMS)}
        load = replace(load, curves=curves, prepare_s=LARGE_PREPARE_S)
    return load


if __name__ == "__main__":
    sys.exit(main())
