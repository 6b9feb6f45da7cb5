"""Messages between members, as typed values. `message_codec` gives them bytes; peers carry them in any way they like.

A message may be lost, repeated, late or out of order; none of that is an error. All fields are integers without a sign.
"""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.raft.entries import Entry, SnapshotMeta


@dataclass(slots=True)
class VoteRequest:
    """A question for a vote in `term`, by a node whose log ends at `last_index` with `last_term`.

    `pre`: only asks whether it would get the vote, and changes nothing (Raft thesis, 9.6). `forced`: the leader has told the
    node to campaign, so that a voter does not hold on to that leader.
    """

    sender: int
    to: int
    term: int
    last_index: int
    last_term: int
    pre: bool = False
    forced: bool = False


@dataclass(slots=True)
class VoteResponse:
    """The answer to a `VoteRequest`. Of a granted `pre`, `term` is the one that was asked for; else the voter's own."""

    sender: int
    to: int
    term: int
    pre: bool
    granted: bool


@dataclass(slots=True)
class AppendRequest:
    """Entries that follow `prev_index`, whose entry has `prev_term`; none in a heartbeat.

    `round`: the newest round of read confirmations that had begun when it was sent.
    """

    sender: int
    to: int
    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    round: int


@dataclass(slots=True)
class AppendResponse:
    """The answer of a follower that agrees: its log equals the leader's up to `verified`, and is durable up to `durable`.

    `durable` is never beyond `verified`. `round` echoes the question's.
    """

    sender: int
    to: int
    term: int
    verified: int
    durable: int
    round: int


@dataclass(slots=True)
class AppendRefused:
    """The answer of a follower whose log does not reach, or differs at, `prev_index`; or that knows a newer term.

    No entry of its log behind `hint_index` can agree with the leader's, and the one there has `hint_term`.
    """

    sender: int
    to: int
    term: int
    prev_index: int
    hint_index: int
    hint_term: int
    round: int


@dataclass(slots=True)
class SnapshotRequest:
    """A snapshot for a follower that needs entries which the leader has released. The payload travels beside it."""

    sender: int
    to: int
    term: int
    snapshot: SnapshotMeta
    round: int


@dataclass(slots=True)
class TimeoutNow:
    """The leader's word to campaign at once (Raft thesis, 3.10)."""

    sender: int
    to: int
    term: int


Message = VoteRequest | VoteResponse | AppendRequest | AppendResponse | AppendRefused | SnapshotRequest | TimeoutNow
