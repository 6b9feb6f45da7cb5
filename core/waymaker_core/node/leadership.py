"""Leadership: beginning and ending to lead a stream, without a restart.

A replica that steps down forgets all that was only decided, and all that only a leader has (`Leading`). What waits for a
commit is answered as unknown. Its log stays: what a majority has of it is applied when that is known, whether the replica leads
or not. To lead again, a replica first applies the whole log. Nothing is decided over records that may not be committed.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.model.records import EpochRecord
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.parking import Parking
from waymaker_core.node.readers.fetches import Fetches
from waymaker_core.node.readers.subscriptions import Subscriptions
from waymaker_core.node.stream_replica import NOT_LEADING, Leading, StreamReplica
from waymaker_core.node.timers import OF_STREAMS

DEPOSED: Final = Refusal(
    Status.ABORTED, "another node leads the stream by now; this may have happened", Outcome.UNKNOWN
)


class Leadership:
    """Ends and begins the leading of streams."""

    def __init__(
        self,
        state: NodeState,
        group_commit: GroupCommit,
        gate: Gate,
        parking: Parking,
        subscriptions: Subscriptions,
        fetches: Fetches,
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate
        self._parking = parking
        self._subscriptions = subscriptions
        self._fetches = fetches
        self._epochs: dict[int, int] = {}
        """By stream that is to be led: the epoch in which it will be."""

    def step_down(self, replica: StreamReplica) -> None:
        """End the leading of a stream, if it is led."""
        self._state.opening.pop(replica.id, None)
        leading = replica.leading
        if leading.over:
            return
        self._subscriptions.end_stream(replica, "moved")
        self._parking.refuse_queue(replica, NOT_LEADING)
        leading.over = True
        self._gate.abandon(replica.log, DEPOSED)
        while leading.last_naks:
            self._gate.refuse(leading.last_naks.popleft().token, DEPOSED)
        self._fetches.forget_stream(replica)
        self._group_commit.forget_joining(replica)
        for timer in OF_STREAMS:
            self._state.timers.arm(timer, replica.id, None)
        replica.consumers = replica.consumers.suspended(self._state.now)
        replica.layers.discard_uncommitted()
        replica.stream.discard_uncommitted()

    def lead(self, replica: StreamReplica, epoch: int = 0) -> None:
        """Begin to lead a stream as soon as its whole log is applied. The first record of an epoch (if not 0) says so."""
        if replica.leading.over:
            self._state.opening[replica.id] = replica
            self._epochs[replica.id] = epoch
            self.lead_applied()

    def lead_applied(self) -> None:
        """Begin to lead the streams, and the catalog, that wait for nothing any more."""
        state = self._state
        catalog = state.catalog_log
        state.catalog_leads = state.catalog_leads or catalog.applied == catalog.end
        for stream_id, replica in list(state.opening.items()):
            if state.replicas.get(replica.id) is not replica:
                del state.opening[stream_id]
            elif replica.log.applied == replica.log.end:
                del state.opening[stream_id]
                self._begin(replica)

    def _begin(self, replica: StreamReplica) -> None:
        replica.leading = Leading(replica)
        if replica.damage is None:
            replica.stream.skip_reserved()
            if not replica.importing:  # a restore replays its consumers' records first
                replica.consumers.resume(self._state.now)
            epoch = self._epochs.pop(replica.id, 0)
            if epoch > replica.stream.epochs.last:
                record = EpochRecord(epoch)
                self._group_commit.add_record(replica, record, [], record_frame_bytes_max(record), 0)
        self._state.mark_dirty(replica)
