"""The states of a server, as a table.

A server that is told to stop drains: calls end with an answer, sessions hear that it stops. Once the node has nothing more to
say, or has failed, the server finishes: sessions end, and callers that still come are refused.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """The state of a server."""

    STARTING = 1
    """Ports are open, no call is served."""
    SERVING = 2
    """Calls are served."""
    DRAINING = 3
    """The server was told to stop: the node answers what it admitted and refuses the rest."""
    FINISHING = 4
    """The node does nothing more: sessions end, callers are refused."""
    CLOSED = 5
    """The ports are closed."""


class Event(Enum):
    """An event of a server."""

    START = 1
    """The node has recovered."""
    DRAIN = 2
    """The process was told to stop."""
    FINISH = 3
    """The node halted, by itself or drained, or the grace period is over."""
    CLOSE = 4
    """All calls have ended."""


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.STARTING, Event.START): State.SERVING,
    (State.SERVING, Event.DRAIN): State.DRAINING,
    (State.STARTING, Event.FINISH): State.FINISHING,
    (State.SERVING, Event.FINISH): State.FINISHING,
    (State.DRAINING, Event.FINISH): State.FINISHING,
    (State.FINISHING, Event.CLOSE): State.CLOSED,
}

STOPPING: Final = frozenset((State.DRAINING, State.FINISHING, State.CLOSED))
"""The server takes no new work any more."""
