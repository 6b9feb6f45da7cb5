"""One member of the consensus group: inputs in, effects out. No I/O, no clock, no randomness but a seed.

The door of this room. It orders the parts: terms first, then what an input asks for, then the end of the step. A message that
makes no sense, or is not for this member, is dropped. The protocol is that of the Raft paper (Ongaro and Ousterhout, 2014) with
the extensions of Ongaro's thesis; docs/raft.md says where each rule is kept and checked.

See docs/decisions/0032-own-raft-without-leases.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from waymaker_core.raft import changes, elections, following, reads, replication, validity, writing
from waymaker_core.raft.effects import Effect, Reason, Release, Role
from waymaker_core.raft.entries import Durable, SnapshotMeta
from waymaker_core.raft.inputs import (
    Applied,
    DiskRecovered,
    DiskStalled,
    Input,
    Propose,
    ProposeChange,
    Read,
    Received,
    Saved,
    SnapshotLost,
    SnapshotTaken,
    Transfer,
)
from waymaker_core.raft.members import Members
from waymaker_core.raft.messages import (
    AppendRefused,
    AppendRequest,
    Message,
    SnapshotRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from waymaker_core.raft.settings import RaftSettings
from waymaker_core.raft.state import NEVER, MemberState


class Raft:
    """One member. `seed` decides its election timeouts: members of a group should have different ones.

    `CorruptState` if `durable` is nothing that a member can have written. `directory`: the one in which `durable` lies.
    """

    def __init__(
        self, id_: int, settings: RaftSettings, seed: int, now: int, durable: Durable, directory: int = 0
    ) -> None:  # fmt: skip
        validity.check_durable(durable)
        self._state = MemberState(id_, settings, seed, now, durable, directory)
        self._deadline = _next_deadline(self._state)

    def step(self, now: int, inputs: Iterable[Input]) -> list[Effect]:
        """Take inputs in order, and do what is due by `now`, in milliseconds of a clock that never goes back."""
        state = self._state
        state.now = max(now, state.now)
        for each in inputs:
            if state.role != Role.STOPPED:
                _take(state, each)
        if state.role != Role.STOPPED:
            _do_what_is_due(state)
            _end_step(state)
        self._deadline = _next_deadline(state)
        effects, state.effects = state.effects, []
        return effects

    def next_deadline(self) -> int:
        """Return the moment at which to step if nothing happens before; far in the future if there is none."""
        return self._deadline

    @property
    def role(self) -> Role:
        """Return the part that this member plays."""
        return self._state.role

    @property
    def term(self) -> int:
        """Return the newest term that it knows."""
        return self._state.term

    @property
    def leader(self) -> int:
        """Return the leader of that term as far as known, else 0."""
        return self._state.leader

    @property
    def commit(self) -> int:
        """Return how far it knows the log to be committed."""
        return self._state.commit

    @property
    def members(self) -> Members:
        """Return the set in force."""
        return self._state.log.members

    @property
    def members_index(self) -> int:
        """Return the index at which that set was appended."""
        return self._state.log.members_index

    @property
    def last_index(self) -> int:
        """Return the index of the last entry of its log, durable or not."""
        return self._state.log.last

    def term_at(self, index: int) -> int:
        """Return the term of an entry of its log; -1 if it does not have it."""
        return self._state.log.term_at(index)

    @property
    def contradictions(self) -> int:
        """Return how many messages no correct member can have sent."""
        return self._state.contradictions

    @property
    def is_doubtful(self) -> bool:
        """Return True while this member may have forgotten entries that it acknowledged."""
        return self._state.doubt > 0

    def load(self) -> Load:
        """Return how much waits in this member."""
        state = self._state
        log, leading = state.log, state.leading
        reads_waiting = len(leading.waiting) + len(leading.asked) if leading is not None else 0
        uncommitted_bytes = log.bytes_between(state.commit + 1, log.last)
        return Load(len(state.held), len(log.writes), reads_waiting, log.size, uncommitted_bytes)

    def meta_at(self, index: int) -> SnapshotMeta:
        """Return the meta of a snapshot of the state at an index, from the last snapshot to the last applied entry."""
        return self._state.log.meta_at(index)


def _next_deadline(state: MemberState) -> int:
    """Return the moment at which something is due. It changes in steps alone."""
    if state.leading is not None:
        return replication.next_deadline(state.leading)
    return state.election_deadline if state.may_campaign else NEVER


class Load(NamedTuple):
    """The amount that waits in a member: each figure has its bound in the settings."""

    held: int
    writes: int
    reads: int
    log_bytes: int
    uncommitted_bytes: int


def _take(state: MemberState, each: Input) -> None:
    if isinstance(each, Received):
        _on_received(state, each)
    elif isinstance(each, Saved):
        _on_saved(state, each)
    elif isinstance(each, Applied):
        _on_applied(state, each)
    elif isinstance(each, Propose | ProposeChange | Read | Transfer):
        _on_wish(state, each)
    elif isinstance(each, SnapshotTaken):
        _on_snapshot_taken(state, each)
    elif isinstance(each, SnapshotLost):
        if state.leading is not None:
            replication.snapshot_lost(state.leading, each.node)
    elif isinstance(each, DiskStalled):
        _on_disk_stalled(state)
    elif isinstance(each, DiskRecovered):
        _on_disk_recovered(state)
    else:
        _on_write_failed(state)


def _do_what_is_due(state: MemberState) -> None:
    if state.leading is not None:
        replication.tick(state, state.leading)
    elif state.may_campaign and state.now >= state.election_deadline:
        elections.begin(state)


def _end_step(state: MemberState) -> None:
    if state.leading is not None:
        reads.advance(state, state.leading)
        replication.send_all(state, state.leading)
        replication.resign_if_removed(state, state.leading)
    writing.write(state)
    writing.hand_out(state)
    writing.report_role(state)
    writing.send(state)


# ---------------------------------------------------------------- messages


def _on_received(state: MemberState, each: Received) -> None:
    message = each.message
    if message.to != state.id or message.sender == state.id or not validity.is_plausible(message):
        state.contradictions += 1
    elif len(state.log.writes) < state.settings.writes_max and admits(state, message):
        _look_at(state, message, each.doubtful)


def _look_at(state: MemberState, message: Message, doubtful: bool) -> None:
    """Hand a message of this term to the part that knows it."""
    if isinstance(message, AppendRequest):
        if _is_only_leader(state, message.sender):
            following.on_append_request(state, message)
    elif isinstance(message, VoteRequest):
        elections.on_vote_request(state, message)
    elif isinstance(message, VoteResponse):
        elections.on_vote_response(state, message, doubtful)
    elif isinstance(message, SnapshotRequest):
        if _is_only_leader(state, message.sender):
            following.on_snapshot_request(state, message)
    elif isinstance(message, TimeoutNow):
        elections.on_timeout_now(state, message)
    elif state.leading is not None:
        if isinstance(message, AppendRefused):
            replication.on_append_refused(state, state.leading, message)
        else:
            replication.on_append_response(state, state.leading, message)
            changes.on_append_response(state, state.leading, message)


def admits(state: MemberState, message: Message) -> bool:
    """Settle the term of a message (Raft paper, 5.1). Return True if it is one of this term, to be looked at."""
    if isinstance(message, VoteRequest) and not message.forced and state.hears_leader():
        return False
    if message.term > state.term:
        return _goes_along(state, message)
    if message.term == state.term:
        return True
    if isinstance(message, AppendRequest | SnapshotRequest):
        # A leader that was deposed learns it from this.
        state.send(AppendRefused(state.id, message.sender, state.term, 0, 0, 0, 0))
    elif isinstance(message, VoteRequest) and message.pre:
        state.send(VoteResponse(state.id, message.sender, state.term, True, False))
    return False


def _goes_along(state: MemberState, message: Message) -> bool:
    """Enter the newer term of a message. A question in advance, and its answer, name a term that may never be."""
    if isinstance(message, VoteRequest) and message.pre:
        return True
    if isinstance(message, VoteResponse) and message.pre and message.granted:
        return True
    leads = isinstance(message, AppendRequest | SnapshotRequest)
    state.step_down(message.term, message.sender if leads else 0)
    return True


def _is_only_leader(state: MemberState, sender: int) -> bool:
    """Return True unless another leader of this term is known, which cannot be."""
    if state.leader in (0, sender):
        return True
    state.contradictions += 1
    return False


# ---------------------------------------------------------------- the other inputs


def _on_saved(state: MemberState, each: Saved) -> None:
    writing.saved(state, each.number)
    elections.count_own_vote(state)
    if state.leading is not None:
        replication.advance_commit(state, state.leading)
    else:
        following.on_saved(state)


def _on_wish(state: MemberState, each: Propose | ProposeChange | Read | Transfer) -> None:
    """Do what only a leader can."""
    leading = state.leading
    if leading is None:
        state.refuse(each.token, Reason.NOT_LEADER)
    elif isinstance(each, Propose):
        changes.propose(state, leading, each.token, each.data)
    elif isinstance(each, Read):
        reads.ask(state, leading, each.token)
    elif isinstance(each, ProposeChange):
        changes.propose_change(state, leading, each.token, each.change)
    else:
        changes.transfer(state, leading, each.token, each.to)


def _on_applied(state: MemberState, each: Applied) -> None:
    if state.applied < each.index <= state.delivered:
        state.applied = each.index
        if state.doubt and proves_complete(state, each.index):
            state.doubt = 0
        writing.want_snapshot(state)


def proves_complete(state: MemberState, index: int) -> bool:
    """Return True if an applied entry is of a later term than those in doubt (rule `doubt_until_later_term`).

    Its leader had all that was committed before, and this log is that leader's up to here.
    """
    return state.log.term_at(index) >= state.doubt


def _on_snapshot_taken(state: MemberState, each: SnapshotTaken) -> None:
    log = state.log
    if log.snapshot.index < each.index <= state.applied:
        log.snapshot_taken(each.index, state.settings.keep_entries, state.settings.log_bytes_max // 4)
        state.effects.append(Release(each.index))


def _on_disk_stalled(state: MemberState) -> None:
    state.stalled = True
    if state.leading is not None:
        replication.hand_over(state, state.leading)
    elif state.role != Role.FOLLOWER:
        state.step_down(state.term, 0)


def _on_disk_recovered(state: MemberState) -> None:
    state.stalled = False
    if state.leading is None:
        state.arm_election()


def _on_write_failed(state: MemberState) -> None:
    state.step_down(state.term, 0)
    state.role = Role.STOPPED
    writing.report_role(state)
