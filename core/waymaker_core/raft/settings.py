"""Settings of the group: times, and a bound on everything that could grow. All members should have the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """Times in milliseconds of a member's monotonic clock, and bounds in bytes and entries."""

    election_ms: int = 500
    """A follower that hears no leader for this long, or up to twice as long by lot, campaigns."""
    heartbeat_ms: int = 100
    append_entries_max: int = 1024
    append_bytes_max: int = 256 * _KIB
    """Bounds of one append; a single entry may be larger than the bytes."""
    window_entries_max: int = 4096
    window_bytes_max: int = 2 * _MIB
    """Bounds of what is on its way to one follower: sent, and not reported durable."""
    entry_bytes_max: int = _MIB
    uncommitted_bytes_max: int = 8 * _MIB
    """A leader with more refuses proposals."""
    log_bytes_max: int = 64 * _MIB
    """A leader's log with more takes no data, and a follower's with twice as much no entries, until a snapshot releases some.

    A snapshot is wanted at half of it at the latest, and what it covers keeps a quarter at most.
    """
    snapshot_after_entries: int = 10_000
    snapshot_after_bytes: int = 16 * _MIB
    """Applied entries behind the last snapshot, from which on a new one is wanted."""
    keep_entries: int = 1_000
    """Entries before a snapshot that stay, so that a slow follower needs no snapshot."""
    snapshot_ms: int = 60_000
    """A snapshot that was sent and not reported durable for so long is given up."""
    promote_lag_max: int = 100
    """Entries that a learner may lack when it is promoted."""
    reads_max: int = 10_000
    """Reads that wait for a confirmation."""
    writes_max: int = 1_024
    """Writes that wait for the disk; with more a member hears no messages."""
    held_max: int = 256
    """Messages that wait for a term or vote to become durable; further ones are dropped, as a network may."""
