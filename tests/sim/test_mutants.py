"""The checks bite: with a rule of the core taken out a seed notices; with it in place the same seed is clean.

Here each mutant meets a seed that is known to notice, and a few more should worlds have changed since; the gate itself
(`waymaker sim mutants`) looks for as long as it takes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from waymaker_sim.kernel.checks import CHECKS, CRASH
from waymaker_sim.mutants import MUTANTS, planted
from waymaker_sim.search import gate
from waymaker_sim.search.gate import GateResult, clean, find_seed, run_without, summary, without_invariants
from waymaker_sim.search.seeds import find_seed_from, load_seeds, save_seeds
from waymaker_sim.world import world
from waymaker_sim.world.run import Report

SEEDS = load_seeds(Path(__file__).with_name("mutant_seeds.json"))
"""By mutant: a seed that notices, and costs little; written by `waymaker sim mutants --known`."""
SPARE_SEEDS = (3, 4, 10, 12, 14, 15, 18, 36, 572, 641, 1241, 2292, 2800)
"""Where a world has changed: other small ones to try."""
DEAR = {"load-anew"}
"""Mutants that take worlds of many seconds: the gate alone runs them."""


@pytest.mark.parametrize("name", sorted(MUTANTS.keys() - DEAR))
def test_a_missing_rule_is_noticed(name: str) -> None:
    seeds = dict.fromkeys([SEEDS[name], *SPARE_SEEDS])
    for seed in seeds:
        report = run_without(seed, name)
        if not report.clean() and clean(seed, name):
            return
    pytest.fail(f"nobody noticed in {len(seeds)} runs that it is gone: {MUTANTS[name].rule}")


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_rule_is_back_after_its_run(name: str) -> None:
    mutant = MUTANTS[name]
    before = dict(vars(mutant.owner))
    with planted(name):
        assert dict(vars(mutant.owner)) != before
    assert dict(vars(mutant.owner)) == before


def test_every_mutant_names_the_checks_that_are_to_notice() -> None:
    for name, mutant in MUTANTS.items():
        assert mutant.caught_by and set(mutant.caught_by) <= CHECKS.keys(), name
        assert any(CHECKS[check][0] != CRASH for check in mutant.caught_by), f"{name}: a client notices, not the node"
    assert SEEDS.keys() == MUTANTS.keys()


def test_a_mutant_replaces_a_name_that_is_looked_up_where_it_stands() -> None:
    """A module that imports a function by its name keeps the original: its own name is the one to replace."""
    core = {name: module for name, module in sys.modules.items() if name.startswith("waymaker_core.")}
    for name, mutant in MUTANTS.items():
        if not isinstance(mutant.owner, ModuleType):
            continue
        original = vars(mutant.owner)[mutant.name]
        source = Path(str(mutant.owner.__file__)).read_text()
        used_here = len(re.findall(rf"\b{mutant.name}\b", source)) > 1
        used_there = [
            other for other, module in core.items()
            if module is not mutant.owner and vars(module).get(mutant.name) is original
        ]  # fmt: skip
        assert used_here or not used_there, f"{name}: {mutant.name} is looked up in {used_there}"


def broken(check: str) -> Report:
    return Report(0, check, "as told")


def test_the_gate_looks_on_from_a_crash_to_what_a_client_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    lived: list[tuple[int, bool]] = []

    def run(seed: int, mutant: str) -> Report:
        lived.append((seed, world.check_node is unblinded))
        return {1: Report(1), 2: broken("invariant"), 3: broken("node raised")}.get(seed, broken("monotone"))

    unblinded = world.check_node
    monkeypatch.setattr(gate, "run_seed", run)
    monkeypatch.setattr(gate, "clean", lambda seed, name: True)
    monkeypatch.setattr(gate, "TURNS_MAX", 1 << 62)
    fall = find_seed("skip-sync", range(1, 10))
    assert (fall.seed, fall.check, fall.outside, fall.inside, fall.runs) == (4, "monotone", True, "invariant", 4)
    assert lived == [(1, True), (2, True), (3, False), (4, False)], "invariants are left alone once one has broken"
    assert not find_seed("skip-sync", [2, 3]).outside
    assert find_seed("skip-sync", [1]).escaped()
    assert find_seed("skip-sync", range(1, 10), runs_max=1).escaped()
    assert world.check_node is unblinded


def test_a_seed_that_is_not_clean_by_itself_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "run_seed", lambda seed, mutant: broken("monotone"))
    monkeypatch.setattr(gate, "clean", lambda seed, name: seed == 9)
    monkeypatch.setattr(gate, "TURNS_MAX", 1 << 62)
    assert find_seed("skip-sync", [7, 8, 9]).seed == 9
    assert find_seed("skip-sync", [7, 8]).escaped()


def test_worlds_that_cannot_reach_a_rule_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lived: list[int] = []

    def run(seed: int, mutant: str) -> Report:
        lived.append(seed)
        return Report(seed)

    monkeypatch.setattr(gate, "run_seed", run)
    find_seed("cut-damage", range(1, 1000), runs_max=1000)
    some, lived = lived, []
    find_seed("forget-acks", range(1, 1000), runs_max=1000)
    assert 0 < len(some) < len(lived) < 999, "neither every world nor every small one"


def test_a_report_tells_who_noticed_and_at_what_cost() -> None:
    falls = [
        GateResult("skip-sync", 3, "acked survives", "gone", True, "", 1, 0.5),
        GateResult("forget-acks", 4, "invariant", "assert", False, "invariant", 21, 2.0),
        GateResult("ignore-caps", 0, "", "", False, "", 80, 9.0),
    ]
    assert str(falls[0]) == "skip-sync: seed 3, 1 runs, 0.5 CPU seconds: acked survives: gone"
    assert "seen from the inside only" in str(falls[1]) and "expected: no redelivery after ack" in str(falls[1])
    assert str(falls[2]).startswith("ignore-caps: ESCAPED 80 runs")
    told = summary(falls)
    assert "2 fell, 1 of them by what clients can notice" in told
    assert "inside only: forget-acks; escaped: ignore-caps" in told


def test_a_blindfold_comes_off() -> None:
    before = world.check_node
    with without_invariants(True):
        assert world.check_node is not before
    with without_invariants(False):
        assert world.check_node is before
    assert world.check_node is before


def test_known_seeds_are_tried_first_and_written_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lived: list[int] = []

    def run(seed: int, mutant: str) -> Report:
        lived.append(seed)
        return broken("acked survives") if seed == 7 else Report(seed)

    monkeypatch.setattr(gate, "run_seed", run)
    monkeypatch.setattr(gate, "clean", lambda seed, name: True)
    monkeypatch.setattr(gate, "TURNS_MAX", 1 << 62)
    fall = find_seed_from("skip-sync", {"ack-by-name": 9, "skip-sync": 5}, range(7, 20), 100)
    assert lived == [5, 9, 7]
    path = tmp_path / "seeds.json"
    assert load_seeds(path) == {}
    path.write_text('{"skip-sync": 5, "ack-by-name": 9, "gone": 4}')
    save_seeds(
        path,
        [fall, GateResult("ignore-caps", 0, "", "", False, "", 80, 9.0)],
        ["skip-sync", "ack-by-name", "ignore-caps"],
    )
    assert load_seeds(path) == {"ack-by-name": 9, "skip-sync": 7}
    path.write_text('["skip-sync"]')
    with pytest.raises(ValueError, match="not an object of seeds"):
        load_seeds(path)
