"""Reads of committed, live messages, never of the overlay. They change nothing and wait for nothing but an index."""

from __future__ import annotations

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import ListSubjects, ReadLatest, ReadRange, ScanSubject
from waymaker_core.model.result_codes import OK, Answer, invalid
from waymaker_core.model.subjects import subject_fault
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.handlers.checks import page_limit
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.stream import reads


class Reading:
    """Handlers of the calls that read messages and subjects."""

    def __init__(self, state: NodeState, gate: Gate, registry: StreamRegistry) -> None:
        self._state = state
        self._gate = gate
        self._registry = registry

    def latest(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ReadLatest`."""
        request = call.request
        assert isinstance(request, ReadLatest)
        replica = self._registry.require_served(found, request.stream)
        self._require_subject(request.subject)
        self._gate.reply_messages(call.token, replica, reads.read_latest(replica.stream, request.subject))

    def subjects(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ListSubjects`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ListSubjects)
        replica = self._registry.require_served(found, request.stream)
        page_limit(request.limit, limits.page_entries_max)
        page = reads.list_subjects(replica.stream, request.prefix, request.after, request.limit)
        self._gate.reply(call.token, Answer(OK, "", page))

    def scan(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ScanSubject`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ScanSubject)
        replica = self._registry.require_served(found, request.stream)
        self._require_subject(request.subject)
        limit = self._entries(request.limit) or limits.scan_default
        messages = reads.scan_subject(replica.stream, request.subject, request.from_seq, limit, limits.page_bytes_max)
        self._gate.reply_messages(call.token, replica, messages)

    def range(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ReadRange`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ReadRange)
        replica = self._registry.require_served(found, request.stream)
        limit = self._entries(request.limit) or limits.page_entries_max
        messages = reads.read_range(replica.stream, request.from_seq, limit, limits.page_bytes_max)
        self._gate.reply_messages(call.token, replica, messages)

    def _require_subject(self, subject: str) -> None:
        """Refuse a subject at which no message can be: an empty answer would hide the caller's mistake."""
        if fault := subject_fault(subject, self._state.limits):
            raise invalid(f"{subject[:80]!r} is not a subject: {fault}")

    def _entries(self, limit: int) -> int:
        if not 0 <= limit <= self._state.limits.page_entries_max:
            raise invalid(f"limit = {limit}; at most {self._state.limits.page_entries_max} messages are given at once")
        return limit
