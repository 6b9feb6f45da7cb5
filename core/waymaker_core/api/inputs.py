"""Everything that can happen to a node. The mirror of `effects`: each docstring names its counterpart there.

A tick is a step without inputs: `Node.step` always looks at its timers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from waymaker_core.api.requests import Messages, Request
from waymaker_core.model.disk_ops import DiskFailure, OpResult
from waymaker_core.model.types import JobId, Principal, Token


@dataclass(slots=True, eq=False)
class Call:
    """A call of a client. Answered by one `Reply`, or for subscriptions and watches by `Deliver`/`Event` and one `End`."""

    token: Token
    principal: Principal
    request: Request


@dataclass(slots=True, eq=False)
class Cancel:
    """The end of a client's waiting. Ends a subscription or watch without an `End`; what was admitted is carried out.

    Unreported deliveries to this token are undone. Comes also for a `Fetch` whose answer found no client.
    """

    token: Token


@dataclass(slots=True, eq=False)
class Report:
    """The progress of messages to the program: of a subscription, or of a `Fetch` by the token of its call.

    `count`: of the messages of this token, in the order delivered, so many were dealt with, from the first on. `back`:
    stretches of places in that order, from 1, among those newly counted, that did not reach it and never will. A delivery
    counts as an attempt only where it is reported; what is not, when the token is cancelled, was none and is due at once.
    """

    token: Token
    count: int
    back: Sequence[tuple[int, int]] = ()


@dataclass(slots=True, eq=False)
class Credit:
    """Room of a subscriber or watcher for this many more messages and bytes; allows `Deliver` and `Event`."""

    token: Token
    messages: int
    bytes: int


@dataclass(slots=True, eq=False)
class JobDone:
    """The end of a `Job`; `results` has one entry an operation, as `disk_ops` says."""

    id: JobId
    results: list[OpResult]


@dataclass(slots=True, eq=False)
class JobFailed:
    """The failure of a `Job` at one operation; the ones before it were performed."""

    id: JobId
    failure: DiskFailure


@dataclass(slots=True, eq=False)
class Unreadable:
    """Messages of a `Reply` or `Deliver` that could not be read. Nothing of that effect was sent: the core answers anew.

    `unsent`: the messages of that effect, and of those for the same token that were held back behind it and dropped.
    """

    token: Token
    failure: DiskFailure
    unsent: Sequence[Messages]


@dataclass(slots=True, eq=False)
class Replicated:
    """A majority of its replicas has the records of a log up to a position. Answers `Replicate`, late or more than once."""

    stream_id: int
    position: int


@dataclass(slots=True, eq=False)
class Confirmed:
    """A majority knows no other leader of a log than this node, and was asked after `Confirm` left."""

    stream_id: int
    question: int


@dataclass(slots=True, eq=False)
class StepDown:
    """Another node leads a stream by now, or may: this one decides nothing about it any more. Its log stays.

    A member of a cluster steps down from the catalog, too.
    """

    stream_id: int


@dataclass(slots=True, eq=False)
class Lead:
    """This node is to lead a stream, as soon as its whole log is committed and applied; in an epoch, if it is not 0.

    A member of a cluster leads the catalog, too: its epoch is a term of the group. The first record of the term is written at
    once, since the group commits no earlier record without it.
    """

    stream_id: int
    epoch: int = 0


@dataclass(slots=True, eq=False)
class PrepareMove:
    """Another node is about to lead a stream that this one leads, by a planned move: its readers end as `moved`.

    Their deliveries are logged, so that the other node goes on with them. The driver admits no calls meanwhile.
    """

    stream_id: int


class SentRecord(NamedTuple):
    """A record as its log holds it on another node: kind, version and meta of its frame, and the stored bodies."""

    kind: int
    version: int
    meta: bytes
    body: bytes


@dataclass(slots=True, eq=False)
class Append:
    """Records of the node that leads a stream, from a position on: they become durable here, byte for byte.

    Answered by `Kept` or `Declined`. They are applied when `Replicated` says that they are committed. The member that leads the
    catalog takes the group's own records so (`MembersRecord`), for no call decides them.
    """

    ask: int
    stream_id: int
    first: int
    records: Sequence[SentRecord]


@dataclass(slots=True, eq=False)
class Cut:
    """The log of a stream ends at a position: what is above it never was. Not while this node leads it.

    Answered by `Kept` or `Declined`.
    """

    ask: int
    stream_id: int
    position: int


@dataclass(slots=True, eq=False)
class Promise:
    """This replica obeys no older epoch of these streams from now on. Answered by `Kept` or `Declined`."""

    ask: int
    stream_ids: Sequence[int]
    epoch: int


@dataclass(slots=True, eq=False)
class KeepVote:
    """This node has seen a term of the catalog's group, and has given its vote in it to a node (0: to none).

    Answered by `Kept` or `Declined`. A term never goes back, and has one vote.
    """

    ask: int
    term: int
    vote: int


@dataclass(slots=True, eq=False)
class KeepDoubts:
    """This node may have forgotten something: rows of a stream, the claim up to which, and 0; none is in doubt up to 0.

    The row of the catalog has a term, and 1 while streams are to be learnt that are in doubt. It is the last one. Answered by
    `Kept` or `Declined`.
    """

    ask: int
    doubts: Sequence[tuple[int, int, int]]


@dataclass(slots=True, eq=False)
class Enrol:
    """This replica counts since an epoch, and verified its whole log in another. Answered by `Kept` or `Declined`."""

    ask: int
    stream_id: int
    since: int
    log_epoch: int


@dataclass(slots=True, eq=False)
class SendSnapshot:
    """Begin to send a stream to another replica. `transfer` is a number of its driver's, used once.

    Each `NextPiece` is answered by `SnapshotPiece`. `TransferEnded` follows the last one, or says why there is none.
    """

    transfer: int
    stream_id: int


@dataclass(slots=True, eq=False)
class NextPiece:
    """Room for the next piece of a stream that is being sent."""

    transfer: int


@dataclass(slots=True, eq=False)
class ReceiveSnapshot:
    """Begin to receive a stream that another replica sends, in place of what is here. Not while this node leads it."""

    transfer: int
    stream_id: int


@dataclass(slots=True, eq=False)
class PieceArrived:
    """The bytes of a `SnapshotPiece`. Answered by `PieceStored`, then comes the next; or by `TransferEnded`."""

    transfer: int
    data: bytes


@dataclass(slots=True, eq=False)
class EndTransfer:
    """The driver gives a transfer up. Answered by `TransferEnded`, unless it has ended, or is being adopted."""

    transfer: int


@dataclass(slots=True, eq=False)
class ReadRecords:
    """Read applied records of a log from a position on, which are not in memory any more. Answered by `RecordsRead`.

    `reader`: the node that they are for; what it needs of the journal is kept for a while, until `EndReading`. 0: nothing is.
    """

    stream_id: int
    reader: int
    first: int
    bytes_max: int


@dataclass(slots=True, eq=False)
class EndReading:
    """A node needs no records of the journal any more."""

    stream_id: int
    reader: int


@dataclass(slots=True, eq=False)
class Drain:
    """Shut down: admit nothing new, end subscriptions (`End` with `server_shutdown`), sync what is admitted, `Halt`."""


Input = (
    Call
    | Cancel
    | Report
    | Credit
    | JobDone
    | JobFailed
    | Unreadable
    | Replicated
    | Confirmed
    | StepDown
    | Lead
    | PrepareMove
    | Append
    | Cut
    | Promise
    | KeepVote
    | KeepDoubts
    | Enrol
    | SendSnapshot
    | NextPiece
    | ReceiveSnapshot
    | PieceArrived
    | EndTransfer
    | ReadRecords
    | EndReading
    | Drain
)
