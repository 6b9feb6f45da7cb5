"""The node runner, between an event loop and a node: inputs in, one step a loop turn, effects out.

Everything that arrived since the last turn enters one step together, so that calls of many clients share a record and a
sync without a caller waiting for a timer. Effects are performed in order. Answers whose bodies lie in memory leave in the
same turn; others are read on a thread, and whatever follows for the same subscription waits behind them.

Effects stand alone: whatever one of them raises, the others of its step are performed, the next deadline is set, and every
call keeps its one answer. A log line is counted as lost; a channel that raises ends; bodies that cannot be had go back to
the node as unreadable; a job that cannot be handed over fails. What is left halts the node, with a reason.

Nothing here knows gRPC. Callers give a callback (a call) or a `Channel` (a subscription or a watch) and get a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from waymaker.server.incidents import internal_error, logged
from waymaker.server.lone_calls import LoneCalls
from waymaker.server.runner_parts import Disk, Observer, PeerSender
from waymaker.server.sync_place import SyncPlace
from waymaker.storage.store import Bodies, JobResult
from waymaker.wire.elsewhere import served_elsewhere
from waymaker_core.api.effects import Deliver, Effect, End, Event, Halt, Job, Lane, Log, Reply
from waymaker_core.api.inputs import Call, Cancel, Credit, Drain, Input, JobDone, JobFailed, Report, Unreadable
from waymaker_core.api.requests import Messages, Request
from waymaker_core.cluster.effects import Elsewhere, FromPeer, ToPeer
from waymaker_core.model.disk_ops import DiskFailure, FailureKind
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE, Now, Principal, Token

LAG_INTERVAL_S = 0.25

log = structlog.get_logger("waymaker.engine")

OnAnswer = Callable[[Answer | Refusal, Bodies | None], None]
"""Takes the one answer of a call; the bodies belong to an answer whose value is `Messages`.

A call that another member serves is answered with a refusal of its own, `waymaker.wire.elsewhere.ServedElsewhere`, and a
channel ends with one.
"""


class Channel(Protocol):
    """The receiving end of a subscription or a watch. `ended` is called once, and last."""

    def deliver(self, messages: Messages, bodies: Bodies) -> None: ...

    def event(self, event: Event) -> None: ...

    def ended(self, end: End) -> None: ...


AnyEffect = Effect | ToPeer | Elsewhere


class CoreNode(Protocol):
    """The part of a node, or of a member of a cluster, that the runner needs."""

    def step(self, now: Now, inputs: list[Input]) -> Sequence[AnyEffect]: ...

    def next_deadline(self) -> int | None: ...


class _Line:
    """A channel and what waits behind a read of its bodies."""

    __slots__ = ("channel", "waiting", "reading")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.waiting: deque[tuple[Deliver | Event | End, Callable[[], None]]] = deque()
        """Each with what lets go of its files: the node may delete them as soon as it has handed the effect over."""
        self.reading = False

    def forget_waiting(self) -> list[Deliver | Event | End]:
        """Let go of all that waits; returns it."""
        effects = [effect for effect, _ in self.waiting]
        for _, let_go in self.waiting:
            let_go()
        self.waiting.clear()
        return effects


class NodeRunner:
    """The runner of one node on the running event loop."""

    def __init__(
        self,
        node: CoreNode,
        disk: Disk,
        observer: Observer | None = None,
        peers: PeerSender | None = None,
        address_of: Callable[[int], str | None] | None = None,
    ) -> None:
        self._node = node
        self._peers = peers
        self._address_of = address_of
        """Finds where another member serves clients."""
        self._disk = disk
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._inputs: list[Input] = []
        self._due: asyncio.Handle | None = None
        """The turn that is scheduled."""
        self._turning = False
        self._behind: list[Callable[[], None]] = []
        """The callbacks for the end of this turn."""
        self._calls: dict[Token, OnAnswer] = {}
        self._lines: dict[Token, _Line] = {}
        self._next_token = 1
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._lag_timer: asyncio.TimerHandle | None = None
        self._finished: deque[tuple[Job, JobResult]] = deque()
        self._sync_place = SyncPlace()
        self._lone_calls = LoneCalls(self._loop)
        self._lone_frames = LoneCalls(self._loop)
        """The same of frames from other members: where one at a time comes, a lone caller waits for it somewhere."""
        self._lone_since = 0.0
        """The time at which a lone caller's journal job was handed to the thread; 0: it is one of several callers."""
        self._halt: Halt | None = None
        self.halted: asyncio.Future[Halt] = self._loop.create_future()
        """Done once the node does nothing more: drained, or failed."""

    # ------------------------------------------------------------ callers

    def start(self) -> None:
        """Let the node look at its timers for the first time."""
        self._schedule()
        self._watch(self._loop.time())

    def call(self, principal: Principal, request: Request, on_answer: OnAnswer) -> Token:
        """Begin a call; `on_answer` is called once, unless the call is cancelled first."""
        token = self._token()
        if self._halt is not None:
            self._loop.call_soon(on_answer, self._halted_refusal(admitted=False), None)
            return token
        self._calls[token] = on_answer
        self.push(Call(token, principal, request))
        return token

    async def ask(self, principal: Principal, request: Request) -> tuple[Answer | Refusal, Bodies | None]:
        """Call and await the answer; cancelling the task cancels the call."""
        future: asyncio.Future[tuple[Answer | Refusal, Bodies | None]] = self._loop.create_future()

        def answered(answer: Answer | Refusal, bodies: Bodies | None) -> None:
            if not future.done():
                future.set_result((answer, bodies))

        token = self.call(principal, request, answered)
        if self._lone_calls.one_more():
            self.turn_now()
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(token)
            raise

    def open(self, principal: Principal, request: Request, channel: Channel) -> Token:
        """Open a subscription or a watch; it moves once `credit` is given."""
        token = self._token()
        if self._halt is not None:
            self._loop.call_soon(channel.ended, End(token, "", self._halted_refusal(admitted=False)))
            return token
        self._lines[token] = _Line(channel)
        self.push(Call(token, principal, request))
        return token

    def credit(self, token: Token, messages: int, bytes_: int) -> None:
        """Grant more to a channel."""
        if token in self._lines:
            self.push(Credit(token, messages, bytes_))

    def report(self, token: Token, count: int, back: Sequence[tuple[int, int]] = ()) -> None:
        """Report how many of a channel's messages were dealt with, those that go `back` included."""
        if token in self._lines:
            self.push(Report(token, count, back))

    def arrived(self, messages: Messages) -> None:
        """Report that the answer to a fetch reached its caller."""
        if messages.fetched is not None:
            self.push(Report(messages.fetched, messages.count))

    def did_not_arrive(self, messages: Messages) -> None:
        """Report that the answer to a fetch reached no caller."""
        if messages.fetched is not None:
            self.push(Cancel(messages.fetched))

    def cancel(self, token: Token) -> None:
        """Cancel a call or channel: no callback comes after this."""
        line = self._lines.pop(token, None)
        if line is not None:
            line.forget_waiting()
        if self._calls.pop(token, None) is not None or line is not None:
            self.push(Cancel(token))

    def drain(self) -> None:
        """Ask the node to stop; `halted` follows."""
        self.push(Drain())

    def fail(self, reason: str) -> None:
        """Halt the server: the node has lost something that it rests on."""
        self._stop(Halt(reason, clean=False))

    def push(self, item: Input) -> None:
        """Add an input for the next step."""
        if self._halt is None:
            self._inputs.append(item)
            self._schedule()

    def from_peer(self, sender: int, data: bytes) -> None:
        """Add a message of another member. Only for a member: a node has no peers.

        One that comes alone, as those of a lone publish do, is stepped in the turn of the loop that brought it.
        """
        self.push(FromPeer(sender, data))  # type: ignore[arg-type]
        if self._lone_frames.one_more() and len(self._inputs) == 1 and len(self._calls) <= 1:
            self._turn_at_once()

    @property
    def open_calls(self) -> int:
        """Return the number of calls without an answer."""
        return len(self._calls)

    @property
    def open_channels(self) -> int:
        """Return the number of subscriptions and watches."""
        return len(self._lines)

    def close(self) -> None:
        """Stop the timers; nothing is stepped after this."""
        for timer in (self._timer, self._lag_timer):
            if timer is not None:
                timer.cancel()
        self._stop(Halt("closed", clean=True))

    # ------------------------------------------------------------ stepping

    def _token(self) -> Token:
        token = Token(self._next_token)
        self._next_token += 1
        return token

    def _schedule(self) -> None:
        if self._due is None:
            self._due = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._due = None
        self._turning = True
        try:
            self._step()
            self._arm()
        except Exception as error:
            # A step that breaks off leaves the state in between: going on could confirm what is not so.
            logged(log.critical, "node_failed", exc_info=error)
            self.fail("the node failed; the log says where")
        self._turning = False
        if self._behind:
            behind, self._behind = self._behind, []
            for callback in behind:
                callback()

    def turn_now(self) -> None:
        """Take the turn that is due right here. Only for a caller known to be alone: others' calls would not share it."""
        if len(self._calls) == 1:
            self._turn_at_once()

    def _turn_at_once(self) -> None:
        if self._due is not None and not self._turning:
            self._due.cancel()
            self._turn()

    def behind_turn(self, callback: Callable[[], None]) -> None:
        """Call at the end of the present turn, or soon where there is none: what a turn answers is sent together."""
        if self._turning:
            self._behind.append(callback)
        else:
            self._loop.call_soon(callback)

    def _step(self) -> None:
        while self._halt is None:
            inputs, self._inputs = self._inputs, []
            started = time.perf_counter()
            effects = self._node.step(Now(time.monotonic_ns(), time.time_ns() // 1_000_000), inputs)
            took = time.perf_counter() - started
            inline = self._perform(effects)
            if self._observer is not None:
                try:
                    self._observer.step_took(took, len(inputs))
                except Exception:
                    pass
            if inline is None:
                return
            started = time.perf_counter()
            try:
                result = self._disk.run(inline)
            except Exception as error:
                result = _not_done(error)
            self._sync_place.ran_on_loop(time.perf_counter() - started)
            self._inputs.append(self._job_done(inline, result))

    def _perform(self, effects: Sequence[AnyEffect]) -> Job | None:
        """Perform what a step asks for, in order. Return a job that is better run right here than on a thread."""
        inline: Job | None = None
        for effect in effects:
            kind = type(effect)
            if kind is Reply:
                self._reply(effect)  # type: ignore[arg-type]
            elif kind is Deliver or kind is Event or kind is End:
                self._forward(effect)  # type: ignore[arg-type]
            elif kind is Job:
                job: Job = effect  # type: ignore[assignment]
                # It runs behind the step's other effects, so that no answer waits for its sync.
                if job.lane is not Lane.JOURNAL:
                    self._submit(job)
                elif inline is None and self._alone() and self._sync_place.takes_loop(self._disk.sync_s):
                    inline = job
                else:
                    self._lone_since = time.perf_counter() if self._alone() else 0.0
                    self._submit(job)
            elif kind is ToPeer:
                self._send(effect)  # type: ignore[arg-type]
            elif kind is Log:
                self._log(effect)  # type: ignore[arg-type]
            elif kind is Elsewhere:
                self._send_elsewhere(effect)  # type: ignore[arg-type]
            else:
                self._stop(effect)  # type: ignore[arg-type]
        if self._peers is not None:
            # Before a sync on the loop: what leaves now travels while this node syncs.
            self._peers.flush()
        return inline

    def _submit(self, job: Job) -> None:
        try:
            self._disk.submit(job, self._job_finished)
        except Exception as error:
            self._failed(error, "submit")
            self.push(self._job_done(job, _not_done(error)))

    def _alone(self) -> bool:
        """Return True if one caller alone waits, or none but another member, whose records are to be kept."""
        return not self._inputs and len(self._calls) <= 1 and (bool(self._calls) or self._peers is not None)

    def _arm(self) -> None:
        if self._halt is not None:
            return
        deadline = self._node.next_deadline()
        if deadline is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            # One that is early finds out when it fires: most deadlines move on before they are reached.
            if self._timer_ns <= deadline:
                return
            self._timer.cancel()
        self._timer_ns = deadline
        self._timer = self._loop.call_at(deadline / 1e9, self._tick)

    def _tick(self) -> None:
        self._timer = None
        deadline = self._node.next_deadline()
        if deadline is not None and deadline > time.monotonic_ns():
            self._arm()
        else:
            self._schedule()

    # ------------------------------------------------------------ effects

    def _send(self, effect: ToPeer) -> None:
        if self._peers is not None:
            self._peers.send(effect.to, effect.lane, effect.data)

    def _reply(self, reply: Reply) -> None:
        answer = reply.answer
        if reply.token not in self._calls:
            if isinstance(answer, Answer) and isinstance(answer.value, Messages):
                self.did_not_arrive(answer.value)
            return
        if type(answer) is not Answer or not isinstance(answer.value, Messages):
            self._answer(reply, None)
            return
        try:
            bodies = self._disk.cached_bodies(answer.value)
            if bodies is None:
                self._disk.read_bodies(answer.value, lambda outcome: self._soon(self._reply_read, reply, outcome))
                return
        except Exception as error:
            self._failed(error, "read")
            self._reply_read(reply, _not_done(error))
            return
        self._answer(reply, bodies)

    def _reply_read(self, reply: Reply, outcome: Bodies | DiskFailure) -> None:
        if not isinstance(outcome, DiskFailure):
            self._answer(reply, outcome)
        elif reply.token in self._calls:
            assert isinstance(reply.answer, Answer) and isinstance(reply.answer.value, Messages)
            self.push(Unreadable(reply.token, outcome, [reply.answer.value]))

    def _answer(self, reply: Reply, bodies: Bodies | None) -> None:
        on_answer = self._calls.pop(reply.token, None)
        if on_answer is not None:
            self._call_back(on_answer, reply.answer, bodies)
        elif isinstance(reply.answer, Answer) and isinstance(reply.answer.value, Messages):
            self.did_not_arrive(reply.answer.value)

    def _call_back(self, on_answer: OnAnswer, answer: Answer | Refusal, bodies: Bodies | None) -> None:
        """Hand an answer over. A callback that raises has had its answer: it fails alone."""
        try:
            on_answer(answer, bodies)
        except Exception as error:
            self._failed(error, "answer")

    def _send_elsewhere(self, effect: Elsewhere) -> None:
        """End a call or a channel that another member serves."""
        address = self._address_of(effect.node_id) if self._address_of is not None else None
        refusal = served_elsewhere(effect.node_id, address, effect.epoch)
        if effect.token in self._lines:
            self._forward(End(effect.token, "", refusal))
        else:
            self._answer(Reply(effect.token, refusal), None)

    def _forward(self, effect: Deliver | Event | End) -> None:
        line = self._lines.get(effect.token)
        if line is None:
            return
        if line.reading:
            line.waiting.append((effect, self._disk.hold(effect.messages) if isinstance(effect, Deliver) else _nothing))
        else:
            self._pass_on(line, effect)

    def _pass_on(self, line: _Line, effect: Deliver | Event | End) -> None:
        if isinstance(effect, End):
            del self._lines[effect.token]
            self._end(line.channel, effect)
            return
        try:
            if isinstance(effect, Event):
                line.channel.event(effect)
                return
            bodies = self._bodies(line, effect)
            if bodies is not None:
                line.channel.deliver(effect.messages, bodies)
        except Exception as error:
            self._break(effect.token, error)

    def _bodies(self, line: _Line, effect: Deliver) -> Bodies | None:
        """Return the bodies of a delivery if they lie in memory; else read them and deliver then."""
        try:
            bodies = self._disk.cached_bodies(effect.messages)
            if bodies is None:
                line.reading = True
                self._disk.read_bodies(
                    effect.messages, lambda outcome: self._soon(self._delivery_read, effect, outcome)
                )
        except Exception as error:
            self._failed(error, "read")
            line.reading = True
            self._loop.call_soon(self._delivery_read, effect, _not_done(error))
            return None
        return bodies

    def _delivery_read(self, effect: Deliver, outcome: Bodies | DiskFailure) -> None:
        line = self._lines.get(effect.token)
        if line is None:
            return
        line.reading = False
        if isinstance(outcome, DiskFailure):
            # What came after the unreadable messages must not overtake the core's word on them.
            waiting = line.forget_waiting()
            unsent = [effect.messages, *(e.messages for e in waiting if isinstance(e, Deliver))]
            line.waiting.extend((e, _nothing) for e in waiting if isinstance(e, End))
            self.push(Unreadable(effect.token, outcome, unsent))
        else:
            try:
                line.channel.deliver(effect.messages, outcome)
            except Exception as error:
                self._break(effect.token, error)
        while line.waiting and not line.reading and effect.token in self._lines:
            waits, let_go = line.waiting.popleft()
            self._pass_on(line, waits)
            let_go()

    def _break(self, token: Token, error: Exception) -> None:
        """End a channel that raised: it may have missed something, so it must not go on as if it had not."""
        self._failed(error, None)
        line = self._lines.pop(token, None)
        if line is not None:
            line.forget_waiting()
            self.push(Cancel(token))
            self._end(line.channel, End(token, "", internal_error(error, "channel", ANYONE, admitted=True)))

    def _end(self, channel: Channel, end: End) -> None:
        try:
            channel.ended(end)
        except Exception as error:
            self._failed(error, "end")

    def _job_finished(self, job: Job, result: JobResult) -> None:
        """Hand a result over from a disk thread; one wake-up serves all jobs that finish meanwhile."""
        self._finished.append((job, result))
        self._soon(self._collect)

    def _collect(self) -> None:
        while self._finished:
            job, result = self._finished.popleft()
            if job.lane is Lane.JOURNAL:
                took = time.perf_counter() - self._lone_since if self._lone_since else None
                self._sync_place.ran_on_thread(took, others=len(self._calls) > 1)
            self.push(self._job_done(job, result))

    def _job_done(self, job: Job, result: JobResult) -> JobDone | JobFailed:
        return JobFailed(job.id, result) if isinstance(result, DiskFailure) else JobDone(job.id, result)

    def _soon(self, function: Callable[..., None], *arguments: object) -> None:
        """Call on the loop, from any thread; on a closed loop no caller waits."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _log(self, effect: Log) -> None:
        logged(getattr(log, effect.level, log.warning), effect.event, **effect.fields)

    def _failed(self, error: Exception, where: str | None) -> None:
        """Count what an effect raised, and log it where no other place does."""
        if self._observer is not None:
            with contextlib.suppress(Exception):
                self._observer.effect_failed()
        if where is not None:
            logged(log.error, "effect_failed", where=where, exc_info=error)

    # ------------------------------------------------------------ stopping

    def _stop(self, halt: Halt) -> None:
        if self._halt is not None:
            return
        self._halt = halt
        self._inputs.clear()
        refusal = self._halted_refusal(admitted=True)
        calls, self._calls = self._calls, {}
        for on_answer in calls.values():
            self._call_back(on_answer, refusal, None)
        lines, self._lines = self._lines, {}
        for token, line in lines.items():
            line.forget_waiting()
            self._end(line.channel, End(token, "", refusal))
        if not self.halted.done():
            self.halted.set_result(halt)

    def _halted_refusal(self, admitted: bool) -> Refusal:
        assert self._halt is not None
        text = "the server is shutting down" if self._halt.clean else "the server has stopped: " + self._halt.reason
        return Refusal(Status.UNAVAILABLE, text, None if admitted else Outcome.NOT_APPLIED)

    def _watch(self, expected: float) -> None:
        """Measure how late the loop is, and look for what a lost wake-up or a dead thread would leave behind."""
        now = self._loop.time()
        if self._halt is None:
            self._lag_timer = self._loop.call_at(now + LAG_INTERVAL_S, self._watch, now + LAG_INTERVAL_S)
        if self._observer is not None:
            with contextlib.suppress(Exception):
                self._observer.loop_lagged(max(0.0, now - expected))
        self._collect()
        problem = self._disk.problem()
        if problem:
            self.fail(problem)


def _nothing() -> None:
    """Do nothing: no file is held."""


def _not_done(error: Exception) -> DiskFailure:
    """Return the failure of an operation that raised what no disk raises."""
    return DiskFailure(FailureKind.IO, "", 0, f"{type(error).__name__}: {error}")
