"""The work of one connection: what waits to be sent, in order, and what is in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from waymaker_proto import pipeline_pb2 as pl

if TYPE_CHECKING:
    from waymaker.client.connection.work import Work

FRAME_BYTES_TARGET = 512 * 1024
"""The size at which a frame is full enough: larger ones cost memory and latency and save nothing more."""
LOSSES_MAX = 5
"""Ends of sessions, absences apart, that work may meet before it is held to be their cause."""


class Backlog:
    """Work by its number, which is its place in the order of all."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()
        self.in_flight: dict[int, Work] = {}
        self.in_flight_bytes = 0

    def __iter__(self) -> Iterator[Work]:
        yield from self.in_flight.values()
        yield from self.waiting

    def sent(self, work: Work) -> None:
        """Note that work is in a frame."""
        work.sent = True
        self.in_flight[work.id] = work
        self.in_flight_bytes += work.size

    def answered(self, work: Work) -> None:
        """Note that work that was sent has its whole answer."""
        del self.in_flight[work.id]
        self.in_flight_bytes -= work.size

    def lose(self) -> list[Work]:
        """Take out what is in flight, in order: its session has ended."""
        works = sorted(self.in_flight.values(), key=lambda work: work.id)
        self.in_flight.clear()
        self.in_flight_bytes = 0
        return works

    def put_back(self, works: Iterable[Work]) -> None:
        """Return work to the queue at its old place: order within a stream survives."""
        works = list(works)
        for work in works:
            work.put_back()
        self.waiting = deque(sorted([*works, *self.waiting], key=lambda work: work.id))

    def withdraw(self, topic: str | None = None) -> list[Work]:
        """Take out what is not sent: that of one topic, or all."""
        taken = [work for work in self.waiting if topic is None or work.topic == topic]
        if taken:
            self.waiting = deque(work for work in self.waiting if topic is not None and work.topic != topic)
        return taken

    def has_in_flight(self, topic: str) -> bool:
        """Return True if work of a topic was sent and is not answered."""
        return any(work.topic == topic for work in self.in_flight.values())

    def expire(self, now: float, absence: str) -> float | None:
        """End work whose time is over; return the next deadline."""
        # Answers to what expires after it was sent still come; its bytes stay counted until then.
        expired = {work.id for work in self if work.expire(now, absence)}
        if expired:
            self.waiting = deque(work for work in self.waiting if work.id not in expired)
        return min(
            (work.deadline for work in self if work.deadline is not None and work.id not in expired), default=None
        )


def repacked(subscriptions: bytes | None, packed: list[Work]) -> pl.Frame:
    """Return a frame without the item that could not be encoded. Rare: values are checked where callers give them."""
    frame = pl.Frame.FromString(subscriptions or b"")
    for work in packed:
        work.fill(frame)
    return frame
