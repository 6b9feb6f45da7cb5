"""Subjects of collections: `f.<key>.<field>` in a hash store, `m.<key>.<member>` in a set store, `q` in a queue.

Keys, fields and members are any text, the empty one included. Each becomes one token (`model.tokens`), so no two pairs of them
meet in one subject.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.model.limits import Limits
from waymaker_core.model.names import reserved_prefix
from waymaker_core.model.tokens import escaped_subject, unescape

HASH: Final = "hash:"
SET: Final = "set:"
QUEUE: Final = "queue:"
"""Beginnings of the names of streams that hold collections."""

VALUES: Final = "q"
"""The one subject of a queue."""

_FIELDS, _MEMBERS = "f", "m"


def holds_entries(stream: str) -> bool:
    """Return True if a stream of this name is a hash store or a set store."""
    return reserved_prefix(stream) in {HASH, SET}


def field_subject(key: str, field: str, limits: Limits) -> str:
    """Return the subject of a hash's field. RefusedError (INVALID_ARGUMENT) where it is too long or no UTF-8."""
    return escaped_subject(_FIELDS, [key, field], "a hash's key with its field", limits)


def fields_head(key: str, limits: Limits) -> str:
    """Return what the subjects of one hash's fields begin with, and no others. RefusedError as above."""
    return f"{escaped_subject(_FIELDS, [key], 'a hash key', limits)}."


def member_subject(key: str, member: str, limits: Limits) -> str:
    """Return the subject of a set's member. RefusedError as above."""
    return escaped_subject(_MEMBERS, [key, member], "a set's key with its member", limits)


def members_head(key: str, limits: Limits) -> str:
    """Return what the subjects of one set's members begin with, and no others. RefusedError as above."""
    return f"{escaped_subject(_MEMBERS, [key], 'a set key', limits)}."


def head_of(subject: str) -> str:
    """Return what an entry's subject shares with all entries of its hash or set: it ends in the last dot."""
    return subject[: subject.rfind(".") + 1]


def entry_of(subject: str) -> str:
    """Return the field or member of an entry's subject. NotAToken where no service wrote it."""
    return unescape(subject[subject.rfind(".") + 1 :])
