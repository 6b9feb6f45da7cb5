"""Turns of subscribers: deliveries that leave without a call, while their reader has credit.

A ready list of consumers, served in turn (round-robin), each turn one batch to one of the consumer's subscribers, which
then moves behind the others. A consumer becomes ready when something could have given it work: a commit, a nak, an expiry, a
new subscriber, new credit. It is removed from the list when a turn finds nothing. Nothing polls.

Credit is counted in messages and bytes. While both are positive at least one message is sent, however large. The bytes may
become negative until the reader has caught up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

from waymaker_core.api.requests import Messages
from waymaker_core.consumer.delivery.unreported import without
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.result_codes import Refusal
from waymaker_core.model.types import ConsumerId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.readers.subscriptions import Subscriptions, advance
from waymaker_core.node.stream_replica import Leading, StreamReplica, Subscription

UNREPORTED_MAX = 65_536
"""Messages that a reader may leave unreported before it is sent no more."""
TURNS_A_STEP = 64
"""Batches sent in one step; what remains ready is served in the next, which follows at once."""


class DeliveryScheduler:
    """The turns of consumers that have subscribers."""

    def __init__(
        self, state: NodeState, gate: Gate, indexes: Indexes, subscriptions: Subscriptions, quarantine: Quarantine
    ) -> None:
        self._state = state
        self._gate = gate
        self._indexes = indexes
        self._subscriptions = subscriptions
        self._quarantine = quarantine
        self._ready: deque[tuple[StreamReplica, ConsumerId]] = deque()
        self._in_ready: dict[tuple[int, int], bool] = {}
        self._loading: dict[tuple[int, int], bool] = {}
        """Consumers whose turn waits for block indexes; they get no other turn meanwhile."""

    def has_ready(self) -> bool:
        """Return True if another step would serve a turn."""
        return bool(self._ready)

    # ------------------------------------------------------------------ waking

    def credit(self, token: Token, messages: int, bytes_: int) -> None:
        """Add to a reader's credit."""
        subscription = self._subscriptions[token]
        subscription.messages += messages
        subscription.bytes += bytes_
        replica, consumer_id = subscription.replica, subscription.consumer_id
        self._go_on(replica, consumer_id)

    def report(self, token: Token, count: int, back: Sequence[tuple[int, int]]) -> None:
        """Note that a reader has dealt with so many messages, those that it returns included."""
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
        self._go_on(replica, consumer_id)

    def _go_on(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        """Make a consumer ready that has work; else end its readers that are to stop then."""
        if replica.consumers.has_work(consumer_id, self._state.now):
            self._make_ready(replica, consumer_id)
        else:
            self._end_empty(replica, consumer_id)

    def answered(self, replica: StreamReplica, seqs: Sequence[int]) -> None:
        """Free the windows of readers whose deliveries were answered, and wake their consumers."""
        for consumer_id, subscribers in replica.leading.subscribers.items():
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
        """Return how many messages more a reader may be sent, its credit in bytes aside."""
        on_the_way = count_on_the_way(subscription)
        room = min(subscription.messages, UNREPORTED_MAX - on_the_way)
        if subscription.window and room > 0:
            advance(subscription)
            room = min(room, subscription.window - len(subscription.unanswered) - on_the_way)
        return room

    def wake_subscribers(self, replica: StreamReplica) -> None:
        """Make those consumers of a changed stream ready that have work now."""
        for consumer_id in replica.leading.subscribers:
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
        """Serve the ready consumers in turn."""
        turns = TURNS_A_STEP
        while self._ready and turns:
            turns -= 1
            replica, consumer_id = self._ready.popleft()
            del self._in_ready[(replica.id, consumer_id)]
            key = (replica.id, consumer_id)
            if key in self._loading or consumer_id not in replica.leading.subscribers:
                continue
            deliver, lost = (
                partial(self._deliver, replica.leading, consumer_id),
                partial(self._lost, replica, consumer_id),
            )
            if not self._indexes.when_resident(replica, deliver, lost, partial(self._loading.pop, key)):
                self._loading[key] = True

    def _deliver(self, leading: Leading, consumer_id: ConsumerId) -> None:
        replica = leading.replica
        subscribers = leading.subscribers.get(consumer_id)
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
        state.mark_dirty(replica)
        if self._gate.replicated:
            send = partial(self._send_confirmed, subscription, messages)
            undo = partial(replica.consumers.held.take_back, messages)
            subscription.at_gate += messages.count
            replica.consumers.held.hold_delivery(messages)
            self._gate.when_confirmed(replica.log, subscription.token, send, undo, _nothing_to_refuse)
        else:
            self._send(subscription, messages)
        self._make_ready(replica, consumer_id)

    def _send(self, subscription: Subscription, messages: Messages) -> None:
        subscription.unreported.add_messages(messages)
        self._state.count_delivery(messages)
        self._gate.deliver(subscription.token, messages)

    def _send_confirmed(self, subscription: Subscription, messages: Messages) -> None:
        """Send a confirmed delivery, unless some of it was answered, has expired or moved since it was taken.

        Then none of it leaves: what is still waiting goes back to its consumer, uncounted and due at once.
        """
        replica = subscription.replica
        subscription.at_gate -= messages.count
        if replica.consumers.held.release_delivery(messages, self._state.now):
            self._send(subscription, messages)
            return
        subscription.messages += messages.count
        subscription.bytes += messages.byte_count
        self._state.mark_dirty(replica)
        self._go_on(replica, subscription.consumer_id)

    def _lost(self, replica: StreamReplica, consumer_id: ConsumerId, failure: DiskFailure) -> None:
        del self._loading[(replica.id, consumer_id)]
        self._subscriptions.end_stream(replica, "", self._quarantine.found(replica, failure))

    def _end_empty(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        """End the readers of a consumer without messages that are to stop when it is empty, and that have credit.

        A reader with messages that are unreported, or wait for a confirmation, stays: they may be returned.
        """
        for subscription in list(replica.leading.subscribers.get(consumer_id, ())):
            if subscription.stop_when_empty and has_credit(subscription) and not count_on_the_way(subscription):
                self._subscriptions.end(subscription, "empty")

    def _next_with_room(self, subscribers: deque[Subscription]) -> Subscription | None:
        """Return the first subscriber that may be sent something, moved behind the others."""
        for _ in range(len(subscribers)):
            subscription = subscribers[0]
            subscribers.rotate(-1)
            if has_credit(subscription) and self._room(subscription) > 0:
                return subscription
        return None


def count_on_the_way(subscription: Subscription) -> int:
    """Return how many messages were taken for a reader that it has not reported yet."""
    return len(subscription.unreported) + subscription.at_gate


def has_credit(subscription: Subscription) -> bool:
    """Return True if a reader has credit for a message, and for some bytes."""
    return subscription.messages > 0 and subscription.bytes > 0


def _nothing_to_refuse(_refusal: Refusal) -> None:
    """Do nothing: the reader of a stream that was deleted is told by its end."""
