"""Rules of interval sync: records that are synced at once all the same, and those that wait."""

from __future__ import annotations

from typing import Any

import waymaker_core.node.group_commit as commits
from waymaker_core.model.disk_ops import OpResult
from waymaker_core.model.records import ConsumerCreated, ImportEnded, SettingsRecord
from waymaker_core.model.types import CATALOG
from waymaker_core.node.checkpoint.checkpoints import Checkpoints
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.stream.stream import Stream
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving, nothing


def _losing(plan: Plan) -> bool:
    """Return True for worlds with losses of power before a confirmed change is synced."""
    return plan.may_lose_unsynced() and plan.power > 8_000


def _at_once(_: Any) -> Any:
    def written(self: Checkpoints, running: Any, _results: list[OpResult]) -> None:
        self._replace_manifest(running)

    return written


def _last_segment_only(original: Any) -> Any:
    def flush(self: Journal, sync: bool = True) -> Any:
        if sync:
            del self._dirty[:-1]
        return original(self, sync)

    return flush


def _creating_late(original: Any) -> Any:
    def must_sync(item: Any) -> bool:
        created = item.log.stream_id == CATALOG or isinstance(item.record, ConsumerCreated)
        return not created and bool(original(item))

    return must_sync


def _changing_late(original: Any) -> Any:
    return lambda item: not isinstance(item.record, SettingsRecord | ImportEnded) and bool(original(item))


LATE_SYNCS = {
    "create-late": Mutant(
        "streams and consumers are durable when their creation is answered", ("late syncs", "lives apart", "one history"),
        commits, "_must_sync", _creating_late, _losing,
    ),
    "change-late": Mutant(
        "new settings, and the end of a restore, are durable when they are answered",
        ("limits hold", "acked survives", "archives", "late syncs"), commits, "_must_sync", _changing_late, _losing,
    ),
    "never-sync-late": Mutant(
        "what was written is synced within the interval", ("late syncs", "progress"), GroupCommit, "_arm_sync", nothing,
        _losing,
    ),
    "give-unsynced-again": Mutant(
        "a sequence is assigned once a synced record has reserved it", ("one history", "late syncs", "nothing returns"),
        commits, "_must_sync", giving(False), _losing,
    ),
    "forget-reserved": Mutant(
        "sequences that were reserved are not assigned after a restart", ("one history", "late syncs", "nothing returns"),
        Stream, "skip_reserved", nothing, _losing,
    ),
    "snapshot-before-journal": Mutant(
        "a snapshot is in force once the journal up to it is synced", ("recovery honest", "late syncs"),
        Checkpoints, "_file_written", _at_once, _losing,
    ),
    "sync-last-segment": Mutant(
        "a late sync covers every segment that was written to", ("recovery honest", "late syncs", "progress"),
        Journal, "flush", _last_segment_only, _losing,
    ),
}  # fmt: skip
