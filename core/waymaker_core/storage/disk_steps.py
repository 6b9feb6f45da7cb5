"""Disk operations as typed steps of a generator: what readers of the store `yield from`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from waymaker_core.model.disk_ops import DiskOp, ListDir, OpResult, Read

Steps = Generator[DiskOp, OpResult, None]
READ_BYTES: Final = 1 << 20
"""Bytes read at once by readers that walk through a file."""


def read(path: str, offset: int, length: int) -> Generator[DiskOp, OpResult, bytes]:
    """Read bytes of a file, fewer at its end."""
    result = yield Read(path, offset, length)
    assert isinstance(result, bytes)
    return result


def list_folder(folder: str) -> Generator[DiskOp, OpResult, dict[str, int]]:
    """Read the sizes of the files in a folder, sorted by name."""
    result = yield ListDir(folder)
    assert isinstance(result, dict)
    return dict(sorted(result.items()))
