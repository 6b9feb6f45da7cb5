"""Subjects and patterns against token-by-token definitions."""

from __future__ import annotations

import itertools
import unicodedata

from hypothesis import assume, given
from hypothesis import strategies as st

from waymaker_core.model.limits import Limits
from waymaker_core.model.subjects import (
    Pattern,
    SubjectFilter,
    covers,
    first_overlap,
    is_pattern,
    overlap,
    subject_bytes,
)

LIMITS = Limits()
TOKENS = ["a", "b", "*", ">"]
ALL_SUBJECTS = [".".join(tokens) for size in range(1, 5) for tokens in itertools.product(["a", "b", "c"], repeat=size)]

patterns = (
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda text: is_pattern(text, LIMITS))
)
subjects = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)


def matches(pattern: list[str], subject: list[str]) -> bool:
    """The rule, token by token."""
    if not pattern or not subject:
        return not pattern and not subject
    if pattern[0] == ">":
        return True
    return pattern[0] in {"*", subject[0]} and matches(pattern[1:], subject[1:])


def literal(text: str) -> bool:
    """The rule for what a message may be published at."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return False
    return len(raw) <= 1024 and all(
        token and not any(c.isspace() or unicodedata.category(c) == "Cc" or c in "*>" for c in token)
        for token in text.split(".")
    )


@given(st.text(st.characters(), max_size=6) | st.text("a.*> é\n", max_size=5))
def test_a_subject_is_literal_by_the_rule_and_nothing_else(text: str) -> None:
    assert subject_bytes(text, LIMITS) == (len(text.encode()) if literal(text) else 0)


@given(st.text("a.*>é ", max_size=6))
def test_a_pattern_has_wildcards_only_as_whole_tokens(text: str) -> None:
    tokens = text.split(".")
    good = ">" not in tokens[:-1] and all(token in {"*", ">"} or (token and literal(token)) for token in tokens)
    assert is_pattern(text, LIMITS) == good


def test_the_length_of_a_subject_is_counted_in_bytes() -> None:
    assert subject_bytes("é" * 512, LIMITS) == 1024
    assert subject_bytes("é" * 512 + "a", LIMITS) == 0
    assert not is_pattern("é" * 512 + ".*", LIMITS)


@given(patterns, subjects)
def test_a_pattern_matches_token_by_token(pattern: str, subject: str) -> None:
    compiled = Pattern(pattern)
    expected = matches(pattern.split("."), subject.split("."))
    assert compiled.matches(subject) == expected
    assert not expected or subject.startswith(compiled.prefix)
    assert compiled.literal == (pattern == compiled.prefix)


@given(patterns, patterns)
def test_two_patterns_overlap_when_some_subject_matches_both(first: str, second: str) -> None:
    one, other = Pattern(first), Pattern(second)
    assert overlap(first, second) == any(one.matches(subject) and other.matches(subject) for subject in ALL_SUBJECTS)
    assert overlap(first, second) == overlap(second, first)


@given(patterns, patterns)
def test_a_pattern_covers_another_when_it_matches_all_the_other_matches(wide: str, narrow: str) -> None:
    one, other = Pattern(wide), Pattern(narrow)
    # A `>` reaches further than any list of examples: four tokens show whatever three tokens of pattern can differ in.
    assume(len(wide.split(".")) <= 3 and len(narrow.split(".")) <= 3)
    assert covers(wide, narrow) == all(one.matches(subject) for subject in ALL_SUBJECTS if other.matches(subject))


@given(st.lists(patterns, max_size=5))
def test_an_overlap_in_a_list_is_found_wherever_it_is(texts: list[str]) -> None:
    found = first_overlap(texts)
    exists = any(overlap(a, b) for a, b in itertools.combinations(texts, 2))
    assert (found is not None) == exists
    if found is not None:
        assert overlap(*found)
        assert found[0] in texts
        assert found[1] in texts


@given(st.lists(patterns, max_size=4), subjects)
def test_a_filter_accepts_what_any_of_its_patterns_matches_and_everything_without_patterns(
    texts: list[str], subject: str
) -> None:
    expected = not texts or any(Pattern(text).matches(subject) for text in texts)
    assert SubjectFilter(texts).accepts(subject) == expected
