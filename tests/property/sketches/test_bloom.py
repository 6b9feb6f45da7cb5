"""Bloom filters: never a false no, a false yes at the promised rate, and a union of whatever was added."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.sketch_corpora import numbered
from waymaker_core.sketches.bloom import BloomFilter, dimensions
from waymaker_core.sketches.errors import BadParameters, DifferentParameters

PERCENT = 10_000_000
values = st.lists(st.binary(max_size=3), max_size=20)
parameters = st.sampled_from([(1, 1), (5, PERCENT), (100, 500_000_000), (100, 1_000), (7, 15_000)])


def filled(parameter: tuple[int, int], added: list[bytes]) -> BloomFilter:
    made = BloomFilter(*parameter)
    made.add(added)
    return made


@given(parameters, values, values)
def test_what_was_added_is_always_found(parameter: tuple[int, int], added: list[bytes], more: list[bytes]) -> None:
    made = filled(parameter, added)
    made.add(more)
    assert made.contains(added + more) == [True] * len(added + more)
    assert made.contains([]) == []


@given(parameters, values, st.randoms(use_true_random=False))
def test_order_repetition_and_batches_change_nothing(
    parameter: tuple[int, int], added: list[bytes], random: Random
) -> None:
    shuffled = added * 2
    random.shuffle(shuffled)
    one_by_one = BloomFilter(*parameter)
    for value in reversed(added):
        one_by_one.add([value])
    assert filled(parameter, added).snapshot() == filled(parameter, shuffled).snapshot() == one_by_one.snapshot()


@given(parameters, values, values, values)
def test_a_merged_filter_is_the_filter_of_both(
    parameter: tuple[int, int], first: list[bytes], second: list[bytes], third: list[bytes]
) -> None:
    one, other = filled(parameter, first), filled(parameter, second)
    one.merge(other)
    assert one.snapshot() == filled(parameter, first + second).snapshot()
    other.merge(filled(parameter, first))
    assert other.snapshot() == one.snapshot()
    one.merge(filled(parameter, third))
    assert one.snapshot() == filled(parameter, third + second + first).snapshot()
    before = one.snapshot()
    one.merge(one)
    assert one.snapshot() == before


@pytest.mark.parametrize(
    ("capacity", "error_ppb", "asked"),
    [(20_000, PERCENT, 20_000), (300, PERCENT, 40_000), (2_000, 1_000_000, 40_000), (4_000, 300_000_000, 4_000)],
)
def test_a_full_filter_keeps_its_rate_of_errors(capacity: int, error_ppb: int, asked: int) -> None:
    made = filled((capacity, error_ppb), numbered("in", capacity))
    wrong = sum(made.contains(numbered("out", asked)))
    rate = error_ppb / 1e9
    assert wrong <= rate * asked + 4 * (rate * asked) ** 0.5
    assert made.bits_set() <= made.bits / 2 + 4 * made.bits**0.5
    assert made.estimate_distinct() == pytest.approx(capacity, rel=0.05)


@pytest.mark.parametrize(("capacity", "error_ppb"), [(8, 1), (50, 1_000), (200, 100_000)])
def test_a_small_filter_has_no_floor_under_its_rate(capacity: int, error_ppb: int) -> None:
    """Two words that are added up would find values here some hundred times more often."""
    made = filled((capacity, error_ppb), numbered("in", capacity))
    assert sum(made.contains(numbered("out", 100_000))) <= 100_000 * error_ppb // 1_000_000_000 + 12


@given(st.integers(1, 1 << 33), st.integers(0, 1 << 30))
def test_the_dimensions_keep_the_promise(capacity: int, error_ppb: int) -> None:
    try:
        hashes, bits = dimensions(capacity, error_ppb)
    except BadParameters as refused:
        assert "allowed" in str(refused) or "between" in str(refused)
        return
    assert Fraction(1, 1 << hashes) <= Fraction(error_ppb, 10**9)
    assert hashes == 1 or Fraction(1, 1 << (hashes - 1)) > Fraction(error_ppb, 10**9)
    assert bits % 64 == 0
    assert bits * Fraction(6931471805, 10**10) >= hashes * capacity
    assert bits <= hashes * capacity * 1.45 + 128
    assert bits // 8 <= 8 << 20


@pytest.mark.parametrize(
    ("capacity", "error_ppb", "words"),
    [(0, PERCENT, "between 1 and"), (-1, PERCENT, "between 1 and"), (1 << 40, PERCENT, "between 1 and"),
     (1, 0, "between 1 and"), (1, 500_000_001, "500,000,000"), (10_000_000, PERCENT, "lower the capacity")],
)  # fmt: skip
def test_impossible_parameters_are_refused(capacity: int, error_ppb: int, words: str) -> None:
    with pytest.raises(BadParameters, match=words):
        BloomFilter(capacity, error_ppb)


def test_a_filter_may_be_as_large_as_any_and_not_a_word_larger() -> None:
    hashes, bits = dimensions(46_516_275, 500_000_000)
    assert (hashes, bits // 8) == (1, 8 << 20)
    with pytest.raises(BadParameters, match="8,388,608 are allowed"):
        dimensions(46_516_276, 500_000_000)


def test_answers_come_in_the_order_of_the_questions() -> None:
    inside, outside = numbered("in", 1_500), numbered("out", 1_500)
    made = filled((1_500, 1), inside)
    asked = [value for pair in zip(inside, outside, strict=True) for value in pair]
    assert made.contains(asked) == [True, False] * 1_500


def test_filters_of_different_parameters_are_not_merged() -> None:
    made = filled((10, PERCENT), [b"a"])
    before = made.snapshot()
    for other in (BloomFilter(11, PERCENT), BloomFilter(10, PERCENT + 1)):
        with pytest.raises(DifferentParameters, match="same parameters"):
            made.merge(other)
    assert made.snapshot() == before


def test_an_estimate_is_there_for_empty_and_full_filters() -> None:
    made = BloomFilter(1, 1)
    assert made.estimate_distinct() == 0.0
    made.add(numbered("v", 5_000))
    assert made.bits_set() == made.bits
    assert made.estimate_distinct() > 10
