"""Log lines that repeat: one of a kind in a while, with the count of those left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from waymaker.server.incidents import logged

QUIET_S: Final = 30.0
_KINDS_MAX: Final = 256


class RepeatedLines:
    """The kinds of lines that were written lately."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, ...], tuple[float, int]] = {}
        """By kind: when the last line was written, and how many were left out since."""

    def write(self, write: Callable[..., Any], event: str, *kind: str, **fields: Any) -> None:
        """Write a line unless one of this event and kind was written a moment ago."""
        now = time.monotonic()
        key = (event, *kind)
        at, omitted = self._kinds.get(key, (-QUIET_S, 0))
        if now - at < QUIET_S:
            self._kinds[key] = at, omitted + 1
            return
        if len(self._kinds) >= _KINDS_MAX:
            self._kinds.clear()  # kinds hold addresses that others choose
        self._kinds[key] = now, 0
        if omitted:
            fields["omitted"] = omitted
        logged(write, event, **fields)

    def forget(self, event: str, *kind: str) -> None:
        """Let the next line of a kind be written at once."""
        self._kinds.pop((event, *kind), None)
