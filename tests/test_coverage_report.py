"""The coverage command judges branches alone, names those that were missed, and takes no figure for nothing."""

from __future__ import annotations

from tests.coverage_report import LEAST_PERCENT, File, Measured, Summary, enough, sources, told


def measured(covered: int, branches: int, *missing: tuple[int, int]) -> Measured:
    summary = Summary(covered, branches)
    return Measured({"core/waymaker_core/storage/frame.py": File(summary, list(missing))}, summary)


def test_branches_are_judged_by_themselves() -> None:
    assert enough(Summary(95, 100), LEAST_PERCENT)
    assert not enough(Summary(949, 1000), LEAST_PERCENT)
    assert not enough(Summary(0, 0), LEAST_PERCENT), "where nothing was measured nothing is covered"


def test_a_missed_branch_is_named_with_its_file() -> None:
    rows = told(measured(2, 4, (30, 32), (12, -9)))
    assert rows[1].split() == ["4", "2", "50.0", "storage/frame.py", "12->exit,", "30->32"]
    assert rows[-1] == "waymaker_core: 2 of 4 branches, 50.00 per cent"


def test_worlds_and_property_tests_are_measured_and_nothing_that_starts_a_server() -> None:
    programs = sources("1..3")
    assert list(programs) == ["simulation", "property"]
    assert programs["simulation"][1:] == ["sim", "run", "--seeds", "1..3"]
    assert programs["property"][-1] == "tests/property"
