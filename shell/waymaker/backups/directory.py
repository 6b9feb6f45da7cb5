"""The directory of a backup: claimed, filled, and named whole by its index; read by who restores or verifies it.

Archives carry the id of their backup in their names. So a backup that replaces another stands beside it until the new index
takes the place of the old one, in one rename, and every failure before leaves the old backup as it was. What no index names
is not part of any backup.

Never touches a file that is neither the index nor named like an archive.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from waymaker.backups.index import (
    ARCHIVE_NAME,
    INDEX_BYTES_MAX,
    INDEX_NAME,
    ArchiveEntry,
    BackupIndex,
    IndexRefused,
    archive_name,
    decode_index,
    encode_index,
)

_INDEX_PART: Final = INDEX_NAME + ".part"


class DirectoryRefused(ValueError):
    """A backup cannot be written to this directory. `code` is a stable word for the reason."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class BackupMissing(ValueError):
    """A directory holds no backup. `is_unfinished`: it holds archives that no index names."""

    def __init__(self, path: Path, is_unfinished: bool) -> None:
        super().__init__(
            f"{path} holds archives and no {INDEX_NAME}: the backup was not completed"
            if is_unfinished
            else f"{path} holds no backup: there is no {INDEX_NAME}"
        )
        self.is_unfinished = is_unfinished


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of the system the path it is about, where it lacks one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ----------------------------------------------------------------------------------------- out


class BackupWriter:
    """One backup being written. It ends with `finish`, or with `abandon`, which leaves nothing of it behind."""

    def __init__(self, path: Path, force: bool) -> None:
        """Claim the directory. `DirectoryRefused` where it is in use, or has content and `force` is not set."""
        self.path = path
        self.backup_id = secrets.token_hex(4)
        self._made = False
        self._fd = -1
        self._open: list[ArchiveWriter] = []
        self._claim(force)
        try:
            if force:
                self._delete_leftovers()
        except BaseException:
            self.abandon()
            raise

    def _claim(self, force: bool) -> None:
        try:
            self.path.mkdir()
            self._made = True
        except FileExistsError:
            if not self.path.is_dir():
                raise DirectoryRefused(f"{self.path} is a file, a backup is a directory", "not_a_directory") from None
            if not force and (found := _content(self.path)):
                raise DirectoryRefused(f"{self.path} {found}", "directory_in_use") from None
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise DirectoryRefused(f"another backup is being written to {self.path}", "directory_locked") from None
        except OSError:
            pass  # a file system without locks: then nothing but the names keeps two backups apart

    def _delete_leftovers(self) -> None:
        """Delete archives that no backup has: they may be what fills the disk."""
        try:
            keep = {entry.file for entry in read_index(self.path).archives}
        except BackupMissing:
            keep = set()
        except IndexRefused:
            return  # whose archives these are cannot be told before they are replaced
        self._delete_archives(keep)

    def _delete_archives(self, keep: set[str]) -> None:
        for name in _archives_in(self.path):
            if name not in keep:
                (self.path / name).unlink()

    def archive(self, number: int) -> ArchiveWriter:
        """Begin the archive with this number, from 1."""
        writer = ArchiveWriter(self.path / archive_name(number, self.backup_id))
        self._open.append(writer)
        return writer

    def discard(self, archive: ArchiveWriter) -> None:
        """Delete an archive that is not to be part of the backup."""
        archive.close()
        archive.path.unlink()
        self._open.remove(archive)

    def finish(self, index: BackupIndex) -> None:
        """Make the backup the one of this directory: whatever happens, the directory holds the old or the new one."""
        part = self.path / _INDEX_PART
        with naming(self.path):
            sync_directory(self.path)
        with naming(part), part.open("wb") as out:
            out.write(encode_index(index))
            out.flush()
            os.fsync(out.fileno())
        part.replace(self.path / INDEX_NAME)
        self._open.clear()  # from here on they are what the directory's backup consists of
        self._made = False
        with naming(self.path):
            sync_directory(self.path)
            sync_directory(self.path.absolute().parent)
        with contextlib.suppress(OSError):  # what stays is named by no index
            self._delete_archives({entry.file for entry in index.archives})
        self._release()

    def abandon(self) -> None:
        """Delete what was written, and the directory if it was made for this."""
        for writer in self._open:
            writer.close()
        for name in (*(writer.path.name for writer in self._open), _INDEX_PART):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        if self._made:
            with contextlib.suppress(OSError):
                self.path.rmdir()
        self._release()

    def _release(self) -> None:
        """Let go of the directory."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class ArchiveWriter:
    """One archive being written; its methods may run on any thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        with naming(path):
            self._out = path.open("xb")

    def write(self, data: bytes) -> None:
        """Add the archive's next bytes."""
        with naming(self.path):
            self._out.write(data)
        self._sha256.update(data)
        self.bytes += len(data)

    def finish(self) -> str:
        """Make the archive durable and return its SHA-256."""
        with naming(self.path):
            self._out.flush()
            os.fsync(self._out.fileno())
            self._out.close()
        return self._sha256.hexdigest()

    def close(self) -> None:
        """Let go of the file, whole or not."""
        with contextlib.suppress(OSError):
            self._out.close()


def _content(path: Path) -> str:
    """Return what a directory holds, as the rest of a sentence; empty if it is empty."""
    if (path / INDEX_NAME).exists():
        return "holds a backup"
    if _archives_in(path):
        return "holds what an interrupted backup left"
    return "is not empty" if any(path.iterdir()) else ""


def _archives_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if ARCHIVE_NAME.fullmatch(each.name))


# ----------------------------------------------------------------------------------------- in


def read_index(path: Path) -> BackupIndex:
    """Return the index of the backup in a directory. Raises `BackupMissing` and `IndexRefused`."""
    try:
        with open_regular(path / INDEX_NAME) as index:
            data = index.read(INDEX_BYTES_MAX + 1)
    except FileNotFoundError:
        if not path.is_dir():
            raise
        raise BackupMissing(path, bool(_archives_in(path))) from None
    if len(data) > INDEX_BYTES_MAX:
        raise IndexRefused(0, f"an index is not longer than {INDEX_BYTES_MAX} bytes")
    return decode_index(data)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. What is no regular file, a link or a pipe for one, is refused and never waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.EINVAL, "this is a link and no file of a backup", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "this is no regular file", str(path))
    return os.fdopen(fd, "rb")


def size_problem(path: Path, entry: ArchiveEntry) -> str:
    """Return what is wrong with an archive's file as far as its length tells, or an empty text."""
    try:
        with open_regular(path / entry.file) as opened:
            size = os.fstat(opened.fileno()).st_size
    except FileNotFoundError:
        return "the archive is missing"
    except OSError as error:
        return error.strerror or str(error)
    return "" if size == entry.bytes else f"the archive has {size} bytes, the index says {entry.bytes}"


def unnamed_archives(path: Path, index: BackupIndex) -> list[str]:
    """Return files named like archives that the index does not name: what an interrupted backup left."""
    named = {entry.file for entry in index.archives}
    return [name for name in _archives_in(path) if name not in named]
