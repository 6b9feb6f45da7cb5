"""The frame of stored sketches: which kind a snapshot is of, in which version, and a reader that trusts nothing.

A snapshot is `WMsk`, the kind (u8), the version (u8), the parameters and the state; all numbers are little-endian. There is no
checksum, for whatever stores a snapshot has one. A reader computes the only right length from the parameters before it
allocates anything, so that hostile bytes cost no more than their own length.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from waymaker_core.sketches.errors import CorruptSnapshot

MAGIC: Final = b"WMsk"
HEAD_BYTES: Final = len(MAGIC) + 2
STATE_BYTES_MAX: Final = 8 << 20
"""The largest state of a sketch. A snapshot fits into one message."""


_SWAP: Final = array("H", [1]).tobytes() != b"\x01\x00"
"""True on big-endian machines."""


class Kind(IntEnum):
    """The algorithm of a sketch; the value is stored."""

    BLOOM = 1
    HYPERLOGLOG = 2
    COUNT_MIN = 3
    TOP_K = 4
    T_DIGEST = 5


def head(kind: Kind, version: int) -> bytes:
    """Return the beginning of a snapshot."""
    return MAGIC + bytes((kind, version))


def kind_of(data: bytes) -> Kind:
    """Return the kind of a snapshot. CorruptSnapshot where there is none."""
    if data[: len(MAGIC)] != MAGIC or len(data) < HEAD_BYTES:
        raise CorruptSnapshot("these bytes are not the snapshot of a sketch")
    try:
        return Kind(data[len(MAGIC)])
    except ValueError:
        raise CorruptSnapshot(f"the snapshot is of kind {data[len(MAGIC)]}, which this program does not know") from None


def body(data: bytes, kind: Kind, version: int) -> bytes:
    """Return a snapshot without its head. CorruptSnapshot where the head is another one."""
    found = kind_of(data)
    if found is not kind:
        raise CorruptSnapshot(f"the snapshot is of kind {found.name.lower()}; {kind.name.lower()} was expected")
    if data[HEAD_BYTES - 1] != version:
        raise CorruptSnapshot(
            f"the snapshot of kind {kind.name.lower()} has version {data[HEAD_BYTES - 1]}; this program knows version {version}"
        )
    return data[HEAD_BYTES:]


def fields(layout: struct.Struct, content: bytes) -> tuple[int, ...]:
    """Return the integers at the beginning of a body. CorruptSnapshot where it is too short for them."""
    if len(content) < layout.size:
        raise CorruptSnapshot(f"the snapshot ends after {len(content)} of {layout.size} bytes of parameters")
    return layout.unpack_from(content)


def check_length(content: bytes, right: int) -> None:
    """Refuse (CorruptSnapshot) a body whose length is not what its parameters say."""
    if len(content) != right:
        raise CorruptSnapshot(
            f"the snapshot has {len(content):,} bytes behind its head; its parameters make it {right:,}"
        )


def column_bytes(column: array[int] | array[float]) -> bytes:
    """Return a column of 8-byte numbers as little-endian bytes."""
    if _SWAP:
        column = column[:]
        column.byteswap()
    return column.tobytes()


def packed(numbers: Sequence[float]) -> bytes:
    """Return numbers as IEEE 754 numbers of 64 bits, little-endian."""
    return column_bytes(array("d", numbers))


def integers(raw: bytes) -> array[int]:
    """Return the column of 64-bit integers without sign that little-endian bytes hold."""
    column = array("Q", raw)
    if _SWAP:
        column.byteswap()
    return column


def floats(raw: bytes) -> array[float]:
    """Return the column of IEEE 754 numbers of 64 bits that little-endian bytes hold."""
    column = array("d", raw)
    if _SWAP:
        column.byteswap()
    return column
