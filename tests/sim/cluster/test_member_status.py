"""The status that members give: they agree where nothing fails, and say what they do not hear or know."""

from __future__ import annotations

from waymaker_core.cluster.member import Member
from waymaker_core.cluster.status import ClusterStatus, MemberStatus
from waymaker_sim.cluster.machines import MachinesPlan
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.machine.process import Process
from waymaker_sim.members.world import STREAMS, MembersWorld


def status_of(process: Process) -> ClusterStatus:
    member = process.server
    assert isinstance(member, Member)
    return member.status(process.now())


def running_world() -> MembersWorld:
    world = MembersWorld(1, plan=MachinesPlan())
    world.machines.start()
    world.machines.run_for(3 * SECOND)
    world.publishing = False
    world.machines.run_for(2 * SECOND)
    return world


def of(status: ClusterStatus, node: int) -> MemberStatus:
    return next(each for each in status.members if each.node_id == node)


def test_members_at_rest_agree_and_every_replica_is_in_sync_with_its_primary() -> None:
    found = {number: status_of(process) for number, process in running_world().machines.machines.items()}
    leaders = {(each.leader, each.term) for each in found.values()}
    assert len(leaders) == 1
    for number, status in found.items():
        assert status.node_id == number
        assert status.leader_changes >= 1
        assert (status.streams, status.streams_unserved) == (len(STREAMS), 0)
        assert sum(each.streams_led for each in status.members) == len(STREAMS)
        assert all(each.is_heard for each in status.members)
        assert [each.replicas for each in status.members] == [len(STREAMS)] * 3
        # What a member knows of replicas it knows as their primary.
        assert [each.in_sync for each in status.members] == [of(status, number).streams_led] * 3
        assert not any(each.lagging or each.lag_records for each in status.members)


def test_a_member_that_is_down_is_not_heard_and_lags_by_what_it_lacks() -> None:
    world = running_world()
    machines = world.machines.machines
    down = next(number for number, process in machines.items() if not of(status_of(process), number).streams_led)
    machines[down].disk.faults.capacity = 0  # its next start finds no room
    machines[down].kill()
    world.publishing = True
    world.routes = [world._client(world.tape, 9)]
    world.machines.run_for(3 * SECOND)
    for number, process in machines.items():
        if number == down:
            continue
        status = status_of(process)
        assert [each.node_id for each in status.members if not each.is_heard] == [down]
        seen = of(status, down)
        assert seen.lagging == of(status, number).streams_led
        assert (seen.lag_records > 0) == (seen.lagging > 0)
        assert of(status, number).in_sync == of(status, number).streams_led
