"""The ends of waits that began at server times: by the monotonic clock, whatever the wall clock did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.layers.waits import SLACK, Waits
from waymaker_core.model.types import Now

MS = 1_000_000
YEAR_MS = 365 * 24 * 3_600_000


def line(since: dict[str, int]) -> Waits[str]:
    waits = Waits(since.get)
    waits.append_keys(since)
    return waits


def over(waits: Waits[str], now: Now) -> list[str]:
    return [key for key, waited in waits.over(500, now) if waited]


def test_a_wait_that_began_in_the_past_ends_when_its_length_has_passed() -> None:
    assert line({"a": 1_000}).next_end(500, Now(7 * MS, 1_200)) == (7 + 300) * MS
    assert line({"a": 1_000}).next_end(500, Now(7 * MS, 9_000)) == 7 * MS, "it is over"


def test_waits_from_the_future_end_together_once_one_length_has_passed_since_they_were_looked_at() -> None:
    waits = line({"a": YEAR_MS, "b": 900, "c": YEAR_MS + 1, "d": 901, "e": YEAR_MS})
    assert waits.next_end(500, Now(10 * MS, 1_000)) == 510 * MS
    assert waits.next_end(500, Now(300 * MS, 1_290)) == 510 * MS, "it does not begin again"
    assert over(waits, Now(509 * MS, 1_499)) == []
    assert over(waits, Now(510 * MS, 1_500)) == ["a", "b", "c", "d", "e"], (
        "none waits for those of the past between them"
    )


def test_a_later_jump_of_the_wall_clock_changes_no_end() -> None:
    waits = line({"a": 1_000})
    assert waits.next_end(500, Now(10 * MS, 1_000)) == 510 * MS
    assert waits.next_end(500, Now(20 * MS, YEAR_MS)) == 510 * MS
    assert waits.next_end(500, Now(30 * MS, 5)) == 510 * MS


def test_a_key_that_waits_anew_does_not_end_with_its_earlier_wait() -> None:
    since = {"a": 1_000, "b": 1_100}
    waits = line(since)
    assert waits.next_end(500, Now(0, 1_100)) == 400 * MS
    del since["b"]
    since["a"] = 1_300
    waits.append_keys(["a"])
    assert waits.next_end(500, Now(200 * MS, 1_300)) == 700 * MS
    assert over(waits, Now(699 * MS, 1_799)) == []
    assert over(waits, Now(700 * MS, 1_800)) == ["a"]


def test_a_key_that_waits_anew_before_it_was_looked_at_delays_none_in_between() -> None:
    """A start reads many records before anything is looked at: the line then is what a later start makes of it."""
    since = {"a": 1_300, "b": 700, "c": 1_300}
    waits: Waits[str] = Waits(since.get)
    waits.append_keys(["a", "b", "c", "a"])
    assert over(waits, Now(10 * MS, 1_300)) == ["b"]
    waits.drop(1)
    assert waits.next_end(500, Now(20 * MS, 1_310)) == 510 * MS
    assert over(waits, Now(510 * MS, 1_800)) == ["c", "a"]


def test_what_waits_no_more_does_not_pile_up() -> None:
    since: dict[str, int] = {"first": 0}
    waits = line(since)
    for number in range(10 * SLACK):
        since[str(number)] = number
        waits.append_keys([str(number)])
        assert waits.next_end(1_000_000, Now(number * MS, number)) == 1_000_000 * MS
        del since[str(number)]
    assert len(waits) <= 2 * SLACK


@given(
    st.lists(st.tuples(st.integers(0, 900), st.sampled_from([0, 3_000, YEAR_MS])), min_size=1, max_size=80),
    st.integers(1, 200),
)
def test_no_wait_ends_early_or_later_than_its_length_after_it_was_looked_at(
    began: list[tuple[int, int]], wait_ms: int
) -> None:
    """Each is put in line when it begins, by a clock that is right or ahead, and looked at within a millisecond."""
    since: dict[int, int] = {}
    waits = Waits(since.get)
    ended: dict[int, int] = {}
    by_time = sorted(began)
    for at_ms in range(1_200):
        now = Now(at_ms * MS, at_ms)
        for key, (begin_ms, ahead_ms) in enumerate(by_time):
            if begin_ms == at_ms:
                since[key] = begin_ms + ahead_ms
                waits.append_keys([key])
        end_ns = waits.next_end(wait_ms, now)
        if end_ns is not None and end_ns <= now.mono_ns:
            found = list(waits.over(wait_ms, now))
            for key, waited in found:
                if waited:
                    ended[key] = at_ms
                    del since[key]
            waits.drop(len(found))
    assert ended == {key: begin_ms + wait_ms for key, (begin_ms, _) in enumerate(by_time)}
