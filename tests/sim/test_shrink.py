"""The shrinker: it finds what a failure needs and no more, the same every time, and never anything that does not fail so."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waymaker_sim.kernel.tape import Saved, Tape
from waymaker_sim.search.minimize import Minimized, is_fault, minimize, operations
from waymaker_sim.search.shrink import Draws, Progress, Rewriting, Shrinker, Step, flat, nested, size
from waymaker_sim.world.run import run_tape

TRACKS = ("publisher 0", "publisher 1", "nemesis", "reader 2")
LABELS = ("a", "b")
PLACES = st.tuples(st.sampled_from(TRACKS), st.integers(0, 9), st.sampled_from(LABELS), st.integers(0, 2))
DRAWS = st.dictionaries(PLACES, st.integers(1, 300), min_size=1, max_size=25)
STEPS = (Step("tracks", lambda place: place[0]), Step("spans", lambda place: place[:2]))


def endlessly(runs: int) -> bool:
    return runs < 100_000


def shrunk(start: Draws, fails: Callable[[Draws], bool], may_go_on: Callable[[int], bool] = endlessly) -> Shrinker:
    def attempt(saved: Saved) -> Saved | None:
        return saved if fails(flat(saved)) else None

    shrinker = Shrinker(nested(start), attempt, STEPS, may_go_on)
    shrinker.shrink()
    return shrinker


# ---------------------------------------------------------------- the search alone


@given(DRAWS)
def test_a_tape_and_its_set_of_draws_are_two_forms_of_one_thing(draws: Draws) -> None:
    assert flat(nested(draws)) == draws


@given(DRAWS)
def test_what_always_fails_shrinks_to_nothing(draws: Draws) -> None:
    assert shrunk(draws, lambda _: True).draws == {}


@given(DRAWS, st.data())
def test_only_the_draws_that_a_failure_needs_are_left(draws: Draws, data: st.DataObject) -> None:
    needed = data.draw(st.sets(st.sampled_from(sorted(draws)), min_size=1, max_size=4))
    found = shrunk(draws, lambda candidate: needed <= candidate.keys()).draws
    assert found == dict.fromkeys(needed, 1)


@given(DRAWS, st.data())
def test_a_number_goes_down_to_the_least_that_does(draws: Draws, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(sorted(draws)))
    least = data.draw(st.integers(1, draws[place]))
    assert shrunk(draws, lambda candidate: candidate.get(place, 0) >= least).draws == {place: least}


@given(DRAWS, st.integers(2, 60))
def test_draws_that_must_agree_go_down_together(draws: Draws, least: int) -> None:
    start = {**draws, ("publisher 0", 3, "c", 0): 60, ("publisher 1", 5, "c", 0): 60}

    def agree(candidate: Draws) -> bool:
        named = [value for place, value in candidate.items() if place[2] == "c"]
        return len(named) == 2 and named[0] == named[1] >= least

    assert set(shrunk(start, agree).draws.values()) == {least}


@given(DRAWS)
def test_operations_close_up_and_actors_take_the_first_place(draws: Draws) -> None:
    start = {**draws, ("worker 3", 7, "a", 0): 1, ("worker 3", 19, "b", 2): 1}

    def in_order(candidate: Draws) -> bool:
        of_workers = sorted((p[0], p[1], p[2]) for p in candidate if p[0].startswith("worker"))
        return [label for _, _, label in of_workers] == ["a", "b"] and of_workers[0][0] == of_workers[1][0]

    assert set(shrunk(start, in_order).draws) <= {
        ("worker 0", 1, "a", 0), ("worker 0", 2, "b", 0), ("worker 0", 1, "b", 0),
    }  # fmt: skip


@settings(max_examples=50)
@given(DRAWS, st.integers(0, 2**32), st.integers(0, 60))
def test_whatever_it_is_told_it_returns_the_smallest_that_failed(draws: Draws, salt: int, most: int) -> None:
    """A failure without any order in it, and a budget that may end the search anywhere."""
    failed = [draws]

    def fails(candidate: Draws) -> bool:
        bad = sum((hash(place[1:2] + place[3:]) ^ value) * (salt | 1) for place, value in candidate.items()) % 3 != 0
        if bad:
            failed.append(candidate)
        return bad

    found = shrunk(draws, fails, lambda runs: runs < most)
    assert found.draws in failed
    assert found.draws == min(failed, key=size)
    assert found.progress.runs <= most
    again = shrunk(draws, fails, lambda runs: runs < most)
    assert (again.draws, again.progress.runs) == (found.draws, found.progress.runs)


def test_what_a_run_never_came_to_is_cut_off() -> None:
    start: Draws = {("t", span, "a", 0): 5 for span in range(1, 50)}

    def attempt(saved: Saved) -> Saved | None:
        """Fails at the first draw of 5, and comes no further."""
        draws = flat(saved)
        first = next((place for place in sorted(draws) if draws[place] == 5), None)
        return None if first is None else nested({p: v for p, v in draws.items() if p <= first})

    shrinker = Shrinker(nested(start), attempt, (), endlessly)
    assert flat(shrinker.shrink()) == {("t", 1, "a", 0): 5}
    assert shrinker.progress.runs < 20


def test_a_rewriting_is_taken_as_often_as_it_helps() -> None:
    def down(draws: Draws) -> list[Draws]:
        return [{place: value - 7 for place, value in draws.items() if value > 7}]

    def attempt(saved: Saved) -> Saved | None:
        return saved if flat(saved).get(("t", 1, "a", 0), 0) % 7 == 2 else None

    shrinker = Shrinker({"t": {1: {"a": [100]}}}, attempt, (Rewriting("down", down),), endlessly)
    assert shrinker.shrink() == {"t": {1: {"a": [2]}}}


def test_progress_is_told_with_every_run() -> None:
    told: list[tuple[str, int, bool]] = []

    def tell(progress: Progress) -> None:
        told.append((progress.step, progress.runs, progress.finished))

    Shrinker({"t": {1: {"a": [3, 4]}}}, lambda saved: None, STEPS, endlessly, tell).shrink()
    assert [runs for _, runs, finished in told if not finished] == list(range(1, len(told)))
    assert told[-1][2]


# ---------------------------------------------------------------- whole worlds

FALL = {"answer-early": 4, "reuse-ids": 4}
"""Mutants that fall within milliseconds and need no fault for it, and how many draws a run needs that shows them."""
OPERATIONS_MAX = 4
CALLS_MAX = 25
"""Some are made at rest, where the whole state is read: what needs fewest draws may show there only."""
RUNS_MAX = 110


def smallest(mutant: str) -> tuple[Saved, Minimized]:
    """The first seed that falls, as it is and shrunk."""
    for seed in range(1, 30):
        tape = Tape(seed)
        if not run_tape(tape, mutant=mutant).clean():
            return tape.saved(), minimize(tape.saved(), mutant, may_go_on=lambda runs: runs < RUNS_MAX)
    raise AssertionError(f"{mutant} escapes")


once = cache(smallest)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", FALL)
def test_a_planted_bug_is_shown_by_a_run_of_a_few_operations_without_faults(mutant: str) -> None:
    start, found = once(mutant)
    before, left = flat(start), flat(found.tracks)
    assert len(left) <= FALL[mutant] < len(before) / 10, (len(before), found.figures())
    assert len(operations(left)) <= OPERATIONS_MAX
    assert found.report.asked <= CALLS_MAX
    assert not any(is_fault(place) for place in left)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", FALL)
def test_the_shrunk_run_fails_as_the_whole_one_did_and_only_without_the_rule(mutant: str) -> None:
    start, found = once(mutant)
    check = run_tape(Tape(0, start), mutant=mutant).check
    assert run_tape(Tape(0, found.tracks), mutant=mutant).check == check == found.report.check != ""
    assert run_tape(Tape(0, found.tracks)).clean()


@pytest.mark.slow
def test_shrinking_twice_gives_the_same() -> None:
    mutant = "reuse-ids"
    first, again = once(mutant)[1], smallest(mutant)[1]
    assert (again.tracks, again.runs, again.report) == (first.tracks, first.runs, first.report)


def test_a_clean_run_is_not_shrunk() -> None:
    with pytest.raises(ValueError, match="violates nothing"):
        minimize({})
