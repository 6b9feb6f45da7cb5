"""The status of a cluster, as one of its members knows it and as several of them together do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waymaker.client.checked import UNSET, Timeout
from waymaker.wire.protocol import ADMIN_SERVICE
from waymaker_proto import admin_pb2 as admin

if TYPE_CHECKING:
    from waymaker.client.client import Client


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One member. Of its replicas, `in_sync` and `lagging` are known, of `unknown` no member that answered leads the stream."""

    node_id: int
    client_address: str
    peer_address: str
    reachable: bool
    streams_led: int
    replicas: int
    in_sync: int
    lagging: int
    unknown: int
    lag_records: int


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster. `answered` are the members that this was learnt from; `leader` 0 means that none is known."""

    name: str
    leader: int
    term: int
    streams: int
    streams_unserved: int
    answered: tuple[int, ...]
    members: tuple[ClusterMember, ...]


async def ask_status(client: Client, *, timeout: Timeout = UNSET) -> admin.ClusterStatusResponse:
    """Return what the member that a client talks to knows. One without members is a server on its own."""
    path = f"/{ADMIN_SERVICE}/ClusterStatus"
    return await client._unary(path, admin.ClusterStatusRequest(), admin.ClusterStatusResponse, timeout)


def joined(answers: Sequence[admin.ClusterStatusResponse]) -> ClusterStatus:
    """Join what members know: the newest term's leader, and of replicas what their primaries know. There is one at least."""
    newest = max(answers, key=lambda each: (each.term, each.leader != 0, each.node_id == each.leader))
    answered = {each.node_id for each in answers}
    members = []
    for known in newest.members:
        rows = [row for each in answers for row in each.members if row.node_id == known.node_id]
        in_sync, lagging = sum(row.in_sync for row in rows), sum(row.lagging for row in rows)
        members.append(
            ClusterMember(
                known.node_id,
                next((row.client_address for row in rows if row.client_address), ""),
                known.peer_address,
                known.node_id in answered or any(row.reachable for row in rows),
                known.streams_led,
                known.replicas,
                in_sync,
                lagging,
                max(0, known.replicas - in_sync - lagging),
                max((row.lag_records for row in rows), default=0),
            )
        )
    return ClusterStatus(
        newest.cluster_name, newest.leader, newest.term, newest.streams, newest.streams_unserved,
        tuple(sorted(answered)), tuple(members),
    )  # fmt: skip
