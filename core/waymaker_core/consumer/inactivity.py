"""Inactivity of the consumers of one stream: which of them no client used for as long as their settings allow.

Responsible for the deadlines of consumers with an inactivity timeout. A use only moves a number; the heap follows when its
entry surfaces, so that a use costs nothing that grows with the consumers. It must never delete a consumer: the node does.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace

from waymaker_core.consumer.pending.pending import NS_PER_MS
from waymaker_core.consumer.registry import ConsumerRegistry
from waymaker_core.model.records import AckRecord
from waymaker_core.model.types import ConsumerId, Now


class Inactivity:
    """Deadlines, in monotonic nanoseconds, of the consumers that have an inactivity timeout."""

    __slots__ = ("_registry", "_deadlines", "_heap")

    def __init__(self, registry: ConsumerRegistry) -> None:
        self._registry = registry
        self._deadlines: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []
        """One entry for each consumer, not later than its deadline. Entries of deleted consumers stay until they surface."""

    def resume(self, now: Now) -> None:
        """Begin every consumer's time at the start of the server, because no client could use one while it was down."""
        for consumer_id in self._registry.groups_by_consumer:
            self.used(ConsumerId(consumer_id), now)

    def used(self, consumer_id: ConsumerId, now: Now) -> None:
        """Start a consumer's time anew: a client used it, or it was created. A deleted consumer has none."""
        group = self._registry.groups_by_consumer.get(consumer_id)
        if group is not None and (inactive_ms := group.members[consumer_id].config.inactive_ms):
            self.put_off(consumer_id, now.mono_ns + inactive_ms * NS_PER_MS)

    def put_off(self, consumer_id: ConsumerId, deadline_ns: int) -> None:
        """Set a consumer's deadline. It never becomes earlier."""
        if consumer_id not in self._deadlines:
            heappush(self._heap, (deadline_ns, consumer_id))
        self._deadlines[consumer_id] = max(deadline_ns, self._deadlines.get(consumer_id, deadline_ns))

    def forget(self, consumer_id: int) -> None:
        """Forget a deleted consumer."""
        self._deadlines.pop(consumer_id, None)
        if len(self._heap) > 64 + 2 * len(self._deadlines):
            self._heap = [(deadline_ns, other) for other, deadline_ns in self._deadlines.items()]
            heapify(self._heap)

    def next_deadline(self) -> int | None:
        """Return the first deadline; None without consumers that have one."""
        heap = self._heap
        while heap:
            deadline_ns, consumer_id = heap[0]
            actual_ns = self._deadlines.get(consumer_id)
            if actual_ns == deadline_ns:
                return deadline_ns
            if actual_ns is None:
                heappop(heap)
            else:
                heapreplace(heap, (actual_ns, consumer_id))
        return None

    def take_due(self, now: Now) -> list[ConsumerId]:
        """Return and forget the consumers not used for their time, earliest first, but for those being deleted already."""
        due: list[ConsumerId] = []
        while (deadline_ns := self.next_deadline()) is not None and deadline_ns <= now.mono_ns:
            consumer_id = heappop(self._heap)[1]
            del self._deadlines[consumer_id]
            if self._registry.is_surviving(consumer_id):
                due.append(ConsumerId(consumer_id))
        return due

    def has_uncommitted_answer(self, consumer_id: ConsumerId) -> bool:
        """Return True if an ack or a term of a consumer is not committed, so that its client waits for the server."""
        return any(
            isinstance(entry.record, AckRecord) and entry.record.consumer_id == consumer_id
            for entry in self._registry.groups_by_consumer[consumer_id].staged.entries()
        )
