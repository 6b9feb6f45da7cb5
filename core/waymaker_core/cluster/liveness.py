"""Liveness: which members were heard lately, and which of them have started anew."""

from __future__ import annotations

from waymaker_core.cluster.settings import MemberSettings


class Liveness:
    """Notes on when each other member was heard, and in which run it was then."""

    def __init__(self, node_id: int, settings: MemberSettings, now: int) -> None:
        self._node_id = node_id
        self._settings = settings
        self._begun = now
        self._heard: dict[int, int] = {}
        self._runs: dict[int, int] = {}

    def beat(self, now: int, sender: int, run: int) -> None:
        """Note a heartbeat."""
        self._heard[sender] = now
        self._runs[sender] = run

    def is_alive(self, now: int, node: int) -> bool:
        """Return True for a member that was heard lately, or might have been: nothing is known before a while has passed."""
        return node == self._node_id or now - self._heard.get(node, self._begun) < self._settings.suspect_ms
