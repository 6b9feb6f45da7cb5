"""The services of a node and naive ones answer alike, and the comparison notices where a rule is missing."""

from __future__ import annotations

from fractions import Fraction

import pytest

from waymaker_sim.compare.conversations import CONVERSATIONS, converse
from waymaker_sim.compare.pair import Disagreement
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.mutants import MUTANTS, planted
from waymaker_sim.reference.naive_kv import selects
from waymaker_sim.reference.naive_sketches import Chances, NaiveCounts, NaiveNumbers, centroid_share_ppb

NOTICED = (
    "take-any-revision", "read-tombstones", "revive-older-values", "end-values-when-read", "fill-buckets", "forget-touches",
    "purge-nothing", "purge-at-once", "list-tombstones-as-values", "keep-deleted-buckets", "keep-what-is-removed",
)  # fmt: skip
"""Mutants of the services that an answer shows, without any failure; worlds notice them, too."""
ALSO_NOTICED = (
    ("watches", "watch-the-seam-twice"), ("watches", "watch-over-the-seam"), ("objects", "collect-nothing"),
    ("objects", "collect-what-others-share"), ("objects", "forget-what-was-replaced"), ("objects", "pin-for-ever"),
    ("objects", "read-without-pin"), ("objects", "forget-objects"), ("sketches", "add-one-less"),
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_long_conversation_finds_no_difference(name: str, seed: int) -> None:
    conversation = converse(name, seed, 1_500)
    assert conversation.compared > 750
    assert set(conversation.counts) == {act.__name__ for _, act in conversation._acts}, "every act was met"


def test_a_value_and_its_tombstone_in_one_request_count_as_what_they_leave() -> None:
    """With a history of 1 the tombstone drops the value, which dropped an older one: each gives its room back once."""
    for seed, steps in ((1_530_011, 1_100), (1_530_015, 300), (1_530_019, 400)):
        assert converse("watches", seed, steps).compared


@pytest.mark.parametrize(("name", "mutant"), [*(("services", mutant) for mutant in NOTICED), *ALSO_NOTICED])
def test_a_missing_rule_is_noticed(name: str, mutant: str) -> None:
    with planted(mutant), pytest.raises(Disagreement):
        converse(name, 1, 3_000)


def test_mutants_name_conversations_that_there_are() -> None:
    named = {mutant.conversation for mutant in MUTANTS.values()} - {""}
    assert named == {"watches", "objects", "sketches"} <= CONVERSATIONS.keys()


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_is_the_same_twice(name: str) -> None:
    tapes = [Tape(3), Tape(3)]
    for tape in tapes:
        talk = CONVERSATIONS[name](tape.track(name))
        for _ in range(200):
            talk.step()
    assert tapes[0].saved() == tapes[1].saved()


# ---------------------------------------------------------------- the naive sides


def test_a_pattern_selects_keys_token_by_token() -> None:
    assert all(selects(pattern, "a.b") for pattern in ("", ">", "a.>", "*.b", "a.*", "a.b"))
    assert not any(selects(pattern, "a.b") for pattern in ("a", "*", "a.b.>", "b.*", "*.*.*"))


def test_counts_are_held_against_their_bounds() -> None:
    naive = NaiveCounts()
    naive.add([b"x"] * 60 + [b"y"] * 40)
    assert not naive.count_fault(b"x", 60, 10_000_000) and not naive.count_fault(b"x", 61, 10_000_000)
    assert naive.count_fault(b"x", 59, 10_000_000) and naive.count_fault(b"x", 62, 10_000_000)
    assert not naive.top_fault([(b"x", 60), (b"y", 40)], 2, 2, 0)
    assert naive.top_fault([(b"y", 40), (b"x", 60)], 2, 2, 0), "the greatest count comes first"
    assert naive.top_fault([(b"x", 60)], 2, 2, 0), "both are there"
    naive.add([b"%d" % number for number in range(100)])
    assert naive.top_fault([(b"0", 1), (b"1", 1), (b"2", 1), (b"x", 60)], 4, 4, 0)
    missing = [(b"x", 60), (b"0", 1), (b"1", 1), (b"2", 1), (b"3", 1), (b"4", 1)]
    assert "b'y'" in naive.top_fault(missing, 6, 6, 0), "a fifth of all is above 1 / 6"
    assert not naive.distinct_fault(Fraction(102), 12) and naive.distinct_fault(Fraction(115), 12)


def test_ranks_are_held_against_the_share_of_a_centroid() -> None:
    assert centroid_share_ppb(Fraction(1, 2), 100) == pytest.approx(32_402_886, abs=100), "3.2 % at the median"
    naive = NaiveNumbers()
    naive.add(list(range(1_000)))
    assert not naive.rank_fault(500, Fraction(56, 100), 100) and naive.rank_fault(500, Fraction(57, 100), 100)
    assert not naive.quantile_fault(Fraction(1, 2), Fraction(560), 100)
    assert naive.quantile_fault(Fraction(1, 2), Fraction(570), 100)
    assert not naive.quantile_fault(Fraction(1), Fraction(999), 100)
    assert naive.quantile_fault(Fraction(1), Fraction(998), 100), "the greatest number is exact"


def test_a_rate_is_too_high_only_where_chance_does_not_explain_it() -> None:
    assert not Chances(10_000_000, 1_000, 25).too_often() and Chances(10_000_000, 1_000, 30).too_often()
    assert not Chances(1_000, 40, 1).too_often() and Chances(1_000, 40, 2).too_often()
