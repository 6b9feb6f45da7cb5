"""The sweep: the node that leads the catalog lets overridden streams return to the nodes that the ring names.

After a failover a stream is led elsewhere. When the ring's node is back, and has been well for a while, its streams return by
planned moves: one at a time, with a pause between them, pinned ones never. A stream that an operator sent back need not
wait for that while, and returns though it is pinned. A move that failed is tried again after the same while, so that nothing
moves to and fro with a node that is well by turns.
"""

from __future__ import annotations

from typing import NamedTuple

from waymaker_core.catalog.overrides import Override
from waymaker_core.cluster.liveness import Liveness
from waymaker_core.cluster.peer_messages import MoveWanted
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.model.types import StreamId
from waymaker_core.node.node import Node


class SweptMove(NamedTuple):
    """The move that the sweep has asked for. `until`: the moment at which it counts as failed."""

    stream_id: StreamId
    epoch: int
    primary: int
    to: int
    until: int


class Sweep:
    """The returns of streams, one at a time, while this node leads the catalog."""

    def __init__(self, node: Node, liveness: Liveness, settings: MemberSettings) -> None:
        self._node = node
        self._liveness = liveness
        self._settings = settings
        self._move: SweptMove | None = None
        self._next_at = 0
        self._retry_at: dict[StreamId, int] = {}

    def forget_moves(self) -> None:
        """Forget all that was asked for: this node leads the catalog no more."""
        self._move = None
        self._retry_at.clear()

    def wants(self, stream_id: int, epoch: int, to: int) -> bool:
        """Return True if a move is the one that is asked for, and is still wanted."""
        move = self._move
        if move is None or (move.stream_id, move.epoch, move.to) != (stream_id, epoch, to):
            return False
        return may_sweep(self._node, move.stream_id, to)

    def next_wish(self, now: int) -> tuple[int, MoveWanted] | None:
        """Return what to ask a primary for now, as the leader of the catalog: the next move, or the same one again."""
        if now < self._next_at:
            return None
        self._next_at = now + self._settings.sweep_ms
        move = self._move
        if move is not None and not self._is_over(now, move):
            return move.primary, MoveWanted(move.stream_id, move.epoch, move.to)
        self._move = move = self._choose(now)
        return None if move is None else (move.primary, MoveWanted(move.stream_id, move.epoch, move.to))

    def next_deadline(self) -> int:
        """Return the moment of the next look."""
        return self._next_at

    def _is_over(self, now: int, move: SweptMove) -> bool:
        conf = self._node.conf(move.stream_id)
        if conf is None or (conf.newest.epoch != move.epoch and conf.opened == conf.newest):
            return True
        if conf.newest.epoch == move.epoch and not may_sweep(self._node, move.stream_id, move.to):
            return True
        if now < move.until:
            return False
        self._retry_at[move.stream_id] = now + self._settings.settle_ms
        return True

    def _choose(self, now: int) -> SweptMove | None:
        self._retry_at = {each: at for each, at in self._retry_at.items() if at > now}
        for stream_id, override in self._node.overridden():
            if stream_id not in self._retry_at:
                move = self._move_for(now, stream_id, override)
                if move is not None:
                    return move
        return None

    def _move_for(self, now: int, stream_id: StreamId, override: Override) -> SweptMove | None:
        """Return the move that ends an override, if it is due."""
        node = self._node
        conf, owner = node.conf(stream_id), node.home_of(stream_id)
        if conf is None or conf.opened != conf.newest or owner not in conf.newest.replicas:
            return None
        if not node.may_move(stream_id) or not may_sweep(node, stream_id, owner):
            return None
        sent_back = node.returns_to(stream_id) == owner
        if not (self._liveness.is_well(now, owner) if sent_back else self._liveness.is_settled(now, owner)):
            return None
        return SweptMove(stream_id, override.epoch, override.claimant, owner, now + 2 * self._settings.move_ms)


def may_sweep(node: Node, stream_id: StreamId, to: int) -> bool:
    """Return True unless a stream is pinned, and was not sent back (rule `keep_pinned`)."""
    return not node.is_pinned(stream_id) or node.returns_to(stream_id) == to
