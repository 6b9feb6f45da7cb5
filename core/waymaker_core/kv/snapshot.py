"""The snapshot of a bucket's layer: columns of tombstones and of times to live; and the facts that restore it elsewhere."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from waymaker_core.kv.facts import Expiry, KvFact, Tombstone, encode_fact
from waymaker_core.layers.layer import FACT_BYTES_MAX
from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

VERSION: Final = 1
_SWAP: Final = array("H", [1]).tobytes() != b"\x01\x00"
_ENTRY_BYTES: Final = 40
"""More than the numbers of a restored key take in a fact."""

Entry = TypeVar("Entry", Tombstone, Expiry)


def encode_snapshot(tombstones: Sequence[Tombstone], expiries: Sequence[Expiry]) -> object:
    """Encode tombstones and times to live as plain values."""
    return [VERSION, _columns(tombstones, 3), _columns(expiries, 4)]


def decode_snapshot(snapshot: object) -> tuple[list[Tombstone], list[Expiry]]:
    """Decode a snapshot. ValueError (`CorruptRecord`, `UnknownVersion`) where it is none."""
    match snapshot:
        case [1, list(tombstones), list(expiries)]:
            subjects, (seqs, times_ms) = _read(tombstones, 2)
            of_expiries, (expiry_seqs, deadlines_ms, ttls_ms) = _read(expiries, 3)
            if 0 in ttls_ms:
                raise CorruptRecord("a time to live of nothing")
            return (
                list(zip(subjects, seqs, times_ms, strict=True)),
                list(zip(of_expiries, expiry_seqs, deadlines_ms, ttls_ms, strict=True)),
            )
        case [int(version), *_] if version > VERSION:
            raise UnknownVersion("the state of a bucket", version, VERSION)
    raise CorruptRecord("not the state of a bucket")


def facts_of(tombstones: list[Tombstone], expiries: list[Expiry]) -> list[bytes]:
    """Return facts that give an empty layer this state, none of them longer than a fact may be."""
    facts = [encode_fact(KvFact(restored_tombstones=part)) for part in _parts(tombstones)]
    return facts + [encode_fact(KvFact(restored_expiries=part)) for part in _parts(expiries)]


def _parts(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(entry[0].encode()) + _ENTRY_BYTES
        if part and size > FACT_BYTES_MAX // 2:
            yield part
            part, size = [], len(entry[0].encode()) + _ENTRY_BYTES
        part.append(entry)
    if part:
        yield part


def _columns(entries: Sequence[tuple[str, *tuple[int, ...]]], width: int) -> list[object]:
    numbers = [array("Q", [int(entry[place]) for entry in entries]) for place in range(1, width)]
    return ["\0".join(entry[0] for entry in entries), *map(_raw, numbers)]


def _read(columns: list[object], width: int) -> tuple[list[str], list[list[int]]]:
    match columns:
        case [str(text), *raw] if len(raw) == width:
            numbers = [_column(each) for each in raw]
            subjects = text.split("\0") if numbers[0] else []
            if (text and not subjects) or any(len(column) != len(subjects) for column in numbers):
                raise CorruptRecord("columns of a bucket differ in length")
            if 0 in numbers[0] or any(max(column, default=0) > SEQ_MAX for column in numbers):
                raise CorruptRecord("a number of a bucket is out of range")
            return subjects, numbers
    raise CorruptRecord("not columns of a bucket")


def _raw(column: array[int]) -> bytes:
    if _SWAP:
        column.byteswap()
    return column.tobytes()


def _column(data: object) -> list[int]:
    if not isinstance(data, bytes) or len(data) % 8:
        raise CorruptRecord("not a column of a bucket")
    column = array("Q")
    column.frombytes(data)
    if _SWAP:
        column.byteswap()
    return column.tolist()
