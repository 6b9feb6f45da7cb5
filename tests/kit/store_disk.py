"""A disk in memory for the tests of the store: what is synced stays, what is not may be kept, lost or torn by the sector.

Much smaller than the simulator's on purpose: the store is tested here without anything else around it.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from random import Random
from typing import TypeVar

from waymaker_core.model.disk_ops import (
    Chunk,
    CopyChunks,
    CreateFile,
    Delete,
    DiskFailure,
    DiskOp,
    FailureKind,
    ListDir,
    OpResult,
    Read,
    ReadChunk,
    Rename,
    SyncDir,
    SyncFile,
    Write,
)
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.disk_steps import drive

SECTOR = 512
T = TypeVar("T")


class Crash(Exception):
    """The process is gone."""


class _Inode:
    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        self.unsynced: list[tuple[int, bytes]] = []
        self.ghost = False

    def sync(self) -> None:
        if self.ghost:
            for offset, data in self.unsynced:
                put(self.durable, offset, data)
        else:
            self.durable = bytearray(self.content)
        self.unsynced = []

    def write(self, offset: int, data: bytes) -> None:
        put(self.content, offset, data)
        self.unsynced.append((offset, data))


def put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset + len(data):
        content.extend(bytes(offset + len(data) - len(content)))
    content[offset : offset + len(data)] = data


class MemoryDisk:
    """Executes `DiskOp`s. `crash_in` counts down over operations; at 0 the process dies, in the middle of a write."""

    def __init__(self) -> None:
        self.names: dict[str, _Inode] = {}
        self.durable_names: dict[str, _Inode] = {}
        self.changes: list[tuple[str, str | None, _Inode | None]] = []
        """Name changes not yet synced: (path, path it came from, file), None for a removal."""
        self.crash_in: int | None = None
        self.space: int | None = None
        self.written_ops = 0

    # ------------------------------------------------------------ operations

    def perform(self, op: DiskOp) -> OpResult:
        if not isinstance(op, Read | ReadChunk | ListDir):
            self.written_ops += 1
            if self.crash_in is not None:
                if self.crash_in == 0:
                    if isinstance(op, Write):
                        self._write(op.path, op.offset, b"".join(op.parts))
                    raise Crash
                self.crash_in -= 1
        match op:
            case ListDir():
                return self._list(op.folder)
            case Read():
                return bytes(self._file(op.path, op.offset).content[op.offset : op.offset + op.length])
            case ReadChunk():
                return self._chunk(op.chunk)
            case CreateFile():
                self._room(op.path, op.size)
                self.names[op.path] = inode = _Inode()
                inode.write(0, bytes(op.size))
                self.changes.append((op.path, None, inode))
            case Write():
                self._write(op.path, op.offset, b"".join(op.parts))
            case CopyChunks():
                return self._copy(op)
            case SyncFile():
                self._file(op.path, 0).sync()
            case SyncDir():
                self._sync_dir(op.folder)
            case Rename():
                inode = self._file(op.source, 0)
                del self.names[op.source]
                self.names[op.target] = inode
                self.changes.append((op.target, op.source, inode))
            case Delete():
                if self.names.pop(op.path, None) is not None:
                    self.changes.append((op.path, None, None))
        return None

    def _file(self, path: str, offset: int) -> _Inode:
        if path not in self.names:
            raise DiskFailure(FailureKind.MISSING, path, offset)
        return self.names[path]

    def _room(self, path: str, size: int) -> None:
        used = sum(len(inode.content) for inode in self.names.values())
        if self.space is not None and used + size > self.space:
            raise DiskFailure(FailureKind.NO_SPACE, path)

    def _write(self, path: str, offset: int, data: bytes) -> None:
        present = self.names.get(path)
        grown = offset + len(data) - (len(present.content) if present else 0)
        if grown > 0:
            self._room(path, grown)
        if present is None:
            present = self.names[path] = _Inode()
            self.changes.append((path, None, present))
        present.write(offset, data)

    def _list(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        prefix = f"{folder}/" if folder else ""
        for path, inode in self.names.items():
            if path.startswith(prefix):
                name, slash, _ = path[len(prefix) :].partition("/")
                found[name] = 0 if slash else len(inode.content)
        return found

    def _chunk(self, chunk: Chunk) -> bytes:
        data = bytes(self._file(chunk.path, chunk.offset).content[chunk.offset : chunk.offset + chunk.length])
        if len(data) != chunk.length or crc32c(data) != chunk.crc:
            raise DiskFailure(FailureKind.CORRUPT, chunk.path, chunk.offset, "checksum")
        return data

    def _copy(self, op: CopyChunks) -> list[int]:
        crcs: list[int] = []
        offset = op.offset
        for index, source in enumerate(op.sources):
            data = self._chunk(source)
            ranges = op.keep[index] if op.keep is not None else None
            if ranges is not None:
                data = b"".join(data[start:end] for start, end in ranges)
            self._write(op.path, offset, data)
            offset += len(data)
            crcs.append(crc32c(data))
        return crcs

    def _sync_dir(self, folder: str) -> None:
        here = [change for change in self.changes if change[0].rpartition("/")[0] == folder]
        self.changes = [change for change in self.changes if change[0].rpartition("/")[0] != folder]
        for change in here:
            self._make_durable(change)

    def _make_durable(self, change: tuple[str, str | None, _Inode | None]) -> None:
        path, source, inode = change
        if source is not None and self.durable_names.get(source) is inode:
            del self.durable_names[source]
        if inode is None:
            self.durable_names.pop(path, None)
        else:
            self.durable_names[path] = inode

    # ------------------------------------------------------------ driving and failing

    def run(self, ops: list[DiskOp]) -> list[OpResult]:
        return [self.perform(op) for op in ops]

    def drive(self, steps: Generator[DiskOp, OpResult, T]) -> T:
        return drive(steps, self.perform)

    def copy(self) -> MemoryDisk:
        return copy.deepcopy(self)

    def lose_power(self, random: Random) -> None:
        """Cut the power: unsynced names are kept or lost each for itself, unsynced writes sector by sector."""
        for change in self.changes:
            if random.random() < 0.5:
                self._make_durable(change)
        self.changes = []
        self.names = dict(self.durable_names)
        keep = random.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        for path in sorted(self.names):
            inode = self.names[path]
            for offset, data in inode.unsynced:
                start = 0
                while start < len(data):
                    end = min(len(data), start + SECTOR - (offset + start) % SECTOR)
                    if random.random() < keep:
                        put(inode.durable, offset + start, data[start:end])
                    start = end
            inode.unsynced = []
            inode.content = bytearray(inode.durable)
        self.crash_in = None

    def kill(self) -> None:
        """Kill the process; the page cache stays."""
        self.crash_in = None

    def give_up_writing(self) -> None:
        """Drop dirty pages as a kernel does whose sync failed: readers see them, a later sync does not write them."""
        for inode in self.names.values():
            inode.unsynced = []
            inode.ghost = True

    def flip(self, path: str, bit: int) -> None:
        self.names[path].content[bit // 8] ^= 1 << bit % 8

    def image(self) -> dict[str, bytes]:
        return {path: bytes(inode.content) for path, inode in sorted(self.names.items())}
