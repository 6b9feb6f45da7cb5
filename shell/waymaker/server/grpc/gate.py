"""The gate that calls pass, for the last moments of a server.

gRPC closes a listener by cancelling whatever it has taken in and not handed over yet, without a word to the caller. A server
therefore holds its callers at the gate first: a caller that waits for an answer sends nothing more. Once no call comes any
more, it asks gRPC to close, which turns connections away from then on. Then it lets the held calls pass to their refusals.
"""

from __future__ import annotations

import asyncio
from typing import Final

_QUIET_S: Final = 0.025
_QUIET_TIMES: Final = 2


class Gate:
    """A counter of calls as they come, which can hold them."""

    def __init__(self) -> None:
        self._arrivals = 0
        self._passing = asyncio.Event()
        self._passing.set()

    def arrived(self) -> None:
        """Count a call, or a frame of one."""
        self._arrivals += 1

    async def enter(self) -> None:
        """Wait while calls are held."""
        if not self._passing.is_set():
            await self._passing.wait()

    def hold(self) -> None:
        """Hold every call from now on."""
        self._passing.clear()

    def release(self) -> None:
        """Release the held calls."""
        self._passing.set()

    async def quiet(self, within_s: float) -> None:
        """Wait until no call has come for a moment, at most as long as given."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        times, seen = 0, self._arrivals
        while times < _QUIET_TIMES and loop.time() < deadline:
            await asyncio.sleep(_QUIET_S)
            times = times + 1 if self._arrivals == seen else 0
            seen = self._arrivals
