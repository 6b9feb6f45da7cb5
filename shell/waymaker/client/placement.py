"""Places of streams, as methods that the client inherits: pins, overrides, and the figures of nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from google.protobuf.message import Message as Proto

from waymaker.client import contract
from waymaker.client.checked import UNSET, Timeout
from waymaker.client.values import AuthorityOverride, ClusterStreams, NodeStreams
from waymaker_proto import waymaker_streams_pb2 as pb

Response = TypeVar("Response", bound=Proto)


class Placement:
    """A caller of the contract that pins streams and sends them back."""

    async def pin_stream(self, name: str, *, timeout: Timeout = UNSET) -> None:
        """Keep a stream where it is: no sweep moves it, only a failover, an orderly stop, or `clear_authority`."""
        await self._set_pinned(name, pinned=True, timeout=timeout)

    async def unpin_stream(self, name: str, *, timeout: Timeout = UNSET) -> None:
        """Let the sweep move a stream again."""
        await self._set_pinned(name, pinned=False, timeout=timeout)

    async def _set_pinned(self, name: str, *, pinned: bool, timeout: Timeout) -> None:
        request = contract.request(pb.SetStreamPinnedRequest, stream=name, pinned=pinned)
        await self._call_service("SetStreamPinned", request, pb.SetStreamPinnedResponse, timeout)

    async def clear_authority(self, name: str, *, timeout: Timeout = UNSET) -> None:
        """Let a stream return to the node that consistent hashing names, once that node has caught up."""
        request = contract.request(pb.ClearStreamAuthorityRequest, stream=name)
        await self._call_service("ClearStreamAuthority", request, pb.ClearStreamAuthorityResponse, timeout)

    async def authority_overrides(self, *, timeout: Timeout = UNSET) -> list[AuthorityOverride]:
        """Return the streams that are led by another node than consistent hashing names, by name."""
        out: list[AuthorityOverride] = []
        request, kind = pb.ListStreamAuthorityOverridesRequest(), pb.ListStreamAuthorityOverridesResponse
        async for response in self._service_pages("ListStreamAuthorityOverrides", request, kind, timeout):
            out.extend(
                AuthorityOverride(each.stream, each.claimant_node_id, each.fence_epoch) for each in response.entries
            )
        return out

    async def cluster_streams(self, *, timeout: Timeout = UNSET) -> ClusterStreams:
        """Return what each node of the cluster leads."""
        request, kind = pb.GetClusterStreamStatsRequest(), pb.GetClusterStreamStatsResponse
        found = await self._call_service("GetClusterStreamStats", request, kind, timeout)
        nodes = tuple(
            NodeStreams(each.node_id, each.status, each.stream_count, each.total_msg_count, each.total_bytes)
            for each in found.nodes
        )
        return ClusterStreams(nodes, found.skew_count, found.skew_bytes)

    async def _call_service(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout, *, repeatable: bool = True
    ) -> Response:
        """Call the contract; the client has it."""
        raise NotImplementedError

    def _service_pages(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout
    ) -> AsyncIterator[Response]:
        """Yield the pages of a list; the client has it."""
        raise NotImplementedError
