"""All consumers of one stream: the way in for the node.

Two kinds of state are kept here. *Committed* state is what records made it: which consumers exist, what each is done
with, its floor. *Soft* state belongs to the primary alone: what is pending, until when, how far each group has scanned.
Soft state changes at once. What a delivery changed is logged lazily (`delivered_records`); what a nak or an in-progress
changed has a record of its own, which is committed before the answer. Committed state changes in `apply` only. A
decision (`decide_*`) reads both and stages what it decides: a staged ack is no longer delivered, dropped or acked
again, but the floor waits for its commit.

There are two phases. Until `resume` records are replayed: nothing is delivered and no deadline passes. From `resume` on
what was pending is pending again, for the rest of its wait. Records are applied in log order in both.

It must never look at a clock (`now` is an argument) or at a body (but for the headers of a dead letter), and never loop
over what is pending to find what is due.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from waymaker_core.api.requests import AckKind, ConsumerInfo, Messages, Page
from waymaker_core.consumer import importing, snapshot
from waymaker_core.consumer.answers import AckDecision, CreateDecision, ExhaustedMessages
from waymaker_core.consumer.claim_setup import check_claims, claims_over
from waymaker_core.consumer.config import _listed_bytes
from waymaker_core.consumer.dead_letter import dropping as dead_lettering
from waymaker_core.consumer.delivery import delivery_log as logged
from waymaker_core.consumer.delivery.dispatch import dispatch
from waymaker_core.consumer.delivery.held import HeldDeliveries
from waymaker_core.consumer.group import Group
from waymaker_core.consumer.group_timers import GroupTimers
from waymaker_core.consumer.inactivity import Inactivity
from waymaker_core.consumer.pending.pending import NS_PER_MS
from waymaker_core.consumer.pending.states import Event
from waymaker_core.consumer.registry import ConsumerRegistry
from waymaker_core.consumer.sequences import ascending
from waymaker_core.consumer.work_queue.claims import Claims
from waymaker_core.model.config import ConsumerConfig, Retention
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import (
    AckRecord,
    ConsumerCreated,
    ConsumerDeleted,
    DeliveredRecord,
    DropRecord,
    LayerRecord,
    PruneRecord,
    PublishRecord,
    StreamRecord,
    seq_array,
)
from waymaker_core.model.result_codes import invalid, resource_exhausted
from waymaker_core.model.types import ConsumerId, Now
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.stream import Stream

DROPS_IN_VAIN_MAX = 8
"""Fruitless drops in a row before a group pauses: what must be kept may stand before what need not."""


class Consumers:
    """The consumers of one incarnation of a stream."""

    def __init__(self, stream: Stream, limits: Limits) -> None:
        """Begin without consumers, in the phase of replay: call `resume` before any delivery, for a new stream too."""
        self._stream = stream
        self._limits = limits
        self._registry = ConsumerRegistry()
        self._live = False
        self._suspended = False
        """True if these consumers go on where suspended ones ended."""
        self._claims: Claims | None = None
        self._timers = GroupTimers(self._registry.groups)
        self.inactivity = Inactivity(self._registry)
        self.held = HeldDeliveries(self._registry, stream, self.returned)
        self._changed: dict[int, Group] = {}
        """Groups that may have something to log."""
        self._exhausted: dict[int, Group] = {}
        """Groups that may have something to drop."""
        self._kept: dict[int, Group] = {}
        """Groups that cannot drop what they have to for now, since no dead letter would stay."""

    def resume(self, now: Now, *, complete: bool = False) -> None:
        """End the replay: what was pending is pending again for the rest of its wait; deleted messages are forgotten.

        `complete`: records list every delivery since the replayed `uncertain_to` was noted (an orderly stop, a new
        stream, an import). Otherwise there may have been deliveries that no record lists. Then an ack counts for
        messages committed before this moment even though they are not known to be pending: a client that got one before
        the crash may still ack it.
        """
        assert not self._live
        self._live = True
        for group in self._registry.groups.values():
            self._forget_dead(group)
            if not complete:
                group.uncertain_to = self._stream.last_seq
            for batch in group.pending.batches():
                batch.add_to(group.acked_ahead, batch.bits & batch.mask_between(group.cursor, batch.last))
            group.acked_ahead.drop_below(group.cursor)
            logged.begin(group, suspended=self._suspended)
            group.pending.restart(now, group.config.ack_wait_ms)
        self._regroup()
        for group in self._registry.groups.values():
            self._changed[group.id] = group
            self._look_after(group)
        self.inactivity.resume(now)

    # ------------------------------------------------------------ finding

    def __len__(self) -> int:
        """Return the number of committed consumers."""
        return len(self._registry.groups_by_consumer)

    def find_consumer_id(self, name: str) -> ConsumerId:
        """Return the id of a name. CodeError (`no_such_consumer`), also while its deletion is staged."""
        return self._registry.find_consumer(name)

    def exists(self, consumer_id: ConsumerId) -> bool:
        """Return True if this consumer is committed and not deleted."""
        return consumer_id in self._registry.groups_by_consumer

    def name_of(self, consumer_id: ConsumerId) -> str:
        """Return the name of an existing consumer, for events."""
        return self._registry.groups_by_consumer[consumer_id].members[consumer_id].config.name

    def incarnation(self, consumer_id: ConsumerId) -> str:
        """Return the word that names an existing consumer for good: no later one of the same name has it.

        Neither its stream's id nor its own is ever given again.
        """
        created_ms = self._registry.groups_by_consumer[consumer_id].members[consumer_id].created_ms
        return f"{self._stream.id:x}-{consumer_id:x}-{created_ms:x}"

    def info(self, consumer_id: ConsumerId) -> ConsumerInfo:
        """Return figures at this moment. A floor that a client has seen must not decrease through a crash: see `unlogged`."""
        group = self._registry.groups_by_consumer[consumer_id]
        member = group.members[consumer_id]
        lag = self._stream.live_count_from(group.cursor) + len(group.skipped)
        return ConsumerInfo(
            member.config, consumer_id, group.floor, group.last_delivered, member.created_ms, group.dropped,
            group.pending.total, lag,
        )  # fmt: skip

    def page(self, after: str, limit: int, byte_max: int) -> Page[ConsumerInfo]:
        """Return `ConsumerInfo` of consumers whose names sort behind `after`, sorted: up to `limit`, and about `byte_max`."""
        names = self._registry.names
        found: list[ConsumerInfo] = []
        byte_count = 0
        last = ""
        for name in self._registry.names_after(after):
            info = self.info(ConsumerId(names[name]))
            byte_count += _listed_bytes(info.config)
            if len(found) >= limit or (found and byte_count > byte_max):
                return Page(found, last)
            found.append(info)
            last = name
        return Page(found)

    def unlogged(self) -> bool:
        """Return True if `delivered_records` has something to log.

        Before an `info` or a `page` leaves for a client, append `delivered_records` and let the answer leave with that
        commit (with the commit of the last pending record, if there is one, in any case).
        """
        return any(logged.has_unlogged(group) for group in self._changed.values())

    # ------------------------------------------------------------ creating and deleting

    def decide_create(self, config: ConsumerConfig, wall_ms: int) -> CreateDecision:
        """Stage a new consumer under a fresh id; or accept the one that exists, if it is the same after defaults.

        CodeError (`invalid_config`, `already_exists`), RefusedError (too many), `NeedBlocks`.
        """
        return self._registry.decide_create(config, wall_ms, self._stream, self._limits)

    def decide_delete(self, name: str) -> ConsumerDeleted:
        """Stage the deletion of a consumer. CodeError (`no_such_consumer`)."""
        return self._registry.decide_delete(name)

    # ------------------------------------------------------------ delivering

    def dispatch(self, consumer_id: ConsumerId, now: Now, max_messages: int, byte_max: int) -> Messages | None:
        """Return what is delivered next, or None: due redeliveries first, by sequence, then what was skipped and what is new.

        At least one message whatever its size, if there is one. At the limit of pending deliveries only redeliveries.
        Raises `NeedBlocks` before anything is changed.
        """
        assert self._live and max_messages > 0
        self.expire(now)
        group = self._registry.groups_by_consumer[consumer_id]
        group.dispatches += 1
        messages = dispatch(
            group, self._stream, consumer_id, now.mono_ns, max_messages, byte_max, self._limits.pending_max
        )
        self._changed[group.id] = group
        if messages is not None:
            messages.taken_by, messages.dispatch_id, messages.taken_ns = consumer_id, group.dispatches, now.mono_ns
            messages.layout = self._stream.layout
            messages.ack_wait_ms = group.config.ack_wait_ms
            messages.incarnation = self.incarnation(consumer_id)
            self._look_after(group)
        return messages

    def not_sent(self, messages: Messages) -> None:
        """Undo deliveries that could not be read: they were no attempts, and come again when they would have been due."""
        if messages.taken_by is not None:
            for run in messages.runs:
                self._give_back(messages.taken_by, messages.dispatch_id, list(run.sequences()), Event.NOT_SENT)

    def reported(self, consumer_id: ConsumerId, dispatch_id: int, seqs: list[int]) -> None:
        """Count a delivery of messages (ascending) as an attempt, because they reached the program."""
        group = self._registry.groups_by_consumer.get(consumer_id)
        if group is not None:
            group.pending.report(seqs, dispatch_id)
            self._changed[group.id] = group
            self._look_after(group)

    def returned(self, consumer_id: ConsumerId, dispatch_id: int, seqs: list[int]) -> None:
        """Undo the delivery of messages (ascending) that will not reach the program: no attempt, and due at once."""
        self._give_back(consumer_id, dispatch_id, seqs, Event.RETURNED)

    def _give_back(self, consumer_id: ConsumerId, dispatch_id: int, seqs: list[int], event: Event) -> None:
        group = self._registry.groups_by_consumer.get(consumer_id)
        if group is not None:
            group.give_back(seqs, dispatch_id, event)
            self._changed[group.id] = group
            self._look_after(group)

    def waiting(self, consumer_id: ConsumerId, dispatch_id: int, seqs: list[int]) -> list[int]:
        """Return those of the messages (ascending) of a delivery that were not answered and whose wait is not over."""
        group = self._registry.groups_by_consumer.get(consumer_id)
        return group.waiting(seqs, dispatch_id) if group is not None else []

    def has_work(self, consumer_id: ConsumerId, now: Now) -> bool:
        """Return True if `dispatch` could deliver something. Cheap; may be wrong once, where only non-matching messages
        follow.
        """
        self.expire(now)
        return self._registry.groups_by_consumer[consumer_id].has_work(self._stream, self._limits.pending_max)

    def next_deadline(self) -> int | None:
        """Return the monotonic nanosecond of the next expiry of any delivery; None when nothing waits."""
        return self._timers.next_deadline()

    def expire(self, now: Now) -> None:
        """Let deliveries whose deadline passed become due or exhausted. Costs what is due."""
        for group in self._timers.take_due(now.mono_ns):
            group.expire(now.mono_ns)
            self._look_after(group)

    # ------------------------------------------------------------ answers of clients

    def decide_ack(
        self,
        consumer_id: ConsumerId,
        kind: AckKind,
        seqs: Sequence[int],
        delay_ms: int,
        now: Now,
        incarnation: str = "",
    ) -> AckDecision:
        """Decide an answer to deliveries, in any order, repeats allowed; sequences that are not pending are ignored.

        So is everything where the answer names another `incarnation`: its deliveries were those of a deleted consumer.
        ACK and TERM are staged and give a record (with a work queue's originals); NAK and IN_PROGRESS take effect at
        once and give one that says so. RefusedError: too many sequences, a delay out of range. `NeedBlocks` before
        anything is changed.
        """
        if len(seqs) > self._limits.ack_batch_max:
            raise resource_exhausted(f"{len(seqs)} acknowledgements at once; at most {self._limits.ack_batch_max}")
        if not 0 <= delay_ms <= self._limits.nak_delay_max_ms:
            raise invalid(f"delay of {delay_ms} ms is out of range; at most {self._limits.nak_delay_max_ms}")
        if incarnation and incarnation != self.incarnation(consumer_id):
            return AckDecision(None, depends_on_uncommitted=False, count=0)
        self.expire(now)
        group = self._registry.groups_by_consumer[consumer_id]
        wanted = ascending(seqs)
        if kind is AckKind.ACK or kind is AckKind.TERM:
            return self._decide_done(group, consumer_id, wanted, term=kind is AckKind.TERM)
        parts = group.pending.that_left(group.pending.find_parts(wanted))
        if kind is AckKind.NAK:
            changed = group.nak(parts, consumer_id, now.mono_ns + delay_ms * NS_PER_MS, now.mono_ns)
        else:
            changed = group.extend(parts, consumer_id, now.mono_ns + group.ack_wait_ns)
        given_up = dead_lettering.without_attempts([*changed, *parts]) if kind is AckKind.NAK else []
        if not changed:
            return AckDecision(None, depends_on_uncommitted=True, count=0, given_up=given_up)
        record = logged.changed_record(group, consumer_id, changed, now)
        self._changed[group.id] = group
        self._look_after(group)
        count = sum(mask.bit_count() for _, mask in changed)
        return AckDecision(record, depends_on_uncommitted=True, count=count, given_up=given_up)

    def _decide_done(self, group: Group, consumer_id: int, wanted: list[int], *, term: bool) -> AckDecision:
        found = group.find_settled(wanted, self._stream)
        if not found.total:
            return AckDecision(None, depends_on_uncommitted=bool(group.staged), count=0)
        done = wanted
        if found.total < len(wanted):
            done = sorted([*found.unknown_acks, *(seq for batch, mask in found.parts for seq in batch.seqs_of(mask))])
        if self._stream.config.retention is Retention.WORK_QUEUE and not term:
            drop_seqs, drop_sizes = retention.decide_drops(self._stream, done)
            record = AckRecord(consumer_id, term, seq_array(done), drop_seqs, drop_sizes)
        else:
            record = AckRecord(consumer_id, term, seq_array(done))
        group.stage_done(found, record)
        self._changed[group.id] = group
        return AckDecision(record, depends_on_uncommitted=True, count=found.total)

    # ------------------------------------------------------------ dropping

    def has_exhausted(self) -> bool:
        """Return True if `begin_dead_lettering` has something to begin."""
        for group_id, group in list(self._exhausted.items()):
            if not group.pending.has_exhausted():
                del self._exhausted[group_id]
            elif self._registry.surviving_members(group):
                return True
        return False

    def begin_dead_lettering(self, max_messages: int, byte_max: int) -> list[ExhaustedMessages]:
        """Begin to drop exhausted messages, each once; at least one. Raises `NeedBlocks` before any is begun."""
        begun: list[ExhaustedMessages] = []
        for group_id, group in list(self._exhausted.items()):
            if max_messages <= 0 or byte_max <= 0:
                break
            if self._registry.surviving_members(group):
                try:
                    exhausted = dead_lettering.begin_dead_lettering(group, self._stream, max_messages, byte_max)
                except NeedBlocks:
                    if begun:
                        break
                    raise
                if exhausted is not None:
                    begun.append(exhausted)
                    max_messages -= len(exhausted.seqs)
                    byte_max -= exhausted.messages.byte_count if exhausted.messages is not None else 0
            if not group.pending.has_exhausted():
                del self._exhausted[group_id]
        return begun

    def decide_drop(
        self, exhausted: ExhaustedMessages, bodies: Sequence[bytes] | None, wall_ms: int
    ) -> list[tuple[DropRecord, list[bytes]]]:
        """Stage the drop of `exhausted`: records with the stored bodies of their dead letters, to commit in order.

        `bodies`: one for each of `exhausted.seqs`, or None where none were asked for. What was acked or deleted
        meanwhile is left out; without any message or without the group the list is empty. What must be kept is
        exhausted again and counted in `exhausted.kept`. `NeedBlocks` before anything is staged.
        """
        group = self._registry.groups.get(exhausted.group_id)
        if group is None:
            return []
        members = self._registry.surviving_members(group)
        if not members:
            # The deletion of the group is staged; should it be discarded, this is taken up again.
            self.abort_dead_lettering(exhausted)
            return []
        self._changed[group.id] = group
        readers = (each for each in self._registry.groups.values() if self._registry.surviving_members(each))
        decided = dead_lettering.drop(group, members, exhausted, bodies, self._stream, wall_ms, readers)
        group.drops_in_vain = 0 if decided else group.drops_in_vain + 1
        if exhausted.kept and group.drops_in_vain >= DROPS_IN_VAIN_MAX:
            group.drops_in_vain = 0
            self._exhausted.pop(group.id, None)
            self._kept[group.id] = group
        else:
            self._look_after(group)
        return decided

    def retry_kept(self) -> None:
        """Let `begin_dead_lettering` try again what was kept."""
        kept, self._kept = self._kept, {}
        for group in kept.values():
            self._look_after(group)

    def is_dropping(self, consumer_id: ConsumerId, seqs: list[int]) -> bool:
        """Return True if some of these (ascending) had their last attempt and are about to be dropped."""
        group = self._registry.groups_by_consumer.get(consumer_id)
        if group is None or group.id in self._kept:
            return False
        return bool(dead_lettering.without_attempts(group.pending.find_parts(seqs)))

    def abort_dead_lettering(self, exhausted: ExhaustedMessages) -> None:
        """Abort a drop whose bodies could not be read for now: its messages are exhausted again."""
        group = self._registry.groups.get(exhausted.group_id)
        if group is not None:
            dead_lettering.abort_dead_lettering(group, exhausted)
            self._look_after(group)

    # ------------------------------------------------------------ the log

    def delivered_records(self, now: Now) -> list[DeliveredRecord]:
        """Return records of what was delivered since the last call, to be appended to the log behind every record decided
        so far.

        Call it when a commit is prepared anyway that holds acks, drops or deletions of this stream, and before a client
        sees figures. Each record must be appended; nothing is staged.
        """
        records: list[DeliveredRecord] = []
        for group in self._changed.values():
            members = self._registry.surviving_members(group)
            if group.id in self._registry.groups and members:
                records.extend(logged.delivered_records(group, members, now))
        self._changed.clear()
        return records

    def apply(self, record: StreamRecord) -> None:
        """Apply any committed record after the stream, live and in replay; what the stream deletes is pending no more."""
        if isinstance(record, PublishRecord | PruneRecord):
            if record.truncate_to or record.drop_seqs:
                self._gone(record.truncate_to, record.drop_seqs)
        elif isinstance(record, AckRecord | DropRecord):
            self._apply_done(record)
        elif isinstance(record, LayerRecord):
            if record.messages is not None:
                self.apply(record.messages)
            self._gone(0, record.drop_seqs)
        elif isinstance(record, ConsumerCreated):
            self._registry.created(record)
            self._regroup()
        elif isinstance(record, ConsumerDeleted):
            self._apply_deleted(record)
        elif isinstance(record, DeliveredRecord) and not self._live:
            group = self._registry.groups_by_consumer.get(record.consumer_id)
            if group is not None:
                logged.replay_delivered(group, record)

    def _apply_done(self, record: AckRecord | DropRecord) -> None:
        group = self._registry.groups_by_consumer.get(record.consumer_id)
        if group is not None:
            if not self._live:
                group.replayed(record)
            else:
                held = group.commit_done(record)
                if held and not record.drop_seqs and self._claims is not None:
                    self._claims.free(held)
        if record.drop_seqs and (not self._live or len(self._registry.groups) > 1):
            self._gone(0, record.drop_seqs, settled=self._live)
        if isinstance(record, DropRecord) and record.copies is not None:
            self._gone(record.copies.truncate_to, record.copies.drop_seqs)

    def _apply_deleted(self, record: ConsumerDeleted) -> None:
        group = self._registry.deleted(record)
        if group is None:
            return
        self.inactivity.forget(record.consumer_id)
        if group.id in self._registry.groups:
            group.leave(record.consumer_id)
            self._changed[group.id] = group
            self._look_after(group)
            return
        self._changed.pop(group.id, None)
        self._exhausted.pop(group.id, None)
        self._kept.pop(group.id, None)
        if self._claims is not None:
            self._claims.release([(batch, batch.bits) for batch in group.pending.batches() if batch.claiming])
        self._regroup()

    def _gone(self, truncate_to: int, drop_seqs: array[int], *, settled: bool = False) -> None:
        """Forget deleted messages in every group. `settled`: the group that had the claim did already."""
        groups = self._registry.groups.values()
        if truncate_to:
            for group in groups:
                group.gone_below(truncate_to)
            if self._claims is not None:
                self._claims.gone_below(truncate_to)
        if drop_seqs:
            seqs = sorted(drop_seqs)
            if self._claims is not None:
                watched = self._claims.gone(seqs)
                seqs = watched if settled else seqs
            for group in groups:
                group.gone(seqs)

    def suspended(self, now: Now) -> Consumers:
        """Return these consumers in the phase of replay, with nothing staged; this object is not used any more.

        Numbers of deliveries go on, so that a late report of an earlier one means no new one.
        """
        self.discard_uncommitted()
        again = Consumers(self._stream, self._limits)
        again.restore(self.snapshot(now))
        again._suspended = True
        for group_id, group in self._registry.groups.items():
            again._registry.groups[group_id].dispatches = group.dispatches
        return again

    def discard_uncommitted(self) -> None:
        """Drop every decision that is not committed: its messages are pending again, with the deadlines they had."""
        self._registry.overlay.discard()
        for group in self._registry.groups.values():
            group.discard_uncommitted()
            self._forget_dead(group)  # what was pruned while its ack was staged
            self._changed[group.id] = group
            self._look_after(group)
        self._claims = None
        self._regroup()

    def interest_floor(self) -> int:
        """Return the last sequence that no consumer needs any more; the stream's last without consumers.

        Messages that a filter excludes need not be kept, scanned or not. A consumer whose creation is staged needs all
        from its start on: what is decided now stands behind it in the log. Raises `NeedBlocks`.
        """
        floors = [record.start_seq - 1 for record in self._registry.overlay.surviving_creations()]
        floors += [group.interest_floor(self._stream) for group in self._registry.groups.values()]
        return min(floors, default=self._stream.last_seq)

    # ------------------------------------------------------------ whole state

    def snapshot(self, now: Now) -> object:
        """Return state as plain values for CBOR, at the stream's last applied record: committed and soft together."""
        registry = self._registry
        return snapshot.of_groups(list(registry.groups.values()), registry.next_id, now if self._live else None)

    def restore(self, snapshot_: object, next_id: int = 1) -> None:
        """Load the state of a snapshot into a new object, before `resume`. ValueError where it is none.

        `next_id` lies behind all ids that consumers of this stream ever had, where the snapshot is too old to say so.
        """
        assert not self._live and not self._registry.groups_by_consumer
        groups, known = snapshot.decode(snapshot_)
        for group in sorted(groups, key=lambda each: each.id):
            self._registry.add_group(group)
        self._registry.next_id = known or max([next_id, *(each + 1 for each in self._registry.groups_by_consumer)])

    def import_records(self, snapshot_: object) -> list[StreamRecord]:
        """Return records that give this stream's log the consumers of a snapshot, under new ids.

        Consumers as they stood: what was pending is pending again. ValueError where it is not a snapshot.
        """
        trial = Consumers(self._stream, self._limits)
        next_id = self._registry.draw_id()
        return importing.records_of(snapshot_, self._stream.config, next_id, self._limits, trial)

    def has_staged(self) -> bool:
        """Return True if an ack or a drop is decided and not committed."""
        return any(group.staged for group in self._registry.groups.values())

    def check(self) -> None:
        """Assert every invariant that can be seen from inside; for tests and simulations."""
        self._registry.check()
        for group in self._registry.groups.values():
            group.check(self._stream, live=self._live)
            if self._live:
                self._timers.check(group)
            if self._live and group.pending.has_exhausted():
                assert group.id in self._exhausted or group.id in self._kept
            if self._live and logged.has_unlogged(group):
                assert group.id in self._changed or not self._registry.surviving_members(group)
        if self._claims is not None:
            check_claims(self._claims, list(self._registry.groups.values()), self._stream.is_live)

    # ------------------------------------------------------------ inside

    def _look_after(self, group: Group) -> None:
        """Set a group's timer after a change of its deliveries, and note what it may have to drop."""
        self._timers.schedule(group)
        if group.id not in self._exhausted and group.id not in self._kept and group.pending.has_exhausted():
            self._exhausted[group.id] = group

    def _forget_dead(self, group: Group) -> None:
        """Forget deleted messages: a delivery may have been logged behind the record that deleted its message."""
        is_live = self._stream.is_live
        for batch in group.pending.batches():
            dead = [seq for seq in batch.seqs_of(batch.bits) if not is_live(seq)]
            if dead:
                group.gone(dead)
        group.gone([seq for seq in group.skipped.to_list() if not is_live(seq)])

    def _regroup(self) -> None:
        """Build or end the claims after groups came or were removed."""
        groups = self._registry.groups
        needed = self._live and self._stream.config.retention is Retention.WORK_QUEUE and len(groups) > 1
        if not needed:
            self._claims = None
        elif self._claims is None:
            self._claims = claims_over(list(groups.values()), self._stream.is_live)
        for group in groups.values():
            if group.claims is not self._claims:
                group.claims = self._claims
                group.idle_serial = 0  # serials begin anew with each set of claims
