"""Virtual time: one queue of events for the whole world, in order of time and, within one instant, of scheduling.

Nothing changes between two events, and nothing takes real time. An actor schedules here everything that it does later.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

US = 1_000
MS = 1_000_000
SECOND = 1_000_000_000

Action = Callable[[], None]


class Events:
    """The queue and the clock: `now_ns` is the time of the event that runs."""

    __slots__ = ("now_ns", "count", "_heap", "_order")

    def __init__(self) -> None:
        self.now_ns = 0
        self.count = 0
        self._heap: list[tuple[int, int, Action]] = []
        self._order = 0

    def after(self, delay_ns: int, action: Action) -> None:
        """Run `action` after a delay; a delay of 0 means after everything already due now."""
        assert delay_ns >= 0
        self._order += 1
        heappush(self._heap, (self.now_ns + delay_ns, self._order, action))

    def at(self, time_ns: int, action: Action) -> None:
        """Run `action` at a time, which may not be in the past."""
        self.after(time_ns - self.now_ns, action)

    def run_until(self, time_ns: int, stop: Callable[[], bool] | None = None) -> None:
        """Run everything due up to a time, or until `stop` returns True after an event; then set the clock to that
        time."""
        heap = self._heap
        while heap and heap[0][0] <= time_ns:
            at, _, action = heappop(heap)
            self.now_ns = at
            self.count += 1
            action()
            if stop is not None and stop():
                return
        self.now_ns = max(self.now_ns, time_ns)
