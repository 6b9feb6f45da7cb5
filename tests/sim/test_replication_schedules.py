"""The replicas of one stream under random schedules: nothing is lost with every rule; without one, a known schedule loses."""

from __future__ import annotations

from typing import Final

import pytest
from click.testing import CliRunner

from waymaker_sim.cli.command import sim
from waymaker_sim.replication.command import run_schedules
from waymaker_sim.replication.rules import RULES
from waymaker_sim.replication.schedule import Schedule
from waymaker_sim.replication_model.rules import RULES as MODEL_RULES

SEEDS: Final[dict[str, int]] = {
    "ack_durable": 332,
    "apply_known_commit": 4,
    "check_previous": 103,
    "choose_newest": 1,
    "cut_durable": 40,
    "cut_on_conflict": 6,
    "fence_last_opened": 36,
    "majority_of_set": 6,
    "never_resume": 4,
    "not_longest": 197,
    "own_disk": 9,
    "rise_at_start": 234,
}
"""By rule: a schedule that breaks a promise without it. Directed cases show all of them."""
OF_THE_CODE: Final = {
    "acknowledge_identity",
    "apply_when_durable",
    "doubt_confirmed",
    "own_disk",
    "rise_when_durable",
    "silent_after_decline",
    "silent_when_torn",
    "step_down_for_newer",
}
"""Rules that the model does not have. Its disk declines nothing, and its replicas learn claims, openings and doubts at once."""
OF_THE_NODE: Final = {"answer_committed"}
"""Rules of the model that the node keeps: an answer rests on what is applied."""


def test_no_schedule_loses_anything() -> None:
    outcome = run_schedules(range(1, 41))
    assert not outcome.lost, outcome
    assert outcome.committed > 200 and outcome.answers > 20, "idle schedules prove nothing"


def test_a_commit_of_declined_records_is_forgotten() -> None:
    """103,075: a replica knew more to be committed than its log held, and could never adopt a log again."""
    assert not run_schedules([103_075]).lost


@pytest.mark.parametrize("rule", sorted(SEEDS))
def test_a_schedule_breaks_a_promise_without_the_rule(rule: str) -> None:
    assert run_schedules([SEEDS[rule]], without=rule).lost


def test_the_schedules_that_show_rules_lose_nothing_with_them() -> None:
    assert not run_schedules(sorted(set(SEEDS.values()))).lost


def test_code_and_model_have_the_same_rules() -> None:
    assert RULES.keys() - OF_THE_CODE == MODEL_RULES.keys() - OF_THE_NODE
    assert SEEDS.keys() <= RULES.keys()


def test_a_rule_is_in_place_again_after_it_was_left_out() -> None:
    before = {name: vars(rule.owner)[rule.name] for name, rule in RULES.items()}
    for rule in RULES.values():
        with rule.planted():
            pass
    assert {name: vars(rule.owner)[rule.name] for name, rule in RULES.items()} == before


def test_a_seed_is_the_same_schedule_twice() -> None:
    one, two = Schedule(7), Schedule(7)
    assert one.run(500) == two.run(500)
    assert [machine.journal for machine in one.machines] == [machine.journal for machine in two.machines]


def test_the_command_counts_schedules_and_names_the_one_that_lost() -> None:
    done = CliRunner().invoke(sim, ["replication", "--seeds", "1..2"])
    assert done.exit_code == 0 and done.output.startswith("2 schedules, "), done.output
    seed = SEEDS["choose_newest"]
    lost = CliRunner().invoke(sim, ["replication", "--seeds", f"{seed}..{seed}", "--without", "choose_newest"])
    assert lost.exit_code == 6 and lost.output.startswith(f"seed {seed}: "), lost.output
