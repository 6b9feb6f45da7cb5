"""Quarantine: a stream whose data turned out damaged is not served, by name of file and offset, until it is deleted.

Damage is never passed over in silence and never served; it is never a reason to delete anything either. A read that failed
for another reason (an error of the disk) fails that call alone: the next one tries again.
"""

from __future__ import annotations

from waymaker_core.api.inputs import Unreadable
from waymaker_core.api.requests import TakenMessages
from waymaker_core.model.disk_ops import DiskFailure, FailureKind
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.parking import Parking
from waymaker_core.node.readers.fetches import Fetches
from waymaker_core.node.readers.live_readers import LiveReaders
from waymaker_core.node.readers.subscriptions import Subscriptions
from waymaker_core.node.stream_replica import Damage, StreamReplica
from waymaker_core.node.timers import OF_STREAMS


class Quarantine:
    """Puts damaged streams into quarantine, and refuses calls whose data could not be read."""

    def __init__(
        self,
        state: NodeState,
        gate: Gate,
        parking: Parking,
        subscriptions: Subscriptions,
        fetches: Fetches,
        live_readers: LiveReaders,
    ) -> None:
        self._state = state
        self._gate = gate
        self._parking = parking
        self._subscriptions = subscriptions
        self._fetches = fetches
        self._live_readers = live_readers

    def found(self, replica: StreamReplica, failure: DiskFailure) -> Refusal:
        """Judge data of a stream that could not be read, and return the refusal for the call that needed it."""
        state = self._state
        state.stats.unreadable += 1
        state.log(
            "error", "unreadable", stream=replica.name, stream_id=replica.id, path=failure.path, offset=failure.offset,
            kind=failure.kind.value, detail=failure.detail,
        )  # fmt: skip
        if failure.kind in {FailureKind.CORRUPT, FailureKind.MISSING} and replica.damage is None:
            detail = failure.detail or failure.kind.value
            self._put(replica, Damage(failure.path, failure.offset, detail, at_start=False))
        if replica.damage is not None:
            return replica.damage.refusal(replica.name)
        return Refusal(
            Status.DATA_LOSS,
            f"stream {replica.name!r}: {failure.path} could not be read at offset {failure.offset} ({failure.detail})",
            Outcome.NOT_APPLIED,
        )

    def _put(self, replica: StreamReplica, damage: Damage) -> None:
        """Put a stream into quarantine: end its readers and refuse the calls that wait for it."""
        state = self._state
        if state.replicas.get(replica.id) is not replica:
            return
        replica.damage = damage
        state.changes.replicas[replica.id] = replica  # for the next checkpoint to remember it
        state.stats.quarantined_streams += 1
        for timer in OF_STREAMS:
            state.timers.arm(timer, replica.id, None)
        refusal = damage.refusal(replica.name)
        self._subscriptions.end_stream(replica, "", refusal)
        self._parking.refuse_queue(replica, refusal)
        self._parking.answer_last_naks(replica)

    def unreadable(self, event: Unreadable) -> None:
        """Refuse a reply or end a reader whose messages could not be read; nothing of them was sent."""
        token, failure = event.token, event.failure
        subscription = self._subscriptions.get(token)
        if subscription is not None:
            self._give_back(subscription.replica, event)
            refusal = self.found(subscription.replica, failure)
            if self._subscriptions.get(token) is subscription:
                self._subscriptions.end(subscription, "", refusal)
            return
        following = self._live_readers.replica_of(token)
        if following is not None:
            self._live_readers.end_reader(token, "", self.found(following, failure))
            return
        if self._state.has_ended(token):
            # The reader has ended. What it missed is still pending, and is delivered again.
            ended = self._state.ended(token)
            if ended is not None:
                self._give_back(ended, event)
                self.found(ended, failure)
            return
        self._fetches.forget_call(token)
        replica = self._gate.read_for(token)
        if replica is not None:
            self._give_back(replica, event)
            refusal = self.found(replica, failure)
            if any(isinstance(messages, TakenMessages) for messages in event.unsent):
                refusal = Refusal(refusal.status, refusal.message, Outcome.UNKNOWN, refusal.code)
            self._gate.refuse(token, refusal)
            return
        self._state.stats.unreadable += 1
        self._gate.refuse(
            token,
            Refusal(
                Status.DATA_LOSS,
                f"{failure.path} could not be read at offset {failure.offset} ({failure.detail})",
                Outcome.NOT_APPLIED,
            ),
        )

    def _give_back(self, replica: StreamReplica, event: Unreadable) -> None:
        """Return deliveries that were never sent to their consumer."""
        for messages in event.unsent:
            replica.consumers.not_sent(messages)
        self._state.mark_dirty(replica)
