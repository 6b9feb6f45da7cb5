"""All sketches on the words of the documentation, beside exact counts."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tests.kit.sketch_corpora import words
from waymaker_core.sketches.bloom import BloomFilter
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import TopK


@pytest.fixture(scope="module")
def text() -> list[bytes]:
    found = words()
    assert len(found) > 20_000
    return found


def test_every_word_is_found_and_few_others(text: list[bytes]) -> None:
    distinct = sorted(set(text))
    made = BloomFilter(len(distinct), 10_000_000)
    made.add(text)
    assert all(made.contains(distinct))
    others = [word[::-1] + b"!" for word in distinct]
    assert sum(made.contains(others)) <= 0.01 * len(others) + 5 * math.sqrt(0.01 * len(others))


@pytest.mark.parametrize("precision", [8, 12, 14])
def test_distinct_words_are_counted(text: list[bytes], precision: int) -> None:
    made = HyperLogLog(precision)
    made.add(text)
    distinct = len(set(text))
    assert abs(made.estimate() - distinct) <= 5 * 1.04 / math.sqrt(1 << precision) * distinct


def test_each_word_is_counted_at_least_as_often_as_it_is_there(text: list[bytes]) -> None:
    truth = Counter(text)
    made = CountMin(1_000_000, 1_000_000)
    made.add(text)
    asked = sorted(truth)
    over = [answer - truth[word] for word, answer in zip(asked, made.estimate(asked), strict=True)]
    assert min(over) >= 0
    assert sum(off > made.error_bound() for off in over) <= 5 + len(asked) // 500


def test_the_most_frequent_words_are_named(text: list[bytes]) -> None:
    truth = Counter(text)
    made = TopK(50, 500_000, 1_000_000)
    for at in range(0, len(text), 777):
        made.add(text[at : at + 777])
    found = {each.value: each.times for each in made.top(50)}
    for word, count in truth.most_common(20):
        assert count <= found[word] <= count + made.counts.error_bound()
    assert made.top(1)[0].value == truth.most_common(1)[0][0]


def test_the_lengths_of_words_are_ranked(text: list[bytes]) -> None:
    lengths = [float(len(word)) for word in text]
    made = TDigest(200)
    made.add(lengths)
    for length in range(1, 15):
        exact = sum(each <= length for each in lengths) / len(lengths)
        assert made.ranks([float(length)])[0] == pytest.approx(exact, abs=2 * math.pi / 200)
