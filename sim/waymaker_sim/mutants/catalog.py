"""Rules of the catalog: each incarnation of a stream or consumer is created and deleted once, and changes are
permanent."""

from __future__ import annotations

from typing import Any

import waymaker_core.stream.snapshot as stream_snapshot
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.consumer.registry import ConsumerRegistry
from waymaker_core.model.records import ConsumerCreated, PruneRecord, SettingsRecord, StreamDeleted
from waymaker_core.node.startup.restoring import Restoring
from waymaker_sim.mutants.planting import Mutant, giving


def _in_flight_twice(original: Any) -> Any:
    def draw(self: Any) -> int:
        drawn: int = original(self)
        return drawn - drawn % 2

    return draw


def _counted_at_once(_: Any) -> Any:
    def draw(self: Catalog) -> int:
        self.next_id += 1
        return self.next_id - 1

    return draw


def _without(kind: type) -> Any:
    """Make a replay that skips the records of one kind."""

    def make(original: Any) -> Any:
        def apply(self: Any, position: int, record: Any) -> None:
            if isinstance(record, kind):
                self.catalog_position = position
            else:
                original(self, position, record)

        return apply

    return make


def _settings_forgotten(original: Any) -> Any:
    def record(self: Restoring, stream_id: int, position: int, record: Any, chunk: Any) -> None:
        original(self, stream_id, position, PruneRecord() if isinstance(record, SettingsRecord) else record, chunk)

    return record


def _never_gone(original: Any) -> Any:
    def deleted(self: Consumers, record: Any) -> None:
        if self._live:
            original(self, record)

    return deleted


def _newest_and_one(_: Any) -> Any:
    def draw(self: ConsumerRegistry) -> int:
        return max([0, *self.groups_by_consumer, *self.overlay.creates]) + 1

    return draw


def _counter_forgotten(original: Any) -> Any:
    def restore(self: Consumers, snapshot: Any, next_id: int = 1) -> None:
        original(self, snapshot, next_id)
        self._registry.next_id = max(self._registry.groups_by_consumer, default=0) + 1

    return restore


def _never_begun(original: Any) -> Any:
    def apply(self: Consumers, record: Any) -> None:
        if self._live or not isinstance(record, ConsumerCreated):
            original(self, record)

    return apply


def _still_there(_: Any) -> Any:
    return lambda self, account, name: None


CATALOG = {
    "reuse-ids": Mutant(
        "an id of a stream's incarnation is given once", ("recovery honest", "lives apart", "one history"),
        Catalog, "draw_id", _in_flight_twice,
    ),
    "count-what-is-drawn": Mutant(
        "a stream whose creation is not committed yet was not deleted",
        ("recovery twice", "quarantine stays", "acked survives"), Catalog, "draw_id", _counted_at_once,
    ),
    "reuse-consumer-ids": Mutant(
        "an id of a consumer is given once, its deletion notwithstanding", ("lives apart",),
        ConsumerRegistry, "draw_id", _newest_and_one,
    ),
    "forget-consumer-ids": Mutant(
        "an id of a consumer is given once, restarts notwithstanding", ("lives apart",),
        Consumers, "restore", _counter_forgotten,
    ),
    "forget-deletions": Mutant(
        "a deleted stream stays deleted after a restart", ("lives apart", "acked survives", "recovery honest"),
        Restoring, "_apply_to_catalog", _without(StreamDeleted),
    ),
    "forget-updates": Mutant(
        "new settings hold after a restart", ("acked survives", "recovery twice"),
        Restoring, "record", _settings_forgotten,
    ),
    "settings-of-the-catalog": Mutant(
        "a checkpoint has a stream's settings as its own log made them", ("acked survives", "recovery twice"),
        stream_snapshot, "holds_own_state", giving(False),
    ),
    "consumer-comes-back": Mutant(
        "a deleted consumer stays deleted after a restart", ("lives apart", "recovery twice"),
        Consumers, "_apply_deleted", _never_gone,
    ),
    "forget-consumers": Mutant(
        "a consumer that was created is there after a restart", ("acked survives", "recovery twice"),
        Consumers, "apply", _never_begun,
    ),
    "create-twice": Mutant(
        "a name that is taken is not given again", ("answer allowed", "acked survives"), Catalog, "projected_id", _still_there,
    ),
    "delete-nobody": Mutant(
        "a consumer whose deletion is confirmed is deleted", ("lives apart",), ConsumerRegistry, "deleted", giving(None),
    ),
}  # fmt: skip
