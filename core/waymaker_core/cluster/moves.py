"""Planned moves: a primary gives a stream to another replica, so that callers wait for a moment, and no outcome is in doubt.

The primary first waits until the other replica answers, and has nearly all. Then it drains the stream: calls wait or are
refused, its readers end, and what they hold is logged. When the other replica has the whole log, committed, it asks for the
claim. All the rest is a claim as any other; the calls that wait go on when the new primary's epoch is open.

A move is never needed for safety: a claim fences whatever its primary does. So each one ends at a deadline, and the primary
serves on.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.api.inputs import Call, PrepareMove
from waymaker_core.cluster.held_calls import HeldCalls
from waymaker_core.cluster.peer_messages import MoveReady, MoveWanted
from waymaker_core.cluster.replicas import Replicas
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.node.node import Node
from waymaker_core.replication.replica import Replica
from waymaker_core.replication.state import Phase

NEVER: Final = 1 << 62
IN_MOVE: Final = Refusal(
    Status.UNAVAILABLE, "the stream is moving to another node; try again at once", Outcome.NOT_APPLIED
)


class Move:
    """One stream on its way to another replica."""

    __slots__ = ("epoch", "to", "deadline", "answered", "draining", "logged", "ask_at", "claimed")

    def __init__(self, epoch: int, to: int, deadline: int) -> None:
        self.epoch = epoch
        self.to = to
        self.deadline = deadline
        self.answered = False
        """True once the other replica's node has answered."""
        self.draining = False
        """True from the moment on at which no call is admitted any more."""
        self.logged = False
        """True once all is logged that readers hold."""
        self.ask_at = 0
        """The moment at which the other node, and later the claim, is asked for again."""
        self.claimed = False
        """True once this node knows of the claim."""


class Moves:
    """The moves that this node, as a primary, is making. `node_inputs` and `wishes` are what it wants."""

    def __init__(self, node: Node, replicas: Replicas, settings: MemberSettings) -> None:
        self._node = node
        self._replicas = replicas
        self._settings = settings
        self._moves: dict[int, Move] = {}
        self._now = 0
        self.failed: dict[int, int] = {}
        """By stream: the epoch of its claim in which a move came to its deadline."""
        self.held = HeldCalls(settings)
        self.released: list[Call] = []
        """Calls that waited for a move which has ended."""
        self.node_inputs: list[PrepareMove] = []
        self.out: list[tuple[int, MoveWanted]] = []
        """Questions to other nodes, whether they are there."""
        self.wishes: list[MoveReady] = []

    def __len__(self) -> int:
        return len(self._moves)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._moves

    def begin_move(self, now: int, stream_id: int, epoch: int, to: int) -> None:
        """Begin to move a stream that this node leads in an epoch, unless that is under way."""
        if stream_id in self._moves or not self._leads_in(stream_id, epoch) or not self._node.may_move(stream_id):
            return
        conf = self._node.conf(stream_id)
        assert conf is not None, "it is led here"
        if to in conf.newest.replicas and to != self._node.config.node_id:
            self._moves[stream_id] = Move(epoch, to, now + self._settings.move_ms)

    def note_answer(self, sender: int, answer: MoveReady) -> None:
        """Note that the node which a stream is to move to has answered."""
        move = self._moves.get(answer.stream_id)
        if (
            move is not None
            and (move.epoch, move.to, sender) == (answer.epoch, answer.to, sender)
            and sender == move.to
        ):
            move.answered = True

    def is_draining(self, stream_id: int) -> bool:
        """Return True while no call to a stream is admitted, for another node is about to lead it."""
        move = self._moves.get(stream_id)
        return move is not None and move.draining

    def hold_call(self, stream_id: int, call: Call) -> Refusal | None:
        """Let a call to a stream that is drained wait for the end of the move, or return why it may not."""
        return None if self.held.hold_call(stream_id, call) else IN_MOVE

    def target(self, stream_id: int) -> int:
        """Return the node that a stream is moving to, or 0."""
        move = self._moves.get(stream_id)
        return 0 if move is None else move.to

    def go_on(self, now: int) -> None:
        """Take the next steps of all moves; end those that are done, and those that take too long."""
        self._now = now
        if not self._moves:
            return
        for stream_id, move in list(self._moves.items()):
            if self._is_over(stream_id, move):
                self._end(stream_id)
            elif now >= move.deadline:
                if not move.claimed:
                    self.failed = {each: epoch for each, epoch in self.failed.items() if self._leads_in(each, epoch)}
                    self.failed[stream_id] = move.epoch
                self._end(stream_id)
            elif move.claimed or not self._leads_in(stream_id, move.epoch):
                pass  # the new primary is on its way to open its epoch
            elif not move.draining:
                self._drain_if_near(now, stream_id, move)
            elif not move.logged:
                self._log_what_is_held(stream_id, move)
            elif now >= move.ask_at and has_all(self._node, self._replicas.replica_of(stream_id), stream_id, move.to):
                move.ask_at = now + self._settings.wish_ms
                self.wishes.append(MoveReady(stream_id, move.epoch, move.to))

    def _is_over(self, stream_id: int, move: Move) -> bool:
        """Return True once another claim is open, or where nothing can come of a move any more."""
        conf = self._node.conf(stream_id)
        if conf is None:
            return True
        move.claimed = conf.newest.epoch != move.epoch
        if not move.draining:
            return not self._leads_in(stream_id, move.epoch)
        return move.claimed and conf.opened == conf.newest

    def _end(self, stream_id: int) -> None:
        del self._moves[stream_id]
        self.released += self.held.take_calls(stream_id)

    def next_deadline(self) -> int:
        """Return the moment at which a move ends, or is asked for again."""
        if not self._moves:
            return NEVER
        return min(self._next_of(move) for move in self._moves.values())

    def _next_of(self, move: Move) -> int:
        """Return the deadline of one move. A question that is overdue waits for what an input brings."""
        return move.ask_at if not move.claimed and self._now < move.ask_at < move.deadline else move.deadline

    def _drain_if_near(self, now: int, stream_id: int, move: Move) -> None:
        if not has_answered(move):
            if now >= move.ask_at:
                move.ask_at = now + self._settings.wish_ms
                self.out.append((move.to, MoveWanted(stream_id, move.epoch, move.to)))
            return
        replica = self._replicas.replica_of(stream_id)
        if is_near(self._node, replica, stream_id, move.to, self._settings.move_lag_max):
            move.draining, move.ask_at = True, now
            move.deadline = now + self._settings.drain_ms
            self.node_inputs.append(PrepareMove(stream_id))

    def _log_what_is_held(self, stream_id: int, move: Move) -> None:
        """Log what readers hold, when no delivery waits for a confirmation any more: one that left later would be unknown."""
        if not self._node.holds_deliveries(stream_id):
            move.logged = True
            self.node_inputs.append(PrepareMove(stream_id))

    def _leads_in(self, stream_id: int, epoch: int) -> bool:
        """Return True if this node leads a stream in the epoch of its newest claim."""
        replica, conf = self._replicas.replica_of(stream_id), self._node.conf(stream_id)
        if replica is None or conf is None or conf.newest.epoch != epoch:
            return False
        return replica.leads and replica.phase is Phase.OPEN


def has_answered(move: Move) -> bool:
    """Return True if the other node was there a moment ago: else a drain could last (rule `ask_the_other_first`)."""
    return move.answered


def is_near(node: Node, replica: Replica | None, stream_id: int, to: int, lag_max: int) -> bool:
    """Return True if another replica lacks so little of a log that a drain ends soon (rule `drain_when_near`)."""
    match = -1 if replica is None else replica.matched_by(to)
    return match >= 0 and node.log_end(stream_id) - match <= lag_max


def has_all(node: Node, replica: Replica | None, stream_id: int, to: int) -> bool:
    """Return True if another replica has the whole log, and all of it is committed (rule `move_whole_log`)."""
    if replica is None:
        return False
    end = node.log_end(stream_id)
    return replica.matched_by(to) >= end and replica.committed >= end
