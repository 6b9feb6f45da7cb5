"""The tape: what is drawn is recorded, what is recorded replays, and leaving parts out shifts nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waymaker_sim.kernel.tape import Tape, Track


def drawn(tape: Tape) -> list[list[int]]:
    """Two tracks, three operations of two draws each."""
    out: list[list[int]] = []
    for name in ("one", "two"):
        track = tape.track(name)
        for _ in range(3):
            track.begin()
            out.append([track.draw("a", 1000), track.draw("b", 7)])
    return out


@given(st.integers(0, 1 << 64))
def test_a_saved_tape_replays_the_same_draws(seed: int) -> None:
    tape = Tape(seed)
    first = drawn(tape)
    replayed = Tape(seed + 1, tape.saved())
    assert drawn(replayed) == first
    assert replayed.saved() == tape.saved()


def test_one_seed_always_draws_the_same_and_another_does_not() -> None:
    assert drawn(Tape(5)) == drawn(Tape(5)) != drawn(Tape(6))


def test_leaving_an_operation_out_shifts_no_other() -> None:
    tape = Tape(11)
    first = drawn(tape)
    saved = tape.saved()
    del saved["one"][2]
    assert drawn(Tape(0, saved)) == [first[0], [0, 0], *first[2:]]


def test_leaving_one_kind_of_choice_out_shifts_no_other() -> None:
    def incarnation(track: Track, odds: int) -> list[int]:
        out = []
        for _ in range(4):
            track.chance("fault", odds)
            out.append(track.draw("number", 1000))
        return out

    tape = Tape(5)
    numbers = incarnation(tape.track("t"), 500_000)
    assert incarnation(Tape(0, tape.saved()).track("t"), 0) == numbers


def test_a_chance_that_came_true_stays_true_whatever_the_odds() -> None:
    track = Tape(1, {"t": {0: {"fault": [0, 1]}}}).track("t")
    assert [track.chance("fault", 1) for _ in range(3)] == [False, True, False]


def test_a_saved_tape_holds_nothing_that_is_0_anyway() -> None:
    tape = Tape(1, {"t": {2: {"a": [0, 3], "b": [0]}}, "u": {0: {"a": [1]}}})
    track = tape.track("t")
    for _ in range(3):
        track.begin()
        for label in ("b", "a", "a", "b", "a"):
            track.draw(label, 10)
    assert tape.saved() == {"t": {2: {"a": [0, 3]}}}


def test_draws_beyond_the_end_of_a_tape_are_benign() -> None:
    track = Tape(1, {}).track("anything")
    assert [track.draw("x", 10) for _ in range(5)] == [0] * 5
    assert not track.chance("fault", 999_999)
    assert track.pick("option", ("benign", "other")) == "benign"
    assert track.weighted("option", ((1, "benign"), (9, "other"))) == "benign"
    assert track.between("number", 3, 9) == 3
    assert track.magnitude("size", 1 << 30) == 0


def test_a_saved_value_over_the_bound_becomes_the_largest_allowed() -> None:
    track = Tape(1, {"t": {0: {"x": [50]}}}).track("t")
    assert track.draw("x", 10) == 9


@given(st.integers(1, 1 << 40), st.integers(0, 1000))
def test_draws_stay_within_their_bounds(bound: int, seed: int) -> None:
    track = Tape(seed).track("t")
    assert all(0 <= track.draw("x", bound) < bound for _ in range(20))
    assert all(0 <= track.magnitude("y", bound) <= bound for _ in range(20))


def test_a_probability_of_zero_draws_nothing() -> None:
    track = Tape(1).track("t")
    assert not track.chance("never", 0)
    assert track.spans == [[]]
    assert sum(track.chance("often", 500_000) for _ in range(2000)) in range(850, 1150)
