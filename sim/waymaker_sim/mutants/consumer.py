"""Rules of consumers: which messages they get, how often and when, and the effect of an answer."""

from __future__ import annotations

from typing import Any

import waymaker_core.consumer.consumers as consumers
import waymaker_core.consumer.delivery.dispatch as taking
import waymaker_core.consumer.pending.pending as pending
import waymaker_core.consumer.registry as registry
import waymaker_core.stream.reads as reads
from waymaker_core.consumer.answers import AckDecision
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.consumer.group import Group
from waymaker_core.consumer.inactivity import Inactivity
from waymaker_core.consumer.pending.pending import Pending
from waymaker_core.consumer.pending.states import Event
from waymaker_core.consumer.registry import ConsumerRegistry
from waymaker_core.consumer.work_queue.claims import Claims
from waymaker_core.model.config import DeliveryPolicy
from waymaker_core.model.limits import U64_MAX
from waymaker_core.model.records import AckRecord, ConsumerCreated, DeliveredRecord, DropRecord
from waymaker_core.model.types import ConsumerId, Now
from waymaker_core.node.delivery.scheduler import DeliveryScheduler
from waymaker_core.node.maintenance.inactive import Inactive
from waymaker_core.node.parking import Parking
from waymaker_core.node.readers.subscriptions import Subscriptions
from waymaker_core.stream.stream import Stream
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving, nothing

LONG_NS = 3_000_000_000


def _closely_watched(plan: Plan) -> bool:
    """Return True for worlds where many clients use the same consumers, and no faults delay their messages."""
    return plan.workers >= 3 and not plan.disk.read_error and not plan.rot and plan.limits.fetch_bytes_max > 100_000


def _with_guests(plan: Plan) -> bool:
    return plan.guests


def _at_first_only(original: Any) -> Any:
    def used(self: Inactivity, consumer_id: ConsumerId, now: Now) -> None:
        if consumer_id not in self._deadlines:
            original(self, consumer_id, now)

    return used


def _fails_to_arrive(plan: Plan) -> bool:
    return plan.disk.read_error >= 2_000 or plan.cancel > 0


def _writing_well(plan: Plan) -> bool:
    """Return True for worlds whose disks write all that they are given."""
    return not plan.disk.write_error


def _failing_to_read(plan: Plan) -> None:
    """Let deliveries fail to leave now and then, and their messages be answered late, with few other faults."""
    plan.streams, plan.publishers, plan.workers, plan.readers, plan.think_ns = 2, 1, 3, 0, 20 * MS
    plan.disk.read_error, plan.cancel, plan.churn, plan.faults_ns = 4_000, 0, 0, 13 * SECOND
    plan.kill = plan.kill_at_effect = plan.drain = plan.targeted_disk_full = plan.rot = 0
    plan.quorum = None


def _as_if_reported(original: Any) -> Any:
    def take(group: Group, *arguments: Any) -> Any:
        messages = original(group, *arguments)
        for run in messages.runs if messages is not None else ():
            group.pending.report(list(run.sequences()), group.dispatches)
        return messages

    return take


def _not_logged(_: Any) -> Any:
    def decide(self: Consumers, group: Group, consumer_id: int, wanted: list[int], *, term: bool) -> AckDecision:
        found = group.find_settled(wanted, self._stream)
        group.pending.remove(found.parts)
        return AckDecision(None, depends_on_uncommitted=False, count=found.total)

    return decide


def _by_name_alone(original: Any) -> Any:
    def decide_ack(self: Consumers, *arguments: Any) -> Any:
        return original(self, *arguments[:5])

    return decide_ack


def _answered_at_once(original: Any) -> Any:
    def decide(self: Consumers, *arguments: Any, **keywords: Any) -> AckDecision:
        decision: AckDecision = original(self, *arguments, **keywords)
        if isinstance(decision.record, DeliveredRecord):
            return AckDecision(None, depends_on_uncommitted=False, count=decision.count)
        return decision

    return decide


def _fresh(original: Any) -> Any:
    def restart(self: Pending, now: Now, wait_ms: int) -> None:
        for batch in self.batches():
            batch.deadline_ms = 0
        original(self, now, wait_ms)

    return restart


def _after_any_stop(original: Any) -> Any:
    return lambda self, now, complete=False: original(self, now, complete=complete and not self._registry.incarnations)


def _at_once_at_any_rate(original: Any) -> Any:
    return lambda self, replica, dropped_only=False: original(self, replica, dropped_only=False)


def _orderly(plan: Plan) -> bool:
    """Return True for worlds where processes stop in order, and nothing keeps them from logging it."""
    return plan.drain > 0 and not plan.rot and not plan.full


def _not_taken(_: Any) -> Any:
    def decide(self: Consumers, group: Group, consumer_id: int, wanted: list[int], *, term: bool) -> AckDecision:
        return AckDecision(None, depends_on_uncommitted=False, count=0)

    return decide


def _without_acks(original: Any) -> Any:
    def replayed(self: Group, record: AckRecord | DropRecord) -> None:
        if not isinstance(record, AckRecord):
            original(self, record)

    return replayed


def _ahead_of_time(original: Any) -> Any:
    def expire(self: Consumers, now: Now) -> None:
        original(self, Now(now.mono_ns + LONG_NS, now.wall_ms))

    return expire


def _never(_: Any) -> Any:
    return lambda self, *arguments: False


def _once_more(original: Any) -> Any:
    return lambda state, event, attempts_left: original(state, event, True)


def _always_first(_: Any) -> Any:
    return lambda group, due: [1] * len(due)


def _matching_all(original: Any) -> Any:
    def init(self: Group, *arguments: Any) -> None:
        original(self, *arguments)
        self.pattern = None

    return init


def _past_what_is_out(_: Any) -> Any:
    return lambda self: self.cursor


def _at_once(original: Any) -> Any:
    def nak(self: Group, parts: Any, member: int, deadline_ns: int, now_ns: int) -> Any:
        return original(self, parts, member, now_ns, now_ns)

    return nak


def _much_later(original: Any) -> Any:
    def nak(self: Group, parts: Any, member: int, deadline_ns: int, now_ns: int) -> Any:
        return original(self, parts, member, deadline_ns + LONG_NS, now_ns)

    return nak


def _of_any_size(original: Any) -> Any:
    def take(self: Consumers, consumer_id: Any, now: Now, max_messages: int, byte_max: int) -> Any:
        return original(self, consumer_id, now, max_messages, U64_MAX)

    return take


def _each_alone(original: Any) -> Any:
    def created(self: ConsumerRegistry, record: ConsumerCreated) -> Group:
        if not isinstance(self._queue_groups, _Forgetful):
            self._queue_groups = _Forgetful(self._queue_groups)
        alone: Group = original(self, record)
        return alone

    return created


class _Forgetful(dict[str, Group]):
    """A dictionary of groups by name in which no lookup succeeds."""

    def get(self, name: str, default: Any = None) -> Any:
        return None

    def __delitem__(self, name: str) -> None:
        self.pop(name, None)


def _from_the_first(_: Any) -> Any:
    return lambda config, source: source.first_seq


def _from_now_on(original: Any) -> Any:
    def start_of(config: Any, source: Any) -> int:
        if config.policy is DeliveryPolicy.ALL:
            return int(source.last_seq) + 1
        return int(original(config, source))

    return start_of


def _after_the_moment(original: Any) -> Any:
    return lambda self, time_ms: original(self, time_ms + 1)


def _as_if_times_rose(_: Any) -> Any:
    def first_seq(self: Stream, time_ms: int) -> int:
        for block in reversed(self.blocks.values()):
            columns = block.resident()
            for entry in reversed(range(block.size)):
                if block.is_live(block.first + entry) and columns.times_ms[entry] < time_ms:
                    return int(block.first) + entry + 1
        return int(self.first_seq)

    return first_seq


def _with_its_block(original: Any) -> Any:
    def first_seq(self: Stream, time_ms: int) -> int:
        found = int(original(self, time_ms))
        return found - (found - 1) % self.block_size

    return first_seq


def _without_bound(original: Any) -> Any:
    def take(*arguments: Any) -> Any:
        return original(*arguments[:-1], U64_MAX)

    return take


def _anybody(_: Any) -> Any:
    def next_with_room(self: DeliveryScheduler, subscribers: Any) -> Any:
        found = subscribers[0]
        subscribers.rotate(-1)
        found.messages = max(found.messages, 1)
        found.bytes = max(found.bytes, 1)
        return found

    return next_with_room


def _silently(original: Any) -> Any:
    def end(self: Subscriptions, subscription: Any, reason: str, *rest: Any) -> None:
        original(self, subscription, reason, *rest)
        if reason.endswith("_deleted"):
            self._state.effects.pop()

    return end


def _new_first(original: Any) -> Any:
    return lambda again, fresh: original(fresh, again)


def _by_time(plan: Plan) -> bool:
    return plan.other_starts


CONSUMER = {
    "ack-not-logged": Mutant(
        "an acknowledgement is a record of the log", ("no redelivery after ack", "limits hold", "recovery twice"),
        Consumers, "_decide_done", _not_logged,
    ),
    "ack-by-name": Mutant(
        "an answer that names another incarnation of the consumer has no effect",
        ("one holder", "acked survives", "limits hold", "floor honest"), Consumers, "decide_ack", _by_name_alone,
    ),
    "ack-not-taken": Mutant(
        "what is acknowledged is not delivered again", ("no redelivery after ack", "limits hold"),
        Consumers, "_decide_done", _not_taken,
    ),
    "forget-acks": Mutant(
        "a logged acknowledgement holds after a restart", ("no redelivery after ack", "recovery twice"),
        Group, "replayed", _without_acks,
    ),
    "withhold-nothing": Mutant(
        "on a work queue one holder keeps out the others", ("one holder",), Claims, "claim", nothing,
    ),
    "nak-not-logged": Mutant(
        "a nak and an in-progress are records of the log", ("handed back", "dead letter once"),
        Consumers, "decide_ack", _answered_at_once,
    ),
    "wait-anew": Mutant(
        "after a restart a delivery keeps the rest of its wait", ("handed back",), Pending, "restart", _fresh,
    ),
    "answer-last-nak-early": Mutant(
        "the answer to the nak of a last attempt comes with the drop", ("dead letter once",),
        Parking, "answer_last_naks", _at_once_at_any_rate,
    ),
    "ack-unseen-after-any-stop": Mutant(
        "after an orderly stop an answer to what was never delivered has no effect",
        ("floor honest", "acked survives", "progress"), Consumers, "resume", _after_any_stop, _orderly,
    ),
    "expire-early": Mutant(
        "a delivery is pending until its wait is over", ("one holder", "handed back"), Consumers, "expire", _ahead_of_time,
    ),
    "expire-nothing": Mutant(
        "an unanswered delivery is due again", ("progress",), Consumers, "expire", _never,
    ),
    "one-more-attempt": Mutant(
        "`max_deliver` deliveries are the last", ("delivery count",), pending, "after", _once_more,
    ),
    "count-nothing": Mutant(
        "each delivery of a message has the next number", ("delivery count",), taking, "_next_counts", _always_first,
    ),
    "forget-deliveries": Mutant(
        "an orderly stop logs what is out, with its delivery counts", ("delivery count", "recovery twice"),
        Consumers, "delivered_records", giving([]),
    ),
    "ignore-filter": Mutant(
        "a consumer gets only messages that its filter accepts", ("filter",), Group, "__init__", _matching_all,
    ),
    "floor-too-high": Mutant(
        "the floor waits for pending messages", ("floor honest", "acked survives"), Group, "outstanding", _past_what_is_out,
    ),
    "nak-at-once": Mutant(
        "a nak with a delay is due after it", ("handed back",), Group, "nak", _at_once,
    ),
    "nak-too-late": Mutant(
        "after a nak a message is delivered again once the delay is over", ("given when due",), Group, "nak", _much_later,
    ),
    "leave-nothing-due": Mutant(
        "the deliveries of a deleted group member are due at once", ("given when due",), Pending, "leave", giving([]),
        _closely_watched,
    ),
    "answer-any-size": Mutant(
        "an answer takes no more bytes than there is room for, but for its first message", ("within credit", "limits hold"),
        Consumers, "dispatch", _of_any_size,
    ),
    "ignore-progress": Mutant(
        "an in-progress begins the wait anew", ("one holder", "handed back"), Group, "extend", giving([]),
    ),
    "each-member-alone": Mutant(
        "the members of a queue group share one position", ("one holder", "delivery count", "no redelivery after ack"),
        ConsumerRegistry, "created", _each_alone,
    ),
    "start-at-first": Mutant(
        "a consumer begins where its policy says", ("filter",), registry, "start_of", _from_the_first,
    ),
    "skip-history": Mutant(
        "a consumer of everything begins with the first message", ("floor honest", "progress"),
        registry, "start_of", _from_now_on,
    ),
    "start-after-time": Mutant(
        "a consumer by time begins with what is of that very time", ("floor honest",),
        reads, "first_seq_at_or_after_time", _after_the_moment, _by_time,
    ),
    "start-by-rising-times": Mutant(
        "the first message of a time is the first by sequence, though times may come in any order",
        ("floor honest", "filter"), reads, "first_seq_at_or_after_time", _as_if_times_rose, _by_time,
    ),
    "start-with-block": Mutant(
        "a consumer by time passes over what is before it", ("filter",),
        reads, "first_seq_at_or_after_time", _with_its_block, _by_time,
    ),
    "pending-unbounded": Mutant(
        "at the limit of pending deliveries nothing new is delivered", ("limits hold",), consumers, "dispatch", _without_bound,
    ),
    "ignore-credit": Mutant(
        "a subscription is sent what it has room for", ("within credit",),
        DeliveryScheduler, "_next_with_room", _anybody,
    ),
    "silent-end": Mutant(
        "a reader learns that its consumer or its stream is deleted", ("answered",), Subscriptions, "end", _silently,
    ),
    "count-at-departure": Mutant(
        "a delivery counts as an attempt only where it is reported", ("acked survives", "floor honest", "delivery count"),
        consumers, "dispatch", _as_if_reported, _fails_to_arrive,
    ),
    "count-no-report": Mutant(
        "a delivery that is reported counts as an attempt", ("delivery count",), Consumers, "reported", nothing,
    ),
    "late-answer-uncounted": Mutant(
        "a late answer counts the delivery that was returned as not reported", ("handed back",),
        pending, "_SHOWS_ARRIVAL", lambda shows: shows - {Event.NAK}, _writing_well, adapt=_failing_to_read,
    ),
    "inactive-for-ever": Mutant(
        "a consumer unused for its inactivity timeout is deleted", ("inactive consumers go",), Inactive, "_delete", nothing,
        _with_guests,
    ),
    "inactive-though-used": Mutant(
        "each use of a consumer starts its time anew", ("used consumers stay",), Inactivity, "used", _at_first_only,
        _with_guests,
    ),
    "new-ones-first": Mutant(
        "redeliveries that are due go before what is new", ("in order",), taking, "_joined", _new_first,
    ),
}  # fmt: skip
