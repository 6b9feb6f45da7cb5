"""One machine of a schedule: a member of the group, its disk, and its clock.

The disk takes writes in order. A sync makes some of them durable; a crash keeps what was synced, and a beginning of the rest.
"""

from __future__ import annotations

from collections import deque

from waymaker_core.raft.effects import Install, Role, Write
from waymaker_core.raft.entries import Durable, Entry, HardState, SnapshotMeta
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings


class RaftDisk:
    """The durable facts of a member, and the writes that are not synced yet."""

    __slots__ = ("hard", "snapshot", "base", "entries", "pending")

    def __init__(self, snapshot: SnapshotMeta) -> None:
        self.hard = HardState()
        self.snapshot = snapshot
        self.base = snapshot.index
        self.entries: list[Entry] = []
        self.pending: deque[Write | Install] = deque()

    @property
    def last(self) -> int:
        """Return the index of the last durable entry."""
        return self.base + len(self.entries)

    def holds(self, index: int, term: int) -> bool:
        """Return True if an entry is durable: in the log, or as the end of the snapshot, or covered by it."""
        if index <= self.base:
            return True
        return index <= self.last and self.entries[index - self.base - 1].term == term

    def sync(self, count: int) -> int:
        """Make the first pending writes durable; return the number of the last one."""
        number = 0
        for _ in range(count):
            write = self.pending.popleft()
            self._make_durable(write, None)
            number = write.number
        return number

    def crash(self, keep: int, torn: int) -> None:
        """Lose pending writes but for the first `keep`, and `torn` parts of the next one."""
        while keep and self.pending:
            self._make_durable(self.pending.popleft(), None)
            keep -= 1
        if torn and self.pending:
            self._make_durable(self.pending.popleft(), torn)
        self.pending.clear()

    def _make_durable(self, write: Write | Install, parts: int | None) -> None:
        """Make a write durable, or only its first parts: term and vote, the cut, each entry."""
        if isinstance(write, Install):
            if parts is None:
                self.snapshot, self.base, self.entries = write.snapshot, write.snapshot.index, []
            return
        if write.hard is not None:
            self.hard = write.hard
            parts = None if parts is None else parts - 1
        if write.cut_from and parts != 0:
            del self.entries[write.cut_from - self.base - 1 :]
            parts = None if parts is None else parts - 1
        entries = write.entries if parts is None else write.entries[:parts]
        if entries:
            assert write.first == self.last + 1, f"a write at {write.first} behind {self.last}"
            self.entries += entries

    def keep_snapshot(self, snapshot: SnapshotMeta) -> bool:
        """Store a snapshot and forget the entries that it covers; False if the stored one is not older."""
        if snapshot.index <= self.snapshot.index:
            return False
        self.snapshot = snapshot
        del self.entries[: snapshot.index - self.base]
        self.base = snapshot.index
        return True

    def read(self) -> Durable:
        """Return what a restarting member reads."""
        return Durable(self.hard, self.snapshot, tuple(self.entries))


class Machine:
    """One machine: up with a member, or down. Its clock runs at `rate` thousandths of the true speed."""

    __slots__ = (
        "id", "disk", "raft", "runs", "rate", "settings", "seed", "wake_at", "paused_until", "stalled", "syncing", "role",
        "term", "commit", "applied", "members_index",
    )  # fmt: skip

    def __init__(self, id_: int, settings: RaftSettings, snapshot: SnapshotMeta, rate: int, seed: int) -> None:
        self.id = id_
        self.disk = RaftDisk(snapshot)
        self.raft: Raft | None = None
        self.runs = 0
        """Number of its starts: a member that restarts is another leader."""
        self.rate = rate
        self.settings = settings
        self.seed = seed
        self.wake_at = -1
        self.paused_until = 0
        self.stalled = False
        self.syncing = 0
        """Writes that the sync under way makes durable."""
        self.role = Role.FOLLOWER
        self.term = 0
        self.commit = 0
        self.applied = 0
        self.members_index = 0

    def local(self, now: int) -> int:
        """Return what its clock shows."""
        return now * self.rate // 1000

    def true(self, local: int) -> int:
        """Return the first true moment at which its clock shows this."""
        return -(-local * 1000 // self.rate)

    def start(self, now: int) -> None:
        """Start a member from what the disk holds. `CorruptState` if that makes no sense."""
        self.runs += 1
        durable = self.disk.read()
        self.raft = Raft(self.id, self.settings, self.seed + self.runs, self.local(now), durable)
        self.role, self.term = Role.FOLLOWER, durable.hard.term
        self.commit = self.applied = durable.snapshot.index
        self.members_index = self.raft.members_index
        self.stalled = False

    def stop(self, keep: int, torn: int) -> None:
        """Crash."""
        self.raft = None
        self.syncing = 0
        self.disk.crash(keep, torn)
