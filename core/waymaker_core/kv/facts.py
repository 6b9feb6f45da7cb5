"""Facts of a bucket: which messages of a record are tombstones, and until when a value lives. Bytes, and back.

Entries are places in the record's messages. Names of keys stand as subjects. A snapshot that an archive brought becomes facts
of another form, which name sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

_VERSION: Final = 1

Tombstone = tuple[str, int, int]
"""Subject, sequence, time."""
Expiry = tuple[str, int, int, int]
"""Subject, sequence, wall-clock time of its end, time to live."""


@dataclass(slots=True, eq=False)
class KvFact:
    """`tombstones`: entries. `expiries`: entries with the time of their end and their time to live.

    `touched`: values of earlier records whose time to live is another one now (0: for ever). `purged`: subjects that are
    deleted for good, with their tombstones. `restored`: tombstones and expiries of messages that an import brought.
    """

    tombstones: list[int] = field(default_factory=list)
    expiries: list[tuple[int, int, int]] = field(default_factory=list)
    touched: list[Expiry] = field(default_factory=list)
    purged: list[str] = field(default_factory=list)
    restored_tombstones: list[Tombstone] = field(default_factory=list)
    restored_expiries: list[Expiry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.tombstones
            or self.expiries
            or self.touched
            or self.purged
            or self.restored_tombstones
            or self.restored_expiries
        )


def encode_fact(fact: KvFact) -> bytes:
    """Encode a fact."""
    columns: list[object] = [fact.tombstones, fact.expiries, fact.touched, fact.purged]
    if fact.restored_tombstones or fact.restored_expiries:
        columns += [fact.restored_tombstones, fact.restored_expiries]
    return encode_plain([_VERSION, *columns])


def decode_fact(data: bytes) -> KvFact:
    """Decode a fact. ValueError (`CorruptRecord`, `UnknownVersion`) where it is none."""
    match decode_plain(data):
        case [1, list(tombstones), list(expiries), list(touched), list(purged), *restored] if len(restored) in (0, 2):
            fact = KvFact([_whole(each) for each in tombstones], [_entry(each) for each in expiries])
            fact.touched = [expiry_of(each, ttl_min=0) for each in touched]
            fact.purged = [_text(each) for each in purged]
            if restored:
                fact.restored_tombstones = [tombstone_of(each) for each in _list(restored[0])]
                fact.restored_expiries = [expiry_of(each) for each in _list(restored[1])]
            return fact
        case [int(version), *_] if version > _VERSION:
            raise UnknownVersion("a fact of a bucket", version, _VERSION)
    raise CorruptRecord("not a fact of a bucket")


def tombstone_of(value: object) -> Tombstone:
    """Return a tombstone from plain values; `CorruptRecord` where they are none."""
    match value:
        case [str(subject), int(seq), int(time_ms)] if 0 < seq <= SEQ_MAX and 0 <= time_ms <= SEQ_MAX:
            return _text(subject), seq, time_ms
    raise CorruptRecord("not a tombstone of a bucket")


def expiry_of(value: object, ttl_min: int = 1) -> Expiry:
    """Return a time to live from plain values; `CorruptRecord` where they are none."""
    match value:
        case [str(subject), int(seq), int(deadline_ms), int(ttl_ms)] if (
            0 < seq <= SEQ_MAX and 0 <= deadline_ms <= SEQ_MAX and ttl_min <= ttl_ms <= SEQ_MAX
        ):
            return _text(subject), seq, deadline_ms, ttl_ms
    raise CorruptRecord("not a time to live of a bucket")


def _entry(value: object) -> tuple[int, int, int]:
    match value:
        case [int(entry), int(deadline_ms), int(ttl_ms)] if (
            entry >= 0 and 0 <= deadline_ms <= SEQ_MAX and 0 < ttl_ms <= SEQ_MAX
        ):
            return entry, deadline_ms, ttl_ms
    raise CorruptRecord("not a time to live of a record")


def _whole(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise CorruptRecord("not an entry of a record")
    return value


def _text(value: object) -> str:
    """Return a subject; snapshots join subjects with zero bytes."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise CorruptRecord("not a subject")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise CorruptRecord("not a list of restored keys")
    return value
