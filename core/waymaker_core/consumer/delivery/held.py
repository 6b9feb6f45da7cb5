"""Held deliveries: taken by a reader, and waiting in the node for a confirmation that it leads.

Each one is released or taken back. Until then it has reached no program: no answer means it, and its end is no attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from waymaker_core.api.requests import Messages
from waymaker_core.consumer.group import Group
from waymaker_core.consumer.registry import ConsumerRegistry
from waymaker_core.model.types import ConsumerId, Now
from waymaker_core.stream.stream import Stream

Return = Callable[[ConsumerId, int, list[int]], None]
"""Undoes the delivery of some messages: of a consumer, by the delivery's number."""


class HeldDeliveries:
    """The held deliveries of one stream's consumers."""

    def __init__(self, registry: ConsumerRegistry, stream: Stream, give_back: Return) -> None:
        self._registry = registry
        self._stream = stream
        self._give_back = give_back

    def hold_delivery(self, messages: Messages) -> None:
        """Hold a delivery that was just taken."""
        assert messages.taken_by is not None
        self._registry.groups_by_consumer[messages.taken_by].pending.held[messages.dispatch_id] = messages

    def all_held(self) -> Iterator[tuple[Group, Messages]]:
        """Yield every held delivery with its group: for tests and simulations."""
        for group in self._registry.groups.values():
            for messages in group.pending.held.values():
                yield group, messages

    def release_delivery(self, messages: Messages, now: Now) -> bool:
        """Let a delivery leave. Return False where some of it was answered, has expired or moved: it is taken back then."""
        if not self._is_current(messages, now):
            self.take_back(messages)
            return False
        self._end(messages)
        return True

    def take_back(self, messages: Messages) -> None:
        """Undo a delivery, as far as it was not answered and has not expired."""
        assert messages.taken_by is not None
        for run in messages.runs:
            self._give_back(messages.taken_by, messages.dispatch_id, list(run.sequences()))
        self._end(messages)

    def _is_current(self, messages: Messages, now: Now) -> bool:
        group = self._group(messages)
        if group is None or messages.layout != self._stream.layout:
            return False
        runs = [list(run.sequences()) for run in messages.runs]
        # By the clock, for no timer may have said so yet: the process was paused with the confirmation in hand.
        return all(group.waiting(seqs, messages.dispatch_id, now.mono_ns) == seqs for seqs in runs)

    def _end(self, messages: Messages) -> None:
        group = self._group(messages)
        if group is not None:
            group.pending.held.pop(messages.dispatch_id, None)

    def _group(self, messages: Messages) -> Group | None:
        """Return the group of the consumer that took a delivery; None if it was deleted."""
        assert messages.taken_by is not None
        return self._registry.groups_by_consumer.get(messages.taken_by)
