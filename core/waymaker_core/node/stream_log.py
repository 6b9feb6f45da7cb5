"""The log of a stream, or of the catalog: its records on their way from decided to applied.

Five ends follow one another. A record is *decided* when it gets its position, and *sendable* when that has its place in the
journal, so that other replicas may have it before this node does. It is *durable* when this node has synced it, *committed*
when a majority of its replicas has, and *applied* when the state holds it. With one replica durable and committed fall
together. Only what is committed is applied, and only what is applied is answered (`gate`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import EpochRecord, PublishRecord, Record
from waymaker_core.node.memory_files import MemoryFiles
from waymaker_core.storage.journal.writer import Encoded

Rest = tuple["StreamLog", int]
"""A position of a log that an answer rests on."""


@dataclass(slots=True, eq=False)
class PendingRecord:
    """One decided record, with its stored bodies. `account`: of a record of the catalog, the account that it belongs to."""

    log: StreamLog
    position: int
    account: str
    record: Record
    parts: list[bytes]
    bound: int
    body_bytes: int
    messages: int = 0
    joined: list[PublishRecord] = field(default_factory=list)
    """Publishes decided after this one, which become one record with it."""
    chunk: Chunk | None = None
    segment: int = 0
    """The journal segment that holds its frame, once it is written."""
    carried: tuple[int, Chunk | None] | None = None
    """While a checkpoint carries it forward: segment and stored bodies of the second frame, which is not durable yet."""
    encoded: Encoded | None = None
    """The record as its frame holds it, where another node encoded it, recovery read it, or it is kept to be sent."""
    sent: bool = False
    """True if another node decided it, and sent it."""
    ask: int | None = None
    """The number of the question that is answered when this record, sent by another node, is durable here."""
    void: bool = False
    """True if a cut took it back."""


class StreamLog:
    """The ends of one log, and the records between the applied end and the decided one.

    `memory`: where an ephemeral stream's bodies are written; its records are written nowhere.
    """

    __slots__ = (
        "stream_id", "memory", "end", "sendable", "durable", "majority", "committed", "applied", "entries", "uncommitted_bytes",
        "carrying", "abandoned", "reserved_synced", "epochs",
    )  # fmt: skip

    def __init__(self, stream_id: int, position: int, memory: MemoryFiles | None = None) -> None:
        self.stream_id = stream_id
        self.memory = memory
        self.end = position
        """The position of the last decided record."""
        self.sendable = position
        """The position up to which its records may be on their way to other replicas."""
        self.durable = position
        self.majority = position
        """The position up to which a majority of its replicas has it, where it is replicated."""
        self.committed = position
        self.applied = position
        self.entries: deque[PendingRecord] = deque()
        """Records decided and not yet applied, in order."""
        self.uncommitted_bytes = 0
        """Stored bodies of the durable records that are not applied yet."""
        self.carrying = False
        """True while a checkpoint writes them a second time, behind what it releases."""
        self.abandoned = False
        """True if its stream was deleted, or gets another log: its records change nothing, and wait for no majority."""
        self.reserved_synced = 0
        """With interval sync: sequences up to here are never assigned again, even after a loss of power."""
        self.epochs: deque[tuple[int, int]] = deque()
        """Epochs that begin with records which are decided and not applied: (epoch, position), in order."""

    @property
    def last(self) -> Rest:
        """Return the position of the last decided record: what an answer rests on that may depend on any of them."""
        return self, self.end

    def decide(self, account: str, record: Record, parts: list[bytes], bound: int, body_bytes: int) -> PendingRecord:
        """Give a record the next position."""
        self.end += 1
        entry = PendingRecord(self, self.end, account, record, parts, bound, body_bytes)
        self.entries.append(entry)
        self._note_epoch(entry)
        return entry

    def _note_epoch(self, entry: PendingRecord) -> None:
        if type(entry.record) is EpochRecord:
            self.epochs.append((entry.record.epoch, entry.position))

    def made_durable(self, entry: PendingRecord) -> None:
        """Note that this node has synced a record (with interval sync: written it)."""
        assert entry.position == self.durable + 1, "records become durable in order"
        self.durable = entry.position
        self.sendable = max(self.sendable, self.durable)
        self.uncommitted_bytes += entry.body_bytes

    def restore(self, entries: list[PendingRecord]) -> None:
        """Take the durable records that recovery found and that are not known to be committed."""
        for entry in entries:
            assert entry.position == self.end + 1
            self.end = self.sendable = self.durable = entry.position
            self.entries.append(entry)
            self._note_epoch(entry)
            self.uncommitted_bytes += entry.body_bytes

    def cut(self, position: int) -> list[PendingRecord]:
        """Take the records above a position back, and return them; the next one gets the position behind it."""
        assert position >= self.committed, "what is committed stays"
        taken: list[PendingRecord] = []
        while self.entries and self.entries[-1].position > position:
            entry = self.entries.pop()
            entry.void = True
            taken.append(entry)
            if entry.position <= self.durable:
                self.uncommitted_bytes -= entry.body_bytes
        while self.epochs and self.epochs[-1][1] > position:
            self.epochs.pop()
        self.end = min(self.end, position)
        self.sendable = min(self.sendable, position)
        self.durable = min(self.durable, position)
        return taken

    def begin_behind(self, position: int) -> None:
        """Begin anew behind a snapshot that was adopted: all before it is applied."""
        assert not self.entries and position > self.end, "what is here is older, and applied or void"
        self.end = self.sendable = self.durable = self.majority = self.committed = self.applied = position

    def commit(self, position: int) -> None:
        """Note that records up to a position are committed, as far as they are durable here."""
        self.committed = max(self.committed, min(position, self.durable))

    def take_applicable(self) -> PendingRecord | None:
        """Take out the oldest record that is committed and not applied; None if there is none."""
        if self.applied == self.committed or self.carrying:
            return None
        entry = self.entries.popleft()
        assert entry.position == self.applied + 1, "records are applied in order"
        self.applied = entry.position
        self.uncommitted_bytes -= entry.body_bytes
        if self.epochs and self.epochs[0][1] == entry.position:
            self.epochs.popleft()
        return entry

    def placed(self) -> list[PendingRecord]:
        """Return the records that have their place in the journal and are not applied yet, in order."""
        return [entry for entry in self.entries if entry.segment]

    def is_crowded(self, limits: Limits) -> bool:
        """Return True if as much waits for a majority as may."""
        return (
            self.durable - self.applied >= limits.uncommitted_records_max
            or self.uncommitted_bytes >= limits.uncommitted_bytes_max
        )
