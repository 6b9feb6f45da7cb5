"""Messages and durable facts that make no sense are recognised before anything looks at them.

A message of a foreign group, of a program with a fault, or mended by hand, is dropped; it never raises and never changes state.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.raft.entries import Durable, Entry, EntryKind
from waymaker_core.raft.members import decode_members
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

NUMBER_MAX: Final = 1 << 62
"""No term or index comes near this; a message that names one would end the group's numbers."""


class CorruptState(ValueError):
    """Durable facts that no member can have written."""


def is_plausible(message: Message) -> bool:
    """Return True if a member may have sent this."""
    if not 0 < message.term < NUMBER_MAX or message.sender < 1:
        return False
    if type(message) is AppendRequest:
        return _is_plausible_append(message)
    if type(message) is AppendResponse:
        return 0 <= message.durable <= message.verified < NUMBER_MAX
    if type(message) is AppendRefused:
        return 0 <= message.hint_term <= message.term and min(message.prev_index, message.hint_index) >= 0
    if type(message) is VoteRequest:
        return 0 <= message.last_term < message.term and 0 <= message.last_index < NUMBER_MAX
    if type(message) is SnapshotRequest:
        snapshot = message.snapshot
        known = 0 < snapshot.index < NUMBER_MAX and len(snapshot.members.voters) > 0
        return known and 0 <= snapshot.term <= message.term
    return type(message) is VoteResponse or type(message) is TimeoutNow


def _is_plausible_append(request: AppendRequest) -> bool:
    if not 0 <= request.prev_index < NUMBER_MAX or not 0 <= request.commit < NUMBER_MAX:
        return False
    return request.prev_term >= 0 and _follow(request.prev_term, request.entries, request.term)


def _follow(term: int, entries: tuple[Entry, ...], term_max: int) -> bool:
    """Return True if terms never fall, none is above a bound, and every set of members can be read."""
    for entry in entries:
        if entry.term < term:
            return False
        term = entry.term
        if entry.kind and not _is_known(entry):
            return False
    return term <= term_max


def _is_known(entry: Entry) -> bool:
    if entry.kind == EntryKind.NOOP:
        return not entry.data
    if entry.kind != EntryKind.MEMBERS:
        return False
    try:
        return len(decode_members(entry.data).voters) > 0
    except ValueError:
        return False


def check_durable(durable: Durable) -> None:
    """Compare what a disk holds with what a member writes. `CorruptState` where it cannot be."""
    hard, snapshot, entries, _ = durable
    if hard.term < 0 or hard.vote < 0 or snapshot.index < 0 or snapshot.term < 0:
        raise CorruptState("a negative number")
    if snapshot.members.voters and not snapshot.index:
        raise CorruptState("voters before the first entry")
    if not _follow(snapshot.term, entries, hard.term):
        raise CorruptState(f"an entry is unreadable, or has a term outside {snapshot.term}..{hard.term}")
