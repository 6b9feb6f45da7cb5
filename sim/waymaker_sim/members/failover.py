"""A failover of many streams: the machine that leads the catalog, and much else, stops for good, and others take its streams.

No fault is drawn. What is measured is virtual time, from the stop to the confirmed publish on each stream that it led.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial

from waymaker_core.api.cluster_requests import ClaimStream, ClaimStreams
from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import CreateStream, Publish, Request
from waymaker_core.cluster.effects import Elsewhere, FromPeer, ToPeer
from waymaker_core.cluster.member import Member, open_member
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import DiskOp, OpResult
from waymaker_core.model.message_codec import plain_body
from waymaker_core.model.result_codes import OK, Answer, Outcome, Refusal
from waymaker_core.model.types import CATALOG, Now
from waymaker_core.node import NodeConfig
from waymaker_sim.cluster.machines import Machines, MachinesPlan, config_with
from waymaker_sim.cluster.peers import PeerKinds
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.callers import ReceivedMessage, StepId
from waymaker_sim.machine.process import Process
from waymaker_sim.machine.process_state import State

KINDS = PeerKinds(ToPeer, FromPeer, Elsewhere)
LOOK_NS = 10 * MS
"""The interval at which it is looked who leads what."""


@dataclass(slots=True, eq=False)
class Asker:
    """A client that makes one call, once, and notes its answer."""

    answered: Callable[[Answer | Refusal | None], None]

    def replied(self, answer: Answer | Refusal, _got: list[ReceivedMessage] | None, _step_id: StepId) -> None:
        """Note the answer."""
        self.answered(answer)

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        """Receive nothing: it makes no subscription."""

    def notified(self, event: Event) -> None:
        """Receive nothing: it makes no watch."""

    def ended(self, end: End) -> None:
        """Receive nothing: it makes no subscription."""

    def lost(self) -> None:
        """Note that there is no answer."""
        self.answered(None)

    def redirected(self, _node_id: int, _epoch: int) -> None:
        """Note that there is no answer."""
        self.answered(None)


class FailoverWorld:
    """Members with many streams, none of which is busy."""

    def __init__(self, seed: int, count: int = 3, streams: int = 1_000) -> None:
        tape = Tape(seed)
        plan = MachinesPlan(count=count)
        self._seeds = tape.track("seeds of members")
        settings = config_with(plan.limits)
        members = tuple(range(1, count + 1))

        def config_of(number: int, directory: int) -> NodeConfig:
            return replace(settings(number, directory), member=True, members=members)

        self.machines = Machines(tape, plan, opener=self._open, config_of=config_of, kinds=KINDS)
        self.names = [f"s{number}" for number in range(1, streams + 1)]
        self.ids: dict[str, int] = {}

    def _open(self, config: NodeConfig, now: Now) -> Generator[DiskOp, OpResult, Member]:
        return open_member(config, now, self._seeds.draw("seed", 1 << 32))

    # ------------------------------------------------------------ views

    @property
    def now_ns(self) -> int:
        """Return the virtual time."""
        return self.machines.events.now_ns

    def members(self) -> dict[int, Member]:
        """Return the members that serve, by number."""
        up = ((number, process) for number, process in self.machines.machines.items() if process.state is State.UP)
        return {number: process.server for number, process in up if isinstance(process.server, Member)}

    def catalog_leader(self) -> int:
        """Return the machine that leads the catalog; 0 where none does."""
        return next((number for number, member in self.members().items() if member.leads_catalog), 0)

    def led(self, number: int) -> list[str]:
        """Return the streams that a machine leads."""
        member = self.members()[number]
        return [name for name, stream_id in self.ids.items() if member.replicas.leads_stream(stream_id)]

    def catalog_end(self) -> int:
        """Return the length of the catalog's log on the machine that leads it."""
        return self.members()[self.catalog_leader()].node.log_end(CATALOG)

    # ------------------------------------------------------------ the run

    def ask(self, number: int, request: Request, answered: Callable[[Answer | Refusal | None], None]) -> None:
        """Make a call of a machine."""
        if self.machines.machines[number].call(request, Asker(answered)) is None:
            answered(None)

    def begin(self) -> None:
        """Start the members, create all streams at once, and wait until each is led."""
        self.machines.start()
        self.machines.run_for(5 * SECOND, lambda: bool(self.catalog_leader()))
        leader = self.catalog_leader()
        assert leader
        made: list[str] = []
        for name in self.names:
            self._create(leader, name, made)
        self.machines.run_for(10 * SECOND, lambda: len(made) == len(self.names))
        assert len(made) == len(self.names), f"{len(made)} streams of {len(self.names)} were created"
        by_name = {each.name: each.stream_id for each in self.members()[leader].node.log_figures()}
        self.ids = {name: by_name[name] for name in self.names}
        self.await_led()

    def _create(self, leader: int, name: str, made: list[str]) -> None:
        self.ask(leader, CreateStream(StreamConfig(name)), partial(self._made, leader, name, made))

    def _made(self, leader: int, name: str, made: list[str], answer: Answer | Refusal | None) -> None:
        if isinstance(answer, Answer):
            assert answer.code == OK, (name, answer)
            made.append(name)
        else:
            assert answer is not None and answer.outcome is Outcome.NOT_APPLIED, (name, answer)
            self.machines.events.after(LOOK_NS, partial(self._create, leader, name, made))

    def await_led(self, ns: int = 10 * SECOND) -> None:
        """Wait until each stream is led by a member that serves."""
        until_ns = self.now_ns + ns
        while sum(len(self.led(number)) for number in self.members()) < len(self.names):
            assert self.now_ns < until_ns, "streams that are not led"
            self.machines.run_for(LOOK_NS)

    def gather(self, number: int) -> None:
        """Claim every stream for one machine, which holds all of them, and wait until it leads them."""
        leader = self.catalog_leader()
        node = self.members()[leader].node
        claims: list[ClaimStream] = []
        for stream_id in self.ids.values():
            conf = node.conf(stream_id)
            assert conf is not None
            replicas = (number, *(each for each in conf.newest.replicas if each != number))[: len(conf.newest.replicas)]
            claims.append(ClaimStream(stream_id, number, replicas, conf.newest.epoch))
        self.ask(leader, ClaimStreams(claims), lambda _answer: None)
        until_ns = self.now_ns + 10 * SECOND
        while len(self.led(number)) < len(self.ids):
            assert self.now_ns < until_ns, "streams that are not led"
            self.machines.run_for(LOOK_NS)

    def stop(self, number: int) -> None:
        """Kill a machine that does not start again."""
        process = self.machines.machines[number]
        process.on_down = partial(self._down, process)
        process.kill()

    def _down(self, process: Process) -> None:
        self.machines.network.stopped(process.number)

    def serve_again(self, names: list[str], ns: int = 10 * SECOND) -> dict[str, int]:
        """Publish on each of these streams as soon as it is led; return the nanoseconds until that was confirmed."""
        begun_ns, missing, confirmed = self.now_ns, dict.fromkeys(names), dict[str, int]()
        asked: dict[str, None] = {}
        body = plain_body("subject", b"payload")

        def answered(name: str, answer: Answer | Refusal | None) -> None:
            if isinstance(answer, Answer) and answer.code == OK:
                confirmed[name] = self.now_ns - begun_ns
            else:
                asked.pop(name)

        while missing and self.now_ns < begun_ns + ns:
            self.machines.run_for(LOOK_NS)
            for number, member in self.members().items():
                for name in [each for each in missing if each not in asked]:
                    if member.replicas.leads_stream(self.ids[name]):
                        asked[name] = None
                        request = Publish(name, ["subject"], [7], [len(body)], body)
                        self.ask(number, request, partial(answered, name))
            missing = {name: None for name in missing if name not in confirmed}
        return confirmed
