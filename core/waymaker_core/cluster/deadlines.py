"""Deadlines of many replicas: to set one, and to find what is due, costs nothing for those that are idle."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from waymaker_core.replication.state import NEVER

SLACK: Final = 64
"""Entries of the heap that may be out of date, beside as many as there are deadlines."""


class Deadlines:
    """At most one deadline for each key. A heap whose entries may be out of date; those are skipped where they surface."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._set: dict[int, int] = {}

    def set(self, key: int, at: int) -> None:
        """Set the deadline of a key, or none with `NEVER`."""
        if self._set.get(key, NEVER) == at:
            return
        if at >= NEVER:
            self._set.pop(key, None)
            return
        self._set[key] = at
        heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._set) + SLACK:
            self._heap = [(deadline, each) for each, deadline in self._set.items()]
            heapify(self._heap)

    def pop_due(self, now: int) -> list[int]:
        """Take out the keys whose deadline has come, the earliest first; they have none until it is set again."""
        due: list[int] = []
        while self._heap and self._heap[0][0] <= now:
            at, key = heappop(self._heap)
            if self._set.get(key) == at:
                del self._set[key]
                due.append(key)
        return due

    def next(self) -> int:
        """Return the earliest deadline; `NEVER` where there is none."""
        heap = self._heap
        while heap and self._set.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else NEVER
