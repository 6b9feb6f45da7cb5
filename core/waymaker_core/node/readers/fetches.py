"""Answers to fetches, until it is known whether they reached their callers.

A fetch counts as an attempt if its answer was sent to a caller that was still connected. The executor reports each fetch
that carries messages, or cancels it. A cancelled one counts for nothing: its messages are due at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import Messages
from waymaker_core.consumer.delivery.unreported import Unreported
from waymaker_core.model.types import ConsumerId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.stream_replica import StreamReplica


class Fetches:
    """Fetched messages by the token of their call."""

    def __init__(self, state: NodeState, gate: Gate, attempt_again: Callable[[Call], None]) -> None:
        self._state = state
        self._gate = gate
        self._attempt_again = attempt_again
        self._open: dict[Token, tuple[StreamReplica, ConsumerId, Unreported]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add_fetch(self, token: Token, replica: StreamReplica, consumer_id: ConsumerId, messages: Messages) -> None:
        """Note an answer that is sent."""
        sent = Unreported()
        sent.add_messages(messages)
        messages.fetched = token
        self._open[token] = (replica, consumer_id, sent)

    def report(self, token: Token) -> None:
        """Count the messages of a fetch that reached its caller."""
        found = self._open.pop(token, None)
        if found is not None:
            replica, consumer_id, unreported = found
            for sent in unreported.rest():
                replica.consumers.reported(consumer_id, sent.dispatch_id, sent.seqs)
            replica.consumers.inactivity.used(consumer_id, self._state.now)
            self._state.mark_dirty(replica)

    def cancel(self, token: Token) -> None:
        """Return the messages of a fetch that never reaches its caller."""
        found = self._open.pop(token, None)
        if found is not None:
            replica, consumer_id, unreported = found
            for sent in unreported.rest():
                replica.consumers.returned(consumer_id, sent.dispatch_id, sent.seqs)
            self._state.mark_dirty(replica)

    def send(self, call: Call, replica: StreamReplica, messages: Messages) -> None:
        """Send the answer of a `Fetch`, once it is confirmed where it has to be."""
        if not self._gate.replicated:
            self._send(replica, call.token, messages)
            return
        replica.consumers.held.hold_delivery(messages)
        send = partial(self._send_confirmed, call, replica, messages)
        undo = partial(replica.consumers.held.take_back, messages)
        self._gate.when_confirmed(replica.log, call.token, send, undo, partial(self._gate.refuse, call.token))

    def _send(self, replica: StreamReplica, token: Token, messages: Messages) -> None:
        self._state.count_delivery(messages)
        self._gate.reply_messages(token, replica, messages)

    def _send_confirmed(self, call: Call, replica: StreamReplica, messages: Messages) -> None:
        """Send a confirmed answer, unless some of its messages were answered, have expired or moved since they were taken.

        Then what is still waiting goes back to its consumer, uncounted and due at once, and the call takes what is due now.
        """
        if replica.consumers.held.release_delivery(messages, self._state.now):
            self._send(replica, call.token, messages)
            return
        self._open.pop(call.token, None)
        self._state.mark_dirty(replica)
        self._attempt_again(call)

    def forget_stream(self, replica: StreamReplica) -> None:
        """Forget the fetches from a stream that is led no longer: what became of them is not known to it."""
        for token in [token for token, (of, _, _) in self._open.items() if of is replica]:
            del self._open[token]

    def forget_call(self, token: Token) -> None:
        """Forget a fetch that could not be read: its messages were returned already."""
        self._open.pop(token, None)
