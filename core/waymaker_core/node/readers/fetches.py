"""Answers to fetches, until it is known whether they reached their callers.

A fetch counts as an attempt where its answer left to a caller that was still there. The executor says so for each that
carries messages, or cancels it; then they were none and are due at once.
"""

from __future__ import annotations

from waymaker_core.api.requests import Messages
from waymaker_core.consumer.delivery.unreported import Unreported
from waymaker_core.model.types import ConsumerId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.stream_replica import StreamReplica


class Fetches:
    """Fetched messages by the token of their call."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._open: dict[Token, tuple[StreamReplica, ConsumerId, Unreported]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add_fetch(self, token: Token, replica: StreamReplica, consumer_id: ConsumerId, messages: Messages) -> None:
        """An answer leaves."""
        sent = Unreported()
        sent.add_messages(messages)
        messages.fetched = token
        self._open[token] = (replica, consumer_id, sent)

    def report(self, token: Token) -> None:
        """It reached its caller."""
        found = self._open.pop(token, None)
        if found is not None:
            replica, consumer_id, unreported = found
            for sent in unreported.rest():
                replica.consumers.reported(consumer_id, sent.dispatch_id, sent.seqs)
            replica.consumers.inactivity.used(consumer_id, self._state.now)
            self._state.mark_dirty(replica)

    def cancel(self, token: Token) -> None:
        """It did not, and will not."""
        found = self._open.pop(token, None)
        if found is not None:
            replica, consumer_id, unreported = found
            for sent in unreported.rest():
                replica.consumers.returned(consumer_id, sent.dispatch_id, sent.seqs)
            self._state.mark_dirty(replica)

    def forget_call(self, token: Token) -> None:
        """It could not be read, and was given back already."""
        self._open.pop(token, None)
