"""Lone callers: where their syncs run, and when their calls enter a step."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.server_fakes import Durable, SlowDisk, turns
from waymaker.server.lone_calls import LONE_CALLS
from waymaker.server.node_runner import NodeRunner
from waymaker.server.sync_place import CROWDED_SYNCS, INLINE_RUN, INLINE_SYNC_MAX_S, SyncPlace
from waymaker.storage.store import JobResult
from waymaker_core.api.effects import Effect, Job
from waymaker_core.api.inputs import Input
from waymaker_core.api.requests import GetStreamInfo
from waymaker_core.model.types import ANYONE, Now


async def test_a_lone_caller_s_sync_is_done_inline_and_many_share_one_on_a_thread() -> None:
    node, disk = Durable(), SlowDisk()
    runner = NodeRunner(node, disk)
    await runner.ask(ANYONE, GetStreamInfo("s"))
    await turns()
    assert (disk.inline, node.ticks) == (1, 0), "no step for nothing"
    first = [asyncio.create_task(runner.ask(ANYONE, GetStreamInfo("s"))) for _ in range(3)]
    await turns()
    second = [asyncio.create_task(runner.ask(ANYONE, GetStreamInfo("s"))) for _ in range(3)]
    await turns()
    assert len(disk.pending) == 1, "one sync runs; the next calls gather"
    disk.finish()
    await asyncio.gather(*first)
    assert len(disk.pending) == 1
    disk.finish()
    await asyncio.gather(*second)
    assert disk.inline == 1


async def test_a_slow_disk_is_never_waited_for_on_the_loop() -> None:
    node, disk = Durable(), SlowDisk()
    disk.sync_s = INLINE_SYNC_MAX_S
    asked = asyncio.create_task(NodeRunner(node, disk).ask(ANYONE, GetStreamInfo("s")))
    await turns()
    assert (disk.inline, len(disk.pending)) == (0, 1)
    disk.finish()
    await asked


async def test_calls_that_follow_each_other_closely_share_syncs_though_each_finds_itself_alone() -> None:
    node, disk = Durable(), SlowDisk()
    runner = NodeRunner(node, disk)

    async def thread_syncs(others: int) -> None:
        """Call until a sync runs on the thread; let others arrive during it."""
        asked: list[asyncio.Task[object]] = []
        while not disk.pending and disk.inline <= 3 * INLINE_RUN:
            asked.append(asyncio.create_task(runner.ask(ANYONE, GetStreamInfo("s"))))
            await turns()
        asked += [asyncio.create_task(runner.ask(ANYONE, GetStreamInfo("s"))) for _ in range(others)]
        while disk.pending:
            await turns()
            disk.finish()
            await turns()
        await asyncio.gather(*asked)

    await thread_syncs(others=0)
    assert disk.inline == INLINE_RUN, "none followed: the next sync is on the loop again"
    await thread_syncs(others=3)
    assert disk.inline == 2 * INLINE_RUN
    for _ in range(CROWDED_SYNCS):
        await thread_syncs(others=0)
        assert disk.inline == 2 * INLINE_RUN, "the loop would not see those that could share its sync"
    await thread_syncs(others=0)
    assert disk.inline > 2 * INLINE_RUN


def test_a_lone_caller_s_sync_runs_where_it_took_less_time_lately() -> None:
    place = SyncPlace()

    def share_on_loop(loop_s: float, thread_s: float, syncs: int) -> float:
        on_loop = 0
        for _ in range(syncs):
            if place.takes_loop(sync_s=0.0002):
                on_loop += 1
                place.ran_on_loop(loop_s)
            else:
                place.ran_on_thread(thread_s, others=False)
        return on_loop / syncs

    assert share_on_loop(0.0003, 0.0005, 500) > 0.95
    share_on_loop(0.004, 0.001, 1_500)
    assert share_on_loop(0.004, 0.001, 500) < 0.05, "a busy machine: the loop gets no core behind its sync"
    share_on_loop(0.0003, 0.001, 1_500)
    assert share_on_loop(0.0003, 0.001, 500) > 0.95, "and idle again"


async def test_the_runner_measures_both_places_and_takes_the_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)

    class Timed(SlowDisk):
        def run(self, job: Job) -> JobResult:
            nonlocal now
            now += 0.004
            return super().run(job)

    node, disk = Durable(), Timed()
    runner = NodeRunner(node, disk)

    async def ask(times: int) -> int:
        nonlocal now
        before = disk.inline
        for _ in range(times):
            asked = asyncio.create_task(runner.ask(ANYONE, GetStreamInfo("s")))
            await turns()
            now += 0.001
            disk.finish()
            await asked
        return disk.inline - before

    assert await ask(INLINE_RUN) == INLINE_RUN
    await ask(2 * INLINE_RUN)
    assert await ask(10 * INLINE_RUN) < 12, "the thread took a quarter of the time; the loop is tried now and then"


async def test_a_turn_may_be_taken_at_once_for_one_caller_and_what_follows_it_runs_behind_it() -> None:
    node, disk = Durable(), SlowDisk()
    runner = NodeRunner(node, disk)
    heard: list[str] = []

    def answered(answer: object, bodies: object) -> None:
        heard.append("answer")
        runner.behind_turn(lambda: heard.append("behind"))

    runner.call(ANYONE, GetStreamInfo("s"), answered)
    runner.turn_now()
    assert heard == ["answer", "behind"], "decided, synced and answered before the caller goes on"
    steps = node.ticks
    await turns()
    assert node.ticks == steps, "the turn that had been due is not taken again"
    for _ in range(2):
        runner.call(ANYONE, GetStreamInfo("s"), lambda answer, bodies: heard.append("other"))
    runner.turn_now()
    assert "other" not in heard, "two callers share a turn"
    await turns()
    disk.finish()
    await turns()
    assert heard.count("other") == 2


async def test_a_caller_who_awaits_each_answer_has_it_in_the_turn_of_the_call_and_a_crowd_shares_turns() -> None:
    node, disk = Durable(), SlowDisk()
    runner = NodeRunner(node, disk)

    async def turns_until_answered() -> int:
        """Call, and return how many turns of the loop its answer took."""
        asked = asyncio.create_task(runner.ask(ANYONE, GetStreamInfo("s")))
        await asyncio.sleep(0)
        count = 0
        while not asked.done():
            if disk.pending:
                disk.finish()
            await asyncio.sleep(0)
            count += 1
        return count

    took = [await turns_until_answered() for _ in range(LONE_CALLS + 3)]
    assert min(took[:LONE_CALLS]) > max(took[LONE_CALLS:]) == 0, took
    steps = node.ticks
    crowd = [asyncio.create_task(runner.ask(ANYONE, GetStreamInfo("s"))) for _ in range(20)]
    await turns()
    assert disk.pending, "they wait for a sync on the thread"
    disk.finish()
    await asyncio.gather(*crowd)
    assert node.ticks - steps <= 5, "all but the first share a step"
    assert await turns_until_answered() > 0, "others were there a moment ago"


class Heard(Durable):
    """Notes how many inputs each step has."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def step(self, now: Now, inputs: list[Input]) -> list[Effect]:
        self.steps.append(len(inputs))
        return super().step(now, inputs)


async def test_a_frame_of_another_member_that_comes_alone_is_stepped_at_once_and_a_crowd_shares_a_step() -> None:
    node = Heard()
    runner = NodeRunner(node, SlowDisk())
    at_once = 0
    for _ in range(LONE_CALLS + 5):
        before = len(node.steps)
        runner.from_peer(2, b"")
        at_once += len(node.steps) - before
        await turns()
    assert at_once == 5, "the first ones wait for a turn, for others may come in it"
    assert set(node.steps) == {1}
    node.steps.clear()
    for _ in range(3):
        runner.from_peer(2, b"")
    await turns()
    assert node.steps == [1, 2], "those behind the first share a step"
    runner.from_peer(2, b"")
    assert node.steps == [1, 2], "others came a moment ago"
    await turns()


async def test_a_frame_waits_for_the_turn_where_two_calls_are_open() -> None:
    node = Heard()
    runner = NodeRunner(node, SlowDisk())
    for _ in range(LONE_CALLS + 1):
        runner.from_peer(2, b"")
        await turns()
    for _ in range(2):
        runner.call(ANYONE, GetStreamInfo("s"), lambda answer, bodies: None)
    await turns()
    steps = len(node.steps)
    runner.from_peer(2, b"")
    assert runner.open_calls == 2 and len(node.steps) == steps, "what it brings may answer both"
    await turns()
    assert len(node.steps) == steps + 1
