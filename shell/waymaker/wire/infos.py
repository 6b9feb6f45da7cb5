"""Figures and changes of streams and consumers, as the contract's messages."""

from __future__ import annotations

from waymaker.wire.configs import consumer_config_pb, stream_config_pb
from waymaker_core.api.effects import Event, EventKind
from waymaker_core.api.requests import ConsumerInfo, SourceStatus, StreamInfo
from waymaker_proto import waymaker_streams_pb2 as pb

_CONSUMER_EVENTS = (EventKind.CONSUMER_CREATED, EventKind.CONSUMER_DELETED)


def consumer_state_pb(info: ConsumerInfo) -> pb.ConsumerStatePb:
    """Return a consumer's settings and figures."""
    return pb.ConsumerStatePb(
        config=consumer_config_pb(info.config),
        ack_floor=info.ack_floor,
        last_delivered=info.last_delivered,
        created_at_ms=info.created_ms,
        redelivered_dropped=info.redelivered_dropped,
    )


def fill_stream_info(info: StreamInfo, response: pb.GetStreamInfoResponse) -> None:
    """Fill in a stream's settings and figures, and where it is led."""
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
    authority = info.authority
    if authority.claimant:
        response.authority_override.claimant_node_id = authority.claimant
        response.authority_override.fence_epoch = authority.epoch
    response.ring_owner_node_id = authority.home
    response.pinned = authority.pinned
    response.sources_status.extend(map(source_status_pb, info.sources))


def source_status_pb(status: SourceStatus) -> pb.SourceStatusPb:
    """Return the status of one source of a stream that is named beside it."""
    return pb.SourceStatusPb(
        source_stream=status.source_stream,
        last_sourced_seq=status.last_sourced_seq,
        pulled_total=status.pulled_total,
        last_error=status.last_error,
        last_error_ts_ms=status.last_error_ms,
    )


def source_entry_pb(status: SourceStatus) -> pb.GetStreamSourcesEntry:
    """Return the status of one source of one stream."""
    return pb.GetStreamSourcesEntry(
        sourcing_stream=status.stream,
        source_stream=status.source_stream,
        last_sourced_seq=status.last_sourced_seq,
        pulled_total=status.pulled_total,
        last_error=status.last_error,
        last_error_ts_ms=status.last_error_ms,
    )


def watch_event_pb(event: Event, node_id: int) -> pb.WatchEvent:
    """Return the message by which a watcher learns of one change."""
    message = pb.WatchEvent(
        type=event.kind.value,  # type: ignore[arg-type]
        ts_ms=event.wall_ms,
        node_id=node_id,
        lagged_count=event.lagged,
    )
    if event.kind in _CONSUMER_EVENTS:
        message.consumer.stream = event.stream
        message.consumer.consumer = event.consumer
    elif event.kind is EventKind.AUTHORITY_CHANGED:
        message.authority.stream = event.stream
        message.authority.claimant_node_id = event.claimant
        message.authority.fence_epoch = event.fence_epoch
    else:
        message.stream.name = event.stream
    return message
