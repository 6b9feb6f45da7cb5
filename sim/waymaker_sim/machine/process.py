"""One server process on one machine, simulated: the real node, driven as the real shell drives it.

It collects inputs and calls `Node.step`, performs the effects in order, runs disk jobs on their lanes with time in
between, reads the messages of replies, and keeps the node's two clocks. It can crash at any effect and in the middle of
any disk operation, and start again from what the disk still holds. It checks nothing; callers and hooks get what it
observes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Protocol

from waymaker_core.api.effects import (
    Confirm,
    Declined,
    Deliver,
    Effect,
    End,
    Event,
    Halt,
    Job,
    Kept,
    Lane,
    Log,
    Replicate,
    Reply,
)
from waymaker_core.api.inputs import (
    Call,
    Cancel,
    Credit,
    Drain,
    Input,
    JobDone,
    JobFailed,
    Report,
    StepDown,
    Unreadable,
)
from waymaker_core.api.requests import Messages, Request
from waymaker_core.model.disk_ops import (
    CreateFile,
    Delete,
    DiskFailure,
    DiskOp,
    ListDir,
    OpResult,
    Read,
    ReadChunk,
    Rename,
    SyncDir,
    SyncFile,
    Write,
)
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import ANYONE, Now, Token
from waymaker_core.node import Node, NodeConfig, open_node
from waymaker_sim.kernel.events import MS, Events
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.access import Alone
from waymaker_sim.machine.callers import Caller, Observer, ReceivedMessage, StepId
from waymaker_sim.machine.disk import SimDisk
from waymaker_sim.machine.late_reads import SLOW_MAX_NS, HeldFiles, LateReads, moved_path, read_paths
from waymaker_sim.machine.livelock import LivelockDetector
from waymaker_sim.machine.pace import Pace
from waymaker_sim.machine.phantom_quorum import PhantomQuorum
from waymaker_sim.machine.process_state import State

__all__ = ["Caller", "NodeRaised", "Observer", "Process", "ReceivedMessage", "Server", "StepId"]


class NodeRaised(Exception):
    """The node threw an exception of its own: always a bug."""


class Server(Protocol):
    """A program that a process runs: a node, or an object with a node's two methods, as one around a node has them.

    Its inputs and effects may be of other kinds than a node's, too; `Process.on_other` gets such effects.
    """

    def step(self, now: Now, inputs: Sequence[Any], /) -> list[Any]:
        """Process the inputs in order; return the effects."""

    def next_deadline(self) -> int | None:
        """Return the moment on the monotonic clock at which it is to step again; None if it waits for inputs alone."""


Recovery = Generator[DiskOp, OpResult, Server]
Opener = Callable[[NodeConfig, Now], Recovery]
StepSeen = Callable[["Process", Now, list[Input], list[Effect]], None]

_QUICK = (Read, ReadChunk, ListDir)
MILLION = 1_000_000


class Process(Alone):
    """One machine with a disk, and the process on it, over many process runs."""

    FIRST_WALL_MS = 1_700_000_000_000
    """Wall clock at the beginning of virtual time, where it is right."""

    def __init__(
        self,
        number: int,
        events: Events,
        disk: SimDisk,
        config: NodeConfig,
        track: Track,
        reads: Track,
        pace: Pace,
        opener: Opener = open_node,
    ) -> None:
        self.number = number
        self.events = events
        self.disk = disk
        self.config = config
        self.track = track
        self.pace = pace
        self.opener = opener
        self.state = State.DOWN
        self.run = 0
        self.term = 0
        """Number of times that this node began to lead: at each start, and whenever it was deposed."""
        self.server: Server | None = None
        self.node: Node | None = None
        """The server itself if it is a node, or the node inside it; None for a server without one."""
        self.refusal: Exception | None = None
        self.halted: Halt | None = None
        self.wall_base_ms = self.FIRST_WALL_MS
        self.wall_max_ms = self.wall_base_ms
        self.rate_ppm = 0
        """Millionths by which the monotonic clock is faster than virtual time; may change only between two runs."""
        self.steps = 0
        self.calls = 0
        """Calls that the node received since it started."""
        self.effects_left: int | None = None
        """Number of effects until the process crashes; None: no such plan."""
        self.target_disk_full: tuple[str, int] | None = None
        """Prefix of the paths of operations before which the disk fills, and how many of them to let pass."""
        self.on_targeted_disk_full: Callable[[], None] = lambda: None
        self.on_step: StepSeen | None = None
        self.on_up: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None
        self.on_down: Callable[[], None] = lambda: None
        self.on_deposed: Callable[[], None] = lambda: None
        self.on_log: Callable[[Log], None] = lambda log: None
        self.on_other: Callable[[Any, StepId], None] = _refuse_effect
        """Performs effects that no node alone has: those for other machines, and redirects."""
        self.observer: Observer | None = None
        self._mono_base_ns = 0
        self._inputs: list[Input] = []
        self._callers: dict[Token, Caller] = {}
        self._cancelled: set[Token] = set()
        self._next_token = 1
        self._lanes: dict[Lane, deque[Job]] = {Lane.JOURNAL: deque(), Lane.BACKGROUND: deque()}
        self._being_read = HeldFiles()
        self.late_reads = LateReads(events, reads, self._being_read, pace.late_reads, pace.read_ns, self.read)
        self._running: dict[int, DiskOp] = {}
        """The operation in flight of every job that has one, by job id."""
        self._step_at = -1
        self.up_ns = 0
        """Time when the process last started to serve."""
        self.paused_until_ns = 0
        """Time when the last pause ended, or will end."""
        self._busy_until = 0
        self._livelock = LivelockDetector()
        self.quorum: PhantomQuorum | None = None
        """Stand-in for the other replicas of the node's logs."""

    # ------------------------------------------------------------ clocks

    def now(self) -> Now:
        """Return the machine's clocks. The monotonic one begins anew with every start of the process."""
        wall_ms = self.wall_base_ms + self.events.now_ns // MS
        self.wall_max_ms = max(self.wall_max_ms, wall_ms)
        return Now((self.events.now_ns - self._mono_base_ns) * (MILLION + self.rate_ppm) // MILLION, wall_ms)

    def virtual_ns(self, mono_ns: int) -> int:
        """Return the virtual time of a reading of this run's monotonic clock."""
        return self._true_ns(mono_ns) + self._mono_base_ns

    def _true_ns(self, mono_ns: int) -> int:
        """Return the virtual time in which the monotonic clock goes on by so much, or a little more."""
        return -(-mono_ns * MILLION // (MILLION + self.rate_ppm))

    def begin_span(self) -> None:
        """Begin a new span of draws for this machine and its disk: a moment of the run has passed."""
        self.track.begin()
        self.disk.track.begin()
        self.late_reads.track.begin()
        if self.quorum is not None:
            self.quorum.begin_span()

    def jump_wall(self, delta_ms: int) -> None:
        """Change the wall clock."""
        self.wall_base_ms += delta_ms
        self.fault("clock jump", f"the wall clock jumps by {delta_ms:+,} ms")

    # ------------------------------------------------------------ starting and dying

    def start(self) -> None:
        """Begin to recover. Afterwards the process is UP or REFUSED, unless it crashes before."""
        assert self.state in (State.DOWN, State.REFUSED)
        self.run += 1
        self.term += 1
        self.state = State.BOOTING
        self.halted = None
        self.refusal = None
        self._mono_base_ns = self.events.now_ns - self.track.magnitude("clock origin", 1 << 40)
        if self.observer is not None:
            self.observer.started()
        self._boot(self.run, self.opener(self.config, self.now()), None, None)

    def _boot(self, incarnation: int, steps: Recovery, result: OpResult, failure: DiskFailure | None) -> None:
        """Drive recovery: reads at once, every other operation with time in which the process can crash."""
        if incarnation != self.run:
            return
        while True:
            try:
                op = steps.throw(failure) if failure is not None else steps.send(result)
            except StopIteration as end:
                self._up(end.value)
                return
            except Exception as error:
                self._refuse(error)
                return
            if not isinstance(op, _QUICK):
                self._running[0] = op
                self.events.after(self._duration(op), partial(self._boot_op, incarnation, steps, op))
                return
            result, failure = self._try(op)

    def _boot_op(self, incarnation: int, steps: Recovery, op: DiskOp) -> None:
        if incarnation == self.run:
            del self._running[0]
            self._boot(incarnation, steps, *self._try(op))

    def _try(self, op: DiskOp) -> tuple[OpResult, DiskFailure | None]:
        result: OpResult = None
        failure: DiskFailure | None = None
        try:
            result = self.disk.perform(op)
        except DiskFailure as error:
            failure = error
        if self.observer is not None:
            self.observer.op_done(op, failure)
        return result, failure

    def _up(self, server: Server) -> None:
        self.server = server
        node = server if isinstance(server, Node) else getattr(server, "node", None)
        self.node = node if isinstance(node, Node) else None
        self.state = State.UP
        self.up_ns = self.events.now_ns
        self.steps = self.calls = 0
        if self.quorum is not None and self.node is not None:
            self.quorum.started(self.node, self._add_input)
        self._wake(0)
        self.on_up()

    def _refuse(self, error: Exception) -> None:
        self.state = State.REFUSED
        self.refusal = error
        self.run += 1
        self.on_down()

    def kill(self) -> None:
        """Kill the process as SIGKILL does; the machine and its page cache stay."""
        self.fault("kill", "the process is killed")
        self._die()
        for loss in self.disk.kill():
            self.fault("lost", loss)
        self.on_down()

    def lose_power(self) -> None:
        """Stop the machine: the tape decides what is left of unsynced data."""
        self.fault("power loss", "the machine loses power")
        self._die()
        for loss in self.disk.lose_power(self.track):
            self.fault("lost", loss)
        self.on_down()

    def fault(self, kind: str, detail: str) -> None:
        """Notify the observer of a fault from outside, which another method performs."""
        if self.observer is not None:
            self.observer.fault(kind, detail)

    def _die(self) -> None:
        self.on_stop()
        for job_id in sorted(self._running):
            self.disk.interrupt(self._running[job_id], self.track)
        self._running.clear()
        self._being_read.clear()
        self.late_reads.clear()
        self.run += 1
        if self.quorum is not None:
            self.quorum.stopped()
        self.state = State.DOWN
        self.server = self.node = None
        self.effects_left = self.target_disk_full = None
        self._inputs = []
        for lane in self._lanes.values():
            lane.clear()
        self._step_at = -1
        self._busy_until = 0
        self._cancelled.clear()
        callers, self._callers = self._callers, {}
        for token in sorted(callers):
            callers[token].lost()

    # ------------------------------------------------------------ callers

    def call(self, request: Request, caller: Caller) -> Token | None:
        """Send a request to the node; None if the process is down."""
        if self.state is not State.UP:
            return None
        token = Token(self._next_token)
        self._next_token += 1
        self._callers[token] = caller if self.observer is None else self.observer.called(token, request, caller)
        self._add_input(Call(token, ANYONE, request))
        return token

    def cancel(self, token: Token) -> None:
        """Cancel a caller, which then gets no more notifications."""
        if self._callers.pop(token, None) is not None:
            self._cancelled.add(token)
            self._add_input(Cancel(token))

    def credit(self, token: Token, messages: int, byte_count: int) -> None:
        """Grant a subscriber's credit."""
        if token in self._callers:
            self._add_input(Credit(token, messages, byte_count))

    def report(self, token: Token, count: int, back: list[tuple[int, int]]) -> None:
        """Report how many of the messages that it was sent a subscriber is done with."""
        if token in self._callers:
            self._add_input(Report(token, count, back))

    def pause(self, for_ns: int) -> None:
        """Pause the process (SIGSTOP and SIGCONT): no step for a while; disk jobs in flight continue."""
        self.fault("pause", f"the process is stopped for {for_ns / MS:,.3f} ms")
        self._busy_until = max(self._busy_until, self.events.now_ns + for_ns)
        self.paused_until_ns = max(self.paused_until_ns, self._busy_until)
        if self._step_at >= 0:
            self._step_at = -1
            self._wake(0)

    def depose(self, for_ns: int) -> None:
        """Let another node lead all streams for a while; then this one leads them again."""
        if self.node is not None:
            self.fault("deposed", f"the node leads no stream for {for_ns / MS:,.3f} ms")
            assert self.quorum is not None
            self.quorum.depose(for_ns)

    def drain(self) -> None:
        """Drain, as on SIGTERM."""
        self.fault("drain", "the process is asked to shut down")
        self._add_input(Drain())

    def receive(self, item: Any) -> bool:
        """Give the server an input that comes from another machine; False if the process is not up."""
        if self.state is State.UP:
            self._add_input(item)
        return self.state is State.UP

    def reads_from_ns(self) -> int:
        """Return the time from which on the process takes inputs: now, or the end of its pause."""
        paused = self._busy_until >= self.paused_until_ns  # a crash ends a pause
        return max(self.events.now_ns, self.paused_until_ns if paused else 0)

    def take_caller(self, token: Token) -> Caller | None:
        """Return the caller that waits for this token, which gets no more notifications; None if it has cancelled."""
        return self._callers.pop(token) if self._has_caller(token) else None

    def waiting(self) -> int:
        """Return the number of callers without their last notification."""
        return len(self._callers)

    def is_waiting(self, token: Token) -> bool:
        """Return True if a caller has not had its last notification."""
        return token in self._callers

    # ------------------------------------------------------------ stepping

    def _add_input(self, item: Input) -> None:
        self._inputs.append(item)
        self._wake(0)

    def _wake(self, delay_ns: int) -> None:
        at = max(self.events.now_ns + delay_ns, self._busy_until)
        if self._step_at < 0 or at < self._step_at:
            self._step_at = at
            self.events.at(at, partial(self._step, self.run, at))

    def _step(self, incarnation: int, at: int) -> None:
        if incarnation != self.run or at != self._step_at or self.server is None:
            return
        self._step_at = -1
        inputs = self._take_inputs()
        now = self.now()
        self.steps += 1
        self.calls += sum(isinstance(item, Call) for item in inputs)
        self._livelock.stepped(self.events.now_ns, inputs)
        try:
            effects = self.server.step(now, inputs)
        except Exception as error:
            raise NodeRaised(f"step {self.steps}: {type(error).__name__}: {error}") from error
        self._busy_until = self.events.now_ns + self.pace.step_ns
        if any(isinstance(item, StepDown) for item in inputs):
            self.term += 1
            self.on_deposed()
        if self.on_step is not None:
            self.on_step(self, now, inputs, effects)
        self._perform(effects)
        if self.run == incarnation and self.server is not None:
            if self._inputs:
                self._wake(0)
            deadline = self.server.next_deadline()
            if deadline is not None:
                self._wake(self._true_ns(max(0, deadline - now.mono_ns)))

    def _take_inputs(self) -> list[Input]:
        """Take the inputs of the next step. A step that deposes the node holds nothing else: each step belongs to one term."""
        deposes = isinstance(self._inputs[0], StepDown) if self._inputs else False
        count = 0
        while count < len(self._inputs) and isinstance(self._inputs[count], StepDown) == deposes:
            count += 1
        taken, self._inputs = self._inputs[:count], self._inputs[count:]
        return taken

    def _perform(self, effects: list[Effect]) -> None:
        step_id = StepId(self.term, self.steps, self.events.now_ns)
        incarnation = self.run
        for effect in effects:
            if self.effects_left is not None:
                self.effects_left -= 1
                if self.effects_left < 0:
                    self.kill()
            if incarnation != self.run:
                return
            match effect:
                case Job():
                    self._submit(effect)
                case Reply():
                    self._reply(effect, step_id)
                case Deliver():
                    self._deliver(effect, step_id)
                case Event():
                    if self._has_caller(effect.token):
                        self._callers[effect.token].notified(effect)
                case End():
                    if self._has_caller(effect.token):
                        self._callers.pop(effect.token).ended(effect)
                case Replicate():
                    assert self.quorum is not None
                    self.quorum.replicate(effect.stream_id, effect.position)
                case Confirm():
                    assert self.quorum is not None
                    self.quorum.confirm(effect.stream_id, effect.question)
                case Kept() | Declined():
                    assert self.quorum is not None
                    self.quorum.answered(effect)
                case Log():
                    self.on_log(effect)
                case Halt():
                    self.halted = effect
                    self.kill()
                case _:
                    self.on_other(effect, step_id)

    def _has_caller(self, token: Token) -> bool:
        """Return True if a caller waits for this token; effects without one are allowed only after a cancel."""
        if token in self._callers:
            return True
        if token not in self._cancelled:
            raise NodeRaised(f"step {self.steps}: token {token} had its last word already, or never asked")
        return False

    def _reply(self, effect: Reply, step_id: StepId) -> None:
        answer = effect.answer
        got: list[ReceivedMessage] | None = None
        if not self._has_caller(effect.token):
            self._add_input(Cancel(effect.token))
            return
        if isinstance(answer, Answer) and isinstance(answer.value, Messages):
            found = self.read(answer.value)
            if isinstance(found, DiskFailure):
                self._add_input(Unreadable(effect.token, found, [answer.value]))
                return
            got = found
            self.late_reads.handed_over(effect.token, answer.value)
            if answer.value.fetched is not None:
                self._add_input(Report(effect.token, len(got)))
        self._callers.pop(effect.token).replied(answer, got, step_id)

    def _deliver(self, effect: Deliver, step_id: StepId) -> None:
        if not self._has_caller(effect.token):
            return
        found = self.read(effect.messages)
        if isinstance(found, DiskFailure):
            self._add_input(Unreadable(effect.token, found, [effect.messages]))
        else:
            self.late_reads.handed_over(effect.token, effect.messages)
            self._callers[effect.token].delivered(found, step_id)

    def read(self, messages: Messages) -> list[ReceivedMessage] | DiskFailure:
        """Return the bodies of messages, chunk by chunk, as the shell reads them."""
        got: list[ReceivedMessage] = []
        taken_ns = self.virtual_ns(messages.taken_ns) if messages.taken_by is not None else -1
        try:
            for run in messages.runs:
                data = self.disk.perform(ReadChunk(run.chunk))
                assert isinstance(data, bytes)
                data, at = run.bodies_in(data), 0
                for seq, length, time_ms in zip(run.sequences(), run.lengths, run.times_ms, strict=True):
                    body = data[at : at + length]
                    got.append(ReceivedMessage(seq, time_ms, run.deliver_count, body, messages.incarnation, taken_ns))
                    at += length
        except DiskFailure as failure:
            return failure
        assert len(got) == messages.count, f"{messages.count} messages announced, {len(got)} in the runs"
        return got

    # ------------------------------------------------------------ disk jobs

    def _submit(self, job: Job) -> None:
        if job.lane is Lane.READ:
            self._being_read.hold(read_paths(job))
            self._begin(job, 0, [])
            return
        lane = self._lanes[job.lane]
        lane.append(job)
        if len(lane) == 1:
            self._begin(job, 0, [])

    def _begin(self, job: Job, index: int, results: list[OpResult]) -> None:
        if index == len(job.ops):
            self.events.after(0, partial(self._end, self.run, job, JobDone(job.id, results)))
            return
        op = job.ops[index]
        if (
            self.target_disk_full is not None
            and isinstance(op, CreateFile | Write)
            and op.path.startswith(self.target_disk_full[0])
        ):
            where, passing = self.target_disk_full
            self.target_disk_full = (where, passing - 1) if passing else None
            if not passing:
                self.on_targeted_disk_full()
        self._running[job.id] = op
        self.events.after(self._duration(op), partial(self._op, self.run, job, index, results))

    def _op(self, incarnation: int, job: Job, index: int, results: list[OpResult]) -> None:
        if incarnation != self.run:
            return
        op = job.ops[index]
        if isinstance(op, Rename | Delete) and moved_path(op) in self._being_read:
            self.events.after(self.pace.read_ns, partial(self._op, incarnation, job, index, results))
            return
        del self._running[job.id]
        result, failure = self._try(op)
        if failure is not None:
            failure.op_index = index
            self._end(incarnation, job, JobFailed(job.id, failure))
            return
        results.append(result)
        self._begin(job, index + 1, results)

    def _end(self, incarnation: int, job: Job, end: JobDone | JobFailed) -> None:
        if incarnation != self.run:
            return
        self._add_input(end)
        if job.lane is Lane.READ:
            self._livelock.read((op.chunk.path, op.chunk.offset) for op in job.ops if isinstance(op, ReadChunk))
            self._being_read.let_go(read_paths(job))
        else:
            lane = self._lanes[job.lane]
            assert lane.popleft() is job
            if lane:
                self._begin(lane[0], 0, [])

    def _duration(self, op: DiskOp) -> int:
        pace, track = self.pace, self.track
        if self.observer is not None:
            self.observer.op_begun(op)
        if isinstance(op, (SyncFile, SyncDir)):
            base = pace.sync_ns
        else:
            base = pace.read_ns if isinstance(op, _QUICK) else pace.write_ns
        takes = base + track.draw("takes", base)
        return min(takes * 1000, SLOW_MAX_NS) if track.chance("slow", pace.slow_per_million) else takes


def _refuse_effect(effect: Any, step_id: StepId) -> None:
    raise NodeRaised(f"step {step_id.step}: no machine takes {type(effect).__name__}")
