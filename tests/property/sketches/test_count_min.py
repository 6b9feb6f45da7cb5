"""Count-min sketches: never too few, seldom far too many, and sums of whatever was added."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.sketch_corpora import numbered, zipf
from waymaker_core.sketches.count_min import TOTAL_MAX, CountMin, dimensions
from waymaker_core.sketches.errors import BadParameters, BadValue, DifferentParameters

TENTH, PERCENT = 100_000_000, 10_000_000
values = st.lists(st.binary(max_size=2), max_size=30)
parameters = st.sampled_from([(500_000_000, 500_000_000), (TENTH, TENTH), (PERCENT, 1_000)])


def filled(parameter: tuple[int, int], added: list[bytes]) -> CountMin:
    made = CountMin(*parameter)
    made.add(added)
    return made


@given(parameters, values, values)
def test_an_answer_is_never_below_the_truth(parameter: tuple[int, int], added: list[bytes], more: list[bytes]) -> None:
    made = filled(parameter, added)
    made.add(more)
    truth = Counter(added + more)
    asked = [*sorted(truth), b"never"]
    answers = made.estimate(asked)
    assert all(truth[value] <= answer <= made.total for value, answer in zip(asked, answers, strict=True))
    assert made.total == len(added) + len(more)


@given(parameters, st.dictionaries(st.binary(max_size=2), st.integers(1, 5), max_size=10))
def test_counts_count_as_repetitions_do(parameter: tuple[int, int], counts: dict[bytes, int]) -> None:
    made = CountMin(*parameter)
    made.add_counts(counts)
    assert (
        made.snapshot()
        == filled(parameter, [value for value, count in counts.items() for _ in range(count)]).snapshot()
    )


@pytest.mark.parametrize(("error_ppb", "failure_ppb"), [(1_000_000, PERCENT), (5_000_000, TENTH), (200_000, 1_000_000)])
def test_answers_keep_their_bound(error_ppb: int, failure_ppb: int) -> None:
    for seed in range(3):
        added = zipf(seed, 30_000)
        truth = Counter(added)
        made = filled((error_ppb, failure_ppb), added)
        asked = sorted(truth) + numbered("never", 3_000)
        over = [answer - truth[value] for value, answer in zip(asked, made.estimate(asked), strict=True)]
        assert min(over) >= 0
        assert made.error_bound() == 30_000 * error_ppb // 10**9
        failures = sum(off > made.error_bound() for off in over)
        allowed = len(asked) * failure_ppb / 1e9
        assert failures <= allowed + 4 * allowed**0.5 + 1


@given(parameters, values)
def test_order_and_batches_change_nothing(parameter: tuple[int, int], added: list[bytes]) -> None:
    one_by_one = CountMin(*parameter)
    for value in reversed(added):
        one_by_one.add([value])
    assert filled(parameter, added).snapshot() == filled(parameter, sorted(added)).snapshot() == one_by_one.snapshot()


@given(parameters, values, values, values)
def test_a_merged_sketch_is_the_sketch_of_both(
    parameter: tuple[int, int], first: list[bytes], second: list[bytes], third: list[bytes]
) -> None:
    one, other = filled(parameter, first), filled(parameter, second)
    one.merge(other)
    assert one.snapshot() == filled(parameter, first + second).snapshot()
    other.merge(filled(parameter, first))
    assert other.snapshot() == one.snapshot()
    one.merge(filled(parameter, third))
    assert one.snapshot() == filled(parameter, third + second + first).snapshot()
    one.merge(one)
    assert one.snapshot() == filled(parameter, (first + second + third) * 2).snapshot()


@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_the_dimensions_keep_the_promise(error_ppb: int, failure_ppb: int) -> None:
    try:
        width, depth = dimensions(error_ppb, failure_ppb)
    except BadParameters as refused:
        assert "allowed" in str(refused) or "between" in str(refused)
        return
    e_low, e_high = Fraction(27182818284, 10**10), Fraction(27182818285, 10**10)
    assert width >= e_low * 10**9 / error_ppb
    assert width <= e_high * 10**9 / error_ppb + 2
    assert e_high**depth * failure_ppb >= 10**9
    assert depth == 1 or e_low ** (depth - 1) * failure_ppb < 10**9 + 10
    assert 8 * width * depth <= 8 << 20
    assert depth <= 14


@pytest.mark.parametrize(
    ("error_ppb", "failure_ppb", "words"),
    [(0, PERCENT, "between 1 and"), (500_000_001, PERCENT, "between 1 and"), (PERCENT, 999, "between 1,000 and"),
     (PERCENT, 500_000_001, "between 1,000 and"), (1, PERCENT, "allow a greater error")],
)  # fmt: skip
def test_impossible_parameters_are_refused(error_ppb: int, failure_ppb: int, words: str) -> None:
    with pytest.raises(BadParameters, match=words):
        CountMin(error_ppb, failure_ppb)


def test_a_sketch_counts_no_further_than_its_counters_reach() -> None:
    made = CountMin(TENTH, TENTH)
    made.add_counts({b"a": TOTAL_MAX - 1})
    before = made.snapshot()
    with pytest.raises(BadValue, match="at most"):
        made.add([b"b", b"c"])
    with pytest.raises(BadValue, match="at most"):
        made.merge(made)
    assert made.snapshot() == before
    made.add([b"b"])
    assert made.estimate([b"a"]) >= [TOTAL_MAX - 1]


@pytest.mark.parametrize("count", [0, -1])
def test_nothing_is_taken_back(count: int) -> None:
    made = CountMin(TENTH, TENTH)
    with pytest.raises(BadValue, match="only adds"):
        made.add_counts({b"a": 5, b"b": count})
    assert made.total == 0


def test_sketches_of_different_parameters_are_not_merged() -> None:
    made = filled((TENTH, TENTH), [b"a"])
    before = made.snapshot()
    for other in (CountMin(TENTH, PERCENT), CountMin(PERCENT, TENTH)):
        with pytest.raises(DifferentParameters, match="same parameters"):
            made.merge(other)
    assert made.snapshot() == before
