"""Subscriptions: the readers of this node, and the messages of each that are not known to have arrived.

A reader reports how far its messages reached the program. Only then a delivery counts as an attempt. When the reader leaves,
what it did not report is returned to its consumer, uncounted and due at once.

A reader with a *window* reports only that its messages were sent. Of those count as many as it has answered, and one batch
more. At most a window of them is unanswered. So what waits unread in a transport is bounded, and is no attempt.
"""

from __future__ import annotations

from collections import deque

from waymaker_core.model.result_codes import Refusal
from waymaker_core.model.types import ConsumerId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.readers.live_readers import LiveReaders
from waymaker_core.node.stream_replica import StreamReplica, Subscription


class Subscriptions:
    """All subscriptions of a node by their token."""

    def __init__(self, state: NodeState, gate: Gate, live_readers: LiveReaders) -> None:
        self._state = state
        self._live_readers = live_readers
        """Readers of streams that consume nothing: they end with the others."""
        self._gate = gate
        self._by_token: dict[Token, Subscription] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def __getitem__(self, token: Token) -> Subscription:
        return self._by_token[token]

    def __contains__(self, token: Token) -> bool:
        return token in self._by_token

    def add_subscription(self, subscription: Subscription) -> None:
        """Add a reader, without credit."""
        self._by_token[subscription.token] = subscription
        subscription.replica.leading.subscribers.setdefault(subscription.consumer_id, deque()).append(subscription)

    def remove_subscription(self, token: Token) -> None:
        """Remove a reader that its client has ended."""
        subscription = self._by_token.pop(token, None)
        if subscription is not None:
            self._forget(subscription)

    def end(self, subscription: Subscription, reason: str, refusal: Refusal | None = None) -> None:
        """End a reader, with the reason for its client."""
        del self._by_token[subscription.token]
        if reason == "empty":
            assert not subscription.at_gate, "it has read all that was taken for it"
            # It read to the end, so all of it arrived.
            subscription.answered = subscription.sent
            advance(subscription)
        self._forget(subscription)
        self._gate.end(subscription.token, reason, refusal)

    def end_consumer(self, replica: StreamReplica, consumer_id: ConsumerId, reason: str) -> None:
        """End the readers of a deleted consumer."""
        for subscription in list(replica.leading.subscribers.get(consumer_id, ())):
            self.end(subscription, reason)

    def end_stream(self, replica: StreamReplica, reason: str, refusal: Refusal | None = None) -> None:
        """End the readers of a stream that was deleted, or cannot be served."""
        for subscribers in list(replica.leading.subscribers.values()):
            for subscription in list(subscribers):
                self.end(subscription, reason, refusal)
        self._live_readers.end_readers(replica, reason, refusal)

    def end_all(self, reason: str) -> None:
        """End every reader: the node stops."""
        for subscription in list(self._by_token.values()):
            self.end(subscription, reason)
        self._live_readers.end_all(reason)

    def get(self, token: Token) -> Subscription | None:
        """Return the subscription of a token, if it has not ended."""
        return self._by_token.get(token)

    def _forget(self, subscription: Subscription) -> None:
        self._state.remember_ended(subscription.token, subscription.replica)
        replica = subscription.replica
        self._gate.withdraw(subscription.token)
        for sent in subscription.unreported.rest():
            replica.consumers.returned(subscription.consumer_id, sent.dispatch_id, sent.seqs)
        for seq, (dispatch_id, _) in subscription.unanswered.items():
            replica.consumers.returned(subscription.consumer_id, dispatch_id, [seq])
        subscription.unanswered.clear()
        replica.consumers.inactivity.used(subscription.consumer_id, self._state.now)
        self._state.mark_dirty(replica)
        subscribers = subscription.replica.leading.subscribers
        of_consumer = subscribers[subscription.consumer_id]
        of_consumer.remove(subscription)
        if not of_consumer:
            del subscribers[subscription.consumer_id]


def advance(subscription: Subscription) -> None:
    """Count the attempts that a windowed reader's answers prove; forget messages that were delivered again meanwhile."""
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
