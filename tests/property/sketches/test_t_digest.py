"""t-digests: ranks within their bound for values of many shapes, exact ends, and a state that questions leave alone."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.sketch_corpora import DISTRIBUTIONS
from waymaker_core.sketches.errors import BadParameters, BadValue, DifferentParameters
from waymaker_core.sketches.scale_function import ArcsineScale
from waymaker_core.sketches.t_digest import COMPRESSION_MAX, COMPRESSION_MIN, TDigest

finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.lists(finite | st.sampled_from([0.0, -0.0, 1.0, 2.0]), max_size=30)
COUNT = 20_000
SHARES = [0.0, 0.0001, 0.001, 0.01, *(number / 50 for number in range(1, 50)), 0.99, 0.999, 0.9999, 1.0]


def filled(compression: int, added: list[float]) -> TDigest:
    made = TDigest(compression)
    made.add(added)
    return made


def share_of_a_centroid(compression: int, share: float) -> float:
    """The most that the centroid around a rank may stand for, as `t_digest` documents it."""
    return math.pi / compression * (2 * math.sqrt(share * (1 - share)) + math.pi / compression)


def off_by(ordered: list[float], value: float, share: float) -> float:
    """How far a share is from all shares that a value truly has."""
    low, high = bisect_left(ordered, value) / len(ordered), bisect_right(ordered, value) / len(ordered)
    return max(0.0, low - share, share - high)


SMOOTH = {"uniform", "exponential", "sorted", "reversed", "zigzag", "constant"}


def check_ranks(made: TDigest, ordered: list[float], factor: float) -> None:
    for share, value in zip(SHARES, made.quantiles(SHARES), strict=True):
        bound = factor * share_of_a_centroid(made.compression, share) + 1 / len(ordered)
        assert off_by(ordered, value, share) <= bound, ("quantile", share)
    asked = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in SHARES]
    for value, share in zip(asked, made.ranks(asked), strict=True):
        bound = factor * share_of_a_centroid(made.compression, share) + 1 / len(ordered)
        assert off_by(ordered, value, share) <= bound, ("rank", value)


@pytest.mark.parametrize("compression", [20, 100, 400])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_ranks_are_within_their_bound(name: str, compression: int) -> None:
    added = DISTRIBUTIONS[name](Random(f"{name} {compression}"), COUNT)
    made = filled(compression, added)
    # Half a centroid where values lie evenly; up to two where they leap or repeat.
    check_ranks(made, sorted(added), 0.5 if name in SMOOTH else 2.0)
    assert made.count == COUNT
    assert len(made.centroids()) <= compression + 1


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("parts", [2, 16])
def test_ranks_are_within_their_bound_after_merges(name: str, parts: int) -> None:
    added = DISTRIBUTIONS[name](Random(name), COUNT)
    size = COUNT // parts
    made = TDigest(100)
    for at in range(0, COUNT, size):
        made.merge(filled(100, added[at : at + size]))
    check_ranks(made, sorted(added), 0.6 if name in SMOOTH else 2.0)
    assert made.count == COUNT
    assert len(made.centroids()) <= 101


def test_values_of_no_common_scale_are_the_documented_weakness() -> None:
    """A mean says nothing about values from 1e-300 to 1e300. Their logarithms are ranked within the bound."""
    random = Random(1)
    added = [random.choice((-1.0, 1.0)) * 10.0 ** random.uniform(-300, 300) for _ in range(COUNT)]
    made, ordered = filled(100, added), sorted(added)
    assert max(off_by(ordered, value, share) for value, share in zip(made.quantiles(SHARES), SHARES, strict=True)) < 0.5
    logarithms = [math.log(abs(value)) for value in added]
    check_ranks(filled(100, logarithms), sorted(logarithms), 0.5)


@given(values, st.integers(COMPRESSION_MIN, 40))
def test_a_small_digest_is_exact(added: list[float], compression: int) -> None:
    """Values are joined only when there are more than the buffer holds, or when a question comes and they are many."""
    added = added[: compression // 4]
    if not added:
        return
    ordered = sorted(added)
    made = filled(compression, added)
    assert made.quantiles([0.0, 1.0]) == [ordered[0], ordered[-1]]
    for place, value in enumerate(ordered):
        if all(centroid.weight == 1 for centroid in made.centroids()):
            assert made.quantiles([(place + 1) / len(ordered)]) == [value]
            assert made.ranks([value]) == [bisect_right(ordered, value) / len(ordered)]


@given(values.filter(bool), st.lists(st.floats(0, 1), max_size=5), st.lists(finite, max_size=5))
def test_answers_ascend_and_stay_between_the_extremes(
    added: list[float], shares: list[float], asked: list[float]
) -> None:
    made = filled(20, added * 12)
    shares = [*shares, *(min(1.0, share + 2**-53) for share in shares)]
    quantiles, ranks = made.quantiles(sorted(shares)), made.ranks(sorted(asked))
    assert quantiles == sorted(quantiles)
    assert ranks == sorted(ranks)
    assert all(min(added) <= value <= max(added) for value in quantiles)
    assert all(0.0 <= rank <= 1.0 for rank in ranks)
    assert made.ranks([max(added), math.inf, -math.inf]) == [1.0, 1.0, 0.0]
    assert (made.least, made.greatest) == (min(added), max(added))


@given(values, st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_batches_change_nothing(added: list[float], sizes: list[int]) -> None:
    added = added * 20
    batched, at = TDigest(20), 0
    while at < len(added):
        size = sizes[at % len(sizes)] * 31
        batched.add(added[at : at + size])
        at += size
    assert batched.snapshot() == filled(20, added).snapshot()


@given(values.filter(bool), st.integers(1, 200))
def test_questions_and_snapshots_change_nothing(added: list[float], repeated: int) -> None:
    asked, left = TDigest(20), TDigest(20)
    for value in added * (1 + repeated // len(added)):
        asked.add([value])
        asked.quantiles([0.5])
        asked.ranks([value])
        asked.centroids()
        asked = TDigest.restore(asked.snapshot())
        left.add([value])
    assert asked.snapshot() == left.snapshot()


@given(values, values, st.integers(1, 30))
def test_a_merge_is_the_same_from_either_side(first: list[float], second: list[float], repeated: int) -> None:
    one, other, left = filled(20, first * repeated), filled(20, second), filled(20, first * repeated)
    left.merge(other)
    other.merge(one)
    if first and second:
        assert left.snapshot() == other.snapshot()
    assert left.count == len(first) * repeated + len(second)
    assert left.count == sum(centroid.weight for centroid in left.centroids())
    if left.count:
        assert left.quantiles([0.0, 0.5, 1.0]) == other.quantiles([0.0, 0.5, 1.0])


def test_a_digest_merged_with_itself_has_every_value_twice() -> None:
    made = filled(100, [1.0, 2.0, 3.0])
    made.merge(made)
    assert made.count == 6
    assert made.quantiles([0.5, 1.0]) == [2.0, 3.0]


@pytest.mark.parametrize("compression", [20, 100, COMPRESSION_MAX])
def test_the_scale_function_is_the_papers(compression: int) -> None:
    scale = ArcsineScale(compression)
    for number in range(1001):
        share = number / 1000
        angle = math.asin(2 * share - 1) + math.tau / compression
        expected = 1.0 if angle >= math.pi / 2 else (1 + math.sin(angle)) / 2
        assert scale.limit(share) == pytest.approx(expected, abs=1e-13)


@given(finite, finite, st.integers(1, 50), st.integers(1, 50))
def test_joined_values_stay_between_those_they_are_made_of(low: float, high: float, lows: int, highs: int) -> None:
    low, high = min(low, high), max(low, high)
    made = filled(20, [low] * lows * 10 + [high] * highs * 10)
    means = [centroid.mean for centroid in made.centroids()]
    assert means == sorted(means)
    assert low <= means[0] <= means[-1] <= high
    assert all(low <= value <= high for value in made.quantiles([0.1, 0.5, 0.9]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_with_its_batch(value: float) -> None:
    made = filled(100, [1.0])
    before = made.snapshot()
    with pytest.raises(BadValue, match="finite"):
        made.add([2.0, value])
    assert made.snapshot() == before


def test_questions_that_have_no_answer_are_refused() -> None:
    empty, made = TDigest(100), filled(100, [1.0])
    with pytest.raises(BadValue, match="empty"):
        empty.quantiles([0.5])
    with pytest.raises(BadValue, match="empty"):
        empty.ranks([1.0])
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(BadValue, match="between 0 and 1"):
            made.quantiles([share])
    with pytest.raises(BadValue, match="nan"):
        made.ranks([math.nan])
    assert empty.centroids() == []


@pytest.mark.parametrize("compression", [0, 19, 1_001])
def test_a_compression_out_of_range_is_refused(compression: int) -> None:
    with pytest.raises(BadParameters, match="between 20 and 1,000"):
        TDigest(compression)


def test_digests_of_different_compression_are_not_merged() -> None:
    made = filled(100, [1.0])
    with pytest.raises(DifferentParameters, match="compression 100 cannot take in one of 50"):
        made.merge(filled(50, [2.0]))
    assert made.count == 1


def test_zero_has_no_sign() -> None:
    assert filled(20, [-0.0, 0.0]).snapshot() == filled(20, [0.0, -0.0]).snapshot()
