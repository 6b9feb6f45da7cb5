"""Streams that cannot outlive a restart, where logs are replicated: their deletion is a decision like any other.

Ephemeral streams kept their messages in memory only. Each begins anew, under a new id, in the record that ends it. A restore
that was interrupted left a stream that no client was served from; it is deleted. Both wait until the node leads the catalog,
for nothing is decided over records that may not be committed. Until then nothing of these streams is served.
"""

from __future__ import annotations

from waymaker_core.catalog.catalog import CatalogEntry
from waymaker_core.model.records import CatalogRecord, StreamCreated, StreamDeleted
from waymaker_core.model.types import Now, StreamId
from waymaker_core.node.claims import Claims
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.stream_replica import StreamReplica


class Incarnations:
    """The streams whose incarnations ended with the last run of the process."""

    def __init__(self, state: NodeState, group_commit: GroupCommit, claims: Claims) -> None:
        self._state = state
        self._group_commit = group_commit
        self._claims = claims
        self._decided: list[StreamReplica] = []
        """In a cluster, the streams whose end is decided, and may be decided in vain."""

    def end_passing(self) -> None:
        """Decide the end of the streams that wait for nothing any more."""
        state = self._state
        if state.passing and state.catalog_leads and not state.stats.draining:
            state.passing = [replica for replica in state.passing if not self._end(replica)]
            self._decided = [each for each in self._decided if state.replicas.get(each.id) is each]

    def _end(self, replica: StreamReplica) -> bool:
        """Delete a stream, and create it anew if it is ephemeral; return False if that must wait."""
        state, entry = self._state, replica.entry
        ephemeral = replica.stream.config.ephemeral
        if state.config.member and replica.id in state.catalog.entries and not self._is_primary(replica):
            # Another node serves it, or this one is to be its primary later.
            return False
        if state.replicas.get(replica.id) is not replica or state.catalog.is_deletion_staged(entry):
            return True
        if replica.log.applied < replica.log.end:
            return False
        if not (ephemeral or replica.importing):
            return True
        anew = ephemeral and not entry.importing
        record = end_of(entry, state.catalog.peek_id() if anew else 0, state.now)
        if not self._group_commit.has_room_for(state.catalog_log, record_frame_bytes_max(record), ordinary=False):
            return False
        if anew:
            state.emptied[StreamId(state.catalog.draw_id())] = None
        state.catalog.stage(record, entry.account)
        self._group_commit.add_to_catalog(entry.account, record)
        if isinstance(record, StreamCreated):
            self._claims.claim_again(record, replica.id)
        if state.config.member:
            self._decided.append(replica)
        return True

    def _is_primary(self, replica: StreamReplica) -> bool:
        conf = self._state.catalog.authority.confs.get(replica.id)
        return conf is not None and conf.newest.primary == self._state.config.node_id

    def forget_decisions(self) -> None:
        """Let what was decided and may not be committed wait again: this node leads the catalog no longer."""
        state = self._state
        decided, self._decided = self._decided, []
        state.passing += [replica for replica in decided if state.replicas.get(replica.id) is replica]


def end_of(entry: CatalogEntry, next_id: int, now: Now) -> CatalogRecord:
    """Return the record that ends a stream's incarnation; with `next_id` greater than 0, the stream begins anew under it."""
    if not next_id:
        return StreamDeleted(entry.stream_id)
    return StreamCreated(next_id, entry.config, now.wall_ms, replaces=entry.stream_id)
