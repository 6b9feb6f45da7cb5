"""The model of replication: with every rule nothing committed is lost, and without one a known schedule loses something."""

from __future__ import annotations

from typing import Final

import pytest
from click.testing import CliRunner

from waymaker_sim.cli.command import sim
from waymaker_sim.replication_model.command import SMALL_STEPS, STEPS, run_schedules, run_walks
from waymaker_sim.replication_model.committed_log import CommittedLog, Lost
from waymaker_sim.replication_model.replica import EPOCH_UNIT
from waymaker_sim.replication_model.rules import RULES
from waymaker_sim.replication_model.schedule import Schedule
from waymaker_sim.replication_model.small_scope import Scope, Step, breaks, search

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

RECORD: Final = 1 * EPOCH_UNIT + 1
"""The first record of epoch 1."""
ALL: Final = (0, 1, 2)
CLAIM: Final[list[Step]] = [
    ("claim", 1, ALL), ("deliver", 2, ("fence", 2, 1)),
]  # fmt: skip
COMMIT_IN_1: Final[list[Step]] = [
    ("deliver", 2, ("append", 1, 0, 0, 0, 0, (RECORD,), 0, 1)), ("sync", 2), ("sync", 0),
    ("deliver", 0, ("ack", 1, 2, 0, 1, 1)),
]  # fmt: skip
OPEN_2_WITHOUT_IT: Final[list[Step]] = [
    ("sync", 1), ("deliver", 1, ("promise", 2, 2, 0, 1, 0, 0, 0)), ("sync", 1), ("append", 1, 0),
    ("deliver", 0, ("append", 2, 1, 0, 0, 0, (), 0, 1)), ("sync", 0), ("deliver", 1, ("ack", 2, 0, 0, 0, 1)), ("decide", 2),
    ("open", 1),
]  # fmt: skip
DIRECTED: Final[dict[str, tuple[Scope, list[Step]]]] = {
    # A replica forgets its promise, and then helps to commit a record in the epoch before.
    "promise_durable": (
        Scope(stops=1),
        [*CLAIM, ("crash", 2), ("start", 2), ("take", 0), ("append", 0, 2), *COMMIT_IN_1, *OPEN_2_WITHOUT_IT],
    ),
    "carry_promise": (
        Scope(stops=1, checkpoints=1),
        [
            *CLAIM, ("sync", 2), ("checkpoint", 2), ("stop", 2), ("start", 2), ("take", 0), ("append", 0, 2), *COMMIT_IN_1,
            *OPEN_2_WITHOUT_IT,
        ],
    ),
    "torn_obeys_newest": (
        Scope(tears=1),
        [
            *CLAIM, ("sync", 2), ("tear", 2), ("start in doubt", 2), ("take", 0), ("append", 0, 2), *COMMIT_IN_1,
            *OPEN_2_WITHOUT_IT,
        ],
    ),
    # A tear takes a record with it that the replica had acknowledged; its promise hides that.
    "doubt_torn": (
        Scope(tears=1),
        [
            ("take", 0), ("append", 0, 2), *COMMIT_IN_1[:3], ("tear", 2), ("claim", 1, ALL), ("start in doubt", 2),
            COMMIT_IN_1[3], CLAIM[1], ("sync", 2), ("sync", 1), ("deliver", 1, ("promise", 2, 2, 0, 1, 0, 0, 2)),
            *OPEN_2_WITHOUT_IT[2:],
        ],
    ),
    # Epoch 2 commits with a set of one that no claim asks, for it never opened; then that one is gone from the next epoch.
    "commit_after_opened": (
        Scope(stops=1, claims=2, claimants=(1, 2), sets=(ALL, (1,))),
        [
            ("take", 0), ("append", 0, 1), ("deliver", 1, ("append", 1, 0, 0, 0, 0, (RECORD,), 0, 1)), ("claim", 1, (1,)),
            ("deliver", 2, ("fence", 2, 1)), ("sync", 2), ("deliver", 1, ("promise", 2, 2, 0, 1, 0, 0, 0)), ("sync", 1),
            ("sync", 1),
            ("crash", 0), ("start", 0), ("claim", 2, ALL), ("deliver", 0, ("fence", 3, 2)), ("sync", 0),
            ("deliver", 2, ("promise", 3, 0, 0, 1, 0, 0, 0)), ("sync", 2), ("sync", 2), ("append", 2, 0),
            ("deliver", 0, ("append", 3, 2, 0, 0, 0, (), 0, 1)), ("sync", 0), ("deliver", 2, ("ack", 3, 0, 0, 0, 1)),
            ("decide", 3), ("open", 2),
        ],
    ),
    # A primary claims anew after it lost a record; the acknowledgement of that record arrives when another has its place.
    "ack_own_epoch": (
        Scope(stops=1, claims=2, claimants=(0, 1), records=2),
        [
            ("take", 0), ("append", 0, 2), COMMIT_IN_1[0], ("sync", 2), ("crash", 0), ("start", 0),
            ("claim", 0, ALL), ("deliver", 1, ("fence", 2, 0)), ("sync", 1), ("deliver", 0, ("promise", 2, 1, 0, 1, 0, 0, 0)),
            ("sync", 0), ("sync", 0), ("append", 0, 1), ("deliver", 1, ("append", 2, 0, 0, 0, 0, (), 0, 1)), ("sync", 1),
            ("deliver", 0, ("ack", 2, 1, 0, 0, 1)), ("decide", 2), ("open", 0), ("take", 0), ("sync", 0), COMMIT_IN_1[3],
            ("claim", 1, ALL), ("deliver", 2, ("fence", 3, 1)), ("sync", 2), ("deliver", 1, ("promise", 3, 2, 0, 1, 1, 1, 0)),
            ("sync", 1), ("sync", 1), ("append", 1, 2), ("deliver", 2, ("append", 3, 1, 0, 0, 0, (), 0, 1)), ("sync", 2),
            ("deliver", 1, ("ack", 3, 2, 0, 0, 1)), ("decide", 3), ("open", 1),
        ],
    ),
    # What was not committed is not applied, though it is durable.
    "apply_known_commit": (Scope(stops=1), [("take", 0), ("sync", 0), ("stop", 0), ("start", 0)]),
}  # fmt: skip
"""By rule that random schedules seldom meet: the steps that break a promise without it."""


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


@pytest.mark.parametrize("rule", sorted(DIRECTED))
def test_directed_steps_break_a_promise_without_the_rule(rule: str) -> None:
    scope, steps = DIRECTED[rule]
    assert breaks(scope, [rule], steps)
    assert not breaks(scope, [], steps)


def test_every_rule_has_a_schedule() -> None:
    assert SEEDS.keys() | DIRECTED.keys() == RULES.keys()
    assert not SEEDS.keys() & DIRECTED.keys()


def test_what_an_abandoned_donor_sends_is_not_taken() -> None:
    """Its second donation arrives when the claimant fetches from another replica."""
    assert Schedule(20_310_644).run(3_000)


def test_no_small_schedule_loses_what_was_committed() -> None:
    outcome = run_walks(range(2_000), SMALL_STEPS)
    assert not outcome.broken, outcome
    assert outcome.committed > 200, "schedules in which nothing happens prove nothing"


def test_every_order_of_a_small_scope_keeps_what_was_committed() -> None:
    found = search(Scope(appends=1))
    assert found.complete and not found.broken
    assert found.states > 3_000


def test_a_search_ends_with_the_steps_to_the_loss() -> None:
    found = search(Scope(appends=2), ["choose_newest"])
    assert "lacks what was committed" in found.broken
    assert breaks(Scope(appends=2), ["choose_newest"], found.steps)
    assert not any(
        breaks(Scope(appends=2), ["choose_newest"], found.steps[:at] + found.steps[at + 1 :])
        for at in range(len(found.steps))
    )


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
    small = CliRunner().invoke(sim, ["model", "--small", "--seeds", "600..700", "--without", rule])
    assert small.exit_code == 6 and "deliver to" in small.output, small.output
    orders = CliRunner().invoke(sim, ["scope", "--appends", "1"])
    assert orders.exit_code == 0 and "every one there is" in orders.output, orders.output
    lost = CliRunner().invoke(sim, ["scope", "--without", rule])
    assert lost.exit_code == 6 and "lacks what was committed" in lost.output, lost.output
