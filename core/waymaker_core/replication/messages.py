"""Messages between the replicas of one stream, as typed values.

A message may be lost, repeated, late or out of order; none of that is an error. Each names the epoch that it speaks for.
"""

from __future__ import annotations

from typing import NamedTuple

from waymaker_core.api.inputs import SentRecord
from waymaker_core.replication.conf import Seat

EpochStart = tuple[int, int]
"""An epoch, and the position of its first record."""


class Fence(NamedTuple):
    """A claimant asks a replica to obey no older epoch, and to say what log it has."""

    epoch: int


class Promised(NamedTuple):
    """The answer to `Fence`: the promise is durable, and so is the log up to `end`.

    `log_epoch`: the epoch in which the whole log was verified. `doubt`: the claim up to which the replica may have forgotten
    something, for its journal ended with a tear; 0 where it did not.
    """

    epoch: int
    seat: Seat
    log_epoch: int
    end: int
    doubt: int
    starts: tuple[EpochStart, ...]


class Want(NamedTuple):
    """A claimant asks the replica that it chose for its log from a position on."""

    epoch: int
    first: int


class Donation(NamedTuple):
    """A piece of the chosen log. `log_epoch` and `end` are still those of the promise.

    The record before `first` has `prev_epoch`.
    """

    epoch: int
    seat: Seat
    log_epoch: int
    end: int
    first: int
    prev_epoch: int
    records: tuple[SentRecord, ...]


class Lacking(NamedTuple):
    """A donor does not have the wanted records at hand: it can lead with its log, and cannot give it away."""

    epoch: int


class Append(NamedTuple):
    """Records of the primary behind position `prev`, whose record has `prev_epoch`; none where only the rest is news.

    `start`: the end of the log with which the epoch began. `commit`: how far the log is committed. `round`: the newest round of
    confirmations that had begun when it was sent.
    """

    epoch: int
    start: int
    prev: int
    prev_epoch: int
    records: tuple[SentRecord, ...]
    commit: int
    round: int


class Acked(NamedTuple):
    """A follower's log is verified in this epoch, and durable, up to `position`; it knows what is committed up to `commit`."""

    epoch: int
    seat: Seat
    position: int
    commit: int
    round: int


class Heard(NamedTuple):
    """A follower obeys this epoch; its log is not verified in it as a whole, though it agrees up to `position`."""

    epoch: int
    seat: Seat
    position: int
    commit: int
    round: int


class Mismatch(NamedTuple):
    """A follower's log does not reach the record before an append, or has another one there."""

    epoch: int
    seat: Seat
    end: int
    starts: tuple[EpochStart, ...]
    round: int


class Refused(NamedTuple):
    """A replica has promised a newer epoch."""

    epoch: int


Message = Fence | Promised | Want | Donation | Lacking | Append | Acked | Heard | Mismatch | Refused
