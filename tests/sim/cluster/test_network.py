"""The network: each kind of fault does what its name says, to the message and the moment, and ends when all is healed."""

from __future__ import annotations

from collections import Counter

import pytest

from waymaker_sim.cluster.links import Lane, LinkOdds, LinkPlan
from waymaker_sim.cluster.marks import NETWORK_MARKS, never_reached
from waymaker_sim.cluster.network import Network, NetworkPlan, Port, draw_network_plan
from waymaker_sim.kernel.events import MS, SECOND, US, Events
from waymaker_sim.kernel.tape import MILLION, Tape

Arrival = tuple[int, int, int, bytes]
"""Time, sender, receiver and bytes."""


class Wires:
    """A network whose machines write down what they receive."""

    def __init__(self, count: int = 3, seed: int = 1, plan: NetworkPlan | None = None) -> None:
        self.events = Events()
        self.marks: Counter[str] = Counter()
        self.arrivals: list[Arrival] = []
        self.down: set[int] = set()
        self.paused_until_ns: Counter[int] = Counter()
        self.network = Network(self.events, Tape(seed), plan or NetworkPlan(), self.mark)
        for machine in range(1, count + 1):
            self.network.attach(machine, self._port(machine))

    def mark(self, name: str) -> None:
        self.marks[name] += 1

    def _port(self, machine: int) -> Port:
        def receive(sender: int, data: bytes) -> bool:
            if machine not in self.down:
                self.arrivals.append((self.events.now_ns, sender, machine, data))
            return machine not in self.down

        return Port(receive, lambda: max(self.events.now_ns, self.paused_until_ns[machine]))

    def send(self, *texts: str, sender: int = 1, to: int = 2, lane: Lane = Lane.LIVE) -> None:
        for text in texts:
            self.network.send(sender, to, lane, text.encode())

    def plan(self, sender: int = 1, to: int = 2, **settings: int) -> None:
        self.network.set_plan(sender, to, LinkPlan(**settings))

    def run(self, ns: int = SECOND) -> list[str]:
        """Let time pass; return what arrives meanwhile."""
        self.arrivals.clear()
        self.events.run_until(self.events.now_ns + ns)
        return [data.decode() for _, _, _, data in self.arrivals]


def test_a_healthy_link_keeps_order_and_takes_its_latency() -> None:
    wires = Wires()
    wires.plan(latency_ns=3 * MS, jitter_ns=2 * MS)
    wires.send("a", "b", "c", "d")
    assert wires.run(3 * MS - 1) == []
    assert wires.run() == ["a", "b", "c", "d"]
    assert all(at <= 5 * MS for at, *_ in wires.arrivals)


def test_what_arrives_is_a_copy() -> None:
    wires = Wires()
    buffer = bytearray(b"as it was sent")
    wires.network.send(1, 2, Lane.LIVE, buffer)
    buffer[:] = b"changed by now"
    assert wires.run() == ["as it was sent"]
    assert type(wires.arrivals[0][3]) is bytes, "which the receiver cannot change for others"


def test_objects_are_not_sent() -> None:
    with pytest.raises(AssertionError, match="list is sent, not bytes"):
        Wires().network.send(1, 2, Lane.LIVE, ["shared"])  # type: ignore[arg-type]


def test_a_lossy_link_loses_some() -> None:
    wires = Wires()
    wires.plan(loss=300_000)
    texts = [str(n) for n in range(200)]
    wires.send(*texts)
    arrived = wires.run()
    assert 100 < len(arrived) < 180
    assert arrived == [text for text in texts if text in arrived]
    assert wires.marks["message lost"] == 200 - len(arrived)
    assert wires.network.queued_bytes(1, 2, Lane.LIVE) == 0


def test_a_message_may_arrive_twice() -> None:
    wires = Wires()
    wires.plan(duplicate=300_000)
    wires.send(*map(str, range(100)))
    counts = Counter(wires.run())
    assert set(counts.values()) == {1, 2} and len(counts) == 100
    assert wires.marks["message duplicated"] == sum(count == 2 for count in counts.values())


def test_late_messages_are_overtaken_and_hold_up_none() -> None:
    wires = Wires()
    wires.plan(late=300_000, late_ns=100 * MS)
    texts = [f"{n:03}" for n in range(100)]
    wires.send(*texts)
    arrived = wires.run()
    assert arrived != texts and sorted(arrived) == texts
    assert wires.marks["message overtaken"] > 0
    on_time = [data.decode() for at, _, _, data in wires.arrivals if at == 200 * US]
    assert len(on_time) > 50 and on_time == sorted(on_time)


def test_a_break_loses_all_that_is_on_its_way_in_both_directions() -> None:
    wires = Wires()
    wires.send("there")
    wires.send("back", sender=2, to=1)
    wires.send("bulk", lane=Lane.BULK)
    wires.send("elsewhere", sender=1, to=3)
    wires.network.break_between(2, 1)
    wires.send("afterwards")
    assert sorted(wires.run()) == ["afterwards", "elsewhere"]
    assert wires.marks["connection broken"] == wires.marks["lost with a connection"] == 1
    assert wires.network.queued_bytes(1, 2, Lane.LIVE) == 0


def test_a_link_breaks_by_draw() -> None:
    wires = Wires()
    wires.plan(breaks=50_000)
    wires.send(*map(str, range(100)))
    arrived = wires.run()
    assert 0 < len(arrived) < 100
    assert wires.marks["connection broken"] > 0


def test_what_a_stopped_machine_was_sent_is_lost() -> None:
    wires = Wires()
    wires.send("before it stopped")
    wires.network.stopped(2)
    wires.down.add(2)
    wires.events.run_until(wires.events.now_ns)
    wires.send("while it is down")
    assert wires.run() == []
    assert wires.marks["sent to a machine that is down"] == 1
    wires.down.clear()
    wires.send("when it is back")
    assert wires.run() == ["when it is back"]


def test_a_cut_is_of_one_direction() -> None:
    wires = Wires()
    wires.network.cut([(1, 2)], 10 * MS)
    wires.send("lost")
    wires.send("arrives", sender=2, to=1)
    assert wires.run(9 * MS) == ["arrives"]
    wires.events.run_until(10 * MS)
    wires.send("mended")
    assert wires.run() == ["mended"]
    assert wires.marks["lost in a partition"] == 1


def test_a_cut_also_loses_what_is_on_its_way() -> None:
    wires = Wires()
    wires.plan(latency_ns=5 * MS)
    wires.send("on its way")
    wires.network.cut([(1, 2)], 10 * MS)
    assert wires.run() == []


def test_two_cuts_of_one_link_both_have_to_end() -> None:
    wires = Wires()
    wires.network.cut([(1, 2)], 10 * MS)
    wires.network.cut([(1, 2)], 30 * MS)
    wires.events.run_until(20 * MS)
    assert wires.network.is_cut(1, 2)
    wires.events.run_until(31 * MS)
    assert not wires.network.is_cut(1, 2)


def test_a_clogged_link_delivers_nothing_and_then_all_live_messages_first() -> None:
    wires = Wires()
    wires.network.clog(1, 2, 50 * MS)
    wires.send("bulk", lane=Lane.BULK)
    wires.run(10 * MS)
    wires.send("a", "b")
    assert wires.run(39 * MS) == []
    assert wires.run() == ["a", "b", "bulk"]
    assert {at for at, *_ in wires.arrivals} == {50 * MS}


def test_a_paused_machine_reads_when_it_goes_on() -> None:
    wires = Wires()
    wires.paused_until_ns[2] = 20 * MS
    wires.send("a", "b")
    assert wires.run(20 * MS - 1) == []
    assert wires.run() == ["a", "b"]


def test_bulk_never_delays_live() -> None:
    def live_arrivals(bulk: int) -> list[Arrival]:
        wires = Wires(seed=5)
        wires.plan(jitter_ns=MS, late=100_000, loss=100_000, duplicate=100_000, bulk_bytes_per_ms=100)
        for number in range(50):
            for _ in range(bulk):
                wires.network.send(1, 2, Lane.BULK, bytes(900))
            wires.send(f"live {number}")
            wires.events.run_until(wires.events.now_ns + MS)
        wires.events.run_until(wires.events.now_ns + 60 * SECOND)
        return [each for each in wires.arrivals if each[3].startswith(b"live")]

    alone = live_arrivals(0)
    assert len(alone) > 40
    assert live_arrivals(20) == alone


def test_bulk_takes_time_by_its_bytes() -> None:
    wires = Wires()
    wires.plan(bulk_bytes_per_ms=100)
    wires.network.send(1, 2, Lane.BULK, bytes(500))
    wires.network.send(1, 2, Lane.BULK, bytes(500))
    wires.run()
    assert [at for at, *_ in wires.arrivals] == [5 * MS + 200 * US, 10 * MS + 200 * US]


def test_a_queue_is_bounded_and_empties() -> None:
    wires = Wires()
    wires.plan(queue_bytes=10)
    wires.send("12345", "67890", "too much")
    wires.send("in its own lane", sender=2, to=1)
    assert wires.run() == ["12345", "67890", "in its own lane"]
    assert wires.marks["queue full"] == 1
    wires.send("fits again")
    assert wires.run() == ["fits again"]


def test_healing_ends_every_fault() -> None:
    odds = LinkOdds(
        latency_ns=10 * MS, jitter_ns=50 * MS, late=MILLION, loss=MILLION, duplicate=MILLION, breaks=MILLION
    )
    plan = NetworkPlan(odds, partition=MILLION, clog=MILLION, breaks=MILLION)
    wires = Wires(plan=plan)
    for _ in range(50):
        wires.network.act()
        wires.send("a")
        wires.send("b", sender=3, to=1)
        wires.run(100 * MS)
    wires.network.heal()
    wires.run(10 * SECOND)
    before = Counter(wires.marks)
    texts = [str(n) for n in range(50)]
    for sender, to in ((1, 2), (2, 1), (3, 1), (2, 3)):
        wires.network.act()
        wires.send(*texts, sender=sender, to=to)
        assert wires.run(2 * MS) == texts
    assert wires.marks == before


def test_held_messages_arrive_when_all_is_healed() -> None:
    wires = Wires()
    wires.network.clog(1, 2, 50 * SECOND)
    wires.send("held")
    assert wires.run(SECOND) == []
    wires.network.heal()
    assert [data for *_, data in wires.arrivals] == [b"held"]


def test_partitions_leave_the_allowed_machines_alone() -> None:
    plan = NetworkPlan(partition=MILLION, clog=MILLION)
    wires = Wires(count=5, plan=plan)
    wires.network.may_trouble = lambda machines: set(machines) <= {4}
    troubled: set[int] = set()
    for _ in range(100):
        wires.network.act()
        troubled |= {*wires.network.troubled()}
        wires.run(100 * MS)
    assert troubled == {4}
    assert wires.marks["fault withheld: a majority stays well"] > 0
    assert not any(wires.network.is_cut(one, other) for one in (1, 2, 3, 5) for other in (1, 2, 3, 5))


def test_every_kind_of_fault_comes_by_draw() -> None:
    marks: Counter[str] = Counter()
    for seed in range(30):
        wires = Wires(seed=seed, plan=draw_network_plan(Tape(seed).track("swarm")))
        for _ in range(100):
            wires.network.act()
            for sender, to in ((1, 2), (2, 1), (1, 3), (3, 2)):
                wires.send("x" * 100, "y" * 300, sender=sender, to=to)
                wires.network.send(sender, to, Lane.BULK, bytes(1000))
            wires.run(100 * MS)
        marks += wires.marks
    silent = ["sent to a machine that is down"]
    assert never_reached(marks, NETWORK_MARKS) == silent


def test_the_same_seed_is_the_same_network() -> None:
    def run(seed: int) -> tuple[list[Arrival], Counter[str]]:
        wires = Wires(seed=seed, plan=draw_network_plan(Tape(seed).track("swarm")))
        found: list[Arrival] = []
        for number in range(100):
            wires.network.act()
            wires.send(f"{number}", sender=1 + number % 3, to=1 + (number + 1) % 3)
            wires.run(50 * MS)
            found += wires.arrivals
        return found, wires.marks

    assert run(11) == run(11)
    assert run(11) != run(12)
