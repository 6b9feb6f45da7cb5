"""Settings of a stream: what is refused, what is filled in, what may change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.api.requests import UpdateStream
from waymaker_core.model.config import Retention, StreamConfig
from waymaker_core.model.limits import SEQ_MAX, Limits
from waymaker_core.model.result_codes import IMMUTABLE_FIELD, INVALID_CONFIG, CodeError
from waymaker_core.stream import updated, validate
from waymaker_core.stream.config import OBJECT_CHUNK_BYTES

LIMITS = Limits()
GOOD = StreamConfig("orders")


def refused(config: StreamConfig) -> str:
    with pytest.raises(CodeError) as error:
        validate(config, LIMITS)
    assert error.value.code == INVALID_CONFIG
    return error.value.message


def accepted(config: StreamConfig) -> None:
    assert validate(config, LIMITS) == replace(config, block_size=LIMITS.block_size_default)


def test_defaults_are_filled_in_once() -> None:
    config = validate(GOOD, LIMITS)
    assert config == replace(GOOD, block_size=LIMITS.block_size_default)
    assert validate(config, LIMITS) == config


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a*", "a>", "a/b", "a\\b", "x" * 256, "\x07"])
def test_an_impossible_name_is_refused(name: str) -> None:
    assert refused(replace(GOOD, name=name))


@pytest.mark.parametrize("field", ["max_age_ms", "max_msgs", "max_bytes", "max_msg_bytes", "max_msgs_per_subject"])
@pytest.mark.parametrize("value", [-1, SEQ_MAX + 1, (1 << 64) - 1])
def test_an_absurd_number_is_refused_by_name(field: str, value: int) -> None:
    assert field in refused(replace(GOOD, **{field: value}))  # type: ignore[arg-type]


def test_a_block_size_beyond_the_limit_is_refused() -> None:
    assert "block_size" in refused(replace(GOOD, block_size=LIMITS.block_size_max + 1))
    assert validate(replace(GOOD, block_size=LIMITS.block_size_max), LIMITS).block_size == LIMITS.block_size_max


@pytest.mark.parametrize(
    "patterns", [("a", "a"), ("a.*", "a.b"), ("a.>", "a.*.c"), (">", "x"), ("a..b",), ("a.b*",), ("",)]
)
def test_bad_or_overlapping_patterns_are_refused(patterns: tuple[str, ...]) -> None:
    assert refused(replace(GOOD, subjects_filter=patterns))


@pytest.mark.parametrize("retention", [Retention.WORK_QUEUE, Retention.INTEREST])
@pytest.mark.parametrize("field", ["max_age_ms", "max_msgs", "max_bytes", "strict_limits"])
def test_bounds_belong_to_limits_retention(retention: Retention, field: str) -> None:
    assert refused(replace(GOOD, retention=retention, **{field: 1}))  # type: ignore[arg-type]
    config = validate(replace(GOOD, retention=retention), LIMITS)
    with pytest.raises(CodeError) as error:
        updated(config, UpdateStream("orders", **{field: 1}), LIMITS)  # type: ignore[arg-type]
    assert error.value.code == IMMUTABLE_FIELD
    assert updated(config, UpdateStream("orders", max_msg_bytes=9), LIMITS).max_msg_bytes == 9


def test_an_update_changes_what_is_given_and_zero_clears() -> None:
    config = validate(replace(GOOD, max_msgs=5, max_age_ms=7), LIMITS)
    assert updated(config, UpdateStream("orders", max_msgs=0, max_bytes=9), LIMITS) == replace(
        config, max_msgs=0, max_bytes=9
    )
    assert updated(config, UpdateStream("orders"), LIMITS) == config
    with pytest.raises(CodeError):
        updated(config, UpdateStream("orders", max_msgs=-1), LIMITS)


@pytest.mark.parametrize("prefix", ["obj:", "kv:", "hash:", "set:", "queue:", "sketch:"])
def test_settings_that_could_lose_a_services_state_are_refused(prefix: str) -> None:
    plain = replace(GOOD, name=f"{prefix}x", max_msgs_per_subject=64 if prefix == "kv:" else 0)
    accepted(plain)
    assert refused(replace(plain, name=prefix))
    for broken in [
        {"retention": Retention.WORK_QUEUE},
        {"retention": Retention.INTEREST},
        {"max_age_ms": 1},
        {"max_msgs": 1},
        {"max_bytes": 1},
        {"subjects_filter": ("else.where",)},
    ]:
        assert refused(replace(plain, **broken))  # type: ignore[arg-type]
    with pytest.raises(CodeError) as error:
        updated(validate(plain, LIMITS), UpdateStream(plain.name, max_msgs=1), LIMITS)
    assert error.value.code == INVALID_CONFIG


def test_a_bucket_may_bound_its_history_and_its_values_but_an_object_must_fit() -> None:
    accepted(replace(GOOD, name="kv:b", max_msgs_per_subject=3, max_msg_bytes=10))
    accepted(replace(GOOD, name="kv:b", subjects_filter=("b.>",), max_msgs_per_subject=64))
    history = validate(replace(GOOD, name="kv:b"), LIMITS).max_msgs_per_subject
    assert history == 64, "a bucket that says nothing keeps 64 revisions a key"
    accepted(replace(GOOD, name="obj:b", subjects_filter=("objm.>", "objc.>", "obj_chunk.>")))
    assert refused(replace(GOOD, name="obj:b", subjects_filter=("objm.>", "objc.>")))
    assert refused(replace(GOOD, name="obj:b", max_msgs_per_subject=3))
    assert refused(replace(GOOD, name="obj:b", max_msg_bytes=OBJECT_CHUNK_BYTES - 1))
    assert refused(replace(GOOD, name="obj:b", max_msg_bytes=1))
    accepted(replace(GOOD, name="obj:b", max_msg_bytes=OBJECT_CHUNK_BYTES))
    accepted(replace(GOOD, name="obj:b", max_msg_bytes=0))
    accepted(replace(GOOD, name="kv:b", max_msg_bytes=1, max_msgs_per_subject=64))


@given(st.text(max_size=4), st.lists(st.text("ab.*>", max_size=4), max_size=3), st.integers(-2, 1 << 65))
def test_whatever_is_asked_for_is_either_stored_as_it_is_or_refused(
    name: str, patterns: list[str], number: int
) -> None:
    asked = StreamConfig(name, tuple(patterns), max_msgs=number)
    try:
        config = validate(asked, LIMITS)
    except CodeError as error:
        assert error.code == INVALID_CONFIG
    else:
        assert config == replace(asked, block_size=LIMITS.block_size_default)
