"""Durations, sizes and moments, there and back."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker.cli import units


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0", 0), ("90s", 90_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5h", 5_400_000), ("2w", 1_209_600_000)],
)
def test_durations(text: str, ms: int) -> None:
    assert units.duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "s", "1h 30m", "-5s", "5x", "1e9s", "99999999999999999999w"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        units.duration_ms(text)


@given(st.integers(0, 10**15))
def test_a_duration_survives_being_said(ms: int) -> None:
    assert units.duration_ms(units.say_duration(ms)) == ms


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1500", 1500), ("64KiB", 65_536), ("10GB", 10**10), ("1.5 MiB", 1_572_864), ("1_000k", 10**6)],
)
def test_sizes(text: str, size: int) -> None:
    assert units.size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1 XB", "99999999999999999999TB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        units.size_bytes(text)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (10 << 30, "10 GiB"),
        ((1 << 20) - 1, "1024 KiB"),
    ],
)
def test_sizes_as_people_read_them(size: int, said: str) -> None:
    assert units.say_size(size) == said


@pytest.mark.parametrize(("text", "number"), [("5", 5), ("1M", 10**6), ("1_000", 1_000), ("2k", 2_000)])
def test_counts(text: str, number: int) -> None:
    assert units.count(text) == number


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "99999999999999999999999"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        units.count(text)


def test_moments() -> None:
    assert units.moment_ms("1234") == 1234
    assert units.moment_ms("1970-01-01T00:00:01+00:00") == 1_000
    assert units.moment_ms("1970-01-01T01:00:01+01:00") == 1_000
    ago = time.time() * 1000 - units.moment_ms("2h ago")
    assert 7_199_000 < ago < 7_201_000
    with pytest.raises(ValueError, match="no moment"):
        units.moment_ms("soon")
