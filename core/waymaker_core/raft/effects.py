"""Everything a member can want done. The mirror of `inputs`: each docstring names the input that answers it.

Effects of one step are performed in order. A `Send` is only emitted when all that the message promises is durable, so an
executor may perform it at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from waymaker_core.raft.entries import Entry, HardState, SnapshotMeta
from waymaker_core.raft.messages import Message


class Role(IntEnum):
    """The part that a member plays."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    """It asks whether it would be elected."""
    CANDIDATE = 2
    LEADER = 3
    STOPPED = 4
    """Its disk failed."""


@dataclass(slots=True, eq=False)
class Write:
    """One durable act, in this order: the term and vote, if given; cut the log from `cut_from`, unless 0; append the entries.

    Answered by `Saved`. After a crash a part of it may be on disk, as long as that is a beginning in the order given.
    """

    number: int
    hard: HardState | None
    cut_from: int
    first: int
    entries: tuple[Entry, ...]


@dataclass(slots=True, eq=False)
class Install:
    """Replace log and state by a received snapshot in one durable act. Answered by `Saved`.

    `Apply` goes on behind the snapshot; `Applied` for its index is implied.
    """

    number: int
    snapshot: SnapshotMeta


@dataclass(slots=True, eq=False)
class Send:
    """A message for another member. To a `SnapshotRequest` the executor adds the payload of that snapshot."""

    message: Message


@dataclass(slots=True, eq=False)
class Apply:
    """Entries from `first` on are committed, and durable here. Answered by `Applied`. Each index comes once a run, in order."""

    first: int
    entries: tuple[Entry, ...]


@dataclass(slots=True, eq=False)
class Accepted:
    """A proposal is in the leader's log. Its outcome is open until this index is applied: with this term it is committed."""

    token: int
    index: int
    term: int


class Reason(IntEnum):
    """The reason of a refusal."""

    NOT_LEADER = 1
    BUSY = 2
    """Too much waits already; try again later."""
    TOO_LARGE = 3
    NOT_YET = 4
    """An earlier change of the members is not committed, or the term is too young, or the learner lags; try again later."""
    IMPOSSIBLE = 5
    """The change or transfer does not fit the members."""
    HANDING_OVER = 6
    """Another node is about to lead."""


@dataclass(slots=True, eq=False)
class Refused:
    """The refusal of a proposal, a read or a transfer: it has no effect. `leader` is the leader as far as known, else 0."""

    token: int
    reason: Reason
    leader: int


@dataclass(slots=True, eq=False)
class Readable:
    """Reads may be answered from state that has applied `index`, or more: a majority was asked after them."""

    tokens: tuple[int, ...]
    index: int


@dataclass(slots=True, eq=False)
class RoleChanged:
    """The member's role, the term or the leader as it knows them (0: none) have changed."""

    role: Role
    term: int
    leader: int


@dataclass(slots=True, eq=False)
class SnapshotWanted:
    """A snapshot at the applied index would release much of the log. Answered by `SnapshotTaken`, some time."""

    snapshot: SnapshotMeta


@dataclass(slots=True, eq=False)
class Release:
    """Entries up to an index are not needed any more: a durable snapshot covers them."""

    index: int


Effect = (
    Write | Install | Send | Apply | Accepted | Refused | Readable | RoleChanged | SnapshotWanted | Release
)  # fmt: skip
