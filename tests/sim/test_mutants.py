"""The checks bite: with a rule of the core taken out a seed notices; with it in place the same seed is clean."""

from __future__ import annotations

import pytest

from waymaker_sim.mutants import MUTANTS, planted


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_rule_is_back_after_its_run(name: str) -> None:
    mutant = MUTANTS[name]
    before = dict(vars(mutant.owner))
    with planted(name):
        assert dict(vars(mutant.owner)) != before
    assert dict(vars(mutant.owner)) == before
