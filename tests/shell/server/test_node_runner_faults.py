"""A fault model of the shell: the real engine and the real node over a simulated disk, while everything around them raises.

What is drawn: loggers, callbacks, channels and observers that raise, a loop that is slow, jobs that cannot be handed over, that
run out of memory, or whose end comes late or never, and bodies that cannot be had. What holds whatever is drawn:

- every call has exactly one answer, every channel exactly one end;
- the node serves until it is drained, or it halts with a reason;
- what was confirmed is there after a loss of power.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.shell.server.test_node_runner import BrokenLogger
from waymaker.server import incidents
from waymaker.server import node_runner as runner_module
from waymaker.server.node_runner import NodeRunner
from waymaker.storage.store import Bodies, JobResult
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import End, Event, Halt, Job
from waymaker_core.api.requests import Messages
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.model.disk_ops import DiskFailure, DiskOp, FailureKind, OpResult, ReadChunk
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body, encode_body
from waymaker_core.model.result_codes import OK, Answer, Outcome, Refusal
from waymaker_core.model.types import ANYONE, Now, Token
from waymaker_core.node import Node, NodeConfig, open_node
from waymaker_core.storage.disk_steps import drive
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.disk import DiskFaults, SimDisk

T = TypeVar("T")
LIMITS = Limits(segment_bytes=256 << 10, checkpoint_journal_bytes=512 << 10, disk_retry_ms=5)
FAULTS = (
    "log", "observer", "callback", "channel", "slow loop", "submit", "run", "late", "lost", "cached", "unreadable", "read",
)  # fmt: skip


class Faults:
    """Which faults happen in this run, and when: each has a chance of its own."""

    def __init__(self, seed: int, kinds: set[str]) -> None:
        self.lots = random.Random(seed)
        self.kinds = kinds
        self.off = False

    def strike(self, kind: str, one_in: int = 12) -> bool:
        return not self.off and kind in self.kinds and self.lots.randrange(one_in) == 0

    def effect(self, kind: str) -> None:
        if self.strike(kind, 4):
            raise self.lots.choice([RuntimeError("secret"), MemoryError(), OSError(32, "Broken pipe"), KeyError("x")])


class FaultyDisk:
    """A simulated disk behind the engine's door."""

    def __init__(self, disk: SimDisk, faults: Faults) -> None:
        self.disk = disk
        self.faults = faults
        self.died = ""
        self.sync_s = 0.0

    def drive(self, steps: Generator[DiskOp, OpResult, T]) -> T:
        return drive(steps, self.disk.perform)

    def submit(self, job: Job, done: Callable[[Job, JobResult], None]) -> None:
        if self.faults.strike("submit", 40):
            raise RuntimeError("can't start new thread")
        self._finish(done, job, self._execute(job))

    def run(self, job: Job) -> JobResult:
        if self.faults.strike("run", 40):
            raise MemoryError
        return self._execute(job)

    def cached_bodies(self, messages: Messages) -> Bodies | None:
        if self.faults.strike("cached"):
            raise MemoryError
        return self._bodies(messages) if self.faults.lots.randrange(2) else None

    def read_bodies(self, messages: Messages, done: Callable[[Bodies | DiskFailure], None]) -> None:
        if self.faults.strike("read"):
            raise RuntimeError("can't start new thread")
        outcome: Bodies | DiskFailure = self._bodies(messages)
        if self.faults.strike("unreadable"):
            outcome = DiskFailure(FailureKind.IO, "journal/1", 0, "Input/output error")
        self._finish(done, outcome)

    def hold(self, messages: Messages) -> Callable[[], None]:
        return lambda: None

    def problem(self) -> str:
        return self.died

    def _finish(self, done: Callable[..., None], *arguments: object) -> None:
        loop = asyncio.get_running_loop()
        if self.faults.strike("lost", 60):
            self.died = "a thread that serves the disk has ended"
        elif self.faults.strike("late", 3):
            loop.call_later(self.faults.lots.random() / 50, done, *arguments)
        else:
            loop.call_soon(done, *arguments)

    def _execute(self, job: Job) -> JobResult:
        results: list[OpResult] = []
        try:
            for op in job.ops:
                results.append(self.disk.perform(op))
        except DiskFailure as failure:
            failure.op_index = len(results)
            return failure
        return results

    def _bodies(self, messages: Messages) -> Bodies:
        bodies: Bodies = []
        for run in messages.runs:
            data = self.disk.perform(ReadChunk(run.chunk))
            assert isinstance(data, bytes)
            bodies.append(run.bodies_in(data))
        return bodies


class Observing:
    """Measures, or raises instead."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def step_took(self, seconds: float, inputs: int) -> None:
        if self.faults.strike("slow loop"):
            time.sleep(0.01)
        self.faults.effect("observer")

    def loop_lagged(self, seconds: float) -> None:
        self.faults.effect("observer")

    def effect_failed(self) -> None:
        self.faults.effect("observer")


class Listening:
    """A channel that counts its ends and raises at times."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.ends = 0
        self.raised = False
        self.unharmed = True
        """Whether nothing was delivered to it after it had raised."""

    def deliver(self, messages: Messages, bodies: Bodies) -> None:
        assert not self.ends, "nothing after the end"
        self.unharmed = self.unharmed and not self.raised
        try:
            self.faults.effect("channel")
        except Exception:
            self.raised = True
            raise

    def event(self, event: Event) -> None:
        self.faults.effect("channel")

    def ended(self, end: End) -> None:
        self.ends += 1
        self.faults.effect("channel")


class Callers:
    """Calls of one engine and what became of each."""

    def __init__(self, runner: NodeRunner, faults: Faults) -> None:
        self.runner = runner
        self.faults = faults
        self.answers: Counter[int] = Counter()
        self.asked = 0
        self.confirmed: set[bytes] = set()
        self.not_applied: set[bytes] = set()
        self.channels: list[Listening] = []
        self._tokens: list[Token] = []

    def ask(self, request: rq.Request, payload: bytes = b"") -> None:
        number = self.asked
        self.asked += 1

        def answered(answer: Answer | Refusal, bodies: Bodies | None) -> None:
            self.answers[number] += 1
            if payload and isinstance(answer, Answer) and answer.code == OK:
                self.confirmed.add(payload)
            elif payload and isinstance(answer, Refusal) and answer.outcome is Outcome.NOT_APPLIED:
                self.not_applied.add(payload)
            self.faults.effect("callback")

        self.runner.call(ANYONE, request, answered)

    def publish(self, number: int) -> None:
        payload = b"%d" % number
        body, size = encode_body("a", (), payload, LIMITS)
        self.ask(rq.Publish("s", ["a"], [size], [len(body)], body), payload)

    def subscribe(self) -> None:
        channel = Listening(self.faults)
        self.channels.append(channel)
        token = self.runner.open(ANYONE, rq.Subscribe("s", "c"), channel)
        self.runner.credit(token, 1_000, 1 << 20)


def opened(disk: FaultyDisk) -> Node:
    settings_ = NodeConfig(identity=bytes(16), limits=LIMITS)
    return disk.drive(open_node(settings_, Now(time.monotonic_ns(), time.time_ns() // 1_000_000)))


async def live(faults: Faults, simulated: SimDisk) -> tuple[Callers, Halt]:
    """One life: work under faults, then a drain."""
    disk = FaultyDisk(simulated, faults)
    runner = NodeRunner(opened(disk), disk, Observing(faults))
    runner.start()
    callers = Callers(runner, faults)
    faults.off = True  # what follows needs a stream
    made: list[rq.Request] = [
        rq.CreateStream(StreamConfig("s", block_size=10)),
        rq.CreateConsumer("s", ConsumerConfig("c")),
    ]
    for request in made:
        await asyncio.wait_for(runner.ask(ANYONE, request), 5)
    faults.off = False
    for number in range(60):
        kind = faults.lots.randrange(10)
        if kind < 6:
            callers.publish(number)
        elif kind < 8:
            callers.ask(rq.Fetch("s", "c", 5))
        elif kind < 9:
            callers.ask(rq.ScanSubject("s", "a", 0, 50))
        else:
            callers.subscribe()
        if faults.lots.randrange(3) == 0:
            await asyncio.sleep(0.001)
    if not runner.halted.done() and faults.lots.randrange(2):
        await asyncio.sleep(0.02)
    runner.drain()
    halt = await asyncio.wait_for(runner.halted, 10)
    await asyncio.sleep(0.03)  # what comes late comes to nobody
    runner.close()
    return callers, halt


async def stored(simulated: SimDisk) -> set[bytes]:
    """What a start finds."""
    disk = FaultyDisk(simulated, Faults(0, set()))
    runner = NodeRunner(opened(disk), disk)
    found: set[bytes] = set()
    next_seq = 0
    while True:
        answer, bodies = await asyncio.wait_for(runner.ask(ANYONE, rq.ScanSubject("s", "a", next_seq, 1_000)), 5)
        assert isinstance(answer, Answer), answer
        assert isinstance(answer.value, Messages)
        if not answer.value.runs:
            runner.close()
            return found
        for run, data in zip(answer.value.runs, bodies or [], strict=True):
            at = 0
            for length in run.lengths:
                found.add(decode_body(data[at : at + length])[2])
                at += length
            next_seq = run.sequences()[-1] + 1


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32), st.sets(st.sampled_from(FAULTS)))
@example(1, set())
@example(2, set(FAULTS))
@example(3, {"log", "callback"})
@example(4, {"lost"})
def test_every_call_has_one_answer_and_what_is_confirmed_is_durable_whatever_raises(seed: int, kinds: set[str]) -> None:
    faults = Faults(seed, kinds)
    tape = Tape(seed)
    simulated = SimDisk(DiskFaults(), tape.track("disk"))

    async def run() -> None:
        # Nobody reads what is logged, and tracebacks rendered with their locals take most of the time.
        with pytest.MonkeyPatch.context() as patch, capture_logs():
            if "log" in kinds:
                broken: Any = BrokenLogger()
                patch.setattr(runner_module, "log", broken)
                patch.setattr(incidents, "log", broken)
            callers, halt = await live(faults, simulated)
        assert halt.reason
        assert all(callers.answers[number] == 1 for number in range(callers.asked)), callers.answers
        assert all(channel.ends == 1 and channel.unharmed for channel in callers.channels)
        if not kinds & {"submit", "run", "lost"}:
            assert halt.clean, halt.reason
        simulated.lose_power(tape.track("power"))
        found = await stored(simulated)
        assert callers.confirmed <= found
        assert not callers.not_applied & found

    asyncio.run(run())
