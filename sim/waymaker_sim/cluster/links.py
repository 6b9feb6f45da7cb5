"""Links: the time at which each message arrives, and the messages that never do.

A link leads from one endpoint to another, and has a lane for live messages and one for bulk. Each lane is a line of its
own, with its own draws, its own bound of bytes and, for bulk, its own rate. So nothing that bulk does delays a live message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, TypeVar

from waymaker_sim.kernel.events import MS, SECOND, US
from waymaker_sim.kernel.tape import Track

Payload = TypeVar("Payload")


class Lane(Enum):
    """A lane of a link; a release delivers them in this order."""

    LIVE = 0
    BULK = 1


QUEUE_BYTES = 4 << 20
"""Bytes on their way at which an ordinary link is full."""


@dataclass(slots=True)
class LinkPlan:
    """The kind of one link. Odds are per million messages; a plan without arguments is a healthy link."""

    latency_ns: int = 200 * US
    jitter_ns: int = 0
    late: int = 0
    """Messages that take longer, by up to `late_ns`, and hold up none behind them: so they may be overtaken."""
    late_ns: int = SECOND
    loss: int = 0
    duplicate: int = 0
    breaks: int = 0
    """Messages at which the connection breaks, with all that is on its way in both directions."""
    queue_bytes: int = QUEUE_BYTES
    """Bytes of one lane that may be on their way; a message that exceeds them is lost."""
    bulk_bytes_per_ms: int = 64 << 10

    def healed(self) -> LinkPlan:
        """Return the plan without faults, and quick enough for any timeout."""
        quick = replace(self.reliable(), breaks=0, latency_ns=min(self.latency_ns, MS), jitter_ns=0)
        return replace(
            quick, queue_bytes=max(self.queue_bytes, QUEUE_BYTES)
        )  # a record may be larger than a small bound

    def reliable(self) -> LinkPlan:
        """Return the plan of a connection, which keeps order and loses nothing until it breaks."""
        return replace(self, late=0, loss=0, duplicate=0)


@dataclass(slots=True)
class LinkOdds:
    """The bounds within which a run draws the plans of its links."""

    latency_ns: int = 200 * US
    jitter_ns: int = 0
    late: int = 0
    late_ns: int = SECOND
    loss: int = 0
    duplicate: int = 0
    breaks: int = 0
    queue_bytes: int = QUEUE_BYTES
    bulk_bytes_per_ms: int = 64 << 10


def draw_link_plan(track: Track, odds: LinkOdds) -> LinkPlan:
    """Draw the plan of one link. Links of one run differ: one may be slow, or lossy, beside others that are not."""
    return LinkPlan(
        latency_ns=odds.latency_ns * track.pick("latency", [1, 1, 1, 3, 20]),
        jitter_ns=track.magnitude("jitter", odds.jitter_ns) if odds.jitter_ns else 0,
        late=_some(track, "late", odds.late),
        late_ns=odds.late_ns,
        loss=_some(track, "loss", odds.loss),
        duplicate=_some(track, "duplicates", odds.duplicate),
        breaks=_some(track, "breaks", odds.breaks),
        queue_bytes=odds.queue_bytes,
        bulk_bytes_per_ms=odds.bulk_bytes_per_ms,
    )


def _some(track: Track, label: str, high: int) -> int:
    return track.magnitude(label, high) if high and track.draw(label + "?", 4) else 0


@dataclass(slots=True)
class Flight(Generic[Payload]):
    """One message on its way: its place among those of its line, its bytes, and what it carries."""

    number: int
    size: int
    payload: Payload


class Line(Generic[Payload]):
    """One lane of a link: its draws, what is on its way, and what arrived and waits until its receiver reads."""

    __slots__ = ("plan", "track", "queued_bytes", "held", "number", "_bytes_per_ms", "_free_ns", "_last_ns", "_highest")

    def __init__(self, plan: LinkPlan, track: Track, lane: Lane) -> None:
        self.plan = plan
        self.track = track
        self.queued_bytes = 0
        """Bytes that are on their way, or held."""
        self.held: deque[Flight[Payload]] = deque()
        self.number = 0
        self._bytes_per_ms = plan.bulk_bytes_per_ms if lane is Lane.BULK else 0
        self._free_ns = 0
        """Time at which the sender has sent all before."""
        self._last_ns = 0
        """Latest arrival of those that keep their order."""
        self._highest = 0

    def send(
        self, now_ns: int, size: int, mark: Callable[[str], None], payload: Callable[[], Payload]
    ) -> list[tuple[int, Flight[Payload]]]:
        """Draw when a message arrives: once, twice, or never. Each copy has a payload of its own."""
        plan, track = self.plan, self.track
        if self.queued_bytes + size > plan.queue_bytes:
            mark("queue full")
            return []
        if track.chance("lost", plan.loss):
            mark("message lost")
            return []
        copies = 1
        if track.chance("twice", plan.duplicate) and self.queued_bytes + 2 * size <= plan.queue_bytes:
            mark("message duplicated")
            copies = 2
        found: list[tuple[int, Flight[Payload]]] = []
        for _ in range(copies):
            self.number += 1
            self.queued_bytes += size
            found.append((self._arrival(now_ns, size), Flight(self.number, size, payload())))
        return found

    def _arrival(self, now_ns: int, size: int) -> int:
        plan, track = self.plan, self.track
        sent_ns = max(now_ns, self._free_ns)
        if self._bytes_per_ms:
            sent_ns += size * MS // self._bytes_per_ms
        self._free_ns = sent_ns
        at_ns = sent_ns + plan.latency_ns + (track.draw("jitter", plan.jitter_ns) if plan.jitter_ns else 0)
        if track.chance("late", plan.late):
            return at_ns + 1 + track.magnitude("late by", plan.late_ns)
        self._last_ns = at_ns = max(at_ns, self._last_ns)
        return at_ns

    def arrived(self, flight: Flight[Payload]) -> bool:
        """Take a message off the line. Return True if a later one was quicker."""
        self.queued_bytes -= flight.size
        overtaken = flight.number < self._highest
        self._highest = max(self._highest, flight.number)
        return overtaken

    def clear(self) -> bool:
        """Lose all that is on its way or held, with the connection. Return True if there was anything."""
        lost = self.queued_bytes > 0
        self.queued_bytes = self._free_ns = self._last_ns = 0
        self.held.clear()
        return lost
