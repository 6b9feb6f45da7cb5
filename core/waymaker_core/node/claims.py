"""Claims: the records by which the node that leads the catalog of a cluster gives streams to primaries.

A new stream is claimed in the decision that creates it. A claim that a crash took away from it is made up for by the next node
that leads the catalog. All later claims are asked for (`api/cluster_requests`). What a claim means is `catalog/authority`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from waymaker_core.catalog.authority import NO_CLAIM, Claim
from waymaker_core.catalog.overrides import placement_key
from waymaker_core.catalog.placement import place
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.records import AuthorityOpened, StreamCreated, StreamsClaimed
from waymaker_core.model.types import StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.stream_log import Rest
from waymaker_core.storage.config_codec import REPLICAS_MAX

STREAMS_PER_RECORD_MAX: Final = 1_024
"""Streams whose claims, or openings, one record holds at most."""
ClaimRow = tuple[StreamId, int, list[int]]
"""A stream, the primary that it is claimed for, and the replicas."""


class Claims:
    """Decides claims and openings, of a node that leads the catalog."""

    def __init__(self, state: NodeState, group_commit: GroupCommit) -> None:
        self._state = state
        self._group_commit = group_commit
        self._unclaimed: list[StreamId] = []
        """Streams that had no claim when this node began to lead the catalog."""

    @property
    def first_bytes_max(self) -> int:
        """Return the bytes that the first claim of a stream takes in the journal at most; 0 outside of a cluster."""
        if not self._state.config.member:
            return 0
        return record_frame_bytes_max(StreamsClaimed([0], [0], [[0] * REPLICAS_MAX]))

    def claim(self, stream_id: StreamId, primary: int, replicas: list[int]) -> Rest:
        """Decide a claim; return its position, which is its epoch."""
        return self.claim_many(StreamsClaimed([stream_id], [primary], [replicas]))

    def claim_many(self, record: StreamsClaimed) -> Rest:
        """Decide claims; return the position of their record, which is the epoch of each."""
        rest = self._group_commit.add_to_catalog("", record)
        authority = self._state.catalog.authority
        for number, primary, nodes in zip(record.stream_ids, record.primaries, record.replicas, strict=True):
            authority.stage_claim(StreamId(number), Claim(rest[1], primary, tuple(nodes)))
        return rest

    def claim_as_room_allows(self, rows: Sequence[ClaimRow]) -> list[int]:
        """Decide claims of streams in ascending order, as many of the first as find room; return the epoch of each."""
        epochs: list[int] = []
        count = STREAMS_PER_RECORD_MAX
        while len(epochs) < len(rows):
            part = rows[len(epochs) : len(epochs) + count]
            record = StreamsClaimed(*(list(column) for column in zip(*part, strict=True)))
            if self._has_room_for(record):
                epochs += [self.claim_many(record)[1]] * len(part)
            elif len(part) > 1:
                count = len(part) // 2
            else:
                break
        return epochs

    def open_as_room_allows(self, rows: Sequence[tuple[StreamId, int]]) -> int:
        """Decide openings of streams in ascending order, as many of the first as find room; return how many those are."""
        decided, count = 0, STREAMS_PER_RECORD_MAX
        while decided < len(rows):
            part = rows[decided : decided + count]
            record = AuthorityOpened([stream_id for stream_id, _ in part], [epoch for _, epoch in part])
            if self._has_room_for(record):
                self.open_many(record)
                decided += len(part)
            elif len(part) > 1:
                count = len(part) // 2
            else:
                break
        return decided

    def _has_room_for(self, record: StreamsClaimed | AuthorityOpened) -> bool:
        bound = record_frame_bytes_max(record)
        return self._group_commit.has_room_for(self._state.catalog_log, bound, ordinary=False)

    def open_many(self, record: AuthorityOpened) -> Rest:
        """Decide that claims are open; return the position of that."""
        rest = self._group_commit.add_to_catalog("", record)
        authority = self._state.catalog.authority
        for number, epoch in zip(record.stream_ids, record.epochs, strict=True):
            authority.stage_opening(StreamId(number), epoch)
        return rest

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
        self._unclaimed = [each for each in self._state.catalog.entries if each not in authority.confs]

    def forget_unclaimed(self) -> None:
        """Leave streams without a claim to the next node that leads the catalog."""
        self._unclaimed.clear()

    def claim_unclaimed(self) -> None:
        """Decide the first claims of streams that have none: a crash took them, or the streams are older than the cluster.

        Nothing was written to the former. What the latter hold is here, and nowhere else. Those that find no room wait for it.
        """
        if not self._unclaimed:
            return
        rows: list[ClaimRow] = []
        state = self._state
        for stream_id in sorted(self._unclaimed):
            entry = state.catalog.entries.get(stream_id)
            if entry is None or state.catalog.authority.projected_claim(stream_id) != NO_CLAIM:
                continue
            nodes = self._place(entry.account, entry.config, importing=entry.importing)
            if state.replicas[stream_id].log.end:
                nodes = [state.config.node_id]
            rows.append((stream_id, nodes[0], nodes))
        claimed = len(self.claim_as_room_allows(rows))
        self._unclaimed = [stream_id for stream_id, _, _ in rows[claimed:]]

    def _place(self, account: str, config: StreamConfig, *, importing: bool) -> list[int]:
        """Return the nodes for a new stream, its primary first.

        The head of an archive that is being restored is kept by this node alone. An ephemeral stream is in the memory of one.
        """
        settings = self._state.config
        count = 1 if config.ephemeral else settings.replication_factor
        nodes = settings.members or (settings.node_id,)
        return place(placement_key(account, config.name), nodes, count, settings.node_id if importing else 0)
