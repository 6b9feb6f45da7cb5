"""One heap of deadlines for the whole node, so that a tick costs what is due and nothing else.

A timer is (kind, key) with at most one deadline. Arming it anew leaves the old heap entry behind, which is recognised and
thrown away when it surfaces (lazy deletion).
"""

from __future__ import annotations

from enum import IntEnum
from heapq import heapify, heappop, heappush
from typing import Final


class Timer(IntEnum):
    """The purpose of a deadline; its key is a stream id, or 0."""

    DELIVERIES = 1
    """A delivery of one of the stream's consumers becomes due again."""
    AGE = 2
    """A message of the stream becomes too old, or its consumers' interest is to be judged."""
    DISK_RETRY = 3
    """A full disk is tried again."""
    SYNC = 4
    """The interval between two syncs ends."""
    WATERMARK = 5
    """An idle node writes a watermark."""
    COMMIT_RETRY = 6
    """A group commit that found no free space is written again."""
    DEAD_LETTERS = 7
    """Bodies of dead letters that could not be read are tried again."""
    KEPT_LETTERS = 8
    """Messages that were kept, since their dead letters would not have stayed, are tried again."""
    INACTIVE = 9
    """One of the stream's consumers was not used for its inactivity timeout."""
    DRAIN = 10
    """A node that stops waits no longer for majorities."""
    PINS = 11
    """A reader that pins journal segments is stuck."""
    LAYERS = 12
    """Something of one of the stream's layers falls due."""
    SOURCES = 13
    """A source of the stream is tried again after a trouble."""
    COMMITS = 14
    """An idle node writes down what was committed."""


OF_STREAMS: Final = (
    Timer.AGE, Timer.DELIVERIES, Timer.DEAD_LETTERS, Timer.KEPT_LETTERS, Timer.INACTIVE, Timer.LAYERS, Timer.SOURCES,
)  # fmt: skip
"""Timers whose key is a stream: they end with its service."""


class Timers:
    """Deadlines in monotonic nanoseconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int]] = []
        self._armed: dict[tuple[int, int], int] = {}
        self._no_space: dict[tuple[int, int], None] = {}
        """Armed timers whose work lacks free space in the journal."""

    def arm(self, kind: Timer, key: int, deadline_ns: int | None) -> None:
        """Set, move or (None) clear one timer."""
        name = (int(kind), key)
        if deadline_ns is None:
            self._armed.pop(name, None)
            self._no_space.pop(name, None)
            return
        if self._armed.get(name) == deadline_ns:
            return
        self._armed[name] = deadline_ns
        heappush(self._heap, (deadline_ns, *name))
        if len(self._heap) > 64 + 4 * len(self._armed):
            self._heap = [(at, *key_of) for key_of, at in self._armed.items()]
            heapify(self._heap)

    def note_no_space(self, kind: Timer, key: int) -> None:
        """Note that the work of an armed timer lacks free space: it need not wait where there is some earlier."""
        self._no_space[(int(kind), key)] = None

    def take_no_space(self) -> list[tuple[Timer, int]]:
        """Disarm and return the timers whose work lacked free space, in the order in which they were noted."""
        taken, self._no_space = self._no_space, {}
        return [(Timer(kind), key) for kind, key in taken if self._armed.pop((kind, key), None) is not None]

    def deadline(self, kind: Timer, key: int) -> int | None:
        """Return the time at which this timer is due."""
        return self._armed.get((int(kind), key))

    def armed(self, kind: Timer) -> list[int]:
        """Return the keys of all armed timers of a kind. Costs all timers: for rare occasions."""
        return [key for other, key in self._armed if other == kind]

    def next_deadline(self) -> int | None:
        """Return the time at which the first of all timers is due."""
        heap = self._heap
        while heap:
            deadline_ns, kind, key = heap[0]
            if self._armed.get((kind, key)) == deadline_ns:
                return deadline_ns
            heappop(heap)
        return None

    def take_due(self, now_ns: int) -> list[tuple[Timer, int]]:
        """Disarm and return what is due, earliest first."""
        due: list[tuple[Timer, int]] = []
        while True:
            deadline_ns = self.next_deadline()
            if deadline_ns is None or deadline_ns > now_ns:
                return due
            _, kind, key = heappop(self._heap)
            del self._armed[(kind, key)]
            self._no_space.pop((kind, key), None)
            due.append((Timer(kind), key))
