"""The state of a simulated process."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The state of a process."""

    DOWN = "down"
    BOOTING = "booting"
    UP = "up"
    REFUSED = "refused"
    """It did not start on this disk."""
