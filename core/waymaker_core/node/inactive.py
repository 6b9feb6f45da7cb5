"""Deletion of consumers that no client uses any more, where their settings ask for it.

Responsible for the timer of inactivity, one a stream, at the first deadline of all its consumers. A consumer is deleted with
the record, the event and the order of an ordinary deletion. It must never delete a consumer that a client reads, whose
client waits for the server, or whose calls the server has not looked at.
"""

from __future__ import annotations

from waymaker_core.node.commits import Commits, record_bound
from waymaker_core.node.hosted import Hosted
from waymaker_core.node.state import NodeState
from waymaker_core.node.timers import Timer
from waymaker_core.store.journal import frame_bound
from waymaker_core.types import ConsumerId, StreamId

RETRY_NS = 1_000_000_000
"""Pause before a consumer that cannot be deleted for now is judged again."""


class Inactive:
    """Inactivity timeouts of the consumers of all streams."""

    def __init__(self, state: NodeState, commits: Commits) -> None:
        self._state = state
        self._commits = commits

    def settle(self, hosted: Hosted) -> None:
        """Something of a stream changed: wake at its first deadline."""
        self._state.timers.arm(Timer.INACTIVE, hosted.id, hosted.consumers.inactivity.next_deadline())

    def expire(self, stream_id: int) -> None:
        """A stream's first deadline is due."""
        state = self._state
        hosted = state.hosted.get(StreamId(stream_id))
        if hosted is None or hosted.damage is not None or hosted.life.importing:
            return
        for consumer_id in hosted.consumers.inactivity.take_due(state.now):
            if consumer_id in hosted.subscribers:
                hosted.consumers.inactivity.used(consumer_id, state.now)
            elif self._must_wait(hosted, consumer_id):
                hosted.consumers.inactivity.put_off(consumer_id, state.now.mono_ns + RETRY_NS)
            else:
                self._delete(hosted, consumer_id)
        state.touch(hosted)

    def _must_wait(self, hosted: Hosted, consumer_id: ConsumerId) -> bool:
        """Return True while a client may be waiting for the server, or while nothing can be decided."""
        return (
            bool(hosted.queue)
            or hosted.consumers.inactivity.has_uncommitted_answer(consumer_id)
            or self._state.stats.draining
            or self._commits.stalled
            or self._state.catalogue.is_going(hosted.life)
            or not self._commits.room_for(frame_bound(0, 0, 0), ordinary=False)
        )

    def _delete(self, hosted: Hosted, consumer_id: ConsumerId) -> None:
        name = hosted.consumers.name_of(consumer_id)
        record = hosted.consumers.decide_delete(name)
        self._commits.add(hosted, record, [], record_bound(record), 0)
        self._state.log("info", "inactive_consumer_deleted", stream=hosted.name, stream_id=hosted.id, consumer=name)
