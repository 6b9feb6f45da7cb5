"""Keys of a bucket, patterns of keys, and the subjects that they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.kv.keys import (
    check_key,
    check_key_to_read,
    key_fault,
    key_of,
    key_subject,
    keys_pattern,
    pattern_fault,
)
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import INVALID_KEY, CodeError, RefusedError, Status
from waymaker_core.model.subjects import Pattern, is_pattern, subject_bytes

LIMITS = Limits()
ALLOWED = set("-/_=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
keys = st.lists(st.text("aZ0-/_=", min_size=1, max_size=3), min_size=1, max_size=3).map(".".join)
buckets = st.text("ab%:é", min_size=1, max_size=4)


def obvious(key: str) -> bool:
    """The rule, character by character."""
    return all(token and set(token) <= ALLOWED for token in key.split("."))


@given(st.text("aZ0-/_=.*> é\n", max_size=6) | st.text(max_size=4))
def test_a_key_is_one_by_the_rule_and_nothing_else(key: str) -> None:
    fault = key_fault("b", key, LIMITS)
    assert (fault == "") == obvious(key)
    if obvious(key):
        check_key("b", key, LIMITS)
        check_key_to_read("b", key, LIMITS)
        return
    with pytest.raises(CodeError, match="letters, digits") as refused:
        check_key("b", key, LIMITS)
    assert refused.value.code == INVALID_KEY
    with pytest.raises(RefusedError, match="letters, digits") as unread:
        check_key_to_read("b", key, LIMITS)
    assert unread.value.refusal.status is Status.INVALID_ARGUMENT


@given(st.text("a.*>é ", max_size=6))
def test_a_pattern_has_wildcards_only_as_whole_tokens(pattern: str) -> None:
    tokens = pattern.split(".")
    good = ">" not in tokens[:-1] and all(token in {"*", ">"} or obvious(token) for token in tokens)
    assert (pattern_fault("b", pattern, LIMITS) == "") == (good or not pattern)


@given(keys)
def test_every_key_is_a_pattern_that_selects_itself(key: str) -> None:
    assert pattern_fault("b", key, LIMITS) == ""
    assert Pattern(keys_pattern("b", key)).matches(key_subject("b", key))


@given(buckets, keys)
def test_a_subject_names_one_key_of_one_bucket(bucket: str, key: str) -> None:
    subject = key_subject(bucket, key)
    assert subject_bytes(subject, LIMITS) > 0
    assert key_of(bucket, subject) == key
    assert Pattern(keys_pattern(bucket, "")).matches(subject)


@given(buckets, keys, buckets, keys)
def test_two_keys_have_two_subjects(bucket: str, key: str, other_bucket: str, other: str) -> None:
    alike = key_subject(bucket, key) == key_subject(other_bucket, other)
    assert alike == ((bucket, key) == (other_bucket, other))


@pytest.mark.parametrize(
    ("pattern", "selected"),
    [
        ("", ["a", "a.b", "a.b.c", "x/y"]),
        (">", ["a", "a.b", "a.b.c", "x/y"]),
        ("*", ["a", "x/y"]),
        ("a.*", ["a.b"]),
        ("a.>", ["a.b", "a.b.c"]),
        ("a.b", ["a.b"]),
        ("*.b", ["a.b"]),
    ],
)
def test_a_pattern_selects_keys_as_subjects_are_selected(pattern: str, selected: list[str]) -> None:
    subjects = Pattern(keys_pattern("b", pattern))
    assert [key for key in ("a", "a.b", "a.b.c", "x/y") if subjects.matches(key_subject("b", key))] == selected
    assert is_pattern(subjects.text, LIMITS)


@pytest.mark.parametrize("bucket", ["b", "é" * 100, "%" * 255])
def test_a_key_may_be_as_long_as_the_subject_allows(bucket: str) -> None:
    key = ""
    while not key_fault(bucket, key + "k", LIMITS):
        key += "k"
    assert subject_bytes(key_subject(bucket, key), LIMITS) == 1024
    fault = key_fault(bucket, key + "k", LIMITS)
    assert f"at most {len(key):,}" in fault
    assert pattern_fault(bucket, key + "k", LIMITS) == fault
