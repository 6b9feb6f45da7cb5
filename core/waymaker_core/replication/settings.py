"""Settings of replication: times, and a bound on everything that could grow. All members should have the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReplicationSettings:
    """Times in milliseconds of a monotonic clock, and bounds in bytes, for one stream."""

    retry_ms: int = 200
    """The time after which an unanswered message is sent again."""
    retry_max_ms: int = 1_600
    """A follower that answers nothing is asked twice as late each time, down to once in this time."""
    commit_note_ms: int = 100
    """The time after which a commit goes to a follower that nothing else is sent to."""
    append_bytes_max: int = 256 * _KIB
    """Bound of one append or donation; a single record may be larger."""
    catch_up_bytes_max: int = 512 * _KIB
    """Bound of the same for a follower that gets records from the journal: no more is read before it acknowledges."""
    window_bytes_max: int = 2 * _MIB
    """Bound of what is on its way to one follower: sent, and not acknowledged."""
