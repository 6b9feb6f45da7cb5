"""Invariants between a node's parts after each step: for tests and simulations, never on a path that serves."""

from __future__ import annotations

from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import Commits
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.stream.invariants import check_stream


def check(state: NodeState, commits: Commits) -> None:
    """Assert every invariant of every stream in service, and that nothing stays decided without an uncommitted record."""
    in_flight: dict[int, int] = {}
    for item in commits.in_flight_records():
        if item.replica is not None:
            in_flight[item.replica.id] = in_flight.get(item.replica.id, 0) + 1
    for stream_id, replica in state.replicas.items():
        assert replica.id == stream_id
        if replica.damage is None:
            _check_replica(replica, in_flight.get(stream_id, 0), commits)


def _check_replica(replica: StreamReplica, in_flight: int, commits: Commits) -> None:
    check_stream(replica.stream)
    replica.consumers.check()
    assert replica.uncommitted == in_flight, f"{replica.name}: {replica.uncommitted} records, {in_flight} under way"
    assert replica.stream.position <= replica.position
    if not in_flight:
        assert replica.stream.is_settled(), f"{replica.name}: messages or deletions are staged without a record"
        assert not replica.consumers.has_staged(), f"{replica.name}: an acknowledgement is staged without a record"
    if commits.last() is None:
        assert not replica.stream.overlay.configs, f"{replica.name}: settings staged without a record"
