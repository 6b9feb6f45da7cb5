"""Waits of fixed length that began at a server time, and end by the monotonic clock.

The wall clock may have been wrong when a wait began. A wait that seems to begin in the future counts from the moment at which
it is noticed: it ends late by at most its own length, instead of a year. It never decides what ends: layers do.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.model.types import Now

_NS: Final = 1_000_000


class Waits:
    """The ends of waits that are asked for in order, from the oldest on. Only a leader has them."""

    __slots__ = ("_noticed_ns",)

    def __init__(self) -> None:
        self._noticed_ns = 0
        """The moment at which it was noticed that the oldest wait begins in the future; 0: it does not."""

    def copy(self) -> Waits:
        """Return a copy, for a decision that may be made again."""
        copied = Waits()
        copied._noticed_ns = self._noticed_ns
        return copied

    def end_of(self, since_ms: int, wait_ms: int, now: Now) -> int:
        """Return the monotonic nanosecond at which the oldest wait ends."""
        if since_ms <= now.wall_ms:
            self._noticed_ns = 0
            return now.mono_ns + max(since_ms + wait_ms - now.wall_ms, 0) * _NS
        # Those behind it that begin in the future too ended their waits meanwhile: they do not wait one after the other.
        self._noticed_ns = self._noticed_ns or now.mono_ns
        return self._noticed_ns + wait_ms * _NS
