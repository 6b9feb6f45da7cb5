"""Reads of records from the journal, for replicas that lack what is not in memory any more.

A read gives some records of a log, those that are applied here: they are never cut, and have one place. It is a job on the READ
lane, and only so many are under way; further ones wait, as a few numbers each. The segments that a replica still needs are
pinned while it moves on (`segment_pins`), within the bounds of pins: what is not there any more, it gets in a transfer.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Final

from waymaker_core.api.effects import Lane, RecordsRead
from waymaker_core.api.inputs import EndReading, ReadRecords, SentRecord
from waymaker_core.model.disk_ops import DiskFailure, DiskOp, OpResult, Read
from waymaker_core.node.context import NodeState
from waymaker_core.node.transfer.segment_pins import SegmentPin, SegmentPins
from waymaker_core.storage.frame import HEADER_BYTES, content_problem, decode_header, padded
from waymaker_core.storage.journal.places import Place
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.paths import segment_path

READS_MAX: Final = 4
"""Reads under way at a time."""
GAP_BYTES: Final = 16 * 1024
"""Two frames with at most so many bytes of others between them are read at once."""
RANGE_BYTES_MAX: Final = 1 << 20
"""Bytes from which on a range takes no further frame."""


class RecordReads:
    """The reads of a node, and the pins of the replicas that they are for."""

    def __init__(self, state: NodeState, journal: Journal, pins: SegmentPins, key: int) -> None:
        self._state = state
        self._journal = journal
        self._pins = pins
        self._key = key
        self._pinned: dict[tuple[int, int], SegmentPin] = {}
        """By stream and reader."""
        self._waiting: deque[ReadRecords] = deque()
        self._under_way = 0

    def read_records(self, event: ReadRecords) -> None:
        """Begin a read, or let it wait for one to end."""
        if event.reader:
            self._pin(event)
        if self._under_way < READS_MAX:
            self._begin(event)
        else:
            self._waiting.append(event)

    def end_reading(self, event: EndReading) -> None:
        """Let go of what is pinned for a reader."""
        pin = self._pinned.pop((event.stream_id, event.reader), None)
        if pin is not None:
            self._pins.unpin(pin)

    def _pin(self, event: ReadRecords) -> None:
        """Keep the segments from the first wanted record on, where it has a place."""
        key = event.stream_id, event.reader
        places = self._places(event, 1)
        if not places:
            self.end_reading(EndReading(event.stream_id, event.reader))
            return
        segment, pin = places[0].segment, self._pinned.get(key)
        if pin is not None and not pin.lost and pin.segment <= segment:
            self._pins.move_on(pin, segment)
            return
        if pin is not None:
            self._pins.unpin(pin)
        self._pinned[key] = self._pins.pin(segment)

    def _places(self, event: ReadRecords, bytes_max: int) -> list[Place]:
        log, places = self._state.find_log(event.stream_id), self._journal.places
        if log is None or places is None or log.memory is not None or log.abandoned:
            return []
        return places.places_from(event.stream_id, event.first, log.applied, bytes_max)

    def _begin(self, event: ReadRecords) -> None:
        places = self._places(event, event.bytes_max)
        if not places:
            self._answer(event, None)
            return
        ranges = _ranges(places)
        ops: list[DiskOp] = [
            Read(segment_path(some[0].segment), some[0].offset, some[-1].offset + some[-1].size - some[0].offset)
            for some in ranges
        ]
        self._under_way += 1
        self._state.start(Lane.READ, ops, partial(self._done, event, ranges), partial(self._failed, event))

    def _done(self, event: ReadRecords, ranges: list[list[Place]], results: list[OpResult]) -> None:
        found = (
            (place, self._decode(event.stream_id, place, data, place.offset - some[0].offset))
            for some, data in zip(ranges, results, strict=True)
            for place in some
            if isinstance(data, bytes)
        )
        records: list[SentRecord] = []
        for place, record in found:
            if record is None:
                detail = f"{segment_path(place.segment)} at {place.offset}"
                self._state.log("warning", "record_unreadable", stream_id=event.stream_id, detail=detail)
                break
            records.append(record)
        self._end(event, records or None)

    def _decode(self, stream_id: int, place: Place, data: bytes, at: int) -> SentRecord | None:
        """Return the record of a frame; None if it is not there, or damaged."""
        header = decode_header(self._key, data, at)
        if header is None or (header.segment, header.stream_id, header.position) != (
            place.segment, stream_id, place.position
        ):  # fmt: skip
            return None
        content = data[at + HEADER_BYTES : at + place.size]
        if content_problem(header, content):
            return None
        body_at = padded(header.meta_length)
        meta, body = content[: header.meta_length], content[body_at : body_at + header.body_length]
        return SentRecord(header.kind, header.version, meta, body)

    def _failed(self, event: ReadRecords, failure: DiskFailure) -> None:
        self._state.log("warning", "record_unreadable", stream_id=event.stream_id, detail=str(failure))
        self._end(event, None)

    def _end(self, event: ReadRecords, records: list[SentRecord] | None) -> None:
        self._under_way -= 1
        self._answer(event, records)
        while self._waiting and self._under_way < READS_MAX:
            self._begin(self._waiting.popleft())

    def _answer(self, event: ReadRecords, records: list[SentRecord] | None) -> None:
        self._state.effects.append(RecordsRead(event.stream_id, event.reader, event.first, records))


def _ranges(places: list[Place]) -> list[list[Place]]:
    """Return places in runs, each of which is read at once."""
    ranges: list[list[Place]] = []
    for place in places:
        last = ranges[-1] if ranges else None
        if last is not None and last[-1].segment == place.segment:
            begun, end = last[0].offset, last[-1].offset + last[-1].size
            if 0 <= place.offset - end <= GAP_BYTES and place.offset + place.size - begun <= RANGE_BYTES_MAX:
                last.append(place)
                continue
        ranges.append([place])
    return ranges
