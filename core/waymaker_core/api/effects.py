"""Everything a node can want done. The mirror of `inputs`: each docstring names the input that answers it.

Effects of one step are performed in order. A `Reply` or `Deliver` is only emitted when what it depends on is durable, so an
executor may perform it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from waymaker_core.api.inputs import SentRecord
from waymaker_core.api.requests import Messages
from waymaker_core.model.disk_ops import DiskOp
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import JobId, Token


class Lane(Enum):
    """Jobs of one lane run in order, one at a time; lanes run side by side. Reads do not wait for one another.

    What a job on the READ lane, a `Reply` or a `Deliver` is to read stays where it is until it was read: the renames and
    deletions of later effects wait for it.
    """

    JOURNAL = 1
    BACKGROUND = 2
    READ = 3


@dataclass(slots=True, eq=False)
class Job:
    """Disk operations, in order. Answered by `JobDone` or `JobFailed`."""

    id: JobId
    lane: Lane
    ops: list[DiskOp]

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.lane.name}, {[type(op).__name__ for op in self.ops]})"


@dataclass(slots=True, eq=False)
class Reply:
    """The one answer to a `Call`. A value of type `Messages` is read first; if that fails, `Unreadable` comes back."""

    token: Token
    answer: Answer | Refusal


@dataclass(slots=True, eq=False)
class Replicate:
    """The records of a log up to a position are durable here and go to its other replicas.

    Answered by `Replicated` when a majority has them; by none while there is no majority.
    """

    stream_id: int
    position: int


@dataclass(slots=True, eq=False)
class Confirm:
    """Ask a majority whether this node still leads a log. Answered by `Confirmed`, while there is a majority."""

    stream_id: int
    question: int


@dataclass(slots=True, eq=False)
class Kept:
    """Notice that all is durable here that an input asked to keep: a promise, a membership, a cut, or records."""

    ask: int


@dataclass(slots=True, eq=False)
class Declined:
    """Notice that nothing is kept of what an input asked to keep, and why. `end`: the last position of the log it means."""

    ask: int
    reason: str
    end: int


@dataclass(slots=True, eq=False)
class ConfChanged:
    """Notice of a member of a cluster: applied records of the catalog created or deleted a stream, or changed its claims.

    Once a stream a step, when the state holds it.
    """

    stream_id: int


@dataclass(slots=True, eq=False)
class Deliver:
    """Messages for a subscription, within its credit. `Unreadable` comes back if they cannot be read."""

    token: Token
    messages: Messages


@dataclass(slots=True, eq=False)
class SnapshotPiece:
    """The next bytes of a stream that is being sent. Answers `NextPiece`; given to the receiver as `PieceArrived`."""

    transfer: int
    data: bytes


@dataclass(slots=True, eq=False)
class PieceStored:
    """The bytes of `PieceArrived` are written: the next may come."""

    transfer: int


@dataclass(slots=True, eq=False)
class TransferEnded:
    """The end of a transfer. Without a `problem` all was sent, or the stream is durably here what it was at `position`."""

    transfer: int
    position: int
    problem: str


@dataclass(slots=True, eq=False)
class RecordsRead:
    """Records of a log from a position on, in order, for a reader. None: they are not in the journal any more."""

    stream_id: int
    reader: int
    first: int
    records: Sequence[SentRecord] | None


class EventKind(Enum):
    """The changes that a watcher is notified of; values are the contract's."""

    STREAM_CREATED = 1
    STREAM_DELETED = 2
    STREAM_UPDATED = 3
    CONSUMER_CREATED = 4
    CONSUMER_DELETED = 5
    AUTHORITY_CHANGED = 6


@dataclass(slots=True, eq=False)
class Event:
    """One change for a watcher, within its credit. `lagged` counts the events it missed before this one.

    `claimant` and `fence_epoch`: the override that holds from now on, where the change is one of authority; 0: there is none.
    """

    token: Token
    kind: EventKind
    stream: str
    consumer: str
    wall_ms: int
    lagged: int
    claimant: int = 0
    fence_epoch: int = 0


@dataclass(slots=True, eq=False)
class End:
    """The end of a subscription or watch: `reason` is the contract's word, or `refusal` says what went wrong."""

    token: Token
    reason: str
    refusal: Refusal | None = None


@dataclass(slots=True, eq=False)
class Log:
    """An event that an operator should read: `event` is a stable name, `fields` plain values."""

    level: str
    event: str
    fields: dict[str, str | int | bool]


@dataclass(slots=True, eq=False)
class Halt:
    """The last effect: the node has drained (`clean`), or can no longer promise durability."""

    reason: str
    clean: bool


Effect = (
    Job
    | Replicate
    | Confirm
    | Kept
    | Declined
    | ConfChanged
    | Reply
    | Deliver
    | SnapshotPiece
    | PieceStored
    | TransferEnded
    | RecordsRead
    | Event
    | End
    | Log
    | Halt
)
