"""Subscriptions: deliveries that leave by themselves while their reader has credit.

A ready list of consumers, served in turn (round-robin), each turn one batch to one of the consumer's subscribers, which
then goes behind the others. A consumer becomes ready when something could have given it work (a commit, a nak, an expiry, a
new subscriber, new credit) and leaves the list when a turn finds nothing: nothing polls, and nothing is looked at twice.

Credit is counted in messages and bytes; while both are positive at least one message goes, however large, and the bytes may
become negative until the reader has caught up.

A reader reports how far its messages reached the program. Only then a delivery counts as an attempt; what is not reported
when the reader goes away is given back, uncounted and due at once. A reader with a *window* reports no more than that they
were sent: of those count as many as it has answered and takes at a time beyond that, and no more than the window holds are
unanswered at all. So what waits unread in a transport is bounded, and is no attempt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from waymaker_core.api.effects import Deliver, End
from waymaker_core.consumer.delivery.unreported import without
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.result_codes import Refusal
from waymaker_core.model.types import ConsumerId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.stream_replica import StreamReplica, Subscription
from waymaker_core.stream import NeedBlocks

UNREPORTED_MAX = 65_536
"""Messages that a reader may leave unreported before it is sent no more."""
TURNS_A_STEP = 64
"""Batches handed out in one step; what remains ready goes on in the next, which is asked for at once."""


class Subscriptions:
    """All subscriptions of a node and whose turn it is."""

    def __init__(self, state: NodeState, indexes: Indexes) -> None:
        self._state = state
        self._indexes = indexes
        self._by_token: dict[Token, Subscription] = {}
        self._ready: deque[tuple[StreamReplica, ConsumerId]] = deque()
        self._in_ready: dict[tuple[int, int], bool] = {}
        self._loading: dict[tuple[int, int], bool] = {}
        """Consumers whose turn waits for block indexes; nothing else is tried for them meanwhile."""
        self.lost: Callable[[StreamReplica, DiskFailure], Refusal]
        """What to say about a stream whose data could not be read."""

    def __len__(self) -> int:
        return len(self._by_token)

    def __contains__(self, token: Token) -> bool:
        return token in self._by_token

    def has_ready(self) -> bool:
        """Whether another step would find a turn to give."""
        return bool(self._ready)

    # ------------------------------------------------------------------ coming and going

    def add_subscription(self, subscription: Subscription) -> None:
        """A reader begins, without credit."""
        self._by_token[subscription.token] = subscription
        subscription.replica.subscribers.setdefault(subscription.consumer_id, deque()).append(subscription)

    def remove_subscription(self, token: Token) -> None:
        """A reader went away by itself."""
        subscription = self._by_token.pop(token, None)
        if subscription is not None:
            self._forget(subscription)

    def end(self, subscription: Subscription, reason: str, refusal: Refusal | None = None) -> None:
        """A reader is told that nothing more will come."""
        del self._by_token[subscription.token]
        if reason == "empty":
            # It read to the end, so all of it arrived.
            subscription.answered = subscription.sent
            self._advance(subscription)
        self._forget(subscription)
        self._state.effects.append(End(subscription.token, reason, refusal))

    def end_consumer(self, replica: StreamReplica, consumer_id: ConsumerId, reason: str) -> None:
        """A consumer is gone."""
        for subscription in list(replica.subscribers.get(consumer_id, ())):
            self.end(subscription, reason)

    def end_stream(self, replica: StreamReplica, reason: str, refusal: Refusal | None = None) -> None:
        """A stream is gone, or cannot be served."""
        for subscribers in list(replica.subscribers.values()):
            for subscription in list(subscribers):
                self.end(subscription, reason, refusal)

    def end_all(self, reason: str) -> None:
        """The node stops."""
        for subscription in list(self._by_token.values()):
            self.end(subscription, reason)

    def get(self, token: Token) -> Subscription | None:
        """The subscription of a token, if it still runs."""
        return self._by_token.get(token)

    def _forget(self, subscription: Subscription) -> None:
        self._state.remember_ended(subscription.token, subscription.replica)
        replica = subscription.replica
        for sent in subscription.unreported.rest():
            replica.consumers.returned(subscription.consumer_id, sent.dispatch_id, sent.seqs)
        for seq, (dispatch_id, _) in subscription.unanswered.items():
            replica.consumers.returned(subscription.consumer_id, dispatch_id, [seq])
        subscription.unanswered.clear()
        replica.consumers.inactivity.used(subscription.consumer_id, self._state.now)
        self._state.mark_dirty(replica)
        subscribers = subscription.replica.subscribers
        of_consumer = subscribers[subscription.consumer_id]
        of_consumer.remove(subscription)
        if not of_consumer:
            del subscribers[subscription.consumer_id]

    # ------------------------------------------------------------------ waking

    def credit(self, token: Token, messages: int, bytes_: int) -> None:
        """A reader has room for more."""
        subscription = self._by_token[token]
        subscription.messages += messages
        subscription.bytes += bytes_
        replica, consumer_id = subscription.replica, subscription.consumer_id
        if replica.consumers.has_work(consumer_id, self._state.now):
            self._make_ready(replica, consumer_id)
        else:
            self._end_empty(replica, consumer_id)

    def report(self, token: Token, count: int, back: Sequence[tuple[int, int]]) -> None:
        """A reader has dealt with so many messages, those that it gives back included."""
        subscription = self._by_token[token]
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
        self._advance(subscription)
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
                self._advance(subscription)
            if windowed:
                self._wake_consumer(replica, consumer_id)

    def _advance(self, subscription: Subscription) -> None:
        """Count what a reader with a window has come to by its answers; forget what went out again meanwhile."""
        if not subscription.window:
            return
        consumers, consumer_id = subscription.replica.consumers, subscription.consumer_id
        reached_to = subscription.answered + subscription.batch
        by_dispatch: dict[int, list[int]] = {}
        for seq, (dispatch_id, _) in subscription.unanswered.items():
            by_dispatch.setdefault(dispatch_id, []).append(seq)
        for dispatch_id, sent in by_dispatch.items():
            sent.sort()
            waiting = dict.fromkeys(consumers.waiting(consumer_id, dispatch_id, sent))
            for seq in sent:
                if seq not in waiting:
                    del subscription.unanswered[seq]
            reached = [seq for seq in waiting if subscription.unanswered[seq][1] <= reached_to]
            if reached:
                consumers.reported(consumer_id, dispatch_id, reached)

    def _room(self, subscription: Subscription) -> int:
        """How many messages more a reader may be sent, its credit in bytes aside."""
        room = min(subscription.messages, UNREPORTED_MAX - len(subscription.unreported))
        if subscription.window and room > 0:
            self._advance(subscription)
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
            subscribers = replica.subscribers.get(consumer_id)
            if subscribers:
                self._serve(replica, consumer_id, subscribers)

    def _serve(self, replica: StreamReplica, consumer_id: ConsumerId, subscribers: deque[Subscription]) -> None:
        key = (replica.id, consumer_id)
        if key in self._loading:
            return
        try:
            self._deliver(replica, consumer_id, subscribers)
        except NeedBlocks as need:
            self._loading[key] = True
            again = partial(self._serve_again, replica, consumer_id)
            self._indexes.load(replica, need.blocks, again, partial(self._lost, replica, consumer_id))

    def _serve_again(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        """The indexes asked for are there. What it needs further adds to them, so that it comes to an end."""
        subscribers = replica.subscribers.get(consumer_id)
        if subscribers:
            self._deliver(replica, consumer_id, subscribers)
        del self._loading[(replica.id, consumer_id)]

    def _deliver(self, replica: StreamReplica, consumer_id: ConsumerId, subscribers: deque[Subscription]) -> None:
        subscription = self._next_with_room(subscribers)
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
        self.end_stream(replica, "", self.lost(replica, failure))

    def _end_empty(self, replica: StreamReplica, consumer_id: ConsumerId) -> None:
        """Nothing is there for a consumer: end the readers that wanted no more, and had the credit to find out.

        Not before they have dealt with what they were sent: it may come back.
        """
        for subscription in list(replica.subscribers.get(consumer_id, ())):
            if subscription.stop_when_empty and has_credit(subscription) and not len(subscription.unreported):
                self.end(subscription, "empty")

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
