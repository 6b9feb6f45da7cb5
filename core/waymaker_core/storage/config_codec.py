"""Configurations, and the rare records that carry them, as CBOR lists in a fixed order of fields.

A list is read back only if every entry has its type and encoding it again gives the same bytes, so that nothing is
guessed from a damaged or foreign one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import cbor2

from waymaker_core.model.config import (
    ConsumerConfig,
    DeliveryPolicy,
    OnDrop,
    Retention,
    SourceConfig,
    StreamConfig,
    SubjectTransform,
)
from waymaker_core.model.records import (
    AuthorityOpened,
    ConsumerCreated,
    ConsumerDeleted,
    EpochRecord,
    ImportEnded,
    MembersRecord,
    ReturnWished,
    SettingsRecord,
    StreamCreated,
    StreamDeleted,
    StreamOpened,
    StreamPinned,
    StreamsClaimed,
    StreamUpdated,
)
from waymaker_core.raft.members import decode_members, encode_members
from waymaker_core.storage.errors import CorruptRecord

FIELDS_1 = 9
"""Settings of a consumer in version 1 of its record."""
REPLICAS_MAX: Final = 16
"""Replicas that a claim names at most."""

ConfigRecord = (
    ConsumerCreated
    | ConsumerDeleted
    | SettingsRecord
    | ImportEnded
    | EpochRecord
    | StreamCreated
    | StreamDeleted
    | StreamUpdated
    | StreamOpened
    | MembersRecord
    | StreamsClaimed
    | AuthorityOpened
    | StreamPinned
    | ReturnWished
)

# ---------------------------------------------------------------- plain values


def encode_plain(value: object) -> bytes:
    """Encode plain values (lists, tuples, dicts, integers, text, bytes, booleans, None) as CBOR."""
    return cbor2.dumps(value)


BYTES, TEXT, ARRAY = 2, 3, 4
"""Kinds of values whose length stands before them, as CBOR numbers them."""


def plain_head(kind: int, length: int) -> bytes:
    """Encode what stands before a value of this kind and length, for one that is encoded in pieces."""
    for code, size in ((24, 1), (25, 2), (26, 4)):
        if length < 24:
            return bytes([kind << 5 | length])
        if length < 1 << 8 * size:
            return bytes([kind << 5 | code]) + length.to_bytes(size, "big")
    return bytes([kind << 5 | 27]) + length.to_bytes(8, "big")


def decode_plain(data: bytes) -> object:
    """Decode plain values from CBOR; `CorruptRecord` where there are none. Bytes behind the value are the caller's to judge."""
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as problem:
        raise CorruptRecord(f"not CBOR: {problem}") from problem
    return value


def _fields(meta: bytes, kinds: tuple[type, ...]) -> list[object]:
    """Return a list whose entries have exactly these types."""
    value = decode_plain(meta)
    if not isinstance(value, list) or len(value) != len(kinds):
        raise CorruptRecord(f"not a list of {len(kinds)} fields")
    for entry, kind in zip(value, kinds, strict=True):
        if type(entry) is not kind:
            raise CorruptRecord(f"a {type(entry).__name__} where a {kind.__name__} belongs")
        if isinstance(entry, int) and not 0 <= entry < 1 << 64:
            raise CorruptRecord("a number out of range")
    try:
        again = cbor2.dumps(value)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as problem:
        raise CorruptRecord(f"not plain values: {problem}") from problem
    if again != meta:
        raise CorruptRecord("not the shortest encoding")
    return value


# ---------------------------------------------------------------- configurations


def stream_config_list(config: StreamConfig) -> list[object]:
    """Encode a stream's settings as a list of plain values; those of a service, and sources, follow where there are any."""
    return [
        config.name,
        list(config.subjects_filter),
        config.retention.value,
        config.max_age_ms,
        config.max_msgs,
        config.max_bytes,
        config.strict_limits,
        config.block_size,
        config.max_msg_bytes,
        config.ephemeral,
        config.max_msgs_per_subject,
        *([config.service_settings] if config.service_settings else []),
        *([[_source_list(source) for source in config.sources]] if config.sources else []),
    ]


def _source_list(source: SourceConfig) -> list[object]:
    return [
        source.source_stream,
        source.filter_subject,
        source.start_seq,
        None if source.subject_transform is None else list(source.subject_transform),
        source.max_initial_backfill,
        source.on_drop.value,
        source.dlq_stream,
    ]


def stream_config(value: object) -> StreamConfig:
    """Decode a stream's settings from such a list."""
    """Decode a stream's settings from such a list."""
    if not isinstance(value, list):
        raise CorruptRecord("not a stream's settings")
    rest_types = tuple(map(type, value[len(_STREAM_CONFIG) :]))
    if tuple(map(type, value[: len(_STREAM_CONFIG)])) != _STREAM_CONFIG or rest_types not in (
        (),
        (bytes,),
        (list,),
        (bytes, list),
    ):
        raise CorruptRecord("not a stream's settings")
    (
        name, subjects, retention, max_age_ms, max_msgs, max_bytes, strict, block_size, max_msg_bytes, ephemeral, per_subject,
        *more,
    ) = value  # fmt: skip
    if not all(more):
        raise CorruptRecord("settings of a service, or sources, that are empty")
    service_settings = more.pop(0) if rest_types[:1] == (bytes,) else b""
    sources = tuple(map(_source, more[0])) if more else ()
    if not all(isinstance(subject, str) for subject in subjects):
        raise CorruptRecord("a subject that is not text")
    if min(max_age_ms, max_msgs, max_bytes, block_size, max_msg_bytes, per_subject) < 0:
        raise CorruptRecord("a negative bound")
    try:
        return StreamConfig(
            name, tuple(subjects), Retention(retention), max_age_ms, max_msgs, max_bytes, strict, block_size, max_msg_bytes,
            ephemeral, per_subject, service_settings, sources,
        )  # fmt: skip
    except ValueError as problem:
        raise CorruptRecord(str(problem)) from problem


def _source(value: object) -> SourceConfig:
    match value:
        case [
            str(stream), str(subject), int(start_seq), transform, int(backfill), int(on_drop), str(dlq),
        ] if (
            (transform is None or isinstance(transform, list))
            and min(start_seq, backfill) >= 0
            and bool not in map(type, value)
        ):  # fmt: skip
            rule = None if transform is None else _transform(transform)
            return SourceConfig(stream, subject, start_seq, 0, rule, backfill, OnDrop(on_drop), dlq)
    raise CorruptRecord("not a source")


def _transform(value: list[object]) -> SubjectTransform:
    match value:
        case [str(pattern), str(destination)]:
            return SubjectTransform(pattern, destination)
    raise CorruptRecord("not a subject transform")


_STREAM_CONFIG: Final = (str, list, int, int, int, int, bool, int, int, bool, int)


def consumer_config_list(config: ConsumerConfig) -> list[object]:
    """Encode a consumer's settings as a list of plain values."""
    return [
        config.name,
        config.filter_subject,
        config.policy.value,
        config.start_seq,
        config.start_time_ms,
        config.ack_wait_ms,
        config.max_deliver,
        config.deliver_group,
        config.dead_letter_subject,
        config.inactive_ms,
    ]


def consumer_config(value: list[object]) -> ConsumerConfig:
    """Decode a consumer's settings; a record of version 1 has one entry less: it had no inactivity timeout."""
    match value if len(value) > FIELDS_1 else [*value, 0]:
        case [
            str(name), str(subject), int(policy), int(start_seq), int(start_time_ms), int(ack_wait_ms), int(max_deliver),
            str(group), str(dead_letters), int(inactive_ms),
        ] if inactive_ms >= 0:  # fmt: skip
            try:
                return ConsumerConfig(
                    name, subject, DeliveryPolicy(policy), start_seq, start_time_ms, ack_wait_ms, max_deliver, group,
                    dead_letters, inactive_ms,
                )  # fmt: skip
            except ValueError as problem:
                raise CorruptRecord(str(problem)) from problem
        case _:
            raise CorruptRecord("not a consumer's settings")


# ---------------------------------------------------------------- records


def encode_record(record: ConfigRecord) -> bytes:
    """Encode the meta part of a record that carries settings, or deletes a stream or consumer."""
    match record:
        case ConsumerCreated():
            config = consumer_config_list(record.config)
            return cbor2.dumps([record.consumer_id, config, record.start_seq, record.created_ms])
        case ConsumerDeleted():
            return cbor2.dumps([record.consumer_id])
        case SettingsRecord():
            return cbor2.dumps(stream_config_list(record.config))
        case ImportEnded():
            return cbor2.dumps([record.last_seq])
        case EpochRecord():
            return cbor2.dumps([record.epoch])
        case StreamCreated():
            config = stream_config_list(record.config)
            fields = [record.stream_id, config, record.created_ms, record.importing, record.last_seq]
            return cbor2.dumps([*fields, record.replaces] if record.replaces else fields)
        case StreamUpdated():
            return cbor2.dumps([record.stream_id, stream_config_list(record.config)])
        case StreamOpened():
            return cbor2.dumps([record.stream_id, record.last_seq])
        case StreamDeleted():
            return cbor2.dumps([record.stream_id])
        case MembersRecord():
            return cbor2.dumps([record.data])
        case StreamsClaimed():
            return cbor2.dumps(_claim_columns(record))
        case AuthorityOpened():
            return cbor2.dumps([record.stream_ids, record.epochs])
        case StreamPinned():
            return cbor2.dumps([record.stream_id, record.pinned])
        case ReturnWished():
            return cbor2.dumps([record.stream_id, record.node_id])


def decode_consumer_created(meta: bytes) -> ConsumerCreated:
    """See `encode_record`; raises `CorruptRecord`, as all of these do."""
    return _consumer_created(meta, FIELDS_1 + 1)


def decode_consumer_created_1(meta: bytes) -> ConsumerCreated:
    """Decode version 1: settings without an inactivity timeout."""
    return _consumer_created(meta, FIELDS_1)


def _consumer_created(meta: bytes, settings: int) -> ConsumerCreated:
    consumer_id, config, start_seq, created_ms = _fields(meta, (int, list, int, int))
    assert isinstance(config, list)
    if len(config) != settings:
        raise CorruptRecord(f"not the {settings} settings of a consumer")
    assert isinstance(consumer_id, int) and isinstance(start_seq, int) and isinstance(created_ms, int)
    return ConsumerCreated(consumer_id, consumer_config(config), start_seq, created_ms)


def decode_consumer_deleted(meta: bytes) -> ConsumerDeleted:
    """See `encode_record`."""
    return ConsumerDeleted(*_integers(meta, 1))


def decode_settings(meta: bytes) -> SettingsRecord:
    """See `encode_record`."""
    record = SettingsRecord(stream_config(decode_plain(meta)))
    if encode_record(record) != meta:
        raise CorruptRecord("not the shortest encoding")
    return record


def decode_import_ended(meta: bytes) -> ImportEnded:
    """See `encode_record`."""
    return ImportEnded(*_integers(meta, 1))


def decode_epoch(meta: bytes) -> EpochRecord:
    """See `encode_record`."""
    return EpochRecord(*_integers(meta, 1))


def decode_stream_created(meta: bytes) -> StreamCreated:
    """Decode version 1: a creation that replaces no other stream."""
    return _stream_created(_fields(meta, (int, list, int, bool, int)), 0)


def decode_stream_created_2(meta: bytes) -> StreamCreated:
    """Decode version 2: a creation that replaces another stream."""
    *fields, replaces = _fields(meta, (int, list, int, bool, int, int))
    assert isinstance(replaces, int)
    if replaces == 0:
        raise CorruptRecord("a creation that replaces a stream, and does not say which")
    return _stream_created(fields, replaces)


def _stream_created(fields: Sequence[object], replaces: int) -> StreamCreated:
    stream_id, config, created_ms, importing, last_seq = fields
    assert isinstance(stream_id, int) and isinstance(created_ms, int)
    assert isinstance(importing, bool) and isinstance(last_seq, int)
    return StreamCreated(stream_id, stream_config(config), created_ms, importing, last_seq, replaces)


def decode_stream_deleted(meta: bytes) -> StreamDeleted:
    """See `encode_record`."""
    return StreamDeleted(*_integers(meta, 1))


def decode_stream_updated(meta: bytes) -> StreamUpdated:
    """See `encode_record`."""
    stream_id, config = _fields(meta, (int, list))
    assert isinstance(stream_id, int)
    return StreamUpdated(stream_id, stream_config(config))


def decode_stream_opened(meta: bytes) -> StreamOpened:
    """See `encode_record`."""
    return StreamOpened(*_integers(meta, 2))


def decode_members_record(meta: bytes) -> MembersRecord:
    """See `encode_record`; ValueError too, where the group would not know its members."""
    (data,) = _fields(meta, (bytes,))
    assert isinstance(data, bytes)
    check_members(data)
    return MembersRecord(data)


def check_members(data: bytes) -> None:
    """Raise ValueError where bytes are not a set of members as the consensus group encodes one."""
    if encode_members(decode_members(data)) != data:
        raise CorruptRecord("members that are not in their shortest encoding")


def _claim_columns(record: StreamsClaimed) -> list[object]:
    """Return streams, primaries, and numbers of sets of replicas; then the sets, in the order in which they are first named."""
    numbers: dict[tuple[int, ...], int] = {}
    of_streams = [numbers.setdefault(tuple(nodes), len(numbers)) for nodes in record.replicas]
    return [record.stream_ids, record.primaries, of_streams, list(map(list, numbers))]


def decode_streams_claimed(meta: bytes) -> StreamsClaimed:
    """See `encode_record`."""
    ids, primaries, of_streams, sets = _fields(meta, (list, list, list, list))
    stream_ids = _stream_ids(ids)
    nodes, numbers = _column(primaries, len(stream_ids)), _column(of_streams, len(stream_ids))
    assert isinstance(sets, list)
    if any(number >= len(sets) for number in numbers):
        raise CorruptRecord("a set of replicas that is not there")
    replicas = [
        list(check_replicas(primary, sets[number])) for primary, number in zip(nodes, numbers, strict=True)
    ]  # fmt: skip
    record = StreamsClaimed(stream_ids, nodes, replicas)
    if _claim_columns(record) != [ids, primaries, of_streams, sets]:
        raise CorruptRecord("sets of replicas that are not in the order of their streams")
    return record


def _stream_ids(value: object) -> list[int]:
    """Return the column of streams that a record names: at least one, each once, in ascending order."""
    stream_ids = _column(value)
    if not stream_ids or any(second <= first for first, second in pairwise(stream_ids)):
        raise CorruptRecord("streams that are not in ascending order, or none")
    return stream_ids


def _column(value: object, length: int | None = None) -> list[int]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise CorruptRecord("not a column of that length")
    if any(type(number) is not int or not 0 <= number < 1 << 64 for number in value):
        raise CorruptRecord("not a number in a column")
    return value


def check_replicas(primary: int, value: object) -> list[int]:
    """Return the nodes that a claim names; `CorruptRecord` where these are none, or not those of its primary."""
    if not isinstance(value, list) or not 0 < len(value) <= REPLICAS_MAX:
        raise CorruptRecord("not the replicas of a claim")
    nodes = [node for node in value if type(node) is int and 0 < node < 1 << 64]
    if len(dict.fromkeys(nodes)) != len(value):
        raise CorruptRecord("a replica that is no node, or is named twice")
    if primary not in nodes:
        raise CorruptRecord("a primary that is no replica")
    return nodes


def decode_authority_opened(meta: bytes) -> AuthorityOpened:
    """See `encode_record`."""
    ids, epochs = _fields(meta, (list, list))
    stream_ids = _stream_ids(ids)
    return AuthorityOpened(stream_ids, _column(epochs, len(stream_ids)))


def decode_stream_pinned(meta: bytes) -> StreamPinned:
    """See `encode_record`."""
    stream_id, pinned = _fields(meta, (int, bool))
    assert isinstance(stream_id, int) and isinstance(pinned, bool)
    return StreamPinned(stream_id, pinned)


def decode_return_wished(meta: bytes) -> ReturnWished:
    """See `encode_record`."""
    record = ReturnWished(*_integers(meta, 2))
    if not 0 < record.node_id < 1 << 64:
        raise CorruptRecord("a return to no node")
    return record


def _integers(meta: bytes, count: int) -> list[int]:
    return [entry for entry in _fields(meta, (int,) * count) if isinstance(entry, int)]
