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
_BEAT, _CLAIM, _OPEN, _RAFT, _REPLICA = range(1, 6)
_MOVE, _READY = 21, 22


class Beat(NamedTuple):
    """A member is there. It takes no streams while it is leaving, or while its disk is stalled.

    The other fields are the sums of the streams that it leads.
    """

    leaving: int = 0
    stalled: int = 0
    streams: int = 0
    messages: int = 0
    bytes: int = 0


class ClaimWanted(NamedTuple):
    """The primary of a claim cannot go on in its epoch, and asks for another claim, for a certain node unless that is 0."""

    stream_id: int
    epoch: int
    primary: int


class OpenWanted(NamedTuple):
    """The primary of a claim asks that its epoch is recorded as opened."""

    stream_id: int
    epoch: int


class MoveWanted(NamedTuple):
    """The leader of the catalog asks the primary of a claim to give its stream to another replica, by a planned move."""

    stream_id: int
    epoch: int
    to: int


class MoveReady(NamedTuple):
    """The primary of a claim has drained its stream: another replica has all, and may be claimed for."""

    stream_id: int
    epoch: int
    to: int


class OfReplica(NamedTuple):
    """A message between the replicas of a stream."""

    stream_id: int
    message: ReplicaMessage


PeerMessage = Beat | ClaimWanted | OpenWanted | MoveWanted | MoveReady | OfReplica | RaftMessage

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
        return cbor2.dumps([VERSION, _BEAT, *message])
    if isinstance(message, ClaimWanted):
        return cbor2.dumps([VERSION, _CLAIM, *message])
    if isinstance(message, OpenWanted):
        return cbor2.dumps([VERSION, _OPEN, *message])
    if isinstance(message, MoveWanted | MoveReady):
        return cbor2.dumps([VERSION, _MOVE if isinstance(message, MoveWanted) else _READY, *message])
    if isinstance(message, OfReplica):
        inner = message.message
        return cbor2.dumps([VERSION, _REPLICA, message.stream_id, _CODES[type(inner)], *map(_plain, inner)])
    return cbor2.dumps([VERSION, _RAFT, raft_codec.encode(CATALOG, message)])


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
        case [_, int(kind), bytes(inner)] if kind == _RAFT:
            return raft_codec.decode(CATALOG, inner)
        case [_, int(kind), *fields] if kind == _BEAT and len(fields) == len(Beat._fields):
            return Beat(*map(_number, fields))
        case [_, int(kind), stream_id, epoch, primary] if kind == _CLAIM:
            return ClaimWanted(_number(stream_id), _number(epoch), _number(primary))
        case [_, int(kind), stream_id, epoch, to] if kind in (_MOVE, _READY):
            moved = MoveWanted if kind == _MOVE else MoveReady
            return moved(_number(stream_id), _number(epoch), _number(to))
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
