"""The model of replication: with every rule nothing committed is lost, and without one a known schedule loses something."""

from __future__ import annotations

from typing import Final

import pytest
from click.testing import CliRunner

from waymaker_sim.cli.command import sim
from waymaker_sim.replication_model.command import STEPS, run_schedules
from waymaker_sim.replication_model.committed_log import CommittedLog, Lost
from waymaker_sim.replication_model.rules import RULES
from waymaker_sim.replication_model.schedule import Schedule

SEEDS: Final[dict[str, int]] = {
    "ack_durable": 8238,
    "answer_committed": 8,
    "answer_confirmed": 1660,
    "apply_verified": 224,
    "carry_suffix": 17,
    "check_previous": 224,
    "choose_newest": 5,
    "confirm_after_question": 1660,
    "count_identity": 21,
    "cut_durable": 39,
    "cut_on_conflict": 4,
    "donor_as_promised": 11752,
    "fence_last_opened": 166,
    "log_epoch_not_record_epoch": 1765,
    "majority_of_set": 244,
    "never_resume": 33,
    "not_longest": 1181,
    "obey_promise": 227,
    "opened_newest_claim": 1043,
    "opened_verified": 934,
    "rise_at_start": 8,
}
"""By rule: a schedule that breaks a promise without it."""
NOT_SEEN: Final = frozenset(
    {"ack_own_epoch", "carry_promise", "commit_after_opened", "doubt_torn", "promise_durable", "torn_obeys_newest"}
)
"""Rules whose absence no random schedule has shown yet: directed schedules and small exhaustive scopes have to settle them."""


def test_no_schedule_loses_what_was_committed() -> None:
    outcome = run_schedules(range(200), STEPS)
    assert not outcome.broken, outcome
    assert outcome.runs == 200
    assert outcome.committed > 500, "schedules in which nothing happens prove nothing"


@pytest.mark.parametrize("rule", sorted(SEEDS))
def test_a_schedule_breaks_a_promise_without_the_rule(rule: str) -> None:
    with pytest.raises(Lost):
        Schedule(SEEDS[rule], [rule]).run(STEPS)
    Schedule(SEEDS[rule]).run(STEPS)


def test_every_rule_has_a_schedule_or_is_known_to_lack_one() -> None:
    assert SEEDS.keys() | NOT_SEEN == RULES.keys()
    assert not SEEDS.keys() & NOT_SEEN


def test_a_seed_is_the_same_schedule_twice() -> None:
    one, two = Schedule(7), Schedule(7)
    assert one.run(STEPS) == two.run(STEPS)
    assert [replica.journal for replica in one.protocol.replicas] == [
        replica.journal for replica in two.protocol.replicas
    ]


def test_the_committed_log_sees_each_kind_of_loss() -> None:
    log = CommittedLog()
    log.commit([1, 2], 0, 2, "a")
    log.apply([1, 2, 3], 0, 2, "b")
    log.answer([1, 2], 2, 1, "a")
    log.opened([1, 2, 3], "c")
    with pytest.raises(Lost, match="another record at 1"):
        log.commit([1, 9], 0, 2, "b")
    with pytest.raises(Lost, match="behind a gap"):
        log.commit([1, 2, 3, 4], 3, 4, "b")
    with pytest.raises(Lost, match="not what was committed"):
        log.apply([1, 2, 3], 1, 3, "b")
    with pytest.raises(Lost, match="lacks what was committed"):
        log.opened([1], "c")
    with pytest.raises(Lost, match="before the question"):
        log.answer([1, 2], 1, 2, "a")
    with pytest.raises(Lost, match="not committed"):
        log.answer([1, 2, 3], 3, 2, "a")


def test_the_command_counts_schedules_and_names_the_one_that_broke() -> None:
    done = CliRunner().invoke(sim, ["model", "--seeds", "1..5"])
    assert done.exit_code == 0 and done.output.startswith("5 schedules, 15,000 steps"), done.output
    rule = "choose_newest"
    broken = CliRunner().invoke(sim, ["model", "--seeds", f"{SEEDS[rule]}..{SEEDS[rule]}", "--without", rule])
    assert broken.exit_code == 6 and broken.output.startswith(f"seed {SEEDS[rule]}: "), broken.output
