"""The counts of what goes between this member and another one, by lane."""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.cluster.effects import Lane


@dataclass(slots=True, eq=False)
class LaneFigures:
    """The counts of one lane to and from one other member, since the start of this process."""

    node_id: int
    lane: Lane
    is_connected: bool = False
    """True if messages could be sent when the figures were read last."""
    sent_messages: int = 0
    sent_bytes: int = 0
    received_messages: int = 0
    received_bytes: int = 0
    dropped_unconnected: int = 0
    """Messages for which there was no connection."""
    dropped_full: int = 0
    """Messages for which the queue had no room."""
    connected: int = 0
    """Connections that were made to the other member."""
