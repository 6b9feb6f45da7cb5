"""Verification of backups and single archives at rest: every byte is read, nothing is changed, no server is asked.

An archive is held against itself (its pieces, their checksums, the order of its sequences, its totals, its consumers) and
against the line of the index that names it. Each damage is named by file and offset; the next archive is verified all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from waymaker.backups.directory import BackupMissing, open_regular, read_index, unnamed_archives
from waymaker.backups.index import INDEX_NAME, ArchiveEntry, IndexRefused
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import CodeError
from waymaker_core.storage.archive import ArchiveError, ArchiveReader, Batch, Head
from waymaker_core.storage.recovery.verify import NOBODY, Finding, Report
from waymaker_core.stream.config import validate
from waymaker_core.stream.stream import Stream

PIECE_BYTES: Final = 1 << 20
LIMITS: Final = replace(
    Limits(), name_bytes_max=1 << 16, subject_bytes_max=1 << 16, subjects_filter_max=1 << 16, consumers_max=1 << 24,
    block_size_max=1 << 31, ack_wait_max_ms=1 << 45, nak_delay_max_ms=1 << 45, inactive_min_ms=1, inactive_max_ms=1 << 45,
)  # fmt: skip
"""Wider than any server's: that a server's limits are narrower than an archive's settings is no damage of the archive."""

OnBytes = Callable[[int], None]


class BackupReport(Report):
    """A report that counts streams, too."""

    __slots__ = ("streams",)

    def __init__(self) -> None:
        super().__init__()
        self.streams = 0

    def found(self, path: str, offset: int, detail: str, *, harmless: bool = False) -> None:
        """Note a finding."""
        self.findings.append(Finding(path, offset, NOBODY, detail, harmless))


class Contents:
    """The contents of an archive: its stream's name, and the figures that an index has, too."""

    __slots__ = ("stream", "messages", "first_seq", "last_seq")

    def __init__(self) -> None:
        self.stream = ""
        self.messages = 0
        self.first_seq = 0
        self.last_seq = 0


def verify_backup(path: Path, on_bytes: OnBytes) -> BackupReport:
    """Verify a directory that `backup --all` wrote."""
    report = BackupReport()
    report.files += 1
    try:
        index = read_index(path)
    except IndexRefused as refused:
        report.found(INDEX_NAME, refused.offset, refused.detail)
        return report
    except BackupMissing as missing:
        report.found(INDEX_NAME, 0, str(missing))
        return report
    for entry in index.archives:
        _verify_entry(report, path, entry, on_bytes)
    for name in unnamed_archives(path, index):
        report.found(name, 0, "no archive of this backup; an interrupted one left it", harmless=True)
    for stream in index.damaged:
        report.found(INDEX_NAME, 0, f"stream {stream} was damaged and is not in this backup", harmless=True)
    return report


def verify_archive(path: Path, on_bytes: OnBytes) -> BackupReport:
    """Verify one archive that `backup` wrote."""
    report = BackupReport()
    _verify_file(report, path, path.name, on_bytes)
    return report


def _verify_entry(report: BackupReport, path: Path, entry: ArchiveEntry, on_bytes: OnBytes) -> None:
    before = report.bytes_read
    try:
        verified = _verify_file(report, path / entry.file, entry.file, on_bytes)
    except FileNotFoundError:
        report.found(entry.file, 0, f"the archive of stream {entry.stream} is missing")
        return
    if verified is None:
        return
    contents, sha256 = verified
    size = report.bytes_read - before
    differing = [
        f"{what} is {there}, the index says {named}"
        for what, there, named in (
            ("stream", contents.stream, entry.stream), ("length", size, entry.bytes),
            ("messages", contents.messages, entry.messages), ("first sequence", contents.first_seq, entry.first_seq),
            ("last sequence", contents.last_seq, entry.last_seq), ("SHA-256", sha256, entry.sha256),
        )
        if there != named
    ]  # fmt: skip
    if differing:
        report.found(entry.file, 0, f"not the archive that the index names: {'; '.join(differing)}")


def _verify_file(report: BackupReport, path: Path, name: str, on_bytes: OnBytes) -> tuple[Contents, str] | None:
    """Return what an archive holds, and its SHA-256; None where a finding says why it cannot be told."""
    reader, contents, sha256 = ArchiveReader(), Contents(), hashlib.sha256()
    report.files += 1
    position = 0
    try:
        with open_regular(path) as opened:
            while data := opened.read(PIECE_BYTES):
                position += len(data)
                report.bytes_read += len(data)
                sha256.update(data)
                _take(report, contents, reader, data, name)
                on_bytes(len(data))
        summary = reader.close()
    except ArchiveError as error:
        report.found(name, error.offset, error.detail)
        return None
    except FileNotFoundError:
        raise
    except OSError as error:
        report.found(name, position, error.strerror or str(error))
        return None
    contents.last_seq = summary.last_seq
    report.streams += 1
    report.messages += contents.messages
    return contents, sha256.hexdigest()


def _take(report: BackupReport, contents: Contents, reader: ArchiveReader, data: bytes, name: str) -> None:
    for piece in reader.feed(data):
        report.records += 1
        if isinstance(piece, Head):
            contents.stream = piece.config.name
            if problem := _head_problem(piece):
                report.found(name, 0, problem)
        elif isinstance(piece, Batch):
            contents.first_seq = contents.first_seq or piece.seqs[0]
            contents.messages += len(piece.seqs)


def _head_problem(head: Head) -> str:
    """Return why a server would refuse the stream's settings or its consumers, or an empty text."""
    try:
        config = validate(head.config, LIMITS)
        stream = Stream(1, config, head.created_ms, LIMITS)
        if head.consumers:
            Consumers(stream, LIMITS).import_records(head.consumers)
    except CodeError as error:
        return f"settings that no stream has: {error.message}"
    except ValueError as error:
        return f"the consumers cannot be restored: {error}"
    return ""
