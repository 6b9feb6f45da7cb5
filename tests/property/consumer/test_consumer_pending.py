"""Pending deliveries, kept by batch, against one plain entry a message."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from waymaker_core.consumer.pending.batch import BATCH_MESSAGES_MAX, Part, shapes_of, shapes_of_range
from waymaker_core.consumer.pending.pending import NS_PER_MS, Pending
from waymaker_core.consumer.pending.states import TRANSITIONS, Event, State
from waymaker_core.consumer.sequences import positions
from waymaker_core.model.types import Now


class Entry:
    """One message that is out: what the semantics say, and nothing else."""

    def __init__(self, member: int, count: int, deadline: int, dispatch_id: int = 0) -> None:
        self.member = member
        self.count = count
        self.deadline = deadline
        self.state = State.WAITING
        self.holding = True
        self.dispatch_id = dispatch_id
        self.unreported = bool(dispatch_id)
        self.returned = False

    def shows_itself(self) -> None:
        """It was answered, so it had arrived, also where it was returned before."""
        self.unreported = False
        self.count += self.returned
        self.returned = False

    def goes_back(self, returned: bool) -> None:
        """It never arrived."""
        self.unreported = False
        self.returned = returned
        self.count -= 1


class PendingAgainstEntries(RuleBasedStateMachine):
    """The same events happen to a `Pending` and to a dictionary."""

    @initialize(max_deliver=st.integers(1, 4))
    def begin(self, max_deliver: int) -> None:
        self.max_deliver = max_deliver
        self.real = Pending(max_deliver)
        self.model: dict[int, Entry] = {}
        self.cursor = 1
        self.now = 1
        self.dispatches = 0

    def dispatch_id(self, reporting: bool) -> int:
        self.dispatches += 1
        return self.dispatches if reporting else 0

    def some(self, data: st.DataObject) -> list[int]:
        """Sequences to act on: a stretch, some of what is out, or anything."""
        kind = data.draw(st.integers(0, 2))
        if kind == 0:
            first = data.draw(st.integers(1, self.cursor + 2))
            return list(range(first, first + data.draw(st.integers(1, 40))))
        if kind == 1 and self.model:
            return sorted(data.draw(st.sets(st.sampled_from(sorted(self.model)), min_size=1, max_size=12)))
        return sorted(data.draw(st.sets(st.integers(1, self.cursor + 5), min_size=1, max_size=12)))

    @rule(
        gap=st.integers(0, 5),
        count=st.integers(1, 60),
        member=st.integers(1, 3),
        wait=st.integers(1, 20),
        reporting=st.booleans(),
    )
    def deliver_a_stretch(self, gap: int, count: int, member: int, wait: int, reporting: bool) -> None:
        first = self.cursor + gap
        dispatch_id = self.dispatch_id(reporting)
        self.real.add_range(first, first + count - 1, member, 1, self.now + wait, dispatch_id)
        for seq in range(first, first + count):
            self.model[seq] = Entry(member, 1, self.now + wait, dispatch_id)
        self.cursor = first + count

    @rule(
        steps=st.lists(st.integers(1, 30), min_size=1, max_size=12),
        member=st.integers(1, 3),
        wait=st.integers(1, 20),
        reporting=st.booleans(),
    )
    def deliver_with_gaps(self, steps: list[int], member: int, wait: int, reporting: bool) -> None:
        seqs = [self.cursor + sum(steps[: index + 1]) for index in range(len(steps))]
        dispatch_id = self.dispatch_id(reporting)
        self.real.add(seqs, member, 1, self.now + wait, dispatch_id)
        for seq in seqs:
            self.model[seq] = Entry(member, 1, self.now + wait, dispatch_id)
        self.cursor = seqs[-1] + 1

    @rule(data=st.data(), member=st.integers(1, 3), wait=st.integers(1, 20))
    def deliver_what_was_passed_over(self, data: st.DataObject, member: int, wait: int) -> None:
        free = [seq for seq in self.some(data) if seq not in self.model and seq < self.cursor]
        if free:
            self.real.add(free, member, 1, self.now + wait)
            for seq in free:
                self.model[seq] = Entry(member, 1, self.now + wait)

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        seqs = self.some(data)
        parts = self.real.find_parts(seqs)
        found = sorted(seq for batch, mask in parts for seq in batch.seqs_of(mask))
        assert found == [seq for seq in seqs if seq in self.model]
        self.real.remove(parts)
        for seq in found:
            del self.model[seq]

    @rule(data=st.data())
    def prune(self, data: st.DataObject) -> None:
        below = data.draw(st.integers(1, self.cursor + 1))
        parts = self.real.find_below(below)
        found = sorted(seq for batch, mask in parts for seq in batch.seqs_of(mask))
        assert found == sorted(seq for seq in self.model if seq < below)
        self.real.remove(parts)
        for seq in found:
            del self.model[seq]

    @rule(
        data=st.data(),
        event=st.sampled_from([Event.NAK, Event.EXTENDED]),
        wait=st.integers(0, 20),
        holding=st.booleans(),
    )
    def nak_or_extend(self, data: st.DataObject, event: Event, wait: int, holding: bool) -> None:
        seqs = self.some(data)
        changed = self.real.happen(self.real.find_parts(seqs), event, self.now + wait, holding=holding)
        expected = []
        for seq in seqs:
            entry = self.model.get(seq)
            if entry is None:
                continue
            state = TRANSITIONS.get((entry.state, event, entry.count + entry.returned < self.max_deliver))
            if state is None:
                continue
            expected.append(seq)
            entry.shows_itself()
            entry.state = state
            if state is State.WAITING:
                entry.deadline = self.now + wait
                entry.holding = holding
        assert sorted(seq for batch, mask in changed for seq in batch.seqs_of(mask)) == expected

    @rule(elapsed=st.integers(0, 15))
    def time_passes(self, elapsed: int) -> None:
        self.now += elapsed
        any_expired, released = self.real.expire(self.now)
        expired = {
            seq: entry
            for seq, entry in self.model.items()
            if entry.state is State.WAITING and entry.deadline <= self.now
        }
        assert any_expired == bool(expired)
        self.expect_passed(expired, released)

    def expect_passed(self, passed: dict[int, Entry], released: list[Part]) -> None:
        let_go = sorted(
            seq
            for seq, entry in passed.items()
            if entry.holding and (entry.unreported or entry.count < self.max_deliver)
        )
        assert sorted(seq for batch, mask in released for seq in batch.seqs_of(mask)) == let_go
        for entry in passed.values():
            if entry.unreported:
                entry.goes_back(returned=True)
            if entry.count < self.max_deliver:
                entry.state = State.DUE
                entry.holding = False
            else:
                entry.state = State.EXHAUSTED

    @rule(member=st.integers(1, 3))
    def a_member_leaves(self, member: int) -> None:
        released = self.real.leave(member)
        left = {
            seq: entry for seq, entry in self.model.items() if entry.state is State.WAITING and entry.member == member
        }
        self.expect_passed(left, released)

    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        seqs, dispatch_id = self.some(data), data.draw(st.integers(1, self.dispatches + 1))
        self.real.report(seqs, dispatch_id)
        for seq in seqs:
            entry = self.model.get(seq)
            if entry is None or entry.dispatch_id != dispatch_id:
                continue
            if entry.unreported:
                entry.unreported = False
            elif entry.returned and entry.state is State.DUE:
                entry.returned = False
                entry.count += 1
                if entry.count == self.max_deliver:
                    entry.state = State.EXHAUSTED

    @rule(data=st.data(), event=st.sampled_from([Event.RETURNED, Event.NOT_SENT]))
    def never_arrives(self, data: st.DataObject, event: Event) -> None:
        seqs, dispatch_id = self.some(data), data.draw(st.integers(1, self.dispatches + 1))
        released = self.real.give_back(self.real.unreported(seqs, dispatch_id), event)
        let_go = []
        for seq in seqs:
            entry = self.model.get(seq)
            if entry is None or entry.dispatch_id != dispatch_id or not entry.unreported:
                continue
            entry.goes_back(returned=event is Event.RETURNED)
            if event is Event.RETURNED:
                entry.state = State.DUE
                if entry.holding:
                    let_go.append(seq)
                entry.holding = False
        assert sorted(seq for batch, mask in released for seq in batch.seqs_of(mask)) == let_go

    @rule(limit=st.integers(1, 50), member=st.integers(1, 3), wait=st.integers(1, 20), reporting=st.booleans())
    def deliver_again(self, limit: int, member: int, wait: int, reporting: bool) -> None:
        dispatch_id = self.dispatch_id(reporting)
        due = self.real.due.first(limit)
        assert due == sorted(seq for seq, entry in self.model.items() if entry.state is State.DUE)[:limit]
        if due:
            self.real.happen(
                self.real.find_parts(due), Event.DISPATCHED, self.now + wait, member, dispatch_id=dispatch_id
            )
        for seq in due:
            entry = self.model[seq]
            entry.count += 1
            entry.member = member
            entry.state = State.WAITING
            entry.holding = True
            entry.deadline = self.now + wait
            entry.dispatch_id, entry.unreported, entry.returned = dispatch_id, bool(dispatch_id), False

    @rule(limit=st.integers(1, 50))
    def hand_out_what_is_spent(self, limit: int) -> None:
        parts = self.real.exhausted(limit)
        seqs = [seq for batch, mask in parts for seq in batch.seqs_of(mask)]
        spent = [seq for seq, entry in self.model.items() if entry.state is State.EXHAUSTED]
        assert len(seqs) == min(limit, len(spent)) and all(self.model[seq].state is State.EXHAUSTED for seq in seqs)
        self.real.happen(parts, Event.DROP_BEGUN)
        for seq in seqs:
            self.model[seq].state = State.DROPPING

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        seqs = self.some(data)
        self.real.happen(self.real.find_parts(seqs), Event.DROP_ABORTED)
        for seq in seqs:
            if seq in self.model and self.model[seq].state is State.DROPPING:
                self.model[seq].state = State.EXHAUSTED

    @rule()
    def log(self) -> None:
        self.real.take_unlogged()
        assert not self.real.has_unlogged()

    @precondition(lambda self: hasattr(self, "now") and not any(entry.unreported for entry in self.model.values()))
    @rule(wait=st.integers(1, 20))
    def restart(self, wait: int) -> None:
        """No record tells of what waits, so it waits anew; what had expired is due again."""
        self.real.restart(Now(self.now, 1), wait)
        for entry in self.model.values():
            entry.holding = entry.holding and entry.state is State.WAITING
            entry.deadline = self.now + (wait * NS_PER_MS if entry.state is State.WAITING else 0)
            entry.state = State.WAITING

    @invariant()
    def both_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        self.real.check()
        assert self.real.total == len(self.model)
        deadlines = [entry.deadline for entry in self.model.values() if entry.state is State.WAITING]
        assert self.real.next_deadline() == min(deadlines, default=None)
        assert self.real.has_exhausted() == any(entry.state is State.EXHAUSTED for entry in self.model.values())
        seen = 0
        for batch in self.real.batches():
            for seq in batch.seqs_of(batch.bits):
                entry = self.model[seq]
                seen += 1
                assert (batch.state, batch.deliver_count, batch.member) == (entry.state, entry.count, entry.member)
                assert batch.claiming == entry.holding
                assert bool(batch.unreported & batch.mask_of([seq])) == entry.unreported
                assert batch.state is not State.WAITING or batch.deadline_ns == entry.deadline
        assert seen == len(self.model)


TestPendingAgainstEntries = PendingAgainstEntries.TestCase
TestPendingAgainstEntries.settings = settings(stateful_step_count=40)


@pytest.mark.parametrize("count", [1, BATCH_MESSAGES_MAX, BATCH_MESSAGES_MAX + 1, 10_000])
def test_a_great_delivery_becomes_batches_that_cover_it(count: int) -> None:
    for shapes in (shapes_of_range(7, 6 + count), shapes_of(list(range(7, 7 + count)))):
        covered = [first + index for first, _, _, bits in shapes for index in positions(bits)]
        assert covered == list(range(7, 7 + count))
        assert all(last - first < BATCH_MESSAGES_MAX for first, last, _, _ in shapes)


@pytest.mark.parametrize("step", [2, 7, 8, 9, 1000])
def test_a_delivery_with_gaps_becomes_batches_that_hold_just_its_messages(step: int) -> None:
    seqs = list(range(5, 5 + 3000 * step, step))
    pending = Pending(5)
    pending.add(seqs, 1, 1, 10)
    pending.check()
    assert [seq for batch in pending.batches() for seq in batch.seqs_of(batch.bits)] == seqs
    assert pending.find_parts([seq + 1 for seq in seqs]) == []


def test_a_million_deliveries_settled_one_by_one_from_the_back_leave_nothing_behind() -> None:
    pending = Pending(5)
    for first in range(1, 1_000_001, 10_000):
        pending.add_range(first, first + 9_999, 1, 1, 30)
    assert pending.total == 1_000_000
    for last in range(1_000_000, 0, -10_000):
        seqs = list(range(last - 9_999, last + 1))
        pending.remove(pending.find_parts(seqs[::2]))
        pending.remove(pending.find_parts(seqs[1::2]))
    assert pending.total == 0
    assert pending.next_deadline() is None
    pending.check()


def test_extending_for_ever_costs_no_memory() -> None:
    pending = Pending(5)
    pending.add_range(1, 10, 1, 1, 100)
    for beat in range(5_000):
        pending.happen(pending.find_parts([3, 5]), Event.EXTENDED, 1_000 + beat)
    assert len(pending._deadlines) < 300
    assert len(pending.unlogged) < 300
    pending.check()


@pytest.mark.parametrize(("event", "state"), [(Event.NAK, State.EXHAUSTED), (Event.EXTENDED, State.WAITING)])
def test_a_late_answer_counts_the_delivery_that_was_returned_unreported(event: Event, state: State) -> None:
    pending = Pending(1)
    pending.add([7], 1, 1, 100, dispatch_id=3)
    pending.give_back(pending.unreported([7], 3), Event.RETURNED)
    assert pending.due.first(1) == [7]
    ((batch, _),) = pending.happen(pending.find_parts([7]), event, 200, 1)
    assert (batch.state, batch.deliver_count) == (state, 1)
    assert pending.due.first(1) == []
    assert pending.happen([(batch, batch.bits)], Event.REPORTED) == []
    pending.check()


def test_every_state_can_be_left_and_the_table_names_no_state_twice() -> None:
    for state in State:
        assert any(source is state for source, _, _ in TRANSITIONS)
    assert all(TRANSITIONS[key] in State for key in TRANSITIONS)
    assert set(TRANSITIONS.values()) == set(State)


@pytest.mark.parametrize("start", [1, 1 << 40])
def test_a_delivery_is_a_bitmap_where_it_is_dense_wherever_it_begins(start: int) -> None:
    dense, sparse = [start, start + 2, start + 3], [start, start + 1_000, start + 100_000]
    assert shapes_of(dense) == [(start, start + 3, None, 0b1101)]
    ((first, last, column, bits),) = shapes_of(sparse)
    assert (first, last, bits) == (start, start + 100_000, 0b111)
    assert column is not None
    assert list(column) == sparse
