"""Calls to the node on behalf of one object: answers that must be good, and tokens that end for sure.

A token that names an upload or a reading has to end exactly once, after its call was answered, however the caller left. An
ended token frees what the node kept for it.
"""

from __future__ import annotations

import asyncio

from waymaker.server.node_runner import NodeRunner
from waymaker.storage.store import Bodies
from waymaker_core.api.inputs import Cancel
from waymaker_core.api.requests import Messages, Request
from waymaker_core.model.message_codec import decode_body
from waymaker_core.model.result_codes import OK, Answer, CodeError, Refusal, RefusedError
from waymaker_core.model.types import Principal, Token


def good(answer: Answer | Refusal) -> Answer:
    """Return an answer whose code is `ok`. Raises `RefusedError` or `CodeError` for any other."""
    if isinstance(answer, Refusal):
        raise RefusedError(answer)
    if answer.code != OK:
        raise CodeError(answer.code, answer.message)
    return answer


class Lease:
    """A token for which the node keeps something, from `begin` to `end`."""

    def __init__(self, runner: NodeRunner, principal: Principal) -> None:
        self._runner = runner
        self._principal = principal
        self._answered = False
        self._ended = False
        self.token = Token(0)

    async def begin(self, request: Request) -> tuple[Answer, Bodies | None]:
        """Begin; return the good answer. Raises as `good` does."""
        future: asyncio.Future[tuple[Answer | Refusal, Bodies | None]] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer | Refusal, bodies: Bodies | None) -> None:
            self._answered = True
            if self._ended:
                self._runner.push(Cancel(self.token))
            if not future.done():
                future.set_result((answer, bodies))

        self.token = self._runner.call(self._principal, request, answered)
        answer, bodies = await future
        return good(answer), bodies

    def end(self) -> None:
        """End it; at once, or as soon as its call is answered."""
        if not self._ended and self.token:
            self._ended = True
            if self._answered:
                self._runner.push(Cancel(self.token))


def bodies_of(messages: Messages, bodies: Bodies | None) -> list[tuple[int, int, bytes]]:
    """Return sequence, time and stored body of each message."""
    found: list[tuple[int, int, bytes]] = []
    for run, data in zip(messages.runs, bodies or [], strict=True):
        at = 0
        for seq, time_ms, length in zip(run.sequences(), run.times_ms, run.lengths, strict=True):
            found.append((seq, time_ms, data[at : at + length]))
            at += length
    return found


def payload_of(body: bytes) -> bytes:
    """Return the payload of a stored body."""
    return decode_body(body)[2]
