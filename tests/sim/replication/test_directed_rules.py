"""Every rule of replication has a directed case: messages in one exact order that break a promise without the rule."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.kit.replica_group import ReplicaGroup
from tests.sim.replication import claim_cases, log_cases
from waymaker_sim.replication.rules import RULES
from waymaker_sim.replication_model.committed_log import Lost

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "replication.md"
LACKS: Final = "is open and lacks what was committed"
ANOTHER: Final = "committed another record"
APPLIED: Final = "is not what was committed"
ANSWERED: Final = "were committed before the question"
STUCK: Final = "the healed group is"
CASES: Final[dict[str, tuple[Callable[[], ReplicaGroup], str]]] = {
    "ack_durable": (log_cases.ack_durable, LACKS),
    "ack_own_epoch": (log_cases.ack_own_epoch, LACKS),
    "acknowledge_identity": (claim_cases.acknowledge_identity, LACKS),
    "answer_confirmed": (log_cases.question_to_the_old_primary, ANSWERED),
    "apply_known_commit": (log_cases.apply_known_commit, APPLIED),
    "apply_verified": (log_cases.apply_verified, APPLIED),
    "apply_when_durable": (log_cases.apply_when_durable, STUCK),
    "carry_promise": (claim_cases.carry_promise, LACKS),
    "carry_suffix": (log_cases.carry_suffix, LACKS),
    "check_previous": (log_cases.check_previous, APPLIED),
    "choose_newest": (claim_cases.choose_newest, LACKS),
    "commit_after_opened": (claim_cases.commit_after_opened, LACKS),
    "confirm_after_question": (log_cases.question_to_the_old_primary, ANSWERED),
    "count_identity": (claim_cases.count_identity, LACKS),
    "cut_durable": (log_cases.cut_durable, APPLIED),
    "cut_on_conflict": (log_cases.cut_on_conflict, LACKS),
    "donor_as_promised": (claim_cases.donor_as_promised, ANOTHER),
    "doubt_confirmed": (claim_cases.doubt_confirmed, LACKS),
    "doubt_torn": (claim_cases.doubt_torn, LACKS),
    "fence_last_opened": (claim_cases.fence_last_opened, LACKS),
    "log_epoch_not_record_epoch": (claim_cases.log_epoch_not_record_epoch, ANOTHER),
    "majority_of_set": (log_cases.majority_of_set, LACKS),
    "never_resume": (claim_cases.never_resume, LACKS),
    "not_longest": (claim_cases.not_longest, ANOTHER),
    "obey_promise": (claim_cases.obey_promise, LACKS),
    "opened_verified": (claim_cases.opened_verified, LACKS),
    "own_disk": (log_cases.own_disk, ANSWERED),
    "promise_durable": (claim_cases.promise_durable, LACKS),
    "rise_at_start": (log_cases.rise_at_start, LACKS),
    "rise_when_durable": (log_cases.rise_when_durable, LACKS),
    "silent_after_decline": (log_cases.silent_after_decline, LACKS),
    "silent_when_torn": (claim_cases.silent_when_torn, LACKS),
    "step_down_for_newer": (claim_cases.step_down_for_newer, STUCK),
    "torn_obeys_newest": (claim_cases.torn_obeys_newest, LACKS),
}
"""By rule: a case, and the promise that it breaks without the rule."""
EITHER: Final = ("opened_newest_claim", "step_down_for_newer")
"""Two rules of which either one is enough where an epoch is proposed late: what was committed is lost without both."""


@pytest.mark.parametrize("rule", sorted(CASES))
def test_a_directed_case_breaks_a_promise_without_the_rule(rule: str) -> None:
    case, promise = CASES[rule]
    with RULES[rule].planted(), pytest.raises(Lost, match=promise):
        case()


@pytest.mark.parametrize("case", dict.fromkeys(case for case, _ in CASES.values()))
def test_the_case_breaks_no_promise_with_every_rule(case: Callable[[], ReplicaGroup]) -> None:
    group = case()
    for node in group.machines:
        group.heal(node)


def test_one_of_two_rules_is_enough_where_a_newer_claim_exists() -> None:
    """A primary that knows of a newer claim leads no more, so the catalog's own check matters only where it does not."""
    with ExitStack() as planted:
        for rule in EITHER:
            planted.enter_context(RULES[rule].planted())
        with pytest.raises(Lost, match=LACKS):
            claim_cases.opened_newest_claim()
    for rule in EITHER:
        with RULES[rule].planted():
            group = claim_cases.opened_newest_claim()
        group.heal(1)


def test_every_rule_has_a_case_and_is_explained() -> None:
    assert CASES.keys() | set(EITHER) == RULES.keys()
    page = PAGE.read_text()
    assert [rule for rule in RULES if f"`{rule}`" not in page] == []
