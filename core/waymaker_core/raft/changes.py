"""Proposals of a leader: data, one change of the members at a time, and the transfer of the leadership.

A change is appended only when the one before it is committed (Raft thesis, 4.1), and an entry of the leader's own term is.
Without the second condition two leaders in turn could each commit a set, and majorities of the two might not meet (Ongaro's
correction of 2015).
"""

from __future__ import annotations

from waymaker_core.raft import replication
from waymaker_core.raft.effects import Accepted, Reason
from waymaker_core.raft.entries import ENTRY_OVERHEAD, EntryKind
from waymaker_core.raft.members import Change, ChangeKind, changed, encode_members
from waymaker_core.raft.messages import AppendResponse, TimeoutNow
from waymaker_core.raft.state import Flow, Leading, MemberState


def propose(state: MemberState, leading: Leading, token: int, data: bytes) -> None:
    """Append data, or refuse it."""
    settings, log = state.settings, state.log
    size = len(data) + ENTRY_OVERHEAD
    if leading.transfer_to:
        state.refuse(token, Reason.HANDING_OVER)
    elif len(data) > settings.entry_bytes_max:
        state.refuse(token, Reason.TOO_LARGE)
    elif (
        log.bytes_between(state.commit + 1, log.last) + size > settings.uncommitted_bytes_max
        or log.size + size > settings.log_bytes_max
        or len(log.writes) >= settings.writes_max
    ):
        state.refuse(token, Reason.BUSY)
    else:
        _accept(state, token, EntryKind.DATA, data)


def _accept(state: MemberState, token: int, kind: EntryKind, data: bytes) -> None:
    index = state.append_own(kind, data)
    state.effects.append(Accepted(token, index, state.term))


def propose_change(state: MemberState, leading: Leading, token: int, change: Change) -> None:
    """Append the set after a change, or refuse it. The new set is in force at once."""
    if leading.transfer_to:
        state.refuse(token, Reason.HANDING_OVER)
        return
    if not former_is_committed(state) or not own_term_is_committed(state, leading):
        state.refuse(token, Reason.NOT_YET)
        return
    members = changed(state.log.members, change)
    if members is None:
        state.refuse(token, Reason.IMPOSSIBLE)
        return
    if change.kind == ChangeKind.PROMOTE and not has_caught_up(state, leading, change.node):
        state.refuse(token, Reason.NOT_YET)
        return
    _accept(state, token, EntryKind.MEMBERS, encode_members(members))
    replication.track_members(state, leading, state.log.last)
    replication.advance_commit(state, leading)


def former_is_committed(state: MemberState) -> bool:
    """Return True if the set in force is committed."""
    return state.log.members_index <= state.commit


def own_term_is_committed(state: MemberState, leading: Leading) -> bool:
    """Return True if an entry of the own term is committed."""
    return state.commit >= leading.term_start


def has_caught_up(state: MemberState, leading: Leading, node: int) -> bool:
    """Return True if a learner has so much of the log that commits with it would not wait (Raft thesis, 4.2.1)."""
    progress = leading.progress.get(node)
    if progress is None or not progress.active or progress.flow != Flow.STREAM:
        return False
    return progress.match + state.settings.promote_lag_max >= state.log.last


# ---------------------------------------------------------------- transfer


def transfer(state: MemberState, leading: Leading, token: int, to: int) -> None:
    """Begin to hand over to a voter: it is told to campaign as soon as it has the whole log (Raft thesis, 3.10)."""
    node = to or replication.best_follower(state, leading)
    if node == state.id or node not in state.log.members.voters:
        state.refuse(token, Reason.IMPOSSIBLE)
    elif leading.transfer_to:
        state.refuse(token, Reason.HANDING_OVER)
    else:
        leading.transfer_to = node
        leading.transfer_deadline = state.now + state.settings.election_ms
        go_on(state, leading)


def on_append_response(state: MemberState, leading: Leading, response: AppendResponse) -> None:
    """Look whether the node that takes over has the whole log now."""
    if leading.transfer_to == response.sender:
        go_on(state, leading)


def go_on(state: MemberState, leading: Leading) -> None:
    """Tell the node that takes over to campaign, once it has the whole log. Said again with each of its answers."""
    progress = leading.progress.get(leading.transfer_to)
    if progress is not None and progress.match == state.log.last:
        state.send(TimeoutNow(state.id, leading.transfer_to, state.term))
