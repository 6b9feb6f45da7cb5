"""The vocabulary of the disk: what the core may ask of files, and how that can fail.

A file is named by a relative path of the core's own making (digits and fixed words, never a user's name). An executor, real
or simulated, performs a job's operations in order and stops at the first failure. Nothing is durable before the `SyncFile`
that follows it, no name before the `SyncDir` of its folder. Paths under `memory/` are never on disk: the executor keeps
them in memory (written by `Write`, dropped by `Delete`, `CreateFile`/`SyncFile`/`SyncDir` on them do nothing).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum


@dataclass(slots=True)
class Chunk:
    """A run of stored bytes with its CRC32C: the unit that is read, verified and copied whole."""

    path: str
    offset: int
    length: int
    crc: int

    def __repr__(self) -> str:
        return f"Chunk({self.path!r}, {self.offset}, {self.length}, {self.crc:#010x})"


@dataclass(slots=True, eq=False)
class ListDir:
    """Sizes by name of what lies in a folder (0 for a folder): result `dict[str, int]`; a missing folder is empty."""

    folder: str


@dataclass(slots=True, eq=False)
class Read:
    """Bytes of a file: result `bytes`, shorter at its end. A missing file fails as MISSING."""

    path: str
    offset: int
    length: int


@dataclass(slots=True, eq=False)
class ReadChunk:
    """One chunk, verified: result `bytes`; a wrong checksum or a short file fails as CORRUPT."""

    chunk: Chunk


@dataclass(slots=True, eq=False)
class CreateFile:
    """A file of `size` zero bytes, really allocated (written, not only reserved), with its folder. Result None."""

    path: str
    size: int


@dataclass(slots=True, eq=False)
class Write:
    """Bytes at an offset, the parts joined; extends the file where needed, creates it where missing. Result None.

    `bodies` names the chunks among the written bytes that readers may soon ask for, as (offset in the file, bytes): an
    executor may keep them in its cache. Some `parts` may be encoded when they are asked for, as an executor does once.
    """

    path: str
    offset: int
    parts: Collection[bytes]
    bodies: list[tuple[int, bytes]] | None = None


@dataclass(slots=True, eq=False)
class CopyChunks:
    """Copy chunks one after the other to an offset, each verified on the way. Result: `list[int]`, each copy's CRC32C.

    `keep[i]` is None to copy source i whole (the checksum travels with it), or the byte ranges (start, end) to keep.
    A source that fails its checksum fails the job as CORRUPT and names the source.
    """

    path: str
    offset: int
    sources: list[Chunk]
    keep: list[list[tuple[int, int]] | None] | None = None


@dataclass(slots=True, eq=False)
class SyncFile:
    """Make what was written to a file durable (`fdatasync`). Result None."""

    path: str


@dataclass(slots=True, eq=False)
class SyncDir:
    """Make the names in a folder durable. Result None."""

    folder: str


@dataclass(slots=True, eq=False)
class Rename:
    """Rename, replacing the target atomically. Waits for reads already begun on the source. Result None."""

    source: str
    target: str


@dataclass(slots=True, eq=False)
class Delete:
    """Delete a file; a missing one is fine. Waits for reads already begun on it. Result None."""

    path: str


DiskOp = ListDir | Read | ReadChunk | CreateFile | Write | CopyChunks | SyncFile | SyncDir | Rename | Delete
OpResult = bytes | list[int] | dict[str, int] | None


class FailureKind(Enum):
    """The reason for which a disk operation failed, as far as the core acts on it."""

    NO_SPACE = "no_space"
    """No room: nothing is wrong with what is there, and the operation may be tried again later."""
    CORRUPT = "corrupt"
    """The bytes that were read are not those that were written."""
    MISSING = "missing"
    IO = "io"
    """Anything else. A sync that failed so is never tried again: a second one that succeeds proves nothing."""


class DiskFailure(Exception):
    """A failed operation: which, where and why. `op_index` is its place in the job."""

    def __init__(self, kind: FailureKind, path: str, offset: int = 0, detail: str = "", op_index: int = 0) -> None:
        super().__init__(f"{kind.value}: {path} at {offset}: {detail}")
        self.kind = kind
        self.path = path
        self.offset = offset
        self.detail = detail
        self.op_index = op_index
