"""Votes of members that have forgotten something: in doubt, or with another directory than the one that counts."""

from __future__ import annotations

import pytest

from waymaker_core.raft.effects import Role, Send, Write
from waymaker_core.raft.entries import Durable, HardState, SnapshotMeta
from waymaker_core.raft.inputs import Input, Received, Saved
from waymaker_core.raft.members import Change, ChangeKind, Members, changed, decode_members, encode_members
from waymaker_core.raft.messages import VoteRequest, VoteResponse
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings

THREE = Members((1, 2, 3), (), ((1, 11), (2, 12), (3, 13)))
LATE = 5_000


def raft(doubt: int = 0, directory: int = 11) -> Raft:
    return Raft(1, RaftSettings(), 7, 0, Durable(HardState(4, 0), SnapshotMeta(1, 0, THREE), (), doubt), directory)


def run(member: Raft, *inputs: Input) -> list[VoteRequest]:
    """Let a member take inputs, with a disk that is done at once; return the votes that it asks for."""
    asked: list[VoteRequest] = []
    waiting: list[Input] = [*inputs]
    while True:
        effects = member.step(LATE, waiting)
        asked += [each.message for each in effects if isinstance(each, Send) and isinstance(each.message, VoteRequest)]
        waiting = [Saved(each.number) for each in effects if isinstance(each, Write)]
        if not waiting:
            return asked


def role_of(member: Raft) -> Role:
    return member.role


def answers(voters: dict[int, bool]) -> Raft:
    """Return a candidate that was granted these votes, each in doubt or not, twice: in advance, and in earnest."""
    member = raft()
    assert run(member)
    for pre in (True, False):
        run(member, *(Received(VoteResponse(node, 1, 5, pre, True), doubtful) for node, doubtful in voters.items()))
    return member


@pytest.mark.parametrize(
    ("voters", "leads"),
    [({2: False}, True), ({2: True}, False), ({2: True, 3: False}, True), ({2: True, 3: True}, True)],
)
def test_a_vote_in_doubt_counts_only_among_all(voters: dict[int, bool], leads: bool) -> None:
    assert (answers(voters).role == Role.LEADER) == leads


def test_a_candidate_in_doubt_needs_two_others() -> None:
    member = raft(doubt=5)
    run(member)
    for node, role in ((2, Role.PRE_CANDIDATE), (3, Role.CANDIDATE)):
        run(member, Received(VoteResponse(node, 1, 5, True, True)))
        assert role_of(member) == role
    run(member, Received(VoteResponse(2, 1, 5, False, True)))
    assert role_of(member) == Role.CANDIDATE and member.is_doubtful
    run(member, Received(VoteResponse(3, 1, 5, False, True)))
    assert role_of(member) == Role.LEADER


def test_a_node_with_another_directory_campaigns_for_nothing() -> None:
    assert run(raft(directory=99)) == []
    assert run(raft(directory=11)) != []


def test_directories_follow_their_nodes() -> None:
    without = changed(THREE, Change(ChangeKind.REMOVE, 2))
    assert without == Members((1, 3), (), ((1, 11), (3, 13)))
    again = changed(without, Change(ChangeKind.ADD_LEARNER, 2, 22))
    assert again == Members((1, 3), (2,), ((1, 11), (2, 22), (3, 13)))
    assert changed(again, Change(ChangeKind.PROMOTE, 2)) == THREE._replace(directories=again.directories)
    assert decode_members(encode_members(again)) == again
