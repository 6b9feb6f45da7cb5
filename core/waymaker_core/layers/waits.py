"""Waits of one length that began at server times, in line, each with its end on the monotonic clock.

The wall clock may have been wrong when a wait began. Its end is computed once, when it is first looked at: from then on
the wall clock does not matter, nor in which order right and wrong times stand. One that seems to begin in the future ends
late by at most its own length, instead of a year. It never decides what ends: layers do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Generic, TypeVar

from waymaker_core.model.types import Now

SLACK: Final = 64
"""Keys that may be in line and wait no more, besides as many as wait."""
_NS: Final = 1_000_000

Key = TypeVar("Key")


class Waits(Generic[Key]):
    """Keys in the order in which their waits began. Only a leader has them.

    `since_of` gives the server time at which the wait of a key began, or None: it waits no more. A key may be in line twice:
    only with the time at which its wait began last it still waits.
    """

    __slots__ = ("_since_of", "_line", "_runs", "_fresh", "_most")

    def __init__(self, since_of: Callable[[Key], int | None]) -> None:
        self._since_of = since_of
        self._line: deque[Key] = deque()
        self._runs: deque[tuple[int | None, int, int]] = deque()
        """Of the keys in line, alike ones together: when they began, when they end, and how many they are."""
        self._fresh: list[Key] = []
        """Keys that stand behind them, and that have no end yet."""
        self._most = SLACK
        """The length of the line beyond which those are taken out that wait no more."""

    def __len__(self) -> int:
        """Return the number of keys in line, those included that wait no more."""
        return len(self._line) + len(self._fresh)

    def append_keys(self, keys: Iterable[Key]) -> None:
        """Put keys in line."""
        self._fresh.extend(keys)

    def restart(self, keys: Iterable[Key]) -> None:
        """Forget the line, and put these keys in line."""
        self._line.clear()
        self._runs.clear()
        self._fresh = list(keys)

    def next_end(self, wait_ms: int, now: Now) -> int | None:
        """Return the monotonic nanosecond at which the first wait ends; None: there is none."""
        self._note_ends(wait_ms, now)
        while self._runs:
            since_ms, end_ns, _ = self._runs[0]
            if since_ms is not None and self._since_of(self._line[0]) == since_ms:
                return end_ns
            self.drop(1)
        return None

    def over(self, wait_ms: int, now: Now) -> Iterator[tuple[Key, bool]]:
        """Yield the keys in line whose waits are over, and whether each still waited. Nothing may change meanwhile."""
        self._note_ends(wait_ms, now)
        keys = iter(self._line)
        for since_ms, end_ns, count in self._runs:
            if end_ns > now.mono_ns:
                return
            for key in islice(keys, count):
                yield key, since_ms is not None and self._since_of(key) == since_ms

    def drop(self, count: int) -> None:
        """Take the first keys out of the line; `next_end` or `over` has looked at them."""
        for _ in range(count):
            self._line.popleft()
            since_ms, end_ns, left = self._runs.popleft()
            if left > 1:
                self._runs.appendleft((since_ms, end_ns, left - 1))

    def end_of(self, since_ms: int, wait_ms: int, now: Now) -> int:
        """Return the monotonic nanosecond at which a wait ends that is first looked at now."""
        return now.mono_ns + min(max(since_ms + wait_ms - now.wall_ms, 0), wait_ms) * _NS

    def _note_ends(self, wait_ms: int, now: Now) -> None:
        runs = self._runs
        # A key that began to wait again stands where it was put last, or those between would wait for it.
        for key in reversed(dict.fromkeys(reversed(self._fresh))):
            self._line.append(key)
            since_ms = self._since_of(key)
            if runs and runs[-1][0] == since_ms:
                # Began together; those that were looked at before end no later.
                runs[-1] = (since_ms, runs[-1][1], runs[-1][2] + 1)
                continue
            # None ends before one that stands before it, which ends a length after it was looked at, at the latest.
            end_ns = now.mono_ns if since_ms is None else self.end_of(since_ms, wait_ms, now)
            runs.append((since_ms, max(end_ns, runs[-1][1]) if runs else end_ns, 1))
        self._fresh.clear()
        if len(self._line) > self._most:
            self._leave_out_others()

    def _leave_out_others(self) -> None:
        """Take out the keys that wait no more. It happens when the line has doubled, so each key costs the same."""
        keys, self._line = iter(self._line), deque()
        runs, self._runs = self._runs, deque()
        for since_ms, end_ns, count in runs:
            kept = [key for key in islice(keys, count) if since_ms is not None and self._since_of(key) == since_ms]
            if kept:
                self._line.extend(kept)
                self._runs.append((since_ms, end_ns, len(kept)))
        self._most = SLACK + 2 * len(self._line)
