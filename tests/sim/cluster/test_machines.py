"""Simulated machines: skewed clocks, disks of their own, stops and starts, and a minority in trouble where the plan says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.majority_register import KINDS, FromPeer, ToPeer, feed_of, opener_of
from tests.kit.signposts import Scripted, opener_by
from waymaker_core.api.inputs import JobDone
from waymaker_core.model.disk_ops import CreateFile, DiskFailure, Read, SyncDir, SyncFile, Write
from waymaker_core.model.types import JobId, Now
from waymaker_core.node import Node
from waymaker_sim.cluster.atlas import Copy
from waymaker_sim.cluster.links import Lane
from waymaker_sim.cluster.machines import Machines, MachinesPlan, draw_machines_plan, report_alone
from waymaker_sim.cluster.network import NetworkPlan
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import MILLION, Tape
from waymaker_sim.machine.disk import DiskFaults, SimDisk
from waymaker_sim.machine.process import Process
from waymaker_sim.machine.process_state import State


def silent(machine: int, request: object) -> None:
    return None


def machines_of(plan: MachinesPlan, seed: int = 1, **settings: Any) -> Machines:
    machines = Machines(Tape(seed), plan, opener=opener_by(silent), kinds=KINDS, **settings)
    machines.start()
    machines.await_up()
    return machines


def scripted(machines: Machines, number: int) -> Scripted:
    server = machines.machines[number].server
    assert isinstance(server, Scripted)
    return server


def test_bytes_go_from_one_machine_to_another() -> None:
    digest = Digest(keep_lines=True)
    machines = machines_of(MachinesPlan(), digest=digest)
    sender = scripted(machines, 1)
    first = [ToPeer(2, Lane.LIVE, b"hello"), ToPeer(3, Lane.BULK, b"world")]
    sender.step = lambda now, inputs: [first.pop()] if first else []  # type: ignore[method-assign]
    for _ in range(2):
        machines.machines[1].receive(FromPeer(2, b""))
        machines.run_for(MS)
    assert scripted(machines, 2).heard == [FromPeer(1, b"hello")]
    assert scripted(machines, 3).heard == [FromPeer(1, b"world")]
    assert any("to 2 LIVE 5 " in line for line in digest.lines)
    assert any("from 1 5 " in line for line in digest.lines)


def test_each_monotonic_clock_has_a_rate_and_each_wall_clock_an_error() -> None:
    machines = machines_of(MachinesPlan(count=5, rate_ppm=20_000, skew_ms=60_000), seed=3)
    before = [process.now() for process in machines.machines.values()]
    machines.run_for(100 * SECOND)
    rates, errors = set(), set()
    for process, begun in zip(machines.machines.values(), before, strict=True):
        now = process.now()
        gone_ns = now.mono_ns - begun.mono_ns
        assert abs(gone_ns - 100 * SECOND - 100 * process.rate_ppm * SECOND // MILLION) <= 1
        rates.add(process.rate_ppm)
        errors.add(now.wall_ms - Process.FIRST_WALL_MS - machines.events.now_ns // MS)
    assert len(rates) > 2 and min(rates) < 0 < max(rates)
    assert len(errors) > 2 and min(errors) < 0 < max(errors) and max(map(abs, errors)) <= 60_000
    machines.heal()
    assert {process.now().wall_ms for process in machines.machines.values()} == {
        Process.FIRST_WALL_MS + machines.events.now_ns // MS
    }


@pytest.mark.parametrize("rate_ppm", [-300_000, -1, 0, 7, 300_000])
def test_a_deadline_is_met_at_once_when_the_machines_own_clock_shows_it(rate_ppm: int) -> None:
    machines = Machines(Tape(1), MachinesPlan(count=1), opener=opener_by(silent), kinds=KINDS)
    process = machines.machines[1]
    process.rate_ppm = rate_ppm
    machines.start()
    machines.await_up()
    server = scripted(machines, 1)
    met: list[Now] = []
    deadline = process.now().mono_ns + SECOND

    def step(now: Now, inputs: object) -> list[Any]:
        met.append(now)
        return []

    server.step = step  # type: ignore[method-assign]
    server.next_deadline = lambda: deadline if not met or met[-1].mono_ns < deadline else None  # type: ignore[method-assign]
    process.receive(FromPeer(2, b""))
    machines.run_for(2 * SECOND)
    assert len(met) == 2 and deadline <= met[1].mono_ns <= deadline + 2
    assert abs(process.virtual_ns(met[1].mono_ns) - machines.events.now_ns) < 2 * SECOND


def test_a_stopped_machine_starts_again_and_hears_nothing_of_before() -> None:
    machines = machines_of(MachinesPlan(down_ns=0))
    machines.network.send(1, 2, Lane.LIVE, b"before")
    machines.machines[2].kill()
    machines.run_for(SECOND)
    assert machines.up() == [1, 2, 3] and machines.crashes == 1
    machines.network.send(1, 2, Lane.LIVE, b"after")
    machines.run_for(SECOND)
    assert [each.data for each in scripted(machines, 2).heard] == [b"after"]


def test_most_machines_are_well_at_any_time_where_the_plan_says_so() -> None:
    odds = 60_000
    seen: Counter[int] = Counter()
    for seed in range(5):
        plan = MachinesPlan(
            count=5, minority=True, network=NetworkPlan(partition=odds, clog=odds), kill=odds, power=odds, pause=odds,
            kill_at_effect=odds, full=odds,
        )  # fmt: skip
        machines = Machines(Tape(seed), plan, opener=opener_of(5), kinds=KINDS, feed=feed_of(5))
        machines.start()
        machines.run_for(SECOND)
        for _ in range(300):
            machines.run_for(37 * MS)
            seen[len(machines.troubled())] += 1
        assert machines.marks["fault withheld: a majority stays well"] > 0
    assert max(seen) == 2 and seen[2] > 100, seen


def test_without_that_plan_all_may_be_in_trouble() -> None:
    machines = Machines(Tape(1), MachinesPlan(kill=MILLION), opener=opener_by(silent), kinds=KINDS)
    machines.start()
    machines.await_up()
    machines.run_for(SECOND, lambda: len(machines.troubled()) == 3)
    assert len(machines.troubled()) == 3


def test_a_lost_directory_is_replaced_by_another_one() -> None:
    plan = MachinesPlan(lose_directory=MILLION, down_ns=0)
    machines = Machines(Tape(1), plan, opener=opener_of(3), kinds=KINDS, feed=feed_of(3))
    machines.start()
    first = machines.machines[1].config.identity
    machines.run_for(2 * SECOND)
    assert machines.marks["directory lost"] > 0 and machines.marks["fault forbidden by the atlas"] > 0
    identities = {process.config.identity for process in machines.machines.values()}
    assert len(identities) == 3 and first not in identities


def test_a_node_runs_on_each_machine_without_any_peers() -> None:
    plan = draw_machines_plan(Tape(0, {}).track("swarm"), 3)
    machines = Machines(Tape(1), plan, feed=report_alone)
    machines.start()
    machines.await_up()
    nodes = [process.node for process in machines.machines.values()]
    assert all(isinstance(node, Node) for node in nodes)
    assert [process.server for process in machines.machines.values()] == nodes
    machines.run_for(SECOND)
    assert machines.atlas.streams() == [(1, 0), (2, 0), (3, 0)]
    assert machines.crashes == 0


def test_the_tape_of_zeros_is_a_world_without_faults() -> None:
    tape = Tape(0, {})
    machines = Machines(tape, draw_machines_plan(tape.track("swarm"), 5), opener=opener_by(silent), kinds=KINDS)
    machines.start()
    machines.run_for(10 * SECOND)
    assert machines.marks == {} and machines.up() == [1, 2, 3, 4, 5]


def test_input_of_a_machine_that_is_down_is_refused() -> None:
    machines = machines_of(MachinesPlan())
    process = machines.machines[1]
    process.kill()
    assert process.state is State.DOWN
    assert not process.receive(JobDone(JobId(1), []))


# ------------------------------------------------------------ disks that lose what they had


def disk_with(path: str, *batches: bytes, seed: int = 1) -> SimDisk:
    disk = SimDisk(DiskFaults(), Tape(seed).track("disk"))
    disk.perform(CreateFile(path, 4096))
    disk.perform(SyncDir("journal"))
    at = 0
    for batch in batches:
        disk.perform(Write(path, at, [batch]))
        disk.perform(SyncFile(path))
        at += len(batch)
    return disk


def test_a_torn_synced_end_is_of_the_newest_batch_alone() -> None:
    places = set()
    for seed in range(20):
        disk = disk_with("journal/1", b"a" * 100, b"b" * 100, seed=seed)
        disk.lose_power(disk.track)
        torn = disk.tear_synced(disk.track)
        assert torn is not None and torn[0] == "journal/1" and 100 <= torn[1] < 200
        places.add(torn[1])
        data = disk.perform(Read("journal/1", 0, 200))
        kept = torn[1] - 100
        assert data == b"a" * 100 + b"b" * kept + bytes(100 - kept)
    assert len(places) > 5


def test_a_disk_without_a_synced_batch_tears_none() -> None:
    disk = SimDisk(DiskFaults(), Tape(1).track("disk"))
    assert disk.tear_synced(disk.track) is None
    disk = disk_with("journal/1", b"a" * 100)
    disk.wipe()
    assert disk.tear_synced(disk.track) is None


def test_a_wiped_disk_is_empty_after_every_stop() -> None:
    disk = disk_with("journal/1", b"a" * 100)
    disk.wipe()
    for stop in (disk.kill, lambda: disk.lose_power(disk.track)):
        stop()
        assert disk.paths() == []
        with pytest.raises(DiskFailure):
            disk.perform(Read("journal/1", 0, 1))


def test_a_stop_tears_no_journal_where_the_atlas_forbids_it() -> None:
    machines = machines_of(MachinesPlan(count=3))
    atlas = machines.atlas
    atlas.place("s", (1, 2, 3))
    for machine in (1, 2, 3):
        atlas.report(machine, "s", Copy(1, 5))

    def is_whole(number: int, stop: Callable[[Process], None]) -> bool:
        stop(machines.machines[number])
        whole = machines.machines[number].disk.faults.whole
        machines.await_up()
        return whole

    assert not is_whole(1, Process.kill) and not is_whole(1, Process.lose_power)
    atlas.replaced(2)
    assert is_whole(1, Process.kill) and is_whole(3, Process.lose_power)
    assert machines.marks["tear forbidden by the atlas"] == 2
    assert not is_whole(2, Process.kill), "it has no copy that counts"


def test_a_machine_whose_journal_is_torn_has_no_good_copy_until_it_reports_one() -> None:
    machines = machines_of(MachinesPlan(count=3))
    atlas, process = machines.atlas, machines.machines[1]
    atlas.place("s", (1, 2, 3))
    for machine in (1, 2, 3):
        atlas.report(machine, "s", Copy(1, 5))
    process.kill()
    assert atlas.good("s") == [1, 2, 3]
    machines.await_up()
    process.disk.torn = True
    process.kill()
    assert atlas.good("s") == [2, 3] and not atlas.permits(2)
    machines.await_up()
    assert not process.disk.torn
    atlas.report(1, "s", Copy(1, 5))
    assert atlas.good("s") == [1, 2, 3]
