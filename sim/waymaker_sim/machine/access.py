"""Access: the way of all clients to what serves them, which is one process, or the members of a cluster.

Both answer in the moment in which an answer leaves the server. They differ in what happens before: a call of a cluster is on
its way for a while, may be sent from one member to another, and is lost with its connection.
"""

from __future__ import annotations

from typing import Protocol

from waymaker_core.api.requests import Request
from waymaker_core.model.types import Now, Token
from waymaker_core.node import Node, NodeConfig
from waymaker_sim.machine.callers import Caller
from waymaker_sim.machine.disk import SimDisk
from waymaker_sim.machine.process_state import State


class Access(Protocol):
    """A client's access to the server."""

    @property
    def config(self) -> NodeConfig:
        """Return the settings of a node that serves."""

    @property
    def moves(self) -> bool:
        """Return True if another node may lead a stream by now: a call may arrive late, and an older leader may answer."""

    @property
    def up_ns(self) -> int:
        """Return the time since which the server serves without an interruption, as far as is known."""

    @property
    def paused_until_ns(self) -> int:
        """Return the time until which nothing need be done in time."""

    @property
    def wall_max_ms(self) -> int:
        """Return the greatest wall clock that a server had when `now` was called."""

    def now(self) -> Now:
        """Return the clocks of the server; of several wall clocks the one that is most behind."""

    def serves(self) -> bool:
        """Return False if a call would surely reach no server now."""

    def is_rotten(self) -> bool:
        """Return True if bits have flipped on a disk."""

    def run_of(self, stream: str) -> int:
        """Return the number that step ids have at present for answers about a stream."""

    def call(self, request: Request, caller: Caller) -> Token | None:
        """Make a call; None, without any effect, if nothing serves."""

    def cancel(self, token: Token) -> None:
        """Cancel a call, whose caller then gets no more notifications."""

    def credit(self, token: Token, messages: int, byte_count: int) -> None:
        """Grant a subscriber's credit."""

    def report(self, token: Token, count: int, back: list[tuple[int, int]]) -> None:
        """Report how many of the messages that it was sent a subscriber is done with, and which it gives back."""

    def pause_primary(self, stream: str, ns: int) -> bool:
        """Stop the process that leads a stream for a while; return False if none is up, or if it may not stop now."""

    def node_for(self, stream: str) -> Node | None:
        """Return the node that leads a stream, or led it last, as long as it runs: for figures that no call asks for."""

    def waiting(self) -> int:
        """Return the number of calls without their last notification."""


class Alone:
    """The part of an access that one process answers alike at all times: nothing moves to another one."""

    node: Node | None
    disk: SimDisk
    run: int
    state: State

    @property
    def moves(self) -> bool:
        """Return False: no other process leads what this one does."""
        return False

    def serves(self) -> bool:
        """Return True if a node runs."""
        return self.node is not None

    def is_rotten(self) -> bool:
        """Return True if bits have flipped on the disk."""
        return bool(self.disk.rotten)

    def run_of(self, stream: str) -> int:
        """Return the number of this run of the process, whichever stream it is about."""
        return self.run

    def node_for(self, stream: str) -> Node | None:
        """Return the node while it runs, whichever stream it is about."""
        return self.node

    def pause(self, for_ns: int) -> None:
        """Stop for a while: nothing is received or done meanwhile."""
        raise NotImplementedError

    def pause_primary(self, stream: str, ns: int) -> bool:
        """Stop for a while if it is up, whichever stream it is about."""
        if self.state is not State.UP:
            return False
        self.pause(ns)
        return True
