"""Targets for what other members of the consensus group send: messages, and what a member does with them."""

from __future__ import annotations

from tests.fuzz.target import Target
from waymaker_core.raft import message_codec
from waymaker_core.raft.entries import Durable, Entry, EntryKind, HardState, SnapshotMeta
from waymaker_core.raft.inputs import Received, Saved
from waymaker_core.raft.members import Members, encode_members
from waymaker_core.raft.message_codec import CorruptMessage
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
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings

GROUP = 5
MEMBERS = Members((1, 2, 3))


def message_seeds() -> list[bytes]:
    """One message of each kind, to member 1."""
    entries = (
        Entry(1, EntryKind.NOOP),
        Entry(2, EntryKind.DATA, b"x"),
        Entry(2, EntryKind.MEMBERS, encode_members(MEMBERS)),
    )
    messages: list[Message] = [
        VoteRequest(2, 1, 3, 9, 2, True, False),
        VoteResponse(2, 1, 3, False, True),
        AppendRequest(2, 1, 2, 1, 0, entries, 2, 7),
        AppendResponse(2, 1, 2, 4, 3, 7),
        AppendRefused(2, 1, 2, 4, 3, 1, 7),
        SnapshotRequest(2, 1, 2, SnapshotMeta(8, 1, MEMBERS), 7),
        TimeoutNow(2, 1, 2),
    ]
    return [message_codec.encode(GROUP, message) for message in messages]


def run_message(data: bytes) -> None:
    """A message is refused, or means its bytes, and a member that gets it twice goes on."""
    try:
        message = message_codec.decode(GROUP, data)
    except CorruptMessage:
        return
    assert message_codec.encode(GROUP, message) == data
    member = Raft(1, RaftSettings(), 1, 0, Durable(HardState(), SnapshotMeta(1, 0, MEMBERS)))
    for now in (0, 1, 2_000):
        member.step(now, [Received(message), Saved(now + 1)])
    assert member.commit <= member.last_index


TARGETS = [Target("raft", message_seeds, run_message, (b"\x82", b"\x80", b"\x1b", b"\xf5", b"\xf4", b"\x40"))]
