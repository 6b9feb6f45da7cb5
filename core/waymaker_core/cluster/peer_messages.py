"""Messages between members: a heartbeat, a wish for the node that leads the catalog, and those of Raft and of replication.

Bytes are a CBOR list of version, kind and fields. `decode` raises `CorruptMessage` alone, whatever the bytes are.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cbor2

from waymaker_core.api.inputs import SentRecord
from waymaker_core.model.types import CATALOG
from waymaker_core.raft import message_codec as raft_codec
from waymaker_core.raft.message_codec import CorruptMessage
from waymaker_core.raft.messages import Message as RaftMessage
from waymaker_core.replication.conf import Seat
from waymaker_core.replication.log_view import begun_epoch
from waymaker_core.replication.messages import (
    Acked,
    Append,
    Donation,
    Fence,
    Heard,
    Lacking,
    Mismatch,
    Promised,
    Refused,
    Want,
)
from waymaker_core.replication.messages import Message as ReplicaMessage
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

VERSION: Final = 1
NUMBER_END: Final = 1 << 64
_BEAT, _CLAIM, _OPEN, _RAFT, _REPLICA, _HELLO, _PLACE, _ASK, _END = range(1, 10)


class Beat(NamedTuple):
    """A member is there."""


class Hello(NamedTuple):
    """A member says which directory it has, how that stands to a group, and which members it is set up with."""

    directory: int
    condition: int
    nodes: tuple[int, ...]


class OfGroup(NamedTuple):
    """A message between the members of the catalog's group, with the directory of its sender, and if that is in doubt."""

    directory: int
    doubtful: bool
    message: RaftMessage


class EndAsked(NamedTuple):
    """A member asks the catalog's leader for a position up to which the catalog is committed now. Answered by `EndKnown`."""

    number: int


class EndKnown(NamedTuple):
    """When it was asked this, the catalog was committed up to a position at most: all that was claimed before lies below."""

    number: int
    position: int


class ClaimWanted(NamedTuple):
    """The primary of a claim cannot go on in its epoch, and asks for another claim, for a certain node unless that is 0."""

    stream_id: int
    epoch: int
    primary: int


class PlaceWanted(NamedTuple):
    """The primary of a claim asks for a claim on as many nodes as there should be (`spread`), or on itself alone."""

    stream_id: int
    epoch: int
    spread: bool


class OpenWanted(NamedTuple):
    """The primary of a claim asks that its epoch is recorded as opened."""

    stream_id: int
    epoch: int


class OfReplica(NamedTuple):
    """A message between the replicas of a stream."""

    stream_id: int
    message: ReplicaMessage


PeerMessage = Beat | Hello | ClaimWanted | PlaceWanted | OpenWanted | OfReplica | OfGroup | EndAsked | EndKnown

_KINDS: Final[tuple[type[ReplicaMessage], ...]] = (
    Fence,
    Promised,
    Want,
    Donation,
    Append,
    Acked,
    Heard,
    Mismatch,
    Refused,
    Lacking,
)
_CODES: Final = {kind: code for code, kind in enumerate(_KINDS, 1)}


def encode(message: PeerMessage) -> bytes:
    """Encode a message."""
    if isinstance(message, Beat):
        return cbor2.dumps([VERSION, _BEAT])
    if isinstance(message, ClaimWanted):
        return cbor2.dumps([VERSION, _CLAIM, *message])
    if isinstance(message, PlaceWanted):
        return cbor2.dumps([VERSION, _PLACE, *message])
    if isinstance(message, OpenWanted):
        return cbor2.dumps([VERSION, _OPEN, *message])
    if isinstance(message, OfReplica):
        inner = message.message
        return cbor2.dumps([VERSION, _REPLICA, message.stream_id, _CODES[type(inner)], *map(_plain, inner)])
    if isinstance(message, Hello):
        return cbor2.dumps([VERSION, _HELLO, *map(_plain, message)])
    if isinstance(message, EndAsked):
        return cbor2.dumps([VERSION, _ASK, *message])
    if isinstance(message, EndKnown):
        return cbor2.dumps([VERSION, _END, *message])
    return cbor2.dumps(
        [VERSION, _RAFT, message.directory, message.doubtful, raft_codec.encode(CATALOG, message.message)]
    )


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def decode(data: bytes) -> PeerMessage:
    """Decode a message. `CorruptMessage` where there is none, or one of a version to come."""
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as problem:
        raise CorruptMessage(f"not CBOR: {problem}") from problem
    match value:
        case [int(version), *_] if version != VERSION:
            raise CorruptMessage(f"a message of version {version}; this program knows version {VERSION}")
        case [_, bool(), *_]:
            raise CorruptMessage("not a kind")
        case [_, int(kind), number] if kind == _ASK:
            return EndAsked(_number(number))
        case [_, int(kind), number, position] if kind == _END:
            return EndKnown(_number(number), _number(position))
        case [_, int(kind), directory, bool(doubtful), bytes(inner)] if kind == _RAFT:
            return OfGroup(_number(directory), doubtful, raft_codec.decode(CATALOG, inner))
        case [_, int(kind), directory, condition, nodes] if kind == _HELLO:
            return Hello(_number(directory), _number(condition), tuple(map(_number, _list(nodes))))
        case [_, int(kind)] if kind == _BEAT:
            return Beat()
        case [_, int(kind), stream_id, epoch, primary] if kind == _CLAIM:
            return ClaimWanted(_number(stream_id), _number(epoch), _number(primary))
        case [_, int(kind), stream_id, epoch, bool(spread)] if kind == _PLACE:
            return PlaceWanted(_number(stream_id), _number(epoch), spread)
        case [_, int(kind), stream_id, epoch] if kind == _OPEN:
            return OpenWanted(_number(stream_id), _number(epoch))
        case [_, int(kind), stream_id, int(code), *fields] if kind == _REPLICA and 0 < code <= len(_KINDS):
            return OfReplica(_number(stream_id), _replica_message(_KINDS[code - 1], fields))
    raise CorruptMessage("not a message")


def _replica_message(kind: type[ReplicaMessage], fields: list[object]) -> ReplicaMessage:
    names = kind._fields
    if len(fields) != len(names):
        raise CorruptMessage(f"{len(fields)} fields where {len(names)} belong")
    return kind._make(_field(name, value) for name, value in zip(names, fields, strict=True))


def _field(name: str, value: object) -> object:
    if name == "seat":
        node, directory = _list(value, 2)
        return Seat(_number(node), _number(directory))
    if name == "starts":
        return tuple(_start(each) for each in _list(value))
    if name == "records":
        return tuple(_record(each) for each in _list(value))
    return _number(value)


def _start(value: object) -> tuple[int, int]:
    epoch, position = _list(value, 2)
    return _number(epoch), _number(position)


def _record(value: object) -> SentRecord:
    match value:
        case [int(kind), int(version), bytes(meta), bytes(body)]:
            record = SentRecord(_number(kind), _number(version), meta, body)
            try:
                begun_epoch(record)
            except (CorruptRecord, UnknownVersion) as problem:
                raise CorruptMessage(str(problem)) from problem
            return record
    raise CorruptMessage("not a record")


def _list(value: object, length: int | None = None) -> list[object]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise CorruptMessage("not a list of that length")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_END:
        raise CorruptMessage("not a number")
    return value
