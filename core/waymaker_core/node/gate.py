"""The gate: the one door through which answers and deliveries leave. No other part emits a `Reply`, a `Deliver` or an `End`.

Every answer names what it rests on: positions of logs, decided but perhaps not yet applied. It leaves with the commit of the
last of them. An answer given earlier could speak of something that a crash takes back. Waiting is by log: a stream that
cannot commit holds up no other. What was read from applied state rests on no position. A refusal of a call that was not
admitted rests on nothing.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from waymaker_core.api.effects import Deliver, End, Reply
from waymaker_core.api.requests import Messages
from waymaker_core.model.result_codes import OK, Answer, Refusal
from waymaker_core.model.types import StreamId, Token
from waymaker_core.node.context import NodeState, remember
from waymaker_core.node.stream_log import Rest, StreamLog
from waymaker_core.node.stream_replica import StreamReplica


class Waiting(NamedTuple):
    """An answer that waits for a position of one log, and then for `then`."""

    position: int
    token: Token
    answer: Answer | Refusal
    then: tuple[Rest, ...]


class Gate:
    """The answers that wait, by the id of the log that they wait for."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._waiting: dict[int, deque[Waiting]] = {}
        self._read_for: dict[Token, StreamId] = {}
        """By the token of a reply with messages: their stream, where a failure to read them belongs."""

    # ------------------------------------------------------------------ decisions

    def answer(self, token: Token, answer: Answer | Refusal, *rests_on: Rest) -> None:
        """Send an answer as soon as all that it rests on is applied."""
        for index, (log, position) in enumerate(rests_on):
            if position > log.applied:
                self._wait(log, Waiting(position, token, answer, rests_on[index + 1 :]))
                return
        self._reply(token, answer)

    def _wait(self, log: StreamLog, waiting: Waiting) -> None:
        queue = self._waiting.get(log.stream_id)
        if queue is None:
            queue = self._waiting[log.stream_id] = deque()
        later: list[Waiting] = []
        # An answer that waited for another log first may rest on an earlier position than the last one here.
        while queue and queue[-1].position > waiting.position:
            later.append(queue.pop())
        queue.append(waiting)
        queue.extend(reversed(later))

    def open(self, log: StreamLog) -> None:
        """Send the answers that rest on nothing but what is applied by now."""
        queue = self._waiting.get(log.stream_id)
        if queue is None:
            return
        while queue and queue[0].position <= log.applied:
            _, token, answer, then = queue.popleft()
            self.answer(token, answer, *then)
        if not queue:
            del self._waiting[log.stream_id]

    def refuse(self, token: Token, refusal: Refusal) -> None:
        """Refuse a call of which nothing was done."""
        self._reply(token, refusal)

    def _reply(self, token: Token, answer: Answer | Refusal) -> None:
        state = self._state
        if isinstance(answer, Refusal):
            state.stats.calls_refused += 1
        state.effects.append(Reply(token, answer))

    # ------------------------------------------------------------------ what was read

    def answer_read(self, token: Token, log: StreamLog, answer: Answer) -> None:
        """Send what was read from the applied state of a log."""
        self._reply(token, answer)

    def answer_messages(self, token: Token, replica: StreamReplica, messages: Messages) -> None:
        """Send an answer whose bodies are still to be read, and remember their stream."""
        remember(self._read_for, token, replica.id)
        self._reply(token, Answer(OK, "", messages))

    def read_for(self, token: Token) -> StreamReplica | None:
        """Return the stream whose messages a reply carried, if it is remembered and still served; forget it."""
        stream_id = self._read_for.pop(token, None)
        return None if stream_id is None else self._state.replicas.get(stream_id)

    # ------------------------------------------------------------------ readers

    def deliver(self, token: Token, replica: StreamReplica, messages: Messages) -> None:
        """Send messages to a reader."""
        self._state.effects.append(Deliver(token, messages))

    def end(self, token: Token, reason: str, refusal: Refusal | None = None) -> None:
        """End a subscription or a watch."""
        self._state.effects.append(End(token, reason, refusal))
