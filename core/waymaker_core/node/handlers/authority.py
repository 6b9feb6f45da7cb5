"""Calls about where streams are led: pins, returns, overrides, and the figures of a cluster."""

from __future__ import annotations

from waymaker_core.api.authority_requests import (
    ClearStreamAuthority,
    ClusterStats,
    GetClusterStats,
    ListOverrides,
    NodeSums,
    SetStreamPinned,
    StreamAuthority,
    StreamFigures,
    StreamOverride,
)
from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import ENTRY_OVERHEAD_BYTES, Page
from waymaker_core.catalog.authority import NO_CLAIM
from waymaker_core.model.records import ReturnWished, StreamPinned
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.handlers.checks import page_limit, require_whole
from waymaker_core.node.handlers.free_space import require_room
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import StreamReplica


def authority_of(state: NodeState, replica: StreamReplica) -> StreamAuthority:
    """Return the override, the ring's node and the pin of a stream."""
    override = state.overrides.override_of(replica.id)
    owner = state.overrides.home_of(replica.entry)
    return StreamAuthority(override.claimant, override.epoch, owner, replica.id in state.catalog.wishes.pinned)


def sums_by_primary(state: NodeState) -> dict[int, NodeSums]:
    """Return the streams added up that each node leads, as this node has applied them. Costs a look at every stream."""
    found: dict[int, NodeSums] = {}
    for replica in state.replicas.values():
        if not replica.importing:
            owner = primary_of(state, replica)
            row = found.setdefault(owner, NodeSums(owner))
            row.streams += 1
            row.messages += replica.stream.count
            row.bytes += replica.stream.bytes
    return found


def primary_of(state: NodeState, replica: StreamReplica) -> int:
    """Return the node that the newest claim of a stream names; outside of a cluster, and without a claim, this one."""
    conf = state.catalog.authority.confs.get(replica.id)
    return state.config.node_id if conf is None or not state.config.member else conf.newest.primary


class AuthorityCalls:
    """Handlers of the calls about where streams are led."""

    def __init__(self, state: NodeState, group_commit: GroupCommit, gate: Gate, registry: StreamRegistry) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate
        self._registry = registry

    def set_pinned(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `SetStreamPinned`, also of a stream in quarantine."""
        request = call.request
        assert isinstance(request, SetStreamPinned)
        replica = self._registry.require_deletable(found, request.stream)
        self._decide(call, StreamPinned(replica.id, request.pinned))

    def clear(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `ClearStreamAuthority`."""
        assert isinstance(call.request, ClearStreamAuthority)
        state = self._state
        if found is not None and not found.importing:
            owner = state.overrides.home_of(found.entry)
            claim = state.catalog.authority.projected_claim(found.id)
            if state.config.member and claim != NO_CLAIM and owner != claim.primary:
                self._decide(call, ReturnWished(found.id, owner))
                return
        self._gate.answer(call.token, Answer(OK), state.catalog_log.last)

    def _decide(self, call: Call, record: StreamPinned | ReturnWished) -> None:
        require_room(self._state, self._group_commit, self._state.catalog_log, record_frame_bytes_max(record))
        self._gate.answer(call.token, Answer(OK), self._group_commit.add_to_catalog("", record))

    def list_overrides(self, call: Call, _found: StreamReplica | None) -> None:
        """Answer a `ListOverrides`, from what this node has applied."""
        request, state = call.request, self._state
        assert isinstance(request, ListOverrides)
        limit = page_limit(request.limit, state.limits.page_entries_max)
        entries = []
        for stream_id, override in state.overrides.overridden():
            entry = state.catalog.entries[stream_id]
            if entry.account == call.principal.account and not entry.importing and entry.config.name > request.after:
                entries.append(StreamOverride(entry.config.name, *override))
        entries.sort(key=lambda each: each.stream)
        page: list[StreamOverride] = []
        byte_count = 0
        for each in entries:
            byte_count += len(each.stream.encode()) + ENTRY_OVERHEAD_BYTES
            if len(page) >= limit or (page and byte_count > state.limits.page_bytes_max):
                break
            page.append(each)
        next_after = page[-1].stream if len(page) < len(entries) else ""
        require_whole(request.limit, next_after)
        self._gate.reply(call.token, Answer(OK, "", Page(page, next_after)))

    def cluster_stats(self, call: Call, _found: StreamReplica | None) -> None:
        """Answer a `GetClusterStats` with what this node has applied; a member adds what others say of themselves."""
        request, state = call.request, self._state
        assert isinstance(request, GetClusterStats)
        own = state.config.node_id
        sums = sums_by_primary(state)
        nodes = {own} if request.local else {own, *state.config.members, *sums}
        rows = [sums.get(node, NodeSums(node)) for node in sorted(nodes)]
        streams = []
        if request.per_stream:
            for replica in sorted(state.replicas.values(), key=lambda each: each.name):
                owner = primary_of(state, replica)
                if not replica.importing and owner in nodes and replica.entry.account == call.principal.account:
                    stream = replica.stream
                    streams.append(
                        StreamFigures(replica.name, owner, stream.count, stream.bytes, stream.stats().last_seq)
                    )
        self._gate.reply(call.token, Answer(OK, "", ClusterStats(rows, streams)))
