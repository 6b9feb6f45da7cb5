"""Signs of life of a cluster's members: a member that hangs, or whose machine is gone, must not keep what others can serve.

A connection that was closed is noticed at once. One whose other side is silent is asked something that any living server
answers by itself. Without a word for a few seconds its session ends, as a lost one does. A single server is waited for, since
there is no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from waymaker.client.connection.states import IN_SESSION
from waymaker.client.connection.work import CallWork
from waymaker_proto import pipeline_pb2 as pl

if TYPE_CHECKING:
    from waymaker.client.connection.connection import Connection

LOOK_S: Final = 1.0
SILENT_LOOKS: Final = 3
"""Looks without a frame from a server that owes one, after which it is given up."""


class Liveness:
    """A timer that looks at connections while there are others to go to."""

    def __init__(self, connections: Callable[[], Iterable[Connection]]) -> None:
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look from now on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        for connection in list(self._connections()):
            if connection.state in IN_SESSION:
                self._look_at(connection)

    def _look_at(self, connection: Connection) -> None:
        heard, connection.heard = connection.heard, False
        if heard or not connection.is_owed_something:
            connection.silent_looks = 0
            return
        connection.silent_looks += 1
        if connection.silent_looks >= SILENT_LOOKS:
            connection.end_session()
        elif connection.silent_looks == 1:
            connection.submit(_question())


def _question() -> CallWork:
    """Return a call that no server offers: its refusal is a sign of life."""
    answer: asyncio.Future[pl.CallResult] = asyncio.get_running_loop().create_future()
    answer.add_done_callback(lambda future: future.cancelled() or future.exception())
    return CallWork("", pl.Frame(), False, answer, None)
