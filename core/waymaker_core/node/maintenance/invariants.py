"""Invariants between a node's parts after each step: for tests and simulations, never on a path that serves."""

from __future__ import annotations

from waymaker_core.node.context import NodeState
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.stream.invariants import check_stream


def check(state: NodeState) -> None:
    """Assert every invariant of every stream in service, and that nothing stays decided without an uncommitted record."""
    _check_log(state.catalog_log)
    for stream_id, replica in state.replicas.items():
        assert replica.id == stream_id
        _check_log(replica.log)
        if replica.damage is None:
            _check_replica(replica)


def _check_log(log: StreamLog) -> None:
    assert log.applied <= log.committed <= log.durable <= log.sendable <= log.end
    assert log.applied == log.committed or log.carrying
    assert log.uncommitted_bytes == sum(entry.body_bytes for entry in log.entries if entry.position <= log.durable)
    assert [entry.position for entry in log.entries] == list(range(log.applied + 1, log.end + 1))


def _check_replica(replica: StreamReplica) -> None:
    check_stream(replica.stream)
    replica.consumers.check()
    for layer in replica.layers:
        layer.check()
    assert replica.stream.position == replica.log.applied
    for subscribers in replica.leading.subscribers.values():
        for reader in subscribers:
            on_the_way = len(reader.unreported) + reader.at_gate
            assert reader.at_gate >= 0
            assert not reader.window or on_the_way + len(reader.unanswered) <= reader.window, (
                "more than a window is out"
            )
    if not replica.log.entries:
        assert replica.stream.is_settled(), f"{replica.name}: messages or deletions are staged without a record"
        assert not replica.stream.overlay.configs, f"{replica.name}: settings are staged without a record"
        assert not replica.stream.overlay.import_ended, (
            f"{replica.name}: the end of a restore is staged without a record"
        )
        for layer in replica.layers:
            assert not layer.has_staged(), f"{replica.name}: a layer has staged something without a record"
        assert not replica.consumers.has_staged(), f"{replica.name}: an acknowledgement is staged without a record"
