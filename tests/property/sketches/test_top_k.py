"""The most frequent values: found where they are frequent enough, ranked without chance, and bounded in memory."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.sketch_corpora import numbered, zipf
from waymaker_core.sketches.errors import BadParameters, BadValue, DifferentParameters
from waymaker_core.sketches.top_k import K_MAX, VALUE_BYTES_MAX, TopK

PERCENT, PER_MILLE = 10_000_000, 1_000_000
values = st.lists(st.binary(max_size=1) | st.sampled_from([b"a", b"b", b"cc"]), max_size=30)


def filled(k: int, added: list[bytes], batch: int = 1_000) -> TopK:
    made = TopK(k, PER_MILLE, 10_000)
    for at in range(0, len(added), batch):
        made.add(added[at : at + batch])
    return made


@given(st.integers(1, 6), values, st.integers(1, 7))
def test_candidates_are_the_greatest_by_bounds_of_their_counts(k: int, added: list[bytes], batch: int) -> None:
    made = filled(k, added, batch)
    truth = Counter(added)
    top = made.top(k)
    assert len(top) == min(k, len(truth))
    assert top == sorted(top, key=lambda each: (-each.times, each.value))
    assert all(each.times >= truth[each.value] >= 1 for each in top)
    assert made.top(2) == top[:2]
    assert made.top(0) == made.top(-1) == []
    assert made.counts.total == len(added)


@given(values, st.integers(1, 5))
def test_with_room_for_all_the_counts_are_exact(added: list[bytes], batch: int) -> None:
    made = filled(300, added, batch)
    assert {each.value: each.times for each in made.top(300)} == Counter(added)


@given(st.integers(1, 4), values)
def test_the_order_inside_of_a_batch_changes_nothing(k: int, added: list[bytes]) -> None:
    assert filled(k, added).snapshot() == filled(k, sorted(added)).snapshot()


def test_equal_counts_are_ranked_by_bytes() -> None:
    made = filled(3, [b"d", b"a", b"c", b"b", b"aa"])
    assert [each.value for each in made.top(9)] == [b"a", b"aa", b"b"]


@pytest.mark.parametrize("k", [15, 40, 100])
@pytest.mark.parametrize("batch", [1, 100, 5_000])
def test_what_is_frequent_enough_is_found(k: int, batch: int) -> None:
    added = zipf(k, 10_000)
    made = filled(k, added, batch)
    least = (1 / k + PER_MILLE / 1e9) * len(added)
    frequent = {value: count for value, count in Counter(added).items() if count > least}
    found = {each.value: each.times for each in made.top(k)}
    assert frequent
    assert set(frequent) <= set(found)
    assert all(count <= found[value] <= count + made.counts.error_bound() for value, count in frequent.items())


@pytest.mark.parametrize("seed", range(4))
def test_what_is_frequent_in_both_together_is_found_after_a_merge(seed: int) -> None:
    one, other = zipf(seed, 6_000), zipf(seed + 100, 3_000) + [b"only here"] * 1_000
    made = filled(20, one, 500)
    made.merge(filled(20, other, 300))
    truth = Counter(one + other)
    least = (1 / 20 + PER_MILLE / 1e9) * truth.total()
    found = {each.value: each.times for each in made.top(20)}
    assert b"only here" in found
    for value, count in truth.items():
        assert count <= least or count <= found[value] <= count + made.counts.error_bound()
        assert value not in found or found[value] >= count


@given(st.integers(1, 4), values, values)
def test_a_merge_is_the_same_from_either_side(k: int, first: list[bytes], second: list[bytes]) -> None:
    one, other = filled(k, first), filled(k, second)
    left = filled(k, first)
    left.merge(other)
    other.merge(one)
    assert left.snapshot() == other.snapshot()
    assert TopK.restore(left.snapshot()).top(k) == left.top(k)


@given(values, values, values)
def test_a_merge_with_room_for_all_is_the_list_of_all(
    first: list[bytes], second: list[bytes], third: list[bytes]
) -> None:
    made = filled(300, first)
    made.merge(filled(300, second))
    made.merge(filled(300, third))
    assert made.snapshot() == filled(300, first + second + third).snapshot()


def test_memory_is_bounded_whatever_is_added() -> None:
    made = TopK(10, 500_000_000, 500_000_000)
    for label in "abcdef":
        made.add([value.ljust(VALUE_BYTES_MAX, b".") for value in numbered(label, 200)])
        assert len(made.top(K_MAX)) == 10
        assert len(made.snapshot()) < 10 * (VALUE_BYTES_MAX + 10) + 200


def test_a_value_too_long_to_be_kept_is_refused_with_its_batch() -> None:
    made = filled(3, [b"a"])
    before = made.snapshot()
    with pytest.raises(BadValue, match="at most 1,024"):
        made.add([b"b", b"x" * (VALUE_BYTES_MAX + 1)])
    assert made.snapshot() == before
    made.add([b"x" * VALUE_BYTES_MAX, b""])


@pytest.mark.parametrize("k", [0, -1, K_MAX + 1])
def test_a_k_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(BadParameters, match="between 1 and 1,000"):
        TopK(k, PERCENT, PERCENT)


def test_lists_of_different_parameters_are_not_merged() -> None:
    made = TopK(3, PERCENT, PERCENT)
    made.add([b"a"])
    before = made.snapshot()
    for other in (TopK(4, PERCENT, PERCENT), TopK(3, PER_MILLE, PERCENT)):
        other.add([b"b"])
        with pytest.raises(DifferentParameters, match="make both with the same"):
            made.merge(other)
    assert made.snapshot() == before
