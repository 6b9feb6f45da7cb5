"""Recent records: the last records of each log in memory, as they are sent to other replicas.

A record is here from the moment that it has its place in the journal, before it is durable, so that it can be sent while this
node syncs it. The bytes are those of its frame. Bounds in bytes hold for one log and for all of the node; past the latter,
records of the log go first that was written to least recently. What is not here any more, a replica gets from the journal or
in a transfer.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from waymaker_core.api.inputs import SentRecord

RECORD_BYTES: Final = 128
"""Bytes that a record counts beside its meta and bodies, so that bounds in bytes bound small records too."""


class _Recent:
    """Records of one log from position `first` on, without a gap."""

    __slots__ = ("first", "records", "bytes")

    def __init__(self, first: int) -> None:
        self.first = first
        self.records: deque[SentRecord] = deque()
        self.bytes = 0

    @property
    def end(self) -> int:
        return self.first + len(self.records) - 1


class RecentRecords:
    """The last records of all logs of a node."""

    def __init__(self, log_bytes_max: int, node_bytes_max: int) -> None:
        self._log_bytes_max = log_bytes_max
        self._node_bytes_max = node_bytes_max
        self._logs: dict[int, _Recent] = {}
        """By stream id, the log that was written to last at the end."""
        self.bytes = 0

    def keep(self, stream_id: int, position: int, record: SentRecord) -> None:
        """Keep a record that has its place. One that does not follow the last one begins anew."""
        recent = self._logs.pop(stream_id, None)
        if recent is not None and position != recent.end + 1:
            self.bytes -= recent.bytes
            recent = None
        if recent is None:
            recent = _Recent(position)
        self._logs[stream_id] = recent
        recent.records.append(record)
        recent.bytes += size_of(record)
        self.bytes += size_of(record)
        while recent.bytes > self._log_bytes_max and recent.records:
            self._drop_first(recent)
        while self.bytes > self._node_bytes_max:
            oldest = next(iter(self._logs))
            if self._logs[oldest].records:
                self._drop_first(self._logs[oldest])
            else:
                del self._logs[oldest]

    def _drop_first(self, recent: _Recent) -> None:
        size = size_of(recent.records.popleft())
        recent.first += 1
        recent.bytes -= size
        self.bytes -= size

    def void_above(self, stream_id: int, position: int) -> None:
        """Drop the records above a position: the log was cut there."""
        recent = self._logs.get(stream_id)
        while recent is not None and recent.records and recent.end > position:
            size = size_of(recent.records.pop())
            recent.bytes -= size
            self.bytes -= size

    def forget_log(self, stream_id: int) -> None:
        """Drop all records of a log: its stream was deleted, or has another log by now."""
        recent = self._logs.pop(stream_id, None)
        if recent is not None:
            self.bytes -= recent.bytes

    def first_of(self, stream_id: int) -> int | None:
        """Return the position of the oldest record kept of a log; None where there is none."""
        recent = self._logs.get(stream_id)
        return recent.first if recent is not None and recent.records else None

    def read_from(self, stream_id: int, first: int, bytes_max: int) -> list[SentRecord] | None:
        """Return records from a position on, at least one and about `bytes_max` bytes; None where the first is not here."""
        recent = self._logs.get(stream_id)
        if recent is None or not recent.first <= first <= recent.end:
            return None
        found: list[SentRecord] = []
        for index in range(first - recent.first, len(recent.records)):
            record = recent.records[index]
            bytes_max -= size_of(record)
            if found and bytes_max < 0:
                break
            found.append(record)
        return found


def size_of(record: SentRecord) -> int:
    """Return the bytes that a record counts."""
    return len(record.meta) + len(record.body) + RECORD_BYTES
