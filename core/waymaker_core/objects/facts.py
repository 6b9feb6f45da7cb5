"""Facts of an object store: what its layer is told by a committed record beside the messages.

A fact is a CBOR list that begins with its kind. Times are not in it: those of the record's messages hold.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord

_STORED: Final = 1
_FINISHED: Final = 2
_DELETED: Final = 3
_SWEPT: Final = 4
_LOADED: Final = 5


class Stored(NamedTuple):
    """The messages of the record are chunks of an upload, and belong to no object yet."""


class Finished(NamedTuple):
    """The message of the record is the metadata of an object: its name, and its chunks in encoded form."""

    name: str
    total_bytes: int
    shared: bool
    chunks: bytes


class Deleted(NamedTuple):
    """The message of the record is a tombstone."""

    name: str


class Swept(NamedTuple):
    """The deletions of the record are chunks without an object, and all that is left of the names in `ended`."""

    ended: list[str]


class Loaded(NamedTuple):
    """A part of a snapshot, on its way into the layer of an imported stream: entries, and chunks without an object."""

    entries: list[object]
    loose: list[object]


Fact = Stored | Finished | Deleted | Swept | Loaded


def encode_fact(fact: Fact) -> bytes:
    """Return the stored form of a fact."""
    match fact:
        case Stored():
            return encode_plain([_STORED])
        case Finished():
            return encode_plain([_FINISHED, *fact])
        case Deleted():
            return encode_plain([_DELETED, *fact])
        case Swept():
            return encode_plain([_SWEPT, *fact])
        case Loaded():
            return encode_plain([_LOADED, *fact])


def decode_fact(data: bytes) -> Fact:
    """Return the fact that bytes hold. `CorruptRecord` where they hold none."""
    fact: Fact
    match decode_plain(data):
        case [1]:
            fact = Stored()
        case [2, str(name), int(total_bytes), bool(shared), bytes(chunks)] if 0 <= total_bytes <= SEQ_MAX:
            fact = Finished(name, total_bytes, shared, chunks)
        case [3, str(name)]:
            fact = Deleted(name)
        case [4, list(ended)] if all(isinstance(name, str) for name in ended):
            fact = Swept(ended)
        case [5, list(entries), list(loose)]:
            fact = Loaded(entries, loose)
        case _:
            raise CorruptRecord("not a fact of an object store")
    if encode_fact(fact) != data:
        raise CorruptRecord("not the shortest encoding of a fact")
    return fact
