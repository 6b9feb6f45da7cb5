"""Single nodes in one world: each has streams of its own, crashes and restarts, and nothing that it confirmed is lost."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from tests.kit.majority_register import KINDS
from tests.kit.node_kit import consumer_config, publish, stream_config
from tests.kit.signposts import opener_with
from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import (
    Ack,
    AckKind,
    CreateConsumer,
    CreateStream,
    DeleteConsumer,
    Published,
    ReadRange,
    Request,
    Subscribe,
)
from waymaker_core.model.message_codec import decode_body
from waymaker_core.model.result_codes import ALREADY_EXISTS, OK, Answer
from waymaker_sim.cluster.machines import Machines, draw_machines_plan, report_alone
from waymaker_sim.cluster.marks import never_reached
from waymaker_sim.cluster.route import CallEnd, Route
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Tape, Track
from waymaker_sim.machine.callers import ReceivedMessage, StepId
from waymaker_sim.machine.observations import PAGE

SEEDS = range(1, 16)


def owner_of(stream: str) -> int:
    """Return the machine that has a stream: its name is the machine's number."""
    return int(stream)


class SingleNodes:
    """Three nodes with one stream each, and clients that publish to all of them."""

    def __init__(self, seed: int, digest: Digest | None = None) -> None:
        tape = Tape(seed)
        plan = draw_machines_plan(tape.track("swarm"), 3)
        plan.lose_directory = plan.damage = plan.tear_synced = 20_000
        self.machines = Machines(
            tape, plan, opener=opener_with(owner_of), kinds=KINDS, digest=digest, feed=report_alone
        )
        self.streams = [str(number) for number in self.machines.machines]
        self.confirmed: dict[tuple[str, int], bytes] = {}
        """Payloads by stream and sequence."""
        self.sent: dict[str, list[bytes]] = {stream: [] for stream in self.streams}
        self.doubtful: set[bytes] = set()
        self.publishing = True
        self.routes = [self._client(tape, number) for number in range(1, 4)]

    def _client(self, tape: Tape, number: int) -> Route:
        route = Route(-number, self.machines.network, self.machines.machines, tape.track(f"route {number}"))
        self._turn(route, tape.track(f"client {number}"), self.streams)
        return route

    def _turn(self, route: Route, track: Track, missing: list[str]) -> None:
        """Create what may be missing, then publish."""
        track.begin()
        if missing:
            created = partial(self._created, route, track, missing)
            route.call(CreateStream(stream_config(missing[0])), created, stream=missing[0], repeatable=True)
        elif self.publishing:
            stream = track.pick("stream", self.streams)
            payload = b"%d from %d" % (len(self.sent[stream]), -route.number)
            self.sent[stream].append(payload)
            request = publish(stream, ("subject", payload))
            route.call(request, partial(self._published, route, track, stream, payload), stream=stream)

    def _created(self, route: Route, track: Track, missing: list[str], end: CallEnd) -> None:
        there = isinstance(end.answer, Answer)
        if isinstance(end.answer, Answer):
            assert end.answer.code in (OK, ALREADY_EXISTS)
        self.machines.events.after(MS, partial(self._turn, route, track, missing[1:] if there else missing))

    def _published(self, route: Route, track: Track, stream: str, payload: bytes, end: CallEnd) -> None:
        answer = end.answer
        if isinstance(answer, Answer) and answer.code == OK:
            assert isinstance(answer.value, Published) and answer.value.count == 1
            assert end.machine == owner_of(stream)
            place = stream, answer.value.first_seq
            assert place not in self.confirmed, f"{place} is given twice"
            self.confirmed[place] = payload
        elif end.unknown:
            self.doubtful.add(payload)
        self.machines.events.after(track.draw("think", 50 * MS), partial(self._turn, route, track, []))

    def run(self, ns: int = 10 * SECOND) -> None:
        """Run with faults, heal, see that every stream takes messages, and compare what is there with what was confirmed."""
        self.machines.start()
        self.machines.run_for(ns)
        self.machines.heal()
        self.machines.await_up()
        enough = Counter(stream for stream, _ in self.confirmed)
        self.machines.run_for(30 * SECOND, lambda: self._all_above(enough))
        assert self._all_above(enough), "healed nodes confirm nothing"
        self.publishing = False
        self.machines.run_for(15 * SECOND)
        assert not any(route.open_calls for route in self.routes)
        for stream in self.streams:
            self._audit(stream)

    def _all_above(self, before: Counter[str]) -> bool:
        now = Counter(stream for stream, _ in self.confirmed)
        return all(now[stream] > before[stream] for stream in self.streams)

    def _audit(self, stream: str) -> None:
        found: dict[int, bytes] = {}
        while True:
            got = self._ask(ReadRange(stream, max(found, default=0) + 1, PAGE), stream)
            if not got:
                break
            found |= {each.seq: decode_body(each.body)[2] for each in got}
        for (name, seq), payload in self.confirmed.items():
            if name == stream:
                require(
                    found.get(seq) == payload, "acked survives", f"{payload!r} at {seq} of {stream}: {found.get(seq)!r}"
                )
        known = {payload for (name, _), payload in self.confirmed.items() if name == stream} | self.doubtful
        extra = [payload for payload in found.values() if payload not in known]
        require(not extra, "no confirmed failure", f"{extra[:5]} were refused, or never made")
        require(len({*found.values()}) == len(found), "one history", f"{stream} has a message twice")

    def _ask(self, request: Request, stream: str) -> list[ReceivedMessage]:
        ends: list[CallEnd] = []
        self.routes[0].call(request, ends.append, stream=stream, repeatable=True)
        self.machines.run_for(20 * SECOND, lambda: bool(ends))
        assert ends and isinstance(ends[0].answer, Answer), ends
        return ends[0].got or []


class Reader:
    """A subscription that begins again whenever its connection has broken."""

    def __init__(self, world: SingleNodes, route: Route, stream: str) -> None:
        self.world = world
        self.route = route
        self.stream = stream
        self.begun = 0
        self.got: dict[int, bytes] = {}
        self.delivered_twice = 0
        self.over: End | None = None
        self.begin()

    def begin(self) -> None:
        self.begun += 1
        request = Subscribe(self.stream, "c", 4)
        self.call = self.route.subscribe(request, self, self.done, stream=self.stream)
        self.route.credit(self.call, 4, 1 << 20)

    def delivered(self, got: list[ReceivedMessage], step_id: StepId, machine: int) -> None:
        assert machine == owner_of(self.stream) and len(got) <= 4
        self.delivered_twice += sum(each.seq in self.got for each in got)
        self.got |= {each.seq: decode_body(each.body)[2] for each in got}
        self.route.credit(self.call, len(got), 0)
        self.route.report(self.call, len(got), [])
        ack = Ack(self.stream, "c", AckKind.ACK, [each.seq for each in got])
        self.route.call(ack, lambda end: None, stream=self.stream, repeatable=True)

    def notified(self, event: Event, machine: int) -> None:
        raise AssertionError(f"{event!r} is of no subscription")

    def done(self, end: CallEnd) -> None:
        self.over = end.over
        if end.over is None:
            assert end.unknown or end.answer is not None
            self.world.machines.events.after(20 * MS, self.begin)


def test_subscriptions_deliver_all_that_was_confirmed_over_connections_that_break() -> None:
    world = SingleNodes(5)
    world.machines.start()
    world.machines.await_up()
    world.machines.run_for(SECOND)
    route = Route(-9, world.machines.network, world.machines.machines, world.machines.tape.track("route 9"))
    world.routes.append(route)
    for stream in world.streams:
        made: list[CallEnd] = []
        consumer = CreateConsumer(stream, consumer_config("c", ack_wait_ms=500))
        route.call(consumer, made.append, stream=stream, repeatable=True)
        world.machines.run_for(20 * SECOND, lambda made=made: bool(made))  # type: ignore[misc]
        assert isinstance(made[0].answer, Answer), made
    readers = [Reader(world, route, stream) for stream in world.streams]
    world.machines.run_for(10 * SECOND)
    world.machines.heal()
    world.publishing = False
    world.machines.run_for(30 * SECOND)
    for reader in readers:
        confirmed = {seq: payload for (stream, seq), payload in world.confirmed.items() if stream == reader.stream}
        assert len(confirmed) > 10 and reader.got.items() >= confirmed.items()
    assert sum(reader.begun for reader in readers) > 3
    assert any(reader.delivered_twice for reader in readers)
    consumer_gone: list[CallEnd] = []
    route.call(DeleteConsumer("1", "c"), consumer_gone.append, stream="1")
    world.machines.run_for(SECOND)
    assert readers[0].over is not None and readers[0].call.ended
    route.cancel(readers[1].call)
    assert readers[1].call.ended


@pytest.fixture(scope="module")
def marks() -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in SEEDS:
        world = SingleNodes(seed)
        world.run()
        assert len(world.confirmed) > 10, f"seed {seed}"
        found += world.machines.marks
    return found


def test_nothing_that_was_confirmed_is_lost(marks: Counter[str]) -> None:
    wanted = (
        "kill", "kill at effect", "power loss", "pause", "restart", "disk full", "clock rate", "clock jumped back",
        "client redirected", "client lost its connection", "client found no connection", "call of unknown outcome", "call lost",
        "halted: unclean",
    )  # fmt: skip
    assert never_reached(marks, wanted) == []


def test_a_single_copy_is_never_lost_on_purpose(marks: Counter[str]) -> None:
    assert marks["fault forbidden by the atlas"] > 0
    assert marks["directory lost"] == marks["damage"] == marks["synced end torn"] == 0


def test_a_seed_is_the_same_run_twice() -> None:
    def digest_of(seed: int) -> str:
        digest = Digest()
        world = SingleNodes(seed, digest)
        world.run(3 * SECOND)
        digest.add(f"{world.confirmed} {sorted(world.machines.marks.items())}")
        return digest.hex()

    digests = [digest_of(2), digest_of(3)]
    assert digests == [digest_of(2), digest_of(3)]
    assert digests[0] != digests[1]


def test_a_node_that_forgets_its_end_is_found_out() -> None:
    world = SingleNodes(2)
    world.machines.atlas.permits = lambda *asked: True  # type: ignore[method-assign]
    world.machines.plan.tear_synced = 100_000
    world.machines.plan.lose_directory = 0
    with pytest.raises(AssertionError, match="is given twice"):
        world.run()
    assert world.machines.marks["synced end torn"] > 0
