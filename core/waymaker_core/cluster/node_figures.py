"""The figures that members say of themselves with their heartbeats, so that any of them can answer for all."""

from __future__ import annotations

from typing import NamedTuple

from waymaker_core.api.authority_requests import ClusterStats, NodeSums
from waymaker_core.cluster.liveness import Liveness
from waymaker_core.node.node import Node


class Sums(NamedTuple):
    """The streams added up that a node leads."""

    streams: int = 0
    messages: int = 0
    bytes: int = 0


class NodeFigures:
    """The newest sums of each member."""

    def __init__(self, node: Node, liveness: Liveness) -> None:
        self._node = node
        self._liveness = liveness
        self._heard: dict[int, Sums] = {}

    def note_sums(self, sender: int, sums: Sums) -> None:
        """Note what another member says of itself."""
        self._heard[sender] = sums

    def own_sums(self) -> Sums:
        """Return the sums of this node. Costs a look at every stream."""
        row = self._node.sums_led()
        return Sums(row.streams, row.messages, row.bytes)

    def complete(self, now: int, stats: ClusterStats) -> None:
        """Put what other members say in the place of what this node knows of their streams."""
        own = self._node.config.node_id
        for at, row in enumerate(stats.nodes):
            if row.node_id == own:
                continue
            if self._liveness.was_heard(now, row.node_id):
                stats.nodes[at] = NodeSums(row.node_id, "ok", *self._heard.get(row.node_id, Sums()))
            else:
                stats.nodes[at] = NodeSums(row.node_id, "unreachable")
