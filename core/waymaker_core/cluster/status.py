"""The status of a cluster as one member knows it: to be shown, never to be decided by."""

from __future__ import annotations

from dataclasses import dataclass, field

from waymaker_core.cluster.replicas import Replicas


@dataclass(slots=True, eq=False)
class MemberStatus:
    """One member, as another one or itself knows it."""

    node_id: int
    is_heard: bool
    """True if it was heard lately; of itself always."""
    streams_led: int = 0
    """The streams whose newest claim names it as the primary, and is opened."""
    replicas: int = 0
    """The streams of which it has a replica, by their newest claims."""
    in_sync: int = 0
    """The replicas that have all that the primary has. Only of streams that the member which knows this leads."""
    lagging: int = 0
    """The replicas that have less, or of which that is not known yet. Of the same streams."""
    lag_records: int = 0
    """The most records that one of these lacks, as far as known."""


@dataclass(slots=True, eq=False)
class ClusterStatus:
    """The cluster, as one member knows it."""

    node_id: int
    leader: int
    """The member that leads the catalog; 0: not known."""
    term: int
    leader_changes: int
    """The leaders of the catalog that this member has seen begin since its start."""
    streams: int = 0
    streams_unserved: int = 0
    """The streams whose newest claim is not opened: no member serves them at the moment."""
    members: list[MemberStatus] = field(default_factory=list)


def add_streams(status: ClusterStatus, replicas: Replicas) -> None:
    """Count streams and replicas by member. Costs a look at every stream."""
    by_id = {each.node_id: each for each in status.members}
    for _, replica in replicas.items():  # noqa: PERF102 - not a dict
        conf = replica.conf
        if conf is None:
            continue
        status.streams += 1
        primary = by_id.get(conf.newest.primary)
        if conf.opened.epoch != conf.newest.epoch:
            status.streams_unserved += 1
        elif primary is not None:
            primary.streams_led += 1
        for seat in conf.newest.replicas:
            if seat.node in by_id:
                by_id[seat.node].replicas += 1
        if replica.leads:
            if status.node_id in by_id:
                by_id[status.node_id].in_sync += 1
            for node, lag in replica.lags():
                if node in by_id:
                    _add_lag(by_id[node], lag)


def _add_lag(member: MemberStatus, lag: int | None) -> None:
    if lag == 0:
        member.in_sync += 1
    else:
        member.lagging += 1
        member.lag_records = max(member.lag_records, lag or 0)
