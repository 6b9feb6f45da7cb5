"""The pace at which a program works on messages, and its consequence: how many may wait for it, and for how long.

A message's `ack_wait` runs from when the server sent it, so what waits here must be worked on long before that is over.
"""

from __future__ import annotations

FIRST = 128
"""Messages that may wait before it is known how long the work on one takes."""
SHARE = 0.5
"""The part of `ack_wait` in which everything that waits is to be worked on."""
STALE_MIN, STALE_MAX = 0.5, 0.9
"""The parts of `ack_wait` between which a message becomes too old to be begun with."""


class Pace:
    """A moving estimate of the seconds that the work on one message takes."""

    __slots__ = ("work_s", "ack_wait_s", "_given_at", "_given")

    def __init__(self) -> None:
        self.work_s: float | None = None
        self.ack_wait_s = 0.0
        """As deliveries tell it; 0: not known."""
        self._given_at = 0.0
        self._given = 0

    def begin(self, now: float, count: int) -> None:
        """Note that the program is given messages."""
        self._given_at, self._given = now, count

    def end(self, now: float) -> None:
        """Note that the program asks for more. Slower work is believed sooner than faster."""
        if not self._given:
            return
        took = (now - self._given_at) / self._given
        self._given = 0
        if self.work_s is None:
            self.work_s = took
        else:
            self.work_s += (took - self.work_s) / (2 if took > self.work_s else 4)

    def room(self, most: int) -> int:
        """Return how many messages may wait, `most` at most."""
        if self.work_s is None:
            return min(most, FIRST)
        if not self.ack_wait_s or not self.work_s:
            return most
        return max(1, min(most, int(SHARE * self.ack_wait_s / self.work_s)))

    def fresh_s(self) -> float:
        """Return how long ago a message may have come to be begun with now; it has `ack_wait` less that for its work."""
        if not self.ack_wait_s:
            return float("inf")
        share = 1 - 2 * (self.work_s or 0.0) / self.ack_wait_s
        return min(STALE_MAX, max(STALE_MIN, share)) * self.ack_wait_s
