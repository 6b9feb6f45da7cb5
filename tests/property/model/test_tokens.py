"""The escape of texts in subjects: one token for each text, no two alike, prefixes kept, and an exact way back."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import RefusedError, Status
from waymaker_core.model.subjects import subject_bytes
from waymaker_core.model.tokens import EMPTY, NotAToken, escape, escape_prefix, escaped_subject, unescape

LIMITS = Limits()
ODD = "a%.*> \t\n\0\x7f\x85\u2028é0E2"
encodable = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
texts = st.text(ODD, max_size=6) | encodable


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("", "%"),
        ("%", "%25"),
        ("a", "a"),
        ("photo 1.jpg", "photo%201%2Ejpg"),
        ("a/b\\c:d", "a/b\\c:d"),
        ("*", "%2A"),
        (">", "%3E"),
        ("é", "é"),
        ("\u2028", "%E2%80%A8"),
        ("\x85", "%C2%85"),
        ("%41", "%2541"),
        ("\0", "%00"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_a_token_looks_like_this(text: str, token: str) -> None:
    assert escape(text) == token
    assert unescape(token) == text


def test_every_character_becomes_a_token_and_comes_back() -> None:
    text = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    token = escape(text)
    assert unescape(token) == text
    assert "." not in token
    assert subject_bytes(token, replace(LIMITS, subject_bytes_max=len(token) * 4)) > 0


@given(texts)
def test_a_token_is_one_token_of_a_literal_subject(text: str) -> None:
    token = escape(text)
    assert subject_bytes(token, LIMITS) == len(token.encode())
    assert "." not in token
    assert unescape(token) == text


@given(texts, texts)
@example("", "%")
@example("%", "%25")
@example("a.b", "a%2Eb")
def test_two_texts_have_two_tokens(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(texts, texts)
@example("%", "")
@example("", "%")
@example("\x85", "\xc2")
def test_a_prefix_of_texts_is_a_prefix_of_tokens(text: str, prefix: str) -> None:
    assert escape(text).startswith(escape_prefix(prefix)) == text.startswith(prefix)
    assert escape(prefix + text).startswith(escape_prefix(prefix))


@given(st.text("a%.* 0245AEaecC", max_size=7) | st.text(st.characters(), max_size=5))
@example("")
@example("%41")
@example("%2e")
@example("%2")
@example("%%")
@example("%25%")
@example("a.b")
@example("%C2")
@example("%ED%A0%80")
@example("\ud800")
def test_only_what_the_escape_returns_is_taken_back(token: str) -> None:
    try:
        text = unescape(token)
    except NotAToken as refused:
        assert "capital digits" in str(refused)
        assert token not in {"a", "%", "%25"}
    else:
        assert escape(text) == token


@pytest.mark.parametrize(
    "token", ["", "%41", "%2e", "%2", "%%", "a%", "a.b", "a b", "*", "%C2", "%80", "%ED%A0%80", "\ud800"]
)
def test_another_form_is_refused(token: str) -> None:
    with pytest.raises(NotAToken):
        unescape(token)


@given(st.lists(encodable.filter(lambda text: escape(text) == text), max_size=6))
def test_tokens_without_escapes_are_in_the_order_of_their_texts(names: list[str]) -> None:
    assert [unescape(token) for token in sorted(map(escape, names))] == sorted(names)


def test_a_subject_has_its_head_and_a_token_for_each_text() -> None:
    assert escaped_subject("objc", ["a.b", "", "é"], "an object's name", LIMITS) == "objc.a%2Eb.%.é"


@given(st.lists(texts, min_size=1, max_size=3), st.lists(texts, min_size=1, max_size=3))
def test_two_lists_of_texts_have_two_subjects(one: list[str], other: list[str]) -> None:
    first, second = (escaped_subject("h", each, "a field", LIMITS) for each in (one, other))
    assert (first == second) == (one == other)
    assert subject_bytes(first, LIMITS) > 0


@pytest.mark.parametrize("text", ["x" * 1019, "." * 339 + "xx", "é" * 509 + "x"])
def test_a_subject_may_have_its_greatest_length_and_not_a_byte_more(text: str) -> None:
    assert len(escaped_subject("objm", [text], "an object's name", LIMITS).encode()) == 1024
    with pytest.raises(RefusedError) as refused:
        escaped_subject("objm", [text + "x"], "an object's name", LIMITS)
    assert refused.value.refusal.status is Status.INVALID_ARGUMENT
    assert "an object's name" in refused.value.refusal.message
    assert "1,024" in refused.value.refusal.message


def test_a_text_of_any_length_is_refused_without_being_escaped() -> None:
    with pytest.raises(RefusedError, match="1,024"):
        escaped_subject("objm", ["." * 50_000_000], "an object's name", LIMITS)


def test_half_a_surrogate_pair_is_refused() -> None:
    for text in ("\ud800", "a.\udfff"):
        with pytest.raises(RefusedError, match="surrogate"):
            escaped_subject("objm", [text], "an object's name", LIMITS)


def test_the_empty_text_is_one_that_no_character_becomes() -> None:
    assert EMPTY == "%"
    assert all(escape(chr(code)) != EMPTY for code in range(0x3000))
