"""Retention: age and interest judged when something may be due, stream by stream, never by walking over all of them.

A stream with an age limit has a timer at the moment its oldest message ends, but not more often than the sweep interval;
one with interest retention is judged an interval after something about it changed. Ages are measured on the wall clock and
timers run on the monotonic one, so a jump of the wall clock moves the timers of the streams that age.
"""

from __future__ import annotations

from functools import partial

from waymaker_core.configs import Retention as RetentionKind
from waymaker_core.disk import DiskFailure
from waymaker_core.node.calls import Calls
from waymaker_core.node.commits import Commits, record_bound
from waymaker_core.node.hosted import Hosted
from waymaker_core.node.indexes import Indexes
from waymaker_core.node.state import NodeState
from waymaker_core.node.timers import Timer
from waymaker_core.stream import NeedBlocks
from waymaker_core.types import Now, StreamId

RECORDS_A_TURN = 8
"""Prune records of one stream decided in one step; what is left follows in the next."""
PRUNE_BOUND = 64 * 1024
"""Journal room asked for before a prune is decided: a record of several thousand single drops."""


class Retention:
    """When each stream is judged, and what comes of it."""

    def __init__(self, state: NodeState, commits: Commits, indexes: Indexes, calls: Calls) -> None:
        self._state = state
        self._commits = commits
        self._indexes = indexes
        self._calls = calls
        self._interval_ns = state.limits.retention_interval_ms * 1_000_000
        self._skew_ms: int | None = None

    def look_at_clock(self, now: Now) -> None:
        """Notice a jump of the wall clock, and set the timers anew that rest on it."""
        skew_ms = now.wall_ms - now.mono_ns // 1_000_000
        if self._skew_ms is None:
            self._skew_ms = skew_ms
        elif abs(skew_ms - self._skew_ms) >= self._state.limits.retention_interval_ms // 2:
            self._skew_ms = skew_ms
            for key in self._state.timers.armed(Timer.AGE):
                self.settle(self._state.hosted[StreamId(key)])

    def settle(self, hosted: Hosted) -> None:
        """Something of a stream changed: when is it to be judged?"""
        if hosted.stream.config.retention is RetentionKind.INTEREST:
            if hosted.stream.count and self._state.timers.deadline(Timer.AGE, hosted.id) is None:
                self._state.timers.arm(Timer.AGE, hosted.id, self._state.now.mono_ns + self._interval_ns)
        else:
            self._arm_for_age(hosted)

    def _arm_for_age(self, hosted: Hosted) -> None:
        """Wake at the end of the oldest message, but not more often than the interval."""
        now, due = self._state.now, None
        expiry_ms = hosted.stream.next_expiry_ms() if hosted.stream.config.max_age_ms else None
        if expiry_ms is not None and hosted.stream.is_ahead(now.wall_ms):
            due = now.mono_ns
        elif expiry_ms is not None:
            due = max(now.mono_ns + (expiry_ms - now.wall_ms) * 1_000_000, hosted.judged_ns + self._interval_ns)
        self._state.timers.arm(Timer.AGE, hosted.id, due)

    def judge(self, stream_id: int) -> None:
        """A stream's timer went off."""
        hosted = self._state.hosted.get(StreamId(stream_id))
        if hosted is None or hosted.damage is not None or hosted.life.importing:
            return
        hosted.judged_ns = self._state.now.mono_ns
        try:
            self._decide(hosted)
        except NeedBlocks as need:
            self._indexes.load(hosted, need.blocks, partial(self._decide, hosted), partial(self._lost, hosted))

    def _decide(self, hosted: Hosted) -> None:
        state = self._state
        if state.hosted.get(hosted.id) is not hosted or hosted.damage is not None:
            return
        interest = hosted.stream.config.retention is RetentionKind.INTEREST
        floor = hosted.consumers.interest_floor() if interest else None
        again_ns = state.now.mono_ns
        bound = min(PRUNE_BOUND, state.limits.segment_bytes // 4)
        for _ in range(RECORDS_A_TURN):
            if not self._commits.room_for(bound, ordinary=False) and self._commits.last() is not None:
                again_ns += self._interval_ns
                break
            record = hosted.stream.decide_retention(state.now.wall_ms, floor)
            if record is None:
                if not interest:
                    self._arm_for_age(hosted)
                return
            self._commits.add(hosted, record, [], record_bound(record), 0)
        state.timers.arm(Timer.AGE, hosted.id, again_ns)

    def _lost(self, hosted: Hosted, failure: DiskFailure) -> None:
        if self._state.hosted.get(hosted.id) is hosted:
            self._calls.lost(hosted, failure)
            if hosted.damage is None:
                self.settle(hosted)
