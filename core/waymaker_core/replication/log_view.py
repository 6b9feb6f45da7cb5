"""The log of a stream as its protocol sees it: where it ends, and in which epoch each record was decided.

The protocol keeps this view itself, for what it asks the node to keep is part of the log at once, and durable later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from waymaker_core.api.inputs import SentRecord
from waymaker_core.model.records import EpochRecord
from waymaker_core.replication.messages import EpochStart
from waymaker_core.storage import record_codec
from waymaker_core.stream.epochs import EPOCHS_KEPT


class LogSource(Protocol):
    """The node's log of one stream."""

    def bounds(self) -> tuple[int, tuple[EpochStart, ...]]:
        """Return the position of the last record, durable or not, and the table of epochs."""

    def facts(self) -> tuple[int, int]:
        """Return the epoch that is promised, and that in which the whole log was verified, durable or on the way to it."""

    def records(self, first: int, bytes_max: int) -> tuple[SentRecord, ...] | None:
        """Return records from a position on, at least one if there is one; None where they are not in memory any more."""


class LogView:
    """The end of a log and its epochs."""

    __slots__ = ("end", "starts")

    def __init__(self, end: int, starts: Iterable[EpochStart]) -> None:
        self.end = end
        self.starts: list[EpochStart] = list(starts)

    def epoch_at(self, position: int) -> int:
        """Return the epoch of a record; 0 before the first epoch, -1 where there is no such record or it is unknown."""
        if not 0 <= position <= self.end:
            return -1
        for epoch, start in reversed(self.starts):
            if start <= position:
                return epoch
        return 0 if position == 0 or len(self.starts) < EPOCHS_KEPT else -1

    def begin_epoch(self, epoch: int, position: int) -> None:
        """Note that the record at a position is the first of an epoch."""
        self.starts.append((epoch, position))
        del self.starts[:-EPOCHS_KEPT]

    def add_records(self, records: Iterable[SentRecord]) -> None:
        """Note records behind the last one."""
        for record in records:
            self.end += 1
            if (epoch := begun_epoch(record)) is not None:
                self.begin_epoch(epoch, self.end)

    def cut_to(self, position: int) -> None:
        """Note that the log ends at a position."""
        self.end = min(self.end, position)
        while self.starts and self.starts[-1][1] > self.end:
            self.starts.pop()

    def common_end(self, end: int, starts: Iterable[EpochStart]) -> int | None:
        """Return the last position up to which this log and another one agree; None where the tables do not reach back so far.

        A record is decided once, by the primary of its epoch, and stands behind the same records everywhere. So two logs agree
        up to the end of the last epoch that both have, in the one where it is shorter (log matching: Raft paper, 5.3).
        """
        others = list(starts)
        theirs = dict(others)
        for epoch, start in reversed(self.starts):
            if theirs.get(epoch) == start:
                return min(_end_of(epoch, self.starts, self.end), _end_of(epoch, others, end))
        if len(self.starts) < EPOCHS_KEPT and len(others) < EPOCHS_KEPT:
            return min(_end_of(0, self.starts, self.end), _end_of(0, others, end))
        return None


def _end_of(epoch: int, starts: list[EpochStart], end: int) -> int:
    return next((start - 1 for known, start in starts if known > epoch), end)


def begun_epoch(record: SentRecord) -> int | None:
    """Return the epoch that a record begins; None for any other record."""
    if record.kind != EpochRecord.KIND:
        return None
    decoded = record_codec.decode(record.kind, record.version, record.meta)
    assert isinstance(decoded, EpochRecord)
    return decoded.epoch
