"""Elections: who campaigns, who gets a vote, who has won (Raft paper, 5.2 and 5.4.1; Raft thesis, 3.10, 4.2.3 and 9.6).

A node first asks whether it would win (pre-vote), and enters a new term only then. A vote is durable before it is answered, and
the candidate's own before it is counted or any other is asked for. A candidate that restarts therefore never counts an answer
that was given to a longer log of its earlier self.
"""

from __future__ import annotations

from waymaker_core.raft import replication
from waymaker_core.raft.effects import Role
from waymaker_core.raft.entries import EntryKind
from waymaker_core.raft.messages import TimeoutNow, VoteRequest, VoteResponse
from waymaker_core.raft.state import Leading, MemberState


def begin(state: MemberState) -> None:
    """Begin what a member does when it hears no leader: ask all voters whether it would win."""
    if state.log.members.voters == (state.id,):
        campaign(state, forced=False)
        return
    state.role = Role.PRE_CANDIDATE
    state.leader = 0
    state.votes = {state.id: True}
    state.doubtful = set()
    state.arm_election()
    _ask(state, state.term + 1, pre=True, forced=False)


def campaign(state: MemberState, forced: bool) -> None:
    """Enter a new term, vote for itself, and ask the others. All of it leaves when term and vote are durable."""
    state.enter_term(state.term + 1, state.id)
    state.role = Role.CANDIDATE
    state.leader = 0
    state.votes = {}
    state.doubtful = set()
    state.arm_election()
    # The only voter's deadline is now, and would come again before its vote is durable.
    state.election_deadline = max(state.election_deadline, state.now + state.settings.election_ms)
    _ask(state, state.term, pre=False, forced=forced)


def _ask(state: MemberState, term: int, pre: bool, forced: bool) -> None:
    log = state.log
    for node in log.members.voters:
        if node != state.id:
            state.send(VoteRequest(state.id, node, term, log.last, log.last_term, pre, forced))


def is_up_to_date(state: MemberState, request: VoteRequest) -> bool:
    """Return True if a candidate's log holds all that this one's may hold as committed (Raft paper, 5.4.1)."""
    return (request.last_term, request.last_index) >= (state.log.last_term, state.log.last)


def has_vote_for(state: MemberState, request: VoteRequest) -> bool:
    """Return True if the vote of the term asked for is free, or was this candidate's."""
    if request.pre and request.term > state.term:
        return True
    return state.vote == request.sender or (state.vote == 0 and state.leader == 0)


def on_vote_request(state: MemberState, request: VoteRequest) -> None:
    """Answer a candidate of this term, or one that asks in advance. A node whose disk stalls keeps silent."""
    if state.stalled:
        return
    granted = has_vote_for(state, request) and is_up_to_date(state, request)
    if granted and not request.pre:
        state.vote = request.sender
        state.arm_election()
    term = request.term if granted else state.term
    state.send(VoteResponse(state.id, request.sender, term, request.pre, granted))


def on_vote_response(state: MemberState, response: VoteResponse, doubtful: bool) -> None:
    """Count an answer of a voter to the question that is open, and no other."""
    if response.pre:
        asked = state.role == Role.PRE_CANDIDATE and response.term == state.term + response.granted
    else:
        asked = state.role == Role.CANDIDATE
    if asked:
        state.votes.setdefault(response.sender, response.granted)
        if doubtful:
            state.doubtful.add(response.sender)
        decide(state)


def count_own_vote(state: MemberState) -> None:
    """Count the candidate's own vote, once it is durable."""
    if state.role == Role.CANDIDATE and not state.hard_unsaved() and state.id not in state.votes:
        state.votes[state.id] = True
        decide(state)


def decide(state: MemberState) -> None:
    """Go on when the answers decide: to the campaign, to the leadership, or back."""
    members = state.log.members
    granted = [node for node in members.voters if state.votes.get(node, False)]
    refused = sum(not state.votes.get(node, True) for node in members.voters)
    if is_elected(state, granted):
        if state.role == Role.PRE_CANDIDATE:
            campaign(state, forced=False)
        else:
            lead(state)
    elif refused >= members.majority:
        deadline = state.election_deadline
        state.step_down(state.term, 0)
        state.election_deadline = deadline


def is_elected(state: MemberState, granted: list[int]) -> bool:
    """Return True if these votes suffice: a majority of members that have forgotten nothing, or all (rule `vote_in_doubt`).

    A member in doubt may lack what a majority had with it. If all vote, the most complete log wins.
    """
    certain = sum(is_certain(state, node) for node in granted)
    members = state.log.members
    return certain >= members.majority or len(granted) == len(members.voters)


def is_certain(state: MemberState, node: int) -> bool:
    """Return True for a voter that has forgotten nothing."""
    return state.doubt == 0 if node == state.id else node not in state.doubtful


def lead(state: MemberState) -> None:
    """Become the leader: append the first entry of the term, and send it to all."""
    state.role = Role.LEADER
    state.leader = state.id
    state.votes = {}
    last = state.log.last
    state.leading = leading = Leading(last + 1)
    replication.track_members(state, leading, last)
    append_first(state)
    leading.heartbeat_deadline = state.now + state.settings.heartbeat_ms
    leading.quorum_deadline = state.now + state.settings.election_ms
    replication.advance_commit(state, leading)


def append_first(state: MemberState) -> None:
    """Append an entry of the own term: only behind it are entries of earlier terms committed (Raft paper, 5.4.2)."""
    state.append_own(EntryKind.NOOP)


def on_timeout_now(state: MemberState, message: TimeoutNow) -> None:
    """Campaign at once, because the leader said so."""
    if message.sender == state.leader and state.may_campaign:
        campaign(state, forced=True)
