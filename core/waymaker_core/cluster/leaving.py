"""Leaving: an orderly stop of a member gives its streams and the catalog away first, so that its callers wait for moments only.

The node's own drain begins when nothing is left to give away, or at a deadline. A stream with one replica stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final

from waymaker_core.cluster.liveness import Liveness
from waymaker_core.cluster.moves import NEVER, Moves
from waymaker_core.cluster.replicas import Replicas
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.node.node import Node

LOOK_MS: Final = 20
"""The time between two looks at what is left."""


class Stage(Enum):
    """A stage of a member's end. Each one follows the one above it."""

    STAYING = 1
    """No stop was asked for."""
    GIVING_AWAY = 2
    """Streams are given away."""
    HANDING_OVER = 3
    """Another member is to lead the catalog."""
    LEFT = 4
    """Nothing is left to give away: the node drains."""


class Leaving:
    """The steps of a member that stops, until its node drains."""

    def __init__(
        self, node: Node, replicas: Replicas, moves: Moves, liveness: Liveness, settings: MemberSettings
    ) -> None:
        self._node = node
        self._replicas = replicas
        self._moves = moves
        self._liveness = liveness
        self._settings = settings
        self.stage = Stage.STAYING
        self._deadline = 0
        self._look_at = 0
        self._claimed: dict[int, int] = {}
        """Streams that are on their way to others, each with the epoch in which this node led it."""

    def begin_to_leave(self, now: int) -> None:
        """Begin to give everything away."""
        if self.stage is Stage.STAYING:
            own = self._node.config.node_id
            others = [node for node in self._node.config.members if node != own and self._liveness.is_well(now, node)]
            self.stage = Stage.GIVING_AWAY if others else Stage.LEFT
            self._deadline = now + self._settings.leave_ms
            self._look_at = now

    def leave_on(self, now: int, leads_catalog: bool, leader: int) -> bool:
        """Take the next steps. Return True at the moment at which the catalog is to be handed over."""
        if self.stage is Stage.GIVING_AWAY and now >= self._look_at:
            self._look_at = now + LOOK_MS
            if now < self._deadline and (self._move_some(now) or (leads_catalog and self._any_unopened())):
                return False
            self.stage = Stage.HANDING_OVER
            self._deadline = now + self._settings.hand_over_ms
            return leads_catalog
        if self.stage is Stage.HANDING_OVER:
            self._look_at = now + LOOK_MS
            led_elsewhere = not leads_catalog and leader not in (0, self._node.config.node_id)
            if led_elsewhere or now >= self._deadline:
                self.stage = Stage.LEFT
        return False

    def next_deadline(self) -> int:
        """Return the moment of the next look."""
        return self._look_at if self.stage in (Stage.GIVING_AWAY, Stage.HANDING_OVER) else NEVER

    def _move_some(self, now: int) -> bool:
        """Begin moves, not too many at once; return True while there is something left to move."""
        left = len(self._moves) > 0
        for stream_id, epoch, to in self._movable(now):
            left = True
            if len(self._moves) >= self._settings.moves_max:
                break
            self._moves.begin_move(now, stream_id, epoch, to)
            if stream_id in self._moves:
                self._claimed[stream_id] = epoch
        return left

    def _movable(self, now: int) -> Iterator[tuple[int, int, int]]:
        """Yield each stream of this node that another one can lead: its id, the epoch, and that node."""
        own = self._node.config.node_id
        for stream_id, replica in list(self._replicas.items()):
            conf = replica.conf
            if conf is None or conf.newest.primary != own or stream_id in self._moves:
                continue
            epoch = conf.newest.epoch
            if not self._node.may_move(stream_id) or self._moves.failed.get(stream_id) == epoch:
                continue
            others = [seat.node for seat in conf.newest.replicas if seat.node != own]
            well = [node for node in others if self._liveness.is_well(now, node)]
            if well:
                yield stream_id, epoch, max(well, key=lambda node: (replica.matched_by(node), -node))

    def _any_unopened(self) -> bool:
        """Return True while the new primary of a stream that was moved is not open: the catalog's leader has to record it."""
        for stream_id, epoch in list(self._claimed.items()):
            conf = self._node.conf(stream_id)
            given_up = conf is not None and conf.newest.epoch == epoch and stream_id not in self._moves
            if conf is None or given_up or (conf.newest.epoch != epoch and conf.opened == conf.newest):
                del self._claimed[stream_id]
        return bool(self._claimed)
