"""Server time of a stream: how far it may run ahead of the wall clock, and what follows when it ran too far.

Server times never decrease in a stream as long as the wall clock is at most `clock_ahead_max_ms` behind the greatest of them.
A larger lead means that the wall clock was wrong once, or is wrong now. The stream cannot find out which, so it
follows the wall clock as it is, and no message may be deleted too early in either case:

- The clock was ahead. Messages up to a correction may bear times that never seem old. For age they count as published at the
  correction at the latest, so all of them expire once `max_age` has passed since.
- The clock is behind. Messages after the correction bear times that seem far too old once the clock is right again. When the
  wall clock is back at the time that the correction left, nothing expires for one `max_age`.

See docs/decisions/0015-server-time-bounded.md.
"""

from __future__ import annotations

from typing import NamedTuple

CORRECTIONS_MAX = 16
"""Corrections that a stream remembers; the next newer one covers the messages of one that it forgets."""


class Correction(NamedTuple):
    """A moment at which server time was taken back: from `was_ms` to `at_ms`, behind sequence `last_seq`."""

    last_seq: int
    at_ms: int
    was_ms: int

    def expires_ms(self, max_age_ms: int) -> int | None:
        """Return when its messages expire by it; None when the clock is back at `was_ms` before, and their own times count."""
        due_ms = self.at_ms + max_age_ms
        return due_ms if due_ms < self.was_ms else None


def is_ahead(clock_ms: int, wall_ms: int, ahead_max_ms: int) -> bool:
    """Return True if server time runs so far ahead that it has to be taken back."""
    return clock_ms - wall_ms > ahead_max_ms


def server_time(clock_ms: int, wall_ms: int, ahead_max_ms: int) -> int:
    """Return the server's time for the next message of a stream whose greatest one is `clock_ms`."""
    return wall_ms if is_ahead(clock_ms, wall_ms, ahead_max_ms) else max(wall_ms, clock_ms)


def expired_to(corrections: list[Correction], wall_ms: int, max_age_ms: int) -> int:
    """Return the sequence up to which every message has expired by a correction; 0: none."""
    expired = (each for each in corrections if each.at_ms + max_age_ms <= wall_ms < each.was_ms)
    return max((each.last_seq for each in expired), default=0)


def spares_all(corrections: list[Correction], wall_ms: int, max_age_ms: int) -> bool:
    """Return True while times given since the newest correction may seem too old, so that nothing expires."""
    return bool(corrections) and corrections[-1].was_ms <= wall_ms < corrections[-1].was_ms + max_age_ms
