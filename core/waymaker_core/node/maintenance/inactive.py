"""Deletion of consumers that no client uses any more, where their settings ask for it.

Responsible for the timer of inactivity, one a stream, at the first deadline of all its consumers. A consumer is deleted with
the record, the event and the order of an ordinary deletion. It must never delete a consumer that a client reads, whose
client waits for the server, or whose calls the server has not looked at.
"""

from __future__ import annotations

from waymaker_core.model.types import ConsumerId, StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.node.timers import Timer
from waymaker_core.storage.journal.writer import frame_bytes_max

RETRY_NS = 1_000_000_000
"""Pause before a consumer that cannot be deleted for now is judged again."""


class Inactive:
    """Inactivity timeouts of the consumers of all streams."""

    def __init__(self, state: NodeState, group_commit: GroupCommit) -> None:
        self._state = state
        self._group_commit = group_commit

    def settle(self, replica: StreamReplica) -> None:
        """Set the timer of a changed stream to its first deadline."""
        self._state.timers.arm(Timer.INACTIVE, replica.id, replica.consumers.inactivity.next_deadline())

    def delete_inactive(self, stream_id: int) -> None:
        """Judge the consumers of a stream whose deadline has come."""
        state = self._state
        replica = state.replicas.get(StreamId(stream_id))
        if replica is None or not replica.leading.serves or replica.importing:
            return
        for consumer_id in replica.consumers.inactivity.take_due(state.now):
            if consumer_id in replica.leading.subscribers:
                replica.consumers.inactivity.used(consumer_id, state.now)
            elif self._must_wait(replica, consumer_id):
                replica.consumers.inactivity.put_off(consumer_id, state.now.mono_ns + RETRY_NS)
            else:
                self._delete(replica, consumer_id)
        state.mark_dirty(replica)

    def _must_wait(self, replica: StreamReplica, consumer_id: ConsumerId) -> bool:
        """Return True while a client may be waiting for the server, or while nothing can be decided."""
        return (
            bool(replica.leading.queue)
            or replica.consumers.inactivity.has_uncommitted_answer(consumer_id)
            or self._state.stats.draining
            or self._group_commit.stalled
            or self._state.catalog.is_deletion_staged(replica.entry)
            or not self._group_commit.has_room_for(replica.log, frame_bytes_max(0, 0, 0), ordinary=False)
        )

    def _delete(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        name = replica.consumers.name_of(consumer_id)
        record = replica.consumers.decide_delete(name)
        self._group_commit.add_record(replica, record, [], record_frame_bytes_max(record), 0)
        self._state.log("info", "inactive_consumer_deleted", stream=replica.name, stream_id=replica.id, consumer=name)
