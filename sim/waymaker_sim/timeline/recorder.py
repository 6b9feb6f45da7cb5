"""Records a run while it runs. It observes and changes nothing: the same seed is the same run with and without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from waymaker_core.api.effects import Effect, End, Event, Halt, Job, Lane, Log
from waymaker_core.api.inputs import Call, Cancel, Credit, Input, JobDone, JobFailed, Unreadable
from waymaker_core.api.requests import Ack, Publish, Published, Request, StreamInfo
from waymaker_core.model.disk_ops import DiskFailure, DiskOp
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import JobId, Now, Token
from waymaker_sim.clients.client_view import Ask
from waymaker_sim.clients.watcher import Watch
from waymaker_sim.clients.worker import Subscription
from waymaker_sim.cluster.peers import Redirectable
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import Caller, Process, ReceivedMessage, StepId
from waymaker_sim.machine.process_state import State
from waymaker_sim.members.cluster_world import ClusterWorld
from waymaker_sim.timeline.record import Exchange, Kind, Moment, Part, Work
from waymaker_sim.timeline.words import (
    describe_answer,
    describe_messages,
    describe_ops,
    describe_request,
    duration,
    sequences,
    target_of,
)
from waymaker_sim.world.world import World

NAMELESS = {
    "Administrator": "administrator",
    "PatientAsker": "audit",
    "ObjectClient": "objects",
    "StoreClient": "stores",
    "Copyist": "copyist",
    "_answered": "strays",
}
"""Clients whose callers are functions inside one of their methods, which do not hold the client."""


def actor_of(caller: Caller) -> str:
    """Return the lane of the caller: the name of its track, if it has one."""
    behind = getattr(caller, "client", None)  # of one attempt of a routed call
    if behind is not None:
        return actor_of(behind)
    owner: object = caller
    if isinstance(caller, Ask):
        owner = caller.on_reply
        while isinstance(owner, partial):
            owner = owner.func
        client = getattr(owner, "__self__", None) or _client_of(owner)
        if client is None:
            return NAMELESS[str(getattr(owner, "__qualname__", "")).partition(".")[0]]
        owner = client
    elif isinstance(caller, Subscription):
        owner = caller.worker
    elif isinstance(caller, Watch):
        owner = caller.watcher
    track = getattr(owner, "track", None)
    assert isinstance(track, Track), f"{owner!r} calls and has no name"
    return track.name


def _client_of(function: object) -> object | None:
    """Return the client in whose method a function was made, if the function holds one that has a track."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = dict(zip(names, getattr(function, "__closure__", None) or (), strict=True))
    client = cells["self"].cell_contents if "self" in cells else None
    return client if hasattr(client, "track") else None


class Recorder:
    """All moments of one world. Make it after the world and before it runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.moments: list[Moment] = []
        self.exchanges: list[Exchange] = []
        self.machines = [MachineRecorder(self, machine) for machine in world.machines]
        self._act = 1
        if isinstance(world, ClusterWorld):
            world.primaries.on_lead = self._leads
            world.cluster.network.on_fault = self._link_fault

    def _leads(self, machine: int, stream: str, epoch: int) -> None:
        self.add(f"node {machine}", Kind.LOG, f"leads {stream} in {epoch}")

    def _link_fault(self, kind: str, detail: str) -> None:
        self.add("network", Kind.FAULT, detail, fault=kind)

    def add(
        self, lane: str, kind: Kind, text: str, exchange: Exchange | None = None, work: Work | None = None,
        seqs: Sequence[int] = (), fault: str = "",
    ) -> Moment:  # fmt: skip
        """Record a moment."""
        self._turn()
        return self._add(lane, kind, text, exchange, work, seqs, fault)

    def _add(
        self, lane: str, kind: Kind, text: str, exchange: Exchange | None, work: Work | None,
        seqs: Sequence[int], fault: str,
    ) -> Moment:  # fmt: skip
        now_ns = self.world.events.now_ns
        moment = Moment(len(self.moments), now_ns, lane, kind, text, exchange, work, frozenset(seqs), fault)
        self.moments.append(moment)
        if exchange is not None:
            exchange.moments.append(moment)
        return moment

    def _turn(self) -> None:
        """Record the phase of the run, if another one has begun since the last moment."""
        if self._act == 1 and not self.world.view.faulty:
            self._act = 2
            self._add("world", Kind.ACT, "faults end: the node must come up and make progress", None, None, (), "")
        if self._act == 2 and self.world.administrator.quiet:
            self._act = 3
            self._add(
                "world", Kind.ACT, "rest: consumers drain, then everything is read and judged", None, None, (), ""
            )

    def close(self, check: str, detail: str) -> None:
        """Note that the run is over, and the outcomes of calls without an answer as far as they are known."""
        for exchange in self.exchanges:
            if isinstance(exchange.request, Publish) and exchange.moments[-1].kind is Kind.LOST:
                self._trace(exchange, exchange.request)
        for machine in self.machines:
            machine.close()
        text = f"{check}: {detail}" if check else "nothing was violated"
        self.add("world", Kind.VERDICT, text)

    def _trace(self, exchange: Exchange, request: Publish) -> None:
        """Find where the messages of a publish without an answer were read later."""
        at, seqs = 0, []
        for length in request.lengths:
            attempt = self.world.history.attempts.get(request.body[at : at + length])
            at += length
            if attempt is not None and attempt.seq:
                seqs.append(attempt.seq)
        moment = exchange.moments[-1]
        moment.seqs = frozenset(seqs)
        moment.text += f"; seen later at {sequences(seqs)}" if seqs else "; never seen"


class MachineRecorder:
    """Records one machine's process and disk, and the calls to it: an `Observer`, and behind every hook."""

    def __init__(self, recorder: Recorder, process: Process) -> None:
        self.recorder = recorder
        self.process = process
        number = process.number
        self.node = f"node {number}"
        self.disk = f"disk {number}"
        self._lanes = {
            Lane.JOURNAL: f"journal {number}",
            Lane.BACKGROUND: f"background {number}",
            Lane.READ: f"reads {number}",
        }
        self._waiting: dict[Token, Exchange] = {}
        self._jobs: dict[JobId, Work] = {}
        self._of: dict[int, Work] = {}
        """The job of every operation that is pending or in flight, by the identity of the operation."""
        self._running: dict[int, Part] = {}
        self._settling: Work | None = None
        """The journal job whose end the present step receives."""
        self._started_ns = 0
        self._starts = 0
        self._recovering: list[DiskOp] = []
        self._hook(process)

    def _hook(self, process: Process) -> None:
        process.observer = self
        step, up, down, log = process.on_step, process.on_up, process.on_down, process.on_log

        def stepped(of: Process, now: Now, inputs: list[Input], effects: list[Effect]) -> None:
            self._stepped(inputs, effects)
            if step is not None:
                step(of, now, inputs, effects)

        process.on_step = stepped
        process.on_up = partial(_both, self._up, up)
        process.on_down = partial(_both, self._down, down)

        def logged(entry: Log) -> None:
            self._logged(entry)
            log(entry)

        process.on_log = logged

    # ------------------------------------------------------------ calls

    def called(self, token: Token, request: Request, caller: Caller) -> Caller:
        """Record a call and its notifications."""
        stream, consumer = target_of(request)
        lane, now_ns = actor_of(caller), self.recorder.world.events.now_ns
        exchange = Exchange(lane, self.node, request, now_ns, self.process.run, stream, consumer)
        self.recorder.exchanges.append(exchange)
        self._waiting[token] = exchange
        seqs = request.seqs if isinstance(request, Ack) else ()
        self.recorder.add(lane, Kind.CALL, describe_request(request), exchange, seqs=seqs)
        return RecordedCaller(self, token, exchange, caller)

    def answered(
        self, token: Token, exchange: Exchange, answer: Answer | Refusal, got: list[ReceivedMessage] | None
    ) -> None:
        """Record a caller's answer."""
        self._waiting.pop(token, None)
        exchange.settled_by = self._settling
        value = answer.value if isinstance(answer, Answer) else None
        seqs: Sequence[int] = ()
        if got is not None:
            seqs = [message.seq for message in got]
        elif isinstance(value, Published):
            actual = [failure[2] for failure in (value.failures or {}).values() if failure[2]]
            seqs = [*range(value.first_seq, value.first_seq + value.count), *actual]
        elif isinstance(exchange.request, Ack):
            seqs = exchange.request.seqs
        elif isinstance(value, StreamInfo):
            seqs = [value.stats.last_seq]
        self._record_notice(exchange, Kind.ANSWER, describe_answer(answer, got), seqs)

    def delivered(self, exchange: Exchange, got: list[ReceivedMessage]) -> None:
        """Record messages that a subscriber is sent."""
        self._record_notice(exchange, Kind.DELIVERY, describe_messages(got), [message.seq for message in got])

    def notified(self, exchange: Exchange, event: Event) -> None:
        """Record an event that a watcher received."""
        name = f"{event.stream}/{event.consumer}" if event.consumer else event.stream
        self._record_notice(exchange, Kind.NOTICE, f"{event.kind.name.lower().replace('_', ' ')} {name}", ())

    def ended(self, token: Token, exchange: Exchange, end: End) -> None:
        """Record the end of a subscription or watch."""
        self._waiting.pop(token, None)
        self._record_notice(exchange, Kind.END, f"ended: {end.reason or end.refusal!r}", ())

    def redirected(self, token: Token, exchange: Exchange, machine: int, epoch: int) -> None:
        """Record that a call is to go to another machine."""
        self._waiting.pop(token, None)
        self._record_notice(exchange, Kind.END, f"sent on to node {machine}, epoch {epoch}", ())

    def lost(self, token: Token, exchange: Exchange) -> None:
        """Record that a caller never gets its answer."""
        self._waiting.pop(token, None)
        self._record_notice(exchange, Kind.LOST, "the connection breaks before an answer", ())

    def _record_notice(self, exchange: Exchange, kind: Kind, text: str, seqs: Sequence[int]) -> None:
        self.recorder.add(exchange.lane, kind, text, exchange, seqs=seqs)

    # ------------------------------------------------------------ steps

    def _stepped(self, inputs: list[Input], effects: list[Effect]) -> None:
        now_ns = self.recorder.world.events.now_ns
        self._settling = None
        for item in inputs:
            if isinstance(item, Call):
                exchange = self._waiting.get(item.token)
                if exchange is not None:
                    exchange.received_ns = now_ns
            elif isinstance(item, JobDone | JobFailed):
                work = self._jobs.pop(item.id, None)
                if work is not None:
                    work.received_ns = now_ns
                    if work.lane == self._lanes[Lane.JOURNAL]:
                        self._settling = work
            elif isinstance(item, Cancel):
                exchange = self._waiting.pop(item.token, None)
                if exchange is not None:
                    self._record_notice(exchange, Kind.CANCEL, "gives up", ())
            elif isinstance(item, Credit):
                exchange = self._waiting.get(item.token)
                if exchange is not None:
                    self._record_notice(exchange, Kind.CREDIT, f"has room for {item.messages} more", ())
            elif isinstance(item, Unreadable):
                self.recorder.add(self.disk, Kind.FAILURE, f"a read for an answer fails: {item.failure}")
        for effect in effects:
            if isinstance(effect, Job):
                work = Work(self._lanes[effect.lane], self.node, now_ns, effect.ops)
                self._jobs[effect.id] = work
                for op in effect.ops:
                    self._of[id(op)] = work
            elif isinstance(effect, Halt):
                how = "in order" if effect.clean else "since durability can no longer be promised"
                self.recorder.add(self.node, Kind.HALT, f"the node halts {how}: {effect.reason}")

    def _logged(self, entry: Log) -> None:
        fields = ", ".join(f"{name} {value}" for name, value in entry.fields.items())
        self.recorder.add(self.node, Kind.LOG, entry.event.replace("_", " ") + (f": {fields}" if fields else ""))

    # ------------------------------------------------------------ the disk

    def op_begun(self, op: DiskOp) -> None:
        """Record that a disk operation begins that takes time."""
        part = self._running[id(op)] = Part(op, self.recorder.world.events.now_ns)
        work = self._of.get(id(op))
        if work is not None:
            work.parts.append(part)

    def op_done(self, op: DiskOp, failure: DiskFailure | None) -> None:
        """Record that a disk operation of a job or of recovery ended."""
        part = self._running.pop(id(op), None)
        work = self._of.pop(id(op), None)
        if part is not None:
            part.ended_ns = self.recorder.world.events.now_ns
            part.failure = str(failure) if failure is not None else ""
        if work is None:
            if self.process.state is State.BOOTING:
                self._recovering.append(op)
            if failure is not None:
                self.recorder.add(self.disk, Kind.FAILURE, f"recovery: {failure}")
            return
        if failure is not None:
            for left in work.ops:
                self._of.pop(id(left), None)
        if failure is not None or op is work.ops[-1]:
            if failure is None:
                self._finish(work, Kind.JOB)
            else:
                self._finish(work, Kind.FAILURE, f"fails: {failure}")

    def _finish(self, work: Work, kind: Kind, ending: str = "") -> None:
        work.ended_ns = self.recorder.world.events.now_ns
        took = duration(work.ended_ns - work.begun_ns)
        text = f"{describe_ops([part.op for part in work.parts])} ({took})"
        self.recorder.add(work.lane, kind, f"{text} {ending}".strip(), work=work)

    # ------------------------------------------------------------ starting and dying

    def started(self) -> None:
        """Record that the process begins to recover."""
        self._started_ns = self.recorder.world.events.now_ns
        self._starts += 1
        self._recovering = []
        self.recorder.add(self.node, Kind.START, f"start {self._starts}: recovery reads what the disk holds")

    def _up(self) -> None:
        took = duration(self.recorder.world.events.now_ns - self._started_ns)
        self.recorder.add(self.node, Kind.UP, f"up: recovery took {took} and {len(self._recovering)} disk operations")

    def fault(self, kind: str, detail: str) -> None:
        """Record a fault from outside."""
        if kind == "lost":
            self.recorder.add(self.disk, Kind.LOSS, detail, fault=kind)
            return
        lane = self.disk if kind.startswith("disk") or kind == "bit rot" else self.node
        if kind == "kill" and self.process.halted is not None:
            detail = "the process ends"
        elif kind == "kill" and self.process.effects_left is not None and self.process.effects_left < 0:
            detail = "the process is killed between two effects of a step"
        self.recorder.add(lane, Kind.FAULT, detail, fault=kind)
        if kind in ("kill", "power loss"):
            self._interrupt()

    def close(self) -> None:
        """Note that the run is over; jobs may be in flight."""
        self._leave("is still under way")

    def _leave(self, ending: str) -> None:
        for key in list(self._running):
            work = self._of.get(key)
            if work is not None:
                self._finish(work, Kind.CUT, ending)

    def _interrupt(self) -> None:
        """Interrupt the jobs in flight in the middle of an operation; those behind them never begin."""
        self._leave("is interrupted")
        self._running.clear()
        self._of.clear()
        self._jobs.clear()

    def _down(self) -> None:
        if self.process.refusal is not None:
            self.recorder.add(self.node, Kind.REFUSED, f"the process does not start: {self.process.refusal}")
            self._running.clear()


class RecordedCaller:
    """Replaces a caller: records its notifications, and forwards them."""

    __slots__ = ("machine", "token", "exchange", "caller")

    def __init__(self, machine: MachineRecorder, token: Token, exchange: Exchange, caller: Caller) -> None:
        self.machine = machine
        self.token = token
        self.exchange = exchange
        self.caller = caller

    def replied(self, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        """Record and forward the answer."""
        self.machine.answered(self.token, self.exchange, answer, got)
        self.caller.replied(answer, got, step_id)

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        """Record and forward messages of a subscription."""
        self.machine.delivered(self.exchange, got)
        self.caller.delivered(got, step_id)

    def notified(self, event: Event) -> None:
        """Record and forward an event of a watch."""
        self.machine.notified(self.exchange, event)
        self.caller.notified(event)

    def redirected(self, machine: int, epoch: int) -> None:
        """Record and forward a redirect."""
        self.machine.redirected(self.token, self.exchange, machine, epoch)
        cast(Redirectable, self.caller).redirected(machine, epoch)

    def ended(self, end: End) -> None:
        """Record and forward the end of a subscription or watch."""
        self.machine.ended(self.token, self.exchange, end)
        self.caller.ended(end)

    def lost(self) -> None:
        """Record and forward the end of the process."""
        self.machine.lost(self.token, self.exchange)
        self.caller.lost()


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()
