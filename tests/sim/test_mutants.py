"""The checks bite: with a rule of the core taken out, a few seeds notice; with it in place, the same seeds are clean."""

from __future__ import annotations

import pytest

from waymaker_sim.mutants import MUTANTS, planted
from waymaker_sim.run import Report, run_tape
from waymaker_sim.tape import Tape

SEEDS = range(1, 5)
HUNT = range(1, 41)
"""As many seeds as a mutant may need; most fall at the first."""
NEEDS_MANY_SEEDS = {"cut-damage"}
"""Noticed by a longer hunt (`waymaker sim mutants`), and by the store's own tests of damage."""


def lived(seed: int, mutant: str = "") -> Report:
    return run_tape(Tape(seed), mutant=mutant)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MUTANTS.keys() - NEEDS_MANY_SEEDS))
def test_a_missing_rule_is_noticed(name: str) -> None:
    caught = next((seed for seed in HUNT if not lived(seed, name).clean()), None)
    assert caught is not None, MUTANTS[name].rule
    assert lived(caught).clean(), "the seed that notices must be clean with the rule in place"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_with_every_rule_in_place_nothing_is_noticed(seed: int) -> None:
    report = lived(seed)
    assert report.clean(), f"{report.check}: {report.detail}"


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_rule_is_back_after_its_run(name: str) -> None:
    owners = [
        cell.cell_contents for cell in MUTANTS[name].plant.__closure__ or () if isinstance(cell.cell_contents, type)
    ]
    (owner,) = owners
    before = dict(vars(owner))
    with planted(name):
        assert dict(vars(owner)) != before
    assert dict(vars(owner)) == before


def test_exceptions_are_mutants_that_exist() -> None:
    assert set(MUTANTS) > NEEDS_MANY_SEEDS
