"""The command: which scenarios to run, how much to load, how to print."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

# The road that the pipeline is measured and documented with; must stand before gRPC is first imported.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from benchmarks.alone import alone
from benchmarks.cluster import cluster
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures the real server.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the load: whether it runs, not how fast")
    parser.add_argument("--folder", type=Path, default=Path(), help="where data goes and the disk is; default: here")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a target is missed")
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    figures: list[Figure] = []
    for name in options.scenarios or SCENARIOS:
        run, full, quick = SCENARIOS[name]
        print(f"{name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as folder:
            figures += asyncio.run(run(Path(folder).resolve(), quick if options.quick else full))
    print(as_json(figures) if options.json else table(figures))
    return 1 if options.strict and not all(figure.met for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
