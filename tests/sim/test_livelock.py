"""A node that keeps itself busy is told from one that is kept busy."""

from __future__ import annotations

import pytest

from waymaker_core.api.inputs import Cancel, Input, JobDone
from waymaker_core.model.types import JobId, Token
from waymaker_core.node import Node
from waymaker_sim.kernel.checks import Violation
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.machine.livelock import OWN_STEPS_MAX, READS_OF_ONE_MAX, STEPS_OF_A_CALL, LivelockDetector
from waymaker_sim.world.run import run_seed

OWN: list[Input] = [JobDone(JobId(1), [])]
SAID: list[Input] = [Cancel(Token(1)), *OWN]


def steps(circles: LivelockDetector, at_ns: int, inputs: list[Input], count: int) -> None:
    for _ in range(count):
        circles.stepped(at_ns, inputs)


@pytest.mark.parametrize("inputs", [[], OWN])
def test_too_many_steps_without_a_cause_are_a_violation(inputs: list[Input]) -> None:
    circles = LivelockDetector()
    steps(circles, 7, inputs, OWN_STEPS_MAX)
    with pytest.raises(Violation, match=f"{OWN_STEPS_MAX + 1} steps"):
        circles.stepped(8, inputs)


def test_a_second_begins_anew() -> None:
    circles = LivelockDetector()
    for second in range(3):
        steps(circles, second * SECOND, OWN, OWN_STEPS_MAX)


def test_steps_of_calls_are_as_many_as_there_are_calls() -> None:
    circles = LivelockDetector()
    steps(circles, 0, SAID, 100_000)
    steps(circles, 0, OWN, OWN_STEPS_MAX + STEPS_OF_A_CALL * 100_000)
    with pytest.raises(Violation):
        circles.stepped(0, OWN)


def test_each_read_is_good_for_a_step() -> None:
    circles = LivelockDetector()
    for _ in range(10_000):
        circles.read()
    steps(circles, 0, OWN, OWN_STEPS_MAX + 10_000)
    with pytest.raises(Violation):
        circles.stepped(0, OWN)


def test_one_place_that_is_read_again_and_again_is_a_violation() -> None:
    circles = LivelockDetector()
    for offset in range(3):
        for _ in range(READS_OF_ONE_MAX):
            circles.read([("blocks/1", offset)])
    with pytest.raises(Violation, match="blocks/1 at 0 was read 501 times"):
        circles.read([("blocks/1", 0)])
    circles.stepped(SECOND, SAID)
    circles.read([("blocks/1", 0)])


def test_a_deadline_that_stays_in_the_past_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "next_deadline", lambda _: 0)
    report = run_seed(3)
    assert report.check == "progress", report
