"""A follower's part: take entries of the leader where they follow on its log, say how far both agree, install snapshots.

Three positions are kept apart. `verified`: its log equals the leader's. `durable`: the disk has it. `commit`: a majority has
it. An answer never states more than was verified with this term's leader, for behind that may lie entries of another one.
"""

from __future__ import annotations

from waymaker_core.raft import writing
from waymaker_core.raft.effects import Install
from waymaker_core.raft.entries import Entry, SnapshotMeta, size_of
from waymaker_core.raft.messages import AppendRefused, AppendRequest, AppendResponse, SnapshotRequest
from waymaker_core.raft.state import MemberState


def on_append_request(state: MemberState, request: AppendRequest) -> None:
    """Take entries of this term's leader."""
    heard_leader(state, request.sender)
    prev, entries = request.prev_index, request.entries
    if prev < state.commit:
        # What is committed is in the log of every later leader, entry by entry.
        entries = entries[state.commit - prev :]
        prev = state.commit
    elif not agrees(state, prev, request.prev_term):
        refuse(state, request)
        return
    if not take(state, prev, entries):
        return
    state.commit = max(state.commit, min(request.commit, committed_end(state)))
    answer(state, request.sender, request.round)


def heard_leader(state: MemberState, leader: int) -> None:
    """Follow the leader of this term, and wait anew before campaigning."""
    if state.leader != leader or state.votes:
        state.step_down(state.term, leader)
    state.last_contact = state.now
    state.arm_election()


def agrees(state: MemberState, index: int, term: int) -> bool:
    """Return True if the log has this entry: then all before it are the leader's too (log matching, Raft paper, 5.3)."""
    return state.log.term_at(index) == term


def committed_end(state: MemberState) -> int:
    """Return how far this log can count as committed, whatever the leader has committed."""
    return state.verified


def take(state: MemberState, prev: int, entries: tuple[Entry, ...]) -> bool:
    """Append the entries that are new, behind a cut where one differs. Return False for what no leader can have sent."""
    log = state.log
    index, at = prev + 1, 0
    while at < len(entries) and index <= log.last and log.term_at(index) == entries[at].term:
        index, at = index + 1, at + 1
    if at < len(entries) and index <= log.last:
        if index <= state.verified:
            state.contradictions += 1
            return False
        log.cut_at(index)
    if at < len(entries):
        # A leader's first entries and sets of members need room where data has none: twice the bound.
        free = 2 * state.settings.log_bytes_max - log.size
        for entry in entries[at:]:
            free -= size_of(entry)
            if free < 0 and log.entries:
                break  # a full log says so by what it verifies; its user owes a snapshot
            log.append_entry(entry)
            index += 1
    state.verified = max(state.verified, index - 1)
    return True


def refuse(state: MemberState, request: AppendRequest) -> None:
    """Refuse what does not follow, with the last place that may agree."""
    index = state.log.last_not_newer(min(request.prev_index - 1, state.log.last), request.prev_term)
    index = max(index, state.commit)
    term = max(state.log.term_at(index), 0)
    state.send(AppendRefused(state.id, request.sender, state.term, request.prev_index, index, term, request.round))


def durable_and_verified(state: MemberState) -> int:
    """Return how far the log is durable, as far as it is the leader's."""
    return min(state.log.durable, state.verified)


def answer(state: MemberState, leader: int, round_: int) -> None:
    """Say how far the log agrees, and is durable."""
    state.acked = durable = durable_and_verified(state)
    state.send(AppendResponse(state.id, leader, state.term, state.verified, durable, round_))


def on_saved(state: MemberState) -> None:
    """Tell the leader of what became durable."""
    if state.leader not in (0, state.id) and durable_and_verified(state) > state.acked:
        answer(state, state.leader, 0)


def on_snapshot_request(state: MemberState, request: SnapshotRequest) -> None:
    """Install a snapshot that is ahead of what is committed here, unless the log holds its last entry anyway."""
    heard_leader(state, request.sender)
    log, snapshot = state.log, request.snapshot
    if is_ahead(state, snapshot.index):
        if log.term_at(snapshot.index) == snapshot.term:
            state.commit = snapshot.index
        else:
            install(state, snapshot)
        state.verified = max(state.verified, snapshot.index)
    answer(state, request.sender, request.round)


def install(state: MemberState, snapshot: SnapshotMeta) -> None:
    """Replace the log by a snapshot. A term that is newer on disk than term and vote would look like damage: they go first."""
    writing.write(state)
    state.number += 1
    state.log.install(snapshot, state.number, state.commit)
    state.commit = state.delivered = state.applied = snapshot.index
    state.effects.append(Install(state.number, snapshot))


def is_ahead(state: MemberState, index: int) -> bool:
    """Return True if a snapshot holds more than is committed here."""
    return index > state.commit
