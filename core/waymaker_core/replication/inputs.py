"""Everything that can happen to a replica. The mirror of `effects`: each docstring names the effect that it answers."""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.api.inputs import SentRecord
from waymaker_core.replication.conf import Conf
from waymaker_core.replication.messages import Message


@dataclass(slots=True, eq=False)
class Received:
    """A message of another node arrived."""

    sender: int
    message: Message


@dataclass(slots=True, eq=False)
class ConfChanged:
    """The catalog has committed a newer claim of the stream, or that its newest one is opened.

    `confirmed`: it was read after this replica started, so that no older claim can be the newest.
    """

    conf: Conf
    confirmed: bool = False


@dataclass(slots=True, eq=False)
class Kept:
    """All is durable that a numbered effect asked to keep."""

    ask: int


@dataclass(slots=True, eq=False)
class Declined:
    """Nothing is kept of what a numbered effect asked to keep."""

    ask: int


@dataclass(slots=True, eq=False)
class Written:
    """The records that this node decided, as the stream's leader, are durable here up to a position."""

    position: int


@dataclass(slots=True, eq=False)
class Question:
    """A question that needs a confirmation. Answered by `Confirmed`, while there is a majority."""

    number: int


@dataclass(slots=True, eq=False)
class RecordsRead:
    """Records of the log from a position on were read from the journal; None where it has them no more.

    `reader`: the follower that they are for, or 0 for a claimant that this replica gives its log to.
    """

    reader: int
    first: int
    records: tuple[SentRecord, ...] | None


@dataclass(slots=True, eq=False)
class Returned:
    """Another node was heard again after a silence."""

    node: int


Input = Received | Returned | ConfChanged | Kept | Declined | Written | Question | RecordsRead
