"""Facts of this replica: what it promised, since when it counts, and what of its logs is known to be committed.

They are frames of the journal, written with records and synced with them. Committed positions are written lazily: with a flush
that happens anyway, or alone after a while, never with a sync of their own for each record. So a restart may know of less than
was committed, never of more. A file goes only when the position is durable whose record freed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from waymaker_core.model.types import CATALOG
from waymaker_core.node.context import NodeState
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.node.timers import Timer
from waymaker_core.raft.entries import HardState
from waymaker_core.storage.errors import JournalFull
from waymaker_core.storage.frame import COMMIT, DOUBT, PROMISE, RAFT_HARD, REPLICA
from waymaker_core.storage.journal.facts import Membership, ReplicaFacts, batches, encode_fact
from waymaker_core.storage.journal.writer import Journal

COMMIT_DELAY_NS = 100_000_000
"""The time after a commit at which an idle node writes it down."""
RIDE_DELAY_NS = 10_000_000
"""The time after a commit from which on it goes with the next flush: a busy node writes it down so often, for all its logs."""


@dataclass(slots=True, eq=False)
class CommitPoint:
    """A moment of the node: `lsn` is where the journal says all that was committed then, or None before it does."""

    lsn: int | None = None


class Facts:
    """The facts in force, and the commits that no frame says yet."""

    def __init__(self, state: NodeState, journal: Journal, found: ReplicaFacts) -> None:
        self._state = state
        self._journal = journal
        self.found = found
        self._noted: dict[int, StreamLog] = {}
        """Logs with commits that no frame says yet."""
        self._noted_ns = 0
        """Time of the first of them."""
        self._next = CommitPoint()
        self._last = CommitPoint(journal.end_lsn)
        self._oldest_segment = journal.oldest_segment()
        """The facts in force stand in this segment, or behind it."""

    # ------------------------------------------------------------------ commits

    def note_commit(self, log: StreamLog) -> None:
        """Note that a log was committed further, where that is not the same as being durable."""
        if self._state.config.replicated and log.memory is None and not log.abandoned:
            if not self._noted:
                self._noted_ns = self._state.now.mono_ns
            self._noted[log.stream_id] = log
            if self._state.timers.deadline(Timer.COMMITS, 0) is None:
                self._state.timers.arm(Timer.COMMITS, 0, self._state.now.mono_ns + COMMIT_DELAY_NS)

    def point(self) -> CommitPoint:
        """Return the point at which all that is committed now will be said."""
        if not self._state.config.replicated:
            return CommitPoint(self._state.written_lsn)
        return self._next if self._noted else self._last

    @property
    def has_unwritten(self) -> bool:
        """Return True if there are commits that no frame says yet."""
        return bool(self._noted)

    @property
    def may_ride(self) -> bool:
        """Return True if there are commits to write with the next flush."""
        return bool(self._noted) and self._state.now.mono_ns >= self._noted_ns + RIDE_DELAY_NS

    def place_commits(self) -> bool:
        """Give the commits their place in the journal, behind their records; without free space they wait: False."""
        rows: list[tuple[int, ...]] = [(log.stream_id, committed(log)) for log in self._noted.values()]
        timers = self._state.timers
        if not self._place(COMMIT, rows):
            timers.arm(Timer.COMMITS, 0, self._state.now.mono_ns + COMMIT_DELAY_NS)
            return False
        timers.arm(Timer.COMMITS, 0, None)
        self._noted.clear()
        self._next.lsn = self._journal.end_lsn
        self._last, self._next = self._next, CommitPoint()
        return True

    def _place(self, kind: int, rows: list[tuple[int, ...]]) -> bool:
        try:
            for some in batches(rows):
                self._journal.append_fact(kind, encode_fact(kind, some))
        except JournalFull:
            return False
        return True

    # ------------------------------------------------------------------ promises and memberships

    def promise(self, stream_ids: list[int], epoch: int) -> bool:
        """Obey no older epoch of these streams; return False if the journal has no free space for it."""
        rows: list[tuple[int, ...]] = [(stream_id, epoch) for stream_id in stream_ids]
        if not self._place(PROMISE, rows):
            return False
        self.found.learn(PROMISE, rows)
        return True

    def keep_vote(self, hard: HardState) -> bool:
        """Note a term and a vote in it; return False if the journal has no free space for it."""
        row = (CATALOG, *hard)
        if not self._place(RAFT_HARD, [row]):
            return False
        self.found.learn(RAFT_HARD, [row])
        return True

    def enrol(self, stream_id: int, membership: Membership) -> bool:
        """Note since when this replica counts; return False if the journal has no free space for it."""
        row = (stream_id, *membership)
        if not self._place(REPLICA, [row]):
            return False
        self.found.learn(REPLICA, [row])
        return True

    def note_doubts(self, rows: Sequence[tuple[int, int, int]]) -> bool:
        """Note doubts, the catalog's last; return False if the journal has no free space for it."""
        if not self._place(DOUBT, [*rows]):
            return False
        self.found.learn(DOUBT, rows)
        return True

    # ------------------------------------------------------------------ checkpoints

    def carry(self, cut: int, logs: list[StreamLog]) -> tuple[int, bool]:
        """Write the facts in force a second time, so that segments below `cut` can be released.

        Return the cut, lower where that is not possible now, and True if something was written.
        """
        rows: list[tuple[int, ...]] = [
            (log.stream_id, committed(log)) for log in logs if log.entries and log.committed and log.memory is None
        ]
        frames = list(self.found.frames()) + [(COMMIT, encode_fact(COMMIT, some)) for some in batches(rows)]
        if not frames or self._oldest_segment >= cut:
            return cut, False
        begun = self._journal.newest_segment()
        try:
            for kind, meta in frames:
                self._journal.append_fact(kind, meta)
        except JournalFull:
            return min(cut, self._oldest_segment), True
        self._oldest_segment = begun
        return cut, True


def committed(log: StreamLog) -> int:
    """Return the position that a start may apply a log to: never beyond what is durable here."""
    return log.committed
