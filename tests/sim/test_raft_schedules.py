"""The consensus group under random schedules: with every rule no promise breaks; without one, a known schedule breaks one."""

from __future__ import annotations

from typing import Final

import pytest
from click.testing import CliRunner

from tests.property.raft.test_raft_rules import SHOWN_BY
from waymaker_core.raft.entries import SnapshotMeta
from waymaker_core.raft.members import Members
from waymaker_sim.cli.command import sim
from waymaker_sim.raft.command import run_schedules
from waymaker_sim.raft.promises import PROMISES, Broken, Watch, broken
from waymaker_sim.raft.rules import RULES
from waymaker_sim.raft.schedule import Schedule

SEEDS: Final[dict[str, int]] = {
    "ack_durable": 9,
    "ack_verified": 454,
    "answers_of_own_term": 819,
    "apply_durable": 3,
    "change_in_own_term": 9,
    "check_quorum": 11,
    "cut_on_conflict": 14,
    "end_of_cut_write": 27,
    "hold_on_to_leader": 73,
    "learn_first": 3,
    "learners_do_not_count": 9,
    "match_by_term": 63,
    "noop_first": 1,
    "one_change": 9,
    "one_vote": 6,
    "own_sync": 1,
    "own_vote_durable": 1,
    "pre_vote": 17,
    "read_asks_majority": 173,
    "read_own_term": 1,
    "removed_is_needed": 46,
    "removed_leader_goes": 36,
    "set_goes_back": 27,
    "snapshot_ahead": 30,
    "snapshot_members": 9,
    "snapshot_term": 9,
    "stalled_resigns": 32,
    "term_durable": 8,
    "transfer_whole_log": 31,
    "verified_by_this_leader": 106,
    "vote_durable": 2079,
    "vote_up_to_date": 22,
}
"""By rule: a schedule that breaks a promise without it."""
NOT_SEEN: Final[frozenset[str]] = frozenset(
    {"campaign_durable", "commit_own_term", "commit_verified", "read_next_round"}
)
"""Rules whose absence no random schedule has shown yet: scenarios do (`tests/property/raft/test_raft_rules.py`)."""


def test_no_schedule_breaks_a_promise() -> None:
    outcome = run_schedules(range(1, 31))
    assert not outcome.broken, outcome
    assert outcome.runs == 30
    assert outcome.committed > 500 and outcome.reads > 200 and outcome.leaders > 60, "idle schedules prove nothing"


@pytest.mark.parametrize("rule", sorted(SEEDS))
def test_a_schedule_breaks_a_promise_without_the_rule(rule: str) -> None:
    seed = SEEDS[rule]
    outcome = run_schedules([seed], without=rule)
    assert outcome.promise in RULES[rule].caught_by, outcome


def test_the_schedules_that_show_rules_break_nothing_with_them() -> None:
    outcome = run_schedules(sorted(set(SEEDS.values()))[:25])
    assert not outcome.broken, outcome


def test_a_machine_that_was_paused_keeps_its_deadline() -> None:
    """A leader that is the only voter, with its only learner's snapshot lost, has nothing but its own clock to go on."""
    assert not run_schedules([2116]).broken


def test_a_leader_elected_by_late_votes_may_lack_what_a_newer_term_committed() -> None:
    assert not run_schedules([968]).broken


def test_every_rule_has_a_schedule_or_is_known_to_lack_one() -> None:
    assert SEEDS.keys() | NOT_SEEN == RULES.keys()
    assert not SEEDS.keys() & NOT_SEEN
    assert {*SHOWN_BY, "commit_verified"} >= NOT_SEEN
    assert {promise for rule in RULES.values() for promise in rule.caught_by} <= PROMISES.keys()


def test_a_rule_is_in_place_again_after_it_was_left_out() -> None:
    before = {name: vars(rule.owner)[rule.name] for name, rule in RULES.items()}
    for rule in RULES.values():
        with rule.planted():
            pass
    assert {name: vars(rule.owner)[rule.name] for name, rule in RULES.items()} == before


def test_a_seed_is_the_same_schedule_twice() -> None:
    one, two = Schedule(7), Schedule(7)
    assert one.run(300) == two.run(300)
    assert one.steps == two.steps
    assert [machine.disk.read() for machine in one.machines] == [machine.disk.read() for machine in two.machines]


def test_a_promise_that_does_not_exist_cannot_break() -> None:
    with pytest.raises(AssertionError):
        broken("all is well", "")
    with pytest.raises(Broken, match="snapshot is committed: a snapshot at 9, where 1 is committed"):
        Watch(SnapshotMeta(1, 0, Members((1,)))).snapshot(SnapshotMeta(9, 1, Members((1,))))


def test_the_command_counts_schedules_and_names_the_one_that_broke() -> None:
    done = CliRunner().invoke(sim, ["raft", "--seeds", "1..3"])
    assert done.exit_code == 0 and done.output.startswith("3 schedules, "), done.output
    rule = "own_sync"
    broke = CliRunner().invoke(sim, ["raft", "--seeds", f"{SEEDS[rule]}..{SEEDS[rule]}", "--without", rule])
    assert broke.exit_code == 6 and broke.output.startswith(f"seed {SEEDS[rule]}: "), broke.output
