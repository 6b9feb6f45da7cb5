"""The calls of one caller who waits for each answer, told from those of many by how they come.

Responsible for the judgment alone: what follows from it is the node runner's. A call of such a caller may be decided, synced
and answered at once, in the turn of the loop that brought it. Others that came in the same turn would have shared its sync, so
one turn that brings two calls ends the streak.
"""

from __future__ import annotations

import asyncio
from typing import Final

LONE_CALLS: Final = 16
"""So many calls in a row, each in a turn of the loop of its own, until their caller counts as alone."""


class LoneCalls:
    """A counter of calls in a row, each of which came in a turn of the loop of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._in_this_turn = False
        self._streak = 0

    def one_more(self) -> bool:
        """Count a call; return True if its caller has been alone for a while."""
        if self._in_this_turn:
            self._streak = 0
            return False
        self._in_this_turn = True
        self._loop.call_soon(self._turn_ended)
        self._streak += 1
        return self._streak > LONE_CALLS

    def _turn_ended(self) -> None:
        self._in_this_turn = False
