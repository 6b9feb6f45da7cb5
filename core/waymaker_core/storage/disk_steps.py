"""Disk operations as typed steps of a generator: what readers of the store `yield from`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from waymaker_core.model.disk_ops import DiskOp, ListDir, Read

Steps = Generator[DiskOp, object, None]
READ_BYTES: Final = 1 << 20
"""Bytes read at once by readers that walk through a file."""


def read(path: str, offset: int, length: int) -> Generator[DiskOp, object, bytes]:
    """Bytes of a file, fewer at its end."""
    result = yield Read(path, offset, length)
    assert isinstance(result, bytes)
    return result


def list_folder(folder: str) -> Generator[DiskOp, object, dict[str, int]]:
    """Sizes by name, sorted by name."""
    result = yield ListDir(folder)
    assert isinstance(result, list)
    return dict(sorted(result))
