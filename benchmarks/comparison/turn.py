"""One turn of one contestant, in a process of its own: `python -m benchmarks.comparison.turn KIND TARGET TASK LOAD`.

The task is `table`, or `prepare` or `measure` for the points of curves. What was measured is printed as JSON, by cell or by
curve and point; of a preparation, the points that are ready.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from benchmarks.comparison.contestant import Contestant
from benchmarks.comparison.nats import Nats, NatsBare
from benchmarks.comparison.ours import Ours, OursBare
from benchmarks.comparison.redis import Redis, RedisBare
from benchmarks.comparison.works import Load, Measured, point_of, prepare, table
from waymaker import event_loop

KINDS: Final[Mapping[str, type[Contestant]]] = {
    "ours": Ours,
    "ours-bare": OursBare,
    "nats": Nats,
    "nats-bare": NatsBare,
    "redis": Redis,
    "redis-bare": RedisBare,
}
TABLE: Final = "table"
PREPARE: Final = "prepare"
MEASURE: Final = "measure"
READY: Final[Measured] = {"rate": 0.0, "p50_ms": None, "p99_ms": None}
"""Stands for a point that is prepared, and not measured yet."""


def encoded(load: Load) -> str:
    """Encode a load as an argument."""
    return json.dumps(asdict(load))


def decoded(text: str) -> Load:
    """Decode a load."""
    fields: dict[str, Any] = json.loads(text)
    for name in ("sizes", "key_sizes"):
        fields[name] = tuple(fields[name])
    fields["curves"] = {curve: tuple(points) for curve, points in fields["curves"].items()}
    return Load(**fields)


async def turn(kind: str, target: str, task: str, load: Load) -> dict[str, Measured]:
    """Do the task as the contestant of this kind."""
    contestant = KINDS[kind]()
    await contestant.open(target)
    try:
        if task == TABLE:
            return await table(contestant, load)
        found: dict[str, Measured] = {}
        for curve, points in load.curves.items():
            if task == PREPARE:
                ready = await prepare(contestant, curve, points, load.prepare_s)
                found |= {f"{curve} {point}": READY for point in ready}
            else:
                for point in points:
                    gc.collect()  # what one point left behind is no part of the next one
                    found[f"{curve} {point}"] = await point_of(contestant, curve, point, load, target)
        return found
    finally:
        await contestant.close()


if __name__ == "__main__":
    print(json.dumps(event_loop.run(turn(sys.argv[1], sys.argv[2], sys.argv[3], decoded(sys.argv[4])))))
