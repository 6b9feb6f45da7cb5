"""The journal's reader: walks the frames of all segments and judges where they end. Sans-I/O, and it changes nothing.

Frames follow one another without gaps; a segment's successor says where the frames before it end. So there is one place
where the walk stops: the first that does not hold a whole valid frame of this segment and of an open epoch not older than the
one before. The reader judges that place by evidence further on. A valid header anywhere behind it whose durable LSN lies above
the place proves that what was there had been synced, so that it was damaged since. Without such evidence it is the end of
what was written, whatever else was torn off with it: valid frames behind it belong to the same unsynced batches and were
never confirmed. See docs/decisions/0023-torn-end-is-cut.md.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from waymaker_core.model.disk_ops import Chunk, DiskOp, OpResult
from waymaker_core.storage.disk_steps import READ_BYTES, Steps, read
from waymaker_core.storage.errors import CorruptStore, UnknownStoreVersion, UnknownVersion
from waymaker_core.storage.frame import (
    ADOPT,
    ALIGNMENT,
    CLEAN,
    COMPLETE,
    HEADER_BYTES,
    MAGIC,
    WATERMARK,
    FrameHeader,
    content_problem,
    decode_header,
    frame_bytes,
    padded,
)
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES, SegmentHeader, decode_segment_header
from waymaker_core.storage.journal.writer import Segment
from waymaker_core.storage.paths import segment_path


class Sink(Protocol):
    """The receiver of what the reader finds."""

    def frame(self, path: str, offset: int, header: FrameHeader, meta: bytes, chunk: Chunk | None) -> None:
        """Take a valid frame of a record."""
        ...

    def adopt(self, path: str, offset: int, header: FrameHeader, meta: bytes) -> Steps:
        """Take a valid frame that puts another state in the place of a stream's, and read that state."""
        ...

    def damaged(self, path: str, offset: int, header: FrameHeader, problem: str) -> None:
        """Take a frame whose header is intact and whose content is not. It is proven to have been durable."""
        ...

    def lost(self, path: str, offset: int, detail: str) -> None:
        """Take damage whose extent is unknown. If this returns, the walk continues at the next valid frame."""
        ...


@dataclass(slots=True, eq=False)
class Remnant:
    """A header behind the end: 64 bytes that must not be taken for a frame again."""

    segment: int
    offset: int


class JournalReader:
    """One walk. Afterwards: `segments` (the last is where writing continues), `proven`, `clean`, `remnants`, `torn_bytes`."""

    def __init__(self, key: int, open_epoch: int, first_segment: int, sizes: dict[int, int], sink: Sink) -> None:
        self._key = key
        self._open_epoch_max = open_epoch
        self._first = first_segment
        self._sizes = sizes
        self._sink = sink
        self._open_epoch = 0
        self._evidence = -1
        """The greatest `durable` found behind a place where the walk stopped."""
        self.segments: list[Segment] = []
        self.proven = 0
        """The greatest `durable` that a valid frame says: everything below was synced."""
        self.clean = False
        """True if the latest opening of the directory ended in an orderly stop."""
        self.complete = False
        """True if the last frame is that of an orderly stop at which records held every delivery."""
        self.remnants: list[Remnant] = []
        self.torn_bytes = 0
        self.bytes_read = 0

    # ------------------------------------------------------------ the walk

    def walk(self) -> Steps:
        """Read everything; the results are attributes."""
        header = yield from self._header(self._first)
        if header is None:
            detail = "the segment's header is damaged" if self._first in self._sizes else "the segment is missing"
            raise CorruptStore(segment_path(self._first), 0, detail)
        number = self._first
        while True:
            self._enter(number, header)
            segment = Segment(number, header.base, SEGMENT_HEADER_BYTES, self._sizes[number])
            self.segments.append(segment)
            following = yield from self._segment(segment)
            if following is None:
                return
            number, header = following

    def _enter(self, number: int, header: SegmentHeader) -> None:
        self._open_epoch = header.open_epoch
        self.clean = False
        self._check_open_epoch(segment_path(number), 0, header.open_epoch)
        self.proven = max(self.proven, header.durable_lsn)

    def _check_open_epoch(self, path: str, offset: int, open_epoch: int) -> None:
        if open_epoch > self._open_epoch_max:
            detail = (
                f"written at opening {open_epoch} of the directory, but the manifest knows of {self._open_epoch_max}: it"
                " is too old"
            )
            raise CorruptStore(path, offset, detail)

    def _segment(self, segment: Segment) -> Generator[DiskOp, OpResult, tuple[int, SegmentHeader] | None]:
        """Walk one segment; the next one with its header, or None at the journal's end."""
        while True:
            broken, problem = yield from self._frames(segment)
            following = yield from self._successor(segment)
            if following is not None:
                return following
            if segment.end > segment.size:
                self._sink.lost(segment.path, segment.size, "the segment ends before its frames do")
                return None
            lsn = segment.base + segment.end
            if self._evidence <= lsn:
                yield from self._gather_evidence(segment)
            if self._evidence <= lsn:
                yield from self._judge_torn(segment)
                return None
            if broken is not None:
                self._sink.damaged(segment.path, segment.end, broken, problem)
                segment.end += frame_bytes(broken.meta_length, broken.body_length)
                continue
            place = yield from self._scan(segment.number, segment.end + ALIGNMENT, first_only=True)
            if place is None:
                return (yield from self._skip(segment))
            self._sink.lost(segment.path, segment.end, "a frame that was durable is not there")
            segment.end = place

    def _frames(self, segment: Segment) -> Generator[DiskOp, OpResult, tuple[FrameHeader | None, str]]:
        """Walk valid frames from `segment.end` on; the header of the one that is not whole (or None) and what is wrong."""
        key, path, number = self._key, segment.path, segment.number
        window, start = b"", segment.end
        while True:
            at = segment.end - start
            if len(window) - at < HEADER_BYTES:
                start, at = segment.end, 0
                window = yield from read(path, start, READ_BYTES)
                self.bytes_read += len(window)
            header = decode_header(key, window, at)
            if header is None or header.segment != number or header.open_epoch < self._open_epoch:
                return None, ""
            size = HEADER_BYTES + padded(header.meta_length) + padded(header.body_length)
            if len(window) - at < size:
                start, at = segment.end, 0
                window = yield from read(path, start, max(READ_BYTES, size))
                self.bytes_read += len(window)
            content = window[at + HEADER_BYTES : at + size]
            problem = content_problem(header, content)
            if problem:
                return header, problem
            if header.open_epoch != self._open_epoch:
                self._check_open_epoch(path, segment.end, header.open_epoch)
                self._open_epoch = header.open_epoch
            if header.durable_lsn > self.proven:
                self.proven = header.durable_lsn
            self.clean = (
                header.kind == WATERMARK and header.flags & CLEAN != 0 and header.open_epoch == self._open_epoch_max
            )
            self.complete = header.flags & COMPLETE != 0
            if header.kind == ADOPT:
                yield from self._sink.adopt(path, segment.end, header, content[: header.meta_length])
            elif header.kind != WATERMARK:
                chunk = None
                if header.body_length:
                    body_at = segment.end + HEADER_BYTES + padded(header.meta_length)
                    chunk = Chunk(path, body_at, header.body_length, header.body_crc)
                self._sink.frame(path, segment.end, header, content[: header.meta_length], chunk)
            segment.end += size

    def _successor(self, segment: Segment) -> Generator[DiskOp, OpResult, tuple[int, SegmentHeader] | None]:
        """Return the next segment if it begins exactly where this one stopped."""
        number = segment.number + 1
        header = yield from self._header(number)
        if header is None or header.open_epoch < self._open_epoch:
            return None
        lsn = segment.base + segment.end
        if header.previous_end == lsn:
            return number, header
        if header.previous_end < lsn:
            raise CorruptStore(segment_path(number), 0, f"the segment follows {header.previous_end}, not {lsn}")
        return None

    def _skip(self, segment: Segment) -> Generator[DiskOp, OpResult, tuple[int, SegmentHeader] | None]:
        """Skip from a segment whose end is lost, or whose successor's header is, to the next one; after `lost`."""
        number = segment.number + 1
        if number in self._sizes and (yield from self._header(number)) is None:
            if (yield from self._scan(number, SEGMENT_HEADER_BYTES, first_only=True)) is not None:
                self._sink.lost(segment_path(number), 0, "the segment's header is damaged")
                return number, SegmentHeader(self._open_epoch, number, segment.base + segment.size, 0, 0)
        self._sink.lost(segment.path, segment.end, "a frame that was durable is not there")
        for later in sorted(n for n in self._sizes if n > segment.number):
            header = yield from self._header(later)
            if header is not None and header.open_epoch >= self._open_epoch:
                return later, header
        return None

    def _header(self, number: int) -> Generator[DiskOp, OpResult, SegmentHeader | None]:
        """Read a segment's header; None where the file is missing, a spare, or damaged there."""
        if number not in self._sizes:
            return None
        data = yield from read(segment_path(number), 0, SEGMENT_HEADER_BYTES)
        try:
            header = decode_segment_header(self._key, data)
        except UnknownVersion as problem:
            raise UnknownStoreVersion(segment_path(number), 0, str(problem)) from problem
        return header if header is not None and header.number == number else None

    # ------------------------------------------------------------ behind the end

    def _gather_evidence(self, segment: Segment) -> Steps:
        """Look through everything behind the place where the walk stopped for headers, and what they prove."""
        self.remnants = []
        yield from self._scan(segment.number, segment.end + ALIGNMENT)
        for number in sorted(n for n in self._sizes if n > segment.number):
            header = yield from self._header(number)
            if header is not None:
                self._evidence = max(self._evidence, header.durable_lsn)
                self.remnants.append(Remnant(number, 0))
            yield from self._scan(number, SEGMENT_HEADER_BYTES)

    def _scan(self, number: int, offset: int, first_only: bool = False) -> Generator[DiskOp, OpResult, int | None]:
        """Collect valid frame headers of a segment from an offset on (see `_gather_evidence`); the first one's offset."""
        path = segment_path(number)
        first: int | None = None
        while True:
            window = yield from read(path, offset, READ_BYTES)
            self.bytes_read += len(window)
            at = window.find(MAGIC)
            while at >= 0:
                if (offset + at) % ALIGNMENT == 0:
                    header = decode_header(self._key, window, at)
                    if header is not None and header.segment == number:
                        first = offset + at if first is None else first
                        if first_only:
                            return first
                        self._evidence = max(self._evidence, header.durable_lsn)
                        self.remnants.append(Remnant(number, offset + at))
                at = window.find(MAGIC, at + 1)
            if len(window) < READ_BYTES:
                return first
            offset += READ_BYTES - HEADER_BYTES

    def _judge_torn(self, segment: Segment) -> Steps:
        """Note what the end was torn off from: the place itself, if a frame was begun there, and what lies behind it."""
        begun = yield from read(segment.path, segment.end, HEADER_BYTES)
        if begun[: len(MAGIC)] == MAGIC:
            header = decode_header(self._key, begun)
            if header is None or header.segment == segment.number:
                self.remnants.insert(0, Remnant(segment.number, segment.end))
        if self.remnants:
            self.clean = False
            last = self.remnants[-1]
            self.torn_bytes = last.offset + HEADER_BYTES - segment.end
            if last.segment != segment.number:
                self.torn_bytes += self._sizes[segment.number]
