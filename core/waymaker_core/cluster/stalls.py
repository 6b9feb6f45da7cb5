"""Stalls: a primary whose disk answers no more, or that no majority answers, admits no calls, and says so.

What it admitted would wait without an end, and its clients with it. Both are seen by what is outstanding and makes no progress.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.cluster.replicas import Replicas
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.node.node import Node

MS: Final = 1_000_000
DISK_STALLED: Final = Refusal(
    Status.UNAVAILABLE, "the disk of this node does not answer; another node takes over", Outcome.NOT_APPLIED
)
NO_MAJORITY: Final = Refusal(
    Status.UNAVAILABLE, "no majority of the stream's replicas answers; try again later", Outcome.NOT_APPLIED
)


class Stalls:
    """Notes on what is outstanding on this node, renewed with each look."""

    def __init__(self, node: Node, replicas: Replicas, settings: MemberSettings) -> None:
        self._node = node
        self._replicas = replicas
        self._settings = settings
        self._waiting: dict[int, tuple[tuple[int, int], int]] = {}
        """By stream with something outstanding: how far it came, and since when it is no further."""
        self._now = 0
        self.disk_stalled = False
        """True while one write has taken too long."""

    def look(self, now: int) -> None:
        """Look at the disk, and at each stream that is led here."""
        self._now = now
        since = self._node.writing_since()
        self.disk_stalled = since is not None and now - since // MS >= self._settings.stall_ms
        waiting: dict[int, tuple[tuple[int, int], int]] = {}
        for stream_id, replica in self._replicas.led.items():
            progress = replica.outstanding(self._node.log_end(stream_id))
            if progress is not None:
                known = self._waiting.get(stream_id)
                waiting[stream_id] = known if known is not None and known[0] == progress else (progress, now)
        self._waiting = waiting

    def refusal_for(self, stream_id: int) -> Refusal | None:
        """Return why no call about a log is admitted; None where calls are."""
        if self.disk_stalled:
            return DISK_STALLED
        known = self._waiting.get(stream_id)
        return NO_MAJORITY if known is not None and self._now - known[1] >= self._settings.stall_ms else None
