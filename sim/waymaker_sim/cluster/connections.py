"""Connections of clients: both directions in order, and nothing is lost until the connection breaks; then all is.

A connection breaks with its machine, by draw, or after some time in a partition. Each side notices by itself, and later. A
request that was on its way may have arrived or not: its client cannot know.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial

from waymaker_sim.cluster.links import Flight, Lane, Line
from waymaker_sim.cluster.network import Network
from waymaker_sim.kernel.events import MS, SECOND

Act = Callable[[], None]
HANDSHAKE_BYTES = 64
RETRY_NS = 50 * MS
"""Time between two attempts to get a message through a partition."""


class Phase(Enum):
    """The phase of a connection, as its client sees it."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class Connection:
    """One connection. `on_end` tells its client the end, with True if it was ever open; `on_gone` tells the machine."""

    def __init__(
        self,
        network: Network,
        client: int,
        machine: int,
        accepts: Callable[[], bool],
        on_open: Act,
        on_end: Callable[[bool], None],
        on_gone: Act,
    ) -> None:
        self.network = network
        self.client = client
        self.machine = machine
        self.phase = Phase.CONNECTING
        self._accepts = accepts
        self._on_open = on_open
        self._on_end = on_end
        self._on_gone = on_gone
        self._accepted = False
        """True once the machine has taken it."""
        self._stuck = False
        """True while a partition holds a message of it, so that its patience runs out."""
        self._lines: dict[int, Line[Act]] = {
            client: self._line(client, machine),
            machine: self._line(machine, client),
        }
        """By endpoint: what it sends."""
        network.connections[self] = None
        self._post(client, HANDSHAKE_BYTES, self._accept)

    def _line(self, sender: int, to: int) -> Line[Act]:
        track = self.network.tape.track(f"link {sender}>{to} live")
        return Line(self.network.plan_of(sender, to).reliable(), track, Lane.LIVE)

    # ------------------------------------------------------------ messages

    def send(self, size: int, arrive: Act) -> None:
        """Send a request, whose arrival at the machine is this act."""
        if self.phase is not Phase.CLOSED:
            self._post(self.client, size, arrive)

    def answer(self, size: int, arrive: Act) -> None:
        """Send an answer, whose arrival at the client is this act."""
        if self.phase is not Phase.CLOSED:
            self._post(self.machine, size, arrive)

    def answer_at_once(self, arrive: Act) -> None:
        """Let an answer arrive in this moment. Where it could not, the connection breaks."""
        if self.phase is Phase.CLOSED:
            return
        line, now_ns = self._lines[self.machine], self.network.events.now_ns
        held = self.network.is_cut(self.machine, self.client)
        held = held or self.network.clogged_until_ns(self.machine, self.client) > now_ns
        if held or line.track.chance("breaks", line.plan.breaks):
            self.end_by_fault()
        else:
            arrive()

    def _post(self, sender: int, size: int, arrive: Act) -> None:
        line, events = self._lines[sender], self.network.events
        if line.track.chance("breaks", line.plan.breaks):
            self.end_by_fault()
            return
        flights = line.send(events.now_ns, size, self.network.mark, lambda: arrive)
        if not flights:  # a bound is reached: nothing may be missing in the middle, so it ends
            self.end_by_fault()
        for at_ns, flight in flights:
            events.at(at_ns, partial(self._arrive, sender, flight))

    def _arrive(self, sender: int, flight: Flight[Act]) -> None:
        if self.phase is not Phase.CLOSED:
            self._lines[sender].held.append(flight)
            self._release(sender)

    def _release(self, sender: int) -> None:
        """Deliver what has arrived, in order, unless something holds it."""
        line, network = self._lines[sender], self.network
        while line.held and self.phase is not Phase.CLOSED:
            until_ns = self._held_until_ns(sender)
            if until_ns > network.events.now_ns:
                network.events.at(until_ns, partial(self._release, sender))
                return
            flight = line.held.popleft()
            line.arrived(flight)
            flight.payload()

    def _held_until_ns(self, sender: int) -> int:
        network, now_ns = self.network, self.network.events.now_ns
        to = self.machine if sender == self.client else self.client
        if network.is_cut(sender, to):
            if not self._stuck:
                self._stuck = True
                patience_ns = 10 * MS + self._lines[sender].track.magnitude("patience", 3 * SECOND)
                network.events.after(patience_ns, partial(self._lose_patience, sender, to))
            return now_ns + RETRY_NS
        until_ns = network.clogged_until_ns(sender, to)
        return max(until_ns, network.port(to).reads_from_ns()) if to > 0 and self._accepted else until_ns

    def _lose_patience(self, sender: int, to: int) -> None:
        self._stuck = False
        if self.network.is_cut(sender, to):
            self.end_by_fault()

    # ------------------------------------------------------------ beginning and end

    def _accept(self) -> None:
        """Let the machine take the connection, or refuse it while it is down."""
        if self._accepts():
            self._accepted = True
            self._post(self.machine, HANDSHAKE_BYTES, self._opened)
        else:
            self._post(self.machine, HANDSHAKE_BYTES, partial(self._finish, False))

    def _opened(self) -> None:
        self.phase = Phase.OPEN
        self._on_open()

    def close(self) -> None:
        """Close it on the client's side, without a word to the client."""
        if self.phase is not Phase.CLOSED:
            self._on_end = lambda was_open: None
            self._end(notify_machine=True)

    def end_by_machine(self) -> None:
        """Break because the machine stopped: a killed process says so at once, a dead machine never does."""
        if self._accepted:
            self._end(notify_machine=False)

    def end_by_fault(self) -> None:
        """Break because of the network."""
        if self.phase is not Phase.CLOSED:
            self.network.mark("client's connection broken")
            self._end(notify_machine=True)

    def _end(self, notify_machine: bool) -> None:
        if self.phase is Phase.CLOSED:
            return
        was_open = self.phase is Phase.OPEN
        events, lines = self.network.events, self._lines
        events.after(lines[self.client].track.magnitude("client notices", SECOND), partial(self._finish, was_open))
        if notify_machine and self._accepted:
            events.after(lines[self.machine].track.magnitude("machine notices", SECOND), self._on_gone)
        self._shut()

    def _finish(self, was_open: bool) -> None:
        self._shut()
        self._on_end(was_open)

    def _shut(self) -> None:
        self.phase = Phase.CLOSED
        self.network.connections.pop(self, None)
        for line in self._lines.values():
            line.clear()

    def begin_span(self) -> None:
        """Begin a new span of draws. Connections of one client to one machine share their tracks."""
        for line in self._lines.values():
            line.track.begin()

    def heal(self) -> None:
        """End all faults of this connection, and deliver what they hold."""
        for sender, line in self._lines.items():
            line.plan = line.plan.healed()
            self._release(sender)
