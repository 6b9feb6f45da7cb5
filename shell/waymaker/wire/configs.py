"""Configurations and figures between the contract's messages and the core's plain values, both ways.

Nothing is judged here: an impossible value is carried over as it is and refused by the core, which knows the words. Only
what the core's types cannot even hold is refused on the spot.
"""

from __future__ import annotations

from waymaker_core.api.requests import ConsumerInfo, StreamInfo, UpdateStream
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention, StreamConfig
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError, Refusal, RefusedError, Status
from waymaker_proto import waymaker_streams_pb2 as pb


def stream_config(message: pb.StreamConfigPb) -> StreamConfig:
    """A stream's settings as a client gave them."""
    if message.sources:
        raise RefusedError(Refusal(Status.UNIMPLEMENTED, "this server does not offer stream sources"))
    policy = message.retention.WhichOneof("policy")
    limits = message.retention.limits
    retention = {"work_queue": Retention.WORK_QUEUE, "interest": Retention.INTEREST}.get(policy or "", Retention.LIMITS)
    return StreamConfig(
        name=message.name,
        subjects_filter=tuple(message.subjects_filter),
        retention=retention,
        max_age_ms=limits.max_age_ms,
        max_msgs=limits.max_msgs,
        max_bytes=limits.max_bytes,
        strict_limits=limits.strict_limits,
        block_size=message.block_size,
        max_msg_bytes=message.max_msg_bytes,
        ephemeral=message.ephemeral,
        max_msgs_per_subject=message.max_msgs_per_subject,
    )


def stream_config_pb(config: StreamConfig) -> pb.StreamConfigPb:
    """A stream's settings as they hold; a bound that does not bind is absent."""
    message = pb.StreamConfigPb(
        name=config.name,
        subjects_filter=config.subjects_filter,
        block_size=config.block_size,
        max_msg_bytes=config.max_msg_bytes,
        ephemeral=config.ephemeral,
        max_msgs_per_subject=config.max_msgs_per_subject,
    )
    if config.retention is Retention.WORK_QUEUE:
        message.retention.work_queue.SetInParent()
    elif config.retention is Retention.INTEREST:
        message.retention.interest.SetInParent()
    else:
        message.retention.limits.CopyFrom(
            pb.LimitsRetention(
                max_age_ms=config.max_age_ms or None,
                max_msgs=config.max_msgs or None,
                max_bytes=config.max_bytes or None,
                strict_limits=config.strict_limits,
            )
        )
    return message


def consumer_config(message: pb.ConsumerConfigPb, inactive_ms: int = 0) -> ConsumerConfig:
    """A consumer's settings as a client gave them. The contract's message has no inactivity timeout: it travels beside."""
    policy = message.delivery_policy
    try:
        delivery = DeliveryPolicy(policy.type)
    except ValueError:
        raise CodeError(INVALID_CONFIG, f"delivery policy {policy.type} does not exist") from None
    return ConsumerConfig(
        name=message.name,
        filter_subject=message.filter_subject,
        policy=delivery,
        start_seq=policy.start_seq,
        start_time_ms=policy.start_time_ms,
        ack_wait_ms=message.ack_wait_ms,
        max_deliver=message.max_deliver,
        deliver_group=message.deliver_group,
        dead_letter_subject=message.dead_letter_subject,
        inactive_ms=inactive_ms,
    )


def consumer_state_pb(info: ConsumerInfo) -> pb.ConsumerStatePb:
    """A consumer's settings and where it stands."""
    config = info.config
    return pb.ConsumerStatePb(
        config=pb.ConsumerConfigPb(
            name=config.name,
            filter_subject=config.filter_subject,
            delivery_policy=pb.DeliveryPolicyPb(
                type=config.policy.value,  # type: ignore[arg-type]
                start_seq=config.start_seq,
                start_time_ms=config.start_time_ms,
            ),
            ack_wait_ms=config.ack_wait_ms,
            max_deliver=config.max_deliver,
            deliver_group=config.deliver_group,
            dead_letter_subject=config.dead_letter_subject,
        ),
        ack_floor=info.ack_floor,
        last_delivered=info.last_delivered,
        created_at_ms=info.created_ms,
        redelivered_dropped=info.redelivered_dropped,
    )


def stream_info_pb(info: StreamInfo, response: pb.GetStreamInfoResponse, node_id: int) -> None:
    """A stream's settings and figures. A single node is the only one that a ring could name."""
    response.message = info.notice
    response.config.CopyFrom(stream_config_pb(info.config))
    stats = info.stats
    response.stats.CopyFrom(
        pb.StreamStatsPb(
            last_seq=stats.last_seq,
            msg_count=stats.msg_count,
            bytes=stats.bytes,
            block_count=stats.block_count,
            first_block=stats.first_block,
        )
    )
    response.ring_owner_node_id = node_id


def update_request(message: pb.UpdateStreamRequest, dry_run: bool) -> UpdateStream:
    """What is absent stays None."""

    def given(name: str) -> int | None:
        return int(getattr(message, name)) if message.HasField(name) else None  # type: ignore[arg-type]

    return UpdateStream(
        message.name,
        max_age_ms=given("max_age_ms"),
        max_msgs=given("max_msgs"),
        max_bytes=given("max_bytes"),
        max_msg_bytes=given("max_msg_bytes"),
        strict_limits=message.strict_limits if message.HasField("strict_limits") else None,
        dry_run=dry_run,
    )
