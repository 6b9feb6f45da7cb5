"""The writes of recovery: the journal's judged end made durable, and the opening counted. Sans-I/O.

Everything here may be interrupted at any operation and begun again. Until the manifest counts the opening, nothing has been
written that another judgement of the same files could not have been followed by.
"""

from __future__ import annotations

from collections.abc import Generator

from waymaker_core.model.disk_ops import (
    CreateFile,
    Delete,
    DiskFailure,
    DiskOp,
    FailureKind,
    OpResult,
    SyncDir,
    SyncFile,
    Write,
)
from waymaker_core.model.limits import Limits
from waymaker_core.storage.disk_steps import READ_BYTES, Steps, read
from waymaker_core.storage.errors import CorruptStore
from waymaker_core.storage.frame import HEADER_BYTES, directory_key
from waymaker_core.storage.journal.reader import JournalReader, Remnant
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES, SegmentHeader, encode_segment_header
from waymaker_core.storage.journal.writer import JournalState, Segment, free_segments_max
from waymaker_core.storage.manifest import Manifest, replace_ops
from waymaker_core.storage.paths import JOURNAL, RESERVE, segment_path


def perform(ops: list[DiskOp]) -> Steps:
    """Yield operations whose results are not needed."""
    for op in ops:  # noqa: UP028 (a list cannot be sent the results)
        yield op


def create(manifest: Manifest, limits: Limits) -> Generator[DiskOp, OpResult, JournalState]:
    """Make the journal's first segment; the directory is made once a manifest says that it was opened."""
    key = directory_key(manifest.directory_id)
    manifest.open_epoch = 1
    path = segment_path(manifest.first_segment)
    header = encode_segment_header(key, SegmentHeader(1, manifest.first_segment, 0, 0, 0))
    yield Delete(path)
    yield CreateFile(path, limits.segment_bytes)
    yield Write(path, 0, [header])
    yield SyncFile(path)
    yield SyncDir(JOURNAL)
    yield from perform(replace_ops(manifest))
    segment = Segment(manifest.first_segment, 0, SEGMENT_HEADER_BYTES, limits.segment_bytes)
    return JournalState(key, 1, [segment], [], [], SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES)


def reopen(
    manifest: Manifest,
    reader: JournalReader,
    sizes: dict[int, int],
    limits: Limits,
    orphans: list[str],
    erases: bool = True,
) -> Generator[DiskOp, OpResult, JournalState]:
    """Erase what is behind the journal's end, write anew what is unproven before it, sort the segments, count the opening.

    Adds the released segments that are not worth keeping to `orphans`. Without `erases` the remnants stay, as the only sign of
    a tear, until its caller has noted it and calls `erase`.
    """
    last = reader.segments[-1]
    spares, unfinished = _spares(last.number, sizes, limits)
    touched: dict[str, None] = {}
    for remnant in reader.remnants if erases else ():
        path = segment_path(remnant.segment)
        yield Write(path, remnant.offset, [bytes(HEADER_BYTES)])
        touched[path] = None
    for segment in reader.segments:
        if segment.base + segment.end > reader.proven:
            yield from _write_anew(segment, max(0, reader.proven - segment.base))
            touched[segment.path] = None
    for path in touched:
        if path not in unfinished:
            yield SyncFile(path)
    for path in unfinished:
        yield Delete(path)
    yield SyncDir(JOURNAL)
    end = last.base + last.end
    key = directory_key(manifest.directory_id)
    journal = JournalState(key, manifest.open_epoch + 1, reader.segments, spares, [], end, reader.proven)
    orphans += _keep_free(journal, sizes, manifest.first_segment, limits)
    manifest.open_epoch = journal.open_epoch
    yield from _count_opening(manifest, journal, orphans)
    return journal


def erase(remnants: list[Remnant], segment: int, end: int) -> Steps:
    """Erase remnants behind the journal's end, which is at a place of a segment now."""
    touched: dict[str, None] = {}
    for remnant in remnants:
        if (remnant.segment, remnant.offset) >= (segment, end):
            path = segment_path(remnant.segment)
            yield Write(path, remnant.offset, [bytes(HEADER_BYTES)])
            touched[path] = None
    for path in touched:
        yield SyncFile(path)


def _spares(last: int, sizes: dict[int, int], limits: Limits) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the segments ready behind the last one in use, and paths of those that are not: unfinished, or of another size."""
    spares: list[tuple[int, int]] = []
    unfinished: list[str] = []
    for number in sorted(n for n in sizes if n > last):
        if number == last + len(spares) + 1 and sizes[number] == limits.segment_bytes:
            spares.append((number, sizes[number]))
        else:
            unfinished.append(segment_path(number))
    return spares, unfinished


def _write_anew(segment: Segment, start: int) -> Steps:
    """Read a stretch of a segment and write the same bytes to the same place."""
    while start < segment.end:
        data = yield from read(segment.path, start, min(READ_BYTES, segment.end - start))
        if not data:
            raise CorruptStore(segment.path, start, "the segment ends before its frames do")
        yield Write(segment.path, start, [data])
        start += len(data)


def _keep_free(journal: JournalState, sizes: dict[int, int], first_segment: int, limits: Limits) -> list[str]:
    """Take a few of the released segments to be used again; the paths of the others."""
    others: list[str] = []
    for number in sorted(n for n in sizes if n < first_segment):
        if sizes[number] == limits.segment_bytes and len(journal.free) < free_segments_max(limits):
            journal.free.append(number)
        else:
            others.append(segment_path(number))
    return others


def _count_opening(manifest: Manifest, journal: JournalState, orphans: list[str]) -> Steps:
    """Replace the manifest. On a full disk, give up what can be spared until there is room for it.

    The manifest that was read may not be durable yet; nothing that only an older one names may be deleted before it is.
    """
    reserve = [RESERVE]
    while True:
        try:
            yield from perform(replace_ops(manifest))
        except DiskFailure as failure:
            if failure.kind is not FailureKind.NO_SPACE:
                raise
            # First what is missed least: commits wait for free segments and spares.
            if reserve:
                spared = reserve.pop()
            elif orphans:
                spared = orphans.pop()
            elif journal.free:
                spared = segment_path(journal.free.pop())
            elif journal.spares:
                spared = segment_path(journal.spares.pop()[0])
            else:
                raise
            yield SyncDir("")
            yield Delete(spared)
        else:
            return
