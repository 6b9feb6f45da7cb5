"""The sketches beside Apache DataSketches on the same values: as close to the truth, and of a size where one is chosen."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from random import Random

import pytest

from tests.kit.sketch_corpora import DISTRIBUTIONS, numbered, words, zipf
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import TopK

peers = pytest.importorskip("datasketches", reason="DataSketches is an optional tool of development")


def root_mean_square(offs: list[float]) -> float:
    return math.sqrt(sum(off * off for off in offs) / len(offs))


def test_distinct_values_are_counted_as_closely() -> None:
    ours, theirs = [], []
    for label in range(12):
        for size in (1_000, 8_000):
            values = numbered(str(label), size)
            made, peer = HyperLogLog(10), peers.hll_sketch(10, peers.HLL_8)
            made.add(values)
            for value in values:
                peer.update(value.decode())
            ours.append(made.estimate() / size - 1)
            theirs.append(peer.get_estimate() / size - 1)
    # Their estimator (HIP) follows the order of coming and cannot be merged; it is 1.3 times as close in theory.
    assert root_mean_square(ours) <= 2.2 * root_mean_square(theirs)
    assert root_mean_square(ours) <= 1.3 * 1.04 / 32


def test_counts_are_of_the_same_size_and_as_close() -> None:
    values = zipf(3, 20_000)
    truth = Counter(values)
    for error, failure in ((0.001, 0.01), (0.005, 0.1), (0.01, 0.001)):
        made = CountMin(round(error * 1e9), round(failure * 1e9))
        width = peers.count_min_sketch.suggest_num_buckets(error)
        depth = peers.count_min_sketch.suggest_num_hashes(1 - failure)
        assert (made.width, made.depth) == (width, depth)
        peer = peers.count_min_sketch(depth, width)
        made.add(values)
        for value in values:
            peer.update(value.decode())
        asked = sorted(truth)
        ours = [answer - truth[value] for value, answer in zip(asked, made.estimate(asked), strict=True)]
        theirs = [peer.get_estimate(value.decode()) - truth[value] for value in asked]
        assert min(ours) >= 0 <= min(theirs)
        assert sum(ours) <= 1.3 * sum(theirs) + len(asked) / 10


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_ranks_are_as_close(name: str) -> None:
    values = DISTRIBUTIONS[name](Random(9), 20_000)
    ordered = sorted(values)
    made, peer = TDigest(100), peers.tdigest_double(100)
    made.add(values)
    for value in values:
        peer.update(value)
    shares = [number / 200 for number in range(1, 200)]

    def off(value: float, share: float) -> float:
        low, high = bisect_left(ordered, value) / len(ordered), bisect_right(ordered, value) / len(ordered)
        return max(0.0, low - share, share - high)

    ours = [off(value, share) for value, share in zip(made.quantiles(shares), shares, strict=True)]
    theirs = [off(peer.get_quantile(share), share) for share in shares]
    assert max(ours) <= 2 * max(theirs) + 0.002
    assert root_mean_square(ours) <= 2 * root_mean_square(theirs) + 0.001
    assert (made.least, made.greatest) == (peer.get_min_value(), peer.get_max_value())


def test_frequent_words_are_the_same() -> None:
    values = words()
    made, peer = TopK(64, 500_000, 1_000_000), peers.frequent_strings_sketch(10)
    made.add(values)
    for value in values:
        peer.update(value.decode())
    ours = [each.value.decode() for each in made.top(20)]
    theirs = [item[0] for item in peer.get_frequent_items(peers.NO_FALSE_NEGATIVES)[:20]]
    assert len(set(ours) & set(theirs)) >= 19
