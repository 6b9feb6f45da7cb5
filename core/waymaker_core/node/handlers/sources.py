"""Statuses of sources: for one stream's info, and for all streams that this node leads."""

from __future__ import annotations

from typing import cast

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import ENTRY_OVERHEAD_BYTES, GetStreamSources, Page, SourceStatus
from waymaker_core.layers.layer import SOURCES
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.handlers.checks import page_limit, require_whole
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.sources.positions import Positions

NUMBERS_BYTES = 64
"""Bytes that the numbers of one status take on the wire, at most."""


def statuses(replica: StreamReplica) -> list[SourceStatus]:
    """Return the status of each source of a stream, in the order of its settings; positions are the committed ones."""
    sources = replica.stream.config.sources
    if not sources:
        return []
    positions = cast(Positions, replica.layers.by_kind[SOURCES])
    found: list[SourceStatus] = []
    for index, source in enumerate(sources):
        position = positions.committed(index)
        seq = 0 if position is None else position.seq
        status = SourceStatus(replica.name, source.source_stream, seq, filter_subject=source.filter_subject)
        if replica.leading.sources:
            run = replica.leading.sources[index]
            status.pulled_total = run.pulled_total
            status.last_error, status.last_error_ms = run.last_error, run.last_error_ms
            status.lag = max(0, run.seen_seq - seq)
        found.append(status)
    return found


class SourceLists:
    """Handler of the call about the sources of all streams."""

    def __init__(self, state: NodeState, gate: Gate) -> None:
        self._state = state
        self._gate = gate

    def list_statuses(self, call: Call, _found: StreamReplica | None) -> None:
        """Answer a `GetStreamSources`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, GetStreamSources)
        limit = page_limit(request.limit, limits.page_entries_max)
        page = self._page(call.principal.account, request.after, limit)
        require_whole(request.limit, page.next_after)
        self._gate.reply(call.token, Answer(OK, "", page))

    def _page(self, account: str, after: str, limit: int) -> Page[SourceStatus]:
        entries: list[SourceStatus] = []
        byte_count, last = 0, ""
        for entry in self._state.catalog.sourcing_after(account, after):
            replica = self._state.replicas[entry.stream_id]
            # Followers know the positions, though not what the primary reads at the moment.
            if replica.importing or not (replica.leading.serves or self._state.config.member):
                continue
            more = statuses(replica)
            byte_count += sum(map(_bytes, more))
            if entries and (len(entries) + len(more) > limit or byte_count > self._state.limits.page_bytes_max):
                return Page(entries, last)
            entries += more
            last = replica.name
        return Page(entries)


def _bytes(status: SourceStatus) -> int:
    words = (status.stream, status.source_stream, status.last_error)
    return NUMBERS_BYTES + sum(len(word.encode()) + ENTRY_OVERHEAD_BYTES for word in words)
