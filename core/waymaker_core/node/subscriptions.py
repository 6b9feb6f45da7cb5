"""Subscriptions: deliveries that leave by themselves while their reader has credit.

A ready list of consumers, served in turn (round-robin), each turn one batch to one of the consumer's subscribers, which
then goes behind the others. A consumer becomes ready when something could have given it work (a commit, a nak, an expiry, a
new subscriber, new credit) and leaves the list when a turn finds nothing: nothing polls, and nothing is looked at twice.

Credit is counted in messages and bytes; while both are positive at least one message goes, however large, and the bytes may
become negative until the reader has caught up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from waymaker_core.disk import DiskFailure
from waymaker_core.effects import Deliver, End
from waymaker_core.node.hosted import Hosted, Subscription
from waymaker_core.node.indexes import Indexes
from waymaker_core.node.state import NodeState
from waymaker_core.outcomes import Refusal
from waymaker_core.stream import NeedBlocks
from waymaker_core.types import ConsumerId, Token

TURNS_A_STEP = 64
"""Batches handed out in one step; what remains ready goes on in the next, which is asked for at once."""


class Subscriptions:
    """All subscriptions of a node and whose turn it is."""

    def __init__(self, state: NodeState, indexes: Indexes) -> None:
        self._state = state
        self._indexes = indexes
        self._by_token: dict[Token, Subscription] = {}
        self._ready: deque[tuple[Hosted, ConsumerId]] = deque()
        self._in_ready: dict[tuple[int, int], bool] = {}
        self._loading: dict[tuple[int, int], bool] = {}
        """Consumers whose turn waits for block indexes; nothing else is tried for them meanwhile."""
        self.lost: Callable[[Hosted, DiskFailure], Refusal]
        """What to say about a stream whose data could not be read."""

    def __len__(self) -> int:
        return len(self._by_token)

    def __contains__(self, token: Token) -> bool:
        return token in self._by_token

    def has_ready(self) -> bool:
        """Whether another step would find a turn to give."""
        return bool(self._ready)

    # ------------------------------------------------------------------ coming and going

    def add(self, subscription: Subscription) -> None:
        """A reader begins, without credit."""
        self._by_token[subscription.token] = subscription
        subscription.hosted.subscribers.setdefault(subscription.consumer_id, deque()).append(subscription)

    def remove(self, token: Token) -> None:
        """A reader went away by itself."""
        subscription = self._by_token.pop(token, None)
        if subscription is not None:
            self._forget(subscription)

    def end(self, subscription: Subscription, reason: str, refusal: Refusal | None = None) -> None:
        """A reader is told that nothing more will come."""
        del self._by_token[subscription.token]
        self._forget(subscription)
        self._state.effects.append(End(subscription.token, reason, refusal))

    def end_consumer(self, hosted: Hosted, consumer_id: ConsumerId, reason: str) -> None:
        """A consumer is gone."""
        for subscription in list(hosted.subscribers.get(consumer_id, ())):
            self.end(subscription, reason)

    def end_stream(self, hosted: Hosted, reason: str, refusal: Refusal | None = None) -> None:
        """A stream is gone, or cannot be served."""
        for subscribers in list(hosted.subscribers.values()):
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
        self._state.remember_ended(subscription.token, subscription.hosted)
        subscribers = subscription.hosted.subscribers
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
        hosted, consumer_id = subscription.hosted, subscription.consumer_id
        if hosted.consumers.has_work(consumer_id, self._state.now):
            self._make_ready(hosted, consumer_id)
        else:
            self._end_empty(hosted, consumer_id)

    def wake(self, hosted: Hosted) -> None:
        """Something about this stream changed: whoever has work now becomes ready."""
        for consumer_id in hosted.subscribers:
            self._wake_consumer(hosted, consumer_id)

    def _wake_consumer(self, hosted: Hosted, consumer_id: ConsumerId) -> None:
        key = (hosted.id, consumer_id)
        if key not in self._in_ready and hosted.consumers.has_work(consumer_id, self._state.now):
            self._make_ready(hosted, consumer_id)

    def _make_ready(self, hosted: Hosted, consumer_id: ConsumerId) -> None:
        key = (hosted.id, consumer_id)
        if key not in self._in_ready:
            self._in_ready[key] = True
            self._ready.append((hosted, consumer_id))

    # ------------------------------------------------------------------ serving

    def serve(self) -> None:
        """Give turns to who is ready."""
        turns = TURNS_A_STEP
        while self._ready and turns:
            turns -= 1
            hosted, consumer_id = self._ready.popleft()
            del self._in_ready[(hosted.id, consumer_id)]
            subscribers = hosted.subscribers.get(consumer_id)
            if subscribers:
                self._serve(hosted, consumer_id, subscribers)

    def _serve(self, hosted: Hosted, consumer_id: ConsumerId, subscribers: deque[Subscription]) -> None:
        key = (hosted.id, consumer_id)
        if key in self._loading:
            return
        try:
            self._deliver(hosted, consumer_id, subscribers)
        except NeedBlocks as need:
            self._loading[key] = True
            again = partial(self._serve_again, hosted, consumer_id)
            self._indexes.load(hosted, need.blocks, again, partial(self._lost, hosted, consumer_id))

    def _serve_again(self, hosted: Hosted, consumer_id: ConsumerId) -> None:
        """The indexes asked for are there. What it needs further adds to them, so that it comes to an end."""
        subscribers = hosted.subscribers.get(consumer_id)
        if subscribers:
            self._deliver(hosted, consumer_id, subscribers)
        del self._loading[(hosted.id, consumer_id)]

    def _deliver(self, hosted: Hosted, consumer_id: ConsumerId, subscribers: deque[Subscription]) -> None:
        subscription = _next_with_credit(subscribers)
        if subscription is None:
            return
        state = self._state
        batch = min(subscription.batch, subscription.messages)
        byte_max = min(subscription.bytes, state.limits.fetch_bytes_max)
        messages = hosted.consumers.take(consumer_id, state.now, batch, byte_max)
        if messages is None or not messages.count:
            self._end_empty(hosted, consumer_id)
            return
        subscription.messages -= messages.count
        subscription.bytes -= messages.byte_count
        state.count_delivery(messages)
        state.effects.append(Deliver(subscription.token, messages))
        state.touch(hosted)
        self._make_ready(hosted, consumer_id)

    def _lost(self, hosted: Hosted, consumer_id: ConsumerId, failure: DiskFailure) -> None:
        del self._loading[(hosted.id, consumer_id)]
        self.end_stream(hosted, "", self.lost(hosted, failure))

    def _end_empty(self, hosted: Hosted, consumer_id: ConsumerId) -> None:
        """Nothing is there for a consumer: end the readers that wanted no more, and had the credit to find out."""
        for subscription in list(hosted.subscribers.get(consumer_id, ())):
            if subscription.stop_when_empty and subscription.messages > 0 and subscription.bytes > 0:
                self.end(subscription, "empty")


def _next_with_credit(subscribers: deque[Subscription]) -> Subscription | None:
    """The first subscriber with credit, moved behind the others."""
    for _ in range(len(subscribers)):
        subscription = subscribers[0]
        subscribers.rotate(-1)
        if subscription.messages > 0 and subscription.bytes > 0:
            return subscription
    return None
