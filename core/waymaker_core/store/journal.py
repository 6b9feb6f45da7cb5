"""The journal's writer: one sequence of frames for all streams of a node, over numbered segments. Sans-I/O.

Records gather by `append`, which gives each its place at once; `flush` turns the gather into disk operations that the caller
runs as one job. One job at a time: the next flush is asked for when the one before is done. Every frame says what was
durable when it was written (`durable`); a `mark` says so when there is nothing else to write.

Segments are zero-filled before use and used again when released, for a file that need not grow syncs faster. A few are kept
ahead as spares; the last `segments_spare` of them are a reserve that ordinary records (publishes) may not touch, so that
acks, deletes and settings go on when the disk is full. A record never spans segments; one that is longer than a segment
makes its segment longer.

An address in the journal is a number that grows without end: the segment's `base` + the offset in its file.
"""

from __future__ import annotations

from waymaker_core.disk import Chunk, DiskOp
from waymaker_core.limits import Limits
from waymaker_core.records import Record


class Segment:
    """A segment in use: its number, the address of its first byte, where its frames end (file offset), its size."""

    __slots__ = ("number", "base", "end", "size")

    def __init__(self, number: int, base: int, end: int, size: int) -> None:
        self.number = number
        self.base = base
        self.end = end
        self.size = size


class JournalState:
    """Where to go on, as recovery found it.

    `segments`: those that hold records, oldest first; the last one is written to. `spares`: (number, size) of the ones
    ready after it. `free`: released files by number, to be used again. `durable`: address below which all is synced.
    """

    __slots__ = ("key", "boot", "segments", "spares", "free", "durable", "stamped")

    def __init__(
        self, key: int, boot: int, segments: list[Segment], spares: list[tuple[int, int]], free: list[int], durable: int,
        stamped: int,
    ) -> None:  # fmt: skip
        self.key = key
        self.boot = boot
        self.segments = segments
        self.spares = spares
        self.free = free
        self.durable = durable
        self.stamped = stamped
        """The greatest `durable` that a frame on disk says."""


class Entry:
    """A record on its way: `chunk` is where its stored bodies will lie (None: it has none)."""

    __slots__ = ("stream_id", "position", "record", "chunk")

    def __init__(self, stream_id: int, position: int, record: Record, chunk: Chunk | None) -> None:
        self.stream_id = stream_id
        self.position = position
        self.record = record
        self.chunk = chunk


class Flush:
    """A gather as a job: `ops` for the JOURNAL lane and the entries they make durable, in order.

    With `synced` the job ends in a sync and its entries are durable when it is done; else they are only written. `end` is
    the address behind it. A job that failed for want of space is run again with the very same `ops`; any other failure is
    the end of the node.
    """

    __slots__ = ("ops", "entries", "end", "byte_count", "synced")

    def __init__(self, ops: list[DiskOp], entries: list[Entry], end: int, byte_count: int, synced: bool) -> None:
        self.ops = ops
        self.entries = entries
        self.end = end
        self.byte_count = byte_count
        self.synced = synced


class SpareJob:
    """A spare segment in the making: `ops` for the BACKGROUND lane; `recycled` is the number of the file it was, or 0."""

    __slots__ = ("number", "size", "ops", "recycled")

    def __init__(self, number: int, size: int, ops: list[DiskOp], recycled: int) -> None:
        self.number = number
        self.size = size
        self.ops = ops
        self.recycled = recycled


class Journal:
    """The writer. Attributes for reading: `gathered_bytes`, `gathered_count`, `durable`, `written` (addresses), `spares`."""

    def __init__(self, state: JournalState, limits: Limits) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------ gathering

    def fits(self, frame_bytes: int, ordinary: bool) -> bool:
        """Whether a record whose frame takes at most `frame_bytes` has allocated room now; `ordinary` leaves the reserve."""
        raise NotImplementedError

    def append(
        self,
        stream_id: int,
        position: int,
        record: Record,
        body_parts: list[bytes] | None = None,
        ordinary: bool = False,
    ) -> Entry:
        """Gather one record; returns its entry, with its chunk. Raises `JournalFull` (nothing changed) without room."""
        raise NotImplementedError

    def mark(self, clean: bool = False) -> None:
        """Gather a watermark. Left out where there is no room for it."""
        raise NotImplementedError

    def mark_wanted(self) -> bool:
        """Whether something is durable that no frame says yet: worth a mark when there is nothing else to write."""
        raise NotImplementedError

    # ------------------------------------------------------------ jobs

    def flush(self, sync: bool = True) -> Flush | None:
        """The gather as one job, or None where nothing gathered (and, with `sync`, nothing waits to be synced).

        With `sync` it also syncs what earlier flushes left unsynced.
        """
        raise NotImplementedError

    def done(self, flush: Flush) -> None:
        """The flush's job succeeded."""
        raise NotImplementedError

    def spare_job(self) -> SpareJob | None:
        """The next spare segment to make ready, or None: there are enough, or one is being made."""
        raise NotImplementedError

    def spare_done(self, job: SpareJob) -> None:
        """The spare is ready."""
        raise NotImplementedError

    def spare_failed(self, job: SpareJob) -> list[DiskOp]:
        """The spare could not be made (no space). Returns what clears its remains; `spare_job` may be asked again later."""
        raise NotImplementedError

    # ------------------------------------------------------------ release

    def current_segment(self) -> int:
        """Number of the segment that the next record would be written to: the cut of a checkpoint that begins now.

        The cut holds for everything appended before: those records lie in this segment or older ones. A checkpoint that
        covers all records appended so far may release the segments below this number (see `release`).
        """
        raise NotImplementedError

    def journal_bytes(self) -> int:
        """Bytes of frames from the oldest segment kept on."""
        raise NotImplementedError

    def release(self, first_needed: int) -> list[DiskOp]:
        """Give up segments below `first_needed`, once a manifest that begins there is durable and no chunk points there.

        Some are kept to be used again; the rest is deleted by the operations returned (none: nothing to do).
        """
        raise NotImplementedError


def frame_bound(message_count: int, subject_bytes: int, body_bytes: int) -> int:
    """An upper bound of the bytes a publish record of these messages takes in the journal, before it is encoded."""
    raise NotImplementedError
