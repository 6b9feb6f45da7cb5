"""The end of a step: what has changed goes to the disk, what is committed to the user, what may leave to other members.

A message leaves when the term and vote that it speaks for are durable. What is durable of the log, a message says itself.
"""

from __future__ import annotations

from waymaker_core.raft.effects import Apply, RoleChanged, Send, SnapshotWanted, Write
from waymaker_core.raft.state import MemberState


def write(state: MemberState) -> None:
    """Hand all that has changed to the disk, as one write. Term and vote come first: no entry is durable before its term."""
    log, hard = state.log, state.next_hard()
    if hard is None and log.unwritten > log.last and log.unwritten > log.handed:
        return
    state.number += 1
    cut_from, first, entries = log.hand_over(state.number)
    state.effects.append(Write(state.number, hard, cut_from, first, entries))
    if hard is not None:
        state.hard, state.hard_number = hard, state.number


def saved(state: MemberState, number: int) -> None:
    """Note what the disk has made durable, and let go of the messages that waited for it."""
    if not state.saved_number < number <= state.number:
        return
    state.saved_number = number
    state.log.saved(number)
    if not state.hard_unsaved():
        state.outbox = state.held + state.outbox
        state.held = []


def hand_out(state: MemberState) -> None:
    """Hand out what is committed and durable here."""
    ready = ready_index(state)
    if ready > state.delivered:
        first, state.delivered = state.delivered + 1, ready
        state.effects.append(Apply(first, state.log.slice(first, ready)))


def ready_index(state: MemberState) -> int:
    """Return how far entries may be applied. A majority may be ahead of this member's disk: then its own sync decides."""
    return min(state.commit, state.log.durable)


def send(state: MemberState) -> None:
    """Send the messages of this step, or hold them until the term and vote are durable."""
    outbox = state.outbox
    if must_wait(state):
        room = state.settings.held_max - len(state.held)
        state.held += outbox[: max(room, 0)]
    else:
        for message in outbox:
            state.effects.append(Send(message))
    state.outbox = []


def must_wait(state: MemberState) -> bool:
    """Return True if the term or vote that messages speak for is not durable."""
    return state.hard_unsaved()


def report_role(state: MemberState) -> None:
    """Report the role, the term and the leader when they have changed."""
    now = (state.role, state.term, state.leader)
    if now != state.reported:
        state.reported = now
        state.effects.append(RoleChanged(*now))


def want_snapshot(state: MemberState) -> None:
    """Ask for a snapshot when much was applied since the last one, or since it was last asked for: at most half of a log."""
    settings, log = state.settings, state.log
    since = max(log.snapshot.index, state.snapshot_asked)
    applied = state.applied
    bytes_max = min(settings.snapshot_after_bytes, settings.log_bytes_max // 2)
    if applied - since >= settings.snapshot_after_entries or (
        applied > since and log.bytes_between(since + 1, applied) >= bytes_max
    ):
        state.snapshot_asked = applied
        state.effects.append(SnapshotWanted(log.meta_at(applied)))
