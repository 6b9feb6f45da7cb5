"""The network of a simulated cluster: links between machines, and what cuts, clogs and breaks them.

Endpoints are numbers: machines have positive ones, clients negative ones. Machines send bytes to each other, which are copied.
Clients have connections (`connections`). A machine that is down receives nothing, and its end breaks each of its connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from waymaker_sim.cluster.links import Flight, Lane, Line, LinkOdds, LinkPlan, draw_link_plan
from waymaker_sim.kernel.events import MS, SECOND, US, Events
from waymaker_sim.kernel.tape import Tape, Track

Link = tuple[int, int]
"""A direction: the endpoint that sends, and the one that receives."""


@dataclass(slots=True)
class NetworkPlan:
    """The kind of a run's network. Odds of its faults are per million and tick of the nemesis."""

    links: LinkOdds = field(default_factory=LinkOdds)
    partition: int = 0
    partition_ns: int = 5 * SECOND
    clog: int = 0
    clog_ns: int = 2 * SECOND
    breaks: int = 0


def draw_network_plan(track: Track) -> NetworkPlan:
    """Draw the network of a run: each kind of fault is present in some runs only."""
    links = LinkOdds(
        latency_ns=track.pick("latency", [200 * US, 50 * US, 2 * MS, 10 * MS]),
        jitter_ns=track.pick("jitter", [0, 200 * US, 5 * MS, 50 * MS]),
        late=track.pick("late", [0, 0, 20_000, 200_000]),
        late_ns=track.pick("late by", [50 * MS, 500 * MS, 3 * SECOND]),
        loss=track.pick("loss", [0, 0, 20_000, 200_000]),
        duplicate=track.pick("duplicates", [0, 0, 20_000, 200_000]),
        breaks=track.pick("breaks", [0, 0, 2_000, 20_000]),
        queue_bytes=track.pick("queue", [4 << 20, 4 << 20, 64 << 10, 2_000]),
        bulk_bytes_per_ms=track.pick("bulk rate", [64 << 10, 4 << 10, 100]),
    )
    return NetworkPlan(
        links=links,
        partition=track.pick("partitions", [0, 10_000, 50_000]),
        partition_ns=track.pick("partitions last", [SECOND, 5 * SECOND, 200 * MS]),
        clog=track.pick("clogs", [0, 0, 20_000, 100_000]),
        clog_ns=track.pick("clogs last", [500 * MS, 3 * SECOND]),
        breaks=track.pick("breaks of all", [0, 0, 20_000, 100_000]),
    )


class Port(NamedTuple):
    """The way into one machine: takes bytes of a sender; False if the machine is down."""

    receive: Callable[[int, bytes], bool]
    reads_from_ns: Callable[[], int]
    """Returns the time from which on the machine reads: now, unless it is paused."""


class Dependent(Protocol):
    """A connection, as the network knows it."""

    client: int
    machine: int

    def end_by_machine(self) -> None:
        """Break because the machine stopped."""

    def end_by_fault(self) -> None:
        """Break because of the network."""

    def begin_span(self) -> None:
        """Begin a new span of draws."""

    def heal(self) -> None:
        """End all faults of this connection, and deliver what they hold."""


class Network:
    """Links, by direction. `may_trouble` forbids a fault that would keep these machines from working."""

    def __init__(self, events: Events, tape: Tape, plan: NetworkPlan, mark: Callable[[str], None]) -> None:
        self.events = events
        self.tape = tape
        self.plan = plan
        self.mark = mark
        self.track = tape.track("network")
        self.may_trouble: Callable[[Sequence[int]], bool] = lambda machines: True
        self.on_fault: Callable[[str, str], None] = lambda kind, detail: None
        """Called with each partition and clog."""
        self.healthy = False
        self.connections: dict[Dependent, None] = {}
        """Those that are not closed, in the order of their beginning."""
        self._ports: dict[int, Port] = {}
        self._clients: list[int] = []
        self._lines: dict[Link, dict[Lane, Line[bytes]]] = {}
        self._plans: dict[Link, LinkPlan] = {}
        self._breaks: Counter[Link] = Counter()
        """By pair, the lower endpoint first: how often its connection broke."""
        self._cuts: Counter[Link] = Counter()
        """By direction: the number of partitions that cut it."""
        self._clogged_until_ns: dict[Link, int] = {}
        self._troubled_until_ns: dict[int, int] = {}

    # ------------------------------------------------------------ endpoints and links

    def attach(self, machine: int, port: Port) -> None:
        """Make a machine known."""
        assert machine > 0
        self._ports[machine] = port

    def attach_client(self, client: int) -> None:
        """Make a client known, so that partitions may have it on one of their sides."""
        assert client < 0
        self._clients.append(client)

    def port(self, machine: int) -> Port:
        """Return the way into a machine."""
        return self._ports[machine]

    def plan_of(self, sender: int, to: int) -> LinkPlan:
        """Return the plan of a link, drawn when the link is first used; it may be replaced before that."""
        plan = self._plans.get((sender, to))
        if plan is None:
            plan = draw_link_plan(self.tape.track(f"link {sender}>{to}"), self.plan.links)
            self._plans[sender, to] = plan = plan.healed() if self.healthy else plan
        return plan

    def set_plan(self, sender: int, to: int, plan: LinkPlan) -> None:
        """Set the plan of a link instead of drawing it."""
        assert (sender, to) not in self._lines
        self._plans[sender, to] = plan

    def _lines_of(self, sender: int, to: int) -> dict[Lane, Line[bytes]]:
        lines = self._lines.get((sender, to))
        if lines is None:
            plan = self.plan_of(sender, to)
            tracks = {lane: self.tape.track(f"link {sender}>{to} {lane.name.lower()}") for lane in Lane}
            lines = self._lines[sender, to] = {lane: Line(plan, tracks[lane], lane) for lane in Lane}
        return lines

    # ------------------------------------------------------------ messages

    def send(self, sender: int, to: int, lane: Lane, data: bytes | bytearray | memoryview) -> None:
        """Send bytes from one machine to another, which arrive as a copy, or not at all."""
        assert isinstance(data, bytes | bytearray | memoryview), f"{type(data).__name__} is sent, not bytes"
        assert sender in self._ports and to in self._ports and sender != to, f"{sender} sends to {to}"
        line = self._lines_of(sender, to)[lane]
        if self.is_cut(sender, to):
            self.mark("lost in a partition")
            return
        if line.track.chance("breaks", line.plan.breaks):
            self.break_between(sender, to)
            return
        # What the sender does to its buffer later changes nothing: `bytes` copies all that can be changed.
        for at_ns, flight in line.send(self.events.now_ns, len(data), self.mark, lambda: bytes(data)):
            arrive = partial(self._arrive, sender, to, lane, self._breaks[_pair(sender, to)], flight)
            self.events.at(at_ns, arrive)

    def _arrive(self, sender: int, to: int, lane: Lane, breaks: int, flight: Flight[bytes]) -> None:
        if breaks != self._breaks[_pair(sender, to)]:
            return  # it was on its way when the connection broke
        line = self._lines[sender, to][lane]
        if self.is_cut(sender, to):
            line.arrived(flight)
            self.mark("lost in a partition")
            return
        until_ns = self._held_until_ns(sender, to)
        if until_ns > self.events.now_ns or line.held:
            line.held.append(flight)
            self.events.at(until_ns, partial(self._release, sender, to, breaks))
        else:
            self._deliver(sender, to, line, flight)

    def _held_until_ns(self, sender: int, to: int) -> int:
        return max(self._clogged_until_ns.get((sender, to), 0), self._ports[to].reads_from_ns())

    def _release(self, sender: int, to: int, breaks: int) -> None:
        """Deliver all that a clog or a pause has held, live messages first."""
        if breaks != self._breaks[_pair(sender, to)]:
            return
        lines = self._lines[sender, to]
        if not any(line.held for line in lines.values()):
            return
        until_ns = self._held_until_ns(sender, to)
        if until_ns > self.events.now_ns:
            self.events.at(until_ns, partial(self._release, sender, to, breaks))
            return
        for line in lines.values():
            held = list(line.held)
            line.held.clear()
            for flight in held:
                self._deliver(sender, to, line, flight)

    def _deliver(self, sender: int, to: int, line: Line[bytes], flight: Flight[bytes]) -> None:
        if line.arrived(flight):
            self.mark("message overtaken")
        if self.is_cut(sender, to):
            self.mark("lost in a partition")
        elif not self._ports[to].receive(sender, flight.payload):
            self.mark("sent to a machine that is down")

    def queued_bytes(self, sender: int, to: int, lane: Lane) -> int:
        """Return the bytes of a lane that are on their way."""
        return self._lines_of(sender, to)[lane].queued_bytes

    # ------------------------------------------------------------ faults

    def is_cut(self, sender: int, to: int) -> bool:
        """Return True if nothing passes from one endpoint to the other."""
        return self._cuts[sender, to] > 0

    def clogged_until_ns(self, sender: int, to: int) -> int:
        """Return the time until which a link holds what arrives; 0 if it was never clogged."""
        return self._clogged_until_ns.get((sender, to), 0)

    def cut(self, links: Sequence[Link], for_ns: int) -> None:
        """Let nothing pass these links, in their own direction, for a while."""
        for link in links:
            self._cuts[link] += 1
        self.events.after(for_ns, partial(self._mend, tuple(links), self._cuts))

    def _mend(self, links: Sequence[Link], cuts: Counter[Link]) -> None:
        for link in links:
            cuts[link] -= 1

    def clog(self, sender: int, to: int, for_ns: int) -> None:
        """Let a link deliver nothing for a while, and then all."""
        self._clogged_until_ns[sender, to] = max(
            self._clogged_until_ns.get((sender, to), 0), self.events.now_ns + for_ns
        )
        self.mark("link clogged")
        self.on_fault("clog", f"{_named([sender])} -> {_named([to])}: all waits for {for_ns // MS} ms")

    def break_between(self, one: int, other: int) -> None:
        """Break the connection of two machines: all on its way is lost, in both directions."""
        self.mark("connection broken")
        self._lose(one, other)

    def _lose(self, one: int, other: int) -> None:
        self._breaks[_pair(one, other)] += 1
        lost = False
        for link in ((one, other), (other, one)):
            for line in self._lines.get(link, {}).values():
                lost |= line.clear()
        if lost:
            self.mark("lost with a connection")

    def stopped(self, machine: int) -> None:
        """Break all connections of a machine that stopped."""
        for other in self._ports:
            if other != machine:
                self._lose(machine, other)
        for connection in [each for each in self.connections if each.machine == machine]:
            connection.end_by_machine()

    def troubled(self) -> list[int]:
        """Return the machines that a partition or a clog keeps from some others."""
        now_ns = self.events.now_ns
        return [machine for machine, until_ns in self._troubled_until_ns.items() if until_ns > now_ns]

    def begin_span(self) -> None:
        """Begin a new span of draws for every link."""
        self.track.begin()
        for lines in self._lines.values():
            for line in lines.values():
                line.track.begin()
        for connection in self.connections:
            connection.begin_span()

    def act(self) -> None:
        """Draw faults, and perform them."""
        self.begin_span()
        plan, track = self.plan, self.track
        if self.healthy or len(self._ports) + len(self._clients) < 2:
            return
        if track.chance("partition", plan.partition):
            self._part()
        if track.chance("clog", plan.clog):
            sender, to = self._draw_link()
            for_ns = MS + track.magnitude("clogged for", plan.clog_ns)
            if self._trouble([max(sender, to)], for_ns):
                self.clog(sender, to, for_ns)
        if track.chance("break", plan.breaks):
            sender, to = self._draw_link()
            if sender > 0 and to > 0:
                self.break_between(sender, to)
            for connection in [each for each in self.connections if {each.client, each.machine} == {sender, to}]:
                connection.end_by_fault()

    def _draw_link(self) -> Link:
        """Draw a direction between two machines, or between a client and a machine."""
        track, ends = self.track, [*self._ports, *self._clients]
        one = track.pick("from", list(self._ports))
        other = track.pick("to", [end for end in ends if end != one])
        return (one, other) if track.draw("direction", 2) == 0 else (other, one)

    def _part(self) -> None:
        """Cut some machines off from all others, or two of them from each other; perhaps in one direction only."""
        track, machines = self.track, list(self._ports)
        for_ns = 10 * MS + track.draw("parted for", self.plan.partition_ns)
        way = track.draw("way", 4)
        if track.draw("two alone", 4) == 3 and len(machines) > 1:
            one = track.pick("one", machines)
            troubled = inside = [one]
            outside = [track.pick("other", [each for each in machines if each != one])]
        else:
            count = track.between("inside", 1, max(1, (len(machines) - 1) // 2))
            first = track.draw("first", len(machines))
            troubled = [machines[(first + n) % len(machines)] for n in range(count)]
            inside = troubled + [client for client in self._clients if track.draw("client inside", 2)]
            outside = [end for end in (*machines, *self._clients) if end not in inside]
        if outside and self._trouble(troubled, for_ns):
            self._part_between(inside, outside, way, for_ns)

    def _part_between(self, inside: Sequence[int], outside: Sequence[int], way: int, for_ns: int) -> None:
        out = [(one, other) for one in inside for other in outside]
        back = [(other, one) for one, other in out]
        self.mark(("partition", "partition", "one-way partition: mute", "one-way partition: deaf")[way])
        self.cut([*(out if way != 3 else ()), *(back if way != 2 else ())], for_ns)
        sign = ("<->", "<->", "->", "<-")[way]
        self.on_fault("partition", f"{_named(inside)} {sign} {_named(outside)}: nothing passes for {for_ns // MS} ms")

    def _trouble(self, machines: Sequence[int], for_ns: int) -> bool:
        """Note that machines are in trouble for a while. False if that is forbidden."""
        if not self.may_trouble(machines):
            self.mark("fault withheld: a majority stays well")
            return False
        until_ns = self.events.now_ns + for_ns
        for machine in machines:
            self._troubled_until_ns[machine] = max(self._troubled_until_ns.get(machine, 0), until_ns)
        return True

    def heal(self) -> None:
        """End all faults: links are whole, lossless and quick from now on, and what clogs held arrives."""
        self.healthy = True
        self._cuts = Counter()
        self._clogged_until_ns.clear()
        self._troubled_until_ns.clear()
        self._plans = {link: plan.healed() for link, plan in self._plans.items()}
        for (sender, to), lines in self._lines.items():
            for line in lines.values():
                line.plan = self._plans[sender, to]
            self._release(sender, to, self._breaks[_pair(sender, to)])
        for connection in list(self.connections):
            connection.heal()


def _named(ends: Sequence[int]) -> str:
    """Name endpoints: machines by number, clients' routes by theirs."""
    return ", ".join(f"node {end}" if end > 0 else f"route {-end}" for end in ends)


def _pair(one: int, other: int) -> Link:
    return (one, other) if one < other else (other, one)
