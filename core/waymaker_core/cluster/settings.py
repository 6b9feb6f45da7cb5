"""Settings of a member: times in milliseconds, which all members should share."""

from __future__ import annotations

from dataclasses import dataclass, field

from waymaker_core.raft.settings import RaftSettings
from waymaker_core.replication.settings import ReplicationSettings


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """Times and bounds of one member of a cluster."""

    beat_ms: int = 200
    """The time between two heartbeats to each other member."""
    suspect_ms: int = 1_000
    """The silence after which another member counts as dead, and its streams are claimed for others."""
    wish_ms: int = 200
    """The time after which a wish for the catalog's leader is repeated."""
    move_ms: int = 2_000
    """The longest time in which a stream may wait for another replica to have nearly all, before it is moved there."""
    move_lag_max: int = 256
    """The records that a replica may lack when the stream is drained for it."""
    drain_ms: int = 500
    """The longest time without calls to a stream that is moved; after it the old primary serves on."""
    held_calls_max: int = 1_000
    """Bound of the calls that wait for the end of a move."""
    held_bytes_max: int = 16 * 1024 * 1024
    """Bound of the message bytes in them."""
    moves_max: int = 32
    """The streams that a member which leaves moves at once."""
    sweep_ms: int = 250
    """The time between two returns of overridden streams."""
    settle_ms: int = 10_000
    """The time for which a member has to be well before streams return to it."""
    leave_ms: int = 5_000
    """The longest time in which a member that stops gives its streams away."""
    hand_over_ms: int = 1_000
    """The longest time in which it gives the catalog away, after that."""
    stall_ms: int = 2_000
    """The time without any progress after which a disk, or the majority of a stream, counts as stalled."""
    figures_ms: int = 1_000
    """The time between two additions of this node's figures, for the other members."""
    raft: RaftSettings = field(default_factory=RaftSettings)
    replication: ReplicationSettings = field(default_factory=ReplicationSettings)
