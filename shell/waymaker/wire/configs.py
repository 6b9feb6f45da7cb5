"""Settings of streams and consumers between the contract's messages and plain values, both ways.

Nothing is judged here. An impossible value is carried over as it is; the core, which knows the words, refuses it. Only what
the value's type cannot hold is a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from waymaker_core.model.config import (
    ConsumerConfig,
    DeliveryPolicy,
    OnDrop,
    Retention,
    SourceConfig,
    StreamConfig,
    SubjectTransform,
)
from waymaker_proto import waymaker_streams_pb2 as pb

_RETENTIONS = {"work_queue": Retention.WORK_QUEUE, "interest": Retention.INTEREST}


def stream_config(message: pb.StreamConfigPb) -> StreamConfig:
    """Return a stream's settings; without a policy its retention is by limits.

    Raises `ValueError` for an `on_drop` that does not exist.
    """
    limits = message.retention.limits
    return StreamConfig(
        name=message.name,
        subjects_filter=tuple(message.subjects_filter),
        retention=_RETENTIONS.get(message.retention.WhichOneof("policy") or "", Retention.LIMITS),
        max_age_ms=limits.max_age_ms,
        max_msgs=limits.max_msgs,
        max_bytes=limits.max_bytes,
        strict_limits=limits.strict_limits,
        block_size=message.block_size,
        max_msg_bytes=message.max_msg_bytes,
        ephemeral=message.ephemeral,
        max_msgs_per_subject=message.max_msgs_per_subject,
        sources=sources(message.sources),
    )


def sources(messages: Iterable[pb.StreamSourceConfigPb]) -> tuple[SourceConfig, ...]:
    """Return the settings of sources. Raises `ValueError` for an `on_drop` that does not exist."""
    return tuple(map(_source, messages))


def _source(message: pb.StreamSourceConfigPb) -> SourceConfig:
    rule = message.subject_transform
    return SourceConfig(
        source_stream=message.source_stream,
        filter_subject=message.filter_subject,
        start_seq=message.start_seq,
        start_time_ms=message.start_time_ms,
        subject_transform=(
            SubjectTransform(rule.source_pattern, rule.destination) if message.HasField("subject_transform") else None
        ),
        max_initial_backfill=message.max_initial_backfill,
        on_drop=OnDrop(message.on_drop),
        dlq_stream=message.dlq_stream,
    )


def source_pb(source: SourceConfig) -> pb.StreamSourceConfigPb:
    """Return the contract's message of the settings of a source."""
    rule = source.subject_transform
    return pb.StreamSourceConfigPb(
        source_stream=source.source_stream,
        filter_subject=source.filter_subject,
        start_seq=source.start_seq,
        start_time_ms=source.start_time_ms,
        subject_transform=None if rule is None else pb.SubjectTransformPb(source_pattern=rule[0], destination=rule[1]),
        max_initial_backfill=source.max_initial_backfill,
        on_drop=pb.OnDropPolicy.ValueType(source.on_drop.value),
        dlq_stream=source.dlq_stream,
    )


def stream_config_pb(config: StreamConfig) -> pb.StreamConfigPb:
    """Return the contract's message of a stream's settings; a bound of 0 is absent."""
    match config.retention:
        case Retention.LIMITS:
            limits = pb.LimitsRetention(
                max_age_ms=config.max_age_ms or None,
                max_msgs=config.max_msgs or None,
                max_bytes=config.max_bytes or None,
                strict_limits=config.strict_limits,
            )
            retention = pb.Retention(limits=limits)
        case Retention.WORK_QUEUE:
            retention = pb.Retention(work_queue=pb.WorkQueueRetention())
        case Retention.INTEREST:
            retention = pb.Retention(interest=pb.InterestRetention())
        case never:
            assert_never(never)
    return pb.StreamConfigPb(
        name=config.name,
        subjects_filter=config.subjects_filter,
        retention=retention,
        block_size=config.block_size,
        max_msg_bytes=config.max_msg_bytes,
        ephemeral=config.ephemeral,
        max_msgs_per_subject=config.max_msgs_per_subject,
        sources=map(source_pb, config.sources),
    )


def consumer_config(message: pb.ConsumerConfigPb, inactive_ms: int = 0) -> ConsumerConfig:
    """Return a consumer's settings. The contract's message has no inactivity timeout: it travels beside.

    Raises `ValueError` for a delivery policy that does not exist.
    """
    policy = message.delivery_policy
    return ConsumerConfig(
        name=message.name,
        filter_subject=message.filter_subject,
        policy=DeliveryPolicy(policy.type),
        start_seq=policy.start_seq,
        start_time_ms=policy.start_time_ms,
        ack_wait_ms=message.ack_wait_ms,
        max_deliver=message.max_deliver,
        deliver_group=message.deliver_group,
        dead_letter_subject=message.dead_letter_subject,
        inactive_ms=inactive_ms,
    )


def consumer_config_pb(config: ConsumerConfig) -> pb.ConsumerConfigPb:
    """Return the contract's message of a consumer's settings."""
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
