"""A consumer group as far as clients can know it: what is out to it, what was answered, and where it began.

Nothing is judged here of messages; the ledger does that, and keeps one of these for each group of each life of a stream.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from waymaker_core.api.requests import AckKind
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy
from waymaker_sim.history.redelivery_deadlines import RedeliveryDeadlines
from waymaker_sim.machine.process import StepId
from waymaker_sim.reference.naive_consumer import matches

MS = 1_000_000
FOREVER_NS = 1 << 62


@dataclass(slots=True)
class Hold:
    """A delivery that is out: to whom, in which life of the process, and until when for certain."""

    process_run: int
    until_ns: int
    free: bool = False
    since_ns: int = 0
    """When what put it off was asked for, where it outlives the process."""


class Stored(Protocol):
    """What a group has to know of a message."""

    @property
    def subject(self) -> str: ...
    @property
    def asked_ns(self) -> int: ...


class Lived(Protocol):
    """What a group has to know of the life of the stream that it reads."""

    @property
    def live(self) -> Mapping[int, Stored]: ...
    @property
    def times(self) -> Mapping[int, int]: ...
    def ends_in_order(self) -> bool: ...


L = TypeVar("L", bound=Lived)


@dataclass(slots=True, eq=False)
class GroupOf(Generic[L]):
    """A queue group, or a consumer without one, through its life."""

    incarnation: L
    config: ConsumerConfig
    created_ns: int
    last_before: int = 0
    """The stream's last sequence that was known before it was asked for."""
    members: int = 0
    certain: bool = False
    """Whether its creation was confirmed."""
    certain_ns: int = FOREVER_NS
    """When that was."""
    leaving: bool = False
    """Whether the deletion of its last member is on its way."""
    ended: bool = False
    answered: set[int] = field(default_factory=set)
    """Sequences for which an ack or term was sent, whatever came of it."""
    termed: set[int] = field(default_factory=set)
    """Sequences for which a term was sent."""
    acked_ok: set[int] = field(default_factory=set)
    """Deliveries whose ack was confirmed: in a work queue they are gone."""
    done_ns: dict[int, int] = field(default_factory=dict)
    """When the confirmation of an ack or term left the node."""
    holds: dict[int, Hold] = field(default_factory=dict)
    put_off: dict[int, Hold] = field(default_factory=dict)
    """What was handed back with a delay, or extended: not due again before, whatever becomes of the process."""
    last_naks: dict[int, StepId] = field(default_factory=dict)
    """When which life of the process confirmed that a last delivery was handed back, that nobody answered otherwise."""
    due: RedeliveryDeadlines = field(default_factory=RedeliveryDeadlines)
    handing_back: dict[int, int] = field(default_factory=dict)
    """How many answers other than ack and term are on their way, by sequence."""
    counts: dict[int, set[int]] = field(default_factory=dict)
    """Delivery counts seen since the process last stopped without saying goodbye."""
    counted_in: int = 0
    freed_ns: int = -1
    """When a member may have left last, whatever was out to it."""
    most: dict[int, int] = field(default_factory=dict)
    lost_ns: list[int] = field(default_factory=list)
    """When deliveries came of which it is not known whose they were, each message once: so many may not be in `most`."""
    lost_at_ns: int = -1
    """When deliveries may have been lost on their way last. Nobody reported them, so they count for nothing."""
    letters: dict[int, int] = field(default_factory=dict)
    floor: int = 0
    floor_ns: int = 0
    dropped: int = 0
    risen: list[tuple[int, int, int]] = field(default_factory=list)
    """When which floor and which count of dropped messages were told first."""

    start_least: int = 0
    """No message below is ever delivered."""
    too_early: int = 0
    """By time: up to here no message can have been the first."""
    begun_by: int = FOREVER_NS
    """By time: a message that may have been the first; later ones need no other."""

    def __post_init__(self) -> None:
        """The last matching message, where that can only be one that was known before the consumer was asked for."""
        if self.config.policy is DeliveryPolicy.BY_START_SEQ:
            self.start_least = self.config.start_seq
        elif self.config.policy is DeliveryPolicy.LAST and self.incarnation.ends_in_order():
            matching = (s for s, m in self.incarnation.live.items() if matches(self.config.filter_subject, m.subject))
            self.start_least = max(matching, default=0)

    def start_known(self, there: Iterable[int]) -> int:
        """A message that is there now, from here on, was not before the start. `there`: all of those messages."""
        match self.config.policy:
            case DeliveryPolicy.ALL:
                return 1
            case DeliveryPolicy.BY_START_SEQ:
                return self.config.start_seq
            case DeliveryPolicy.BY_START_TIME:
                # What is late enough was found, or came afterwards; what was asked for afterwards came afterwards.
                late = (seq for seq in there if self.incarnation.times[seq] >= self.config.start_time_ms)
                new = (s for s, m in self.incarnation.live.items() if m.asked_ns > self.certain_ns)
                return min(min(late, default=FOREVER_NS), min(new, default=FOREVER_NS))
            case _:
                return self.last_before + 1

    def delivered_most(self, seq: int, asked_ns: int) -> int:
        """How often a message that was asked for then may have been delivered, lost deliveries included."""
        return self.most.get(seq, 0) + len(self.lost_ns) - bisect_left(self.lost_ns, asked_ns)

    def may_come_back(self) -> int:
        """How many messages may be out again after an abrupt stop, though they were answered or given up before.

        What was confirmed to be done stays done.
        """
        spent = {seq for seq, count in self.most.items() if count >= self.config.max_deliver}
        return len((self.answered | spent) - self.done_ns.keys())

    def same(self, config: ConsumerConfig) -> bool:
        """Whether a consumer of this configuration belongs to this group."""
        return bool(config.deliver_group) and config.deliver_group == self.config.deliver_group

    def free_all(self, now_ns: int) -> None:
        """Nothing is certain to be held any longer."""
        for hold in (*self.holds.values(), *self.put_off.values()):
            hold.free = True
        self.freed_ns = now_ns

    def told(self, floor: int, dropped: int, now_ns: int) -> None:
        """Somebody was told these figures."""
        if floor > self.floor or dropped > self.dropped:
            self.floor = max(self.floor, floor)
            self.dropped = max(self.dropped, dropped)
            self.risen.append((now_ns, self.floor, self.dropped))

    def risen_by(self, time_ns: int) -> tuple[int, int]:
        """The greatest floor and count of dropped messages that had been told by then."""
        known = [(floor, dropped) for told_ns, floor, dropped in self.risen if told_ns <= time_ns]
        return known[-1] if known else (0, 0)

    def roll_back(self, time_ns: int) -> None:
        """What was told since then may have got lost."""
        self.floor, self.dropped = self.risen_by(time_ns)
        self.risen = [each for each in self.risen if each[0] <= time_ns]
        self.put_off.clear()
        self.last_naks.clear()
        self.floor_ns = max(self.floor_ns, time_ns)
        for seq in [seq for seq, done_ns in self.done_ns.items() if done_ns > time_ns]:
            del self.done_ns[seq]
            self.acked_ok.discard(seq)

    # ------------------------------------------------------------ answers

    def answering(self, kind: AckKind, seqs: list[int]) -> dict[int, Hold]:
        """An answer is on its way: the deliveries that are certain to be out as it leaves, before it is noted."""
        out = {
            seq: Hold(hold.process_run, hold.until_ns)
            for seq in seqs
            if (hold := self.holds.get(seq)) and not hold.free
        }
        for seq in seqs:
            if kind is not AckKind.IN_PROGRESS and seq in self.holds:
                self.holds[seq].free = True
            if kind in (AckKind.NAK, AckKind.IN_PROGRESS):
                # Of several answers under way nobody knows which one came last.
                self.put_off.pop(seq, None)
                self.handing_back[seq] = self.handing_back.get(seq, 0) + 1
        self.due.unknown(seqs)
        if kind in (AckKind.ACK, AckKind.TERM):
            self.answered.update(seqs)
            for seq in seqs:
                self.last_naks.pop(seq, None)
        if kind is AckKind.TERM:
            self.termed.update(seqs)
        return out

    def heard(self, kind: AckKind, seqs: list[int]) -> list[int]:
        """An answer had its own answer, or got lost; those of its sequences about which no other one is on its way."""
        alone: list[int] = []
        if kind not in (AckKind.NAK, AckKind.IN_PROGRESS):
            return alone
        for seq in seqs:
            self.handing_back[seq] -= 1
            if not self.handing_back[seq]:
                alone.append(seq)
        return alone

    def took_effect(self, kind: AckKind, seq: int, out: Hold, asked_ns: int, delay_ms: int, step_id: StepId) -> None:
        """A nak or in-progress was confirmed while the delivery `out` was certain to be out still."""
        if out.process_run != step_id.run or step_id.time_ns >= out.until_ns or asked_ns <= self.freed_ns:
            return
        if kind is AckKind.NAK:
            self.put_off[seq] = Hold(step_id.run, asked_ns + delay_ms * MS, since_ns=asked_ns)
            if self.due.deliveries(seq, step_id.run) == self.config.max_deliver:
                self.put_off[seq].until_ns = FOREVER_NS
                if seq not in self.answered:
                    self.last_naks[seq] = step_id
            self.due.put_off(seq, step_id, delay_ms * MS)
        elif kind is AckKind.IN_PROGRESS and seq in self.holds:
            hold = self.holds[seq]
            if hold.process_run == step_id.run:
                hold.until_ns = max(hold.until_ns, asked_ns + self.config.ack_wait_ms * MS)
                until_ns = asked_ns + self.config.ack_wait_ms * MS
                self.put_off[seq] = Hold(step_id.run, until_ns, since_ns=asked_ns)
                self.due.put_off(seq, step_id, self.config.ack_wait_ms * MS)
