"""Due work of the layers of a stream: a timer for each stream, and decisions only where the replica leads it.

A layer says when something is due, and decides it, a record at a time. This part finds free space, commits, and goes on in the
next step where more is due than one step decides.
"""

from __future__ import annotations

from functools import partial

from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.types import StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.stream_replica import Leading, StreamReplica
from waymaker_core.node.timers import Timer
from waymaker_core.storage.journal.writer import frame_bytes_max

RECORDS_A_TURN = 8
"""Records of one stream decided in one step; what is left follows in the next."""
DUE_MESSAGES_MAX = 1_000
"""Messages that a layer may append or delete in one record of what is due."""
DUE_BYTES_MAX = 64 * 1024
"""Stored bodies and facts of such a record, at most."""


class DueLayers:
    """Decides what is due in the layers of streams."""

    def __init__(
        self,
        state: NodeState,
        group_commit: GroupCommit,
        committing: Committing,
        indexes: Indexes,
        quarantine: Quarantine,
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._committing = committing
        self._indexes = indexes
        self._quarantine = quarantine

    def process_dirty(self, replica: StreamReplica) -> None:
        """Set the time at which something of a changed stream is due."""
        now = self._state.now
        dues = [due for layer in replica.layers if (due := layer.next_due(now)) is not None]
        if dues or len(replica.layers):
            self._state.timers.arm(Timer.LAYERS, replica.id, min(dues, default=None))

    def decide_due(self, stream_id: int) -> None:
        """Decide what is due in the layers of a stream whose timer has fired."""
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is not None and replica.leading.serves and not replica.importing:
            leading = replica.leading
            self._indexes.when_resident(replica, partial(self._decide, leading), partial(self._lost, leading))

    def _decide(self, leading: Leading) -> None:
        if not leading.serves:
            return
        replica = leading.replica
        for layer in replica.layers:
            for _ in range(RECORDS_A_TURN):
                bound = frame_bytes_max(DUE_MESSAGES_MAX, DUE_BYTES_MAX, DUE_BYTES_MAX)
                if not self._has_room(replica, bound):
                    again_ns = self._state.now.mono_ns + self._state.limits.disk_retry_ms * 1_000_000
                    self._state.timers.arm(Timer.LAYERS, replica.id, again_ns)
                    self._state.timers.note_no_space(Timer.LAYERS, replica.id)
                    return
                decision = layer.decide_due(self._state.now)
                if decision is None or decision.record is None:
                    break
                self._state.stats.kv_expired += decision.expired
                self._committing.add_decided(replica, decision.record, decision.parts, bound)
        self.process_dirty(replica)

    def _has_room(self, replica: StreamReplica, bound: int) -> bool:
        stalled = self._group_commit.stalled and not replica.stream.config.ephemeral
        return self._group_commit.has_room_for(replica.log, bound, ordinary=False) and not stalled

    def _lost(self, leading: Leading, failure: DiskFailure) -> None:
        if not leading.over:
            self._quarantine.found(leading.replica, failure)
