"""A world of members whose streams move by plan: machines drain one after the other, operators pin streams and send them back.

Beside what a world of members promises, it requires of every run: an epoch is led by one machine only; a message is not
delivered again after its ack was confirmed; a pinned stream stays where it is. Of a run without faults: no outcome is in doubt,
a stream is without a primary only for a moment, and streams return to their homes, but not before these have settled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from functools import partial

from waymaker_core.api.authority_requests import ClearStreamAuthority, SetStreamPinned
from waymaker_core.api.requests import Ack, AckKind, CreateConsumer, Fetch
from waymaker_core.cluster.member import Member, open_member
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.model.config import ConsumerConfig
from waymaker_core.model.disk_ops import DiskOp, OpResult
from waymaker_core.model.result_codes import ALREADY_EXISTS, OK, Answer, Outcome, Refusal
from waymaker_core.model.types import Now, StreamId
from waymaker_core.node import NodeConfig
from waymaker_sim.cluster.machines import MachinesPlan
from waymaker_sim.cluster.route import CallEnd, Route
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import Process
from waymaker_sim.machine.process_state import State
from waymaker_sim.members.world import STREAMS, MembersWorld

GAP_MAX_MS = 100
"""The longest time without a primary that serves, on machines whose syncs take 0.3 ms and links that take up to 2 ms."""
SETTLE_MS = 3_000
"""The time for which a home has to be well, in these worlds."""


class MovesWorld(MembersWorld):
    """Members with consumers, an operator, and rolling stops. `healthy`: no fault comes, and more is required."""

    rest_ns = 15 * SECOND  # the sweep goes on when clients have done

    def __init__(
        self,
        seed: int,
        digest: Digest | None = None,
        count: int = 3,
        settings: MemberSettings | None = None,
        *,
        healthy: bool = False,
        stops: bool = True,
    ) -> None:
        self._settings = settings or MemberSettings(settle_ms=SETTLE_MS)
        self.healthy = healthy
        super().__init__(seed, digest, count, MachinesPlan(count, down_ns=200 * MS) if healthy else None)
        tape, machines = self.tape, self.machines
        self.gaps_ms: list[float] = []
        self.moves = self.returns = self.redelivered = 0
        self.acked: set[tuple[str, int]] = set()
        self.refused_in_doubt = 0
        """Publishes that a member answered as unknown; one whose connection broke is not among them."""
        self._received: dict[tuple[str, int], int] = {}
        self.pinned: set[str] = set()
        """Streams whose pin was confirmed, and was not lifted since."""
        self._sent_back: set[str] = set()
        self._since: dict[str, int] = {}
        """By stream without a primary that serves: since when."""
        self._openers: dict[tuple[str, int], int] = {}
        self._led_by: dict[str, tuple[int, int]] = {}
        self._up_since_ns = defaultdict[int, int](int)
        machines.on_step = lambda process, now, inputs, effects: self._look()
        machines.on_start = self._started
        worker, operator = tape.track("worker"), tape.track("operator")
        self.routes += [
            Route(number, machines.network, machines.machines, tape.track(f"route {number}")) for number in (-11, -12)
        ]
        self._prepare(self.routes[-2], worker, list(STREAMS))
        self._operate(self.routes[-1], operator)
        if stops:
            self._stop_next(tape.track("stops"))

    def _open(self, config: NodeConfig, now: Now) -> Generator[DiskOp, OpResult, Member]:
        return open_member(config, now, self._seeds.draw("seed", 1 << 32), self._settings)

    def _started(self, process: Process) -> None:
        self._up_since_ns[process.number] = self.machines.events.now_ns

    # ------------------------------------------------------------ what is seen after each step

    def _members(self) -> dict[int, Member]:
        found = {}
        for number, process in self.machines.machines.items():
            if process.state is State.UP and isinstance(process.server, Member):
                found[number] = process.server
        return found

    def _look(self) -> None:
        now_ns, members = self.machines.events.now_ns, self._members()
        for number, name in enumerate(STREAMS, 1):
            serves = False
            for machine, member in members.items():
                replica = member.replicas.replica_of(number)
                if replica is None or not replica.epoch_led:
                    continue
                self._note_leader(member, name, number, replica.epoch_led, machine)
                serves = serves or not member.moves.is_draining(number)
            if serves:
                if name in self._since:
                    self.gaps_ms.append((now_ns - self._since.pop(name)) / MS)
            elif name in self._led_by:
                self._since.setdefault(name, now_ns)

    def _note_leader(self, member: Member, name: str, number: int, epoch: int, machine: int) -> None:
        opener = self._openers.setdefault((name, epoch), machine)
        require(opener == machine, "one leader", f"{machine} and {opener} lead {name} in epoch {epoch}")
        before_epoch, before = self._led_by.get(name, (0, machine))
        if epoch <= before_epoch:
            return
        self._led_by[name] = epoch, machine
        if machine == before:
            return
        self.moves += 1
        primary = self._members().get(before)
        if not self.healthy or primary is None or primary.is_leaving or primary.is_stalled:
            return
        self.returns += 1
        if name not in self._sent_back:
            require(name not in self.pinned, "pinned stays", f"{name} is pinned, and moved to {machine}")
            well_ms = (self.machines.events.now_ns - self._up_since_ns[machine]) // MS
            require(well_ms >= SETTLE_MS, "returns settled", f"{name} returned to {machine}, up for {well_ms} ms")
        self._sent_back.discard(name)
        require(machine == member.node.home_of(StreamId(number)), "returns settled", f"{name} moved to {machine}")

    def _published(self, route: Route, track: Track, stream: str, payload: bytes, end: CallEnd) -> None:
        self.refused_in_doubt += isinstance(end.answer, Refusal) and end.answer.outcome is Outcome.UNKNOWN
        super()._published(route, track, stream, payload, end)

    # ------------------------------------------------------------ consumers

    def _prepare(self, route: Route, track: Track, missing: list[str]) -> None:
        """Create a consumer of each stream, once the stream is there."""
        if not missing:
            self._fetch(route, track)
            return

        def created(end: CallEnd) -> None:
            there = isinstance(end.answer, Answer) and end.answer.code in (OK, ALREADY_EXISTS)
            left = missing[1:] if there else missing
            self.machines.events.after(20 * MS, partial(self._prepare, route, track, left))

        config = ConsumerConfig("worker", ack_wait_ms=60_000)
        route.call(CreateConsumer(missing[0], config), created, stream=missing[0], repeatable=True)

    def _fetch(self, route: Route, track: Track) -> None:
        if not self.publishing:
            return
        track.begin()
        stream = track.pick("stream", list(STREAMS))
        confirmed = {seq for name, seq in self.acked if name == stream}

        def fetched(end: CallEnd) -> None:
            got = end.got or []
            for each in got:
                require(each.seq not in confirmed, "no redelivery after ack", f"{each.seq} of {stream} came again")
                self.redelivered += self._received.get((stream, each.seq), 0)
                self._received[stream, each.seq] = 1
            some = [each.seq for each in got if track.draw("ack", 4)]
            if some:
                ack = Ack(stream, "worker", AckKind.ACK, some)
                route.call(ack, partial(acknowledged, some), stream=stream, repeatable=True)
            else:
                self.machines.events.after(20 * MS, partial(self._fetch, route, track))

        def acknowledged(seqs: list[int], end: CallEnd) -> None:
            if isinstance(end.answer, Answer) and end.answer.code == OK:
                self.acked.update((stream, seq) for seq in seqs)
            self.machines.events.after(20 * MS, partial(self._fetch, route, track))

        route.call(Fetch(stream, "worker", 20), fetched, stream=stream)

    # ------------------------------------------------------------ operators

    def _operate(self, route: Route, track: Track) -> None:
        self.machines.events.after(track.draw("pause", 3 * SECOND), partial(self._act_on_one, route, track))

    def _act_on_one(self, route: Route, track: Track) -> None:
        if not self.publishing:
            return
        track.begin()
        stream = track.pick("stream", list(STREAMS))
        act = track.draw("act", 3)
        done = partial(self._acted, route, track, stream, act)
        if act == 2:
            self._sent_back.add(stream)
            route.call(ClearStreamAuthority(stream), done, stream="", repeatable=True)
        else:
            self.pinned.discard(stream)
            route.call(SetStreamPinned(stream, act == 0), done, stream="", repeatable=True)

    def _acted(self, route: Route, track: Track, stream: str, act: int, end: CallEnd) -> None:
        if act == 2:
            self._sent_back.add(stream)  # it may have been decided late, after a return that it did not cause
        if act == 0 and isinstance(end.answer, Answer) and end.answer.code == OK:
            self.pinned.add(stream)
        self._operate(route, track)

    def _stop_next(self, track: Track) -> None:
        self.machines.events.after(track.draw("next stop", 6 * SECOND), partial(self._stop_one, track))

    def _stop_one(self, track: Track) -> None:
        if not self.publishing:
            return
        track.begin()
        up = self.machines.up()
        if len(up) == self.machines.plan.count and (self.healthy or self.machines.may_trouble(up[:1])):
            self.machines.machines[track.pick("machine", up)].drain()
        self._stop_next(track)

    # ------------------------------------------------------------ the run

    def run(self, ns: int = 10 * SECOND) -> None:
        """Run as a world of members does, and look at what moves have promised."""
        super().run(ns)
        if self.healthy:
            require(not self.refused_in_doubt, "moves leave no doubt", f"{self.refused_in_doubt} answers were in doubt")
            again = f"{self.redelivered} messages came again before their wait was over"
            require(not self.redelivered, "moves leave no doubt", again)
            longest = max(self.gaps_ms, default=0)
            require(longest <= GAP_MAX_MS, "moves in time", f"a stream had no primary that served for {longest:.1f} ms")
