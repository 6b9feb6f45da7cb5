"""The client as a producer: it numbers its messages, so that the server stores one that is sent again once.

A number belongs to one message of one stream, for the life of the client and across its sessions, whichever member of a cluster
they are with. It must never be given twice: the server takes the second message for the first. The id is random and new with
every client, so that no two programs share one.
"""

from __future__ import annotations

import secrets
from typing import Final

STREAMS_MAX: Final = 10_000
"""Streams whose next number is kept; past it all of them go on from the greatest, for gaps do no harm."""


class Producer:
    """The producer of one client: its `id`, its newest `epoch`, and the next number and the epoch of each stream."""

    __slots__ = ("id", "epoch", "_next", "_least", "_epochs", "_least_epoch")

    def __init__(self) -> None:
        self.id = secrets.randbits(64) or 1
        self.epoch = 0
        self._next: dict[str, int] = {}
        self._least = 1
        self._epochs: dict[str, int] = {}
        self._least_epoch = 0

    def take(self, stream: str, count: int) -> range:
        """Return numbers for so many messages of a stream."""
        if len(self._next) >= STREAMS_MAX and stream not in self._next:
            self._least = max(self._next.values())
            self._next.clear()
        first = self._next.get(stream, self._least)
        self._next[stream] = first + count
        return range(first, first + count)

    def begin_epoch(self) -> int:
        """Return the epoch of a session that begins."""
        self.epoch += 1
        return self.epoch

    def epoch_for(self, stream: str, session_epoch: int) -> int:
        """Return the epoch of messages that a session carries to a stream: never below one that the stream has heard of.

        A session with another member may be the older one, and have carried nothing to this stream yet.
        """
        epoch = max(session_epoch, self._epochs.get(stream, self._least_epoch))
        self._keep_epoch(stream, epoch)
        return epoch

    def begin_anew(self, stream: str) -> None:
        """Fence what a lost session may still carry to a stream: messages that follow have a higher epoch."""
        self._keep_epoch(stream, self.begin_epoch())

    def _keep_epoch(self, stream: str, epoch: int) -> None:
        if len(self._epochs) >= STREAMS_MAX and stream not in self._epochs:
            self._least_epoch = max(self._epochs.values())
            self._epochs.clear()
        self._epochs[stream] = epoch


class Numbering:
    """The producer within one session.

    `spans_max`: what a stream of the present server remembers of a producer; 0: that server knows no producers.
    `epoch`: the epoch of the session. `open`: numbered batches of each stream that were sent in it and not answered.
    """

    __slots__ = ("producer", "epoch", "spans_max", "open")

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.epoch = 0
        self.spans_max = 0
        self.open: dict[str, int] = {}

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
