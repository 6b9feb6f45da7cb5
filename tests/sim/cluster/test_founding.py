"""How a group begins: one member founds it, the one with data first, and never beside another group."""

from __future__ import annotations

from dataclasses import replace

import pytest

from waymaker_core.api.requests import CreateStream, Publish, Published
from waymaker_core.cluster.founding import Condition
from waymaker_core.cluster.member import Member
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.message_codec import plain_body
from waymaker_core.model.result_codes import Answer
from waymaker_core.node import open_node
from waymaker_core.raft.members import Members
from waymaker_sim.cluster.machines import MachinesPlan
from waymaker_sim.kernel.checks import Violation
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.machine.callers import ReceivedMessage, StepId
from waymaker_sim.machine.process import Process
from waymaker_sim.machine.process_state import State
from waymaker_sim.machine.swarm import ORDINARY
from waymaker_sim.members.world import STREAMS, MembersWorld


class Asker:
    """A caller that keeps its answer."""

    def __init__(self) -> None:
        self.answers: list[object] = []

    def replied(self, answer: object, messages: list[ReceivedMessage] | None, step_id: StepId) -> None:
        self.answers.append(answer)

    def __getattr__(self, name: str) -> object:
        return lambda *args: None


def ask(world: MembersWorld, process: Process, request: object) -> object:
    asker = Asker()
    assert process.call(request, asker) is not None  # type: ignore[arg-type]
    world.machines.run_for(SECOND, lambda: bool(asker.answers))
    assert asker.answers
    return asker.answers[0]


def publish_alone(
    world: MembersWorld, number: int, count: int, streams: tuple[str, ...] = STREAMS, size: int = 0
) -> None:
    """Let a machine run as a single node, and publish to it, messages of some bytes; stop it in good order."""
    process = world.machines.machines[number]
    config, opener = process.config, process.opener
    process.config, process.opener = replace(config, member=False, replicated=False), open_node
    process.start()
    world.machines.run_for(SECOND, lambda: process.state is State.UP)
    for stream in streams:
        answer = ask(world, process, CreateStream(StreamConfig(stream)))
        assert isinstance(answer, Answer), answer
        for _ in range(count):
            world.sent += 1
            payload = (b"%d" % world.sent).ljust(size)
            body = plain_body("subject", payload)
            answer = ask(world, process, Publish(stream, ["subject"], [len(payload)], [len(body)], body))
            assert isinstance(answer, Answer) and isinstance(answer.value, Published), answer
            world.confirmed[stream, answer.value.first_seq] = payload
    process.config, process.opener = config, opener
    process.drain()
    world.machines.run_for(SECOND, lambda: process.run > 1 and process.state is State.DOWN)


def member(process: Process) -> Member:
    server = process.server
    assert isinstance(server, Member)
    return server


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_single_nodes_streams_survive_and_spread(number: int) -> None:
    """The member with data founds the group whatever its number is; in the end all members have all of it."""
    world = MembersWorld(number, plan=MachinesPlan())
    publish_alone(world, number, 5)
    alone = dict(world.confirmed)
    for each, process in world.machines.machines.items():
        if each != number:
            process.start()
    world.machines.run_for(2 * SECOND)
    world.machines.machines[number].disk.faults.capacity = 0
    world.machines.machines[number].kill()  # it stays away: its next start finds no room
    world.machines.run_for(3 * SECOND)
    world.publishing = False
    world.machines.run_for(11 * SECOND)
    assert len(world.confirmed) > len(alone) + 50
    for stream in STREAMS:
        world._audit(stream)


def test_members_with_nothing_do_not_begin_without_the_one_that_has_data() -> None:
    world = MembersWorld(5, plan=MachinesPlan())
    publish_alone(world, 3, 3)
    machines = world.machines.machines
    world.machines.run_for(SECOND, lambda: machines[3].state is State.UP)
    machines[3].disk.faults.capacity = 0
    machines[3].kill()
    for each in (1, 2):
        machines[each].start()
    world.machines.run_for(4 * SECOND)
    assert all(member(machines[each]).leads_catalog is False for each in (1, 2))
    assert len(world.confirmed) == 3 * len(STREAMS)
    world.machines.heal()
    world.run_healed()


def test_two_members_with_data_stay_out_and_say_why() -> None:
    world = MembersWorld(6, plan=MachinesPlan())
    publish_alone(world, 1, 1, ("a",))
    publish_alone(world, 2, 1, ("b",))
    world.machines.machines[3].start()
    world.machines.run_for(2 * SECOND)
    assert world.machines.marks["log member_stays_out"] == 2
    servers = [member(each) for each in world.machines.machines.values()]
    assert [each._group.condition for each in servers] == [Condition.SINGLE, Condition.SINGLE, Condition.EMPTY]
    assert not any(each.leads_catalog for each in servers)


def test_empty_members_that_do_not_wait_lose_the_data_of_a_single_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule, the member with the smallest number begins, beside the one that has data."""
    from waymaker_core.cluster import founding

    def careless(self: founding.Founding, now: int, condition: Condition) -> object:
        if condition == Condition.GROUPED or self._node_id != 1 or len(self._heard) < 2:
            return None
        named = {self._node_id: self.directory} | {
            node: each.announcement.directory for node, each in self._heard.items()
        }
        return Members((1, 2, 3), (), tuple(sorted(named.items())))

    monkeypatch.setattr(founding.Founding, "first_members", careless)
    world = MembersWorld(7, plan=MachinesPlan())
    publish_alone(world, 3, 3)
    for each in (1, 2):
        world.machines.machines[each].start()
    with pytest.raises((Violation, AssertionError)):
        world.run_healed()


@pytest.mark.parametrize(("memory", "voters"), [(300, 1), (1_000, 3)])
def test_what_is_not_in_memory_stays_on_its_node_and_goes_on(memory: int, voters: int) -> None:
    """300 bytes do not hold the catalog either: then its group has one voter, and no other member is waited for."""
    world = MembersWorld(8, plan=MachinesPlan(limits=replace(ORDINARY, recent_log_bytes_max=memory)))
    publish_alone(world, 2, 10, size=300)
    before = len(world.confirmed)
    for each in (1, 3):
        world.machines.machines[each].start()
    world.machines.run_for(4 * SECOND)
    servers = {number: member(each) for number, each in world.machines.machines.items()}
    assert len(servers[2]._group.members.voters) == voters
    assert servers[2].replicas.streams_alone == len(STREAMS)
    assert world.machines.marks["log streams_on_one_node"] >= 1
    assert len(world.confirmed) > before + 50
    assert [len(replica.conf.newest.replicas) for _, replica in servers[2].replicas.items() if replica.conf] == [
        1,
        1,
        1,
    ]
