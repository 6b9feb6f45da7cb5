"""Disk operations of the core on a real directory, one at a time, blocking.

Every method may be called from any thread. What fails becomes a `DiskFailure` that names the file, the offset and the
reason; nothing is retried here. Files under `memory/` never reach the disk.

Every path is looked up below a descriptor of the data directory, never by the directory's name. So where another directory is
put in its place, that one gets no file of this process.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import google_crc32c

from waymaker.storage.cache import ChunkCache
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

_HANDLES_MAX = 128
_RESERVE = 16
_LARGE_BYTES = 128 << 10
"""A part of a write that is as large is written by itself: copying it would cost more than a call of the system."""
_PIECE_BYTES = 1 << 20
_MEMORY = "memory/"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


_ERRORS: dict[int, tuple[FailureKind, str]] = {
    errno.ENOSPC: (FailureKind.NO_SPACE, "no space left on the device"),
    errno.EDQUOT: (FailureKind.NO_SPACE, "the disk quota is used up"),
    errno.ENOENT: (FailureKind.MISSING, ""),
    errno.EROFS: (FailureKind.IO, "the file system is read-only"),
    errno.EACCES: (FailureKind.IO, "permission denied"),
    errno.EPERM: (FailureKind.IO, "operation not permitted"),
    errno.ENOTDIR: (FailureKind.IO, "a part of its path is not a directory"),
    errno.EMFILE: (FailureKind.IO, "too many open files in this process"),
    errno.ENFILE: (FailureKind.IO, "too many open files in this system"),
}
"""The meaning of the system's errors, and the words for them. Anything else is IO, in the system's own words."""


class _Handle:
    """An open file; closed once it is unused and has left the table."""

    __slots__ = ("fd", "users", "detached")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0
        self.detached = False


class Files:
    """The performer of operations below a directory: a path, or a descriptor of it. `cache` learns what is written and read."""

    def __init__(self, root: Path | int, cache: ChunkCache) -> None:
        self._root = os.dup(root) if isinstance(root, int) else os.open(root, _FOLDER)
        self._cache = cache
        self._handles: OrderedDict[str, _Handle] = OrderedDict()
        self._memory: dict[str, bytearray] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._pins: dict[str, int] = {}
        self._reserve: list[int] = []
        """Descriptors held open, to be closed where connections have used up all others."""
        self._refill()

    # ------------------------------------------------------------ operations

    def perform(self, op: DiskOp) -> OpResult:
        """Perform one operation; the result is what its docstring says. Raises `DiskFailure`."""
        try:
            match op:
                case Write():
                    self._write(op)
                case SyncFile():
                    self._sync_file(op.path)
                case ReadChunk():
                    return self.read_chunk(op.chunk)
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
        except OSError as error:
            raise _failure(error, op) from error
        return None

    def _write(self, op: Write) -> None:
        if op.path.startswith(_MEMORY):
            data = b"".join(op.parts)
            with self._lock:
                content = self._memory.setdefault(op.path, bytearray())
                if len(content) < op.offset:
                    content.extend(bytes(op.offset - len(content)))
                content[op.offset : op.offset + len(data)] = data
            return
        with self._opened(op.path, create=True) as fd:
            _pwrite_parts(fd, op.parts, op.offset)
        for offset, body in op.bodies or ():
            self._cache.put(op.path, offset, body)

    def _sync_file(self, path: str) -> None:
        if path.startswith(_MEMORY):
            return
        with self._opened(path) as fd:
            os.fdatasync(fd)
            self._require_named(path, fd)

    def _require_named(self, path: str, fd: int) -> None:
        """Check that what was synced is what a start finds under its name: a removed file takes writes as before."""
        open_file = os.fstat(fd)
        try:
            found = os.stat(path, dir_fd=self._root)
            same = (found.st_dev, found.st_ino) == (open_file.st_dev, open_file.st_ino)
        except FileNotFoundError:
            same = False
        if not same:
            raise DiskFailure(
                FailureKind.IO, path, 0, "it was removed or replaced by somebody else while it was written"
            )

    def _read(self, path: str, offset: int, length: int) -> bytes:
        if path.startswith(_MEMORY):
            with self._lock:
                content = self._memory.get(path)
                if content is None:
                    raise DiskFailure(FailureKind.MISSING, path, offset, "no such memory file")
                return bytes(content[offset : offset + length])
        with self._opened(path) as fd:
            return _pread_all(fd, length, offset)

    def read_chunk(self, chunk: Chunk) -> bytes:
        """Return a chunk's bytes, verified unless they come from memory. Raises `DiskFailure` CORRUPT, MISSING or IO."""
        data = self._cache.get(chunk.path, chunk.offset, chunk.length)
        if data is not None:
            return data
        try:
            data = self._read(chunk.path, chunk.offset, chunk.length)
        except OSError as error:
            raise _failure(error, ReadChunk(chunk)) from error
        _verify(data, chunk)
        if not chunk.path.startswith(_MEMORY):
            self._cache.put(chunk.path, chunk.offset, data)
        return data

    def _copy(self, op: CopyChunks) -> list[int]:
        crcs: list[int] = []
        window = _Window(self)
        buffer = bytearray()
        at = op.offset
        with self._opened(op.path, create=True) as fd:
            for index, chunk in enumerate(op.sources):
                data = window.chunk(chunk)
                keep = op.keep[index] if op.keep is not None else None
                if keep is None:
                    crcs.append(chunk.crc)
                else:
                    data = b"".join([data[start:end] for start, end in keep])
                    crcs.append(google_crc32c.value(data))
                buffer += data
                if len(buffer) >= _PIECE_BYTES:
                    _pwrite_all(fd, bytes(buffer), at)
                    at += len(buffer)
                    buffer.clear()
            _pwrite_all(fd, bytes(buffer), at)
        return crcs

    def _list(self, folder: str) -> dict[str, int]:
        if (folder + "/").startswith(_MEMORY):
            with self._lock:
                prefix = folder + "/"
                return {p[len(prefix) :]: len(c) for p, c in self._memory.items() if p.startswith(prefix)}
        try:
            fd = self._open(folder or ".", _FOLDER)
        except FileNotFoundError:
            return {}
        try:
            with os.scandir(fd) as entries:
                return {e.name: e.stat().st_size if e.is_file() else 0 for e in entries}
        finally:
            os.close(fd)

    def _create(self, path: str, size: int) -> None:
        if path.startswith(_MEMORY):
            return
        fd = self._open_new(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        zeros = bytes(min(size, _PIECE_BYTES))
        try:
            at = 0
            while at < size:
                piece = min(size - at, _PIECE_BYTES)
                _pwrite_all(fd, zeros if piece == len(zeros) else zeros[:piece], at)
                at += piece
        except OSError:
            os.unlink(path, dir_fd=self._root)
            raise
        finally:
            os.close(fd)

    def _sync_dir(self, folder: str) -> None:
        """Sync a folder, and its parents with it: the folder's own name must be found again too."""
        if (folder + "/").startswith(_MEMORY):
            return
        while True:
            try:
                fd = self._open(folder or ".", _FOLDER)
            except FileNotFoundError:  # gone with its last file: its parent must know
                if not folder:
                    raise
            else:
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            if not folder:
                return
            folder = folder.rpartition("/")[0]

    def _rename(self, source: str, target: str) -> None:
        self._quiesce(source)
        os.rename(source, target, src_dir_fd=self._root, dst_dir_fd=self._root)
        self._cache.forget(target)
        self._detach(source)
        self._detach(target)

    def _delete(self, path: str) -> None:
        if path.startswith(_MEMORY):
            with self._lock:
                self._memory.pop(path, None)
            return
        self._quiesce(path)
        try:
            os.unlink(path, dir_fd=self._root)
        except FileNotFoundError:
            pass
        self._detach(path)
        parent = os.path.dirname(path)
        if "/" in parent:  # blocks/<stream>: an empty one goes with its last file
            try:
                os.rmdir(parent, dir_fd=self._root)
            except OSError:
                pass

    # ------------------------------------------------------------ reads handed out

    def pin(self, path: str) -> None:
        """Mark a file as being read: renaming and deleting it wait for `unpin`."""
        with self._lock:
            self._pins[path] = self._pins.get(path, 0) + 1

    def unpin(self, path: str) -> None:
        """Mark a read as over."""
        with self._idle:
            left = self._pins[path] - 1
            if left:
                self._pins[path] = left
            else:
                del self._pins[path]
                self._idle.notify_all()

    def _quiesce(self, path: str) -> None:
        with self._idle:
            while path in self._pins:
                self._idle.wait()
        self._cache.forget(path)

    # ------------------------------------------------------------ handles

    def _opened(self, path: str, create: bool = False) -> _Borrowed:
        return _Borrowed(self, self._borrow(path, create))

    def _borrow(self, path: str, create: bool) -> _Handle:
        with self._lock:
            handle = self._handles.get(path)
            if handle is not None:
                self._handles.move_to_end(path)
                handle.users += 1
                return handle
        flags = os.O_RDWR | os.O_CLOEXEC
        fd = self._open_new(path, flags | os.O_CREAT) if create else self._open(path, flags)
        with self._lock:
            handle = self._handles.get(path)
            if handle is None:
                handle = self._handles[path] = _Handle(fd)
            else:
                os.close(fd)
            handle.users += 1
            while len(self._handles) > _HANDLES_MAX:
                self._close(self._handles.popitem(last=False)[1])
            return handle

    def _open_new(self, path: str, flags: int) -> int:
        """Open a file that may have to be made, with its folders. Nothing can be made in a directory that was removed."""
        try:
            return self._open(path, flags)
        except FileNotFoundError:
            pass
        try:
            self._make_folders(path)
            return self._open(path, flags)
        except FileNotFoundError as error:
            detail = "the data directory was removed while it was used, or a folder of it"
            raise DiskFailure(FailureKind.IO, path, 0, detail) from error

    def _make_folders(self, path: str) -> None:
        """Make the folders of a file, never the data directory itself."""
        folder = ""
        for name in path.split("/")[:-1]:
            folder = f"{folder}/{name}" if folder else name
            try:
                os.mkdir(folder, dir_fd=self._root)
            except FileExistsError:
                pass

    def _open(self, path: str, flags: int) -> int:
        """Open a file below the data directory, with a descriptor of the reserve where the process has no other left."""
        while True:
            try:
                fd = os.open(path, flags, 0o640, dir_fd=self._root)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._give_one_up():
                    raise
            else:
                self._refill()
                return fd

    def _give_one_up(self) -> bool:
        """Close a descriptor that can be done without: one of the reserve, or the file used least recently."""
        with self._lock:
            if self._reserve:
                os.close(self._reserve.pop())
                return True
            idle = next((path for path, handle in self._handles.items() if not handle.users), None)
            if idle is None:
                return False
            self._close(self._handles.pop(idle))
            return True

    def _refill(self) -> None:
        if len(self._reserve) == _RESERVE:
            return
        with self._lock:
            while len(self._reserve) < _RESERVE:
                try:
                    self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
                except OSError:
                    return

    def give_back(self, handle: _Handle) -> None:
        """End of a borrowing."""
        with self._lock:
            handle.users -= 1
            if handle.detached and not handle.users:
                os.close(handle.fd)

    def _detach(self, path: str) -> None:
        with self._lock:
            handle = self._handles.pop(path, None)
            if handle is not None:
                self._close(handle)

    @staticmethod
    def _close(handle: _Handle) -> None:
        handle.detached = True
        if not handle.users:
            os.close(handle.fd)

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            while self._handles:
                self._close(self._handles.popitem()[1])
            while self._reserve:
                os.close(self._reserve.pop())
            if self._root >= 0:
                os.close(self._root)
                self._root = -1


class _Borrowed:
    """A file descriptor for the length of a `with` block."""

    __slots__ = ("_files", "_handle")

    def __init__(self, files: Files, handle: _Handle) -> None:
        self._files = files
        self._handle = handle

    def __enter__(self) -> int:
        return self._handle.fd

    def __exit__(self, *_: object) -> None:
        self._files.give_back(self._handle)


class _Window:
    """A reader of neighbouring chunks of one file with one system call."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._path = ""
        self._start = 0
        self._data = b""

    def chunk(self, chunk: Chunk) -> bytes:
        at = chunk.offset - self._start
        if chunk.path != self._path or at < 0 or at + chunk.length > len(self._data):
            self._path, self._start, at = chunk.path, chunk.offset, 0
            try:
                self._data = self._files._read(chunk.path, chunk.offset, max(chunk.length, _PIECE_BYTES))
            except OSError as error:
                raise _failure(error, ReadChunk(chunk)) from error
        data = self._data[at : at + chunk.length]
        _verify(data, chunk)
        return data


def _failure(error: OSError, op: DiskOp) -> DiskFailure:
    match op:
        case ListDir() | SyncDir():
            path, offset = op.folder, 0
        case Rename():
            path, offset = op.source, 0
        case ReadChunk():
            path, offset = op.chunk.path, op.chunk.offset
        case Read() | Write() | CopyChunks():
            path, offset = op.path, op.offset
        case _:
            path, offset = op.path, 0
    kind, words = _ERRORS.get(error.errno or 0, (FailureKind.IO, ""))
    return DiskFailure(kind, path, offset, words or f"{type(op).__name__}: {error.strerror or error}")


def _verify(data: bytes, chunk: Chunk) -> None:
    if len(data) != chunk.length:
        detail = f"the file ends early: {len(data)} of {chunk.length} bytes"
    elif google_crc32c.value(data) != chunk.crc:
        detail = f"checksum mismatch over {chunk.length} bytes"
    else:
        return
    raise DiskFailure(FailureKind.CORRUPT, chunk.path, chunk.offset, detail)


def _pwrite_parts(fd: int, parts: Iterable[bytes], offset: int) -> None:
    """Write parts one behind the other; small ones together, and a large one without a copy of it."""
    small: list[bytes] = []
    for part in parts:
        if len(part) < _LARGE_BYTES:
            small.append(part)
            continue
        if small:
            data = b"".join(small)
            _pwrite_all(fd, data, offset)
            offset += len(data)
            small = []
        _pwrite_all(fd, part, offset)
        offset += len(part)
    _pwrite_all(fd, b"".join(small), offset)


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    written = os.pwrite(fd, data, offset) if data else 0
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], offset + written)


def _pread_all(fd: int, length: int, offset: int) -> bytes:
    data = os.pread(fd, length, offset)
    if len(data) == length or not data:
        return data
    parts = [data]
    have = len(data)
    while have < length:
        data = os.pread(fd, length - have, offset + have)
        if not data:
            break
        parts.append(data)
        have += len(data)
    return b"".join(parts)
