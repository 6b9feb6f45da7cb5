"""Names and the prefixes that belong to a service."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.model.limits import Limits
from waymaker_core.model.names import RESERVED_PREFIXES, check_name, is_name, reserved_prefix
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError

LIMITS = Limits()


def obvious(name: str) -> bool:
    """The rule, character by character."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return False
    return 1 <= len(raw) <= 255 and not any(
        char.isspace() or unicodedata.category(char) == "Cc" or char in ".*>/\\" for char in name
    )


@given(st.text(st.characters(), max_size=6) | st.text("a.:*>/\\ \té", max_size=4))
def test_a_name_is_one_by_the_rule_and_nothing_else(name: str) -> None:
    assert is_name(name, LIMITS) == obvious(name)
    if obvious(name):
        check_name(name, "a stream", LIMITS)
    else:
        with pytest.raises(CodeError) as refused:
            check_name(name, "a stream", LIMITS)
        assert refused.value.code == INVALID_CONFIG
        assert "a stream" in refused.value.message


def test_the_length_of_a_name_is_counted_in_bytes() -> None:
    assert is_name("é" * 127, LIMITS)
    assert not is_name("é" * 128, LIMITS)
    with pytest.raises(CodeError, match="255 bytes"):
        check_name("é" * 128, "a consumer", LIMITS)


def test_a_colon_is_allowed_and_the_reserved_prefixes_are_told_apart() -> None:
    assert is_name("kv:users", LIMITS)
    assert {prefix: reserved_prefix(f"{prefix}x") for prefix in RESERVED_PREFIXES} == {
        prefix: prefix for prefix in RESERVED_PREFIXES
    }
    assert reserved_prefix("kvx") == reserved_prefix("akv:x") == reserved_prefix("KV:x") == ""
