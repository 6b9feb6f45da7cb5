"""The membership of a server in a cluster: what it can say of the other members, and whether it can serve.

It reads the core's status and the connections, and decides nothing.
"""

from __future__ import annotations

import time

from waymaker.server.config import ServerConfig
from waymaker.server.peers.peers import Peers
from waymaker_core.cluster.member import Member
from waymaker_core.cluster.status import ClusterStatus
from waymaker_core.model.types import Now
from waymaker_proto import admin_pb2

NO_LEADER = "no leader of the catalog is known"


class Membership:
    """One member and its peers, to be looked at between steps."""

    def __init__(self, config: ServerConfig, member: Member, peers: Peers) -> None:
        assert config.cluster is not None
        self._config = config
        self._addresses = {each.node_id: str(each.address) for each in config.cluster}
        self._member = member
        self.peers = peers

    @property
    def node_id(self) -> int:
        """Return the number of this member."""
        return self._config.node_id

    @property
    def leader(self) -> int:
        """Return the member that leads the catalog; 0: not known."""
        return self._member.leader

    @property
    def not_ready(self) -> str:
        """Return why this member cannot serve; empty if it can."""
        return "" if self._member.leader else self._member.obstacle or NO_LEADER

    @property
    def unreadable_messages(self) -> int:
        """Return how many messages of other members could not be read."""
        return self._member.contradictions

    def status(self) -> ClusterStatus:
        """Return the cluster as this member knows it."""
        return self._member.status(Now(time.monotonic_ns(), time.time_ns() // 1_000_000))

    def fill(self, response: admin_pb2.ClusterStatusResponse) -> None:
        """Fill in the cluster as this member knows it."""
        status = self.status()
        response.node_id, response.cluster_name = status.node_id, self._config.cluster_name
        response.leader, response.term = status.leader, status.term
        response.streams, response.streams_unserved = status.streams, status.streams_unserved
        for each in status.members:
            response.members.add(
                node_id=each.node_id,
                peer_address=self._addresses[each.node_id],
                client_address=self.peers.client_address(each.node_id) or "",
                reachable=each.is_heard,
                streams_led=each.streams_led,
                replicas=each.replicas,
                in_sync=each.in_sync,
                lagging=each.lagging,
                lag_records=each.lag_records,
            )
