"""Rules of replicated logs: what a majority has not confirmed is not applied, answered or delivered, and is not lost."""

from __future__ import annotations

from typing import Any

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import Messages
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.consumer.delivery.held import HeldDeliveries
from waymaker_core.consumer.pending.pending import Pending
from waymaker_core.model.records import StreamCreated, StreamDeleted
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.model.types import Now, StreamId
from waymaker_core.node.delivery import scheduler
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.maintenance.incarnations import Incarnations
from waymaker_core.node.readers.fetches import Fetches
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.node.stream_replica import Leading, StreamReplica
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving


def _replicated(plan: Plan) -> bool:
    """Return True for worlds whose logs need a majority."""
    return plan.quorum is not None


def _starving(plan: Plan) -> bool:
    """Return True for worlds whose logs are without a majority now and then."""
    return plan.quorum is not None and plan.quorum.starves >= 3_000


def _slow(plan: Plan) -> bool:
    """Return True for worlds whose majorities are late."""
    return plan.quorum is not None and plan.quorum.slow + plan.quorum.starves > 0


def _deposed(plan: Plan) -> bool:
    """Return True for worlds in which another node leads the streams now and then."""
    return plan.quorum is not None and plan.quorum.deposes > 50_000


def _deposed_while_reading(plan: Plan) -> bool:
    """Return True for such worlds whose disks are slow to read, and that have few attempts to give."""
    return _deposed(plan) and plan.pace.read_ns >= 1_000_000 and plan.workers >= 2


def _pausing(plan: Plan) -> None:
    """Let the process be paused often while majorities are late."""
    if plan.quorum is not None:
        plan.pause, plan.quorum.slow = 300_000, 200_000


def _carrying(plan: Plan) -> bool:
    """Return True for worlds with late majorities, many checkpoints, and restarts that show what is left."""
    return _slow(plan) and plan.limits.segment_bytes <= 64 * 1024 and plan.kill + plan.power + plan.drain > 0


def _committing_what_is_durable(original: Any) -> Any:
    def made_durable(self: StreamLog, entry: Any) -> None:
        original(self, entry)
        self.majority = self.durable

    return made_durable


def _asking_nobody(_: Any) -> Any:
    return lambda self, log, token, action, undo, abandoned: action()


def _in_two_records(original: Any) -> Any:
    def end(self: Incarnations, replica: StreamReplica) -> bool:
        state, entry = self._state, replica.entry
        waits = replica.log.applied < replica.log.end or state.catalog.is_deletion_staged(entry)
        if waits or entry.importing or not replica.stream.config.ephemeral:
            return bool(original(self, replica))
        stream_id = StreamId(state.catalog.draw_id())
        state.emptied[stream_id] = None
        for record in (StreamDeleted(replica.id), StreamCreated(stream_id, entry.config, state.now.wall_ms)):
            state.catalog.stage(record, entry.account)
            self._group_commit.add_to_catalog(entry.account, record)
        return True

    return end


def _empty_where_stale(_: Any) -> Any:
    def send_confirmed(self: Fetches, call: Call, replica: StreamReplica, messages: Messages) -> None:
        if replica.consumers.held.release_delivery(messages, self._state.now):
            self._send(replica, call.token, messages)
        else:
            self.cancel(call.token)
            self._gate.reply(call.token, Answer(OK, "", Messages([], 0, 0, incarnation=messages.incarnation)))

    return send_confirmed


def _by_timers_alone(original: Any) -> Any:
    def is_current(self: HeldDeliveries, messages: Messages, now: Now) -> bool:
        return bool(original(self, messages, Now(0, now.wall_ms)))

    return is_current


def _carrying_only_facts(_: Any) -> Any:
    def carry(self: GroupCommit, cut: int) -> tuple[int, int]:
        cut, written = self._facts.carry(cut, [])
        self._sync_due = self._sync_due or written
        return cut, self.journal.end_lsn if written else 0

    return carry


def _counting_the_unreported(_: Any) -> Any:
    return lambda subscription: len(subscription.unreported)


def _keeping_what_is_staged(_: Any) -> Any:
    def suspended(self: Consumers, now: Any) -> Consumers:
        self._live = False
        return self

    return suspended


REPLICATED_LOG = {
    "empty-in-two-records": Mutant(
        "an ephemeral stream ends and begins anew in one record", ("acked survives",),
        Incarnations, "_end", _in_two_records, _slow,
    ),
    "nak-what-is-held": Mutant(
        "a nak has no effect on a delivery that has not left the node", ("acked survives", "dead letter once"),
        Pending, "that_left", lambda _: lambda self, parts: parts, _replicated,
    ),
    "fetch-nothing-where-stale": Mutant(
        "a fetch whose messages expire before it is confirmed takes what is due then", ("given when due",),
        Fetches, "_send_confirmed", _empty_where_stale, _slow,
    ),
    "apply-at-durable": Mutant(
        "a record is applied when a majority has it", ("majority first",), StreamLog, "made_durable",
        _committing_what_is_durable, _starving,
    ),
    "ask-nobody": Mutant(
        "what was read leaves when a majority has confirmed who leads", ("majority first",), Gate, "when_confirmed",
        _asking_nobody, _starving,
    ),
    "carry-nothing": Mutant(
        "a checkpoint carries forward what is durable and not committed",
        ("recovery honest", "answer allowed", "ledger grows", "acked survives", "node raised", "recovery twice"),
        GroupCommit, "carry", _carrying_only_facts, _carrying,
    ),
    "forget-what-waits-at-the-gate": Mutant(
        "what waits for a confirmation is on its way to its reader: in its window, and before its end",
        ("given when due", "invariant", "node raised"), scheduler, "count_on_the_way", _counting_the_unreported, _slow,
    ),
    "send-what-is-stale": Mutant(
        "what was answered, expired or moved since it was taken does not leave",
        ("one holder", "handed back", "answer allowed", "no redelivery after ack", "delivery count", "left in time"),
        HeldDeliveries, "_is_current", giving(True), _slow,
    ),
    "release-until-a-timer-says-so": Mutant(
        "a delivery whose wait ended during a pause does not leave", ("left in time",),
        HeldDeliveries, "_is_current", _by_timers_alone, _replicated, _pausing,
    ),
    "decide-though-deposed": Mutant(
        "a node that does not lead a stream decides nothing about it", ("one leader",), StreamReplica, "leads",
        lambda _: property(lambda self: True), _deposed,
    ),
    "outlive-leadership": Mutant(
        "what a leader had begun ends with its leading", ("one leader", "dead letter once", "answered"),
        Leading, "serves", lambda _: property(lambda self: self.replica.damage is None), _deposed_while_reading,
    ),
    "keep-soft-state": Mutant(
        "a node that leads no longer forgets what was staged and delivered",
        ("handed back", "acked survives", "progress", "no redelivery after ack", "delivery count", "floor honest"),
        Consumers, "suspended", _keeping_what_is_staged, _deposed,
    ),
    "starve-without-bound": Mutant(
        "changes of a stream are refused when too many of its records wait for a majority", ("majority first",),
        StreamLog, "is_crowded", giving(False), _starving,
    ),
}  # fmt: skip
