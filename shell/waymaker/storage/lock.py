"""One process a data directory: an advisory lock that names its holder, and the watch that it is still this directory.

The locks are the kernel's (`flock`), so they end with the process however that ends. One is on the directory itself, which
no process can remove and put back unseen. The other is on the file `LOCK`, whose content the next process prints.
A lock is on a file and not on a name. `lost` therefore compares what the names mean now with what was locked: a directory
that was moved away, removed or replaced takes further writes that no reader will find.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

LOCK_NAME = "LOCK"


class DirectoryLocked(Exception):
    """Another process has the data directory open. `pid` is 0 where it could not be read."""

    def __init__(self, root: Path, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"data directory {root} is in use by {holder}; stop it first, or choose another directory")
        self.root = root
        self.pid = pid


class DirectoryLock:
    """The locks of a data directory, held from construction to `release`. Raises `DirectoryLocked`."""

    def __init__(self, root: Path) -> None:
        self._root = str(root.absolute())
        self._path = f"{self._root}/{LOCK_NAME}"
        self._fds: list[int] = []
        try:
            self._folder = self._take(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._file = self._take(os.open(LOCK_NAME, flags, 0o640, dir_fd=self.folder))
        except _Taken:
            self.release()
            raise DirectoryLocked(root, _holder(self._path)) from None
        except BaseException:
            self.release()
            raise
        os.ftruncate(self._fds[-1], 0)
        os.pwrite(self._fds[-1], f"{os.getpid()}\n".encode(), 0)

    @property
    def folder(self) -> int:
        """Descriptor of the locked directory, whatever its name means now; open until `release`."""
        return self._fds[0]

    def _take(self, fd: int) -> tuple[int, int]:
        """Lock what was opened; what it is."""
        self._fds.append(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise _Taken from None
            if len(self._fds) > 1:  # some network file systems lock no directories: the file's lock has to do
                raise
        return _identity(os.fstat(fd))

    def lost(self) -> str:
        """Return why this is not the locked directory any more; empty while it is. Two system calls."""
        try:
            if _identity(os.stat(self._root)) != self._folder:
                return f"data directory {self._root} was replaced by another one while it was served"
            if _identity(os.stat(self._path)) != self._file:
                return f"{self._path} was replaced by another file: a second server may have opened the data directory"
        except FileNotFoundError:
            if os.path.isdir(self._root):
                return f"{self._path} was removed while its directory was served: a second server could have opened it"
            return f"data directory {self._root} was removed or moved away while it was served"
        except OSError as error:
            return f"data directory {self._root} cannot be reached any more: {error.strerror}"
        return ""

    def release(self) -> None:
        """Give the directory up; a second call does nothing."""
        while self._fds:
            os.close(self._fds.pop())


class _Taken(Exception):
    """Another process holds the lock."""


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _holder(path: str) -> int:
    """Return the process number in the file; 0 where it cannot be read."""
    try:
        with open(path, "rb") as file:
            text = file.read(32).decode("ascii", "replace").strip()
    except OSError:
        return 0
    return int(text) if text.isascii() and text.isdigit() else 0
