"""Calls to collections: entries of hash and set stores, and values of queues."""

from __future__ import annotations

from functools import partial
from typing import Final

from waymaker_core.api.collection_requests import (
    CountEntries,
    CountValues,
    GetEntries,
    HasEntries,
    ListEntries,
    PeekValues,
    PopValues,
    PushValues,
    PutEntries,
    ReadEntries,
    RemoveEntries,
)
from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import ENTRY_OVERHEAD_BYTES, EntryMessages, Messages, Page, TakenMessages
from waymaker_core.collections import decisions
from waymaker_core.collections.entries import Entries, seq_of, size_of
from waymaker_core.collections.queue import Queue
from waymaker_core.layers.layer import COLLECTIONS, FACT_BYTES_MAX
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.result_codes import OK, Answer, Outcome, Refusal, Status, invalid, resource_exhausted
from waymaker_core.model.types import Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.handlers.checks import page_limit, require_whole
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.stream_registry import StreamRegistry, no_such_stream
from waymaker_core.node.stream_replica import Leading, StreamReplica
from waymaker_core.stream import reads
from waymaker_core.stream.answers import MESSAGE_OVERHEAD_BYTES

ENDED: Final = Refusal(
    Status.ABORTED, "the queue was deleted or moved; the values were taken and cannot be given", Outcome.UNKNOWN
)


class Collections:
    """Handlers of the calls to collections."""

    def __init__(
        self,
        state: NodeState,
        committing: Committing,
        gate: Gate,
        indexes: Indexes,
        quarantine: Quarantine,
        registry: StreamRegistry,
    ) -> None:
        self._state = state
        self._committing = committing
        self._gate = gate
        self._indexes = indexes
        self._quarantine = quarantine
        self._registry = registry

    # ------------------------------------------------------------------ changes of entries

    def put_entries(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `PutEntries`."""
        request = call.request
        assert isinstance(request, PutEntries)
        replica = self._registry.require_changeable(found, request.stream)
        entries = _entries(replica)
        count = len(request.subjects)
        bound = self._committing.admit(replica, count, sum(map(len, request.bodies)), 16 * count)
        decision = decisions.decide_put(replica.stream, entries, request, self._state.now.wall_ms)
        self._state.stats.entries_put += len(decision.parts)
        self._committing.commit_layer(call.token, replica, decision, bound)

    def remove_entries(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `RemoveEntries`."""
        request = call.request
        assert isinstance(request, RemoveEntries)
        replica = self._registry.require_changeable(found, request.stream)
        entries = _entries(replica)
        most = self._state.limits.publish_batch_max
        if len(request.subjects) > most:
            raise resource_exhausted(f"{len(request.subjects):,} entries; at most {most:,} are removed at once")
        more = 16 * len(request.subjects) + min(
            FACT_BYTES_MAX, sum(len(each.encode()) + 1 for each in request.subjects)
        )
        bound = self._committing.admit(replica, 0, 0, more, ordinary=False)
        decision = decisions.decide_remove(replica.stream, entries, request)
        self._state.stats.entries_removed += decision.value if isinstance(decision.value, int) else 0
        self._committing.commit_layer(call.token, replica, decision, bound)

    # ------------------------------------------------------------------ reads of entries

    def get_entries(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `GetEntries`."""
        request = call.request
        assert isinstance(request, GetEntries)
        replica = self._registry.require_served(found, request.stream)
        entries = _entries(replica)
        self._check_asked(len(request.subjects))
        places = [entries.places.get(subject, 0) for subject in request.subjects]
        total = sum(size_of(place) + MESSAGE_OVERHEAD_BYTES for place in places if place)
        if total > self._state.limits.page_bytes_max and len(places) > 1:
            raise resource_exhausted(
                f"the values have {total:,} bytes; at most {self._state.limits.page_bytes_max:,} are read at once"
            )
        self._reply_entries(call.token, replica, [seq_of(place) for place in places], "")

    def has_entries(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `HasEntries`."""
        request = call.request
        assert isinstance(request, HasEntries)
        entries = _entries(self._registry.require_served(found, request.stream))
        self._check_asked(len(request.subjects))
        self._state.stats.entries_read += len(request.subjects)
        self._gate.reply(call.token, Answer(OK, "", [subject in entries.places for subject in request.subjects]))

    def list_entries(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ListEntries`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ListEntries)
        entries = _entries(self._registry.require_served(found, request.stream))
        limit = page_limit(request.limit, limits.page_entries_max)
        subjects = entries.page(request.head, request.after, limit + 1)
        page = self._cut(subjects, [len(each.encode()) + ENTRY_OVERHEAD_BYTES for each in subjects], limit)
        require_whole(request.limit, page.next_after)
        self._state.stats.entries_read += len(page.entries)
        self._gate.reply(call.token, Answer(OK, "", page))

    def read_entries(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ReadEntries`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ReadEntries)
        replica = self._registry.require_served(found, request.stream)
        entries = _entries(replica)
        limit = page_limit(request.limit, limits.page_entries_max)
        subjects = entries.page(request.head, request.after, limit + 1)
        sizes = [size_of(entries.places[each]) + MESSAGE_OVERHEAD_BYTES for each in subjects]
        page = self._cut(subjects, sizes, limit)
        require_whole(request.limit, page.next_after)
        seqs = [seq_of(entries.places[subject]) for subject in page.entries]
        self._reply_entries(call.token, replica, seqs, page.next_after)

    def count_entries(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `CountEntries`."""
        request = call.request
        assert isinstance(request, CountEntries)
        entries = _entries(self._registry.require_served(found, request.stream))
        self._gate.reply(call.token, Answer(OK, "", entries.counts.get(request.head, 0)))

    def _check_asked(self, count: int) -> None:
        most = self._state.limits.page_entries_max
        if not 1 <= count <= most:
            raise invalid(f"{count:,} entries were asked for; 1 to {most:,} are looked up at once")

    def _cut(self, subjects: list[str], sizes: list[int], limit: int) -> Page[str]:
        """Return what fits one answer, at least one entry if there is any."""
        left, most = self._state.limits.page_bytes_max, min(limit, len(subjects))
        for number in range(most):
            left -= sizes[number]
            if left < 0 and number:
                most = number
                break
        return Page(subjects[:most], subjects[most - 1] if most < len(subjects) else "")

    def _reply_entries(self, token: Token, replica: StreamReplica, wanted: list[int], next_after: str) -> None:
        seqs = sorted(dict.fromkeys(seq for seq in wanted if seq))
        found = reads.messages_at(replica.stream, seqs, [0] * len(seqs))
        assert found.count == len(seqs), "an entry's message is live"
        self._state.stats.entries_read += len(wanted)
        messages = EntryMessages(found.runs, found.count, found.byte_count, wanted=wanted, next_after=next_after)
        self._gate.reply_messages(token, replica, messages)

    # ------------------------------------------------------------------ queues

    def push(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `PushValues`."""
        request = call.request
        assert isinstance(request, PushValues)
        replica = self._registry.require_changeable(found, request.stream)
        queue = _queue(replica)
        bound = self._committing.admit(replica, len(request.bodies), sum(map(len, request.bodies)))
        decision = decisions.decide_push(replica.stream, queue, request, self._state.now.wall_ms)
        self._state.stats.queue_pushed += len(decision.parts)
        self._committing.commit_layer(call.token, replica, decision, bound)

    def pop(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `PopValues`. Its answer is made when the take is applied: the values are read from where they lie then."""
        request = call.request
        assert isinstance(request, PopValues)
        replica = self._registry.require_changeable(found, request.stream)
        queue = _queue(replica)
        bound = self._committing.admit(replica, 0, 0, ordinary=False)
        decision, seqs = decisions.decide_pop(replica.stream, queue, request, call.token)
        if decision.record is None:
            decision.value = Messages([], 0, 0)
            self._committing.commit_layer(call.token, replica, decision, bound)
            return
        rest = self._committing.add_decided(replica, decision.record, decision.parts, bound)
        self._gate.when_applied(call.token, partial(self._give, replica.leading, call.token, seqs), rest)

    def _give(self, leading: Leading, token: Token, seqs: list[int]) -> None:
        """Give values whose take is applied, as soon as their indexes are resident."""
        give, lost = partial(self._give_now, leading, token, seqs), partial(self._lost, leading, token)
        if leading.over:
            self._gate.refuse(token, ENDED)
        else:
            self._indexes.when_resident(leading.replica, give, lost)

    def _give_now(self, leading: Leading, token: Token, seqs: list[int]) -> None:
        replica = leading.replica
        if leading.over:
            self._gate.refuse(token, ENDED)
            return
        found = reads.messages_at(replica.stream, seqs, [0] * len(seqs))
        assert found.count == len(seqs), "a value that was not given is live"
        messages = TakenMessages(found.runs, found.count, found.byte_count)
        _queue(replica).answered(token)
        self._state.stats.queue_popped += len(seqs)
        self._gate.reply_messages(token, replica, messages)
        self._state.mark_dirty(replica)

    def _lost(self, leading: Leading, token: Token, failure: DiskFailure) -> None:
        _queue(leading.replica).answered(token)
        refusal = self._quarantine.found(leading.replica, failure)
        self._gate.refuse(token, Refusal(refusal.status, refusal.message, Outcome.UNKNOWN, refusal.code))

    def peek(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `PeekValues`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, PeekValues)
        replica = self._registry.require_served(found, request.stream)
        queue = _queue(replica)
        limit = page_limit(request.limit, limits.page_entries_max) if request.limit else limits.scan_default
        from_seq = max(request.from_seq, queue.taken_to + 1)
        messages = reads.read_range(replica.stream, from_seq, limit, limits.page_bytes_max)
        self._gate.reply_messages(call.token, replica, messages)

    def length(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `CountValues`."""
        request = call.request
        assert isinstance(request, CountValues)
        queue = _queue(self._registry.require_served(found, request.stream))
        self._gate.reply(call.token, Answer(OK, "", queue.count))


def _entries(replica: StreamReplica) -> Entries:
    layer = replica.layers.by_kind.get(COLLECTIONS)
    if not isinstance(layer, Entries):
        raise no_such_stream(replica.name)
    return layer


def _queue(replica: StreamReplica) -> Queue:
    layer = replica.layers.by_kind.get(COLLECTIONS)
    if not isinstance(layer, Queue):
        raise no_such_stream(replica.name)
    return layer
