"""The route of a client: its view of the machines, one of which new calls go to at a time.

A call is answered, redirected or lost. The route follows redirects, a bounded number in a row. After a pause it goes to another
machine, where it meets one that does not serve. It sends a call again only where that is safe: where no machine can have begun
it, or where its client says that it may be repeated. For each call it knows whether its outcome is unknown. A subscription ends
with its connection, and its client begins another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import Messages
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_core.model.types import Token
from waymaker_sim.cluster.connections import Connection, Phase
from waymaker_sim.cluster.network import Network
from waymaker_sim.kernel.copying import copy_of
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.callers import Caller, ReceivedMessage, StepId
from waymaker_sim.machine.process import Process
from waymaker_sim.machine.process_state import State

HOPS_MAX = 4
"""Redirects that a call follows in a row, before its client pauses."""
PATIENCE_NS = 10 * SECOND
"""Time after which a client gives a call up."""
NEVER_NS = 1 << 62
"""Time at which a client gives a subscription up."""


class CallEnd(NamedTuple):
    """The end of a call, or of a subscription. Without an answer or `over` it is lost; `unknown`: it may have happened."""

    answer: Answer | Refusal | None
    got: list[ReceivedMessage] | None
    unknown: bool
    """True if the call may have had its effect or not, or may have it later."""
    machine: int
    step_id: StepId | None
    """The step that decided the answer."""
    over: End | None = None
    """The end that a machine gave a subscription."""


class Sink(Protocol):
    """The receiver of a subscription or watch."""

    def delivered(self, got: list[ReceivedMessage], step_id: StepId, machine: int) -> None:
        """Receive messages from a machine."""

    def notified(self, event: Event, machine: int) -> None:
        """Receive an event from a machine."""


@dataclass(slots=True, eq=False)
class RoutedCall:
    """One call on its way, perhaps over several machines."""

    request: Any
    done: Callable[[CallEnd], None]
    repeatable: bool
    stream: str
    give_up_ns: int
    sink: Sink | None = None
    """The receiver of what comes before the end of a subscription."""
    credit: tuple[int, int] = (0, 0)
    """Messages and bytes that were granted so far. All of it is granted with a request that is sent again elsewhere."""
    doubt: bool = False
    """True if an attempt was lost that may have had its effect."""
    sent: bool = False
    """True while an attempt may be with a machine."""
    attempt: int = 0
    """Number of the attempt: what an earlier one brings is late."""
    hops: int = 0
    ended: bool = False
    way: _Way | None = None
    """The connection on which the last attempt was sent."""
    token: Token | None = None
    """The token by which the machine of that attempt knows it."""
    client: Caller | None = None
    """The client behind it, for timelines."""


@dataclass(slots=True, eq=False)
class _Way:
    """One connection of a route, with the calls that wait for it, and those that were sent on it."""

    machine: int
    connection: Connection | None = None
    waiting: list[RoutedCall] = field(default_factory=list)
    sent: dict[RoutedCall, int] = field(default_factory=dict)
    """Calls without an answer, with the number of the attempt."""
    tokens: dict[Token, RoutedCall] = field(default_factory=dict)
    """Calls that the machine has, by its tokens."""


class Route:
    """One client's way to the machines. Its `number` is a negative one, as an endpoint of the network."""

    def __init__(
        self, number: int, network: Network, machines: Mapping[int, Process], track: Track, *, prompt: bool = False
    ) -> None:
        """Make a route. `prompt`: an answer arrives in the moment in which it leaves, or is lost with its connection.

        So what clients see has the order in which machines decided it, and their checks can be exact.
        """
        self.number = number
        self.prompt = prompt
        self.network = network
        self.machines = machines
        self.track = track
        self.at = track.pick("first machine", list(machines))
        """The machine that calls go to, where no redirect has told another."""
        self.open_calls: dict[RoutedCall, None] = {}
        self._known: dict[str, tuple[int, int]] = {}
        """By stream: the newest epoch that a redirect told, and the machine that leads in it."""
        self._way: _Way | None = None
        """The connection of the last call."""
        self._ways: dict[int, _Way] = {}
        """All connections by machine: those before the last one stay until their calls have ended."""
        network.attach_client(number)

    # ------------------------------------------------------------ calls

    def call(
        self,
        request: Any,
        done: Callable[[CallEnd], None],
        *,
        stream: str = "",
        repeatable: bool = False,
        patience_ns: int = PATIENCE_NS,
    ) -> RoutedCall:
        """Make a call. `done` is called once, with its end. `repeatable`: sending it twice does no harm."""
        events = self.network.events
        call = RoutedCall(request, done, repeatable, stream, events.now_ns + patience_ns)
        self.open_calls[call] = None
        events.at(call.give_up_ns, partial(self._give_up, call))
        self._attempt(call)
        return call

    def subscribe(self, request: Any, sink: Sink, done: Callable[[CallEnd], None], *, stream: str = "") -> RoutedCall:
        """Begin a subscription or watch. `done` is called once, when it is over or its connection has broken."""
        call = RoutedCall(request, done, False, stream, NEVER_NS, sink)
        self.open_calls[call] = None
        self._attempt(call)
        return call

    def credit(self, call: RoutedCall, messages: int, byte_count: int) -> None:
        """Grant a subscription credit, which arrives later, or never if its connection breaks."""
        call.credit = call.credit[0] + messages, call.credit[1] + byte_count
        if call.sent:
            self._say(call, lambda process, token: process.credit(token, messages, byte_count))

    def report(self, call: RoutedCall, count: int, back: list[tuple[int, int]]) -> None:
        """Report how many messages a subscription is done with, and which it gives back."""
        self._say(call, lambda process, token: process.report(token, count, back))

    def cancel(self, call: RoutedCall) -> None:
        """Give a call or subscription up; its end comes at once."""
        self._give_up(call)

    def _say(self, call: RoutedCall, act: Callable[[Process, Token], None]) -> None:
        """Let a machine hear something about a call that it has."""
        way = call.way
        if call.sent and way is not None and way.connection is not None:
            way.connection.send(64, partial(self._said, way, call, act))

    def _said(self, way: _Way, call: RoutedCall, act: Callable[[Process, Token], None]) -> None:
        for token in [token for token, each in way.tokens.items() if each is call]:
            act(self.machines[way.machine], token)

    def _attempt(self, call: RoutedCall) -> None:
        if call.ended:
            return
        machine = self._known.get(call.stream, (0, self.at))[1]
        before, way = self._way, self._ways.get(machine)
        if way is None:
            way = self._connect(machine)
        if before is not way:
            self._way = way
            if before is not None:
                self.network.mark("client changed the machine")
                self._close_if_idle(before)
        assert way.connection is not None
        if way.connection.phase is Phase.OPEN:
            self._send(way, call)
        else:
            way.waiting.append(call)

    def _connect(self, machine: int) -> _Way:
        way = self._ways[machine] = _Way(machine)
        process = self.machines[machine]
        way.connection = Connection(
            self.network,
            self.number,
            machine,
            lambda: process.state is State.UP,
            partial(self._opened, way),
            partial(self._broken, way),
            partial(self._gone, way),
        )
        return way

    def _close_if_idle(self, way: _Way) -> None:
        if way is not self._way and not way.sent and not way.waiting and way.connection is not None:
            way.connection.close()
            self._forget(way)

    def _forget(self, way: _Way) -> None:
        if self._ways.get(way.machine) is way:
            del self._ways[way.machine]
        if self._way is way:
            self._way = None

    def _opened(self, way: _Way) -> None:
        waiting, way.waiting = way.waiting, []
        for call in waiting:
            if not call.ended:
                self._send(way, call)
        self._close_if_idle(way)

    def _send(self, way: _Way, call: RoutedCall) -> None:
        assert way.connection is not None
        call.attempt += 1
        call.sent, call.way = True, way
        way.sent[call] = call.attempt
        request = copy_of(call.request)
        way.connection.send(_size(request), partial(self._reach, way, call, call.attempt, request, call.credit))

    def _reach(self, way: _Way, call: RoutedCall, attempt: int, request: Any, credit: tuple[int, int]) -> None:
        """Let a request arrive at its machine, with the credit that was granted before it was sent."""
        caller = _RouteCaller(self, way, call, attempt)
        token = self.machines[way.machine].call(request, caller)
        assert token is not None and way.connection is not None, "a connection outlived its machine"
        caller.token, way.tokens[token] = token, call
        if attempt == call.attempt:
            call.token = token
        if credit[0]:
            self.machines[way.machine].credit(token, *credit)

    # ------------------------------------------------------------ what comes back

    def answered(self, way: _Way, call: RoutedCall, attempt: int, end: CallEnd) -> None:
        """Take an answer that has arrived."""
        if not self._taken(way, call, attempt):
            return
        answer = end.answer
        if (
            isinstance(answer, Refusal)
            and answer.status is Status.UNAVAILABLE
            and answer.outcome is not Outcome.UNKNOWN
        ):
            if self._goes_on(call):
                self.network.mark("client refused, and goes elsewhere")
                self._try_another(call, way.machine)
                return
        refused = isinstance(answer, Refusal)
        doubt = refused and (call.doubt or (isinstance(answer, Refusal) and answer.outcome is Outcome.UNKNOWN))
        self._finish(call, end._replace(unknown=doubt))

    def redirected(self, way: _Way, call: RoutedCall, attempt: int, machine: int, epoch: int) -> None:
        """Take a redirect that has arrived: the call was not begun."""
        if not self._taken(way, call, attempt):
            return
        self.network.mark("client redirected")
        known_epoch, _ = self._known.get(call.stream, (-1, 0))
        if epoch >= known_epoch and machine in self.machines:
            self._known[call.stream] = epoch, machine
        else:
            self.network.mark("client told of an older epoch")
        call.hops += 1
        if call.hops > HOPS_MAX:
            self.network.mark("client redirected too often")
            self._try_another(call, self._known.get(call.stream, (0, self.at))[1])
        else:
            self._attempt(call)

    def delivered(self, way: _Way, call: RoutedCall, attempt: int, got: list[ReceivedMessage], step_id: StepId) -> None:
        """Take messages of a subscription that have arrived."""
        if way.sent.get(call) == attempt and not call.ended and call.sink is not None:
            call.sink.delivered(got, step_id, way.machine)

    def notified(self, way: _Way, call: RoutedCall, attempt: int, event: Event) -> None:
        """Take an event of a watch that has arrived."""
        if way.sent.get(call) == attempt and not call.ended and call.sink is not None:
            call.sink.notified(event, way.machine)

    def over(self, way: _Way, call: RoutedCall, attempt: int, end: End) -> None:
        """Take the end of a subscription that has arrived."""
        if self._taken(way, call, attempt):
            self._finish(call, CallEnd(None, None, False, way.machine, None, end))

    def _taken(self, way: _Way, call: RoutedCall, attempt: int) -> bool:
        """Take a call off its connection. False if what came belongs to an attempt that was given up."""
        if way.sent.get(call) != attempt:
            return False
        del way.sent[call]
        call.sent = False
        self._close_if_idle(way)
        return not call.ended

    def _broken(self, way: _Way, was_open: bool) -> None:
        """Note that a connection has broken, or never began."""
        self.network.mark("client lost its connection" if was_open else "client found no connection")
        self._forget(way)
        waiting, way.waiting = way.waiting, []
        sent, way.sent = list(way.sent), {}
        for call in sent:
            call.sent = False
            if call.ended:
                continue
            call.doubt = True
            self.network.mark("call lost")
            if call.repeatable and self._goes_on(call):
                self._try_another(call, way.machine)
            else:
                self._lose(call)
        for call in waiting:
            if not call.ended:
                self._try_another(call, way.machine)

    def _gone(self, way: _Way) -> None:
        """Let the machine notice that a connection has broken: it cancels what came on it."""
        process = self.machines[way.machine]
        tokens, way.tokens = way.tokens, {}
        for token in tokens:
            process.cancel(token)

    def _try_another(self, call: RoutedCall, machine: int) -> None:
        """Go to another machine than this one, after a pause."""
        others = [each for each in self.machines if each != machine] or [machine]
        if self._known.get(call.stream, (0, machine))[1] == machine:
            self._known.pop(call.stream, None)
        if self.at == machine:
            self.at = self.track.pick("another machine", others)
        call.hops = 0
        self.network.events.after(MS + self.track.magnitude("pause", 500 * MS), partial(self._attempt, call))

    def _goes_on(self, call: RoutedCall) -> bool:
        return not call.ended and self.network.events.now_ns < call.give_up_ns

    # ------------------------------------------------------------ ends

    def _give_up(self, call: RoutedCall) -> None:
        if call.ended:
            return
        self.network.mark("call given up")
        call.doubt = call.doubt or call.sent
        way = call.way
        self._say(call, partial(self._cancel, call))
        self._lose(call)
        if way is not None and way.sent.pop(call, None) is not None:
            self._close_if_idle(way)

    def _cancel(self, call: RoutedCall, process: Process, token: Token) -> None:
        """Let the cancellation of a call arrive at its machine."""
        assert call.way is not None
        del call.way.tokens[token]
        process.cancel(token)

    def _lose(self, call: RoutedCall) -> None:
        self.network.mark("call of unknown outcome" if call.doubt else "call that was never made")
        self._finish(call, CallEnd(None, None, call.doubt, 0, None))

    def _finish(self, call: RoutedCall, end: CallEnd) -> None:
        call.ended = True
        self.open_calls.pop(call)
        call.done(end)

    def close(self) -> None:
        """Close all connections: calls that wait for an answer are given up."""
        for call in list(self.open_calls):
            self._give_up(call)
        for way in list(self._ways.values()):
            if way.connection is not None:
                way.connection.close()
            self._forget(way)


class _RouteCaller:
    """One attempt, as its machine knows it: notifications go back over the connection that it came on."""

    __slots__ = ("route", "way", "call", "attempt", "token")

    def __init__(self, route: Route, way: _Way, call: RoutedCall, attempt: int) -> None:
        self.route = route
        self.way = way
        self.call = call
        self.attempt = attempt
        self.token: Token | None = None

    @property
    def client(self) -> Caller | None:
        """Return the client that made the call, if it is known."""
        return self.call.client

    def replied(self, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        end = CallEnd(_copy(answer), got, False, self.way.machine, step_id)
        self._back(64 + sum(len(each.body) for each in got or ()), partial(self.route.answered, end=end))

    def redirected(self, machine: int, epoch: int) -> None:
        """Note that the call is to go to another machine."""
        self._back(64, partial(self.route.redirected, machine=machine, epoch=epoch))

    def ended(self, end: End) -> None:
        self._back(64, partial(self.route.over, end=end))

    def _back(self, size: int, arrive: Callable[..., None]) -> None:
        """Send the last notification."""
        assert self.token is not None
        self.way.tokens.pop(self.token, None)
        self._send(size, arrive)

    def _send(self, size: int, arrive: Callable[..., None]) -> None:
        assert self.way.connection is not None
        act = partial(arrive, self.way, self.call, self.attempt)
        if self.route.prompt:
            self.way.connection.answer_at_once(act)
        else:
            self.way.connection.answer(size, act)

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        size = 64 + sum(len(each.body) for each in got)
        self._send(size, partial(self.route.delivered, got=got, step_id=step_id))

    def notified(self, event: Event) -> None:
        self._send(64, partial(self.route.notified, event=event))

    def lost(self) -> None:
        """Do nothing: the machine stopped, which breaks the connection, too."""


def _copy(answer: Answer | Refusal) -> Answer | Refusal:
    """Copy an answer: the value may be one that the node goes on to change. Messages were read already."""
    return answer if isinstance(answer, Answer) and isinstance(answer.value, Messages) else copy_of(answer)


def _size(request: Any) -> int:
    """Return about how many bytes a request takes on its connection."""
    body = getattr(request, "body", b"")
    return 64 + (len(body) if isinstance(body, bytes) else 0)
