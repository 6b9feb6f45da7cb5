"""Messages between members: a heartbeat, a wish for the node that leads the catalog, and those of Raft and of replication.

All that one member has for another after a step leaves in one frame, in columns: a CBOR list of version and groups. A group is
a list of a code, the ids of the streams, and one column for each field; a column of equal numbers is that number. Groups stand
in order of codes, so that Raft, fences and acknowledgments never wait for records. Messages of one kind keep their order.
`decode_frame` raises `CorruptMessage` alone, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, cast

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

VERSION: Final = 2
NUMBER_END: Final = 1 << 64
FRAME_BYTES_MAX: Final = 1 << 20
"""Bytes of records from which on a frame takes no further message; a single message may have more."""
_HELLO, _BEAT, _RAFT, _CLAIM, _OPEN, _REPLICA = range(6)
_MOVE, _READY = 40, 41


class Beat(NamedTuple):
    """A member is there. It takes no streams while it is leaving, or while its disk is stalled.

    `run`: a number that each of its starts draws. The other fields are the sums of the streams that it leads.
    """

    run: int = 0
    leaving: int = 0
    stalled: int = 0
    streams: int = 0
    messages: int = 0
    bytes: int = 0


class Hello(NamedTuple):
    """A member says which directory it has, how that stands to a group, and which members it is set up with."""

    directory: int
    standing: int
    nodes: tuple[int, ...]


class OfGroup(NamedTuple):
    """A message between the members of the catalog's group, with the directory of its sender."""

    directory: int
    message: RaftMessage


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
    """The leader of the catalog asks the primary of a claim to give its stream to another replica, by a planned move.

    The primary asks the other replica's node in the same words whether it is there.
    """

    stream_id: int
    epoch: int
    to: int


class MoveReady(NamedTuple):
    """The primary of a claim has drained its stream: another replica has all, and may be claimed for.

    That replica's node answers in the same words that it is there.
    """

    stream_id: int
    epoch: int
    to: int


class OfReplica(NamedTuple):
    """A message between the replicas of a stream."""

    stream_id: int
    message: ReplicaMessage


Wish = ClaimWanted | OpenWanted | MoveWanted | MoveReady
PeerMessage = Beat | Hello | Wish | OfReplica | OfGroup

_KINDS: Final[tuple[type[ReplicaMessage], ...]] = (
    Fence,
    Promised,
    Want,
    Lacking,
    Refused,
    Acked,
    Heard,
    Mismatch,
    Append,
    Donation,
)
_CODES: Final[dict[type[object], int]] = {kind: code for code, kind in enumerate(_KINDS, _REPLICA)}
_CODE_END: Final = _REPLICA + len(_KINDS)
_WISHES: Final[dict[int, type[ClaimWanted] | type[OpenWanted] | type[MoveWanted] | type[MoveReady]]] = {
    _CLAIM: ClaimWanted, _OPEN: OpenWanted, _MOVE: MoveWanted, _READY: MoveReady,
}  # fmt: skip


# ---------------------------------------------------------------- bytes of messages


def frames_of(messages: Sequence[PeerMessage]) -> Iterator[bytes]:
    """Encode messages for one member: one frame, or several where there are many records."""
    if len(messages) == 1:
        yield cbor2.dumps([VERSION, _single(messages[0])])
        return
    groups: dict[int, list[PeerMessage]] = {}
    size = 0
    for message in messages:
        if isinstance(message, OfReplica):
            inner = message.message
            code = _CODES[type(inner)]
            if isinstance(inner, Append | Donation):
                added = sum(len(each.meta) + len(each.body) for each in inner.records)
                if size and size + added > FRAME_BYTES_MAX:
                    yield _frame(groups)
                    groups, size = {}, 0
                size += added
        elif isinstance(message, ClaimWanted):
            code = _CLAIM
        elif isinstance(message, OpenWanted):
            code = _OPEN
        elif isinstance(message, MoveWanted | MoveReady):
            code = _MOVE if isinstance(message, MoveWanted) else _READY
        elif isinstance(message, OfGroup):
            code = _RAFT
        else:
            code = _BEAT if isinstance(message, Beat) else _HELLO
        group = groups.get(code)
        if group is None:
            groups[code] = [message]
        else:
            group.append(message)
    if groups:
        yield _frame(groups)


def _frame(groups: dict[int, list[PeerMessage]]) -> bytes:
    return cbor2.dumps([VERSION, *(_group(code, groups[code]) for code in sorted(groups))])


def _single(message: PeerMessage) -> list[object]:
    """Return the group of one message: what `_group` makes of it, and quicker."""
    if isinstance(message, OfReplica):
        inner = message.message
        code = _CODES[type(inner)]
        group: list[object] = [code, (message.stream_id,)]
        for nested, value in zip(_IS_NESTED[code], inner, strict=True):
            if nested:
                group.append((value,))
            elif type(value) is Seat:
                group += value
            else:
                group.append(value)
        return group
    if isinstance(message, ClaimWanted):
        return [_CLAIM, (message.stream_id,), message.epoch, message.primary]
    if isinstance(message, OpenWanted):
        return [_OPEN, (message.stream_id,), message.epoch]
    if isinstance(message, MoveWanted | MoveReady):
        code = _MOVE if isinstance(message, MoveWanted) else _READY
        return [code, (message.stream_id,), message.epoch, message.to]
    if isinstance(message, Hello):
        return [_HELLO, *message]
    return [_BEAT, *message] if isinstance(message, Beat) else _group(_RAFT, [message])


def _group(code: int, messages: Sequence[PeerMessage]) -> list[object]:
    if code in (_BEAT, _HELLO):
        return [code, *messages[-1]]
    if code == _RAFT:
        of_group = [each for each in messages if isinstance(each, OfGroup)]
        encoded = [raft_codec.encode(CATALOG, each.message) for each in of_group]
        return [code, encoded, _shortened([each.directory for each in of_group])]
    if code in _WISHES:
        ids, *columns = zip(*(each for each in messages if isinstance(each, Wish)), strict=True)
        return [code, ids, *map(_shortened, columns)]
    of_streams = [each for each in messages if isinstance(each, OfReplica)]
    group: list[object] = [code, [each.stream_id for each in of_streams]]
    fields = _KINDS[code - _REPLICA]._fields
    for name, column in zip(fields, zip(*(each.message for each in of_streams), strict=True), strict=True):
        if name == "seat":
            group += [_shortened([seat[0] for seat in column]), _shortened([seat[1] for seat in column])]
        elif name in _NESTED:
            group.append(column)
        else:
            group.append(_shortened(column))
    return group


_NESTED: Final = ("starts", "records")
_IS_NESTED: Final = {code: [name in _NESTED for name in kind._fields] for code, kind in enumerate(_KINDS, _REPLICA)}


def _shortened(column: Sequence[object]) -> object:
    """Return a column, or its number where all are equal."""
    first = column[0]
    return first if column.count(first) == len(column) else column


# ---------------------------------------------------------------- messages of bytes


def decode_frame(data: bytes) -> list[PeerMessage]:
    """Decode the messages of a frame. `CorruptMessage` where there is none, or one of a version to come."""
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as problem:
        raise CorruptMessage(f"not CBOR: {problem}") from problem
    if not isinstance(value, list) or len(value) < 2 or type(value[0]) is not int:
        raise CorruptMessage("not a frame")
    if value[0] != VERSION:
        raise CorruptMessage(f"a frame of version {value[0]}; this program knows version {VERSION}")
    found: list[PeerMessage] = []
    for group in value[1:]:
        found += _messages(group)
    return found


def _messages(group: object) -> list[PeerMessage]:
    if not isinstance(group, list) or not group or type(group[0]) is not int:
        raise CorruptMessage("not a group of messages")
    code = group[0]
    if code == _BEAT and len(group) == 1 + len(Beat._fields):
        return [Beat(*map(_number, group[1:]))]
    if code == _HELLO and len(group) == 4:
        nodes = _list(group[3])
        return [Hello(_number(group[1]), _number(group[2]), tuple(_numbers(nodes, len(nodes))))]
    ids = group[1] if len(group) > 1 else None
    if not isinstance(ids, list) or not ids:
        raise CorruptMessage("not a group of messages")
    if code == _RAFT and len(group) == 3:
        messages = [raft_codec.decode(CATALOG, _bytes(each)) for each in ids]
        return list(map(OfGroup, _numbers(group[2], len(ids)), messages))
    _numbers(ids, len(ids))
    if _REPLICA <= code < _CODE_END:
        return _of_replicas(_KINDS[code - _REPLICA], ids, group)
    wish = _WISHES.get(code)
    if wish is None or len(group) != len(wish._fields) + 1:
        raise CorruptMessage("not a group of messages")
    return list(map(wish._make, zip(ids, *(_numbers(each, len(ids)) for each in group[2:]), strict=True)))


def _of_replicas(kind: type[ReplicaMessage], ids: list[int], group: list[object]) -> list[PeerMessage]:
    count, names = len(ids), kind._fields
    if len(group) != 2 + len(names) + ("seat" in names):
        raise CorruptMessage(f"{len(group) - 2} columns where {len(names)} fields belong")
    at = 2
    fields: list[Sequence[object]] = []
    for name in names:
        column = group[at]
        at += 1
        if name == "seat":
            fields.append(_seats(column, group[at], count))
            at += 1
        elif name == "starts":
            fields.append([tuple(map(_start, _list(value))) for value in _list(column, count)])
        elif name == "records":
            fields.append([tuple(map(_record, _list(value))) for value in _list(column, count)])
        else:
            fields.append(_numbers(column, count))
    messages = map(cast("Callable[[Iterable[object]], ReplicaMessage]", kind._make), zip(*fields, strict=True))
    return list(map(OfReplica, ids, messages))


def _seats(nodes: object, directories: object, count: int) -> Sequence[Seat]:
    if isinstance(nodes, int) and isinstance(directories, int):
        return [Seat(_number(nodes), _number(directories))] * count
    return list(map(Seat, _numbers(nodes, count), _numbers(directories, count)))


def _numbers(column: object, count: int) -> list[int]:
    """Return a column of numbers."""
    if type(column) is int:
        return [_number(column)] * count
    found = _list(column, count)
    for value in found:
        if type(value) is not int or not 0 <= value < NUMBER_END:
            raise CorruptMessage("not a number")
    return cast("list[int]", found)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise CorruptMessage("not bytes")
    return value


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
