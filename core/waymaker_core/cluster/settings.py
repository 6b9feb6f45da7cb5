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
    raft: RaftSettings = field(default_factory=RaftSettings)
    replication: ReplicationSettings = field(default_factory=ReplicationSettings)
