"""The states of a delivery, as a table.

A delivery is *waiting* for its answer until a deadline; then it is *due*, to be dispatched again, or, after its last attempt,
*exhausted*: to be dropped. An exhausted delivery is *dropping* while its dead letter is composed. An ack or a term ends a
delivery from every state: the message is staged with a record and done at its commit.

A report, a nak or a request for more time may arrive after its delivery was returned as never reported. It shows that the
message had reached the program, so the returned delivery counts as an attempt after all.

`TRANSITIONS` is complete; an event that it does not list has no effect. The states of a batch's deliveries are one: the
table is asked once a batch.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """The state of a delivery."""

    WAITING = 1
    """Dispatched; its deadline is ahead."""
    DUE = 2
    """To be dispatched again."""
    EXHAUSTED = 3
    """Its last attempt failed: to be dropped."""
    DROPPING = 4
    """Being dropped: the bodies of its dead letters are read."""


class Event(Enum):
    """An event of a delivery, acks and terms apart."""

    EXPIRED = 1
    """Its deadline passed, or the member that had it was deleted."""
    NAK = 2
    """The client gave it back, to have it again after a delay."""
    EXTENDED = 3
    """The client asked for more time."""
    DISPATCHED = 4
    """It is dispatched again."""
    DROP_BEGUN = 5
    """Its drop begins."""
    DROP_ABORTED = 6
    """Its drop was aborted."""
    NOT_SENT = 7
    """It could not be read, so no client got it: that was no attempt."""
    RETURNED = 8
    """It never reached the program (returned, never reported, or it expired first): that was no attempt."""
    HELD_BACK = 10
    """It never left the node: that was no attempt, and no answer means it."""
    REPORTED = 9
    """It was returned as never reported, and now the report arrives: that was an attempt."""


TRANSITIONS: Final[dict[tuple[State, Event, bool], State]] = {
    # (state, event, attempts left) -> state
    (State.WAITING, Event.EXPIRED, True): State.DUE,
    (State.WAITING, Event.EXPIRED, False): State.EXHAUSTED,
    (State.WAITING, Event.NAK, True): State.WAITING,
    (State.WAITING, Event.NAK, False): State.EXHAUSTED,
    (State.WAITING, Event.EXTENDED, True): State.WAITING,
    (State.WAITING, Event.EXTENDED, False): State.WAITING,
    (State.DUE, Event.NAK, True): State.WAITING,
    (State.DUE, Event.NAK, False): State.EXHAUSTED,
    (State.DUE, Event.EXTENDED, True): State.WAITING,
    (State.DUE, Event.EXTENDED, False): State.WAITING,
    (State.DUE, Event.DISPATCHED, True): State.WAITING,
    (State.EXHAUSTED, Event.DROP_BEGUN, False): State.DROPPING,
    (State.DROPPING, Event.DROP_ABORTED, False): State.EXHAUSTED,
    (State.WAITING, Event.NOT_SENT, True): State.WAITING,
    (State.WAITING, Event.NOT_SENT, False): State.WAITING,
    (State.WAITING, Event.RETURNED, True): State.DUE,
    (State.WAITING, Event.RETURNED, False): State.DUE,
    (State.WAITING, Event.HELD_BACK, True): State.DUE,
    (State.WAITING, Event.HELD_BACK, False): State.DUE,
    (State.DUE, Event.REPORTED, True): State.DUE,
    (State.DUE, Event.REPORTED, False): State.EXHAUSTED,
}


def after(state: State, event: Event, attempts_left: bool) -> State | None:
    """Return the state that an event leads to, or None where it has no effect."""
    return TRANSITIONS.get((state, event, attempts_left))
