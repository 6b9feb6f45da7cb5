"""Members that lack records which no journal has any more get a snapshot, and nothing confirmed is lost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from tests.sim.cluster.test_founding import found_with_checkpoints, member
from waymaker_core.cluster.member import open_member
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.raft.settings import RaftSettings
from waymaker_sim.cluster.machines import MachinesPlan
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.process_state import State
from waymaker_sim.members import world as members_world
from waymaker_sim.members.world import STREAMS, MembersWorld, draw_members_plan, parted

TINY = {
    "recent_log_bytes_max": 300, "recent_bytes_max": 900, "segment_bytes": 8_192, "checkpoint_records": 40,
    "pinned_bytes_max": 8_192,
}  # fmt: skip
"""Limits with which memory and journal hold few records."""


def tiny_world(seed: int) -> MembersWorld:
    plan = MachinesPlan()
    plan.limits = replace(plan.limits, **TINY)
    return MembersWorld(seed, plan=plan)


def sizes_of_sets(world: MembersWorld, number: int) -> list[int]:
    replicas = member(world.machines.machines[number]).replicas
    return [len(replica.conf.opened.replicas) for _, replica in replicas.items() if replica.conf]


def adopted(world: MembersWorld) -> int:
    return world.machines.marks["log snapshot_adopted"]


def test_checkpointed_streams_of_a_single_node_spread_and_outlive_it() -> None:
    world = found_with_checkpoints(8)
    machines = world.machines
    machines.run_for(5 * SECOND)
    assert adopted(world) >= 2 * len(STREAMS)
    assert sizes_of_sets(world, 2) == [3] * len(STREAMS)
    machines.machines[2].disk.faults.capacity = 0
    machines.machines[2].kill()
    machines.run_for(4 * SECOND)
    world.publishing = False
    machines.run_for(11 * SECOND)
    for stream in STREAMS:
        world._audit(stream)


def test_a_member_that_was_away_for_long_gets_snapshots() -> None:
    world = tiny_world(3)
    machines = world.machines
    machines.start()
    machines.run_for(2 * SECOND)
    away = machines.machines[2]
    away.kill()
    away.disk.faults.capacity = 0
    machines.run_for(8 * SECOND)
    assert adopted(world) == 0
    machines.heal()
    machines.await_up()
    machines.run_for(4 * SECOND)
    assert adopted(world) >= 1
    ends = [{each.stream_id: each.durable for each in member(machines.machines[n]).node.log_figures()} for n in (1, 2)]
    assert all(abs(ends[0][each] - ends[1][each]) <= 20 for each in ends[0]), ends
    world.run_healed()


SHORT = MemberSettings(raft=RaftSettings(snapshot_after_entries=4, keep_entries=1))
"""Settings with which the group keeps next to nothing of its log in memory."""


def test_a_lost_directory_is_filled_from_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The member with a new directory has all of it in the end, alone with one other."""
    monkeypatch.setattr(members_world, "open_member", partial(open_member, settings=SHORT))
    world = tiny_world(4)
    machines = world.machines
    machines.start()
    machines.run_for(4 * SECOND)
    lost = machines.machines[1]
    lost.lose_power()
    machines._replace_directory(lost)
    machines.run_for(4 * SECOND, lambda: lost.state is State.UP)
    machines.run_for(4 * SECOND)
    assert machines.marks["log catalog_adopted"] >= 1
    assert adopted(world) >= len(STREAMS)
    machines.machines[3].disk.faults.capacity = 0
    machines.machines[3].kill()
    world.publishing = False
    machines.run_for(10 * SECOND)
    for stream in STREAMS:
        world._audit(stream)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_members_that_keep_next_to_nothing_lose_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines and links fail all the time, and those that return need snapshots."""
    monkeypatch.setattr(members_world, "open_member", partial(open_member, settings=SHORT))
    plan = parted(draw_members_plan(Tape(seed).track("swarm"), 3))
    plan.limits = replace(plan.limits, **TINY)
    plan.kill, plan.lose_directory = 30_000, 10_000
    MembersWorld(seed, plan=plan).run()
