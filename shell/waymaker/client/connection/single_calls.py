"""Calls outside the session: for what no frame carries. Any member of a cluster takes them, and sends them on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from waymaker.client.connection.transport import ends_told
from waymaker.client.errors import NOT_APPLIED, UnavailableError

if TYPE_CHECKING:
    from waymaker.client.connection.members import Members


async def call_alone(
    members: Members, path: str, request: bytes, deadline: float | None, metadata: tuple[tuple[str, str], ...], *,
    changes: bool = False,
) -> bytes:  # fmt: skip
    """Call once there is a connection; again, in a cluster, where no member could serve it and nothing was done."""
    loop = asyncio.get_running_loop()
    hops = 0
    while True:
        await members.connected(deadline)
        call: Any = members.channel.unary_unary(path)
        left = None if deadline is None else max(deadline - loop.time(), 0.0)
        try:
            with ends_told(changes):
                data: bytes = await call(request, timeout=left, metadata=metadata)
                return data
        except UnavailableError as error:
            hops += 1
            pause_s = members.pause_s(hops)
            is_over = deadline is not None and loop.time() + pause_s >= deadline
            if error.outcome != NOT_APPLIED or not members.has_others or is_over:
                raise
        await asyncio.sleep(pause_s)
