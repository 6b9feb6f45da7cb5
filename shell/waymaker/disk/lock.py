"""One process a data directory: an advisory lock that names its holder.

The lock is the kernel's (`flock`), so it ends with the process however that ends; the file's content is only for the
message that the next process prints.
"""

from __future__ import annotations

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
    """Holds the lock from construction to `release`."""

    def __init__(self, root: Path) -> None:
        path = root / LOCK_NAME
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise DirectoryLocked(root, int(text) if text.isdigit() else 0) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the directory up; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
