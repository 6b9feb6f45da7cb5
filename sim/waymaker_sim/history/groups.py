"""A consumer group as far as clients can know it: pending deliveries, answers, and its start.

It checks nothing about messages: the history does, and keeps one of these for each group of each incarnation of a
stream.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from waymaker_core.api.requests import AckKind
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy
from waymaker_sim.history.redelivery_deadlines import Out, RedeliveryDeadlines
from waymaker_sim.machine.process import StepId
from waymaker_sim.reference.naive_consumer import matches

MS = 1_000_000
MILLION = 1_000_000
FOREVER_NS = 1 << 62


@dataclass(slots=True)
class PendingDelivery:
    """A pending delivery: its consumer, its process run, and how long it is certain."""

    process_run: int
    until_ns: int
    free: bool = False
    in_doubt: bool = False
    """True until the server is known to have the report that it reached its program, where the connection may break first."""
    since_ns: int = 0
    """Time of the call that put it off, if the delay outlives the process."""
    out: Out | None = None
    """The delivery that an answer in flight was sent to."""

    def is_certain(self) -> bool:
        """Return True if it is surely pending, as long as its wait lasts."""
        return not (self.free or self.in_doubt)


class Stored(Protocol):
    """The part of a message that a group needs."""

    @property
    def subject(self) -> str: ...
    @property
    def asked_ns(self) -> int: ...


class IncarnationLike(Protocol):
    """The part of a stream's incarnation that a group needs."""

    @property
    def live(self) -> Mapping[int, Stored]: ...
    @property
    def times(self) -> Mapping[int, int]: ...
    def ends_in_order(self) -> bool: ...


L = TypeVar("L", bound=IncarnationLike)


@dataclass(slots=True, eq=False)
class GroupOf(Generic[L]):
    """A queue group, or a consumer without one, from creation to deletion."""

    incarnation: L
    config: ConsumerConfig
    created_ns: int
    rate_ppm: int = 0
    """Millionths by which a clock that measures its waits may be quicker or slower than virtual time."""
    overtaken: bool = False
    """True if calls that were made later may have been decided before its creation was."""
    last_before: int = 0
    """The stream's last sequence that was known before the creation was sent."""
    members: int = 0
    certain: bool = False
    """True if its creation was confirmed."""
    certain_ns: int = FOREVER_NS
    """Time of that confirmation."""
    leaving: bool = False
    """True while the deletion of its last member is in flight."""
    ended: bool = False
    answered: set[int] = field(default_factory=set)
    """Sequences for which an ack or term was sent, whatever its outcome."""
    termed: set[int] = field(default_factory=set)
    """Sequences for which a term was sent."""
    acked_ok: set[int] = field(default_factory=set)
    """Deliveries whose ack was confirmed: a work queue has dropped them."""
    done_ns: dict[int, int] = field(default_factory=dict)
    """Time when the confirmation of an ack or term left the node."""
    pending: dict[int, PendingDelivery] = field(default_factory=dict)
    put_off: dict[int, PendingDelivery] = field(default_factory=dict)
    """Deliveries with a nak delay or an extension: not due before its end, also after a restart."""
    last_naks: dict[int, StepId] = field(default_factory=dict)
    """By sequence, the step that confirmed the nak of a last attempt that has no other answer."""
    due: RedeliveryDeadlines = field(default_factory=RedeliveryDeadlines)
    handing_back: dict[int, int] = field(default_factory=dict)
    """Number of answers other than ack and term in flight, by sequence."""
    naks: dict[tuple[int, int], int] = field(default_factory=dict)
    """Number of naks that may take effect yet, by process run and sequence: also on a delivery that left after them."""
    counts: dict[int, set[int]] = field(default_factory=dict)
    """Delivery counts since the process last stopped abruptly."""
    counted_in: int = 0
    newest_run: int = 0
    """The newest run that has delivered."""
    freed_ns: int = -1
    """Time when a member may last have been deleted, whose deliveries are then due."""
    most: dict[int, int] = field(default_factory=dict)
    lost_ns: list[int] = field(default_factory=list)
    """Times of deliveries whose group is unknown, each message once: so many may be missing in `most`."""
    lost_at_ns: int = -1
    """Time when deliveries may last have been lost in flight. No client reported them, so they are no attempts."""
    letters: dict[int, int] = field(default_factory=dict)
    floor: int = 0
    floor_ns: int = 0
    dropped: int = 0
    risen: list[tuple[int, int, int]] = field(default_factory=list)
    """Times when each floor and count of dropped messages was first read."""

    start_least: int = 0
    """No message below is ever delivered."""
    too_early: int = 0
    """By time: up to here no message can have been the first."""
    begun_by: int = FOREVER_NS
    """By time: a message that may have been the first; later ones need no other."""

    def __post_init__(self) -> None:
        """Set the last matching message, if it can only be one that was known before the creation was sent."""
        if self.config.policy is DeliveryPolicy.BY_START_SEQ:
            self.start_least = self.config.start_seq
        elif self.config.policy is DeliveryPolicy.LAST and self.incarnation.ends_in_order():
            matching = (s for s, m in self.incarnation.live.items() if matches(self.config.filter_subject, m.subject))
            self.start_least = max(matching, default=0)

    @property
    def wait_least_ns(self) -> int:
        """Return the shortest time that a wait for an ack may take."""
        return self.least_ns(self.config.ack_wait_ms)

    @property
    def wait_most_ns(self) -> int:
        """Return the longest time that a wait for an ack may take."""
        return self.most_ns(self.config.ack_wait_ms)

    def least_ns(self, ms: int) -> int:
        """Return the shortest time in which a clock that measures waits goes on by so much."""
        return ms * MS * MILLION // (MILLION + self.rate_ppm)

    def most_ns(self, ms: int) -> int:
        """Return the longest time in which a clock that measures waits goes on by so much."""
        return -(-ms * MS * MILLION // (MILLION - self.rate_ppm))

    def start_known(self, there: Iterable[int]) -> int:
        """Return the sequence from which on no existing message is before the start. `there`: all existing messages."""
        match self.config.policy:
            case DeliveryPolicy.ALL:
                return 1
            case DeliveryPolicy.BY_START_SEQ:
                return self.config.start_seq
            case DeliveryPolicy.BY_START_TIME:
                # A message that is late enough was found, or was published later, as is every message sent after the
                # creation.
                late = (seq for seq in there if self.incarnation.times[seq] >= self.config.start_time_ms)
                new = (s for s, m in self.incarnation.live.items() if m.asked_ns > self.certain_ns)
                return min(min(late, default=FOREVER_NS), min(new, default=FOREVER_NS))
            case _ if self.overtaken:
                return min(
                    (s for s, m in self.incarnation.live.items() if m.asked_ns > self.certain_ns), default=FOREVER_NS
                )
            case _:
                return self.last_before + 1

    def delivered_most(self, seq: int, asked_ns: int) -> int:
        """Return how often a message may have been delivered by a call of that time, lost deliveries included."""
        return self.most.get(seq, 0) + len(self.lost_ns) - bisect_left(self.lost_ns, asked_ns)

    def may_come_back(self) -> int:
        """Return how many messages may be pending again after an abrupt stop, though they were answered or dropped
        before.

        A confirmed ack or term stays.
        """
        spent = {seq for seq, count in self.most.items() if count >= self.config.max_deliver}
        return len((self.answered | spent) - self.done_ns.keys())

    def same(self, config: ConsumerConfig) -> bool:
        """Return True if a consumer of this configuration belongs to this group."""
        return bool(config.deliver_group) and config.deliver_group == self.config.deliver_group

    def free_all(self, now_ns: int) -> None:
        """Note that no delivery is certainly pending any longer."""
        for delivery in (*self.pending.values(), *self.put_off.values()):
            delivery.free = True
        self.freed_ns = now_ns

    def note_figures(self, floor: int, dropped: int, now_ns: int) -> None:
        """Note figures that a client read."""
        if floor > self.floor or dropped > self.dropped:
            self.floor = max(self.floor, floor)
            self.dropped = max(self.dropped, dropped)
            self.risen.append((now_ns, self.floor, self.dropped))

    def risen_by(self, time_ns: int) -> tuple[int, int]:
        """Return the greatest floor and count of dropped messages that clients had read by then."""
        known = [(floor, dropped) for read_ns, floor, dropped in self.risen if read_ns <= time_ns]
        return known[-1] if known else (0, 0)

    def roll_back(self, time_ns: int) -> None:
        """Forget figures that clients read since then: they may be lost."""
        self.floor, self.dropped = self.risen_by(time_ns)
        self.risen = [each for each in self.risen if each[0] <= time_ns]
        self.put_off.clear()
        self.last_naks.clear()
        self.floor_ns = max(self.floor_ns, time_ns)
        for seq in [seq for seq, done_ns in self.done_ns.items() if done_ns > time_ns]:
            del self.done_ns[seq]
            self.acked_ok.discard(seq)

    # ------------------------------------------------------------ answers

    def answering(self, kind: AckKind, seqs: list[int]) -> dict[int, PendingDelivery]:
        """Note an answer in flight. Returns the deliveries that were certainly pending when it was sent."""
        out = {
            seq: PendingDelivery(delivery.process_run, delivery.until_ns, out=self.due.latest(seq))
            for seq in seqs
            if (delivery := self.pending.get(seq)) and delivery.is_certain()
        }
        for seq in seqs:
            if kind is not AckKind.IN_PROGRESS and seq in self.pending:
                self.pending[seq].free = True
            if kind in (AckKind.NAK, AckKind.IN_PROGRESS):
                # The order of several answers in flight is unknown.
                self.put_off.pop(seq, None)
                self.handing_back[seq] = self.handing_back.get(seq, 0) + 1
                self._may_have_arrived(seq)
        self.due.unknown(seqs)
        if kind in (AckKind.ACK, AckKind.TERM):
            self.answered.update(seqs)
            for seq in seqs:
                self.last_naks.pop(seq, None)
        if kind is AckKind.TERM:
            self.termed.update(seqs)
        return out

    def note_naks(self, seqs: list[int], process_run: int, change: int) -> None:
        """Note naks that were sent, or that can take effect no more (-1)."""
        for seq in seqs:
            key = (process_run, seq)
            self.naks[key] = self.naks.get(key, 0) + change
            self._may_have_arrived(seq)

    def _may_have_arrived(self, seq: int) -> None:
        """Note that the last delivery of a message may count: to the node, an answer to an earlier one shows its arrival."""
        out = self.due.latest(seq)
        if out is not None:
            self.most[seq] = max(self.most.get(seq, 0), out.delivery)

    def resolved(self, kind: AckKind, seqs: list[int]) -> list[int]:
        """Note that an answer was answered or got lost. Returns its sequences that no other answer in flight names."""
        alone: list[int] = []
        if kind not in (AckKind.NAK, AckKind.IN_PROGRESS):
            return alone
        for seq in seqs:
            self.handing_back[seq] -= 1
            if not self.handing_back[seq]:
                alone.append(seq)
        return alone

    def took_effect(
        self, kind: AckKind, seq: int, out: PendingDelivery, asked_ns: int, delay_ms: int, step_id: StepId
    ) -> None:
        """Note that a nak or in-progress was confirmed while the delivery `out` was certainly still pending."""
        if out.process_run != step_id.run or step_id.time_ns >= out.until_ns or asked_ns <= self.freed_ns:
            return
        answered = out.out if self.due.answered(seq, out.out, step_id.run) else None
        if kind is AckKind.NAK:
            self.put_off[seq] = PendingDelivery(step_id.run, asked_ns + self.least_ns(delay_ms), since_ns=asked_ns)
            if answered is not None:
                answered.due_ns = step_id.time_ns + self.most_ns(delay_ms)
                if answered.delivery == self.config.max_deliver:
                    self.put_off[seq].until_ns = FOREVER_NS
                    if seq not in self.answered:
                        self.last_naks[seq] = step_id
        elif kind is AckKind.IN_PROGRESS and seq in self.pending:
            delivery = self.pending[seq]
            if delivery.process_run == step_id.run:
                until_ns = asked_ns + self.wait_least_ns
                delivery.until_ns = max(delivery.until_ns, until_ns)
                self.put_off[seq] = PendingDelivery(step_id.run, until_ns, since_ns=asked_ns)
                if answered is not None:
                    answered.due_ns = step_id.time_ns + self.wait_most_ns
