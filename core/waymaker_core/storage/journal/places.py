"""Places of records: by position of a log, the frame in the journal that holds the record. Members of a cluster keep them.

They are columns of numbers, in memory only; a start finds them again, for it reads the frames. A position has the place of its
last frame: a record that a checkpoint carried forward is read from where it stands the second time. What is below the oldest
segment that is kept has no place. Positions of one log are without a gap: a frame that leaves one begins anew.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple


class Place(NamedTuple):
    """The frame of one record: its position, the number of its segment, where it begins there, and its bytes."""

    position: int
    segment: int
    offset: int
    size: int


class _Column:
    """The places of one log, from position `first` on; `skip` of them at the front are let go of."""

    __slots__ = ("first", "skip", "segments", "offsets", "sizes")

    def __init__(self, first: int) -> None:
        self.first = first
        self.skip = 0
        self.segments = array("Q")
        self.offsets = array("Q")
        self.sizes = array("Q")

    @property
    def end(self) -> int:
        return self.first + len(self.segments) - 1


class RecordPlaces:
    """The places of the records of all logs."""

    def __init__(self) -> None:
        self._logs: dict[int, _Column] = {}

    def note_place(self, stream_id: int, position: int, segment: int, offset: int, size: int) -> None:
        """Note the frame of a record; one that stands there again has its last place."""
        column = self._logs.get(stream_id)
        if column is None or not column.first + column.skip <= position <= column.end + 1:
            column = self._logs[stream_id] = _Column(position)
        at = position - column.first
        if at < len(column.segments):
            column.segments[at], column.offsets[at], column.sizes[at] = segment, offset, size
        else:
            column.segments.append(segment)
            column.offsets.append(offset)
            column.sizes.append(size)

    def void_above(self, stream_id: int, position: int) -> None:
        """Forget the records above a position: the log was cut there."""
        column = self._logs.get(stream_id)
        if column is None:
            return
        keep = max(0, position + 1 - column.first)
        if keep <= column.skip:
            del self._logs[stream_id]
        else:
            del column.segments[keep:], column.offsets[keep:], column.sizes[keep:]

    def forget_log(self, stream_id: int) -> None:
        """Forget all records of a log: its stream was deleted, or has another log by now."""
        self._logs.pop(stream_id, None)

    def release_below(self, oldest: int) -> None:
        """Forget what stands in segments below a number."""
        for stream_id, column in list(self._logs.items()):
            segments, skip = column.segments, column.skip
            while skip < len(segments) and segments[skip] < oldest:
                skip += 1
            column.skip = skip
            if skip == len(segments):
                del self._logs[stream_id]
            elif 2 * skip > len(segments):
                del column.segments[:skip], column.offsets[:skip], column.sizes[:skip]
                column.first += skip
                column.skip = 0

    def first_of(self, stream_id: int) -> int | None:
        """Return the position of the oldest record of a log that has a place; None where there is none."""
        column = self._logs.get(stream_id)
        return None if column is None else column.first + column.skip

    def places_from(self, stream_id: int, first: int, last: int, bytes_max: int) -> list[Place]:
        """Return the places of records from a position on, at least one and about `bytes_max` bytes; empty if it has none."""
        column = self._logs.get(stream_id)
        if column is None or not column.first + column.skip <= first <= min(last, column.end):
            return []
        found: list[Place] = []
        for at in range(first - column.first, min(last, column.end) - column.first + 1):
            bytes_max -= column.sizes[at]
            if found and bytes_max < 0:
                break
            found.append(Place(column.first + at, column.segments[at], column.offsets[at], column.sizes[at]))
        return found
