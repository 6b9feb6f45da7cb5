"""The journal's writer: one sequence of frames for all streams of a node, over numbered segments. Sans-I/O.

`append` gives each record its place at once; `flush` turns the pending frames into disk operations that the caller runs as one
job. One job runs at a time: the next flush follows when the one before is done. Every frame advertises the durable LSN of the
moment when it was written; a watermark does so when there is nothing else to write.

Segments are zero-filled before use and used again when released, for a file that need not grow syncs faster. A few are kept
ahead as spares; space for `segments_spare` whole segments is a reserve that ordinary records (publishes) may not touch, so
that acks, deletes and settings continue when the disk is full. A record never spans segments; one that is longer than a segment
makes its segment longer.

An LSN grows without end: the segment's `base` + the offset in its file. See docs/decisions/0003-one-journal.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from waymaker_core.model.disk_ops import Chunk, CreateFile, Delete, DiskOp, Rename, SyncDir, SyncFile, Write
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import Record
from waymaker_core.storage import record_codec
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.errors import JournalFull
from waymaker_core.storage.frame import (
    CLEAN,
    COMPLETE,
    CUT,
    HEADER_BYTES,
    PADDING,
    WATERMARK,
    encode_header,
    frame_bytes,
    padded,
)
from waymaker_core.storage.journal.facts import FACT_VERSION
from waymaker_core.storage.journal.places import RecordPlaces
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES, SegmentHeader, encode_segment_header
from waymaker_core.storage.paths import JOURNAL, segment_path


class Encoded(NamedTuple):
    """A record as its frame holds it: kind, version and meta. Its stored bodies travel beside it."""

    kind: int
    version: int
    meta: bytes


class Segment:
    """A segment in use: its number, the LSN of its first byte, the file offset where its frames end, its size."""

    __slots__ = ("number", "base", "end", "size", "path")

    def __init__(self, number: int, base: int, end: int, size: int) -> None:
        self.number = number
        self.base = base
        self.end = end
        self.size = size
        self.path = segment_path(number)


@dataclass(slots=True, eq=False)
class JournalState:
    """The state of a journal, as recovery found it.

    `segments`: those that hold records, oldest first; the last one is written to. `spares`: (number, size) of the ones
    ready after it. `free`: released files by number, to be used again. `durable_lsn`: all below it is synced;
    `advertised_lsn`: the greatest durable LSN in a frame on disk.
    """

    key: int
    open_epoch: int
    segments: list[Segment]
    spares: list[tuple[int, int]]
    free: list[int]
    durable_lsn: int
    advertised_lsn: int
    places: RecordPlaces | None = None
    """Places of records, on a member of a cluster."""


@dataclass(slots=True, eq=False)
class Flush:
    """The pending frames as one job: `ops` for the JOURNAL lane, up to `end_lsn`.

    With `synced` the job ends in a sync, and its records are durable when it is done; else they are only written. A job that
    failed for want of space is run again with the very same `ops`, until it succeeds: other bytes at the same place could
    later be taken for a continuation. After any other failure the node halts.
    """

    ops: list[DiskOp]
    end_lsn: int
    byte_count: int
    synced: bool
    advertises_lsn: int
    """The durable LSN in its frames, or -1 without frames."""


@dataclass(slots=True, eq=False)
class SpareJob:
    """A spare segment in the making: `ops` for the BACKGROUND lane; `recycled` is the number of the file it was, or 0."""

    number: int
    size: int
    ops: list[DiskOp]
    recycled: int


@dataclass(slots=True, eq=False)
class _Frame:
    """A frame with its place in a segment; its header is written by the flush."""

    segment: Segment
    offset: int
    opens: int
    """LSN where the segment before ends, if this frame is the first of its segment; else -1."""
    flags: int
    kind: int
    version: int
    stream_id: int
    position: int
    meta: bytes
    body: bytes
    body_crc: int


class Journal:
    """The writer. For reading: `pending_count`, `records`, `durable_lsn`, `end_lsn`, `spares`, `free`."""

    def __init__(self, state: JournalState, limits: Limits) -> None:
        assert state.segments, "a journal has a segment to write to"
        self._key = state.key
        self._open_epoch = state.open_epoch
        self._limits = limits
        self._segments = state.segments
        self.spares = state.spares
        self.free = state.free
        self.durable_lsn = state.durable_lsn
        self._advertised_lsn = state.advertised_lsn
        self._reserve_bytes = limits.segments_spare * limits.segment_bytes
        self._free_max = free_segments_max(limits)
        self.places = state.places
        self.kept: list[Segment] = []
        """Released segments that are kept under their names, oldest first."""
        self._keep_from: int | None = None
        self.records = 0
        """Records appended since the start."""
        self._gather: list[_Frame] = []
        self._data_end = self.end_lsn
        self._dirty: list[Segment] = []
        self._flush: Flush | None = None
        self._flush_first: Segment | None = None
        self._spare: SpareJob | None = None

    # ------------------------------------------------------------ pending frames

    @property
    def end_lsn(self) -> int:
        """Return the LSN behind the last frame that has its place."""
        last = self._segments[-1]
        return last.base + last.end

    @property
    def pending_count(self) -> int:
        """Return how many records and watermarks wait for a flush."""
        return len(self._gather)

    def fits(self, frame_bytes: int, ordinary: bool, ahead_bytes: int = 0, ahead_largest: int = 0) -> bool:
        """Return True if a frame of at most `frame_bytes` fits allocated segments now; `ordinary` leaves the reserve.

        `ahead_bytes`: what the caller will append before it, in frames of at most `ahead_largest` bytes. With those the
        answer is conservative, since it is not known how they fill the segments. A record longer than a segment needs a
        spare and lengthens it.
        """
        last = self._segments[-1]
        left, spares = last.size - last.end, 0
        need, largest = ahead_bytes + frame_bytes, max(ahead_largest, frame_bytes)
        while need > left:
            if spares == len(self.spares):
                return False
            if ahead_bytes:
                # Before it begins the next segment a writer fills this one up to less than its largest frame.
                need -= max(0, left - largest + 1)
            left = self.spares[spares][1] - SEGMENT_HEADER_BYTES
            spares += 1
            if not ahead_bytes:
                left = max(left, need)
        if not ordinary:
            return True
        left -= need
        for _, size in self.spares[spares:]:
            left += size
        return left >= self._reserve_bytes

    def append(
        self,
        stream_id: int,
        position: int,
        record: Record,
        body_parts: list[bytes] | None = None,
        ordinary: bool = False,
        flags: int = 0,
    ) -> Chunk | None:
        """Add one record; return where its stored bodies will lie, or None if it has none.

        `JournalFull`, before anything is changed, if there is no free space for it.
        """
        encoded = Encoded(record.KIND, record_codec.version_of(record), record_codec.encode(record))
        body = b""
        if body_parts:
            body = body_parts[0] if len(body_parts) == 1 else b"".join(body_parts)
        assert record_codec.body_bytes(record) == len(body), "a record says how long its bodies are"
        return self.append_encoded(stream_id, position, encoded, body, ordinary, flags)

    def append_encoded(
        self, stream_id: int, position: int, encoded: Encoded, body: bytes, ordinary: bool = False, flags: int = 0
    ) -> Chunk | None:
        """Add one record as it was encoded; otherwise as `append`."""
        kind, version, meta = encoded
        body_crc = crc32c(body) if body else 0
        frame = self._place(flags, kind, version, stream_id, position, meta, body, body_crc, ordinary=ordinary)
        self.records += 1
        self._data_end = self.end_lsn
        if self.places is not None:
            size = frame_bytes(len(meta), len(body))
            self.places.note_place(stream_id, position, frame.segment.number, frame.offset, size)
        if not body:
            return None
        return Chunk(frame.segment.path, frame.offset + HEADER_BYTES + padded(len(meta)), len(body), body_crc)

    def append_fact(self, kind: int, meta: bytes, stream_id: int = 0, position: int = 0) -> None:
        """Add a local frame. `JournalFull`, before anything is changed, if there is no free space for it."""
        self._place(0, kind, FACT_VERSION, stream_id, position, meta, b"", 0, ordinary=False)
        self._data_end = self.end_lsn
        if kind == CUT and self.places is not None:
            self.places.void_above(stream_id, position)

    def watermark(self, clean: bool = False, complete: bool = False) -> None:
        """Add a watermark, if there is free space for it. `complete`: records hold every delivery."""
        if self.fits(HEADER_BYTES, ordinary=False):
            flags = (CLEAN if clean else 0) | (COMPLETE if complete else 0)
            self._place(flags, WATERMARK, 1, 0, 0, b"", b"", 0, ordinary=False)

    def watermark_wanted(self) -> bool:
        """Return True if a record is durable and no frame advertises it yet: an idle node then writes a watermark."""
        return not self._gather and self._flush is None and min(self.durable_lsn, self._data_end) > self._advertised_lsn

    def _place(
        self, flags: int, kind: int, version: int, stream_id: int, position: int, meta: bytes, body: bytes, body_crc: int,
        *, ordinary: bool,
    ) -> _Frame:  # fmt: skip
        size = frame_bytes(len(meta), len(body))
        if not self.fits(size, ordinary):
            raise JournalFull(f"no room for a record of {size} bytes")
        segment, opens = self._segments[-1], -1
        if size > segment.size - segment.end:
            opens = segment.base + segment.end
            segment = self._roll()
        frame = _Frame(segment, segment.end, opens, flags, kind, version, stream_id, position, meta, body, body_crc)
        segment.end += size
        segment.size = max(segment.size, segment.end)
        self._gather.append(frame)
        return frame

    def _roll(self) -> Segment:
        """Begin the first spare segment."""
        last = self._segments[-1]
        number, size = self.spares.pop(0)
        assert number == last.number + 1
        segment = Segment(number, last.base + last.size, SEGMENT_HEADER_BYTES, size)
        self._segments.append(segment)
        return segment

    # ------------------------------------------------------------ jobs

    def flush(self, sync: bool = True) -> Flush | None:
        """Return all pending frames as one job, or None where there is nothing to do. The caller bounds what it appends.

        With `sync` it also syncs what earlier flushes left unsynced, even if no frame is pending.
        """
        assert self._flush is None, "one flush at a time"
        taken, self._gather = self._gather, []
        if not taken and not (sync and self._dirty):
            return None
        ops: list[DiskOp] = []
        byte_count = 0
        start = 0
        while start < len(taken):
            segment = taken[start].segment
            stop = start + 1
            while stop < len(taken) and taken[stop].segment is segment:
                stop += 1
            write = self._write(segment, taken[start:stop])
            byte_count += sum(map(len, write.parts))
            ops.append(write)
            if segment not in self._dirty:
                self._dirty.append(segment)
            start = stop
        if sync:
            ops += [SyncFile(segment.path) for segment in self._dirty]
            self._dirty = []
        self._flush_first = taken[0].segment if taken else None
        self._flush = Flush(ops, self.end_lsn, byte_count, sync, self.durable_lsn if taken else -1)
        return self._flush

    def _write(self, segment: Segment, frames: list[_Frame]) -> Write:
        """Return one write of neighbouring frames, the segment's header before its first."""
        parts: list[bytes] = []
        bodies: list[tuple[int, bytes]] = []
        offset = frames[0].offset
        if frames[0].opens >= 0:
            header = SegmentHeader(self._open_epoch, segment.number, segment.base, frames[0].opens, self.durable_lsn)
            parts.append(encode_segment_header(self._key, header))
            offset = 0
        for frame in frames:
            meta, body = frame.meta, frame.body
            if body:
                bodies.append((frame.offset + HEADER_BYTES + padded(len(meta)), body))
            parts.append(
                encode_header(
                    self._key,
                    frame.kind,
                    frame.version,
                    frame.flags,
                    segment.number,
                    frame.stream_id,
                    frame.position,
                    self.durable_lsn,
                    self._open_epoch,
                    len(meta),
                    len(body),
                    crc32c(meta),
                    frame.body_crc,
                )
            )
            parts += (meta, PADDING[-len(meta) & 7], body, PADDING[-len(body) & 7])
        return Write(segment.path, offset, parts, bodies or None)

    def done(self, flush: Flush) -> None:
        """Note that the flush's job succeeded."""
        assert flush is self._flush
        self._flush = None
        if flush.synced:
            self.durable_lsn = flush.end_lsn
        self._advertised_lsn = max(self._advertised_lsn, flush.advertises_lsn)

    def spare_job(self) -> SpareJob | None:
        """Return the job of the next spare segment, or None: there are enough, or one is being made."""
        # One more than the reserve, so that publishes have a next segment that they may use.
        if self._spare is not None or len(self.spares) > self._limits.segments_spare:
            return None
        number = (self.spares[-1][0] if self.spares else self._segments[-1].number) + 1
        path = segment_path(number)
        ops: list[DiskOp]
        if self.free:
            recycled = self.free.pop()
            ops = [Rename(segment_path(recycled), path), SyncDir(JOURNAL)]
        else:
            recycled = 0
            ops = [Delete(path), CreateFile(path, self._limits.segment_bytes), SyncFile(path), SyncDir(JOURNAL)]
        self._spare = SpareJob(number, self._limits.segment_bytes, ops, recycled)
        return self._spare

    def spare_done(self, job: SpareJob) -> None:
        """Note that the spare is ready."""
        assert job is self._spare
        self._spare = None
        self.spares.append((job.number, job.size))

    def spare_failed(self, job: SpareJob) -> list[DiskOp]:
        """Note that the spare could not be made (no space). Return what clears its remains; `spare_job` may be called again."""
        assert job is self._spare
        self._spare = None
        return [Delete(segment_path(job.number))]

    def give_up_segment(self) -> list[DiskOp]:
        """Return the deletion of a segment that was kept to be used again, if there is one: the disk is full."""
        return [Delete(segment_path(self.free.pop()))] if self.free else []

    # ------------------------------------------------------------ release

    def current_segment(self) -> int:
        """Return the number of the oldest segment with a record that is not done yet: the cut of a checkpoint that begins now.

        All that lies in older segments is done (durable, or written where syncs are lazy). A checkpoint whose snapshots are
        taken from now on, of every stream with records there, may release the segments below this number.
        """
        if self._flush is not None and self._flush_first is not None:
            return self._flush_first.number
        return self._gather[0].segment.number if self._gather else self._segments[-1].number

    def place(self) -> tuple[int, int]:
        """Return the segment in which the journal ends, and the offset of its end in it."""
        return self._segments[-1].number, self._segments[-1].end

    def newest_segment(self) -> int:
        """Return the number of the segment of the last frame that has its place."""
        return self._segments[-1].number

    def oldest_segment(self) -> int:
        """Return the number of the oldest segment that is kept."""
        return self._segments[0].number

    def bytes_from(self, number: int) -> int:
        """Return the LSN where a segment begins that is in use."""
        return next(segment.base for segment in self._segments if segment.number == number)

    @property
    def segment_count(self) -> int:
        """Return how many segments hold records, spares not counted."""
        return len(self._segments)

    def journal_bytes(self) -> int:
        """Return the bytes from the first frame of the oldest segment kept to the end."""
        return sum(segment.end - SEGMENT_HEADER_BYTES for segment in self._segments)

    def release(self, first_needed: int) -> list[DiskOp]:
        """Release segments below `first_needed`, once a manifest that begins there is durable and no chunk points there.

        Some are kept to be used again; the rest is deleted by the operations returned (none: nothing to do).
        """
        ops: list[DiskOp] = []
        while self._segments[0].number < first_needed and len(self._segments) > 1:
            segment = self._segments.pop(0)
            if segment in self._dirty:
                self._dirty.remove(segment)
            if self._keep_from is not None and segment.number >= self._keep_from:
                self.kept.append(segment)
            else:
                ops += self._reuse(segment)
        self._release_places()
        return ops

    def keep_from(self, first: int | None) -> list[DiskOp]:
        """Keep released segments from a number on under their names (None: none). Return what deletes others."""
        self._keep_from = first
        ops: list[DiskOp] = []
        while self.kept and (first is None or self.kept[0].number < first):
            ops += self._reuse(self.kept.pop(0))
        self._release_places()
        return ops

    def _release_places(self) -> None:
        """Forget where records stood in segments that are not kept any more."""
        if self.places is not None:
            self.places.release_below((self.kept or self._segments)[0].number)

    @property
    def kept_bytes(self) -> int:
        """Return the bytes of the released segments that are kept."""
        return sum(segment.size for segment in self.kept)

    def _reuse(self, segment: Segment) -> list[DiskOp]:
        """Let a released segment be used again, or return its deletion."""
        # It is to be a spare, and spares have one size: one that a long record made longer is deleted.
        if segment.size == self._limits.segment_bytes and len(self.free) < self._free_max:
            self.free.append(segment.number)
            return []
        return [Delete(segment.path)]


PRODUCER_SPAN_BYTES = 28
"""Bytes that a span of a producer takes in a publish record, beside what `frame_bytes_max` counts."""


def frame_bytes_max(message_count: int, subject_bytes: int, body_bytes: int, drops: int = 0) -> int:
    """Return an upper bound of the bytes a publish record takes in the journal, before it is encoded.

    `drops` counts the single messages that it drops.
    """
    # 30 a message: five columns at their widest (28 bytes), and a NUL between subjects. 96: the fields that a record has once.
    return HEADER_BYTES + 96 + 30 * message_count + subject_bytes + 16 * drops + padded(body_bytes) + 8


def free_segments_max(limits: Limits) -> int:
    """Return how many released segments are kept to be used again: about what is written between two checkpoints."""
    return limits.checkpoint_journal_bytes // limits.segment_bytes + 2
