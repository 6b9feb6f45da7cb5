"""The rules of the group by name. Each can be left out of the core for a while, and a promise must then break.

A rule is one function or property of the core; without it, the function does what a program would do that knows no such rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from waymaker_core.raft import changes, elections, following, raft, reads, replication, writing
from waymaker_core.raft.effects import Send
from waymaker_core.raft.entries import SnapshotMeta
from waymaker_core.raft.log import RaftLog
from waymaker_core.raft.messages import AppendResponse, TimeoutNow, VoteRequest, VoteResponse
from waymaker_core.raft.state import MemberState
from waymaker_sim.mutants.planting import Make, Mutant, giving, nothing


def _at_once(kinds: type) -> Make:
    """Make a sender that lets messages of some kinds leave before the term and vote are durable."""

    def make(original: Callable[[MemberState], None]) -> Any:
        def send(state: MemberState) -> None:
            state.effects += [Send(each) for each in state.outbox if isinstance(each, kinds)]
            state.outbox = [each for each in state.outbox if not isinstance(each, kinds)]
            original(state)

        return send

    return make


def _counting_at_once(original: Callable[..., None]) -> Any:
    def campaign(state: MemberState, forced: bool) -> None:
        original(state, forced)
        state.votes[state.id] = True
        elections.decide(state)

    return campaign


def _writing_votes_alone(original: Callable[[MemberState], Any]) -> Any:
    return lambda state: original(state) if state.vote else None


def _verifying_all(original: Callable[..., bool]) -> Any:
    def take(state: MemberState, prev: int, entries: Any) -> bool:
        taken = original(state, prev, entries)
        state.verified = max(state.verified, state.log.last)
        return taken

    return take


def _keeping_verified(original: Callable[..., None]) -> Any:
    def enter_term(self: MemberState, term: int, vote: int = 0) -> None:
        verified = self.verified
        original(self, term, vote)
        self.verified = min(verified, self.log.last)

    return enter_term


def _cutting_always(original: Callable[..., bool]) -> Any:
    def take(state: MemberState, prev: int, entries: Any) -> bool:
        taken = original(state, prev, entries)
        end = max(prev + len(entries), state.log.snapshot.index)
        if end < state.log.last:
            state.log.cut_at(end + 1)
            state.verified = min(state.verified, end)
        return taken

    return take


def _looking_at_old_terms(original: Callable[..., bool]) -> Any:
    def admits(state: MemberState, message: Any) -> bool:
        old = message.term < state.term and isinstance(message, AppendResponse | VoteResponse)
        return old or original(state, message)

    return admits


def _counting_learners(_: Any) -> Any:
    def reached(state: MemberState, leading: Any) -> int:
        members = state.log.members
        nodes = (*members.voters, *members.learners)
        ends = [replication.own_durable(state) if node == state.id else leading.progress[node].match for node in nodes]
        return sorted(ends, reverse=True)[len(nodes) // 2]

    return reached


def _joining_the_round(original: Callable[..., None]) -> Any:
    def ask(state: MemberState, leading: Any, token: int) -> None:
        if leading.asked:
            leading.asked.append(token)
            leading.asked_index = state.commit
        else:
            original(state, leading, token)

    return ask


def _meta(term: Callable[[RaftLog, int], int], members: Callable[[RaftLog, int], Any]) -> Make:
    return lambda _: lambda self, index: SnapshotMeta(index, term(self, index), members(self, index))


def _stalling_in_office(_: Any) -> Any:
    def stalled(state: MemberState) -> None:
        state.stalled = True

    return stalled


def _handing_over_early(_: Any) -> Any:
    return lambda state, leading: state.send(TimeoutNow(state.id, leading.transfer_to, state.term))


def _campaigning_if_voter(_: Any) -> Any:
    return lambda self: self.is_voter


def _rule(says: str, promise: str | tuple[str, ...], owner: object, name: str, make: Make) -> Mutant:
    return Mutant(says, (promise,) if isinstance(promise, str) else promise, owner, name, make)


_SAFE = ("election safety", "log matching", "leader completeness", "state machine safety", "committed is durable")
_BACK = (*_SAFE, "nothing is taken back")
_COMPARED = (*_SAFE, "no contradiction")
_COMES = "a leader comes"

RULES: Final[dict[str, Mutant]] = {
    # elections
    "pre_vote": _rule("a node asks whether it would win before it enters a new term", "a leader stays",
        elections, "begin", lambda _: lambda state: elections.campaign(state, forced=False)),
    "hold_on_to_leader": _rule("a node that hears a leader answers no candidate", "a leader stays",
        MemberState, "hears_leader", giving(False)),
    "vote_durable": _rule("a vote is durable before it is answered", _BACK, writing, "send", _at_once(VoteResponse)),
    "own_vote_durable": _rule("a candidate counts its own vote when it is durable", _SAFE,
        elections, "campaign", _counting_at_once),
    "campaign_durable": _rule("a candidate asks for votes when its term is durable", _BACK,
        writing, "send", _at_once(VoteRequest)),
    "term_durable": _rule("a newer term goes to the disk, before entries that have it", "nothing is taken back",
        MemberState, "next_hard", _writing_votes_alone),
    "one_vote": _rule("a node has one vote in a term", _BACK, elections, "has_vote_for", giving(True)),
    "vote_up_to_date": _rule("a vote goes only to a log that is as new as the voter's", _SAFE,
        elections, "is_up_to_date", giving(True)),
    "answers_of_own_term": _rule("an answer counts in its own term only", _SAFE, raft, "admits", _looking_at_old_terms),
    "check_quorum": _rule("a leader that a majority does not answer steps down", "a leader goes",
        replication, "heard_by_majority", giving(True)),
    "stalled_resigns": _rule("a leader whose disk stalls hands over", "a leader goes",
        raft, "_on_disk_stalled", _stalling_in_office),
    # the log
    "noop_first": _rule("a leader begins its term with an entry", _COMES, elections, "append_first", nothing),
    "match_by_term": _rule("an append follows on an entry that both logs have", _SAFE,
        following, "agrees", lambda _: lambda state, index, term: index <= state.log.last),
    "cut_on_conflict": _rule("a log is cut only where an entry differs", _SAFE, following, "take", _cutting_always),
    "ack_durable": _rule("an answer states what is durable", _SAFE,
        following, "durable_and_verified", lambda _: lambda state: state.verified),
    "ack_verified": _rule("an answer states what was compared with the leader's log", _COMPARED,
        following, "take", _verifying_all),
    "verified_by_this_leader": _rule("what an earlier leader verified counts for nothing with the next one",
        _COMPARED, MemberState, "enter_term", _keeping_verified),
    "own_sync": _rule("a leader counts its own log as far as it is durable", _SAFE,
        replication, "own_durable", lambda _: lambda state: state.log.last),
    "end_of_cut_write": _rule("a write that was cut meanwhile makes nothing durable that took its place", _SAFE,
        RaftLog, "_lower_durable", nothing),
    # commit
    "commit_own_term": _rule("a majority suffices for entries of the leader's own term alone", _SAFE,
        replication, "may_commit", giving(True)),
    "commit_verified": _rule("a follower counts as committed only what was compared with the leader's log", _SAFE,
        following, "committed_end", lambda _: lambda state: state.log.last),
    "learners_do_not_count": _rule("a majority is one of voters", _SAFE,
        replication, "reached_by_majority", _counting_learners),
    "apply_durable": _rule("a member applies what is durable on its own disk", "applied is durable",
        writing, "ready_index", lambda _: lambda state: state.commit),
    # snapshots
    "snapshot_term": _rule("a snapshot keeps the term of its last entry", "snapshot is committed",
        RaftLog, "meta_at", _meta(lambda log, _: log.last_term, RaftLog.members_at)),
    "snapshot_members": _rule("a snapshot keeps the members in force at its end", "snapshot is committed",
        RaftLog, "meta_at", _meta(RaftLog.term_at, lambda log, _: log.members)),
    "snapshot_ahead": _rule("a snapshot is installed only if it is ahead of what is committed", "nothing is taken back",
        following, "is_ahead", giving(True)),
    # reads
    "read_asks_majority": _rule("a read waits until a majority knows no newer leader", "linearizable reads",
        reads, "is_confirmed", giving(True)),
    "read_next_round": _rule("a read that comes during a round waits for the next one", "linearizable reads",
        reads, "ask", _joining_the_round),
    "read_own_term": _rule("a read waits until an entry of the leader's own term is committed", "linearizable reads",
        reads, "knows_committed", giving(True)),
    # members
    "one_change": _rule("a change of the members waits for the commit of the former", "one change at a time",
        changes, "former_is_committed", giving(True)),
    "change_in_own_term": _rule("a change of the members waits for a commit of the leader's own term", "one change at a time",
        changes, "own_term_is_committed", giving(True)),
    "set_goes_back": _rule("a cut takes back the sets of members that it cuts", "one change at a time",
        RaftLog, "_drop_sets", nothing),
    "learn_first": _rule("a learner is promoted when it has caught up", "one change at a time",
        changes, "has_caught_up", giving(True)),
    "removed_leader_goes": _rule("a leader leaves when its removal is committed", _COMES,
        replication, "resign_if_removed", nothing),
    "removed_is_needed": _rule("a voter whose removal is not committed may campaign", _COMES,
        MemberState, "is_needed", _campaigning_if_voter),
    "transfer_whole_log": _rule("a node is told to campaign when it has the leader's whole log", "a leader goes",
        changes, "go_on", _handing_over_early),
}  # fmt: skip
"""Name to what is removed, and the promises that may notice."""
