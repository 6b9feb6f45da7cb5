"""The simulated disk: files and names, what of them is durable, and every way in which a disk fails.

It performs the core's own `disk.DiskOp`s. A write reaches the page cache and is durable after the sync of its file; a
name after the sync of its folder. A crash of the process keeps the page cache. A loss of power keeps, loses or tears
what was not synced, sector by sector, and keeps any subset of the names that the file system had not yet journalled.
Durable bits rot, operations fail, and the disk fills.

Instant: `process` decides how long an operation takes, and what else happens meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import google_crc32c

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
from waymaker_core.storage.frame import MAGIC
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES
from waymaker_sim.kernel.tape import Track

SECTOR = 512
MEMORY = "memory/"
JOURNAL = "journal/"
PLENTY = 1 << 62
"""A capacity that is never reached."""


@dataclass(slots=True)
class DiskFaults:
    """The faults of a disk: failures by kind of operation (per million), its size, and the effects of a loss of
    power."""

    read_error: int = 0
    write_error: int = 0
    sync_error: int = 0
    capacity: int = PLENTY
    lose: bool = True
    tear: bool = True
    whole: bool = False
    """True if no stop leaves a part of a write: each that was begun is there, or not at all."""
    lose_names: bool = True
    copy_on_write: bool = False
    """True if an overwrite needs new space first, as on file systems that copy on write, or with a quota."""


class _File:
    """A file without its name: the content of the page cache, the content of the platter, and the writes in between."""

    __slots__ = ("content", "durable", "unsynced", "fresh", "ghost")

    def __init__(self, size: int = 0) -> None:
        self.content = bytearray(size)
        self.durable = bytearray()
        self.unsynced: list[tuple[int, bytes]] = [(0, bytes(size))] if size else []
        self.fresh: list[tuple[int, int]] = []
        self.ghost = False
        """True after a sync failed and the kernel dropped the dirty pages: readers still see them, the platter never
        has them."""

    def copy(self) -> _File:
        twin = _File()
        twin.content = bytearray(self.content)
        twin.durable = bytearray(self.durable)
        twin.unsynced = list(self.unsynced)
        twin.fresh = list(self.fresh)
        twin.ghost = self.ghost
        return twin


class _NameChange(Enum):
    LINK = 1
    UNLINK = 2
    RENAME = 3


@dataclass(slots=True)
class _Pending:
    """A change of names that no sync of the folder has made durable yet."""

    change: _NameChange
    path: str
    file: _File
    source: str = ""

    def folders(self) -> tuple[str, str]:
        return folder_of(self.path), folder_of(self.source) if self.source else folder_of(self.path)


def folder_of(path: str) -> str:
    """Return the folder of a path; "" is the root."""
    return path.rpartition("/")[0]


def _patch(target: bytearray, offset: int, data: bytes) -> None:
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data


class SimDisk:
    """One disk. `perform` does one operation at once or raises `DiskFailure`; `track` decides what fails."""

    def __init__(self, faults: DiskFaults, track: Track) -> None:
        self.faults = faults
        self.track = track
        self.syncs = 0
        self.writes_bytes = 0
        self.rotten: list[tuple[_File, int]] = []
        """The places of flipped bits."""
        self.unsynced_journal: set[str] = set()
        """Segments of the journal with unsynced writes."""
        self.on_journal_synced: Callable[[], None] = lambda: None
        """Called when the last of them was synced."""
        self.losses = 0
        """Number of stops that may have lost something."""
        self.torn = False
        """True if a stop since the last start may have left a part of a write to the journal."""
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._pending: list[_Pending] = []
        self._memory: dict[str, bytearray] = {}
        self._fresh: _File | None = None

    # ------------------------------------------------------------ operations

    def perform(self, op: DiskOp) -> OpResult:
        """Perform one operation; its docstring in `waymaker_core.model.disk_ops` defines the result."""
        match op:
            case Write():
                self._write(op.path, op.offset, b"".join(op.parts))
            case SyncFile():
                self._sync_file(op.path)
            case ReadChunk():
                return self._read_chunk(op.chunk)
            case Read():
                return self._read(op.path, op.offset, op.length)
            case CopyChunks():
                return self._copy(op)
            case ListDir():
                return self._list(op.folder)
            case CreateFile():
                self._create(op.path, op.size)
            case SyncDir():
                self._sync_dir(op.folder)
            case Rename():
                self._rename(op.source, op.target)
            case Delete():
                self._delete(op.path)
        return None

    def _fails(self, label: str, per_million: int, path: str, offset: int = 0) -> None:
        if self.track.chance(label, per_million):
            raise DiskFailure(FailureKind.IO, path, offset, f"simulated: {label}")

    def _file(self, path: str, offset: int = 0) -> _File:
        file = self._names.get(path)
        if file is None:
            raise DiskFailure(FailureKind.MISSING, path, offset, "no such file")
        return file

    def _read(self, path: str, offset: int, length: int) -> bytes:
        if path.startswith(MEMORY):
            content = self._memory.get(path)
            if content is None:
                raise DiskFailure(FailureKind.MISSING, path, offset, "no such memory file")
            return bytes(content[offset : offset + length])
        file = self._file(path, offset)
        self._fails("read error", self.faults.read_error, path, offset)
        return bytes(file.content[offset : offset + length])

    def _read_chunk(self, chunk: Chunk) -> bytes:
        data = self._read(chunk.path, chunk.offset, chunk.length)
        if len(data) != chunk.length:
            detail = f"the file ends early: {len(data)} of {chunk.length} bytes"
        elif google_crc32c.value(data) != chunk.crc:
            detail = f"checksum mismatch over {chunk.length} bytes"
        else:
            return data
        raise DiskFailure(FailureKind.CORRUPT, chunk.path, chunk.offset, detail)

    def _write(self, path: str, offset: int, data: bytes) -> None:
        if path.startswith(MEMORY):
            _patch(self._memory.setdefault(path, bytearray()), offset, data)
            return
        self._fails("write error", self.faults.write_error, path, offset)
        file = self._names.get(path)
        grows = len(data) if self.faults.copy_on_write else offset + len(data) - (len(file.content) if file else 0)
        if grows > 0 and self.faults.capacity != PLENTY:
            free_bytes = self.faults.capacity - self.used_bytes()
            if grows > free_bytes:
                if file is not None and free_bytes > 0:  # the part that fits is written, as a real file system does
                    self._store(file, offset, data[: max(0, len(data) - (grows - free_bytes))])
                raise DiskFailure(FailureKind.NO_SPACE, path, offset, f"{grows} bytes more do not fit")
        if file is None:
            file = self._link(path, _File())
        if path.startswith(JOURNAL):
            self.unsynced_journal.add(path)
        self._store(file, offset, data)

    def _store(self, file: _File, offset: int, data: bytes) -> None:
        if not data:
            return
        self.writes_bytes += len(data)
        _patch(file.content, offset, data)
        file.unsynced.append((offset, data))

    def _copy(self, op: CopyChunks) -> list[int]:
        crcs: list[int] = []
        pieces: list[bytes] = []
        for index, chunk in enumerate(op.sources):
            data = self._read_chunk(chunk)
            keep = op.keep[index] if op.keep is not None else None
            if keep is None:
                crcs.append(chunk.crc)
            else:
                data = b"".join([data[start:end] for start, end in keep])
                crcs.append(google_crc32c.value(data))
            pieces.append(data)
        self._write(op.path, op.offset, b"".join(pieces))
        return crcs

    def _list(self, folder: str) -> dict[str, int]:
        if (folder + "/").startswith(MEMORY):
            prefix = folder + "/"
            return {p[len(prefix) :]: len(c) for p, c in self._memory.items() if p.startswith(prefix)}
        prefix = folder + "/" if folder else ""
        found: dict[str, int] = {}
        for path, file in self._names.items():
            if path.startswith(prefix):
                name, slash, _ = path[len(prefix) :].partition("/")
                found[name] = 0 if slash else len(file.content)
        return found

    def _create(self, path: str, size: int) -> None:
        if path.startswith(MEMORY):
            return
        self._fails("write error", self.faults.write_error, path)
        old = self._names.get(path)
        more = size - (len(old.content) if old else 0)
        if self.faults.capacity != PLENTY and more > self.faults.capacity - self.used_bytes():
            raise DiskFailure(FailureKind.NO_SPACE, path, 0, f"{size} bytes do not fit")
        self._link(path, _File(size))

    def _sync_file(self, path: str) -> None:
        if path.startswith(MEMORY):
            return
        file = self._file(path)
        if self.track.chance("sync error", self.faults.sync_error):
            self._spoil(file)
            raise DiskFailure(FailureKind.IO, path, 0, "simulated: sync error")
        self.syncs += 1
        if path.startswith(JOURNAL) and file.unsynced:
            if self._fresh is not None:
                self._fresh.fresh = []
            file.fresh = [(offset, offset + len(data)) for offset, data in file.unsynced]
            self._fresh = file
        for offset, data in file.unsynced:
            _patch(file.durable, offset, data)
        file.unsynced = []
        if path in self.unsynced_journal:
            self.unsynced_journal.discard(path)
            if not self.unsynced_journal:
                self.on_journal_synced()

    def _spoil(self, file: _File) -> None:
        """Spoil the pages after a failed sync: still dirty, all on the platter, or dropped as if they were clean."""
        what = self.track.draw("pages of a failed sync", 3)
        if what == 1:
            for offset, data in file.unsynced:
                _patch(file.durable, offset, data)
        if what:
            file.unsynced = []
            file.ghost = what == 2

    def _sync_dir(self, folder: str) -> None:
        """Sync the folder and its parents, as the real executor does."""
        if (folder + "/").startswith(MEMORY):
            return
        self._fails("sync error", self.faults.sync_error, folder)
        folders = [folder]
        while folders[-1]:
            folders.append(folder_of(folders[-1]))
        kept: list[_Pending] = []
        for pending in self._pending:
            here, there = pending.folders()
            if here in folders or there in folders:
                self._settle(pending)
            else:
                kept.append(pending)
        self._pending = kept

    def _settle(self, pending: _Pending) -> None:
        names = self._durable_names
        match pending.change:
            case _NameChange.LINK:
                names[pending.path] = pending.file
            case _NameChange.UNLINK:
                if names.get(pending.path) is pending.file:
                    del names[pending.path]
            case _NameChange.RENAME:
                names[pending.path] = pending.file
                if names.get(pending.source) is pending.file:
                    del names[pending.source]

    def _link(self, path: str, file: _File) -> _File:
        self._names[path] = file
        self._pending.append(_Pending(_NameChange.LINK, path, file))
        return file

    def _rename(self, source: str, target: str) -> None:
        file = self._file(source)
        self._fails("write error", self.faults.write_error, source)
        del self._names[source]
        self._names[target] = file
        self._pending.append(_Pending(_NameChange.RENAME, target, file, source))

    def _delete(self, path: str) -> None:
        if path.startswith(MEMORY):
            self._memory.pop(path, None)
            return
        file = self._names.pop(path, None)
        self.unsynced_journal.discard(path)
        if file is not None:
            self._pending.append(_Pending(_NameChange.UNLINK, path, file))

    def used_bytes(self) -> int:
        """Return the bytes of all named files."""
        return sum(len(file.content) for file in self._names.values())

    def length(self, path: str) -> int:
        """Return the bytes of one named file."""
        return len(self._names[path].content)

    def paths(self) -> list[str]:
        """Return the paths of all files, sorted."""
        return sorted(self._names)

    def content(self, path: str) -> bytes:
        """Return what a reader of one named file sees."""
        return bytes(self._names[path].content)

    def rewrite(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change a file in every version of it that may be left: seen, durable, and written from its beginning on."""
        file = self._names[path]
        file.content = bytearray(change(bytes(file.content)))
        file.durable = bytearray(change(bytes(file.durable)))
        file.unsynced = [(offset, data if offset else change(data)) for offset, data in file.unsynced]

    # ------------------------------------------------------------ crashes

    def interrupt(self, op: DiskOp, track: Track) -> None:
        """Perform some, all or nothing of this operation, for a crash in the middle of it. The crash follows."""
        how_far = track.draw("part done", 4)
        try:
            if how_far == 3:
                self.perform(op)
            elif how_far and isinstance(op, Write) and not op.path.startswith(MEMORY):
                data = b"".join(op.parts)
                part = 0 if self.faults.whole else track.draw("bytes written", len(data) + 1)
                self.torn |= op.path.startswith(JOURNAL) and 0 < part < len(data)
                self._write(op.path, op.offset, data[:part])
            elif how_far and isinstance(op, CreateFile):
                self._create(op.path, track.draw("bytes created", op.size + 1))
        except DiskFailure:
            pass  # the process that would get the failure is dead

    def kill(self) -> list[str]:
        """Kill the process. The page cache stays, except pages that a failed sync dropped. Returns what is lost."""
        self._memory.clear()
        lost: list[str] = []
        for path, file in self._names.items():
            if file.ghost:
                lost.append(f"{path}: the pages of the failed sync are gone")
                file.content = bytearray(file.durable)
                for offset, data in file.unsynced:
                    _patch(file.content, offset, data)
                file.ghost = False
                self.losses += 1
        return lost

    def forget_unsynced(self) -> None:
        """Forget what was not synced: it is lost, or durable by chance."""
        self.unsynced_journal.clear()

    def lose_power(self, track: Track) -> list[str]:
        """Keep, lose or tear everything that was not durable, as `track` draws it. Returns what is lost, in words."""
        self._memory.clear()
        self.losses += 1
        lost = self._lose_names(track)
        for path in sorted(self._durable_names):
            file = self._durable_names[path]
            if file.unsynced:
                loss = self._lose_writes(path, file, track)
                if loss:
                    lost.append(f"{path}: {loss}")
            elif file.ghost or len(file.content) != len(file.durable):
                file.content = bytearray(file.durable)
            file.ghost = False
        self._names = dict(self._durable_names)
        return lost

    def _lose_names(self, track: Track) -> list[str]:
        mode = track.draw("unsynced names", 3) if self._pending and self.faults.lose_names else 0
        count = len(self._pending)
        upto = count - track.draw("names lost", count + 1) if mode == 1 else count
        lost: list[str] = []
        for index, pending in enumerate(self._pending):
            if index < upto and (mode != 2 or track.draw("name lost", 2) == 0):
                self._settle(pending)
            else:
                lost.append(f"{pending.change.name.lower()} of {pending.path}")
        self._pending = []
        return [f"{len(lost)} unsynced changes of names lost: {', '.join(lost)}"] if lost else []

    def _lose_writes(self, path: str, file: _File, track: Track) -> str:
        mode, count = track.draw("unsynced writes", 4), len(file.unsynced)
        if self.faults.whole:
            kept = file.unsynced
        elif mode == 1 and self.faults.lose:
            kept = []
        elif mode == 2 and self.faults.lose:
            kept = file.unsynced[: len(file.unsynced) - track.draw("writes lost", len(file.unsynced) + 1)]
        elif mode == 3 and self.faults.tear:
            self._tear(file, track)
            self.torn |= path.startswith(JOURNAL)
            return f"{count} unsynced writes torn by the sector"
        else:
            kept = file.unsynced
        for offset, data in kept:
            _patch(file.durable, offset, data)
        file.content = bytearray(file.durable)
        file.unsynced = []
        return f"{count - len(kept)} of {count} unsynced writes lost" if len(kept) < count else ""

    @staticmethod
    def _tear(file: _File, track: Track) -> None:
        """Set each sector to any of its versions since the last sync."""
        versions: dict[int, list[bytes]] = {}
        image = bytearray(file.durable)
        for offset, data in file.unsynced:
            _patch(image, offset, data)
            for sector in range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1):
                versions.setdefault(sector, []).append(bytes(image[sector * SECTOR : (sector + 1) * SECTOR]))
        for sector in sorted(versions):
            written = versions[sector]
            choice = track.draw("sector", len(written) + 1)
            if choice < len(written):
                _patch(file.durable, sector * SECTOR, written[len(written) - 1 - choice])
        file.content = bytearray(file.durable)
        file.unsynced = []

    def copy(self, track: Track) -> SimDisk:
        """Return a copy with the same files and without faults, to examine a disk without touching it."""
        twin = SimDisk(DiskFaults(), track)
        twins: dict[int, _File] = {}

        def twin_of(file: _File) -> _File:
            return twins.setdefault(id(file), file.copy())

        twin._names = {path: twin_of(file) for path, file in self._names.items()}
        twin._durable_names = {path: twin_of(file) for path, file in self._durable_names.items()}
        twin._pending = [_Pending(p.change, p.path, twin_of(p.file), p.source) for p in self._pending]
        return twin

    # ------------------------------------------------------------ bit rot

    def rot(self, track: Track) -> tuple[str, int] | None:
        """Flip one bit of something durable. Returns the place, or None if there is nothing.

        The journal's newest synced batch is spared: no reader can distinguish damage there from a torn write, since no
        later frame proves that it was durable.
        """
        paths = [path for path in sorted(self._names) if self._names[path].durable and not self._names[path].unsynced]
        if not paths:
            return None
        path = track.pick("rotten file", paths)
        file = self._names[path]
        offset = track.draw("rotten byte", len(file.durable))
        if any(start <= offset < end for start, end in file.fresh):
            return None
        flipped = file.durable[offset] ^ (1 << track.draw("rotten bit", 8))
        file.durable[offset] = flipped
        if offset < len(file.content):
            file.content[offset] = flipped
        self.rotten.append((file, offset))
        return path, offset

    def tear_synced(self, track: Track, shows: bool = False) -> tuple[str, int] | None:
        """Lose the end of the journal's newest synced batch, as a disk does that says too early that it is done.

        The machine has lost power. `shows`: the place is behind the first word of a frame, so that a reader sees the tear; no
        reader can tell an end that is lost frame by frame from one that was never written. Returns the file, and the place from
        which on it holds zeros; None without such a batch.
        """
        file = self._fresh
        paths = [path for path in sorted(self._names) if self._names[path] is file]
        if file is None or not paths or not file.fresh:
            return None
        begin, end = min(start for start, _ in file.fresh), max(stop for _, stop in file.fresh)
        at = end - 1 - track.draw("torn from the end", end - begin)
        if shows:
            begun = file.content.find(MAGIC, max(at - len(MAGIC) + 1, begin), at + len(MAGIC) - 1)
            at = at if begun < 0 else begun + len(MAGIC)
            if at < SEGMENT_HEADER_BYTES + len(MAGIC):
                return None
        file.durable[at:end] = bytes(len(file.durable[at:end]))
        file.content[at:end] = bytes(len(file.content[at:end]))
        return paths[0], at

    def wipe(self) -> None:
        """Lose every file and name: another disk is in its place."""
        self._names, self._durable_names, self._pending, self._memory = {}, {}, [], {}
        self._fresh = None
        self.rotten = []
        self.torn = False
        self.unsynced_journal.clear()
        self.losses += 1

    def rotten_paths(self) -> list[str]:
        """Return the current paths of the flipped bits, without deleted files."""
        return [path for path in self.paths() if any(file is self._names[path] for file, _ in self.rotten)]
