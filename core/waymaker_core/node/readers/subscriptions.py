"""Subscriptions: which readers there are, and what of each reader's messages is not known to have arrived.

A reader reports how far its messages reached the program. Only then a delivery counts as an attempt. When the reader leaves,
what it did not report is returned to its consumer, uncounted and due at once.

A reader with a *window* reports only that its messages were sent. Of those count as many as it has answered, and one batch
more. At most a window of them is unanswered. So what waits unread in a transport is bounded, and is no attempt.
"""

from __future__ import annotations

from collections import deque

from waymaker_core.api.effects import End
from waymaker_core.model.result_codes import Refusal
from waymaker_core.model.types import ConsumerId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.stream_replica import StreamReplica, Subscription


class Subscriptions:
    """All subscriptions of a node by their token."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._by_token: dict[Token, Subscription] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def __getitem__(self, token: Token) -> Subscription:
        return self._by_token[token]

    def __contains__(self, token: Token) -> bool:
        return token in self._by_token

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
            advance(subscription)
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


def advance(subscription: Subscription) -> None:
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
