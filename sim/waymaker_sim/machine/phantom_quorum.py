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

from waymaker_core.api.effects import Declined, Kept
from waymaker_core.api.inputs import Confirmed, Cut, Enrol, Input, Lead, Promise, Replicated, StepDown
from waymaker_core.model.types import CATALOG
from waymaker_core.node.node import LogFigures, Node
from waymaker_core.storage.journal.facts import Membership
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
    cuts: int = 0
    """Per million logs with a suffix: another node led meanwhile, and cut some of that off."""


@dataclass(slots=True)
class MajorityOf:
    """Majority of one log, in one run of the process.

    `cuts`: where other leaders cut it; the first `kept` of them are durable here. What was sent before a cut means nothing
    above it.
    """

    starved: bool = False
    starved_ns: int = 0
    """Time since which it starves."""
    cuts: list[int] = field(default_factory=list)
    kept: int = 0
    then: list[Callable[[], None]] = field(default_factory=list)
    """Continuations for the moment when a cut is durable that was asked for."""
    held: list[tuple[Input, int]] = field(default_factory=list)
    """Inputs that arrive when it starves no longer, each with the number of cuts when it was sent."""


class PhantomQuorum:
    """The other replicas of one node's logs: their majorities, and the leaders that they had meanwhile."""

    def __init__(
        self,
        plan: QuorumPlan,
        events: Events,
        track: Track,
        choices: Track,
        mark: Callable[[str], None],
        disturbed: Callable[[int], None],
    ) -> None:
        self.plan = plan
        self._events = events
        self._track = track
        self._choices = choices
        self._mark = mark
        self._disturbed = disturbed
        self.logs: dict[int, MajorityOf] = {}
        self.confirmed: dict[int, int] = {}
        """By stream id: the position up to which its log is committed, over all runs of the process."""
        self.promised: dict[int, int] = {}
        """By stream id: the epoch that the node has promised durably to obey."""
        self.enrolled: dict[int, Membership] = {}
        """By stream id: the membership that the node has noted durably."""
        self.epoch = 0
        self._led_elsewhere: dict[int, int] = {}
        """By stream that another node leads: the epoch in which it does."""
        self._asks = 0
        self._when_kept: dict[int, Callable[[bool], None]] = {}
        """By number of a question: what follows when it is answered, with True if it was kept."""
        self._node: Node | None = None
        self._deliver: Callable[[Input], None] = lambda event: None
        self.healthy = False
        """True once every log has a prompt majority."""

    def started(self, node: Node, deliver: Callable[[Input], None]) -> None:
        """Begin with a process that was started: `deliver` gives it an input, as long as it runs."""
        self.logs, self._when_kept, self._led_elsewhere = {}, {}, {}
        self._node, self._deliver = node, deliver
        for figures in list(node.log_figures()):
            if figures.applied < figures.durable:
                self._mark("a suffix after a start")
                self._cut(figures, lambda: None)

    def stopped(self) -> None:
        """Note that the process is gone, and with it all that was on its way to it."""
        self.logs, self._when_kept, self._led_elsewhere = {}, {}, {}
        self._node = None

    def begin_span(self) -> None:
        """Begin a new span of draws."""
        self._track.begin()
        self._choices.begin()

    # ------------------------------------------------------------ majorities

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
        events.after(delay_ns, partial(self._arrive, self.logs, log, event, log.kept))

    def _arrive(self, logs: dict[int, MajorityOf], log: MajorityOf, event: Input, cuts: int) -> None:
        if logs is self.logs:  # else the process has stopped
            if log.starved:
                log.held.append((event, cuts))
            else:
                self._arrived(log, event, cuts)

    def _release(self, logs: dict[int, MajorityOf], log: MajorityOf) -> None:
        if logs is self.logs:
            log.starved = False
            held, log.held = log.held, []
            for event, cuts in held:
                self._arrived(log, event, cuts)

    def _arrived(self, log: MajorityOf, event: Input, cuts: int) -> None:
        if isinstance(event, Replicated):
            event = Replicated(event.stream_id, min([event.position, *log.cuts[cuts:]]))
            self.confirmed[event.stream_id] = max(self.confirmed.get(event.stream_id, 0), event.position)
        self._deliver(event)

    def heal(self) -> None:
        """Give every log a majority that confirms at once, from now on."""
        self.healthy = True
        for log in list(self.logs.values()):
            self._release(self.logs, log)

    # ------------------------------------------------------------ other leaders

    def depose(self, for_ns: int) -> None:
        """Let another node lead all streams for a while; then this one leads them again."""
        if self._node is None:
            return
        ids = [figures.stream_id for figures in self._node.log_figures() if figures.stream_id != CATALOG]
        self.epoch += 1
        epoch = self.epoch
        if ids:
            self._ask(lambda ask: Promise(ask, ids, epoch), lambda kept: self._promise_kept(ids, epoch, kept))
        for stream_id in ids:
            self._led_elsewhere[stream_id] = epoch
            self._deliver(StepDown(stream_id))
        self._events.after(for_ns, partial(self._lead_again, self.logs, ids, epoch))

    def _promise_kept(self, ids: list[int], epoch: int, kept: bool) -> None:
        if kept:
            self.promised.update(dict.fromkeys(ids, epoch))

    def _lead_again(self, logs: dict[int, MajorityOf], ids: list[int], epoch: int) -> None:
        """Let the node lead again what another one led in an epoch, and no later one does."""
        if logs is not self.logs or self._node is None:
            return
        self.epoch += 1
        for figures in list(self._node.log_figures()):
            if figures.stream_id in ids and self._led_elsewhere.get(figures.stream_id) == epoch:
                del self._led_elsewhere[figures.stream_id]
                self._cut(figures, partial(self._lead, figures.stream_id, self.epoch))

    def _lead(self, stream_id: int, epoch: int) -> None:
        self._deliver(Lead(stream_id, epoch))
        membership = Membership(epoch, epoch)
        self._ask(lambda ask: Enrol(ask, stream_id, *membership), partial(self._enrol_kept, stream_id, membership))

    def _enrol_kept(self, stream_id: int, membership: Membership, kept: bool) -> None:
        if kept:
            self.enrolled[stream_id] = membership

    def _cut(self, figures: LogFigures, then: Callable[[], None]) -> None:
        """Let another leader choose an end of a log, and cut off what is above; then go on."""
        stream_id = figures.stream_id
        least = max(figures.applied, self.confirmed.get(stream_id, 0))
        chance = 0 if self.healthy else self.plan.cuts
        log = self.logs.setdefault(stream_id, MajorityOf())
        if log.kept < len(log.cuts):
            log.then.append(then)
            return
        if figures.memory or least >= figures.end or not self._choices.chance("cut", chance):
            then()
            return
        position = min(figures.durable, least + self._choices.draw("cut at", figures.durable - least + 1))
        self.confirmed[stream_id] = max(self.confirmed.get(stream_id, 0), position)
        if position == figures.end:
            then()
            return
        self._mark("a suffix is cut off")
        log.cuts.append(position)
        log.then.append(then)
        self._ask_to_cut(self.logs, stream_id, position)

    def _ask_to_cut(self, logs: dict[int, MajorityOf], stream_id: int, position: int) -> None:
        if logs is self.logs:
            self._ask(lambda ask: Cut(ask, stream_id, position), partial(self._cut_answered, logs, stream_id, position))

    def _cut_answered(self, logs: dict[int, MajorityOf], stream_id: int, position: int, kept: bool) -> None:
        if not kept:  # its journal is full
            self._events.after(100 * MS, partial(self._ask_to_cut, logs, stream_id, position))
            return
        log = logs[stream_id]
        log.kept += 1
        then, log.then = log.then, []
        for each in then:
            each()

    def _ask(self, make: Callable[[int], Input], then: Callable[[bool], None]) -> None:
        self._asks += 1
        self._when_kept[self._asks] = then
        self._deliver(make(self._asks))

    def answered(self, answer: Kept | Declined) -> None:
        """Take the node's answer to what it was asked to keep."""
        self._when_kept.pop(answer.ask)(isinstance(answer, Kept))
