"""Overrides: the streams whose newest claim names another primary than the consistent-hash ring does.

An override is no state of its own. It follows from a claim, which is in the catalog's log, and from the ring, which follows
from the nodes of the cluster. This table keeps those that hold, so that to list them costs what there is of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from waymaker_core.catalog.catalog import Catalog, CatalogEntry
from waymaker_core.catalog.placement import place
from waymaker_core.model.types import StreamId


class Override(NamedTuple):
    """A claim that set a stream's primary apart from the ring: the primary, and the epoch of the claim."""

    claimant: int = 0
    epoch: int = 0


NO_OVERRIDE: Final = Override()


def placement_key(account: str, name: str) -> str:
    """Return what stands for a stream on the ring."""
    return f"{account}\0{name}"


class Overrides:
    """The overrides in force, by stream. `nodes`: those that the ring holds."""

    def __init__(self, catalog: Catalog, nodes: tuple[int, ...]) -> None:
        self._catalog = catalog
        self._nodes = nodes
        self._found: dict[StreamId, Override] = {}

    def home_of(self, entry: CatalogEntry) -> int:
        """Return the node that the ring names for a stream."""
        return place(placement_key(entry.account, entry.config.name), self._nodes, 1)[0]

    def override_of(self, stream_id: StreamId) -> Override:
        """Return the override of a stream; all zero where it has none."""
        return self._found.get(stream_id, NO_OVERRIDE)

    def refresh(self, stream_id: StreamId) -> bool:
        """Look at a stream's newest claim; return True if its override is another one than before."""
        before = self._found.pop(stream_id, NO_OVERRIDE)
        entry, conf = self._catalog.entries.get(stream_id), self._catalog.authority.confs.get(stream_id)
        if entry is not None and conf is not None and conf.newest.primary != self.home_of(entry):
            self._found[stream_id] = Override(conf.newest.primary, conf.newest.epoch)
        return self.override_of(stream_id) != before

    def refresh_all(self) -> None:
        """Look at every stream: a start has read the catalog."""
        for stream_id in self._catalog.authority.confs:
            self.refresh(stream_id)

    def overridden(self) -> Iterable[tuple[StreamId, Override]]:
        """Return every stream that has an override, with it."""
        return self._found.items()
