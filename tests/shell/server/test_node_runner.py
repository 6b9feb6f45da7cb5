"""The pump: one step a loop turn, effects in order, and an end for everybody who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.kit.server_fakes import Durable, FakeDisk, FakeNode, SlowDisk, turns
from tests.shell.server.test_server_streaming import until
from waymaker.server.logs import lost
from waymaker.server.node_runner import NodeRunner
from waymaker.storage.store import Bodies, JobResult
from waymaker_core.api.effects import Effect, End, Event, Job, Lane, Log, Reply
from waymaker_core.api.inputs import Call, Input, JobFailed
from waymaker_core.api.requests import CreateStream, Fetch, GetStreamInfo, ListStreams, Messages, Publish, Subscribe
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import DiskFailure, FailureKind
from waymaker_core.model.result_codes import OK, Answer, Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE, JobId, Now, Token

DAMAGE = DiskFailure(FailureKind.CORRUPT, "blocks/1-1.blk", 64, "checksum mismatch")


class Recorder:
    """A channel that writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.end: End | None = None

    def deliver(self, messages: Messages, bodies: Bodies) -> None:
        self.heard.append(f"{messages.runs[0].first_seq}+{messages.count}")

    def event(self, event: Event) -> None:
        self.heard.append(event.stream)

    def ended(self, end: End) -> None:
        self.end = end
        self.heard.append(end.reason or (end.refusal.status.name if end.refusal else "?"))


def filled() -> tuple[FakeNode, FakeDisk, NodeRunner]:
    disk = FakeDisk()
    node = FakeNode(disk)
    node.streams["s"] = [b"one", b"two", b"three", b"four"]
    node.consumers["s", "c"] = 0
    return node, disk, NodeRunner(node, disk)


async def test_calls_of_one_loop_turn_enter_one_step() -> None:
    node, _, runner = filled()
    answers = await asyncio.gather(*[runner.ask(ANYONE, ListStreams()) for _ in range(50)])
    assert len(answers) == 50
    assert node.steps == 1
    assert len({call.token for call in node.calls}) == 50
    assert runner.open_calls == 0


async def test_an_answer_with_messages_brings_their_bodies_from_memory_or_from_a_thread() -> None:
    node, disk, runner = filled()
    _, warm = await runner.ask(ANYONE, Fetch("s", "c", 2))
    disk.cold = True
    _, cold = await runner.ask(ANYONE, Fetch("s", "c", 2))
    assert warm == cold == [b"onetwo"]
    assert not node.unreadable


async def test_messages_that_cannot_be_read_go_back_to_the_core_and_its_second_answer_counts() -> None:
    node, disk, runner = filled()
    disk.cold, disk.broken = True, DAMAGE
    answer, bodies = await runner.ask(ANYONE, Fetch("s", "c", 2))
    assert isinstance(answer, Refusal)
    assert (answer.status, bodies) == (Status.DATA_LOSS, None)
    assert node.unreadable[0].failure is DAMAGE
    assert [messages.count for messages in node.unreadable[0].unsent] == [2]


async def test_a_cancelled_call_is_told_to_the_core_and_its_late_answer_is_dropped() -> None:
    node, _, runner = filled()
    node.mute = True
    task = asyncio.create_task(runner.ask(ANYONE, ListStreams()))
    await turns()
    task.cancel()
    await turns()
    assert node.cancelled == [node.calls[0].token]
    assert runner.open_calls == 0
    node.release()
    await runner.ask(ANYONE, ListStreams())


async def test_deliveries_keep_their_order_behind_a_slow_read() -> None:
    _node, disk, runner = filled()
    disk.cold, disk.held = True, []
    channel = Recorder()
    token = runner.open(ANYONE, Subscribe("s", "c", stop_when_empty=True), channel)
    runner.credit(token, 2, 100)
    await turns()
    disk.cold = False
    runner.credit(token, 2, 100)
    await turns()
    assert channel.heard == []
    assert disk.kept, "the node may delete these files at once"
    for read in disk.held:
        read()
    await turns()
    assert channel.heard == ["1+2", "3+2", "empty"]
    assert not disk.kept
    assert runner.open_channels == 0


async def test_after_an_unreadable_delivery_nothing_overtakes_the_core_s_word_on_it() -> None:
    node, disk, runner = filled()
    disk.cold, disk.held = True, []
    channel = Recorder()
    token = runner.open(ANYONE, Subscribe("s", "c"), channel)
    runner.credit(token, 2, 100)
    await turns()
    runner.credit(token, 2, 100)
    await turns()
    disk.broken = DAMAGE
    disk.held.pop(0)()
    await turns()
    assert channel.heard == ["DATA_LOSS"]
    assert [messages.count for messages in node.unreadable[0].unsent] == [2, 2]
    assert runner.open_channels == 0
    assert not disk.kept


async def test_a_subscription_that_ends_lets_go_of_the_files_of_what_waits() -> None:
    _node, disk, runner = filled()
    disk.cold, disk.held = True, []
    for end in (runner.cancel, lambda token: runner.fail("gone")):
        token = runner.open(ANYONE, Subscribe("s", "c"), Recorder())
        runner.credit(token, 2, 100)
        await turns()
        runner.credit(token, 2, 100)
        await turns()
        assert disk.kept
        end(token)
        await turns()
        assert not disk.kept


async def test_a_cancelled_subscription_hears_nothing_more() -> None:
    node, _, runner = filled()
    channel = Recorder()
    token = runner.open(ANYONE, Subscribe("s", "c"), channel)
    runner.cancel(token)
    runner.credit(token, 10, 1000)
    await turns()
    assert channel.heard == []
    assert node.cancelled == [token]


async def test_a_step_that_raises_ends_the_node_and_everybody_is_told_that_it_may_have_happened() -> None:
    node, _, runner = filled()
    channel = Recorder()
    node.mute = True
    waiting = asyncio.create_task(runner.ask(ANYONE, Publish("s", ["a"], [1], [1], b"x")))
    runner.open(ANYONE, Subscribe("s", "c"), channel)
    await turns()
    node.fail = RuntimeError("secret")
    runner.push(Call(Token(99), ANYONE, ListStreams()))
    answer, _ = await waiting
    halt = await runner.halted
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.outcome) == (Status.UNAVAILABLE, None)
    assert "secret" not in answer.message + halt.reason
    assert not halt.clean
    assert channel.heard == ["UNAVAILABLE"]


async def test_after_the_end_new_calls_are_refused_as_not_applied() -> None:
    _node, _, runner = filled()
    runner.drain()
    assert (await runner.halted).clean
    answer, _ = await runner.ask(ANYONE, ListStreams())
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.outcome) == (Status.UNAVAILABLE, Outcome.NOT_APPLIED)
    channel = Recorder()
    runner.open(ANYONE, Subscribe("s", "c"), channel)
    await turns()
    assert channel.heard == ["UNAVAILABLE"]


async def test_a_failed_job_reaches_the_node_and_its_halt_reaches_everybody() -> None:
    node, disk = Durable(), SlowDisk()
    disk.result = DiskFailure(FailureKind.IO, "journal/1.seg", 0, "no")
    runner = NodeRunner(node, disk)
    answer, _ = await runner.ask(ANYONE, GetStreamInfo("s"))
    assert isinstance(answer, Refusal)
    assert answer.outcome is None
    assert (await runner.halted).reason == "the sync failed"
    assert len(node.failures) == 1


async def test_the_timer_follows_the_next_deadline_and_a_past_one_is_due_at_once() -> None:
    node = Durable()
    node.deadline = 0
    runner = NodeRunner(node, FakeDisk())
    runner.start()
    await asyncio.sleep(0.01)
    assert node.ticks == 1
    node.deadline = None
    runner.close()


async def test_the_lag_of_the_loop_is_measured() -> None:
    lags: list[float] = []

    class Watching:
        def step_took(self, seconds: float, inputs: int) -> None: ...

        def effect_failed(self) -> None: ...

        def loop_lagged(self, seconds: float) -> None:
            lags.append(seconds)

    disk = FakeDisk()
    runner = NodeRunner(FakeNode(disk), disk, Watching())
    runner.start()
    await until(lambda: len(lags) == 2)
    runner._watch(asyncio.get_running_loop().time() - 100)
    runner.close()
    assert all(0 <= lag < 60 for lag in lags[:2]), "a busy machine is late by moments"
    assert 100 <= lags[2] < 160


async def test_a_stream_made_is_a_plain_answer() -> None:
    _node, _, runner = filled()
    answer, bodies = await runner.ask(ANYONE, CreateStream(StreamConfig("t")))
    assert isinstance(answer, Answer)
    assert (answer.code, bodies) == (OK, None)


# ---------------------------------------------------------------- effects stand alone


class Watching:
    """Counts what could not be performed."""

    def __init__(self) -> None:
        self.failures = 0

    def step_took(self, seconds: float, inputs: int) -> None: ...

    def loop_lagged(self, seconds: float) -> None: ...

    def effect_failed(self) -> None:
        self.failures += 1


class Scripted:
    """A node that wants the same things at each of its next steps."""

    def __init__(self, *steps: list[Effect]) -> None:
        self.steps = list(steps)
        self.inputs: list[Input] = []
        self.deadlines = 0

    def next_deadline(self) -> int | None:
        self.deadlines += 1
        return None

    def step(self, now: Now, inputs: list[Input]) -> list[Effect]:
        self.inputs += inputs
        return self.steps.pop(0) if self.steps else []


class BrokenLogger:
    """What a logger is whose output has gone."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        def write(event: str, **fields: object) -> None:
            raise BrokenPipeError(32, "Broken pipe")

        return write


async def test_a_log_line_that_raises_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waymaker.server.node_runner.log", BrokenLogger())
    monkeypatch.setattr("waymaker.server.incidents.log", BrokenLogger())
    node = Scripted([Log("error", "disk_full", {}), Reply(Token(1), Answer(OK)), Log("info", "again", {})])
    before = lost.lines
    runner = NodeRunner(node, FakeDisk())
    answer, _ = await asyncio.wait_for(runner.ask(ANYONE, ListStreams()), 1)
    assert isinstance(answer, Answer)
    assert lost.lines == before + 2
    assert node.deadlines == 1
    assert not runner.halted.done()


async def test_a_callback_that_raises_fails_its_own_answer_only() -> None:
    observer, heard = Watching(), list[str]()
    node = Scripted([Reply(Token(1), Answer(OK)), Reply(Token(2), Answer(OK))])
    runner = NodeRunner(node, FakeDisk(), observer)

    def bad(answer: Answer | Refusal, bodies: Bodies | None) -> None:
        heard.append("bad")
        raise RuntimeError("secret")

    runner.call(ANYONE, ListStreams(), bad)
    runner.call(ANYONE, ListStreams(), lambda answer, bodies: heard.append("good"))
    await turns()
    assert heard == ["bad", "good"]
    assert observer.failures == 1
    assert runner.open_calls == 0
    assert node.deadlines == 1


async def test_a_channel_that_raises_ends_and_its_neighbours_go_on() -> None:
    class Raising(Recorder):
        def deliver(self, messages: Messages, bodies: Bodies) -> None:
            raise MemoryError

    node, _, _ = filled()
    node.consumers["s", "d"] = 0
    observer = Watching()
    runner = NodeRunner(node, node.disk, observer)
    bad, good = Raising(), Recorder()
    tokens = [runner.open(ANYONE, Subscribe("s", name), channel) for name, channel in (("c", bad), ("d", good))]
    for token in tokens:
        runner.credit(token, 4, 1000)
    await turns()
    assert bad.heard == ["RESOURCE_EXHAUSTED"]
    assert good.heard == ["1+4"]
    assert observer.failures == 1
    assert node.cancelled == [tokens[0]]


async def test_bodies_that_raise_are_unreadable_and_a_job_that_raises_has_failed() -> None:
    class Raising(FakeDisk):
        def cached_bodies(self, messages: Messages) -> Bodies | None:
            raise MemoryError

        def submit(self, job: Job, done: Callable[[Job, JobResult], None]) -> None:
            raise RuntimeError("cannot start new thread")

    disk = Raising()
    node = FakeNode(disk)
    node.streams["s"], node.consumers["s", "c"] = [b"one"], 0
    answer, _ = await asyncio.wait_for(NodeRunner(node, disk).ask(ANYONE, Fetch("s", "c", 2)), 1)
    assert isinstance(answer, Refusal)
    assert len(node.unreadable) == 1

    scripted = Scripted([Job(JobId(7), Lane.BACKGROUND, []), Reply(Token(1), Answer(OK))])
    runner = NodeRunner(scripted, disk)
    await asyncio.wait_for(runner.ask(ANYONE, ListStreams()), 1)
    await turns()
    failed = [item for item in scripted.inputs if isinstance(item, JobFailed)]
    assert [item.id for item in failed] == [7]
    assert "cannot start new thread" in failed[0].failure.detail


async def test_everybody_hears_of_a_halt_whatever_the_first_of_them_raises() -> None:
    class Raising(Recorder):
        def ended(self, end: End) -> None:
            raise RuntimeError

    node, _, runner = filled()
    node.mute = True
    channel, heard = Recorder(), list[str]()

    def bad(answer: Answer | Refusal, bodies: Bodies | None) -> None:
        raise RuntimeError

    runner.call(ANYONE, ListStreams(), bad)
    runner.call(ANYONE, ListStreams(), lambda answer, bodies: heard.append("told"))
    runner.open(ANYONE, Subscribe("s", "c"), Raising())
    runner.open(ANYONE, Subscribe("s", "c"), channel)
    await turns()
    runner.fail("the data directory is gone")
    assert heard == ["told"]
    assert channel.heard == ["UNAVAILABLE"]
    assert (await runner.halted).reason == "the data directory is gone"


async def test_the_end_of_a_disk_s_thread_halts_the_node() -> None:
    class Dying(FakeDisk):
        why = ""

        def problem(self) -> str:
            return self.why

    disk = Dying()
    node = FakeNode(disk)
    node.mute = True
    runner = NodeRunner(node, disk)
    runner.start()
    waiting = asyncio.create_task(runner.ask(ANYONE, ListStreams()))
    await turns()
    disk.why = "a thread that serves the disk has ended"
    answer, _ = await asyncio.wait_for(waiting, 20)
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.outcome) == (Status.UNAVAILABLE, None)
    assert (await runner.halted).reason == disk.why
