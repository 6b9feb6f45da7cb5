"""The place of a lone caller's sync: the event loop, or the journal's thread. See docs/decisions/0004-inline-sync.md.

Responsible for the choice alone: it measures nothing, and performs nothing. On an idle machine the loop is quicker, since no
thread is woken twice. Where others use the same cores, the thread is: a loop that has just computed waits for its next share
of a core behind each sync, and a thread that only syncs has its share left. So the choice rests on what either place took
lately, and now and then the other one is tried.
"""

from __future__ import annotations

from typing import Final

from waymaker.storage.store import toward_median

INLINE_SYNC_MAX_S: Final = 0.002
"""A disk slower than this is never waited for on the loop itself."""
INLINE_RUN: Final = 64
"""So many syncs run in the quicker place in a row; the next one runs in the other, for its time, and to see calls arrive."""
CROWDED_SYNCS: Final = 16
"""So many syncs on the thread, each without another call, until one caller counts as alone again."""


class SyncPlace:
    """The choice between the loop and the thread, and what it rests on. Times are seconds, from a decision to its result."""

    def __init__(self) -> None:
        self._left = INLINE_RUN
        """The syncs until the other place is tried."""
        self._crowded = 0
        """The syncs on the thread that are still needed without another call. Greater than 0: a sync on the loop would hold up
        calls that could share it. While the loop syncs it cannot see them, so only the thread's syncs tell."""
        self._loop_s = 0.0
        self._thread_s: float | None = None
        """About the medians of what lone callers' syncs took in either place; None: the thread was not tried."""

    def takes_loop(self, sync_s: float) -> bool:
        """Decide where the next sync of a lone caller runs; True: on the loop. `sync_s`: about the median of syncs alone."""
        if self._crowded or sync_s >= INLINE_SYNC_MAX_S:
            return False
        loop_is_quicker = self._thread_s is None or self._loop_s <= self._thread_s
        if self._left == 0:
            self._left = INLINE_RUN
            return not loop_is_quicker
        self._left -= 1
        return loop_is_quicker

    def ran_on_loop(self, took_s: float) -> None:
        """Note what a lone caller's sync took on the loop."""
        self._loop_s = toward_median(self._loop_s, took_s)

    def ran_on_thread(self, took_s: float | None, others: bool) -> None:
        """Note a sync on the thread: whether other calls arrived meanwhile, and what it took if its caller was alone."""
        self._crowded = CROWDED_SYNCS if others else max(0, self._crowded - 1)
        if took_s is not None and not others:
            self._thread_s = took_s if self._thread_s is None else toward_median(self._thread_s, took_s)
