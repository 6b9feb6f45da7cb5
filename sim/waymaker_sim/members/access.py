"""The clients' access to a cluster: several routes, over which all clients of a world make their calls.

It numbers calls and steps as one process does. The run of a step is the epoch in which its machine led the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from waymaker_core.api.authorize import stream_of
from waymaker_core.api.effects import Event
from waymaker_core.api.kv_requests import KvWatch
from waymaker_core.api.requests import Request, Subscribe, WatchStreams
from waymaker_core.model.types import Now, Token
from waymaker_core.node import Node, NodeConfig
from waymaker_core.node.calls import OF_CATALOG
from waymaker_sim.cluster.machines import Machines
from waymaker_sim.cluster.route import NEVER_NS, CallEnd, Route, RoutedCall
from waymaker_sim.machine.callers import Caller, ReceivedMessage, StepId
from waymaker_sim.machine.process_state import State
from waymaker_sim.members.primaries import Primaries

ROUTES = 4
CALLS_MAX = 48
"""Calls in flight at which clients make no more: without a leader, all of them go from member to member."""
SUBSCRIPTIONS = (Subscribe, WatchStreams, KvWatch)


class ClusterAccess:
    """Several routes to the members of one cluster."""

    moves = True

    def __init__(self, machines: Machines, primaries: Primaries) -> None:
        tape, network, processes = machines.tape, machines.network, machines.machines
        self._machines = machines
        self._primaries = primaries
        self._routes = [
            Route(-number, network, processes, tape.track(f"route {number}"), prompt=True)
            for number in range(1, ROUTES + 1)
        ]
        self._route = self._routes[0]
        """The route of the client that acts."""
        self._calls: dict[Token, tuple[Route, RoutedCall]] = {}
        self._tokens: dict[tuple[int, Token], Token] = {}
        """By machine and the token that it knows: the token of the client's call."""
        self._next_token = 1
        self.settled_ns = -1
        """Time when faults had stopped and streams took messages; negative before."""

    # ------------------------------------------------------------ what serves

    @property
    def config(self) -> NodeConfig:
        """Return the settings of a member."""
        return self._machines.machines[1].config

    @property
    def up_ns(self) -> int:
        """Return the time at which some member last began to lead a stream."""
        return self._primaries.changed_ns

    @property
    def paused_until_ns(self) -> int:
        """Return the present time as long as faults happen: then nothing need be done in time."""
        if self.settled_ns < 0:
            return self._machines.events.now_ns
        return max(self.settled_ns, self._primaries.changed_ns)

    @property
    def wall_max_ms(self) -> int:
        """Return the greatest wall clock that a member ever had."""
        return max(process.wall_max_ms for process in self._machines.machines.values())

    def now(self) -> Now:
        """Return the wall clock that is most behind."""
        return Now(0, min(process.now().wall_ms for process in self._machines.machines.values()))

    def serves(self) -> bool:
        """Return True unless too many calls are in flight; a route pauses where it finds no machine."""
        return len(self._calls) < CALLS_MAX

    def is_rotten(self) -> bool:
        """Return True if bits have flipped on a disk."""
        return any(process.is_rotten() for process in self._machines.machines.values())

    def run_of(self, stream: str) -> int:
        """Return the newest epoch in which a stream was led."""
        return self._primaries.newest_epoch(stream)

    def waiting(self) -> int:
        """Return the number of calls without their last notification."""
        return len(self._calls)

    # ------------------------------------------------------------ calls

    def act_as(self, number: int) -> None:
        """Let calls from now on go over the route of a client."""
        self._route = self._routes[number % ROUTES]

    def call(self, request: Request, caller: Caller) -> Token | None:
        """Make a call, or begin a subscription; None if too many are in flight."""
        if not self.serves():
            return None
        token = Token(self._next_token)
        self._next_token += 1
        route, stream = self._route, _led_for(request)
        done: Callable[[CallEnd], None] = partial(self._ended, token, stream, caller)
        if isinstance(request, SUBSCRIPTIONS):
            call = route.subscribe(request, _Sink(self, token, stream, caller), done, stream=stream)
        else:
            call = route.call(request, done, stream=stream, patience_ns=NEVER_NS - self._machines.events.now_ns)
        call.client = caller
        self._calls[token] = route, call
        return token

    def cancel(self, token: Token) -> None:
        """Cancel a call, whose caller gets no more notifications."""
        if token in self._calls:
            route, call = self._calls.pop(token)
            route.cancel(call)

    def credit(self, token: Token, messages: int, byte_count: int) -> None:
        """Grant a subscriber's credit."""
        if token in self._calls:
            route, call = self._calls[token]
            route.credit(call, messages, byte_count)

    def report(self, token: Token, count: int, back: list[tuple[int, int]]) -> None:
        """Report how many messages a subscriber is done with, and which it gives back."""
        if token in self._calls:
            route, call = self._calls[token]
            route.report(call, count, back)

    def pause_primary(self, stream: str, ns: int) -> bool:
        """Stop the machine that led a stream last; False if it is not up, or if too many would be in trouble then."""
        process = self._machines.machines.get(self._primaries.newest_primary(stream))
        if process is None or process.state is not State.UP or not self._machines.may_trouble([process.number]):
            return False
        process.pause(ns)
        return True

    def node_for(self, stream: str) -> Node | None:
        """Return the node of the machine that led a stream last, as long as it runs."""
        process = self._machines.machines.get(self._primaries.newest_primary(stream))
        return None if process is None else process.node

    def client_token(self, machine: int, token: Token) -> Token | None:
        """Return the client's token of a call that a machine has answered, or sent something to."""
        return self._tokens.get((machine, token))

    # ------------------------------------------------------------ what comes back

    def _ended(self, token: Token, stream: str, caller: Caller, end: CallEnd) -> None:
        if token not in self._calls:
            return  # cancelled
        route, call = self._calls.pop(token)
        self._route = route
        if end.over is not None:
            caller.ended(end.over)
        elif end.answer is None:
            caller.lost()
        else:
            assert end.step_id is not None
            self.note_token(end.machine, call, token)
            caller.replied(end.answer, end.got, self.step_id(end.machine, stream, end.step_id))

    def note_token(self, machine: int, call: RoutedCall, token: Token) -> None:
        """Note by which token a machine knows a call."""
        if call.token is not None:
            self._tokens[machine, call.token] = token

    def step_id(self, machine: int, stream: str, step_id: StepId) -> StepId:
        """Return the id of a step whose run is the epoch in which the machine led a stream."""
        return step_id._replace(run=self._primaries.epoch_of(machine, stream))

    def arrived(self, token: Token, machine: int) -> None:
        """Note that something of a subscription has arrived."""
        route, call = self._calls[token]
        self._route = route
        self.note_token(machine, call, token)


class _Sink:
    """The receiver of a subscription, as its route knows it."""

    def __init__(self, access: ClusterAccess, token: Token, stream: str, caller: Caller) -> None:
        self._access = access
        self._token = token
        self._stream = stream
        self._caller = caller

    def delivered(self, got: list[ReceivedMessage], step_id: StepId, machine: int) -> None:
        """Receive messages from a machine."""
        self._access.arrived(self._token, machine)
        self._caller.delivered(got, self._access.step_id(machine, self._stream, step_id))

    def notified(self, event: Event, machine: int) -> None:
        """Receive an event from a machine."""
        self._access.arrived(self._token, machine)
        self._caller.notified(event)


def _led_for(request: Any) -> str:
    """Return the stream whose leader answers a request; "" for the catalog's."""
    return "" if isinstance(request, OF_CATALOG) else stream_of(request)
