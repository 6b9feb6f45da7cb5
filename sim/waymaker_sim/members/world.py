"""A world of members of one cluster: clients create streams and publish through any of them, while machines and links fail.

What was confirmed must be there at the end, once, at the place that the answer named, on whichever machine leads by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from functools import partial

from waymaker_core.api.requests import CreateStream, Publish, Published, ReadRange, Request
from waymaker_core.cluster.effects import Elsewhere, FromPeer, ToPeer
from waymaker_core.cluster.member import Member, open_member
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import DiskOp, OpResult
from waymaker_core.model.message_codec import decode_body, plain_body
from waymaker_core.model.result_codes import ALREADY_EXISTS, OK, Answer
from waymaker_core.model.types import Now
from waymaker_core.node import NodeConfig
from waymaker_sim.cluster.machines import Machines, MachinesPlan, config_with, draw_machines_plan
from waymaker_sim.cluster.network import NetworkPlan
from waymaker_sim.cluster.peers import PeerKinds
from waymaker_sim.cluster.route import CallEnd, Route
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Tape, Track
from waymaker_sim.machine.callers import ReceivedMessage
from waymaker_sim.machine.disk import DiskFaults
from waymaker_sim.machine.observations import PAGE
from waymaker_sim.machine.pace import Pace
from waymaker_sim.members.copies import Copies

KINDS = PeerKinds(ToPeer, FromPeer, Elsewhere)
STREAMS = ("a", "b", "c")


def draw_members_plan(track: Track, count: int) -> MachinesPlan:
    """Draw the machines of a cluster. Damage is switched off: a member with a damaged stream gets no other copy of it yet."""
    plan = draw_machines_plan(track, count)
    plan.damage = 0
    plan.tears_show = True
    return plan


def parted(plan: MachinesPlan) -> MachinesPlan:
    """Return a plan with many partitions, which last long enough for another primary: for rules about rivals."""
    plan.network.partition, plan.network.partition_ns = 100_000, 5 * SECOND
    plan.minority = True
    return plan


def rivals(plan: MachinesPlan) -> None:
    """Change a plan in place: quick links, machines that are well, and one long partition after the other.

    So a primary is cut off with some clients again and again, and goes on for as long as the rules let it.
    """
    plan.network = NetworkPlan(partition=200_000, partition_ns=4 * SECOND)
    plan.disk, plan.pace = DiskFaults(), Pace()
    plan.kill = plan.kill_at_effect = plan.power = plan.full = plan.wall_jump = plan.skew_ms = 0
    plan.lose_directory = plan.tear_synced = 0
    plan.pause = 10_000
    plan.minority = True


class MembersWorld:
    """Some members, with clients that publish to all streams."""

    rest_ns = 0
    """Time in which the world goes on after the last publish, before what is there is compared."""

    def __init__(
        self, seed: int, digest: Digest | None = None, count: int = 3, plan: MachinesPlan | None = None
    ) -> None:
        tape = self.tape = Tape(seed)
        if plan is None:
            plan = draw_members_plan(tape.track("swarm"), count)
        self._seeds = tape.track("seeds of members")
        settings = config_with(plan.limits)
        members = tuple(range(1, plan.count + 1))

        def config_of(number: int, directory: int) -> NodeConfig:
            return replace(settings(number, directory), member=True, members=members)

        self.machines = Machines(
            tape, plan, opener=self._open, config_of=config_of, kinds=KINDS, digest=digest, feed=Copies().feed
        )
        self.confirmed: dict[tuple[str, int], bytes] = {}
        """Payloads by stream and sequence."""
        self.sent = 0
        self.doubtful: set[bytes] = set()
        self.publishing = True
        self.routes = [self._client(tape, number) for number in range(1, 4)]

    def _open(self, config: NodeConfig, now: Now) -> Generator[DiskOp, OpResult, Member]:
        return open_member(config, now, self._seeds.draw("seed", 1 << 32))

    # ------------------------------------------------------------ clients

    def _client(self, tape: Tape, number: int) -> Route:
        route = Route(-number, self.machines.network, self.machines.machines, tape.track(f"route {number}"))
        self._turn(route, tape.track(f"client {number}"), list(STREAMS))
        return route

    def _turn(self, route: Route, track: Track, missing: list[str]) -> None:
        """Create what may be missing, then publish."""
        track.begin()
        if missing:
            created = partial(self._created, route, track, missing)
            request = CreateStream(StreamConfig(missing[0]))
            route.call(request, created, stream="", repeatable=True)
        elif self.publishing:
            stream = track.pick("stream", list(STREAMS))
            self.sent += 1
            payload = b"%d" % self.sent
            body = plain_body("subject", payload)
            request_ = Publish(stream, ["subject"], [len(payload)], [len(body)], body)
            route.call(request_, partial(self._published, route, track, stream, payload), stream=stream)

    def _created(self, route: Route, track: Track, missing: list[str], end: CallEnd) -> None:
        there = isinstance(end.answer, Answer)
        if isinstance(end.answer, Answer):
            assert end.answer.code in (OK, ALREADY_EXISTS)
        self.machines.events.after(MS, partial(self._turn, route, track, missing[1:] if there else missing))

    def _published(self, route: Route, track: Track, stream: str, payload: bytes, end: CallEnd) -> None:
        answer = end.answer
        if isinstance(answer, Answer) and answer.code == OK:
            assert isinstance(answer.value, Published) and answer.value.count == 1
            place = stream, answer.value.first_seq
            require(place not in self.confirmed, "one history", f"{place} is given twice")
            self.confirmed[place] = payload
        elif end.unknown:
            self.doubtful.add(payload)
        self.machines.events.after(track.draw("think", 50 * MS), partial(self._turn, route, track, []))

    # ------------------------------------------------------------ the run

    def run(self, ns: int = 10 * SECOND) -> None:
        """Run with faults, heal, see that every stream takes messages, and compare what is there with what was confirmed."""
        self.machines.start()
        self.machines.run_for(ns)
        self.machines.heal()
        self.run_healed()

    def run_healed(self) -> None:
        """See that every stream takes messages where all is well, and compare what is there with what was confirmed."""
        self.machines.await_up()
        enough = Counter(stream for stream, _ in self.confirmed)
        self.machines.run_for(60 * SECOND, lambda: self._all_above(enough))
        require(self._all_above(enough), "comes up", f"healed members confirm nothing on some of {STREAMS}: {enough}")
        self.publishing = False
        self.machines.run_for(self.rest_ns)
        self.machines.run_for(15 * SECOND, lambda: not any(route.open_calls for route in self.routes))
        assert not any(route.open_calls for route in self.routes)
        for stream in STREAMS:
            self._audit(stream)

    def _all_above(self, before: Counter[str]) -> bool:
        now = Counter(stream for stream, _ in self.confirmed)
        return all(now[stream] > before[stream] for stream in STREAMS)

    def _audit(self, stream: str) -> None:
        found: dict[int, bytes] = {}
        while got := self._ask(ReadRange(stream, max(found, default=0) + 1, PAGE), stream):
            found |= {each.seq: decode_body(each.body)[2] for each in got}
        for (name, seq), payload in self.confirmed.items():
            if name == stream:
                detail = f"{payload!r} at {seq} of {stream}: {found.get(seq)!r}"
                require(found.get(seq) == payload, "acked survives", detail)
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
