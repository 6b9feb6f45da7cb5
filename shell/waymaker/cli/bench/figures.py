"""Figures of one measurement: how many calls, messages and bytes in which time, and how long calls took.

Durations are counted in a histogram of fixed size, so a measurement of hours takes no more memory than one of seconds. A
percentile is at most 1.6 % above the truth; the greatest duration is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

_EXACT_BITS: Final = 7
"""Durations below 2 ** this have a slot each; above, each power of two has half as many."""
_HALF: Final = 1 << (_EXACT_BITS - 1)
_DURATION_BITS: Final = 64
NS: Final = 1_000_000_000


class Durations:
    """A histogram of durations in nanoseconds. Memory: 30 KiB, whatever is added."""

    __slots__ = ("count", "longest", "_slots")

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0
        self._slots = [0] * ((_DURATION_BITS - _EXACT_BITS + 2) * _HALF)

    def add(self, duration_ns: int) -> None:
        """Count a duration."""
        self.count += 1
        self.longest = max(self.longest, duration_ns)
        shift = max(duration_ns.bit_length() - _EXACT_BITS, 0)
        self._slots[shift * _HALF + (duration_ns >> shift)] += 1

    def percentile(self, percent: int) -> int:
        """Return a duration that so many of a hundred do not exceed; 0 where there are none."""
        wanted, seen = -(-self.count * percent // 100), 0
        for slot, count in enumerate(self._slots):
            seen += count
            if count and seen >= wanted:
                shift = max(slot // _HALF - 1, 0)
                return min(((slot - shift * _HALF + 1) << shift) - 1, self.longest)
        return 0


@dataclass(slots=True)
class Figures:
    """The figures of one kind of work until now. `messages` counts what was stored or read, `calls` what was waited for."""

    kind: str
    messages: int = 0
    bytes: int = 0
    elapsed_ns: int = 0
    interrupted: bool = False
    durations: Durations = field(default_factory=Durations)

    @property
    def calls(self) -> int:
        """Return how many calls were answered."""
        return self.durations.count

    def row(self) -> dict[str, Any]:
        """Return the figures as they are printed; where nothing was waited for there are no durations."""
        seconds = self.elapsed_ns / NS
        found = self.durations
        times = (found.percentile(50), found.percentile(99), found.longest) if found.count else (None,) * 3
        return {
            "kind": self.kind,
            "messages": self.messages,
            "calls": self.calls,
            "seconds": round(seconds, 3),
            "per_second": round(self.messages / seconds) if seconds else 0,
            "mb_per_second": round(self.bytes / seconds / 1e6, 3) if seconds else 0.0,
            **{
                f"{name}_ms": None if time_ns is None else round(time_ns / 1e6, 3)
                for name, time_ns in zip(("p50", "p99", "max"), times, strict=True)
            },
            "interrupted": self.interrupted,
        }
