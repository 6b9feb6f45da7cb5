"""Messages as bytes: a CBOR list of version, group, kind and fields in a fixed order; entries lie in columns.

`decode` raises `CorruptMessage` alone, whatever the bytes are, and takes only what `encode` would have written: a message is
either understood as a whole or not at all. A field is never added to a kind of message; a new layout is a new version.
"""

from __future__ import annotations

from typing import Final, TypeVar

import cbor2

from waymaker_core.raft.entries import Entry, SnapshotMeta
from waymaker_core.raft.members import members_as_list, members_from
from waymaker_core.raft.messages import (
    AppendRefused,
    AppendRequest,
    AppendResponse,
    Message,
    SnapshotRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from waymaker_core.raft.validity import is_plausible

VERSION: Final = 1
_VOTE_REQUEST, _VOTE_RESPONSE, _APPEND, _RESPONSE, _REFUSED, _SNAPSHOT, _TIMEOUT = range(1, 8)
_HEAD: Final = 6
"""Version, group, kind, sender, receiver, term."""

T = TypeVar("T")


class CorruptMessage(ValueError):
    """Bytes that are no message of this group, or one of a version to come."""


def encode(group: int, message: Message) -> bytes:
    """Encode a message of a group."""
    kind, fields = _fields(message)
    return cbor2.dumps([VERSION, group, kind, message.sender, message.to, message.term, *fields])


def _fields(message: Message) -> tuple[int, list[object]]:
    if isinstance(message, AppendRequest):
        entries = message.entries
        columns: list[object] = [
            [each.term for each in entries], bytes(each.kind for each in entries), [each.data for each in entries],
        ]  # fmt: skip
        return _APPEND, [message.prev_index, message.prev_term, message.commit, message.round, *columns]
    if isinstance(message, AppendResponse):
        return _RESPONSE, [message.verified, message.durable, message.round]
    if isinstance(message, AppendRefused):
        return _REFUSED, [message.prev_index, message.hint_index, message.hint_term, message.round]
    if isinstance(message, VoteRequest):
        return _VOTE_REQUEST, [message.last_index, message.last_term, message.pre, message.forced]
    if isinstance(message, VoteResponse):
        return _VOTE_RESPONSE, [message.pre, message.granted]
    if isinstance(message, SnapshotRequest):
        snapshot = message.snapshot
        return _SNAPSHOT, [snapshot.index, snapshot.term, members_as_list(snapshot.members), message.round]
    return _TIMEOUT, []


def decode(group: int, data: bytes) -> Message:
    """Decode a message of this group. `CorruptMessage` where there is none."""
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as problem:
        raise CorruptMessage(f"not CBOR: {problem}") from problem
    if not isinstance(value, list) or len(value) < _HEAD:
        raise CorruptMessage("not a message")
    version, of_group = _number(value[0]), _number(value[1])
    if version != VERSION:
        raise CorruptMessage(f"a message of version {version}; this program knows version {VERSION}")
    if of_group != group:
        raise CorruptMessage(f"a message of group {of_group}, not of {group}")
    try:
        message = _message(_number(value[2]), [_number(each) for each in value[3:_HEAD]], value[_HEAD:])
    except CorruptMessage:
        raise
    except ValueError as problem:
        raise CorruptMessage(str(problem)) from problem
    if not is_plausible(message):
        raise CorruptMessage("a message that no member sends")
    if encode(group, message) != data:
        raise CorruptMessage("not the shortest encoding")
    return message


def _message(kind: int, head: list[int], fields: list[object]) -> Message:
    sender, to, term = head
    if kind == _APPEND:
        return _append_request(sender, to, term, _taken(fields, 7))
    if kind == _RESPONSE:
        return AppendResponse(sender, to, term, *_numbers(fields, 3))
    if kind == _REFUSED:
        return AppendRefused(sender, to, term, *_numbers(fields, 4))
    if kind == _VOTE_REQUEST:
        last_index, last_term, pre, forced = _taken(fields, 4)
        return VoteRequest(
            sender, to, term, _number(last_index), _number(last_term), _typed(pre, bool), _typed(forced, bool)
        )
    if kind == _VOTE_RESPONSE:
        pre, granted = _taken(fields, 2)
        return VoteResponse(sender, to, term, _typed(pre, bool), _typed(granted, bool))
    if kind == _SNAPSHOT:
        index, of_term, members, round_ = _taken(fields, 4)
        snapshot = SnapshotMeta(_number(index), _number(of_term), members_from(members))
        return SnapshotRequest(sender, to, term, snapshot, _number(round_))
    if kind == _TIMEOUT:
        _taken(fields, 0)
        return TimeoutNow(sender, to, term)
    raise CorruptMessage(f"a message of unknown kind {kind}")


def _append_request(sender: int, to: int, term: int, fields: list[object]) -> AppendRequest:
    prev_index, prev_term, commit, round_ = _numbers(fields[:4], 4)
    terms = [_number(each) for each in _typed(fields[4], list)]
    kinds = _typed(fields[5], bytes)
    datas = [_typed(each, bytes) for each in _typed(fields[6], list)]
    if not len(terms) == len(kinds) == len(datas):
        raise CorruptMessage("columns of entries differ in length")
    entries = tuple(map(Entry, terms, kinds, datas))
    return AppendRequest(sender, to, term, prev_index, prev_term, entries, commit, round_)


def _taken(fields: list[object], count: int) -> list[object]:
    if len(fields) != count:
        raise CorruptMessage(f"{len(fields)} fields where {count} belong")
    return fields


def _numbers(fields: list[object], count: int) -> list[int]:
    return [_number(each) for each in _taken(fields, count)]


def _number(value: object) -> int:
    number = _typed(value, int)
    if not 0 <= number < 1 << 64:
        raise CorruptMessage("a number out of range")
    return number


def _typed(value: object, kind: type[T]) -> T:
    """Return a value that has exactly this type: a boolean is no number."""
    if type(value) is not kind:
        raise CorruptMessage(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value
