"""Liveness: which members were heard lately."""

from __future__ import annotations

from waymaker_core.cluster.settings import MemberSettings


class Liveness:
    """Notes on when each other member was heard."""

    def __init__(self, node_id: int, settings: MemberSettings, now: int) -> None:
        self._node_id = node_id
        self._settings = settings
        self._begun = now
        self._heard: dict[int, int] = {}

    def beat(self, now: int, sender: int) -> None:
        """Note a heartbeat."""
        self._heard[sender] = now

    def is_alive(self, now: int, node: int) -> bool:
        """Return True for a member that was heard lately, or might have been: nothing is known before a while has passed."""
        return node == self._node_id or now - self._heard.get(node, self._begun) < self._settings.suspect_ms

    def is_heard(self, now: int, node: int) -> bool:
        """Return True for this member, and for one that was heard lately for certain."""
        return node == self._node_id or (node in self._heard and self.is_alive(now, node))
