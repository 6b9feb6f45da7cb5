"""A majority that exists only here: it confirms what the node sends to it, sooner or later.

The node believes that its logs are replicated. The policy is drawn for each batch of records: they are confirmed within a
millisecond, after a while, or the stream starves: nothing of it is confirmed for up to a minute, while others go on.

When the node has stopped, or was deposed, another node leads meanwhile. It chooses a point of each log, at or above what was
confirmed: up to there all is committed, whether the node knows or not. The rest it cuts off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from waymaker_core.api.inputs import Confirmed, Input, Replicated
from waymaker_sim.kernel.events import MS, SECOND, Events
from waymaker_sim.kernel.tape import Track

STARVES_NS = 60 * SECOND


@dataclass(slots=True)
class QuorumPlan:
    """Kind of the majorities of one world. Per million batches of records."""

    slow: int = 0
    """Confirmed after up to `slow_ns`."""
    starves: int = 0
    """The log starves from now on, for a while."""
    deposes: int = 0
    """Per million and a hundred milliseconds: another node leads all streams for a while."""
    slow_ns: int = 500 * MS


@dataclass(slots=True)
class MajorityOf:
    """Majority of one log."""

    starved: bool = False
    starved_ns: int = 0
    """Time since which it starves."""
    held: list[Input] = field(default_factory=list)
    """Inputs that arrive when it starves no longer."""


class PhantomQuorum:
    """The majorities of one node's logs, in one run of its process."""

    def __init__(
        self,
        plan: QuorumPlan,
        events: Events,
        track: Track,
        mark: Callable[[str], None],
        disturbed: Callable[[int], None],
    ) -> None:
        self.plan = plan
        self._events = events
        self._track = track
        self._mark = mark
        self._disturbed = disturbed
        self.logs: dict[int, MajorityOf] = {}
        self.confirmed: dict[int, int] = {}
        """By stream id: the position up to which its log is committed, over all runs of the process."""
        self._deliver: Callable[[Input], None] = lambda event: None
        self.healthy = False
        """True once every log has a prompt majority."""

    def started(self, deliver: Callable[[Input], None]) -> None:
        """Begin with a process that was started: `deliver` gives it an input, as long as it runs."""
        self.logs = {}
        self._deliver = deliver

    def stopped(self) -> None:
        """Note that the process is gone, and with it all that was on its way to it."""
        self.logs = {}

    def begin_span(self) -> None:
        """Begin a new span of draws."""
        self._track.begin()

    def replicate(self, stream_id: int, position: int) -> None:
        """Confirm the records of a log up to a position, later."""
        self._later(stream_id, Replicated(stream_id, position))

    def confirm(self, stream_id: int, question: int) -> None:
        """Answer a question about a log, later."""
        self._later(stream_id, Confirmed(stream_id, question))

    def _later(self, stream_id: int, event: Input) -> None:
        plan, track, events = self.plan, self._track, self._events
        log = self.logs.setdefault(stream_id, MajorityOf())
        delay_ns = track.draw("majority after", MS)
        if not self.healthy:
            if track.chance("slow majority", plan.slow):
                delay_ns += track.magnitude("slow by", plan.slow_ns)
                self._disturbed(events.now_ns + delay_ns)
            if not log.starved and track.chance("no majority", plan.starves):
                log.starved, log.starved_ns = True, events.now_ns
                until_ns = events.now_ns + track.magnitude("starved for", STARVES_NS)
                self._disturbed(until_ns)
                self._mark("a stream without a majority")
                events.at(until_ns, partial(self._release, self.logs, log))
        events.after(delay_ns, partial(self._arrive, self.logs, log, event))

    def _arrive(self, logs: dict[int, MajorityOf], log: MajorityOf, event: Input) -> None:
        if logs is self.logs:  # else the process has stopped
            if log.starved:
                log.held.append(event)
            else:
                self._arrived(log, event)

    def _release(self, logs: dict[int, MajorityOf], log: MajorityOf) -> None:
        if logs is self.logs:
            log.starved = False
            held, log.held = log.held, []
            for event in held:
                self._arrived(log, event)

    def _arrived(self, log: MajorityOf, event: Input) -> None:
        if isinstance(event, Replicated):
            self.confirmed[event.stream_id] = max(self.confirmed.get(event.stream_id, 0), event.position)
        self._deliver(event)

    def heal(self) -> None:
        """Give every log a majority that confirms at once, from now on."""
        self.healthy = True
        for log in list(self.logs.values()):
            self._release(self.logs, log)
