"""Stored bodies of a bucket's messages: a value under its key's subject, or a tombstone, which says why it is there.

A tombstone carries the server's header `wmkv.op`, so every reader of the messages tells it from an empty value. Clients cannot
set that header.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from waymaker_core.model.message_codec import (
    decode_body,
    header_field,
    plain_bodies,
    plain_body,
    subject_field,
)

OP_HEADER: Final = "wmkv.op"
DELETED: Final = "delete"
"""A client deleted the key."""
EXPIRED: Final = "expired"
"""Its time to live ended."""


def value_body(subject: str, value: bytes) -> bytes:
    """Return the stored body of a value."""
    return plain_body(subject, value)


def value_bodies(subjects: Iterable[str], values: Iterable[bytes]) -> list[bytes]:
    """Return the stored bodies of many values."""
    return plain_bodies(subjects, values)


def tombstone_body(subject: str, reason: str) -> bytes:
    """Return the stored body of a tombstone."""
    return subject_field(subject) + header_field(OP_HEADER, reason)


def read_body(body: bytes) -> tuple[str, bytes | None]:
    """Return subject and value of a stored body; no value for a tombstone. ValueError where it is no body."""
    subject, headers, payload = decode_body(body)
    return subject, None if any(key == OP_HEADER for key, _ in headers) else payload
