"""The states of a client's connection, as a table.

A connection opens one session of the pipeline after the other until the program closes it. Whether work is sent, whether
callers wait, and whether they are refused follows from the state alone. Whether and when a connection is tried again is
decided in `connection.Connection._run`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """The state of a connection."""

    IDLE = 1
    """Not opened yet."""
    CONNECTING = 2
    """A session is being opened."""
    READY = 3
    """A session takes work."""
    PAUSED = 4
    """The server refused work for the moment: only news of subscriptions is sent until the pause ends."""
    DRAINING = 5
    """The server announced its stop: nothing is sent, answers still arrive."""
    BACKING_OFF = 6
    """The session ended; another one is opened after a while."""
    OVER = 7
    """The session ended, and the options allow no other one."""
    CLOSED = 8
    """The program closed the client."""


class Event(Enum):
    """An event of a connection."""

    OPEN = 1
    """The program opens the client."""
    WELCOME = 2
    """The server accepted the session."""
    REFUSED = 3
    """The server refused work that it did not apply, because it cannot serve for the moment."""
    RESUME = 4
    """The pause is over."""
    CLOSING = 5
    """The server announced that it stops."""
    SESSION_ENDED = 6
    """The session ended, or could not be opened."""
    RETRY = 7
    """The back-off is over."""
    GIVE_UP = 8
    """The options allow no other session."""
    CLOSE = 9
    """The program closes the client."""


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.IDLE, Event.OPEN): State.CONNECTING,
    (State.CONNECTING, Event.WELCOME): State.READY,
    (State.READY, Event.REFUSED): State.PAUSED,
    (State.PAUSED, Event.RESUME): State.READY,
    (State.READY, Event.CLOSING): State.DRAINING,
    (State.PAUSED, Event.CLOSING): State.DRAINING,
    (State.CONNECTING, Event.SESSION_ENDED): State.BACKING_OFF,
    (State.READY, Event.SESSION_ENDED): State.BACKING_OFF,
    (State.PAUSED, Event.SESSION_ENDED): State.BACKING_OFF,
    (State.DRAINING, Event.SESSION_ENDED): State.BACKING_OFF,
    (State.BACKING_OFF, Event.RETRY): State.CONNECTING,
    (State.BACKING_OFF, Event.GIVE_UP): State.OVER,
    **{(state, Event.CLOSE): State.CLOSED for state in State if state is not State.CLOSED},
}

IN_SESSION: Final = frozenset((State.READY, State.PAUSED, State.DRAINING))
"""The server knows of this client."""
TAKES_WORK: Final = frozenset((State.READY, State.PAUSED))
"""Work that waits is sent, now or after the pause."""
ENDED: Final = frozenset((State.OVER, State.CLOSED))
"""There is no session any more."""
