"""Following: a replica takes the records of a primary, cuts what contradicts them, and acknowledges what it has durably."""

from __future__ import annotations

from typing import Final

from waymaker_core.api.inputs import ReadRecords, Replicated, SentRecord
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
from waymaker_core.replication.state import WAITING_MAX, ReplicaState

CLAIMANT: Final = 0
"""The reader of what is read for a claimant: nothing is kept for it, for it can give its claim up in favour of this node."""


def on_fence(state: ReplicaState, sender: int, message: Fence) -> None:
    """Promise to obey the claim; the answer leaves when the promise is durable."""
    if message.epoch < state.promised:
        state.send_now(sender, Refused(state.promised))
    elif not state.is_silent:
        state.obey(message.epoch)
        state.send_when_durable(sender, promise_of(state))


def promise_of(state: ReplicaState) -> Promised:
    """Return the promise of this replica, with what it knows of its log."""
    log = state.log
    return Promised(state.promised, state.seat, state.log_epoch, log.end, state.doubt, tuple(log.starts))


def on_want(state: ReplicaState, sender: int, message: Want) -> None:
    """Give a claimant a piece of the log that was promised to it."""
    if state.promised != message.epoch or state.is_silent or not state.is_durable():
        return
    log, first = state.log, message.first
    records = state.source.records(first, state.settings.append_bytes_max) if first <= log.end else ()
    if records is not None:
        _donate(state, sender, message.epoch, first, records)
    elif state.donating != (message.epoch, sender, first):
        state.donating = message.epoch, sender, first
        state.effects.append(ReadRecords(state.stream_id, CLAIMANT, first, state.settings.append_bytes_max))


def on_read(state: ReplicaState, first: int, records: tuple[SentRecord, ...] | None) -> None:
    """Give a claimant what was read of the log for it, or say that the journal has it no more."""
    donating, state.donating = state.donating, None
    if donating is None or donating[2] != first or state.promised != donating[0]:
        return
    if state.is_silent or not state.is_durable():
        return
    epoch, claimant, _ = donating
    if records is None:
        state.send_now(claimant, Lacking(epoch))
    else:
        _donate(state, claimant, epoch, first, records)


def _donate(state: ReplicaState, to: int, epoch: int, first: int, records: tuple[SentRecord, ...]) -> None:
    log = state.log
    prev_epoch = log.epoch_at(first - 1)
    state.send_now(to, Donation(epoch, state.seat, state.log_epoch, log.end, first, prev_epoch, records))


def on_append(state: ReplicaState, sender: int, message: Append) -> None:
    """Take an append of the primary of an epoch ."""
    epoch, prev = message.epoch, message.prev
    if not obeys(state, epoch):
        state.send_now(sender, Refused(state.promised))
        return
    if state.is_silent:
        return
    state.obey(epoch)
    if state.leading is not None:
        return
    log = state.log
    if not agrees(state, prev, message.prev_epoch):
        state.send_when_durable(sender, Mismatch(epoch, state.seat, log.end, tuple(log.starts), message.round))
        return
    end = take(state, message)
    if state.log_epoch < epoch and reaches_start(state, end, message.start):
        if end < log.end:
            state.keep_cut(end)
        state.rise(epoch, sender, message.round)
    verified = state.log_epoch == epoch
    if may_apply(state, epoch):
        apply_when_durable(state, min(message.commit, end))
    answer = Acked if verified else Heard
    state.send_when_durable(sender, answer(epoch, state.seat, end, state.commit, message.round))


def obeys(state: ReplicaState, epoch: int) -> bool:
    """Return True unless a newer epoch was promised (rule `obey_promise`)."""
    return epoch >= state.promised


def agrees(state: ReplicaState, prev: int, prev_epoch: int) -> bool:
    """Return True if this log has the record that an append follows on."""
    return prev <= state.log.end and state.log.epoch_at(prev) == prev_epoch


def reaches_start(state: ReplicaState, end: int, start: int) -> bool:
    """Return True if a log that agrees up to `end` is verified as a whole, in an epoch that began at `start`."""
    return end >= start


def may_apply(state: ReplicaState, epoch: int) -> bool:
    """Return True if this log is verified in the epoch that says what is committed."""
    return state.log_epoch == epoch


def take(state: ReplicaState, message: Append) -> int:
    """Keep what is new in an append; return the position up to which this log now agrees with the primary's."""
    log = state.log
    position, epoch = message.prev, message.prev_epoch
    for at, record in enumerate(message.records):
        begun = begun_epoch(record)
        epoch = epoch if begun is None else begun
        if position < log.end and log.epoch_at(position + 1) != epoch:
            state.keep_cut(position)
        if position == log.end:
            state.keep_records(message.records[at:])
            return log.end
        position += 1
    return position


def apply_when_durable(state: ReplicaState, position: int) -> None:
    """Note that the log is committed up to a position, as soon as it is durable so far: the node may still decline it."""
    if state.is_durable():
        apply(state, position)
    elif position > max(state.commit, state.unapplied[-1][1] if state.unapplied else 0):
        if len(state.unapplied) >= WAITING_MAX:
            state.unapplied.popleft()  # a later one says more
        state.unapplied.append((state.last_ask, position))


def apply_durable(state: ReplicaState) -> None:
    """Note what is committed of that which has become durable."""
    while state.unapplied and state.unapplied[0][0] <= state.kept:
        apply(state, state.unapplied.popleft()[1])


def apply(state: ReplicaState, position: int) -> None:
    """Note that the log is committed up to a position."""
    if position > state.commit:
        state.commit = position
        state.effects.append(Replicated(state.stream_id, position))
