"""Calls outside the session: for what no frame carries. Any member of a cluster takes them, and sends them on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from waymaker.client.connection.transport import ends_told
from waymaker.client.errors import NOT_APPLIED, UnavailableError

if TYPE_CHECKING:
    from waymaker.client.connection.members import Members


class Attempts:
    """The attempts at one call: there is another one, in a cluster, where no member could serve it and nothing was done."""

    def __init__(self, members: Members, deadline: float | None) -> None:
        self._members = members
        self._deadline = deadline
        self._hops = 0

    async def await_next(self, error: UnavailableError) -> None:
        """Wait until the next attempt is due; raise what ended the last one where there is none."""
        members, deadline = self._members, self._deadline
        self._hops += 1
        pause_s = members.pause_s(self._hops)
        is_over = deadline is not None and asyncio.get_running_loop().time() + pause_s >= deadline
        if error.outcome != NOT_APPLIED or not members.has_others or is_over:
            raise error
        await asyncio.sleep(pause_s)


async def call_alone(
    members: Members, path: str, request: bytes, deadline: float | None, metadata: tuple[tuple[str, str], ...], *,
    changes: bool = False,
) -> bytes:  # fmt: skip
    """Call once there is a connection; again as `Attempts` has it."""
    loop = asyncio.get_running_loop()
    attempts = Attempts(members, deadline)
    while True:
        await members.connected(deadline)
        call: Any = members.channel.unary_unary(path)
        left = None if deadline is None else max(deadline - loop.time(), 0.0)
        try:
            with ends_told(changes):
                data: bytes = await call(request, timeout=left, metadata=metadata)
                return data
        except UnavailableError as error:
            await attempts.await_next(error)
