"""Verification of a data directory at rest: everything is read and nothing is changed. Sans-I/O.

It follows the order of recovery (manifest, checkpoint chain, journal), then reads every block file and shared one that the
streams' states name: each chunk against its checksum, each index against its own and against its chunks. Where recovery
stops at damage that belongs to no stream, verification continues as far as it can and reports all it finds. Damage by
which nothing is lost is a finding too, a harmless one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from waymaker_core.model.disk_ops import Chunk, DiskFailure, DiskOp, FailureKind, OpResult, ReadChunk
from waymaker_core.model.limits import Limits
from waymaker_core.storage.blocks.block_file import FILE_HEADER_BYTES, check_file_header
from waymaker_core.storage.blocks.block_index import HOLE, BlockIndex, decode_index
from waymaker_core.storage.disk_steps import Steps, read
from waymaker_core.storage.errors import CorruptRecord, StoreRefused, UnknownVersion
from waymaker_core.storage.format_version import FORMAT_VERSION
from waymaker_core.storage.frame import FrameHeader, directory_key
from waymaker_core.storage.journal.reader import JournalReader
from waymaker_core.storage.manifest import Manifest
from waymaker_core.storage.paths import JOURNAL, block_owner, file_number
from waymaker_core.storage.recovery.recovery import (
    list_store,
    read_chain,
    read_manifest,
    segment_sizes,
)
from waymaker_core.storage.recovery.replay import Quarantine, ReadRecord, Replay, Target

NOBODY: Final = -1
"""The stream id of a finding that belongs to no stream."""


@dataclass(slots=True, eq=False)
class Finding:
    """Something wrong: `stream_id` is the stream it belongs to, or -1. `harmless`: it takes nothing away (an orphan)."""

    path: str
    offset: int
    stream_id: int
    detail: str
    harmless: bool = False

    def __repr__(self) -> str:
        return f"Finding({self.path} at {self.offset}, stream {self.stream_id}: {self.detail})"


class VerifyTarget(Target, Protocol):
    """A recovery target that can also say which chunks and indexes its streams name."""

    def chunks(self) -> Iterable[tuple[int, Chunk]]:
        """Yield (stream id, chunk) of all open blocks, and of blocks without an index of their own."""
        ...

    def indexes(self) -> Iterable[tuple[int, Chunk]]:
        """Yield (stream id, where its index lies) of all sealed blocks."""
        ...


@dataclass(slots=True, eq=False)
class Report:
    """The result of a verification: what it read and found. `version`: that of the directory's format. `is_new`:
    there is nothing yet to verify."""

    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    bytes_read: int = 0
    records: int = 0
    messages: int = 0
    is_new: bool = False
    version: int = FORMAT_VERSION

    @property
    def has_damage(self) -> bool:
        """Return True if there is damage by which something is lost."""
        return any(not finding.harmless for finding in self.findings)


class _Watch(Replay):
    """A replay that reports what recovery would stop at or only mention, and continues."""

    def __init__(self, target: Target, report: Report) -> None:
        super().__init__(target)
        self._report = report
        self._damages: list[Finding] = []
        """Damaged frames whose records may follow once more."""

    def blame(self, stream_id: int, path: str, offset: int, detail: str) -> None:
        if stream_id not in self.quarantined:
            self._report.findings.append(Finding(path, offset, stream_id, detail))
            self.quarantined[stream_id] = Quarantine(stream_id, path, offset, detail)
            if stream_id:
                self._target.quarantine(self.quarantined[stream_id])

    def lost(self, path: str, offset: int, detail: str) -> None:
        self._report.findings.append(Finding(path, offset, NOBODY, detail))

    def unknown(self, stream_id: int, entries: list[ReadRecord]) -> None:
        first = entries[0]
        detail = f"{len(entries)} records of a stream that the catalog does not know yet; they are kept"
        self._report.findings.append(Finding(first.path, first.offset, stream_id, detail, harmless=True))

    def damaged(self, path: str, offset: int, header: FrameHeader, problem: str) -> None:
        known = len(self.warnings)
        super().damaged(path, offset, header, problem)
        if len(self.warnings) > known:
            self.warnings.pop()
            self._report.findings.append(Finding(path, offset, header.stream_id, problem, harmless=True))
        else:
            self._damages.append(Finding(path, offset, header.stream_id, problem))

    def end(self) -> None:
        super().end()
        for finding in self._damages:
            quarantine = self.quarantined.get(finding.stream_id)
            if quarantine is not None and (quarantine.path, quarantine.offset) != (finding.path, finding.offset):
                self._report.findings.append(finding)


def verify(target: VerifyTarget, limits: Limits) -> Generator[DiskOp, OpResult, Report]:
    """Read everything. Driven like `recover`; only yields `ListDir`, `Read` and `ReadChunk`.

    Raises `StoreRefused` where there is no readable manifest to begin with, `DiskFailure` where the disk itself fails.
    """
    _ = limits  # the formats carry their own sizes; kept so that callers need not care
    report = Report()
    folders = yield from list_store()
    manifest = yield from read_manifest(folders)
    if manifest is None or manifest.open_epoch == 0:
        report.is_new = True
        return report
    report.version = manifest.version
    report.files = 1 + sum(len(folders[folder]) for folder in folders if folder)
    watch = _Watch(target, report)
    try:
        yield from read_chain(manifest, folders, watch)
        try:
            yield from _journal(manifest, folders, watch, report)
        finally:
            watch.end()
            report.findings.sort(key=lambda finding: (finding.path, finding.offset))
        for finding in report.findings:
            # A stream that was deleted behind its damage misses nothing; recovery only mentions it.
            finding.harmless = finding.harmless or (finding.stream_id > 0 and target.is_deleted(finding.stream_id))
        for path in watch.check_files(manifest, folders):
            report.findings.append(
                Finding(path, 0, NOBODY, "nobody names this file; it will be deleted", harmless=True)
            )
    except StoreRefused as refused:
        report.findings.append(Finding(refused.path, refused.offset, NOBODY, refused.detail))
    report.findings += [Finding("", 0, NOBODY, warning, harmless=True) for warning in watch.warnings]
    report.records = watch.replayed
    yield from _Blocks(manifest, target, folders, report).walk()
    return report


def _journal(manifest: Manifest, folders: dict[str, dict[str, int]], watch: _Watch, report: Report) -> Steps:
    key = directory_key(manifest.directory_id)
    reader = JournalReader(key, manifest.open_epoch, manifest.first_segment, segment_sizes(folders), watch)
    try:
        yield from reader.walk()
    finally:
        report.bytes_read += reader.bytes_read
    if reader.torn_bytes:
        last = reader.segments[-1]
        detail = f"a torn tail of {reader.torn_bytes} bytes, never confirmed; it will be cut"
        report.findings.append(Finding(last.path, last.end, NOBODY, detail, harmless=True))


class _Blocks:
    """Reads the block and tail files that the streams name."""

    def __init__(
        self, manifest: Manifest, target: VerifyTarget, folders: dict[str, dict[str, int]], report: Report
    ) -> None:
        self._key = directory_key(manifest.directory_id)
        self._target = target
        self._folders = folders
        self._report = report

    def _found(self, path: str, offset: int, stream_id: int, detail: str) -> None:
        self._report.findings.append(Finding(path, offset, stream_id, detail))

    def walk(self) -> Steps:
        """Check headers, then indexes with their chunks, then single chunks."""
        seen: dict[str, int] = {}
        for stream_id, path in self._target.files():
            if path not in seen and self._present(path):
                seen[path] = stream_id
                yield from self._header(path, stream_id)
        for stream_id, chunk in self._target.indexes():
            yield from self._index(stream_id, chunk)
        for stream_id, chunk in self._target.chunks():
            if chunk.path.startswith(f"{JOURNAL}/") or self._present(chunk.path):
                yield from self._chunk(stream_id, chunk)

    def _present(self, path: str) -> bool:
        folder, _, name = path.partition("/")
        return name in self._folders.get(folder, {})

    def _header(self, path: str, stream_id: int) -> Steps:
        folder, _, name = path.partition("/")
        owner = stream_id if block_owner(path) is not None else NOBODY
        data = yield from read(path, 0, FILE_HEADER_BYTES)
        try:
            check_file_header(self._key, path, file_number(folder, name) or 0, data)
        except (CorruptRecord, UnknownVersion) as problem:
            self._found(path, 0, owner, str(problem))

    def _chunk(self, stream_id: int, chunk: Chunk) -> Generator[DiskOp, OpResult, bytes | None]:
        """Read one chunk's bytes; None with a finding."""
        try:
            data = yield ReadChunk(chunk)
        except DiskFailure as failure:
            if failure.kind not in (FailureKind.CORRUPT, FailureKind.MISSING):
                raise
            self._found(chunk.path, chunk.offset, stream_id, f"{chunk.length} bytes do not match their checksum")
            return None
        assert isinstance(data, bytes)
        self._report.bytes_read += len(data)
        return data

    def _index(self, stream_id: int, location: Chunk) -> Steps:
        if not self._present(location.path):
            return
        data = yield from self._chunk(stream_id, location)
        if data is None:
            return
        try:
            index = decode_index(data)
            problem = _chunk_table_problem(index)
        except (CorruptRecord, UnknownVersion) as error:
            problem = str(error)
        else:
            self._report.messages += len(index.postings)
            for chunk in index.chunks:
                if self._present(chunk.path):
                    yield from self._chunk(stream_id, chunk)
                else:
                    self._found(chunk.path, 0, stream_id, "the file is missing")
        if problem:
            self._found(location.path, location.offset, stream_id, problem)


def _chunk_table_problem(index: BlockIndex) -> str:
    """Check that each chunk is as long as the bodies it holds; return the fault, or an empty text."""
    firsts = [*index.chunk_firsts, len(index.lengths)]
    if index.chunk_firsts and any(ident != HOLE for ident in index.ids[: firsts[0]]):
        return "messages before the first chunk"
    for number, chunk in enumerate(index.chunks):
        bodies = sum(index.lengths[firsts[number] : firsts[number + 1]])
        if firsts[number] > firsts[number + 1] or index.chunk_skips[number] + bodies > chunk.length:
            return f"chunk {number} is shorter than the messages it holds"
    return "" if index.chunks or not index.postings else "messages without a chunk"
