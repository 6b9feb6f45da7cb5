"""Members that lost their directories, or whose journals end with a tear: they count again only when that is safe."""

from __future__ import annotations

from collections import Counter

import pytest

from waymaker_core.cluster.member import Member
from waymaker_core.model.message_codec import plain_body
from waymaker_core.model.types import CATALOG, StreamId
from waymaker_sim.cluster.machines import MachinesPlan
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.process_state import State
from waymaker_sim.members.world import STREAMS, MembersWorld, draw_members_plan


def world_of(seed: int, tear: int, lose: int) -> MembersWorld:
    plan = draw_members_plan(Tape(seed).track("swarm"), 3)
    plan.tear_synced, plan.lose_directory = tear, lose
    return MembersWorld(seed, plan=plan)


@pytest.mark.parametrize(
    ("seed", "tear", "lose"),
    [(2, 30_000, 0), (7, 10_000, 15_000), (2, 10_000, 15_000), (10, 10_000, 15_000), (12, 60_000, 0)],
)
def test_members_that_forget_lose_nothing(seed: int, tear: int, lose: int) -> None:
    """Saved cases. 2: a leader of the catalog was deposed while its record was on its way to the disk, and hung.

    7: the leader waited for a set of members to be durable that its node had kept long before.
    """
    world = world_of(seed, tear, lose)
    world.run(5 * SECOND)
    assert world.machines.marks["directory lost"] + world.machines.marks["synced end torn"] > 0


def running(seed: int) -> MembersWorld:
    """Return a world without faults whose members have served for a while."""
    world = MembersWorld(seed, plan=MachinesPlan(tears_show=True))
    world.machines.start()
    world.machines.run_for(2 * SECOND)
    assert len(world.confirmed) > 20
    return world


def members(world: MembersWorld) -> list[Member]:
    servers = [process.server for process in world.machines.machines.values()]
    return [each for each in servers if isinstance(each, Member)]


def goes_on(world: MembersWorld, ns: int = 5 * SECOND) -> bool:
    before = Counter(stream for stream, _ in world.confirmed)
    world.machines.run_for(ns, lambda: world._all_above(before))
    return world._all_above(before)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_member_that_lost_its_directory_is_taken_in_anew(number: int) -> None:
    world = running(number)
    lost = world.machines.machines[number]
    assert world.machines._lose_directory(lost)
    world.machines.run_for(5 * SECOND)
    assert goes_on(world)
    servers = members(world)
    directory = servers[number - 1]._founding.directory
    for server in servers:
        assert server._group.members.voters == (1, 2, 3)
        assert server._group.members.directory_of(number) == directory
        for stream_id in server.node.claimed_streams():
            conf = server.node.conf(stream_id)
            assert conf is not None
            assert dict(zip(conf.opened.replicas, conf.opened.directories, strict=True))[number] == directory
    # It counts: the others may lose one more now, and nothing is missing.
    other = world.machines.machines[number % 3 + 1]
    world.machines.run_for(SECOND, lambda: world.machines.atlas.permits(other.number))
    assert world.machines._lose_directory(other)
    assert goes_on(world, 10 * SECOND)
    world.publishing = False
    world.machines.run_for(11 * SECOND)
    for stream in STREAMS:
        world._audit(stream)


def tear(world: MembersWorld, number: int) -> None:
    """Let a machine lose power, and what it synced last: at rest that is a note of commits."""
    process = world.machines.machines[number]
    process.lose_power()
    assert process.disk.tear_synced(process.disk.track, shows=True) is not None


def at_rest(seed: int) -> MembersWorld:
    world = running(seed)
    world.publishing = False
    world.machines.run_for(3 * SECOND)
    return world


def wake(world: MembersWorld) -> None:
    world.publishing = True
    for route in world.routes:
        world._turn(route, world.machines.tape.track(f"woken {route.number}"), [])


def in_doubt(world: MembersWorld) -> list[int]:
    return [
        server.node.config.node_id
        for server in members(world)
        if server._doubts.is_torn or server._group.is_doubtful or any(each.doubt for _, each in server.replicas.items())
    ]


def test_one_member_in_doubt_is_sure_again_after_an_opening() -> None:
    world = at_rest(4)
    tear(world, 2)
    world.machines.run_for(100_000_000, lambda: world.machines.machines[2].state is State.UP)
    world.machines.run_for(SECOND // 100)
    assert in_doubt(world) == [2]
    world.machines.run_for(4 * SECOND)
    assert len(members(world)) == 3 and in_doubt(world) == []
    assert all(server.node.doubt(CATALOG) == (0, 0) for server in members(world))
    wake(world)
    assert goes_on(world)


def test_three_members_in_doubt_come_back_when_all_are_there() -> None:
    world = at_rest(5)
    for number in (1, 2, 3):
        tear(world, number)
    machines = world.machines
    machines.machines[3].disk.faults.capacity = 0  # it cannot start
    machines.run_for(5 * SECOND)
    assert not any(server.leads_catalog for server in members(world))
    assert in_doubt(world) == [1, 2]
    machines.machines[3].disk.faults.capacity = 1 << 62
    machines.run_for(8 * SECOND)
    assert len(members(world)) == 3 and in_doubt(world) == []
    wake(world)
    assert goes_on(world)
    world.publishing = False
    machines.run_for(11 * SECOND)
    for stream in STREAMS:
        world._audit(stream)


def test_a_doubt_outlives_another_stop() -> None:
    world = at_rest(6)
    others = [world.machines.machines[number] for number in (1, 3)]
    for each in others:
        each.disk.faults.capacity = 0
        each.kill()
    tear(world, 2)
    process = world.machines.machines[2]
    for _ in range(3):
        world.machines.run_for(5 * SECOND, lambda: process.state is State.UP)
        assert in_doubt(world) == [2]
        process.kill()
    for each in others:
        each.disk.faults.capacity = 1 << 62
    world.machines.run_for(8 * SECOND)
    assert len(members(world)) == 3 and in_doubt(world) == []


def damage(world: MembersWorld, number: int, payload: bytes) -> None:
    """Flip a bit of a message in the journal of a machine that is down; later frames prove that it was synced."""
    files = world.machines.machines[number].disk._names
    body = plain_body("subject", payload)
    places = [(file, file.durable.find(body)) for path, file in files.items() if path.startswith("journal/")]
    file, at = next((file, at) for file, at in places if at >= 0)
    file.durable[at] ^= 1
    file.content[at] ^= 1


def test_the_directory_with_a_damaged_stream_is_replaced_and_the_stream_is_whole_again() -> None:
    world = at_rest(4)
    machines = world.machines
    machines.machines[2].lose_power()
    machines.atlas.lost(2)
    machines._torn[2] = "journal/"
    damage(world, 2, next(iter(world.confirmed.values())))
    machines.run_for(8 * SECOND)
    assert machines.marks["log quarantined"] == machines.marks["directory of a damaged stream replaced"] == 1
    assert not members(world)[1].node.quarantined()
    assert all(2 in machines.atlas.good(stream) for stream in machines.atlas.streams())
    wake(world)
    assert goes_on(world)


def test_a_replica_whose_stream_is_damaged_counts_in_no_fence() -> None:
    """It acknowledged what another one lacks. Counted with an empty log, it would let that one lead without it."""
    world = running(3)
    machines = world.machines
    machines.machines[3].disk.faults.capacity = 0  # it cannot start before it may
    machines.machines[3].kill()
    before = set(world.confirmed)
    machines.run_for(4 * SECOND, lambda: len(world.confirmed) > len(before) + 60)
    world.publishing = False
    machines.run_for(2 * SECOND)
    first = members(world)[0].node
    stream_id = next(each for each in first.claimed_streams() if first.conf(each) is not None)
    name = first._state.catalog.entries[StreamId(stream_id)].config.name
    seq = min(seq for stream, seq in set(world.confirmed) - before if stream == name)
    assert (name, seq + 3) in world.confirmed
    for number in (1, 2):
        machines.machines[number].disk.faults.capacity = 0 if number == 1 else 1 << 62
        machines.machines[number].kill()
    damage(world, 2, world.confirmed[name, seq])
    machines.machines[3].disk.faults.capacity = 1 << 62
    machines.run_for(8 * SECOND)
    second, third = members(world)
    assert second.node.quarantined() == [name]
    assert not any(each.replicas.leads_stream(stream_id) for each in (second, third)), "the third one lacks the most"
    machines.machines[1].disk.faults.capacity = 1 << 62
    machines.run_for(10 * SECOND)
    assert not members(world)[1].replicas.leads_stream(stream_id)
    world._audit(name)
