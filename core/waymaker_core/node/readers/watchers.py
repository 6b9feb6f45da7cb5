"""Watchers: clients that receive an event for every stream and consumer created, changed or deleted on this node.

Each has a ring buffer: when it is full the oldest event is dropped, and the next event sent carries the number lost before
it. An event is sent only while its watcher has credit.
"""

from __future__ import annotations

from collections import deque

from waymaker_core.api.effects import Effect, Event, EventKind
from waymaker_core.catalog.overrides import NO_OVERRIDE, Override
from waymaker_core.model.types import Token
from waymaker_core.node.gate import Gate


class Watcher:
    """One watcher's credit and its waiting events: (kind, stream, consumer, wall_ms, override)."""

    __slots__ = ("credit", "lagged", "events")

    def __init__(self, events_max: int) -> None:
        self.credit = 0
        self.lagged = 0
        self.events: deque[tuple[EventKind, str, str, int, Override]] = deque(maxlen=events_max)


class Watchers:
    """All watchers of a node, in the order in which they came."""

    def __init__(self, events_max: int, gate: Gate) -> None:
        self._events_max = events_max
        self._gate = gate
        self._watchers: dict[Token, Watcher] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    def __contains__(self, token: Token) -> bool:
        return token in self._watchers

    def add_watcher(self, token: Token) -> None:
        """Add a watcher; it receives what happens from now on."""
        self._watchers[token] = Watcher(self._events_max)

    def remove_watcher(self, token: Token) -> None:
        """Remove a watcher that its client has ended."""
        self._watchers.pop(token, None)

    def credit(self, token: Token, messages: int, effects: list[Effect]) -> None:
        """Add to a watcher's credit."""
        watcher = self._watchers[token]
        watcher.credit += messages
        self._send(token, watcher, effects)

    def notify(
        self, kind: EventKind, stream: str, consumer: str, wall_ms: int, effects: list[Effect],
        override: Override = NO_OVERRIDE,
    ) -> None:  # fmt: skip
        """Send or buffer an event about a committed change."""
        for token, watcher in self._watchers.items():
            if len(watcher.events) == self._events_max:
                watcher.lagged += 1
            watcher.events.append((kind, stream, consumer, wall_ms, override))
            self._send(token, watcher, effects)

    def end_all(self, reason: str) -> None:
        """End every watcher: the node stops."""
        for token in self._watchers:
            self._gate.end(token, reason)
        self._watchers.clear()

    @staticmethod
    def _send(token: Token, watcher: Watcher, effects: list[Effect]) -> None:
        while watcher.credit > 0 and watcher.events:
            kind, stream, consumer, wall_ms, override = watcher.events.popleft()
            effects.append(Event(token, kind, stream, consumer, wall_ms, watcher.lagged, *override))
            watcher.lagged = 0
            watcher.credit -= 1
