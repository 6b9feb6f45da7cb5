"""Expiries: when messages end by age, as far as one observation says, so that nothing ends between two that are compared.

A clock that was ahead gives times that are reached late, so a wait for the greatest age is not enough. Retention removes a
message when its own time expires, or that of an older one at its subject. An observation has all these times.
"""

from __future__ import annotations

from waymaker_sim.clients.delivery_liveness import AGED_WITHIN_NS
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.machine.observations import Seen, SeenStream

CALM_MS = 20 * SECOND // MS
"""Time in which nothing expires while restarts are compared: several times what an audit and two restarts take."""
AGED_WITHIN_MS = AGED_WITHIN_NS // MS


def wait_ms(seen: Seen, wall_ms: int) -> int:
    """Return how long to wait before looking again; 0 where no message expires soon, and none may have a moment ago."""
    near = [
        due_ms
        for stream in seen.values()
        if isinstance(stream, SeenStream) and stream.config.max_age_ms
        for message in stream.messages
        if -AGED_WITHIN_MS < (due_ms := message.time_ms + stream.config.max_age_ms - wall_ms) < CALM_MS
    ]
    return max(near) + AGED_WITHIN_MS if near else 0
