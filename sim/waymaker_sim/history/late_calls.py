"""Late calls: what was sent to a stream's name before it was created may be stored once it is, where calls are on their way.

So it counts against the stream's bounds as a message of unknown outcome, until its answer comes.
"""

from __future__ import annotations

from waymaker_sim.history.history import History, StreamIncarnation


def expect_late(history: History, incarnation: StreamIncarnation) -> None:
    """Note that all that was sent to this name, and has no known place, may yet arrive in this incarnation."""
    for attempt in history.attempts.values():
        if attempt.stream == incarnation.name and not (attempt.seq or attempt.refused or attempt.incarnation):
            if attempt.counted_in is not None:
                attempt.counted_in.unplaced -= 1
            attempt.counted_in = incarnation
            incarnation.unplaced += 1
