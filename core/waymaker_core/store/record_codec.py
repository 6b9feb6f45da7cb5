"""Records as bytes. The one codec: replay, replicas and tools read what it wrote.

`encode(record)` gives the meta part of a frame; the kind and version travel in the frame's header. Columns are raw arrays,
so that a batch costs a few copies; a column with one value throughout (the time of a batch, the size of a uniform load) is
stored once. What is rare (configurations) is CBOR.

A record's version is raised with its layout; old versions stay readable. Only `CorruptRecord` and `UnknownVersion` leave
`decode`, whatever the bytes are.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.records import Record

VERSION: Final = 1
"""The version that `encode` writes, of every kind."""


def encode(record: Record) -> bytes:
    """The meta part of a record. ValueError where its columns disagree in length (a bug of the caller)."""
    raise NotImplementedError


def decode(kind: int, version: int, meta: bytes) -> Record:
    """The record of a kind from its meta part. Raises `CorruptRecord`, or `UnknownVersion` for a kind or version to come."""
    raise NotImplementedError


def body_bytes(record: Record) -> int:
    """Bytes of stored bodies that belong to a record: the length of its frame's body."""
    raise NotImplementedError
