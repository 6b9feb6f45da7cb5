"""Requests to an object store. A transport hashes, cuts and joins payloads; these carry chunks and what names them.

An upload and a reading are named by the token of the call that began them, and last until `inputs.Cancel` of that token. Where
the stream is led no longer, they are over. `stream` is always the bucket's stream; `no_such_bucket` where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from waymaker_core.model.types import Token


@dataclass(slots=True, eq=False)
class BeginUpload:
    """Begin to store an object. No value; this call's token names the upload. `dedupe`: chunks are shared by content."""

    stream: str
    name: str
    dedupe: bool


@dataclass(slots=True, eq=False)
class UploadChunks:
    """Store the next chunks of an upload. Value: how many were stored, and not found stored already.

    Columns with one entry a chunk: `subjects`, `sizes` (of the payload), `bodies` (as made by `message_codec`). `index`: the
    number of chunks before them. Refused ABORTED where the upload is over, or a chunk before them was refused.
    """

    stream: str
    upload: Token
    index: int
    subjects: list[str]
    sizes: list[int]
    bodies: list[bytes]


@dataclass(slots=True, eq=False)
class FinishUpload:
    """Make an object of an upload. Value (revision, time in ms). `headers`: encoded as in a stored body."""

    stream: str
    upload: Token
    chunk_count: int
    chunk_size: int
    sha256: bytes
    headers: bytes


@dataclass(slots=True, eq=False)
class DeleteObject:
    """Put a tombstone in place of an object. Value (its revision, time in ms), (0, 0) where there never was such an object."""

    stream: str
    name: str


@dataclass(slots=True, eq=False)
class OpenObject:
    """Begin to read an object's latest version. Value `Messages` with its metadata; `no_such_object`.

    `revision` (0: any) is the one that it must have, else `incomplete`. This call's token names the reading.
    """

    stream: str
    name: str
    revision: int = 0


@dataclass(slots=True, eq=False)
class ReadChunks:
    """The chunks in ranges of sequences, first and last, of a reading. Value `Messages` in this order; `incomplete`."""

    stream: str
    reading: Token
    ranges: Sequence[tuple[int, int]]


@dataclass(slots=True, eq=False)
class FindObject:
    """The metadata of an object. Value `Messages` with it, None for a deleted one; `no_such_object`."""

    stream: str
    name: str


@dataclass(slots=True, eq=False)
class ObjectListing:
    """An object in a list."""

    name: str
    total_bytes: int
    deleted: bool


@dataclass(slots=True, eq=False)
class ListObjects:
    """Objects whose names begin with `prefix`, in order. Value `Page` of `ObjectListing`; `limit` as in `ListStreams`."""

    stream: str
    prefix: str = ""
    include_deleted: bool = False
    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class ListObjectRevisions:
    """The metadata of an object's revisions from `from_seq` on, tombstones included. Value `Messages`; `limit` 0: 100."""

    stream: str
    name: str
    from_seq: int = 0
    limit: int = 0


@dataclass(slots=True, eq=False)
class HoldBucket:
    """Collect nothing in a bucket until the token of this call ends: for an archive that is being made. No value."""

    stream: str


ObjectRequest = (
    BeginUpload | UploadChunks | FinishUpload | DeleteObject | OpenObject | ReadChunks | FindObject | ListObjects
    | ListObjectRevisions | HoldBucket
)  # fmt: skip
