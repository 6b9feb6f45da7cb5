"""Disk operations as typed steps of a generator: what readers of the store `yield from`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final, TypeVar

from waymaker_core.model.disk_ops import DiskFailure, DiskOp, ListDir, OpResult, Read

T = TypeVar("T")
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


def drive(steps: Generator[DiskOp, OpResult, T], perform: Callable[[DiskOp], OpResult]) -> T:
    """Run steps to their end, each performed at once, and return their result. A failure is thrown into them."""
    try:
        op = next(steps)
        while True:
            try:
                result = perform(op)
            except DiskFailure as failure:
                op = steps.throw(failure)
            else:
                op = steps.send(result)
    except StopIteration as end:
        value: T = end.value
        return value
