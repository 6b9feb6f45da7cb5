"""Claims: the records by which the node that leads the catalog of a cluster gives streams to primaries.

A new stream is claimed in the decision that creates it. A claim that a crash took away from it is made up for by the next node
that leads the catalog. All later claims are asked for (`api/cluster_requests`). What a claim means is `catalog/authority`.
"""

from __future__ import annotations

from collections import deque

from waymaker_core.catalog.authority import NO_CLAIM, Claim
from waymaker_core.catalog.overrides import placement_key
from waymaker_core.catalog.placement import place
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.records import AuthorityOpened, StreamClaimed, StreamCreated
from waymaker_core.model.types import StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.stream_log import Rest
from waymaker_core.storage.config_codec import REPLICAS_MAX


class Claims:
    """Decides claims and openings, of a node that leads the catalog."""

    def __init__(self, state: NodeState, group_commit: GroupCommit) -> None:
        self._state = state
        self._group_commit = group_commit
        self._unclaimed: deque[StreamId] = deque()
        """Streams that had no claim when this node began to lead the catalog."""

    @property
    def first_bytes_max(self) -> int:
        """Return the bytes that the first claim of a stream takes in the journal at most; 0 outside of a cluster."""
        if not self._state.config.member:
            return 0
        return record_frame_bytes_max(StreamClaimed(0, 0, [0] * REPLICAS_MAX))

    def claim(self, stream_id: StreamId, primary: int, replicas: list[int]) -> Rest:
        """Decide a claim; return its position, which is its epoch."""
        rest = self._group_commit.add_to_catalog("", StreamClaimed(stream_id, primary, replicas))
        self._state.catalog.authority.stage_claim(stream_id, Claim(rest[1], primary, tuple(replicas)))
        return rest

    def open_claim(self, stream_id: StreamId, epoch: int) -> Rest:
        """Decide that a claim is open; return the position of that."""
        return self._group_commit.add_to_catalog("", AuthorityOpened(stream_id, epoch))

    def claim_new(self, record: StreamCreated, account: str) -> list[Rest]:
        """Decide the first claim of a stream whose creation was just decided; return its position. In a cluster only."""
        if not self._state.config.member:
            return []
        nodes = self._place(account, record.config, importing=record.importing)
        return [self.claim(StreamId(record.stream_id), nodes[0], nodes)]

    def claim_again(self, record: StreamCreated, before: StreamId) -> None:
        """Decide the first claim of a stream that begins anew: it stays with the nodes that it had."""
        if self._state.config.member:
            last = self._state.catalog.authority.projected_claim(before)
            self.claim(StreamId(record.stream_id), last.primary, list(last.replicas))

    def find_unclaimed(self) -> None:
        """Look for streams without a claim: this node leads the catalog from here on, and its whole log is applied."""
        authority = self._state.catalog.authority
        self._unclaimed = deque(each for each in self._state.catalog.entries if each not in authority.confs)

    def forget_unclaimed(self) -> None:
        """Leave streams without a claim to the next node that leads the catalog."""
        self._unclaimed.clear()

    def claim_unclaimed(self) -> None:
        """Decide the first claims of streams that have none: a crash took them, or the streams are older than the cluster.

        Nothing was written to the former. What the latter hold is here, and nowhere else. Those that find no room wait for it.
        """
        state = self._state
        while self._unclaimed and self._group_commit.has_room_for(
            state.catalog_log, self.first_bytes_max, ordinary=False
        ):
            entry = state.catalog.entries.get(self._unclaimed.popleft())
            if entry is None or state.catalog.authority.projected_claim(entry.stream_id) != NO_CLAIM:
                continue
            nodes = self._place(entry.account, entry.config, importing=entry.importing)
            if state.replicas[entry.stream_id].log.end:
                nodes = [state.config.node_id]
            self.claim(entry.stream_id, nodes[0], nodes)

    def _place(self, account: str, config: StreamConfig, *, importing: bool) -> list[int]:
        """Return the nodes for a new stream, its primary first.

        The head of an archive that is being restored is kept by this node alone. An ephemeral stream is in the memory of one.
        """
        settings = self._state.config
        count = 1 if config.ephemeral else settings.replication_factor
        nodes = settings.members or (settings.node_id,)
        return place(placement_key(account, config.name), nodes, count, settings.node_id if importing else 0)
