"""Groups of consumers over a real stream against the rules written down with one dictionary a group.

Acks wait in a tail until a rule commits them, retention and members come and go, and every answer, floor and count must be
what the rules say at that moment.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.kit.consumer_world import ConsumerWorld, consumer
from waymaker_core.api.requests import AckKind
from waymaker_core.model.config import Retention, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import AckRecord, DropRecord
from waymaker_core.model.types import ConsumerId

SUBJECTS = ("a", "b")
FILTERS = ("", "a", "b")
PENDING_MAX = 9


class Out:
    """A message that is out."""

    def __init__(self, count: int, due_ms: int, member: ConsumerId, *, holding: bool) -> None:
        self.count = count
        self.due_ms = due_ms
        self.member = member
        self.holding = holding


class Position:
    """What the rules know of a group."""

    def __init__(self, pattern: str, max_deliver: int, start: int) -> None:
        self.pattern = pattern
        self.max_deliver = max_deliver
        self.considered = start - 1
        self.start = start
        self.out: dict[int, Out] = {}
        self.done: dict[int, bool] = {}
        """False: decided, not committed."""
        self.held: set[int] = set()
        """Decided, not committed, and kept from others until then."""
        self.dropped = 0
        self.members: list[ConsumerId] = []


class ConsumersAgainstRules(RuleBasedStateMachine):
    """The same calls to both."""

    @initialize(retention=st.sampled_from([Retention.LIMITS, Retention.WORK_QUEUE]))
    def begin(self, retention: Retention) -> None:
        config = StreamConfig("s", retention=retention, block_size=5)
        self.queue = retention is Retention.WORK_QUEUE
        self.world = ConsumerWorld(config, Limits(pending_max=PENDING_MAX))
        self.live: dict[int, str] = {}
        self.last = 0
        self.groups: dict[str, Position] = {}
        self.of: dict[ConsumerId, Position] = {}
        self.staged: list[tuple[Position | None, AckRecord | DropRecord]] = []

    # ------------------------------------------------------------ the stream

    @rule(subjects=st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=8))
    def publish(self, subjects: list[str]) -> None:
        self.commit()
        self.world.publish(*subjects)
        for subject in subjects:
            self.last += 1
            self.live[self.last] = subject

    @rule(data=st.data())
    def prune(self, data: st.DataObject) -> None:
        self.commit()
        below = data.draw(st.integers(0, self.last + 1))
        singles = data.draw(st.sets(st.integers(1, self.last + 1), max_size=3))
        self.world.prune(below, sorted(seq for seq in singles if seq >= below))
        for seq in [seq for seq in self.live if seq < below or seq in singles]:
            self.gone(seq)

    def gone(self, seq: int) -> None:
        self.live.pop(seq, None)
        for group in self.groups.values():
            group.out.pop(seq, None)

    # ------------------------------------------------------------ coming and going

    @rule(
        name=st.sampled_from(["c", "d", "e"]),
        pattern=st.sampled_from(FILTERS),
        max_deliver=st.integers(1, 3),
        grouped=st.booleans(),
    )
    def create(self, name: str, pattern: str, max_deliver: int, grouped: bool) -> None:
        self.commit()
        if name in [self.world.consumers.name_of(member) for member in self.of]:
            return
        key = "g" if grouped else name
        group = self.groups.get(key)
        if group is not None:
            pattern, max_deliver = group.pattern, group.max_deliver
        config = consumer(name, filter_subject=pattern, max_deliver=max_deliver, deliver_group="g" if grouped else "")
        made = self.world.create(config)
        if group is None:
            group = self.groups[key] = Position(pattern, max_deliver, min(self.live, default=self.last + 1))
        group.members.append(made)
        self.of[made] = group

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.commit()
        if not self.of:
            return
        member = data.draw(st.sampled_from(sorted(self.of)))
        group = self.of.pop(member)
        self.world.delete(self.world.consumers.name_of(member))
        group.members.remove(member)
        if not group.members:
            self.groups = {key: each for key, each in self.groups.items() if each is not group}
            return
        for out in group.out.values():
            if out.member == member:
                out.due_ms = min(out.due_ms, self.world.now_ms)
                out.holding = out.holding and out.count >= group.max_deliver

    # ------------------------------------------------------------ what may be had

    def expire(self) -> None:
        for group in self.groups.values():
            for out in group.out.values():
                if out.due_ms <= self.world.now_ms and out.count < group.max_deliver:
                    out.holding = False

    def withheld(self, group: Position, seq: int) -> bool:
        return self.queue and any(
            (seq in other.out and other.out[seq].holding) or seq in other.held
            for other in self.groups.values()
            if other is not group
        )

    def matching(self, group: Position) -> list[int]:
        return [
            seq
            for seq, subject in self.live.items()
            if seq >= group.start and group.pattern in ("", subject) and seq not in group.done
        ]

    @rule(data=st.data(), count=st.integers(1, 12))
    def fetch(self, data: st.DataObject, count: int) -> None:
        if not self.of:
            return
        member = data.draw(st.sampled_from(sorted(self.of)))
        group = self.of[member]
        self.expire()
        due = [
            seq
            for seq, out in sorted(group.out.items())
            if out.due_ms <= self.world.now_ms and out.count < group.max_deliver and not self.withheld(group, seq)
        ][:count]
        room = min(count - len(due), PENDING_MAX - len(group.out))
        new = [seq for seq in self.matching(group) if seq not in group.out and not self.withheld(group, seq)]
        new = new[: max(room, 0)]
        could = self.world.consumers.has_work(member, self.world.now)
        got = self.world.fetch(member, count)
        assert got == [(seq, group.out[seq].count + 1) for seq in due] + [(seq, 1) for seq in new]
        assert could or not got
        for seq, attempt in got:
            group.out[seq] = Out(attempt, self.world.now_ms + 100, member, holding=True)
        if new:
            group.considered = max(group.considered, new[-1])
        if len(new) < room:
            group.considered = max(group.considered, self.last)
        if not got and room > 0:
            assert not self.world.consumers.has_work(member, self.world.now)

    # ------------------------------------------------------------ answers

    def some(self, data: st.DataObject, group: Position) -> list[int]:
        of_these: bool = data.draw(st.booleans())
        if group.out and of_these:
            return data.draw(st.lists(st.sampled_from(sorted(group.out)), min_size=1, max_size=6))
        first = data.draw(st.integers(0, self.last + 1))
        return list(range(first, first + data.draw(st.integers(1, 8))))

    @rule(data=st.data(), kind=st.sampled_from([AckKind.ACK, AckKind.TERM]), commit=st.booleans())
    def settle(self, data: st.DataObject, kind: AckKind, commit: bool) -> None:
        if not self.of:
            return
        member = data.draw(st.sampled_from(sorted(self.of)))
        group = self.of[member]
        self.expire()
        seqs = self.some(data, group)
        found = sorted(seq for seq in set(seqs) if seq in group.out)
        assert self.world.answer(member, kind, seqs) == len(found)
        self.decided(group, found)
        if commit:
            self.commit()

    def decided(self, group: Position, found: list[int]) -> None:
        for seq in found:
            if group.out.pop(seq).holding:
                group.held.add(seq)
            group.done[seq] = False

    @rule(data=st.data(), delay_ms=st.sampled_from([0, 30, 200]))
    def nak(self, data: st.DataObject, delay_ms: int) -> None:
        if not self.of:
            return
        member = data.draw(st.sampled_from(sorted(self.of)))
        group = self.of[member]
        self.expire()
        seqs = self.some(data, group)
        touched = 0
        for seq in dict.fromkeys(seqs):
            out = group.out.get(seq)
            if out is None or (out.count >= group.max_deliver and out.due_ms <= self.world.now_ms):
                continue
            touched += 1
            if out.count < group.max_deliver:
                out.due_ms = self.world.now_ms + delay_ms
                out.holding = False
            else:
                out.due_ms = self.world.now_ms
        assert self.world.answer(member, AckKind.NAK, seqs, delay_ms) == touched

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        if not self.of:
            return
        member = data.draw(st.sampled_from(sorted(self.of)))
        group = self.of[member]
        self.expire()
        seqs = self.some(data, group)
        touched = 0
        for seq in dict.fromkeys(seqs):
            out = group.out.get(seq)
            if out is None or (out.count >= group.max_deliver and out.due_ms <= self.world.now_ms):
                continue
            if not self.withheld(group, seq):
                touched += 1
                out.due_ms = self.world.now_ms + 100
                out.holding = True
        assert self.world.answer(member, AckKind.IN_PROGRESS, seqs) == touched

    @rule(elapsed_ms=st.sampled_from([1, 29, 100, 250]))
    def time_passes(self, elapsed_ms: int) -> None:
        self.world.now_ms += elapsed_ms

    @rule(limit=st.integers(1, 5))
    def give_up(self, limit: int) -> None:
        self.world.consumers.expire(self.world.now)
        self.expire()
        spent = {
            (key, seq)
            for key, group in self.groups.items()
            for seq, out in group.out.items()
            if out.due_ms <= self.world.now_ms and out.count >= group.max_deliver
        }
        assert self.world.consumers.has_exhausted() == bool(spent)
        handed = self.world.hand_out(limit)
        assert sum(len(each.seqs) for each in handed) == min(limit, len(spent))
        for each in handed:
            for record in self.world.drop(each):
                group = self.of[ConsumerId(record.consumer_id)]
                assert all(seq in group.out for seq in record.seqs)
                self.decided(group, list(record.seqs))

    # ------------------------------------------------------------ commits

    @rule()
    def commit(self) -> None:
        records = [record for record, _ in self.world.overlay]
        self.world.commit()
        for record in records:
            if isinstance(record, AckRecord | DropRecord):
                group = self.of[ConsumerId(record.consumer_id)]
                for seq in record.seqs:
                    group.done[seq] = True
                    group.held.discard(seq)
                if isinstance(record, DropRecord):
                    group.dropped += len(record.seqs)
                if self.queue and isinstance(record, AckRecord) and not record.term:
                    for seq in record.seqs:
                        self.gone(seq)

    @rule()
    def log(self) -> None:
        self.world.log_deliveries()
        assert not self.world.consumers.unlogged()

    @invariant()
    def both_agree(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.check()
        for member, group in self.of.items():
            info = self.world.consumers.info(member)
            waiting = [seq for seq in self.matching(group) if seq <= group.considered]
            waiting += [seq for seq, committed in group.done.items() if not committed]
            assert info.ack_floor == min(waiting, default=group.considered + 1) - 1
            assert info.pending == len(group.out)
            assert info.redelivered_dropped == group.dropped


TestConsumersAgainstRules = ConsumersAgainstRules.TestCase
TestConsumersAgainstRules.settings = settings(stateful_step_count=40)
