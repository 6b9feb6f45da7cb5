"""Turns of subscribers: deliveries that leave without a call, while their reader has credit.

A ready list of consumers, served in turn (round-robin), each turn one batch to one of the consumer's subscribers, which
then goes behind the others. A consumer becomes ready when something could have given it work (a commit, a nak, an expiry, a
new subscriber, new credit) and leaves the list when a turn finds nothing: nothing polls, and nothing is looked at twice.

Credit is counted in messages and bytes; while both are positive at least one message goes, however large, and the bytes may
become negative until the reader has caught up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

from waymaker_core.api.effects import Deliver
from waymaker_core.consumer.delivery.unreported import without
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.types import ConsumerId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.readers.subscriptions import Subscriptions, advance
from waymaker_core.node.stream_replica import StreamReplica, Subscription

UNREPORTED_MAX = 65_536
"""Messages that a reader may leave unreported before it is sent no more."""
TURNS_A_STEP = 64
"""Batches handed out in one step; what remains ready goes on in the next, which is asked for at once."""


class DeliveryScheduler:
    """Whose turn it is among the consumers that have subscribers."""

    def __init__(
        self, state: NodeState, indexes: Indexes, subscriptions: Subscriptions, quarantine: Quarantine
    ) -> None:
        self._state = state
        self._indexes = indexes
        self._subscriptions = subscriptions
        self._quarantine = quarantine
        self._ready: deque[tuple[StreamReplica, ConsumerId]] = deque()
        self._in_ready: dict[tuple[int, int], bool] = {}
        self._loading: dict[tuple[int, int], bool] = {}
        """Consumers whose turn waits for block indexes; they get no other turn meanwhile."""

    def has_ready(self) -> bool:
        """Whether another step would find a turn to give."""
        return bool(self._ready)

    # ------------------------------------------------------------------ waking

    def credit(self, token: Token, messages: int, bytes_: int) -> None:
        """A reader has room for more."""
        subscription = self._subscriptions[token]
        subscription.messages += messages
        subscription.bytes += bytes_
        replica, consumer_id = subscription.replica, subscription.consumer_id
        if replica.consumers.has_work(consumer_id, self._state.now):
            self._make_ready(replica, consumer_id)
        else:
            self._end_empty(replica, consumer_id)

    def report(self, token: Token, count: int, back: Sequence[tuple[int, int]]) -> None:
        """A reader has dealt with so many messages, those that it gives back included."""
        subscription = self._subscriptions[token]
        replica, consumer_id = subscription.replica, subscription.consumer_id
        for sent in subscription.unreported.take(count):
            if subscription.window:
                for seq in sent.seqs:
                    subscription.sent += 1
                    subscription.unanswered[seq] = (sent.dispatch_id, subscription.sent)
                continue
            reached, returned = without(sent, back)
            if returned:
                replica.consumers.returned(consumer_id, sent.dispatch_id, returned)
            if reached:
                replica.consumers.reported(consumer_id, sent.dispatch_id, reached)
        advance(subscription)
        self._state.mark_dirty(replica)
        if replica.consumers.has_work(consumer_id, self._state.now):
            self._make_ready(replica, consumer_id)
        else:
            self._end_empty(replica, consumer_id)

    def answered(self, replica: StreamReplica, seqs: Sequence[int]) -> None:
        """Deliveries of a stream were answered: readers with a window may have room, and what comes next there counts."""
        for consumer_id, subscribers in replica.subscribers.items():
            windowed = [subscription for subscription in subscribers if subscription.window]
            for subscription in windowed:
                before = len(subscription.unanswered)
                for seq in seqs:
                    subscription.unanswered.pop(seq, None)
                subscription.answered += before - len(subscription.unanswered)
                advance(subscription)
            if windowed:
                self._wake_consumer(replica, consumer_id)

    def _room(self, subscription: Subscription) -> int:
        """How many messages more a reader may be sent, its credit in bytes aside."""
        room = min(subscription.messages, UNREPORTED_MAX - len(subscription.unreported))
        if subscription.window and room > 0:
            advance(subscription)
            room = min(room, subscription.window - len(subscription.unanswered) - len(subscription.unreported))
        return room

    def wake_subscribers(self, replica: StreamReplica) -> None:
        """Something about this stream changed: whoever has work now becomes ready."""
        for consumer_id in replica.subscribers:
            self._wake_consumer(replica, consumer_id)

    def _wake_consumer(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        key = (replica.id, consumer_id)
        if key not in self._in_ready and replica.consumers.has_work(consumer_id, self._state.now):
            self._make_ready(replica, consumer_id)

    def _make_ready(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        key = (replica.id, consumer_id)
        if key not in self._in_ready:
            self._in_ready[key] = True
            self._ready.append((replica, consumer_id))

    # ------------------------------------------------------------------ serving

    def serve(self) -> None:
        """Give turns to who is ready."""
        turns = TURNS_A_STEP
        while self._ready and turns:
            turns -= 1
            replica, consumer_id = self._ready.popleft()
            del self._in_ready[(replica.id, consumer_id)]
            key = (replica.id, consumer_id)
            if key in self._loading or consumer_id not in replica.subscribers:
                continue
            deliver, lost = partial(self._deliver, replica, consumer_id), partial(self._lost, replica, consumer_id)
            if not self._indexes.when_resident(replica, deliver, lost, partial(self._loading.pop, key)):
                self._loading[key] = True

    def _deliver(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        subscribers = replica.subscribers.get(consumer_id)
        subscription = self._next_with_room(subscribers) if subscribers else None
        if subscription is None:
            return
        state = self._state
        batch = min(subscription.batch, self._room(subscription))
        byte_max = min(subscription.bytes, state.limits.fetch_bytes_max)
        messages = replica.consumers.dispatch(consumer_id, state.now, batch, byte_max)
        if messages is None or not messages.count:
            self._end_empty(replica, consumer_id)
            return
        subscription.messages -= messages.count
        subscription.bytes -= messages.byte_count
        subscription.unreported.add_messages(messages)
        state.count_delivery(messages)
        state.effects.append(Deliver(subscription.token, messages))
        state.mark_dirty(replica)
        self._make_ready(replica, consumer_id)

    def _lost(self, replica: StreamReplica, consumer_id: ConsumerId, failure: DiskFailure) -> None:
        del self._loading[(replica.id, consumer_id)]
        self._subscriptions.end_stream(replica, "", self._quarantine.found(replica, failure))

    def _end_empty(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        """Nothing is there for a consumer: end the readers that wanted no more, and had the credit to find out.

        Not before they have dealt with what they were sent: it may come back.
        """
        for subscription in list(replica.subscribers.get(consumer_id, ())):
            if subscription.stop_when_empty and has_credit(subscription) and not len(subscription.unreported):
                self._subscriptions.end(subscription, "empty")

    def _next_with_room(self, subscribers: deque[Subscription]) -> Subscription | None:
        """The first subscriber that may be sent something, moved behind the others."""
        for _ in range(len(subscribers)):
            subscription = subscribers[0]
            subscribers.rotate(-1)
            if has_credit(subscription) and self._room(subscription) > 0:
                return subscription
        return None


def has_credit(subscription: Subscription) -> bool:
    """Return True if a reader has room for a message, and for some bytes."""
    return subscription.messages > 0 and subscription.bytes > 0
