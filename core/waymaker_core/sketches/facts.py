"""Facts of a sketch: what a record of its stream adds to it. They are stored, so each layout has a number of its own.

- `VALUES`: the lengths of the values (u32 each, behind their number), then the values.
- `NUMBERS`: the numbers (f64 each).
- `PIECE`: a part of a snapshot that is larger than one fact: purpose (u8), length of the whole (u32), offset (u32), bytes. With
  its last piece it is merged, or takes the place of the sketch; pieces that are never completed change nothing.
- `SOURCED`: what a batch of a source's messages adds: how many of them have no item (u64), and `VALUES` or `NUMBERS` of the
  others, if there are any.

All numbers are little-endian.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from waymaker_core.layers.layer import FACT_BYTES_MAX
from waymaker_core.sketches.snapshot_format import STATE_BYTES_MAX
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

_COUNT: Final = struct.Struct("<BI")
_SOURCED: Final = struct.Struct("<BQ")
_PIECE: Final = struct.Struct("<BBII")
_SWAP: Final = array("H", [1]).tobytes() != b"\x01\x00"

SNAPSHOT_BYTES_MAX: Final = 2 * STATE_BYTES_MAX
"""More than any snapshot has."""
FACT_HEAD_BYTES: Final = _COUNT.size
"""Bytes of a fact before its values or numbers, at most."""
PIECE_BYTES: Final = FACT_BYTES_MAX - _PIECE.size
SKIPPED_BYTES: Final = _SOURCED.size
"""Bytes of a `SOURCED` fact before what it adds."""


class FactKind(IntEnum):
    """The layout of a fact; the value is stored."""

    VALUES = 1
    NUMBERS = 2
    PIECE = 3
    SOURCED = 4


class Purpose(IntEnum):
    """The use of a snapshot that comes in pieces; the value is stored."""

    MERGE = 1
    REPLACE = 2


class Piece(NamedTuple):
    """A part of a snapshot: `data` belongs at `offset` of `length` bytes."""

    purpose: Purpose
    length: int
    offset: int
    data: bytes


def values_fact_bytes(values: Sequence[bytes]) -> int:
    """Return the length of a fact that adds these values."""
    return _COUNT.size + 4 * len(values) + sum(map(len, values))


def encode_values(values: Sequence[bytes]) -> bytes:
    """Return the fact that values were added."""
    lengths = array("I", map(len, values))
    if _SWAP:
        lengths.byteswap()
    return b"".join([_COUNT.pack(FactKind.VALUES, len(values)), lengths.tobytes(), *values])


def decode_values(fact: bytes) -> list[bytes]:
    """Return the values of a fact. CorruptRecord."""
    if len(fact) < _COUNT.size:
        raise CorruptRecord("the fact of a sketch is too short")
    start = _COUNT.size + 4 * _COUNT.unpack_from(fact)[1]
    lengths = array("I")
    if start > len(fact):
        raise CorruptRecord("the fact of a sketch has fewer values than it says")
    lengths.frombytes(fact[_COUNT.size : start])
    if _SWAP:
        lengths.byteswap()
    ends = list(accumulate(lengths, initial=start))
    if ends[-1] != len(fact):
        raise CorruptRecord("the values of a sketch's fact are not as long as it says")
    return [fact[begin:end] for begin, end in pairwise(ends)]


def encode_numbers(numbers: bytes) -> bytes:
    """Return the fact that numbers were added."""
    return bytes([FactKind.NUMBERS]) + numbers


def decode_numbers(fact: bytes) -> bytes:
    """Return the numbers of a fact, as bytes. CorruptRecord."""
    if len(fact) % 8 != 1:
        raise CorruptRecord("the numbers of a sketch's fact are cut")
    return fact[1:]


def encode_pieces(purpose: Purpose, snapshot: bytes) -> Iterator[bytes]:
    """Yield the facts that bring a snapshot."""
    for offset in range(0, len(snapshot), PIECE_BYTES):
        head = _PIECE.pack(FactKind.PIECE, purpose, len(snapshot), offset)
        yield head + snapshot[offset : offset + PIECE_BYTES]


def decode_piece(fact: bytes) -> Piece:
    """Return the piece of a fact. CorruptRecord."""
    if len(fact) <= _PIECE.size:
        raise CorruptRecord("a piece of a sketch's snapshot is empty")
    _, purpose, length, offset = _PIECE.unpack_from(fact)
    data = fact[_PIECE.size :]
    if purpose not in set(Purpose) or length > SNAPSHOT_BYTES_MAX or offset + len(data) > length:
        raise CorruptRecord("a piece of a sketch's snapshot lies outside of it")
    return Piece(Purpose(purpose), length, offset, data)


def encode_sourced(skipped: int, added: bytes) -> bytes:
    """Return the fact that a batch of a source adds: `added` is the fact of its values or numbers, or empty."""
    return _SOURCED.pack(FactKind.SOURCED, skipped) + added


def decode_sourced(fact: bytes) -> tuple[int, bytes]:
    """Return how many messages were skipped, and the fact of what the others add, which may be empty. CorruptRecord."""
    if len(fact) < _SOURCED.size:
        raise CorruptRecord("the fact of a sketch's source is too short")
    added = fact[_SOURCED.size :]
    if added and added[0] not in (FactKind.VALUES, FactKind.NUMBERS):
        raise CorruptRecord("the fact of a sketch's source adds neither values nor numbers")
    return int(_SOURCED.unpack_from(fact)[1]), added


def count_added(sourced: bytes) -> int:
    """Return how many values or numbers a well-formed `SOURCED` fact adds."""
    added = decode_sourced(sourced)[1]
    if not added:
        return 0
    return int(_COUNT.unpack_from(added)[1]) if added[0] == FactKind.VALUES else len(added) // 8


def kind_of(fact: bytes) -> FactKind:
    """Return the layout of a fact. CorruptRecord, UnknownVersion."""
    if not fact:
        raise CorruptRecord("the fact of a sketch is empty")
    if not FactKind.VALUES <= fact[0] <= FactKind.SOURCED:
        raise UnknownVersion("the fact of a sketch", fact[0], max(FactKind))
    return FactKind(fact[0])
