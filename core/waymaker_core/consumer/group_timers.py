"""The deadlines of a stream's groups, as one heap: the first expiry of any delivery is known without looking at the others.

A group has at least one entry, and the newest one is not later than its next expiry. Answers make deadlines later, and change
nothing here: an entry that turns out too early is replaced when it is the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush, heapreplace

from waymaker_core.consumer.group import Group


class GroupTimers:
    """The groups of one stream by the time of their next expiry."""

    __slots__ = ("_groups", "_heap")

    def __init__(self, groups: Mapping[int, Group]) -> None:
        self._groups = groups
        self._heap: list[tuple[int, int]] = []
        """(deadline, group id); stale where the group is deleted or scheduled for another time."""

    def schedule(self, group: Group) -> None:
        """Add an entry for a group, unless it has one that is early enough. Costs O(log entries)."""
        deadline_ns = group.pending.next_deadline()
        if deadline_ns is not None and (group.scheduled_ns is None or deadline_ns < group.scheduled_ns):
            group.scheduled_ns = deadline_ns
            heappush(self._heap, (deadline_ns, group.id))

    def next_deadline(self) -> int | None:
        """Return the monotonic nanosecond of the next expiry of any delivery; None when nothing waits."""
        heap = self._heap
        while heap:
            deadline_ns, group_id = heap[0]
            group = self._groups.get(group_id)
            if group is None or group.scheduled_ns != deadline_ns:
                heappop(heap)
                continue
            actual = group.pending.next_deadline()
            group.scheduled_ns = actual
            if actual is None:
                heappop(heap)
            elif actual == deadline_ns:
                return deadline_ns
            else:
                heapreplace(heap, (actual, group_id))
        return None

    def take_due(self, mono_ns: int) -> Iterator[Group]:
        """Yield the groups whose time has come, none of them scheduled any more. The caller schedules each anew."""
        heap = self._heap
        while heap and heap[0][0] <= mono_ns:
            deadline_ns, group_id = heappop(heap)
            group = self._groups.get(group_id)
            if group is not None and group.scheduled_ns == deadline_ns:
                group.scheduled_ns = None
                yield group

    def check(self, group: Group) -> None:
        """Assert that a group has an entry that is not later than its next expiry; for tests and simulations."""
        deadline_ns = group.pending.next_deadline()
        if deadline_ns is not None:
            assert group.scheduled_ns is not None and group.scheduled_ns <= deadline_ns
            assert (group.scheduled_ns, group.id) in self._heap
