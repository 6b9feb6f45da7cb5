"""The log of a stream, or of the catalog: its records on their way from decided to applied.

Four ends follow one another. A record is *decided* when it gets its position. It is *durable* when this node has synced it,
*committed* when a majority of its replicas has, and *applied* when the state holds it. With one replica durable and committed
fall together. Only what is committed is applied, and only what is applied is answered (`gate`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.records import PublishRecord, Record
from waymaker_core.node.memory_files import MemoryFiles

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


class StreamLog:
    """The ends of one log, and the records between the applied end and the decided one.

    `memory`: where an ephemeral stream's bodies are written; its records are written nowhere.
    """

    __slots__ = ("stream_id", "memory", "end", "durable", "committed", "applied", "entries", "reserved_synced")

    def __init__(self, stream_id: int, position: int, memory: MemoryFiles | None = None) -> None:
        self.stream_id = stream_id
        self.memory = memory
        self.end = position
        """The position of the last decided record."""
        self.durable = position
        self.committed = position
        self.applied = position
        self.entries: deque[PendingRecord] = deque()
        """Records decided and not yet applied, in order."""
        self.reserved_synced = 0
        """With interval sync: sequences up to here are never assigned again, even after a loss of power."""

    @property
    def last(self) -> Rest:
        """Return the position of the last decided record: what an answer rests on that may depend on any of them."""
        return self, self.end

    def decide(self, account: str, record: Record, parts: list[bytes], bound: int, body_bytes: int) -> PendingRecord:
        """Give a record the next position."""
        self.end += 1
        entry = PendingRecord(self, self.end, account, record, parts, bound, body_bytes)
        self.entries.append(entry)
        return entry

    def made_durable(self, entry: PendingRecord) -> None:
        """Note that this node has synced a record (with interval sync: written it)."""
        assert entry.position == self.durable + 1, "records become durable in order"
        self.durable = entry.position

    def take_applicable(self) -> PendingRecord | None:
        """Take out the oldest record that is committed and not applied; None if there is none."""
        if self.applied == self.committed:
            return None
        entry = self.entries.popleft()
        assert entry.position == self.applied + 1, "records are applied in order"
        self.applied = entry.position
        return entry
