"""Messages between members: a heartbeat, a wish for the node that leads the catalog, and those of Raft and of replication.

All that one member has for another after a step leaves in one frame, in columns: a CBOR list of version and groups, its length
before it in four bytes, and behind it the bodies of records, each of which is so copied once. A group is a list of a code, the
ids of the streams, and one column for each field; a column of equal numbers is that number. Groups stand in order of codes, so
that Raft, fences and acknowledgments never wait for records. Messages of one kind keep their order. `decode_frame` raises
`CorruptMessage` alone, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple, cast

import cbor2

from waymaker_core.api.inputs import SentRecord
from waymaker_core.model.records import EpochRecord
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
_LENGTH: Final = Struct("<I")
NUMBER_END: Final = 1 << 64
FRAME_BYTES_MAX: Final = 1 << 20
"""Bytes of records from which on a frame takes no further message; a single message may have more."""
SMALL_BYTES: Final = 1 << 10
"""The length up to which a frame is small: a lane that is full has room left for small ones."""
_ANNOUNCEMENT, _BEAT, _RAFT, _CLAIM, _OPEN, _REPLICA = range(6)
_PLACE, _END_ASKED, _END_KNOWN, _MOVE, _READY, _OFFERED, _PIECE_ASKED, _PIECE, _ADOPTED = range(32, 41)
"""Rare ones, behind all others."""


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


class Announcement(NamedTuple):
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
    """The answer to `EndAsked`: all that was claimed before the question lies at this position or below."""

    number: int
    position: int


class ClaimWanted(NamedTuple):
    """The primary of a claim cannot go on in its epoch, and asks for another claim, for a certain node unless that is 0."""

    stream_id: int
    epoch: int
    primary: int


class PlaceWanted(NamedTuple):
    """The primary of a claim asks for a claim on as many nodes as there should be."""

    stream_id: int
    epoch: int


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


class SnapshotOffered(NamedTuple):
    """The primary of an epoch offers a snapshot of a stream, under a number of its own, to a replica that lacks records.

    `position`: that of the snapshot, or a smaller one. `opened`: 1 if the epoch is open, and begins before that. The catalog's
    snapshot is offered by Raft's own message.
    """

    stream_id: int
    epoch: int
    number: int
    position: int
    opened: int


class SnapshotAdopted(NamedTuple):
    """A replica says that it has what it was offered: its log goes on behind a position."""

    stream_id: int
    epoch: int
    number: int
    position: int


class PieceAsked(NamedTuple):
    """The receiver of a snapshot asks for a piece, from 0 on: it has all before. Answered by `Piece`."""

    stream_id: int
    number: int
    piece: int


class Piece(NamedTuple):
    """A piece of a snapshot. `more`: 0 for the last one of the catalog's."""

    stream_id: int
    number: int
    piece: int
    more: int
    data: bytes


Wish = ClaimWanted | PlaceWanted | OpenWanted | MoveReady
"""A message for the leader of the catalog."""
_OfSnapshot = SnapshotOffered | SnapshotAdopted | PieceAsked | Piece
PeerMessage = Beat | Announcement | Wish | MoveWanted | OfReplica | OfGroup | EndAsked | EndKnown | _OfSnapshot

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
_Row = (
    ClaimWanted | PlaceWanted | OpenWanted | EndAsked | EndKnown | MoveWanted | MoveReady | SnapshotOffered
    | SnapshotAdopted | PieceAsked
)  # fmt: skip
"""A message that is a row of numbers."""
_ROWS: Final[dict[int, type[_Row]]] = {
    _END_ASKED: EndAsked, _END_KNOWN: EndKnown, _CLAIM: ClaimWanted, _PLACE: PlaceWanted, _OPEN: OpenWanted,
    _MOVE: MoveWanted, _READY: MoveReady, _OFFERED: SnapshotOffered, _PIECE_ASKED: PieceAsked,
    _ADOPTED: SnapshotAdopted,
}  # fmt: skip
_ROW_CODES: Final[dict[type[object], int]] = {kind: code for code, kind in _ROWS.items()}


# ---------------------------------------------------------------- bytes of messages


def frames_of(messages: Sequence[PeerMessage]) -> Iterator[bytes]:
    """Encode messages for one member: one frame, or several where there are many records.

    A heartbeat and an announcement leave in a small frame, whatever leaves beside them.
    """
    if len(messages) == 1:
        bodies: list[bytes] = []
        yield _packed([_single(messages[0], bodies)], bodies)
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
                    yield from _frames(groups)
                    groups, size = {}, 0
                size += added
        elif isinstance(message, _Row):
            code = _ROW_CODES[type(message)]
        elif isinstance(message, OfGroup):
            code = _RAFT
        elif isinstance(message, Piece):
            code = _PIECE
        else:
            code = _BEAT if isinstance(message, Beat) else _ANNOUNCEMENT
        group = groups.get(code)
        if group is None:
            groups[code] = [message]
        else:
            group.append(message)
    if groups:
        yield from _frames(groups)


def _frames(groups: dict[int, list[PeerMessage]]) -> Iterator[bytes]:
    """Yield the frame of some groups, before it a frame for those that must not be dropped with a large one."""
    frame = _frame(groups)
    if len(frame) > SMALL_BYTES:
        small = {code: groups.pop(code) for code in (_ANNOUNCEMENT, _BEAT) if code in groups}
        if small and groups:
            yield _frame(small)
            frame = _frame(groups)
    yield frame


def _frame(groups: dict[int, list[PeerMessage]]) -> bytes:
    bodies: list[bytes] = []
    return _packed([_group(code, groups[code], bodies) for code in sorted(groups)], bodies)


def _packed(groups: list[list[object]], bodies: list[bytes]) -> bytes:
    head = cbor2.dumps([VERSION, *groups])
    return b"".join([_LENGTH.pack(len(head)), head, *bodies])


def _plain(value: object, bodies: list[bytes]) -> object:
    """Return a field that is a list: epochs, or records, whose bodies stand elsewhere."""
    assert isinstance(value, tuple)
    if not value or not isinstance(value[0], SentRecord):
        return value
    bodies += [record.body for record in value]
    return [(record.kind, record.version, record.meta, len(record.body)) for record in value]


def _single(message: PeerMessage, bodies: list[bytes]) -> list[object]:
    """Return the group of one message: what `_group` makes of it, and quicker."""
    if isinstance(message, OfReplica):
        inner = message.message
        code = _CODES[type(inner)]
        group: list[object] = [code, (message.stream_id,)]
        for nested, value in zip(_IS_NESTED[code], inner, strict=True):
            if nested:
                group.append((_plain(value, bodies),))
            elif type(value) is Seat:
                group += value
            else:
                group.append(value)
        return group
    if isinstance(message, _Row):
        first, *others = message
        return [_ROW_CODES[type(message)], (first,), *others]
    if isinstance(message, Piece):
        return _group(_PIECE, [message], bodies)
    if isinstance(message, Announcement):
        return [_ANNOUNCEMENT, *message]
    return [_BEAT, *message] if isinstance(message, Beat) else _group(_RAFT, [message], bodies)


def _group(code: int, messages: Sequence[PeerMessage], bodies: list[bytes]) -> list[object]:
    if code in (_BEAT, _ANNOUNCEMENT):
        return [code, *messages[-1]]
    if code == _RAFT:
        of_group = [each for each in messages if isinstance(each, OfGroup)]
        encoded = [raft_codec.encode(CATALOG, each.message) for each in of_group]
        doubts = [int(each.doubtful) for each in of_group]
        return [code, encoded, _shortened([each.directory for each in of_group]), _shortened(doubts)]
    if code == _PIECE:
        pieces = [each for each in messages if isinstance(each, Piece)]
        bodies += [each.data for each in pieces]
        return [code, [each.stream_id for each in pieces], [(*each[1:4], len(each.data)) for each in pieces]]
    if code in _ROWS:
        ids, *columns = zip(*(each for each in messages if isinstance(each, _Row)), strict=True)
        return [code, ids, *map(_shortened, columns)]
    of_streams = [each for each in messages if isinstance(each, OfReplica)]
    group: list[object] = [code, [each.stream_id for each in of_streams]]
    fields = _KINDS[code - _REPLICA]._fields
    for name, column in zip(fields, zip(*(each.message for each in of_streams), strict=True), strict=True):
        if name == "seat":
            group += [_shortened([seat[0] for seat in column]), _shortened([seat[1] for seat in column])]
        elif name in _NESTED:
            group.append([_plain(value, bodies) for value in column])
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
    end = _LENGTH.size + (_LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else 0)
    if not _LENGTH.size < end <= len(data):
        raise CorruptMessage("not a frame")
    try:
        value: object = cbor2.loads(data[_LENGTH.size : end])
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as problem:
        raise CorruptMessage(f"not CBOR: {problem}") from problem
    if not isinstance(value, list) or len(value) < 2 or type(value[0]) is not int:
        raise CorruptMessage("not a frame")
    if value[0] != VERSION:
        raise CorruptMessage(f"a frame of version {value[0]}; this program knows version {VERSION}")
    bodies = _Bodies(data, end)
    found: list[PeerMessage] = []
    for group in value[1:]:
        found += _messages(group, bodies)
    if bodies.at != len(data):
        raise CorruptMessage("bytes that are no body")
    return found


class _Bodies:
    """The bodies behind the messages of a frame, from the place `at` on."""

    __slots__ = ("data", "at")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def take(self, length: int) -> bytes:
        """Take the next body."""
        at, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise CorruptMessage("the frame is cut short")
        return self.data[at : self.at]


def _messages(group: object, bodies: _Bodies) -> list[PeerMessage]:
    if not isinstance(group, list) or not group or type(group[0]) is not int:
        raise CorruptMessage("not a group of messages")
    code = group[0]
    if code == _BEAT and len(group) == 1 + len(Beat._fields):
        return [Beat(*map(_number, group[1:]))]
    if code == _ANNOUNCEMENT and len(group) == 4:
        nodes = _list(group[3])
        return [Announcement(_number(group[1]), _number(group[2]), tuple(_numbers(nodes, len(nodes))))]
    ids = group[1] if len(group) > 1 else None
    if not isinstance(ids, list) or not ids:
        raise CorruptMessage("not a group of messages")
    if code == _RAFT and len(group) == 4:
        messages = [raft_codec.decode(CATALOG, _bytes(each)) for each in ids]
        doubts = map(bool, _numbers(group[3], len(ids)))
        return list(map(OfGroup, _numbers(group[2], len(ids)), doubts, messages))
    _numbers(ids, len(ids))
    if code == _PIECE and len(group) == 3:
        rows = [_numbers(_list(each, 4), 4) for each in _list(group[2], len(ids))]
        return [
            Piece(of, at, piece, more, bodies.take(size)) for of, (at, piece, more, size) in zip(ids, rows, strict=True)
        ]
    if _REPLICA <= code < _CODE_END:
        return _of_replicas(_KINDS[code - _REPLICA], ids, group, bodies)
    row = _ROWS.get(code)
    if row is None or len(group) != len(row._fields) + 1:
        raise CorruptMessage("not a group of messages")
    make = cast("Callable[[Iterable[object]], PeerMessage]", row._make)
    return list(map(make, zip(ids, *(_numbers(each, len(ids)) for each in group[2:]), strict=True)))


def _of_replicas(kind: type[ReplicaMessage], ids: list[int], group: list[object], bodies: _Bodies) -> list[PeerMessage]:
    count, names = len(ids), kind._fields
    if len(group) != 2 + len(names) + ("seat" in names):
        raise CorruptMessage(f"{len(group) - 2} columns where {len(names)} fields belong")
    if count == 1:
        return [_of_one(kind, ids[0], group, bodies)]
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
            fields.append([tuple(_record(each, bodies) for each in _list(value)) for value in _list(column, count)])
        else:
            fields.append(_numbers(column, count))
    messages = map(cast("Callable[[Iterable[object]], ReplicaMessage]", kind._make), zip(*fields, strict=True))
    return list(map(OfReplica, ids, messages))


def _of_one(kind: type[ReplicaMessage], stream_id: int, group: list[object], bodies: _Bodies) -> OfReplica:
    """Return the message of a group of one: what the columns say, and quicker. A lone publish has no other groups."""
    values: list[object] = []
    at = 2
    for name in kind._fields:
        value = group[at]
        at += 1
        if name == "seat":
            values.append(Seat(_only_number(value), _only_number(group[at])))
            at += 1
        elif name == "records":
            values.append(tuple([_record(each, bodies) for each in _list(_list(value, 1)[0])]))
        elif name == "starts":
            values.append(tuple(map(_start, _list(_list(value, 1)[0]))))
        elif type(value) is int and 0 <= value < NUMBER_END:
            values.append(value)
        else:
            values.append(_only_number(value))
    make = cast("Callable[[Iterable[object]], ReplicaMessage]", kind._make)
    return OfReplica(stream_id, make(values))


def _only_number(column: object) -> int:
    """Return the number of a column of one."""
    return _number(column if type(column) is int else _list(column, 1)[0])


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


def _record(value: object, bodies: _Bodies) -> SentRecord:
    kind, version, meta, length = _list(value, 4)
    record = SentRecord(_number(kind), _number(version), _bytes(meta), bodies.take(_number(length)))
    if record.kind == EpochRecord.KIND:
        try:
            begun_epoch(record)
        except (CorruptRecord, UnknownVersion) as problem:
            raise CorruptMessage(str(problem)) from problem
    return record


def _list(value: object, length: int | None = None) -> list[object]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise CorruptMessage("not a list of that length")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_END:
        raise CorruptMessage("not a number")
    return value
