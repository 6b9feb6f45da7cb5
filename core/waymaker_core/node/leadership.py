"""Leadership: beginning and ending to lead a stream, without a restart.

A replica that steps down forgets all that was only decided, and all that only a leader has (`Leading`). What waits for a
commit is answered as unknown. Its log stays: what a majority has of it is applied when that is known, whether the replica leads
or not. To lead again, a replica first applies the whole log. Nothing is decided over records that may not be committed.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.api.effects import Replicate
from waymaker_core.model.records import EpochRecord
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.model.types import StreamId
from waymaker_core.node.claims import Claims
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.parking import Parking
from waymaker_core.node.readers.fetches import Fetches
from waymaker_core.node.readers.subscriptions import Subscriptions
from waymaker_core.node.stream_registry import StreamRegistry
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
        registry: StreamRegistry,
        claims: Claims,
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate
        self._parking = parking
        self._subscriptions = subscriptions
        self._fetches = fetches
        self._registry = registry
        self._claims = claims
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
        if replica.leading.over and not self._may_not_lead(replica):
            self._state.opening[replica.id] = replica
            self._epochs[replica.id] = epoch
            self.lead_applied()

    def _may_not_lead(self, replica: StreamReplica) -> bool:
        """Return True in a cluster for a stream whose incarnation ended with the last run: its sequences would begin anew."""
        return self._state.config.member and any(each is replica for each in self._state.passing)

    def prepare_move(self, stream_id: StreamId) -> None:
        """End the readers of a stream, and log what they hold: another node is about to lead it, and goes on from there."""
        replica = self._state.replicas.get(stream_id)
        if replica is not None and replica.leads and replica.damage is None:
            self._subscriptions.end_stream(replica, "moved")
            if not replica.log.is_crowded(self._state.limits):
                self._group_commit.log_deliveries(replica)

    def lead_applied(self) -> None:
        """Begin to lead the streams, and the catalog, that wait for nothing any more."""
        state = self._state
        if not state.catalog_leads:
            self._begin_catalog()
        self._claims.claim_unclaimed()
        if not state.opening:
            return
        for stream_id, replica in list(state.opening.items()):
            if state.replicas.get(replica.id) is not replica:
                del state.opening[stream_id]
            elif replica.log.applied == replica.log.end:
                del state.opening[stream_id]
                self._begin(replica)

    # ------------------------------------------------------------------ the catalog

    def step_down_from_catalog(self) -> None:
        """End the leading of the catalog by a member of a cluster, if it leads it or is to lead it."""
        state = self._state
        if not state.catalog_leads and not state.catalog_opening:
            return
        state.catalog_leads = state.catalog_opening = False
        self._gate.abandon(state.catalog_log, DEPOSED)
        state.catalog.discard_uncommitted()
        self._claims.forget_unclaimed()
        # Ids that were given without a commit may come to mean streams of another leader.
        state.emptied.clear()
        for stream_id in [each for each in self._registry.import_heads if each not in state.catalog.entries]:
            del self._registry.import_heads[stream_id]

    def lead_catalog(self, term: int) -> None:
        """Begin to lead the catalog, in a term of its group, as soon as its whole log is applied.

        The first record of the term stands behind what may not be committed: the group commits that only with it.
        """
        state = self._state
        if state.catalog_leads or state.catalog_opening:
            return
        state.catalog_opening = True
        log = state.catalog_log
        if log.entries:
            state.effects.append(Replicate(log.stream_id, log.durable))
        if term > (log.epochs[-1][0] if log.epochs else state.catalog.group.last_term):
            self._group_commit.add_to_catalog("", EpochRecord(term))
        self.lead_applied()

    def _begin_catalog(self) -> None:
        state = self._state
        log = state.catalog_log
        if state.catalog_leads or log.applied < log.end or not (state.catalog_opening or not state.config.member):
            return
        state.catalog_leads, state.catalog_opening = True, False
        if state.config.member:
            self._claims.find_unclaimed()

    # ------------------------------------------------------------------ streams

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
