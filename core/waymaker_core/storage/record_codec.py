"""Records as bytes. The one codec: replay, replicas and tools read what it wrote.

`encode(record)` gives the meta part of a frame; the kind and version travel in the frame's header. Columns are raw arrays,
so that a batch costs a few copies; a column with one value throughout (the time of a batch, the size of a uniform load) is
stored once. What is rare (configurations) is CBOR.

A record's version is raised with its layout; old versions stay readable. Only `CorruptRecord` and `UnknownVersion` leave
`decode`, whatever the bytes are.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from struct import Struct, error
from typing import Final

from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.records import (
    AckRecord,
    AuthorityOpened,
    ConsumerCreated,
    ConsumerDeleted,
    DeliveredRecord,
    DropRecord,
    EpochRecord,
    ImportEnded,
    LayerRecord,
    Listed,
    MembersRecord,
    ProducerSpan,
    PruneRecord,
    PublishRecord,
    Record,
    ReturnWished,
    SettingsRecord,
    StreamCreated,
    StreamDeleted,
    StreamOpened,
    StreamPinned,
    StreamsClaimed,
    StreamUpdated,
    appended,
)
from waymaker_core.storage import config_codec
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

VERSION: Final = 1
"""The version that `encode` writes, of every kind but those in `_NEWER`; a prune that corrects the clock, a
publish with numbers of producers, and a creation that replaces a stream are of version 2."""
_NEWER: Final[dict[int, int]] = {ConsumerCreated.KIND: 2, DeliveredRecord.KIND: 2}

_LITTLE_ENDIAN: Final = array("H", [1]).tobytes() == b"\x01\x00"
assert array("I").itemsize == 4 and array("Q").itemsize == 8 and array("H").itemsize == 2

# ---------------------------------------------------------------- columns


def _raw(column: array[int], typecode: str) -> bytes:
    """Encode a column as little-endian bytes of the given item type (OverflowError where a value does not fit)."""
    if column.typecode != typecode:
        column = array(typecode, column)
    if not _LITTLE_ENDIAN:
        column = column[:]
        column.byteswap()
    return column.tobytes()


_ENTRY_BYTES: Final = {typecode: array(typecode).itemsize for typecode in "BHIQqd"}


class _Cursor:
    """A decoder's place in the bytes."""

    __slots__ = ("data", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def fields(self, layout: Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return values

    def column(self, typecode: str, count: int, constant: bool = False) -> array[int]:
        """Read a column of `count` entries; with `constant` only one value is stored."""
        entry_bytes = _ENTRY_BYTES[typecode]
        size = entry_bytes if constant else entry_bytes * count
        raw = self.data[self.at : self.at + size]
        if len(raw) != size:
            raise CorruptRecord("a column runs past the end")
        self.at += size
        column = array(typecode, raw * count if constant and count != 1 else raw)
        if not _LITTLE_ENDIAN:
            column.byteswap()
        return column

    def take(self, size: int) -> bytes:
        raw = self.data[self.at : self.at + size]
        if len(raw) != size:
            raise CorruptRecord("a part runs past the end")
        self.at += size
        return raw

    def finish(self) -> None:
        if self.at != len(self.data):
            raise CorruptRecord(f"{len(self.data) - self.at} bytes too many")


def _drops(seqs: array[int], sizes: array[int]) -> bytes:
    if len(seqs) != len(sizes):
        raise ValueError("a drop needs its size")
    return _COUNT.pack(len(seqs)) + _raw(seqs, "Q") + _raw(sizes, "Q")


def _read_drops(cursor: _Cursor) -> tuple[array[int], array[int]]:
    (count,) = cursor.fields(_COUNT)
    if not count:
        return array("Q"), array("Q")
    return cursor.column("Q", count), cursor.column("Q", count)


_COUNT: Final = Struct("<I")

# ---------------------------------------------------------------- publish

COUNT_MAX: Final = 1 << 20
"""Messages in one record, at most: keeps a damaged count from becoming endless columns."""

_PUBLISH: Final = Struct("<QIIH")
"""First sequence, messages, distinct subjects, flags."""
_U64: Final = Struct("<Q")

_TIME_CONSTANT: Final = 1
_SIZE_CONSTANT: Final = 2
_LENGTH_CONSTANT: Final = 4
_SEQS: Final = 8
_SUBJECT_IDS: Final = 16
"""Each message has a subject id; else all have the only subject, or message i has subject i."""
_TRUNCATE: Final = 32
_DROPS: Final = 64
_RESERVED: Final = 128
_CLOCK: Final = 256
_FLAGS_KNOWN: Final = 511
_SPANS: Final = 512
"""Version 2: producers numbered messages."""
_FLAGS_KNOWN_2: Final = 1023


def _id_type(subject_count: int) -> str:
    """Return the narrowest item type that holds the ids of so many subjects."""
    return "B" if subject_count <= 1 << 8 else "H" if subject_count <= 1 << 16 else "I"


def _column_or_constant(raw: bytes, width: int) -> tuple[bytes, bool]:
    """Write one value instead of a column of equal ones."""
    first = raw[:width]
    if len(raw) > width and raw == first * (len(raw) // width):
        return first, True
    return raw, False


def _encode_publish(record: PublishRecord) -> bytes:
    subjects = record.subjects
    count = len(subjects)
    if not len(record.times_ms) == len(record.sizes) == len(record.lengths) == count:
        raise ValueError("columns of a publish record differ in length")
    if count > COUNT_MAX:
        raise ValueError(f"more than {COUNT_MAX} messages in one record")
    flags = 0
    times, constant = _column_or_constant(_raw(record.times_ms, "q"), 8)
    if constant:
        flags |= _TIME_CONSTANT
    sizes, constant = _column_or_constant(_raw(record.sizes, "I"), 4)
    if constant:
        flags |= _SIZE_CONSTANT
    lengths, constant = _column_or_constant(_raw(record.lengths, "I"), 4)
    if constant:
        flags |= _LENGTH_CONSTANT
    parts = [b"", times, sizes, lengths]
    if record.seqs is not None:
        if len(record.seqs) != count:
            raise ValueError("columns of a publish record differ in length")
        flags |= _SEQS
        parts.append(_raw(record.seqs, "Q"))
    table = list(dict.fromkeys(subjects))
    if 1 < len(table) < count:
        flags |= _SUBJECT_IDS
        ids = dict(zip(table, range(len(table)), strict=True))
        parts.append(_raw(array(_id_type(len(table)), [ids[subject] for subject in subjects]), _id_type(len(table))))
    if record.truncate_to:
        flags |= _TRUNCATE
        parts.append(_U64.pack(record.truncate_to))
    if record.drop_seqs or record.drop_sizes:
        flags |= _DROPS
        parts.append(_drops(record.drop_seqs, record.drop_sizes))
    if record.reserved_to:
        flags |= _RESERVED
        parts.append(_U64.pack(record.reserved_to))
    if record.clock_ms:
        flags |= _CLOCK
        parts.append(_U64.pack(record.clock_ms))
    if record.spans:
        flags |= _SPANS
        parts.append(_encode_spans(record.spans))
    text = "\0".join(table).encode()
    if text.count(0) != max(0, len(table) - 1):
        raise ValueError("a subject holds a NUL")
    parts.append(text)
    parts[0] = _PUBLISH.pack(record.first_seq, count, len(table), flags)
    return b"".join(parts)


def _encode_spans(spans: list[ProducerSpan]) -> bytes:
    columns = zip("QIQII", zip(*spans, strict=True), strict=True)
    return b"".join([_COUNT.pack(len(spans)), *(_raw(array(code, column), code) for code, column in columns)])


def _read_spans(cursor: _Cursor, messages: int) -> list[ProducerSpan]:
    (count,) = cursor.fields(_COUNT)
    if not 0 < count <= messages:
        raise CorruptRecord(f"{count} spans of producers in {messages} messages")
    columns = [cursor.column(code, count) for code in "QIQII"]
    spans = list(map(ProducerSpan, *columns))
    end = 0
    for span in spans:
        if span.start < end or not span.length or not span.producer_id or not 0 < span.first_number <= SEQ_MAX:
            raise CorruptRecord("a span of a producer that is none")
        end = span.start + span.length
    if end > messages:
        raise CorruptRecord("a span of a producer runs past the messages")
    return spans


def _decode_publish_2(meta: bytes) -> PublishRecord:
    return _decode_publish(meta, _FLAGS_KNOWN_2)


def _decode_publish(meta: bytes, known: int = _FLAGS_KNOWN) -> PublishRecord:
    cursor = _Cursor(meta)
    first_seq, count, subject_count, flags = cursor.fields(_PUBLISH)
    if flags & ~known:
        raise CorruptRecord(f"unknown flags {flags:#x}")
    if count > len(meta) and not flags & _TIME_CONSTANT:
        raise CorruptRecord("more messages than bytes")
    if subject_count > count or (count > 0) != (subject_count > 0):
        raise CorruptRecord("more subjects than messages")
    if not flags & _SUBJECT_IDS and subject_count not in (1, count):
        raise CorruptRecord("messages without a subject")
    if count > COUNT_MAX:
        raise CorruptRecord(f"{count} messages in one record")
    times_ms = cursor.column("q", count, flags & _TIME_CONSTANT != 0)
    sizes = cursor.column("I", count, flags & _SIZE_CONSTANT != 0)
    lengths = cursor.column("I", count, flags & _LENGTH_CONSTANT != 0)
    seqs = cursor.column("Q", count) if flags & _SEQS else None
    ids = cursor.column(_id_type(subject_count), count) if flags & _SUBJECT_IDS else None
    record = PublishRecord(first_seq, times_ms, sizes, lengths, [], seqs)
    if flags & _TRUNCATE:
        (record.truncate_to,) = cursor.fields(_U64)
    if flags & _DROPS:
        record.drop_seqs, record.drop_sizes = _read_drops(cursor)
    if flags & _RESERVED:
        (record.reserved_to,) = cursor.fields(_U64)
    if flags & _CLOCK:
        (record.clock_ms,) = cursor.fields(_U64)
    if flags & _SPANS:
        record.spans = _read_spans(cursor, count)
    record.subjects = _subjects(meta[cursor.at :], count, subject_count, ids)
    return record


def _subjects(text: bytes, count: int, subject_count: int, ids: array[int] | None) -> list[str]:
    """Decode the subjects column from the table at the end of a publish record."""
    table = text.decode().split("\0") if subject_count else []
    if len(table) != subject_count or (text and not subject_count):
        raise CorruptRecord("the subject table does not have its length")
    if ids is not None:
        return list(map(table.__getitem__, ids))
    return table * count if subject_count == 1 else table


# ---------------------------------------------------------------- the other records of a stream

_PRUNE: Final = Struct("<Q")
_PRUNE_2: Final = Struct("<QQ")
"""The same with the server time that the stream is taken back to."""
_ACK: Final = Struct("<QBI")
_DROP: Final = Struct("<QIBI")
_LAYER: Final = Struct("<BIB")
"""Messages, their length, facts."""
_FACT: Final = Struct("<BI")
_DELIVERED_1: Final = Struct("<QQQQI")
_DELIVERED: Final = Struct("<QQQQQII")
"""Consumer, considered, last delivered, dropped, uncertain to, entries, sequences."""


def _encode_prune(record: PruneRecord) -> bytes:
    drops = _drops(record.drop_seqs, record.drop_sizes)
    if record.clock_ms:
        return _PRUNE_2.pack(record.truncate_to, record.clock_ms) + drops
    return _PRUNE.pack(record.truncate_to) + drops


def _decode_prune(meta: bytes) -> PruneRecord:
    cursor = _Cursor(meta)
    (truncate_to,) = cursor.fields(_PRUNE)
    record = PruneRecord(truncate_to, *_read_drops(cursor))
    cursor.finish()
    return record


def _decode_prune_2(meta: bytes) -> PruneRecord:
    cursor = _Cursor(meta)
    truncate_to, clock_ms = cursor.fields(_PRUNE_2)
    record = PruneRecord(truncate_to, *_read_drops(cursor), clock_ms=clock_ms)
    cursor.finish()
    return record


def _encode_ack(record: AckRecord) -> bytes:
    head = _ACK.pack(record.consumer_id, record.term, len(record.seqs))
    return b"".join((head, _raw(record.seqs, "Q"), _drops(record.drop_seqs, record.drop_sizes)))


def _decode_ack(meta: bytes) -> AckRecord:
    cursor = _Cursor(meta)
    consumer_id, term, count = cursor.fields(_ACK)
    record = AckRecord(consumer_id, _flag(term), cursor.column("Q", count), *_read_drops(cursor))
    cursor.finish()
    return record


def _encode_drop(record: DropRecord) -> bytes:
    copies = b"" if record.copies is None else _encode_publish(record.copies)
    head = _DROP.pack(record.consumer_id, len(record.seqs), record.copies is not None, len(copies))
    return b"".join((head, _raw(record.seqs, "Q"), _drops(record.drop_seqs, record.drop_sizes), copies))


def _decode_drop(meta: bytes) -> DropRecord:
    cursor = _Cursor(meta)
    consumer_id, count, has_copies, copies_length = cursor.fields(_DROP)
    seqs = cursor.column("Q", count)
    drop_seqs, drop_sizes = _read_drops(cursor)
    raw = cursor.take(copies_length)
    cursor.finish()
    if not _flag(has_copies) and raw:
        raise CorruptRecord("copies of nothing")
    return DropRecord(consumer_id, seqs, _decode_publish(raw) if has_copies else None, drop_seqs, drop_sizes)


def _encode_layer(record: LayerRecord) -> bytes:
    messages = b"" if record.messages is None else _encode_publish(record.messages)
    kinds = [kind for kind, _ in record.facts]
    if kinds != sorted(set(kinds)):
        raise ValueError("facts are in the order of their kinds, one of each")
    facts = [_FACT.pack(kind, len(fact)) + fact for kind, fact in record.facts]
    head = _LAYER.pack(record.messages is not None, len(messages), len(facts))
    return b"".join((head, messages, _drops(record.drop_seqs, record.drop_sizes), *facts))


def _decode_layer(meta: bytes) -> LayerRecord:
    cursor = _Cursor(meta)
    has_messages, length, count = cursor.fields(_LAYER)
    raw = cursor.take(length)
    if not _flag(has_messages) and raw:
        raise CorruptRecord("messages of nothing")
    messages = _decode_publish_2(raw) if has_messages else None
    drop_seqs, drop_sizes = _read_drops(cursor)
    facts: list[tuple[int, bytes]] = []
    for _ in range(count):
        kind, size = cursor.fields(_FACT)
        if facts and kind <= facts[-1][0]:
            raise CorruptRecord("facts that are not in the order of their kinds")
        facts.append((kind, cursor.take(size)))
    cursor.finish()
    return LayerRecord(messages, drop_seqs, drop_sizes, facts)


def _encode_delivered(record: DeliveredRecord) -> bytes:
    listed = record.listed
    head = _DELIVERED.pack(
        record.consumer_id, record.scanned_to, record.last_delivered, record.dropped, record.uncertain_to,
        len(listed), sum(len(each.seqs) for each in listed),
    )  # fmt: skip
    columns = (
        _raw(array("I", [len(each.seqs) for each in listed]), "I"),
        _raw(array("I", [each.deliver_count for each in listed]), "I"),
        _raw(array("q", [each.deadline_ms for each in listed]), "q"),
        _raw(array("q", [each.rest_ms for each in listed]), "q"),
        bytes(each.holding for each in listed),
    )
    return b"".join((head, *columns, *(_raw(each.seqs, "Q") for each in listed)))


def _decode_delivered(meta: bytes) -> DeliveredRecord:
    cursor = _Cursor(meta)
    consumer_id, scanned_to, last_delivered, dropped, uncertain_to, count, total = cursor.fields(_DELIVERED)
    lengths, counts = cursor.column("I", count), cursor.column("I", count)
    deadlines_ms, rests_ms = cursor.column("q", count), cursor.column("q", count)
    holding = cursor.take(count)
    if sum(lengths) != total:
        raise CorruptRecord("entries and their sequences differ in number")
    listed = [
        Listed(counts[index], cursor.column("Q", lengths[index]), deadlines_ms[index], rests_ms[index], _flag(flag))
        for index, flag in enumerate(holding)
    ]
    cursor.finish()
    return DeliveredRecord(consumer_id, scanned_to, last_delivered, dropped, uncertain_to, listed)


def _decode_delivered_1(meta: bytes) -> DeliveredRecord:
    """Decode version 1: a count beside each sequence, and no deadlines."""
    cursor = _Cursor(meta)
    consumer_id, scanned_to, last_delivered, dropped, count = cursor.fields(_DELIVERED_1)
    seqs, counts = cursor.column("Q", count), cursor.column("I", count)
    cursor.finish()
    by_count: dict[int, list[int]] = {}
    for seq, deliver_count in zip(seqs, counts, strict=True):
        by_count.setdefault(deliver_count, []).append(seq)
    listed = [Listed(each, array("Q", sorted(by_count[each]))) for each in sorted(by_count)]
    return DeliveredRecord(consumer_id, scanned_to, last_delivered, dropped, 0, listed)


def _flag(value: int) -> bool:
    if value > 1:
        raise CorruptRecord("a flag that is neither 0 nor 1")
    return value == 1


# ---------------------------------------------------------------- the door


def encode(record: Record) -> bytes:
    """Encode the meta part of a record. ValueError where its columns disagree in length (a bug of the caller)."""
    if isinstance(record, PublishRecord):
        return _encode_publish(record)
    if isinstance(record, AckRecord):
        return _encode_ack(record)
    if isinstance(record, DeliveredRecord):
        return _encode_delivered(record)
    if isinstance(record, DropRecord):
        return _encode_drop(record)
    if isinstance(record, PruneRecord):
        return _encode_prune(record)
    if isinstance(record, LayerRecord):
        return _encode_layer(record)
    return config_codec.encode_record(record)


def version_of(record: Record) -> int:
    """Return the version that `encode` writes of a record's kind."""
    if (type(record) is PruneRecord and record.clock_ms) or (type(record) is PublishRecord and record.spans):
        return 2
    if type(record) is StreamCreated and record.replaces:
        return 2
    return _NEWER.get(record.KIND, VERSION)


_DECODERS: Final[dict[int, tuple[Callable[[bytes], Record], ...]]] = {
    # kind -> decoders of version 1, 2, ...
    PublishRecord.KIND: (_decode_publish, _decode_publish_2),
    PruneRecord.KIND: (_decode_prune, _decode_prune_2),
    ConsumerCreated.KIND: (config_codec.decode_consumer_created_1, config_codec.decode_consumer_created),
    ConsumerDeleted.KIND: (config_codec.decode_consumer_deleted,),
    AckRecord.KIND: (_decode_ack,),
    DropRecord.KIND: (_decode_drop,),
    DeliveredRecord.KIND: (_decode_delivered_1, _decode_delivered),
    SettingsRecord.KIND: (config_codec.decode_settings,),
    ImportEnded.KIND: (config_codec.decode_import_ended,),
    LayerRecord.KIND: (_decode_layer,),
    EpochRecord.KIND: (config_codec.decode_epoch,),
    StreamCreated.KIND: (config_codec.decode_stream_created, config_codec.decode_stream_created_2),
    StreamDeleted.KIND: (config_codec.decode_stream_deleted,),
    StreamUpdated.KIND: (config_codec.decode_stream_updated,),
    StreamOpened.KIND: (config_codec.decode_stream_opened,),
    MembersRecord.KIND: (config_codec.decode_members_record,),
    StreamsClaimed.KIND: (config_codec.decode_streams_claimed,),
    AuthorityOpened.KIND: (config_codec.decode_authority_opened,),
    StreamPinned.KIND: (config_codec.decode_stream_pinned,),
    ReturnWished.KIND: (config_codec.decode_return_wished,),
}


def decode(kind: int, version: int, meta: bytes) -> Record:
    """Decode the record of a kind from its meta part. `CorruptRecord`, or `UnknownVersion` for a kind or version to come."""
    decoders = _DECODERS.get(kind)
    if decoders is None:
        raise UnknownVersion("record kind", kind, max(_DECODERS))
    if not 1 <= version <= len(decoders):
        raise UnknownVersion(f"a record of kind {kind}", version, len(decoders))
    try:
        return decoders[version - 1](meta)
    except CorruptRecord:
        raise
    except (error, ValueError, IndexError, OverflowError) as problem:
        raise CorruptRecord(f"a record of kind {kind}: {problem}") from problem


def body_bytes(record: Record) -> int:
    """Return the bytes of stored bodies that belong to a record: the length of its frame's body."""
    messages = appended(record)
    return 0 if messages is None else sum(messages.lengths)
