"""Pending deliveries, kept by batch: a million of them cost what their batches cost.

Two layers hold the batches. *Runs* are first deliveries: they come in the order of the stream, never overlap, and lie
in one sorted list. *Scattered* batches hold what was singled out of a run since (given back, extended, delivered again
in part) or came out of order; a dictionary leads from each of their sequences to its batch. A sequence is pending in at
most one batch, and whatever happens to a whole batch happens to it in place, so that consumers that work by batches
stay in the first layer.

Deadlines are a heap with one entry a batch; entries that a later change made void are dropped when they come up, or
when they outnumber the batches. What is due is a set of sequences, so that redelivery is by sequence whatever batches
it comes from.

It must never loop over what is pending, except in `restart`, `leave` and `batches`. Durations: nanoseconds. See
docs/decisions/0011-pending-by-batch.md.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import pairwise

from waymaker_core.api.requests import Messages
from waymaker_core.consumer.pending.batch import Batch, Part, Shape, shapes_of, shapes_of_range
from waymaker_core.consumer.pending.states import Event, State, after
from waymaker_core.consumer.sequences import SeqSet, is_run, lowest
from waymaker_core.model.types import Now

NS_PER_MS = 1_000_000
_SLACK = 64
"""Void entries that a heap or list may hold beyond the live ones before it is rebuilt."""
_SHOWS_ARRIVAL = frozenset({Event.REPORTED, Event.NAK, Event.EXTENDED})
"""Events that show that their message had reached the program, also where its delivery was returned before."""


class Pending:
    """The pending deliveries of one queue group."""

    __slots__ = (
        "max_deliver", "total", "due", "unlogged", "held", "_serial", "_batches", "_firsts", "_runs", "_head", "_dead",
        "_scattered", "_scattered_order", "_deadlines", "_exhausted",
    )  # fmt: skip

    def __init__(self, max_deliver: int) -> None:
        self.max_deliver = max_deliver
        self.total = 0
        """Pending messages, in any state."""
        self.due = SeqSet()
        """Those to be dispatched again."""
        self.unlogged: list[Batch] = []
        """Batches that may not be logged as they are now; among them may be dead ones, and some that are logged."""
        self._serial = 0
        self._batches = 0
        self._firsts: list[int] = []
        self._runs: list[Batch] = []
        self._head = 0
        self._dead = 0
        self._scattered: dict[int, Batch] = {}
        self._scattered_order: list[int] = []
        self._deadlines: list[tuple[int, int, Batch]] = []
        self._exhausted: deque[Batch] = deque()
        self.held: dict[int, Messages] = {}
        """By number, the deliveries that have not left the node: they wait for a confirmation that it leads."""

    # ------------------------------------------------------------ coming in

    def add_range(
        self, first: int, last: int, member: int, deliver_count: int, deadline_ns: int, dispatch_id: int = 0
    ) -> None:
        """Add dispatched messages without a gap; none of them is pending."""
        self._add(shapes_of_range(first, last), member, deliver_count, deadline_ns, dispatch_id)

    def add(
        self, seqs: list[int], member: int, deliver_count: int, deadline_ns: int, dispatch_id: int = 0
    ) -> list[Batch]:
        """Add dispatched messages, ascending and distinct; none of them is pending. Return their batches.

        With a `dispatch_id` no reader has reported them yet.
        """
        return self._add(shapes_of(seqs), member, deliver_count, deadline_ns, dispatch_id)

    def _add(
        self, shapes: list[Shape], member: int, deliver_count: int, deadline_ns: int, dispatch_id: int
    ) -> list[Batch]:
        added: list[Batch] = []
        for first, last, seqs, bits in shapes:
            batch = self._new(first, last, seqs, bits, member, deliver_count)
            if dispatch_id:
                batch.dispatch_id, batch.unreported = dispatch_id, bits
            self._log_later(batch)
            self.total += bits.bit_count()
            if not self._runs or first > self._runs[-1].last:
                self._firsts.append(first)
                self._runs.append(batch)
            else:
                self._scatter(batch)
            self._wait(batch, deadline_ns)
            added.append(batch)
        return added

    def _new(self, first: int, last: int, seqs: array[int] | None, bits: int, member: int, deliver_count: int) -> Batch:
        self._serial += 1
        self._batches += 1
        return Batch(self._serial, first, last, seqs, bits, member, deliver_count)

    def _log_later(self, batch: Batch) -> None:
        """Note a batch that is not logged as it is now."""
        batch.logged = False
        self.unlogged.append(batch)
        if len(self.unlogged) > 2 * self._batches + _SLACK:
            self.unlogged = [batch for batch in self.unlogged if batch.bits and not batch.logged]

    def _scatter(self, batch: Batch) -> None:
        """Lead from each sequence to a batch of the second layer."""
        batch.scattered = True
        scattered, order = self._scattered, self._scattered_order
        for seq in batch.seqs_of(batch.bits):
            if seq not in scattered:
                heappush(order, seq)
            scattered[seq] = batch
        if len(order) > 2 * len(scattered) + _SLACK:
            self._scattered_order = list(scattered)
            heapify(self._scattered_order)

    # ------------------------------------------------------------ finding

    def find_parts(self, seqs: list[int]) -> list[Part]:
        """Return where ascending, distinct sequences are pending, by batch; those that are not pending are left out."""
        parts: list[Part] = []
        if not seqs or not self.total:
            return parts
        if is_run(seqs):
            self._find_range(seqs[0], seqs[-1], parts)
        else:
            self._find_each(seqs, parts)
        if self._scattered:
            scattered = self._scattered
            self._find_scattered([seq for seq in seqs if seq in scattered], parts)
        return parts

    def find_below(self, seq: int) -> list[Part]:
        """Return everything that is pending below a sequence."""
        parts: list[Part] = []
        self._find_range(0, seq - 1, parts)
        if self._scattered:
            order, scattered = self._scattered_order, self._scattered
            found: list[int] = []
            while order and order[0] < seq:
                least = heappop(order)
                if least in scattered and (not found or found[-1] != least):
                    found.append(least)
            for least in found:
                heappush(order, least)
            self._find_scattered(found, parts)
        return parts

    def __contains__(self, seq: object) -> bool:
        assert isinstance(seq, int)
        return bool(self.find_parts([seq]))

    def _find_range(self, low: int, high: int, parts: list[Part]) -> None:
        runs = self._runs
        index = max(bisect_right(self._firsts, low) - 1, self._head)
        while index < len(runs):
            batch = runs[index]
            if batch.first > high:
                break
            if batch.bits and batch.last >= low:
                mask = batch.bits if low <= batch.first and batch.last <= high else batch.mask_between(low, high)
                mask &= batch.bits
                if mask:
                    parts.append((batch, mask))
            index += 1

    def _find_each(self, seqs: list[int], parts: list[Part]) -> None:
        runs, firsts = self._runs, self._firsts
        at, end = 0, len(seqs)
        while at < end:
            index = bisect_right(firsts, seqs[at]) - 1
            batch = runs[index] if index >= 0 else None
            if batch is None or batch.last < seqs[at]:
                # Between two runs: go on where the next one begins.
                at = bisect_left(seqs, firsts[index + 1], at + 1) if index + 1 < len(firsts) else end
                continue
            stop = bisect_right(seqs, batch.last, at)
            if batch.bits:
                mask = batch.mask_of(seqs[at:stop]) & batch.bits
                if mask:
                    parts.append((batch, mask))
            at = stop

    def _find_scattered(self, seqs: list[int], parts: list[Part]) -> None:
        """Return the parts of sequences that are ascending and in the second layer."""
        wanted: dict[int, tuple[Batch, list[int]]] = {}
        for seq in seqs:
            batch = self._scattered[seq]
            entry = wanted.get(batch.serial)
            if entry is None:
                wanted[batch.serial] = (batch, [seq])
            else:
                entry[1].append(seq)
        for batch, of_batch in wanted.values():
            mask = batch.mask_of(of_batch) & batch.bits
            assert mask.bit_count() == len(of_batch), "the second layer leads to a batch without the message"
            parts.append((batch, mask))

    def least(self) -> int:
        """Return the least pending sequence; there must be one."""
        runs = self._runs
        while self._head < len(runs) and not runs[self._head].bits:
            self._head += 1
        order = self._scattered_order
        while order and order[0] not in self._scattered:
            heappop(order)
        if self._head < len(runs):
            least = runs[self._head].least_seq()
            return min(least, order[0]) if order else least
        return order[0]

    def batches(self) -> list[Batch]:
        """Return every batch with something pending, in the order of creation."""
        found = [batch for batch in self._runs if batch.bits]
        seen: dict[int, Batch] = {}
        for batch in self._scattered.values():
            seen[batch.serial] = batch
        found.extend(seen.values())
        found.sort(key=lambda batch: batch.serial)
        return found

    # ------------------------------------------------------------ leaving

    def remove(self, parts: list[Part]) -> None:
        """Remove messages."""
        for batch, mask in parts:
            assert mask and mask & batch.bits == mask
            self.total -= mask.bit_count()
            if batch.scattered:
                scattered = self._scattered
                for seq in batch.seqs_of(mask):
                    del scattered[seq]
            self._lose(batch, mask)

    def _lose(self, batch: Batch, mask: int) -> None:
        """Clear bits of a batch, and remove it with its last one."""
        if batch.state is State.DUE:
            batch.discard_from(self.due, mask)
        batch.bits ^= mask
        batch.unreported &= batch.bits
        if not batch.bits:
            self._batches -= 1
            if not batch.scattered:
                self._dead += 1
                if self._dead > _SLACK and self._dead * 2 > len(self._runs):
                    self._compact_runs()

    def _compact_runs(self) -> None:
        self._runs = [batch for batch in self._runs if batch.bits]
        self._firsts = [batch.first for batch in self._runs]
        self._head = self._dead = 0

    # ------------------------------------------------------------ what happens to deliveries

    def happen(
        self, parts: list[Part], event: Event, deadline_ns: int = 0, member: int = 0, *, holding: bool = True,
        dispatch_id: int = 0,
    ) -> list[Part]:  # fmt: skip
        """Let an event happen to deliveries; return them as they are now, without those on which it has no effect.

        `deadline_ns` is when those that wait now are due; `member` (if not 0) has them now. `holding`: whether those
        that wait or are due have a claim from now on; exhausted ones stay as they were. `dispatch_id` (DISPATCHED) is
        the number of the delivery.
        """
        changed: list[Part] = []
        for batch, mask in parts:
            # A late answer shows as well as a late report that what was returned had reached the program.
            counts_late = batch.returned and event in _SHOWS_ARRIVAL
            state = after(batch.state, event, self.max_deliver - batch.deliver_count > counts_late)
            if state is None:
                continue
            target = batch if mask == batch.bits else self._single_out(batch, mask)
            if target.state is State.DUE:
                target.discard_from(self.due, mask)
            if member:
                target.member = member
            if event is Event.DISPATCHED:
                target.deliver_count += 1
                target.dispatch_id, target.unreported, target.returned = dispatch_id, mask if dispatch_id else 0, False
                if target.logged:
                    self._log_later(target)
            elif counts_late:
                target.deliver_count += 1
                target.returned = False
                if target.logged:
                    self._log_later(target)
            elif target.unreported:
                self._tell_apart(target, event)
            target.state = state
            if state in (State.WAITING, State.DUE):
                target.claiming = holding
            if state is State.WAITING:
                self._wait(target, deadline_ns)
            elif state is State.DUE:
                target.add_to(self.due, mask)
            elif state is State.EXHAUSTED:
                self._exhausted.append(target)
            changed.append((target, mask))
        return changed

    def _tell_apart(self, batch: Batch, event: Event) -> None:
        """Settle for unreported deliveries that an event happens to whether they were attempts: the event shows it."""
        batch.unreported = 0
        if event is Event.RETURNED or event is Event.NOT_SENT or event is Event.HELD_BACK:
            batch.deliver_count -= 1
            batch.returned = event is Event.RETURNED
        elif batch.logged:
            self._log_later(batch)

    def _single_out(self, batch: Batch, mask: int) -> Batch:
        """Make a part of a batch a batch of its own, over the same columns and in the same state."""
        single = self._new(batch.first, batch.last, batch.seqs, mask, batch.member, batch.deliver_count)
        # The sequences stay in the set of what is due, if they are there: they change batches, not state.
        single.state = batch.state
        single.claiming = batch.claiming
        single.deadline_ns = batch.deadline_ns
        single.deadline_ms = batch.deadline_ms
        single.rest_ms = batch.rest_ms
        single.dispatch_id = batch.dispatch_id
        single.unreported = batch.unreported & mask
        single.returned = batch.returned
        single.logged = batch.logged
        if not single.logged:
            self._log_later(single)
        batch.bits ^= mask
        batch.unreported &= batch.bits
        self._scatter(single)
        return single

    def _wait(self, batch: Batch, deadline_ns: int) -> None:
        batch.state = State.WAITING
        batch.deadline_ns = deadline_ns
        heappush(self._deadlines, (deadline_ns, batch.serial, batch))
        if len(self._deadlines) > 2 * self._batches + _SLACK:
            self._deadlines = [entry for entry in self._deadlines if _stands(entry)]
            heapify(self._deadlines)

    def next_deadline(self) -> int | None:
        """Return when the next delivery expires; None where none is waiting."""
        deadlines = self._deadlines
        while deadlines:
            if _stands(deadlines[0]):
                return deadlines[0][0]
            heappop(deadlines)
        return None

    def expire(self, now_ns: int) -> tuple[bool, list[Part]]:
        """Let what waited until now become due or exhausted. Return True if any did, and the parts whose claims ended."""
        expired: list[Batch] = []
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now_ns:
            entry = heappop(deadlines)
            if _stands(entry):
                # Void from here on, so that a second entry of the same deadline does not stand.
                entry[2].deadline_ns = -1
                expired.append(entry[2])
        return bool(expired), self._pass(expired)

    def report(self, seqs: list[int], dispatch_id: int) -> bool:
        """Count a delivery of messages as an attempt, because they reached the program. Return True if some had their last
        one.

        Messages that were answered, or dispatched again, stay as they are. One that was returned as never reported
        counts.
        """
        late: list[Part] = []
        for batch, mask in self.find_parts(seqs):
            if batch.dispatch_id != dispatch_id:
                continue
            if mask & batch.unreported:
                batch.unreported &= ~mask
                if batch.logged:
                    self._log_later(batch)
            elif batch.returned and batch.state is State.DUE:
                late.append((batch, mask))
        return any(batch.state is State.EXHAUSTED for batch, _ in self.happen(late, Event.REPORTED, holding=False))

    def unreported(self, seqs: list[int], dispatch_id: int) -> list[Part]:
        """Return the pending messages of a delivery that no reader has reported."""
        found = [
            (batch, mask & batch.unreported)
            for batch, mask in self.find_parts(seqs)
            if batch.dispatch_id == dispatch_id
        ]
        return [part for part in found if part[1]]

    def that_left(self, parts: list[Part]) -> list[Part]:
        """Return the parts of deliveries that have left the node: an answer to another one means an earlier delivery."""
        held = self.held
        if not held:
            return parts
        left = [(batch, mask & ~batch.unreported if batch.dispatch_id in held else mask) for batch, mask in parts]
        return [part for part in left if part[1]]

    def give_back(self, parts: list[Part], event: Event) -> list[Part]:
        """Undo deliveries that were no attempts (RETURNED, NOT_SENT), as `unreported` gives them. Return the parts whose
        claims ended.
        """
        released: list[Part] = []
        for batch, mask in parts:
            held = batch.claiming
            never_left = event is Event.RETURNED and batch.dispatch_id in self.held
            for target, changed in self.happen(
                [(batch, mask)],
                Event.HELD_BACK if never_left else event,
                batch.deadline_ns,
                holding=event is Event.NOT_SENT and held,
            ):
                if held and not target.claiming:
                    released.append((target, changed))
        return released

    def leave(self, member: int) -> list[Part]:
        """Let everything of a deleted member expire now. Return the parts whose claims ended."""
        left = [entry[2] for entry in self._deadlines if _stands(entry) and entry[2].member == member]
        for batch in left:
            batch.deadline_ns = -1
        return self._pass(left)

    def _pass(self, batches: list[Batch]) -> list[Part]:
        released: list[Part] = []
        for batch in batches:
            if batch.state is not State.WAITING:
                continue
            if batch.unreported:
                released += self.give_back([(batch, batch.unreported)], Event.RETURNED)
            released += self._expire_rest(batch)
        return released

    def _expire_rest(self, batch: Batch) -> list[Part]:
        """Let what waits in a batch without being unreported expire."""
        if batch.state is not State.WAITING:
            return []
        held = batch.claiming
        self.happen([(batch, batch.bits)], Event.EXPIRED, holding=False)
        return [(batch, batch.bits)] if held and not batch.claiming else []

    def lose_claim(self, batch: Batch, mask: int) -> None:
        """Make some messages of a batch due, because another group has the claim to them."""
        never = mask & batch.unreported
        self.give_back([(batch, never)] if never else [], Event.RETURNED)
        if mask ^ never:
            self.happen([(batch, mask ^ never)], Event.EXPIRED, holding=False)

    def restart(self, now: Now, wait_ms: int) -> None:
        """Let everything pending wait for the rest of its time, and the whole time where no record says how much is left.

        The monotonic clock began anew, so the rest is measured by the wall clock. Where that was set back, no delivery
        waits longer than was left when the record was made; where it was set forward, deliveries are due early.
        """
        self.due = SeqSet()
        self._exhausted.clear()
        self._deadlines = []
        for batch in self.batches():
            rest_ms = wait_ms
            if batch.state is not State.WAITING:
                rest_ms = 0
            elif batch.deadline_ms:
                rest_ms = max(0, min(batch.rest_ms, batch.deadline_ms - now.wall_ms))
            batch.claiming = batch.claiming and rest_ms > 0
            self._wait(batch, now.mono_ns + rest_ms * NS_PER_MS)

    # ------------------------------------------------------------ giving up

    def has_exhausted(self) -> bool:
        """Return True if a last attempt failed and no drop of it has begun."""
        exhausted = self._exhausted
        while exhausted and not (exhausted[0].bits and exhausted[0].state is State.EXHAUSTED):
            exhausted.popleft()
        return bool(exhausted)

    def exhausted(self, limit: int) -> list[Part]:
        """Return up to `limit` exhausted messages, in the order of their batches."""
        parts: list[Part] = []
        room = limit
        if not self.has_exhausted():
            return parts
        seen: dict[int, bool] = {}
        for batch in self._exhausted:
            if batch.bits and batch.state is State.EXHAUSTED and batch.serial not in seen:
                seen[batch.serial] = True
                mask = lowest(batch.bits, room)
                parts.append((batch, mask))
                room -= mask.bit_count()
                if not room:
                    break
        return parts

    # ------------------------------------------------------------ logging

    def take_unlogged(self) -> list[Batch]:
        """Return the batches that are not logged as they are now, and count them as logged."""
        batches: list[Batch] = []
        for batch in self.unlogged:
            if batch.bits and not batch.logged:
                batch.logged = True
                batches.append(batch)
        self.unlogged = []
        return batches

    def log_anew(self) -> None:
        """Count every batch as not logged."""
        self.unlogged = self.batches()
        for batch in self.unlogged:
            batch.logged = False

    def has_unlogged(self) -> bool:
        """Return True if `take_unlogged` would return any."""
        unlogged = self.unlogged
        while unlogged and (unlogged[-1].logged or not unlogged[-1].bits):
            unlogged.pop()
        return bool(unlogged)

    # ------------------------------------------------------------ invariants

    def check(self) -> None:
        """Assert what holds between the two layers, the due set, the heaps and the counts."""
        batches = self.batches()
        assert len(batches) == self._batches
        assert self.total == sum(batch.bits.bit_count() for batch in batches)
        assert self._firsts == [batch.first for batch in self._runs]
        assert self._dead == sum(1 for batch in self._runs if not batch.bits)
        for before, behind in pairwise(self._runs):
            assert before.last < behind.first
        surviving = {entry[1] for entry in self._deadlines if _stands(entry)}
        exhausted = {batch.serial for batch in self._exhausted}
        unlogged = {batch.serial for batch in self.unlogged}
        due = 0
        out: dict[int, int] = {}
        for batch in batches:
            for seq in batch.seqs_of(batch.bits):
                assert seq not in out, "a message is out twice"
                out[seq] = batch.serial
                assert (self._scattered.get(seq) is batch) == batch.scattered
            in_due = batch.mask_in(self.due, batch.bits)
            assert in_due == (batch.bits if batch.state is State.DUE else 0)
            due += in_due.bit_count()
            assert batch.state is not State.WAITING or batch.serial in surviving
            assert batch.state is not State.EXHAUSTED or batch.serial in exhausted
            assert batch.state is not State.DUE or (batch.deliver_count < self.max_deliver and not batch.claiming)
            assert batch.logged or batch.serial in unlogged
            assert batch.unreported & batch.bits == batch.unreported
            assert not batch.unreported or (batch.state is State.WAITING and batch.dispatch_id and batch.deliver_count)
        assert due == len(self.due)
        assert len(self._scattered) == sum(batch.bits.bit_count() for batch in batches if batch.scattered)
        if out:
            assert self.least() == min(out)
        self.due.check()


def _stands(entry: tuple[int, int, Batch]) -> bool:
    """Return True if an entry of the deadline heap still says when its batch is due."""
    batch = entry[2]
    return batch.bits != 0 and batch.state is State.WAITING and batch.deadline_ns == entry[0]
