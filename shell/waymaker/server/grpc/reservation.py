"""Reservation of a name by a restore, from the call that begins it until the stream is open or given up.

A caller may leave between that call and its answer. The name would then be taken until the next start, by a stream that is
served to no client. So the reservation hears the answer itself, even where its caller has left.
"""

from __future__ import annotations

import asyncio
from typing import Final

from waymaker.server.node_runner import NodeRunner
from waymaker_core.api.requests import ImportBegin, ImportEnd
from waymaker_core.model.result_codes import OK, Answer, Refusal, Status
from waymaker_core.model.types import Principal

PAUSE_S: Final = 1.0
"""Seconds until a name is given up again, where the node had no room for it."""


class Reservation:
    """A stream's name that one restore may fill."""

    def __init__(self, runner: NodeRunner, principal: Principal) -> None:
        self._runner = runner
        self._principal = principal
        self._given_up = False
        self.stream_id: int | None = None
        """The id of the reserved stream; None before the answer and after the end."""

    async def begin(self, request: ImportBegin) -> Answer | Refusal:
        """Reserve the name; return the node's answer."""
        future: asyncio.Future[Answer | Refusal] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer | Refusal, _: object) -> None:
            if isinstance(answer, Answer) and answer.code == OK:
                assert isinstance(answer.value, int)
                self.stream_id = answer.value
                if self._given_up:
                    self.give_up()
            if not future.done():
                future.set_result(answer)

        self._runner.call(self._principal, request, answered)
        return await future

    def opened(self) -> None:
        """Note that the stream is open: nothing is left to give up."""
        self.stream_id = None

    def give_up(self) -> None:
        """Delete an unfinished stream, without waiting for it; as soon as the node has answered, where it has not."""
        self._given_up = True
        if self.stream_id is not None:
            stream_id, self.stream_id = self.stream_id, None
            self._delete(stream_id)

    def _delete(self, stream_id: int) -> None:
        def answered(answer: Answer | Refusal, _: object) -> None:
            if isinstance(answer, Refusal) and answer.status is Status.RESOURCE_EXHAUSTED:
                asyncio.get_running_loop().call_later(PAUSE_S, self._delete, stream_id)

        self._runner.call(self._principal, ImportEnd(stream_id, commit=False), answered)
