"""Changes since the last checkpoint: the streams and catalog entries that the next one must write.

Filled by recovery and by every record that is applied; emptied by checkpoints.
"""

from __future__ import annotations

from waymaker_core.model.types import StreamId
from waymaker_core.node.stream_replica import StreamReplica


class Changes:
    """Everything that the last checkpoint does not hold."""

    __slots__ = ("replicas", "ended", "catalog", "dead_bytes", "adopted")

    def __init__(self) -> None:
        self.replicas: dict[StreamId, StreamReplica] = {}
        """Streams with records behind their snapshot, or with bodies in the journal."""
        self.ended: dict[StreamId, None] = {}
        """Streams that were deleted."""
        self.adopted: dict[StreamId, str] = {}
        """Streams whose last snapshot was adopted, with its file: garbage once a checkpoint holds a newer one."""
        self.catalog = False
        """True if the catalog has changed."""
        self.dead_bytes = 0
        """Bytes of the messages that were removed; until the next checkpoint they may take space on the disk."""
