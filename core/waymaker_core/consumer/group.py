"""A queue group: one position in a stream. A consumer by itself is a group of one.

Below the cursor every sequence was *scanned*. It is pending (`pending`), settled by a record that is not committed
(`staged`), skipped because another group of a work queue had the claim (`skipped`), or done with: acked, dropped,
deleted, not matching. The floor is the last sequence below the first three, and so can only rise. At and beyond the
cursor nothing was scanned. But after a crash the log may list messages there that were acked or are pending all the
same: they are acked ahead, and the cursor steps over them.

It must never call anything that can raise `NeedBlocks` after it began to change; dispatch is in `delivery/dispatch`,
the log in `delivery/delivery_log`.
"""

from __future__ import annotations

from typing import NamedTuple

from waymaker_core.consumer.pending.batch import Batch, Part
from waymaker_core.consumer.pending.pending import NS_PER_MS, Pending
from waymaker_core.consumer.pending.staged import Staged, StagedDone
from waymaker_core.consumer.pending.states import Event, State
from waymaker_core.consumer.sequences import SeqSet
from waymaker_core.consumer.work_queue.claims import Claims
from waymaker_core.model.config import ConsumerConfig
from waymaker_core.model.records import AckRecord, DropRecord
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import reads
from waymaker_core.stream.stream import Stream


class Member(NamedTuple):
    """One consumer of a group."""

    config: ConsumerConfig
    created_ms: int


class Found(NamedTuple):
    """The sequences of an ack that can be settled: parts of batches, and messages not known to be pending."""

    parts: list[Part]
    unknown_acks: list[int]
    total: int


class Group:
    """The state of one position. `id` is the id of its first member."""

    __slots__ = (
        "id", "config", "pattern", "members", "cursor", "last_delivered", "dropped", "pending", "skipped", "acked_ahead",
        "staged", "uncertain_to", "logged_uncertain_to", "claims", "idle_serial", "logged_cursor", "unlogged_skipped",
        "no_match_below", "scheduled_ns", "ack_wait_ns", "drops_in_vain", "dispatches",
    )  # fmt: skip

    def __init__(self, group_id: int, config: ConsumerConfig, start_seq: int) -> None:
        self.id = group_id
        self.config = config
        self.pattern = Pattern(config.filter_subject) if config.filter_subject not in {"", ">"} else None
        self.members: dict[int, Member] = {}
        self.cursor = start_seq
        """The next sequence to look at."""
        self.last_delivered = 0
        self.dropped = 0
        self.pending = Pending(config.max_deliver)
        self.skipped = SeqSet()
        self.acked_ahead = SeqSet()
        self.staged = Staged()
        self.uncertain_to = 0
        """Up to here messages may have been delivered before a crash of the server without a record of it."""
        self.logged_uncertain_to = 0
        """The same, as logged."""
        self.claims: Claims | None = None
        self.idle_serial = 0
        """The serial of the claims at which everything that could be dispatched was claimed by other groups."""
        self.logged_cursor = start_seq
        self.unlogged_skipped: list[int] = []
        self.no_match_below = start_seq
        """Nothing at or beyond the cursor and below here matches."""
        self.scheduled_ns: int | None = None
        """The deadline at which the stream looks at this group next."""
        self.drops_in_vain = 0
        """Drops that ended with keeping every message, since one did not."""
        self.ack_wait_ns = config.ack_wait_ms * NS_PER_MS
        self.dispatches = 0
        """Deliveries made since the server was started."""

    # ------------------------------------------------------------ figures

    def outstanding(self) -> int:
        """Return the least sequence that the floor waits for; the cursor where there is none."""
        least = self.cursor
        if self.pending.total:
            least = min(least, self.pending.least())
        if self.skipped:
            least = min(least, self.skipped.least())
        if self.staged:
            least = min(least, self.staged.least())
        return least

    @property
    def floor(self) -> int:
        """Return the last sequence up to which every matching message is acked, termed, dropped or deleted."""
        return self.outstanding() - 1

    def has_work(self, stream: Stream, pending_max: int) -> bool:
        """Return True if a dispatch could find something."""
        room = self.pending.total < pending_max
        if self.cursor <= stream.last_seq and room:
            return True
        if not self.pending.due and not (self.skipped and room):
            return False
        return self.claims is None or self.claims.serial != self.idle_serial

    def interest_floor(self, stream: Stream) -> int:
        """Return the last sequence that this group needs no more, whether it scanned what follows or not."""
        least = self.outstanding()
        if least < self.cursor:
            return least - 1
        at = max(self.cursor, self.no_match_below)
        while at <= stream.last_seq:
            found = reads.select(stream, at, self.pattern, 1, 1)
            if found.ranges and found.ranges[0][0] not in self.acked_ahead:
                at = found.ranges[0][0]
                break
            at = found.next_seq
            self.no_match_below = at
        self.no_match_below = at
        # After a crash a delivery may be known that lies beyond the known scan: it counts as ahead, and is not done.
        return (min(at, self.pending.least()) if self.pending.total else at) - 1

    # ------------------------------------------------------------ time and membership

    def expire(self, now_ns: int) -> None:
        """Let deadlines pass: deliveries become due or exhausted, and their claims end."""
        expired, released = self.pending.expire(now_ns)
        if expired and self.claims is not None:
            self.claims.release(released)

    def give_back(self, seqs: list[int], dispatch_id: int, event: Event) -> None:
        """Undo deliveries of messages that were not sent (NOT_SENT), or never reached the program (RETURNED)."""
        released = self.pending.give_back(self.pending.unreported(seqs, dispatch_id), event)
        if self.claims is not None:
            self.claims.release(released)

    def waiting(self, seqs: list[int], dispatch_id: int, now_ns: int = 0) -> list[int]:
        """Return those of the messages (ascending) of a delivery that were not answered and whose wait is not over."""
        parts = self.pending.find_parts(seqs)
        still = [
            (batch, mask)
            for batch, mask in parts
            if batch.dispatch_id == dispatch_id and batch.state is State.WAITING and batch.deadline_ns > now_ns
        ]
        return sorted(seq for batch, mask in still for seq in batch.seqs_of(mask))

    def leave(self, consumer_id: int) -> None:
        """Remove a deleted member; what it had is due at once."""
        del self.members[consumer_id]
        released = self.pending.leave(consumer_id)
        if self.claims is not None:
            self.claims.release(released)

    # ------------------------------------------------------------ answers

    def find_settled(self, seqs: list[int], stream: Stream) -> Found:
        """Find what of ascending, distinct sequences an ack would settle. May raise `NeedBlocks`; changes nothing."""
        parts = self.pending.find_parts(seqs)
        count = sum(mask.bit_count() for _, mask in parts)
        unknown_acks: list[int] = []
        if count < len(seqs) and self.uncertain_to and seqs[0] <= self.uncertain_to:
            out = {seq: True for batch, mask in parts for seq in batch.seqs_of(mask)}
            unknown_acks = [
                seq for seq in seqs if seq <= self.uncertain_to and seq not in out and self._may_be_out(seq, stream)
            ]
        return Found(parts, unknown_acks, count + len(unknown_acks))

    def _may_be_out(self, seq: int, stream: Stream) -> bool:
        """Return True if an unlogged delivery of this message may have left before the server was last started."""
        if seq in self.skipped:
            return True
        if seq < self.cursor or seq in self.acked_ahead or not stream.is_live(seq):
            return False
        if self.pattern is None:
            return True
        found = reads.select(stream, seq, self.pattern, 1, 1)
        return bool(found.ranges) and found.ranges[0][0] == seq

    def stage_done(self, found: Found, record: AckRecord | DropRecord) -> None:
        """Stage a record for what was found: until its commit these messages are neither pending nor done."""
        for seq in found.unknown_acks:
            self.skipped.discard(seq)
            if seq >= self.cursor:
                self.acked_ahead.add(seq)
            if self.claims is not None:
                # Another group may have the claim, and must be told of its end.
                self.claims.contended.add(seq)
        self.pending.remove(found.parts)
        self.staged.stage(StagedDone(record, found.parts, found.unknown_acks))

    def nak(self, parts: list[Part], member: int, deadline_ns: int, now_ns: int) -> list[Part]:
        """Give deliveries of a member back, to be due at a deadline. Return those that were changed, as they are now."""
        claims = self.claims
        if claims is not None:
            claims.release([part for part in parts if part[0].claiming and self._returns(part[0])])
        changed = self.pending.happen(parts, Event.NAK, deadline_ns, member, holding=False)
        if deadline_ns <= now_ns:
            self.expire(now_ns)
        return changed

    def _returns(self, batch: Batch) -> bool:
        return batch.state is State.WAITING and batch.deliver_count < self.config.max_deliver

    def extend(self, parts: list[Part], member: int, deadline_ns: int) -> list[Part]:
        """Start the deadlines of a member anew, except where another group has the claim by now. Return what was changed."""
        claims = self.claims
        if claims is not None:
            parts = [
                (batch, mask)
                for batch, mask in ((batch, self._mine(batch, mask, claims)) for batch, mask in parts)
                if mask
            ]
        changed = self.pending.happen(parts, Event.EXTENDED, deadline_ns, member)
        if claims is not None:
            claims.claim(changed)
        return changed

    @staticmethod
    def _mine(batch: Batch, mask: int, claims: Claims) -> int:
        """Return what of a part no other group has claimed."""
        return mask if batch.claiming else mask & ~batch.mask_in(claims.claimed, mask)

    # ------------------------------------------------------------ commits

    def commit_done(self, record: AckRecord | DropRecord) -> list[int]:
        """Commit the oldest staged record. Return what was claimed until now, on a work queue of several groups."""
        if isinstance(record, DropRecord):
            self.dropped += len(record.seqs)
        held = self.staged.commit(record).claimed
        if self.claims is None:
            return []
        return sorted(seq for batch, mask in held for seq in batch.seqs_of(mask))

    def replayed(self, record: AckRecord | DropRecord) -> None:
        """Apply a record of the log, before `resume`: done is done, scanned or not."""
        seqs = record.seqs.tolist()
        parts = self.pending.find_parts(seqs)
        self.pending.remove(parts)
        for seq in seqs:
            self.skipped.discard(seq)
            if seq >= self.cursor:
                self.acked_ahead.add(seq)
        if isinstance(record, DropRecord):
            self.dropped += len(seqs)

    def gone(self, seqs: list[int]) -> None:
        """Forget deleted messages (ascending)."""
        self.pending.remove(self.pending.find_parts(seqs))
        self.skipped.discard_all(seqs)

    def gone_below(self, seq: int) -> None:
        """Forget every message below a sequence."""
        if self.pending.total and self.pending.least() < seq:
            self.pending.remove(self.pending.find_below(seq))
        if self.skipped and self.skipped.least() < seq:
            self.skipped.drop_below(seq)

    def discard_uncommitted(self) -> None:
        """Drop all that is staged: its messages are pending again as they were, with the deadlines they had."""
        for entry in self.staged.discard():
            for batch, mask in entry.parts:
                self.pending.add(batch.seqs_of(mask), batch.member, batch.deliver_count, batch.deadline_ns)
            for seq in entry.unknown_acks:
                if seq >= self.cursor:
                    self.acked_ahead.discard(seq)
                else:
                    self.skipped.add(seq)
                    self.unlogged_skipped.append(seq)
        self.no_match_below = self.cursor

    def check(self, stream: Stream, *, live: bool) -> None:
        """Assert what holds between the cursor, the sets and what is pending."""
        self.pending.check()
        self.skipped.check()
        self.acked_ahead.check()
        assert self.pending.max_deliver == self.config.max_deliver
        out = [seq for batch in self.pending.batches() for seq in batch.seqs_of(batch.bits)]
        for seq in out:
            assert seq not in self.skipped
            assert not live or seq < self.cursor or seq in self.acked_ahead
            assert not live or stream.is_live(seq), "a deleted message is not pending"
        for seq in self.skipped.to_list():
            assert seq < self.cursor
            assert not live or stream.is_live(seq)
        assert not self.acked_ahead or self.acked_ahead.least() >= self.cursor
