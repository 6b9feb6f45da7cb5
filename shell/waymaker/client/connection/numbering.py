"""The client as a producer: it numbers its messages, so that the server stores one that is sent again once.

A number belongs to one message of one stream, for the life of the client and across its sessions. It must never be given
twice: the server takes the second message for the first. The id is random and new with every client, so that no two
programs share one.
"""

from __future__ import annotations

import secrets
from typing import Final

STREAMS_MAX: Final = 10_000
"""Streams whose next number is kept; past it all of them go on from the greatest, for gaps do no harm."""


class Numbering:
    """The producer of one client: its `id`, the `epoch` of its present session, and the next number of each stream.

    `spans_max`: what a stream of the present server remembers of a producer; 0: that server knows no producers.
    `open`: numbered batches of each stream that were sent in this session and not answered.
    """

    __slots__ = ("id", "epoch", "spans_max", "open", "_next", "_least")

    def __init__(self) -> None:
        self.id = secrets.randbits(64) or 1
        self.epoch = 0
        self.spans_max = 0
        self.open: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self._least = 1

    def take(self, stream: str, count: int) -> range:
        """Return numbers for so many messages of a stream."""
        if len(self._next) >= STREAMS_MAX and stream not in self._next:
            self._least = max(self._next.values())
            self._next.clear()
        first = self._next.get(stream, self._least)
        self._next[stream] = first + count
        return range(first, first + count)

    def is_full(self, stream: str) -> bool:
        """Return True if no more batches of a stream may be sent: it must remember all that could be sent again."""
        return 2 * self.open.get(stream, 0) >= self.spans_max > 0

    def sent(self, stream: str) -> None:
        """Note that a numbered batch was sent."""
        self.open[stream] = self.open.get(stream, 0) + 1

    def answered(self, stream: str) -> None:
        """Note that a numbered batch was answered."""
        left = self.open.get(stream, 1) - 1
        if left:
            self.open[stream] = left
        else:
            self.open.pop(stream, None)

    def begin(self, spans_max: int) -> None:
        """Note that a session began: nothing is sent yet."""
        self.spans_max = spans_max
        self.open.clear()
