"""Metrics of a member of a cluster: what it knows of the group, and what goes between it and each other member.

A server that is on its own has none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from waymaker.server.http.described import Described
from waymaker.server.membership import Membership

CLUSTER_METRICS: Final = (
    Described("waymaker_cluster_leads_catalog", "gauge", "1 while this member leads the catalog.", "leads_catalog"),
    Described("waymaker_cluster_leader", "gauge", "The member that leads the catalog; 0: not known.", "leader"),
    Described("waymaker_cluster_term", "gauge", "The newest term of the catalog's group that this member knows.", "term"),
    Described(
        "waymaker_cluster_leader_changes", "counter", "Leaders of the catalog that this member saw begin.", "leader_changes"
    ),
    Described("waymaker_cluster_streams_led", "gauge", "Streams whose primary this member is.", "streams_led"),
    Described("waymaker_cluster_replicas", "gauge", "Streams of which this member has a replica.", "replicas"),
    Described(
        "waymaker_cluster_streams_unserved", "gauge", "Streams that no member serves at the moment.", "streams_unserved"
    ),
    Described(
        "waymaker_cluster_unreadable_messages", "counter", "Messages of other members that could not be read.", "unreadable"
    ),
    Described(
        "waymaker_cluster_connections_refused", "counter", "Connections to the members' port that did not belong there.",
        "refused",
    ),
)  # fmt: skip

PEER_METRICS: Final = (
    Described("waymaker_peer_reachable", "gauge", "1 while another member was heard lately.", "is_heard"),
    Described(
        "waymaker_peer_replicas_in_sync", "gauge",
        "Replicas on another member that have all of a stream which this member leads.", "in_sync",
    ),
    Described("waymaker_peer_replicas_lagging", "gauge", "Replicas on another member that have less.", "lagging"),
    Described("waymaker_peer_lag_records", "gauge", "The most records that one of these lacks.", "lag_records"),
)  # fmt: skip

LANE_METRICS: Final = (
    Described("waymaker_peer_connected", "gauge", "1 while a lane to another member is connected.", "is_connected"),
    Described("waymaker_peer_connects", "counter", "Connections that were made for a lane.", "connected"),
    Described("waymaker_peer_sent_messages", "counter", "Messages sent to another member.", "sent_messages"),
    Described("waymaker_peer_sent_bytes", "counter", "Bytes of those.", "sent_bytes"),
    Described("waymaker_peer_received_messages", "counter", "Messages received from another member.", "received_messages"),
    Described("waymaker_peer_received_bytes", "counter", "Bytes of those.", "received_bytes"),
    Described(
        "waymaker_peer_dropped_unconnected", "counter", "Messages dropped since a lane was not connected.",
        "dropped_unconnected",
    ),
    Described(
        "waymaker_peer_dropped_full", "counter", "Messages dropped since a lane's queue had no room.", "dropped_full"
    ),
)  # fmt: skip


class _Own(NamedTuple):
    """The figures of a member without a label."""

    leads_catalog: bool
    leader: int
    term: int
    leader_changes: int
    streams_led: int
    replicas: int
    streams_unserved: int
    unreadable: int
    refused: int


class ClusterCollector(Collector):
    """A collector that turns a member's figures into samples at a scrape."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def collect(self) -> Iterable[Metric]:
        """Yield every sample of the member and its peers."""
        membership = self._membership
        status = membership.status()
        own = next(each for each in status.members if each.node_id == membership.node_id)
        figures = _Own(
            status.leader == status.node_id, status.leader, status.term, status.leader_changes, own.streams_led,
            own.replicas, status.streams_unserved, membership.unreadable_messages, membership.peers.refused,
        )  # fmt: skip
        for described in CLUSTER_METRICS:
            family = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
            yield family(described.name, described.text, value=float(getattr(figures, described.attribute)))
        others = [each for each in status.members if each.node_id != membership.node_id]
        yield from _families(PEER_METRICS, ("peer",), [((str(each.node_id),), each) for each in others])
        lanes = [((str(each.node_id), each.lane.name.lower()), each) for each in membership.peers.figures()]
        yield from _families(LANE_METRICS, ("peer", "lane"), lanes)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are not checked against others by asking the member."""
        return ()


def _families(
    table: tuple[Described, ...], labels: tuple[str, ...], rows: Sequence[tuple[tuple[str, ...], object]]
) -> Iterator[Metric]:
    for described in table:
        kind = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
        family = kind(described.name, described.text, labels=labels)
        for names, figures in rows:
            family.add_metric(names, float(getattr(figures, described.attribute)))
        yield family
