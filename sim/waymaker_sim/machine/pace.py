"""The pace of a machine: how long its steps and disk operations take."""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_sim.kernel.events import US


@dataclass(slots=True)
class Pace:
    """The durations of operations; draws prefer the small end of every range."""

    write_ns: int = 20 * US
    sync_ns: int = 300 * US
    read_ns: int = 30 * US
    step_ns: int = 50 * US
    slow_per_million: int = 0
    """Operations (per million) that take a thousand times as long."""
    late_reads: int = 0
    """Answers and deliveries (per million) whose bodies a reader reads as late as that."""
