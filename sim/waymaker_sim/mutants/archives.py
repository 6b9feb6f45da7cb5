"""Rules of archives: a restored stream is visible whole or not at all, and its consumers have their positions."""

from __future__ import annotations

from typing import Any

import waymaker_core.node.opening as opening
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.model.records import ImportEnded, PruneRecord
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.stream.stream import Stream
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving


def _archives(plan: Plan) -> bool:
    return plan.archives


def _interrupting(plan: Plan) -> bool:
    """Return True for worlds where processes crash in the middle of imports."""
    return plan.archives and plan.kill + plan.power + plan.kill_at_effect > 10_000


def _before_its_end(original: Any) -> Any:
    def require(self: StreamRegistry, found: Any, name: str) -> Any:
        return found if found is not None and found.importing else original(self, found, name)

    return require


def _half_a_stream(original: Any) -> Any:
    def begin(restoring: Any, *rest: Any) -> Any:
        for entry in restoring.catalog.entries.values():
            entry.importing = False
            restoring.replicas[entry.stream_id].stream.importing = False
        yield from original(restoring, *rest)

    return begin


def _open_where_it_is(original: Any) -> Any:
    return lambda self, last_seq: original(self, self.last_seq)


def _end_forgotten(original: Any) -> Any:
    def record(self: Restoring, stream_id: int, position: int, record: Any, chunk: Any) -> None:
        original(self, stream_id, position, PruneRecord() if isinstance(record, ImportEnded) else record, chunk)

    return record


ARCHIVES = {
    "import-seen-early": Mutant(
        "a stream that is being restored serves no client before its end", ("archives",),
        StreamRegistry, "require_served", _before_its_end, _archives,
    ),
    "import-without-consumers": Mutant(
        "consumers are put back with their stream", ("archives",), Consumers, "import_records", giving([]), _archives,
    ),
    "import-without-end": Mutant(
        "a restored stream continues after the last sequence of its archive", ("archives",),
        Stream, "open_at", _open_where_it_is, _archives,
    ),
    "import-half-kept": Mutant(
        "an import that a crash interrupts leaves nothing", ("archives", "lives apart"),
        opening, "_begin_new_incarnations", _half_a_stream, _interrupting,
    ),
    "import-end-forgotten": Mutant(
        "the end of an import survives a crash, in the stream's own log", ("archives", "acked survives", "recovery twice"),
        Restoring, "record", _end_forgotten, _interrupting,
    ),
}  # fmt: skip
