"""The services of a node and the naive ones answer alike, and the comparison notices where a rule is missing."""

from __future__ import annotations

import pytest

from waymaker_sim.compare.pair import Disagreement
from waymaker_sim.compare.services import ServiceCalls, compare_services
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.mutants import planted

NOTICED = (
    "take-any-revision", "read-tombstones", "revive-older-values", "end-values-when-read", "fill-buckets", "forget-touches",
    "purge-nothing", "purge-at-once", "list-tombstones-as-values", "keep-deleted-buckets", "keep-what-is-removed",
)  # fmt: skip
"""Mutants of the services that an answer shows, without any failure."""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_long_conversation_finds_no_difference(seed: int) -> None:
    conversation = compare_services(seed, 1_500)
    assert conversation.compared > 1_200
    assert set(conversation.counts) == {act.__name__ for _, act in conversation._acts}, "every act was met"


@pytest.mark.parametrize("mutant", NOTICED)
def test_a_missing_rule_is_noticed(mutant: str) -> None:
    with planted(mutant), pytest.raises(Disagreement):
        compare_services(1, 3_000)


def test_a_conversation_is_the_same_twice() -> None:
    tapes = [Tape(3), Tape(3)]
    for tape in tapes:
        talk = ServiceCalls(tape.track("services"))
        for _ in range(200):
            talk.step()
    assert tapes[0].saved() == tapes[1].saved()
