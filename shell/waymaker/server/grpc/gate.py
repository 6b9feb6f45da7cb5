"""The gate that calls pass, for the last moments of a server.

gRPC closes a listener by cancelling whatever it has taken in and not handed over yet, without a word to the caller. A server
therefore holds its callers at the gate first: who waits for an answer sends nothing more. Once nobody comes any more it tells
gRPC to close, which turns connections away from then on, and then lets the held ones go on to their refusals.
"""

from __future__ import annotations

import asyncio
from typing import Final

_QUIET_S: Final = 0.025
_QUIET_TIMES: Final = 2


class Gate:
    """Counts calls as they come, and can hold them."""

    def __init__(self) -> None:
        self._arrivals = 0
        self._passing = asyncio.Event()
        self._passing.set()

    def arrived(self) -> None:
        """A call is here, or a frame of one."""
        self._arrivals += 1

    async def enter(self) -> None:
        """Go on, or wait until held calls may."""
        if not self._passing.is_set():
            await self._passing.wait()

    def hold(self) -> None:
        """Let nobody through from now on."""
        self._passing.clear()

    def release(self) -> None:
        """Let everybody through."""
        self._passing.set()

    async def quiet(self, within_s: float) -> None:
        """Wait until nobody has come for a moment, or for as long as that may take."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        times, seen = 0, self._arrivals
        while times < _QUIET_TIMES and loop.time() < deadline:
            await asyncio.sleep(_QUIET_S)
            times = times + 1 if self._arrivals == seen else 0
            seen = self._arrivals
