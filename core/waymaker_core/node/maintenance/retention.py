"""Retention: age and interest judged when something may be due, stream by stream, never by walking over all of them.

A stream with an age limit has a timer at the moment its oldest message expires, but not more often than the sweep interval;
one with interest retention, and a queue, is judged an interval after something about it changed. Ages are measured on the wall
clock and timers run on the monotonic one, so a jump of the wall clock moves the timers of the streams that age.
"""

from __future__ import annotations

from functools import partial

from waymaker_core.model.config import Retention as RetentionKind
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.types import Now, StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.services import taken_to
from waymaker_core.node.stream_replica import Leading, StreamReplica
from waymaker_core.node.timers import Timer
from waymaker_core.stream.retention import decisions as retention

RECORDS_A_TURN = 8
"""Prune records of one stream decided in one step; what is left follows in the next."""
PRUNE_BOUND = 64 * 1024
"""Journal space required before a prune is decided: a record of several thousand single drops."""


class Retention:
    """Judges streams by age and interest, and prunes them."""

    def __init__(self, state: NodeState, group_commit: GroupCommit, indexes: Indexes, quarantine: Quarantine) -> None:
        self._state = state
        self._group_commit = group_commit
        self._indexes = indexes
        self._quarantine = quarantine
        self._interval_ns = state.limits.retention_interval_ms * 1_000_000
        self._skew_ms: int | None = None

    def look_at_clock(self, now: Now) -> None:
        """Notice a jump of the wall clock, and set the timers anew that depend on it."""
        skew_ms = now.wall_ms - now.mono_ns // 1_000_000
        if self._skew_ms is None:
            self._skew_ms = skew_ms
        elif abs(skew_ms - self._skew_ms) >= self._state.limits.retention_interval_ms // 2:
            self._skew_ms = skew_ms
            for key in self._state.timers.armed(Timer.AGE):
                self.process_dirty(self._state.replicas[StreamId(key)])

    def process_dirty(self, replica: StreamReplica) -> None:
        """Set the time at which a changed stream is judged."""
        if replica.stream.config.retention is RetentionKind.INTEREST or taken_to(replica.layers):
            if replica.stream.count and self._state.timers.deadline(Timer.AGE, replica.id) is None:
                self._state.timers.arm(Timer.AGE, replica.id, self._state.now.mono_ns + self._interval_ns)
        else:
            self._arm_for_age(replica)

    def _arm_for_age(self, replica: StreamReplica) -> None:
        """Set the timer to the expiry of the oldest message, but not more often than the interval."""
        now, due = self._state.now, None
        expiry_ms = retention.next_expiry_ms(replica.stream) if replica.stream.config.max_age_ms else None
        if expiry_ms is not None and replica.stream.is_ahead(now.wall_ms):
            due = now.mono_ns
        elif expiry_ms is not None:
            due = max(
                now.mono_ns + (expiry_ms - now.wall_ms) * 1_000_000, replica.leading.judged_ns + self._interval_ns
            )
        self._state.timers.arm(Timer.AGE, replica.id, due)

    def judge(self, stream_id: int) -> None:
        """Judge a stream whose timer has fired."""
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is None or not replica.leading.serves or replica.importing:
            return
        replica.leading.judged_ns = self._state.now.mono_ns
        leading = replica.leading
        self._indexes.when_resident(replica, partial(self._decide, leading), partial(self._lost, leading))

    def _decide(self, leading: Leading) -> None:
        if not leading.serves:
            return
        state, replica = self._state, leading.replica
        floor = taken_to(replica.layers)
        if replica.stream.config.retention is RetentionKind.INTEREST:
            floor = replica.consumers.interest_floor()
        bound = min(PRUNE_BOUND, state.limits.segment_bytes // 4)
        for _ in range(RECORDS_A_TURN):
            # Where nothing else is being written, a prune goes on in a full journal: it is what makes space.
            full = (
                not self._group_commit.has_room_for(replica.log, bound, ordinary=False)
                and self._group_commit.has_undurable()
            )
            if full or replica.log.is_crowded(state.limits):
                state.timers.arm(Timer.AGE, replica.id, state.now.mono_ns + self._interval_ns)
                if full:
                    state.timers.note_no_space(Timer.AGE, replica.id)
                return
            record = retention.decide_retention(replica.stream, state.now.wall_ms, floor)
            if record is None:
                if floor is None:
                    self._arm_for_age(replica)
                return
            self._group_commit.add_record(replica, record, [], record_frame_bytes_max(record), 0)
        state.timers.arm(Timer.AGE, replica.id, state.now.mono_ns)

    def _lost(self, leading: Leading, failure: DiskFailure) -> None:
        if not leading.over:
            self._quarantine.found(leading.replica, failure)
            if leading.serves:
                self.process_dirty(leading.replica)
