"""The hash of sketches: a part of their stored form, the same for ever and everywhere."""

from __future__ import annotations

import hashlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.sketches.hashing import CHUNK_VALUES, WORDS_MAX, longs_of, words_of


def test_the_words_of_a_value_never_change() -> None:
    assert next(words_of([b"", b"waymaker"], 3)) == (
        0xF9D24B0D, 0x80ED4E62, 0x89EC1438,
        0xDE9C2FF5, 0xE4144FD2, 0xCD4DC040,
    )  # fmt: skip
    assert next(longs_of([b"", b"waymaker"])) == (0xD4EE44A1D4794298, 0xC0A8C7DB68D3959B)


@given(st.lists(st.binary(max_size=5), max_size=4), st.integers(1, WORDS_MAX))
def test_words_are_those_of_blake2b_with_its_two_personalisations(values: list[bytes], count: int) -> None:
    expected: list[int] = []
    for value in values:
        first, second = min(count, 16), max(0, count - 16)
        digest = hashlib.blake2b(value, digest_size=4 * first, person=b"waymaker-sketch1").digest()
        if second:
            digest += hashlib.blake2b(value, digest_size=4 * second, person=b"waymaker-sketch2").digest()
        expected += struct.unpack(f"<{count}I", digest)
    assert [word for chunk in words_of(values, count) for word in chunk] == expected


def test_chunks_change_no_word() -> None:
    values = [b"%d" % number for number in range(2 * CHUNK_VALUES + 1)]
    for count in (1, 16, 17, WORDS_MAX):
        together = [word for chunk in words_of(values, count) for word in chunk]
        assert together == [word for value in values for chunk in words_of([value], count) for word in chunk]
        assert len(list(words_of(values, count))) == 3
    assert [each for chunk in longs_of(values) for each in chunk] == [next(longs_of([value]))[0] for value in values]
    assert list(words_of([], 3)) == list(longs_of([])) == []
