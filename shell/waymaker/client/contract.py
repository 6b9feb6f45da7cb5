"""Between the client's values and the contract's messages, both ways, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, assert_never

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as Proto

from waymaker.client.checked import flag, text, whole
from waymaker.client.errors import DataLossError, WrongTypeError
from waymaker.client.values import (
    BackupSummary,
    ConsumerInfo,
    Headers,
    RestoreResult,
    ServerInfo,
    StreamInfo,
    WatchEvent,
    WatchKind,
)
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention, StreamConfig
from waymaker_proto import admin_pb2 as admin
from waymaker_proto import waymaker_streams_pb2 as pb

Request = TypeVar("Request", bound=Proto)
_WHOLE: Final = {
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
}
"""What the contract's integers hold, by type."""


def request(kind: type[Request], **fields: object) -> Request:
    """A request from its fields; UsageError where one of them does not fit, by its name."""
    by_name = kind.DESCRIPTOR.fields_by_name
    return kind(**{name: _scalar(by_name[name], value) for name, value in fields.items()})


def _scalar(field: Any, value: object) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return text(field.name, value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return flag(field.name, value)
    bounds = _WHOLE.get(field.type)
    return value if bounds is None else whole(field.name, value, *bounds)


def stream_config_to_wire(config: StreamConfig) -> pb.StreamConfigPb:
    """A stream's settings, as `settings.stream_config` converted them. Bounds of 0 are left out."""
    wire = pb.StreamConfigPb(
        name=config.name,
        subjects_filter=config.subjects_filter,
        block_size=config.block_size,
        ephemeral=config.ephemeral,
        max_msgs_per_subject=config.max_msgs_per_subject,
    )
    if config.max_msg_bytes:
        wire.max_msg_bytes = config.max_msg_bytes
    match config.retention:
        case Retention.LIMITS:
            limits = wire.retention.limits
            limits.SetInParent()
            if config.max_age_ms:
                limits.max_age_ms = config.max_age_ms
            if config.max_msgs:
                limits.max_msgs = config.max_msgs
            if config.max_bytes:
                limits.max_bytes = config.max_bytes
            limits.strict_limits = config.strict_limits
        case Retention.WORK_QUEUE:
            wire.retention.work_queue.SetInParent()
        case Retention.INTEREST:
            wire.retention.interest.SetInParent()
        case never:
            assert_never(never)
    return wire


def stream_config_from_wire(wire: pb.StreamConfigPb) -> StreamConfig:
    policy = wire.retention.WhichOneof("policy")
    limits = wire.retention.limits
    retention = {"work_queue": Retention.WORK_QUEUE, "interest": Retention.INTEREST}.get(policy or "", Retention.LIMITS)
    return StreamConfig(
        name=wire.name,
        subjects_filter=tuple(wire.subjects_filter),
        retention=retention,
        max_age_ms=limits.max_age_ms,
        max_msgs=limits.max_msgs,
        max_bytes=limits.max_bytes,
        strict_limits=limits.strict_limits,
        block_size=wire.block_size,
        max_msg_bytes=wire.max_msg_bytes,
        ephemeral=wire.ephemeral,
        max_msgs_per_subject=wire.max_msgs_per_subject,
    )


def stream_info_from_wire(response: pb.GetStreamInfoResponse) -> StreamInfo:
    stats = response.stats
    return StreamInfo(
        config=stream_config_from_wire(response.config),
        last_seq=stats.last_seq,
        msg_count=stats.msg_count,
        bytes=stats.bytes,
        block_count=stats.block_count,
        first_block=stats.first_block,
        notice=response.message,
    )


def consumer_config_to_wire(config: ConsumerConfig) -> pb.ConsumerConfigPb:
    return pb.ConsumerConfigPb(
        name=config.name,
        filter_subject=config.filter_subject,
        delivery_policy=pb.DeliveryPolicyPb(
            type=pb.DeliveryPolicyType.ValueType(config.policy.value),
            start_seq=config.start_seq,
            start_time_ms=config.start_time_ms,
        ),
        ack_wait_ms=config.ack_wait_ms,
        max_deliver=config.max_deliver,
        deliver_group=config.deliver_group,
        dead_letter_subject=config.dead_letter_subject,
    )


def consumer_infos_from_wire(states: Sequence[pb.ConsumerStatePb], inactive_ms: Sequence[int]) -> list[ConsumerInfo]:
    """Consumers of an answer, with the inactivity timeouts beside it; it has none where no consumer has one."""
    if inactive_ms and len(inactive_ms) != len(states):
        raise DataLossError(
            f"the server's answer has {len(inactive_ms)} inactivity timeouts for {len(states)} consumers"
        )
    timeouts = inactive_ms or [0] * len(states)
    return [consumer_info_from_wire(*each) for each in zip(states, timeouts, strict=True)]


def consumer_info_from_wire(state: pb.ConsumerStatePb, inactive_ms: int = 0) -> ConsumerInfo:
    wire = state.config
    policy = wire.delivery_policy
    config = ConsumerConfig(
        name=wire.name,
        filter_subject=wire.filter_subject,
        policy=DeliveryPolicy(policy.type),
        start_seq=policy.start_seq,
        start_time_ms=policy.start_time_ms,
        ack_wait_ms=wire.ack_wait_ms,
        max_deliver=wire.max_deliver,
        deliver_group=wire.deliver_group,
        dead_letter_subject=wire.dead_letter_subject,
        inactive_ms=inactive_ms,
    )
    return ConsumerInfo(
        config=config,
        ack_floor=state.ack_floor,
        last_delivered=state.last_delivered,
        created_ms=state.created_at_ms,
        redelivered_dropped=state.redelivered_dropped,
    )


def header_pairs(headers: Headers) -> list[tuple[str, str]]:
    """Headers as pairs, checked: strings on both sides."""
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


def watch_event_from_wire(event: pb.WatchEvent) -> WatchEvent:
    stream = consumer = ""
    match event.WhichOneof("detail"):
        case "stream":
            stream = event.stream.name
        case "consumer":
            stream, consumer = event.consumer.stream, event.consumer.consumer
        case "authority":
            stream = event.authority.stream
    return WatchEvent(WatchKind(event.type), stream, consumer, event.ts_ms, event.lagged_count)


def server_info_from_wire(info: admin.ServerInfoResponse) -> ServerInfo:
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
    )


def backup_summary_from_wire(summary: admin.ArchiveSummary) -> BackupSummary:
    return BackupSummary(summary.total_bytes, summary.messages, summary.last_seq)


def restore_result_from_wire(response: admin.RestoreResponse) -> RestoreResult:
    return RestoreResult(response.name, response.messages, response.last_seq)
