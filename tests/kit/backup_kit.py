"""A small backup on disk, without a server: two streams with consumers, made by the node and the writer in use."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.kit.node_kit import SMALL, Server
from waymaker.backups.directory import BackupWriter
from waymaker.backups.index import ArchiveEntry, BackupIndex
from waymaker_core.storage.archive import ArchiveReader, Batch

STREAMS = ("jobs", "orders")


@cache
def archives() -> dict[str, bytes]:
    """By stream: a work queue with deliveries pending, and a plain stream with a cursor in it."""
    from tests.golden.build import archive

    server = Server(SMALL)
    server.create("jobs", retention="WORK_QUEUE", block_size=10)
    server.consumer("jobs", "worker", deliver_group="g")
    server.create("orders", block_size=10)
    server.consumer("orders", "reader")
    for number in range(6):
        server.publish("jobs", b"job %d" % number)
        server.publish("orders", b"order %d" % number, subject=f"a.{number % 2}")
    server.ack(*[seq for seq, _, _ in server.fetch("jobs", "worker", 3)][:1], stream="jobs", consumer="worker")
    server.ack(*[seq for seq, _, _ in server.fetch("orders", "reader", 2)], stream="orders", consumer="reader")
    return {stream: archive(server, stream) for stream in STREAMS}


def entry_of(file: str, stream: str, data: bytes, sha256: str) -> ArchiveEntry:
    """Return what an index says of an archive."""
    reader = ArchiveReader()
    seqs = [seq for piece in reader.feed(data) if isinstance(piece, Batch) for seq in piece.seqs]
    return ArchiveEntry(file, stream, 7, 1_000, len(data), sha256, len(seqs), seqs[0], reader.close().last_seq)


def index_of(writer: BackupWriter, entries: list[ArchiveEntry]) -> BackupIndex:
    """Return an index of these archives."""
    return BackupIndex(writer.backup_id, 1_000, 2_000, "1.0", 1, "ab" * 16, tuple(entries))


def write_backup(path: Path, *, force: bool = False) -> BackupIndex:
    """Write a whole backup into a directory."""
    writer = BackupWriter(path, force)
    entries = []
    for number, (stream, data) in enumerate(archives().items(), 1):
        archive = writer.archive(number)
        archive.write(data)
        entries.append(entry_of(archive.path.name, stream, data, archive.finish()))
    index = index_of(writer, entries)
    writer.finish(index)
    return index
