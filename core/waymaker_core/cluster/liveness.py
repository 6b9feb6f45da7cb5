"""Liveness: which members were heard lately, and which of them may be given streams."""

from __future__ import annotations

from waymaker_core.cluster.settings import MemberSettings


class Liveness:
    """Notes on when each other member was heard, since when without a pause, and what it said of itself."""

    def __init__(self, node_id: int, settings: MemberSettings, now: int) -> None:
        self._node_id = node_id
        self._settings = settings
        self._begun = now
        self._heard: dict[int, int] = {}
        self._well_since: dict[int, int] = {node_id: now}
        """By member that is well: since when it was heard without a pause, and said so."""
        self._declines: set[int] = set()
        """Members that take no streams: they are leaving, or their disk is stalled."""
        self._stalled: set[int] = set()

    def beat(self, now: int, sender: int, leaving: bool = False, stalled: bool = False) -> None:
        """Note a heartbeat, of this node too."""
        if not self.was_heard(now, sender) or leaving or stalled or sender in self._declines:
            self._well_since[sender] = now
        self._heard[sender] = now
        _note(self._declines, sender, leaving or stalled)
        _note(self._stalled, sender, stalled)

    def is_alive(self, now: int, node: int) -> bool:
        """Return True for a member that was heard lately, or might have been: nothing is known before a while has passed."""
        return node == self._node_id or now - self._heard.get(node, self._begun) < self._settings.suspect_ms

    def was_heard(self, now: int, node: int) -> bool:
        """Return True for this node, and for a member that was heard lately."""
        heard = self._heard.get(node)
        return node == self._node_id or (heard is not None and now - heard < self._settings.suspect_ms)

    def is_stalled(self, node: int) -> bool:
        """Return True for a member that said last that its disk is stalled."""
        return node in self._stalled

    def is_well(self, now: int, node: int) -> bool:
        """Return True for a member that was heard lately, and may be given streams."""
        return self.was_heard(now, node) and node not in self._declines

    def is_settled(self, now: int, node: int) -> bool:
        """Return True for a member that has been well for a while, without a pause (rule `return_when_settled`)."""
        return self.is_well(now, node) and now - self._well_since[node] >= self._settings.settle_ms


def _note(members: set[int], node: int, is_so: bool) -> None:
    if is_so:
        members.add(node)
    else:
        members.discard(node)
