"""The calls about where streams are led: how their messages become requests, and answers become messages."""

from __future__ import annotations

from waymaker.server.grpc.metadata import Metadata
from waymaker_core.api import authority_requests as core
from waymaker_core.api.requests import Page
from waymaker_proto import waymaker_streams_pb2 as pb


def pin_request(r: pb.SetStreamPinnedRequest, metadata: Metadata, serving: object) -> core.SetStreamPinned:
    """Return the request of a `SetStreamPinned`."""
    return core.SetStreamPinned(r.stream, r.pinned)


def clear_request(r: pb.ClearStreamAuthorityRequest, metadata: Metadata, serving: object) -> core.ClearStreamAuthority:
    """Return the request of a `ClearStreamAuthority`."""
    return core.ClearStreamAuthority(r.stream)


def overrides_request(
    r: pb.ListStreamAuthorityOverridesRequest, metadata: Metadata, serving: object
) -> core.ListOverrides:
    """Return the request of a `ListStreamAuthorityOverrides`."""
    return core.ListOverrides(metadata.after, metadata.limit)


def stats_request(r: pb.GetClusterStreamStatsRequest, metadata: Metadata, serving: object) -> core.GetClusterStats:
    """Return the request of a `GetClusterStreamStats`."""
    return core.GetClusterStats(r.include_per_stream, r.local_only)


def fill_overrides(
    value: Page[core.StreamOverride], response: pb.ListStreamAuthorityOverridesResponse, serving: object
) -> None:
    """Fill in the overrides of an answer."""
    response.entries.extend(
        pb.AuthorityOverrideEntry(stream=each.stream, claimant_node_id=each.claimant, fence_epoch=each.epoch)
        for each in value.entries
    )


def fill_stats(value: core.ClusterStats, response: pb.GetClusterStreamStatsResponse, serving: object) -> None:
    """Fill in the figures of nodes and streams, and their sums."""
    for row in value.nodes:
        response.nodes.add(
            node_id=row.node_id,
            stream_count=row.streams,
            total_msg_count=row.messages,
            total_bytes=row.bytes,
            status=row.status,
        )
    for each in value.streams:
        response.streams.add(
            name=each.name,
            owner_node_id=each.owner,
            msg_count=each.messages,
            bytes=each.bytes,
            last_seq=each.last_seq,
        )
    response.total_stream_count = sum(row.streams for row in value.nodes)
    response.total_msg_count = sum(row.messages for row in value.nodes)
    response.total_bytes = sum(row.bytes for row in value.nodes)
    response.skew_count, response.skew_bytes = value.skew()
