"""Deliveries to one reader of which it is not known yet that they reached the program, in the order in which they left.

A reader reports how many it has dealt with, counted from the first. It must never hold more than a reader may leave
unreported; what it costs is one entry for each stretch of consecutive sequences. See
docs/decisions/0010-what-counts-as-an-attempt.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from waymaker_core.api.requests import Messages


@dataclass(slots=True, eq=False)
class Sent:
    """Messages with consecutive sequences that left in one delivery."""

    dispatch_id: int
    first: int
    count: int
    place: int = 0
    """The number of messages that were sent to the reader before it."""

    @property
    def seqs(self) -> list[int]:
        """Return its sequences, ascending."""
        return list(range(self.first, self.first + self.count))


class Unreported:
    """Messages that were sent to one reader and not reported, oldest first."""

    __slots__ = ("left", "reported", "_runs")

    def __init__(self) -> None:
        self.left = 0
        """Messages that were sent so far."""
        self.reported = 0
        """Those of them that were reported, or given back."""
        self._runs: deque[Sent] = deque()

    def add_messages(self, messages: Messages) -> None:
        """Add messages that are sent."""
        for run in messages.runs:
            seqs = run.sequences()
            for begin, end in run.stretches():
                self._runs.append(Sent(messages.dispatch_id, seqs[begin], end - begin))
        self.left += messages.count

    def take(self, count: int) -> list[Sent]:
        """Note that a reader has dealt with so many of what was sent, in all; return those that are new."""
        taken: list[Sent] = []
        count = min(count, self.left)
        while self.reported < count:
            run = self._runs[0]
            part = min(run.count, count - self.reported)
            taken.append(Sent(run.dispatch_id, run.first, part, self.reported))
            self.reported += part
            if part == run.count:
                self._runs.popleft()
            else:
                run.first += part
                run.count -= part
        return taken

    def rest(self) -> list[Sent]:
        """Return everything that was not reported, and forget it."""
        return self.take(self.left)

    def __len__(self) -> int:
        return self.left - self.reported


def without(sent: Sent, back: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Part the sequences of a run into those whose places, from 1, lie outside of some stretches, and those inside."""
    outside: list[int] = []
    inside: list[int] = []
    at, end = sent.place + 1, sent.place + sent.count + 1
    shift = sent.first - sent.place - 1
    for first, last in sorted(back):
        start, stop = min(max(first, at), end), min(max(last + 1, at), end)
        outside += range(at + shift, start + shift)
        inside += range(start + shift, stop + shift)
        at = max(start, stop)
    outside += range(at + shift, end + shift)
    return outside, inside
