"""The hash of all sketches: BLAKE2b (RFC 7693), personalised, in words of 32 or 64 bits, little-endian.

A value has the same words on every machine and for ever: they are part of the format of stored sketches. The digest is as long
as the words that are asked for, so that one call gives a filter all its indexes. They are independent words instead of
two that are added up (double hashing, Kirsch and Mitzenmacher 2006): two words alone have about m * m outcomes in a table
of m places, and the collisions of whole outcomes are a floor under the error rate of small tables (Dillinger and Manolios
2004). The words cost nothing more, for BLAKE2b computes 64 bytes in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from struct import unpack
from typing import Final

CHUNK_VALUES: Final = 1024
"""Values that are hashed together: enough to share the costs of a call, few enough to keep their words small."""
DIGEST_WORDS: Final = 16
"""Words of 32 bits in the longest digest."""
WORDS_MAX: Final = 2 * DIGEST_WORDS

_LABELS: Final = (b"waymaker-sketch1", b"waymaker-sketch2")
"""BLAKE2b's personalisation of the first and the second digest of a value."""


def words_of(values: Sequence[bytes], count: int) -> Iterator[tuple[int, ...]]:
    """Yield the hashes of all values, chunk by chunk: `count` words of 32 bits for each value, one value after the other."""
    first, second = min(count, DIGEST_WORDS), max(0, count - DIGEST_WORDS)
    for at in range(0, len(values), CHUNK_VALUES):
        chunk = values[at : at + CHUNK_VALUES]
        digests = _digests(chunk, 4 * first, 0)
        if second:
            more = _digests(chunk, 4 * second, 1)
            digests = [piece for pair in zip(digests, more, strict=True) for piece in pair]
        yield unpack(f"<{count * len(chunk)}I", b"".join(digests))


def longs_of(values: Sequence[bytes]) -> Iterator[tuple[int, ...]]:
    """Yield the hashes of all values, chunk by chunk: one word of 64 bits for each."""
    for at in range(0, len(values), CHUNK_VALUES):
        chunk = values[at : at + CHUNK_VALUES]
        yield unpack(f"<{len(chunk)}Q", b"".join(_digests(chunk, 8, 0)))


def _digests(values: Sequence[bytes], size: int, label: int) -> list[bytes]:
    begun = _begun(size, label)
    digests = []
    for value in values:
        state = begun.copy()  # half the time of making one with its parameters
        state.update(value)
        digests.append(state.digest())
    return digests


@cache
def _begun(size: int, label: int) -> blake2b:
    return blake2b(digest_size=size, person=_LABELS[label])
