"""Requests of the contract from what callers give, and the client's values from its responses.

Settings of streams and consumers are converted in `wire.configs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as Proto

from waymaker.client.checked import flag, text, whole
from waymaker.client.errors import DataLossError, WrongTypeError
from waymaker.client.values import (
    BackupSummary,
    ConsumerInfo,
    Headers,
    ObjectEntry,
    ObjectInfo,
    ObjectRevision,
    RestoreResult,
    ServerInfo,
    SourceStatus,
    StreamInfo,
    WatchEvent,
    WatchKind,
)
from waymaker.wire.configs import consumer_config, stream_config
from waymaker_proto import admin_pb2 as admin
from waymaker_proto import waymaker_streams_pb2 as pb

Request = TypeVar("Request", bound=Proto)
_WHOLE: Final = {
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
}
"""Ranges of the contract's integers, by type."""
_CHECKS: Final[dict[type[Proto], dict[str, Callable[[str, Any], Any]]]] = {}
"""The check of each field of a request, by kind: looked up once."""


def request(kind: type[Request], **fields: object) -> Request:
    """Return a request from its fields; UsageError where one of them does not fit, by its name."""
    checks = _CHECKS.get(kind)
    if checks is None:
        checks = _CHECKS[kind] = {name: _check_of(each.type) for name, each in kind.DESCRIPTOR.fields_by_name.items()}
    return kind(**{name: checks[name](name, value) for name, value in fields.items()})


def _check_of(type_: int) -> Callable[[str, Any], Any]:
    if type_ == FieldDescriptor.TYPE_STRING:
        return text
    if type_ == FieldDescriptor.TYPE_BOOL:
        return flag
    bounds = _WHOLE.get(type_)
    return _as_it_is if bounds is None else partial(whole, least=bounds[0], most=bounds[1])


def _as_it_is(_name: str, value: Any) -> Any:
    return value


def stream_info(response: pb.GetStreamInfoResponse) -> StreamInfo:
    stats = response.stats
    return StreamInfo(
        config=stream_config(response.config),
        last_seq=stats.last_seq,
        msg_count=stats.msg_count,
        bytes=stats.bytes,
        block_count=stats.block_count,
        first_block=stats.first_block,
        notice=response.message,
        sources=tuple(source_status(response.config.name, each) for each in response.sources_status),
        ring_owner=response.ring_owner_node_id,
        claimant=response.authority_override.claimant_node_id,
        fence_epoch=response.authority_override.fence_epoch,
        pinned=response.pinned,
    )


def source_status(stream: str, status: pb.SourceStatusPb | pb.GetStreamSourcesEntry) -> SourceStatus:
    """Return how far one source of a stream has come."""
    return SourceStatus(
        stream,
        status.source_stream,
        status.last_sourced_seq,
        status.pulled_total,
        status.last_error,
        status.last_error_ts_ms,
    )


def consumer_infos(states: Sequence[pb.ConsumerStatePb], inactive_ms: Sequence[int]) -> list[ConsumerInfo]:
    """Return an answer's consumers with the inactivity timeouts beside it; it has none where no consumer has one."""
    if inactive_ms and len(inactive_ms) != len(states):
        raise DataLossError(
            f"the server's answer has {len(inactive_ms)} inactivity timeouts for {len(states)} consumers"
        )
    timeouts = inactive_ms or [0] * len(states)
    return [consumer_info(*each) for each in zip(states, timeouts, strict=True)]


def consumer_info(state: pb.ConsumerStatePb, inactive_ms: int = 0) -> ConsumerInfo:
    return ConsumerInfo(
        config=consumer_config(state.config, inactive_ms),
        ack_floor=state.ack_floor,
        last_delivered=state.last_delivered,
        created_ms=state.created_at_ms,
        redelivered_dropped=state.redelivered_dropped,
    )


def header_pairs(headers: Headers) -> list[tuple[str, str]]:
    """Return headers as pairs, checked: strings on both sides."""
    given: object = headers
    if isinstance(given, Mapping):
        pairs: Iterable[object] = given.items()
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
        pairs = given
    else:
        raise WrongTypeError(f"headers are a mapping or pairs of strings, not {headers!r}")
    out = []
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise WrongTypeError(f"a header is a pair of strings, not {pair!r}")
        key = text("a header's key", pair[0])
        out.append((key, text(f"header {key!r}: the value", pair[1])))
    return out


def watch_event(event: pb.WatchEvent) -> WatchEvent:
    stream = consumer = ""
    claimant = fence_epoch = 0
    match event.WhichOneof("detail"):
        case "stream":
            stream = event.stream.name
        case "consumer":
            stream, consumer = event.consumer.stream, event.consumer.consumer
        case "authority":
            stream = event.authority.stream
            claimant, fence_epoch = event.authority.claimant_node_id, event.authority.fence_epoch
    return WatchEvent(
        WatchKind(event.type), stream, consumer, event.ts_ms, event.lagged_count, claimant, fence_epoch
    )  # fmt: skip


def server_info(info: admin.ServerInfoResponse) -> ServerInfo:
    return ServerInfo(
        version=info.version,
        node_id=info.node_id,
        directory_id=info.directory_id,
        sync=info.sync,
        uptime_ms=info.uptime_ms,
        streams=info.streams,
        consumers=info.consumers,
        quarantined=tuple(info.quarantined),
        draining=info.draining,
        members={member.node_id: member.address for member in info.members},
    )


def backup_summary(summary: admin.ArchiveSummary) -> BackupSummary:
    return BackupSummary(
        summary.total_bytes, summary.messages, summary.last_seq, summary.stream_id, summary.first_seq
    )  # fmt: skip


def restore_result(response: admin.RestoreResponse) -> RestoreResult:
    return RestoreResult(response.name, response.messages, response.last_seq)


def object_info(info: pb.ObjectInfo) -> ObjectInfo:
    return ObjectInfo(
        name=info.name,
        total_bytes=info.total_bytes,
        chunk_size=info.chunk_size,
        chunk_count=info.chunk_count,
        sha256=info.sha256,
        ts_ms=info.ts_ms,
        headers=tuple((header.key, header.value) for header in info.headers),
        revision=info.metadata_seq,
        deduped=info.deduped,
    )


def object_entry(entry: pb.ObjectListEntry) -> ObjectEntry:
    return ObjectEntry(entry.name, entry.total_bytes, entry.deleted)


def object_revision(entry: pb.ObjectRevisionEntry) -> ObjectRevision:
    return ObjectRevision(
        entry.metadata_seq, entry.deleted, entry.total_bytes, entry.chunk_count, entry.sha256, entry.ts_ms
    )
