"""Scenarios that come out otherwise without a rule, for rules that random schedules hardly reach.

Each scenario is short and deterministic. The schedules name a seed for the other rules (`tests/sim/test_raft_schedules.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.kit.raft_playbook import RaftPlay
from waymaker_core.raft.effects import Effect, Send
from waymaker_core.raft.entries import Durable, Entry, EntryKind, HardState, SnapshotMeta
from waymaker_core.raft.inputs import Received, Saved
from waymaker_core.raft.members import Members
from waymaker_core.raft.messages import AppendRequest, AppendResponse
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings
from waymaker_sim.raft.rules import RULES

PLAYBOOKS: Final = Path(__file__).parent / "playbooks"
SHOWN_BY: Final[dict[str, str]] = {
    "ack_verified": "uncommitted_suffix",
    "answers_of_own_term": "late_answers",
    "campaign_durable": "restarts",
    "commit_own_term": "figure_8",
    "read_next_round": "reads",
    "vote_durable": "restarts",
}


@pytest.mark.parametrize("rule", sorted(SHOWN_BY))
def test_a_playbook_comes_out_otherwise_without_the_rule(rule: str) -> None:
    text = (PLAYBOOKS / f"{SHOWN_BY[rule]}.txt").read_text()
    with RULES[rule].planted():
        assert RaftPlay().run(text) != text
    assert RaftPlay().run(text) == text


def after_a_heartbeat() -> tuple[int, list[Effect]]:
    """Let a follower whose log goes on behind index 2 hear that 5 is committed, and that the leader's index 2 is its own."""
    entries = tuple(Entry(1, EntryKind.DATA, b"%d" % at) for at in range(4))
    first = SnapshotMeta(1, 0, Members((1, 2, 3)))
    raft = Raft(1, RaftSettings(), 1, 0, Durable(HardState(1), first, entries))
    effects = raft.step(0, [Received(AppendRequest(2, 1, 2, 2, 1, (), 5, 0))])
    effects += raft.step(0, [Saved(1)])
    return raft.commit, effects


def test_a_heartbeat_verifies_nothing_behind_the_entry_that_it_names() -> None:
    commit, effects = after_a_heartbeat()
    assert commit == 2
    answers = [each.message for each in effects if isinstance(each, Send)]
    assert answers == [AppendResponse(1, 2, 2, 2, 2, 0)]
    with RULES["commit_verified"].planted():
        assert after_a_heartbeat()[0] == 5
