"""Members of one cluster in simulated worlds: machines and links fail, primaries move, and what was confirmed is there."""

from __future__ import annotations

from collections import Counter

import pytest
from click.testing import CliRunner

from waymaker_sim.cli.command import sim
from waymaker_sim.cluster.machines import MachinesPlan
from waymaker_sim.cluster.marks import never_reached
from waymaker_sim.kernel.checks import Violation
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.members.world import STREAMS, MembersWorld, draw_members_plan, parted
from waymaker_sim.replication.rules import RULES

SEEDS = (4, 5, 6, 7)


def test_members_without_faults_confirm_everything() -> None:
    world = MembersWorld(1, plan=MachinesPlan())
    world.run(3 * SECOND)
    assert not world.doubtful
    assert len(world.confirmed) > 100
    assert {stream for stream, _ in world.confirmed} == set(STREAMS)


@pytest.fixture(scope="module")
def marks() -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in SEEDS:
        world = MembersWorld(seed)
        world.run()
        assert len(world.confirmed) > 20, f"seed {seed}"
        found += world.machines.marks
    return found


def test_what_was_confirmed_survives_the_faults_of_members(marks: Counter[str]) -> None:
    assert never_reached(marks, ("kill", "kill at effect", "power loss", "restart", "client redirected")) == []


def test_a_primary_that_is_killed_is_followed_by_another_node() -> None:
    world = MembersWorld(3, plan=MachinesPlan())
    machines = world.machines
    machines.start()
    machines.run_for(3 * SECOND)
    led = {number: process for number, process in machines.machines.items() if leads(process, 1)}
    ((number, primary),) = led.items()
    before = Counter(stream for stream, _ in world.confirmed)
    primary.disk.faults.capacity = 0  # it stays away: its next start finds no room
    primary.kill()
    machines.run_for(4 * SECOND)
    others = [each for each, process in machines.machines.items() if each != number and leads(process, 1)]
    assert len(others) == 1
    after = Counter(stream for stream, _ in world.confirmed)
    assert all(after[stream] > before[stream] for stream in STREAMS)


def leads(process: object, stream_id: int) -> bool:
    server = getattr(process, "server", None)
    return server is not None and server.replicas.leads_stream(stream_id)


def parted_world(seed: int) -> MembersWorld:
    return MembersWorld(seed, plan=parted(draw_members_plan(Tape(seed).track("swarm"), 3)))


@pytest.mark.parametrize("seed", [1, 13])
def test_partitions_with_rival_primaries_lose_nothing(seed: int) -> None:
    """13: a claimant whose donor had its log no more in memory gives up in favour of the donor."""
    parted_world(seed).run()


def test_a_primary_that_commits_alone_is_found_out() -> None:
    with RULES["majority_of_set"].planted(), pytest.raises(Violation, match=r"one history|acked survives"):
        parted_world(13).run()


def test_a_seed_is_the_same_run_twice() -> None:
    def digest_of(seed: int) -> str:
        digest = Digest()
        world = MembersWorld(seed, digest)
        world.run(2 * SECOND)
        digest.add(f"{world.confirmed} {sorted(world.machines.marks.items())}")
        return digest.hex()

    assert digest_of(5) == digest_of(5)


def test_the_command_counts_worlds() -> None:
    done = CliRunner().invoke(sim, ["members", "--seeds", "6..6", "--nodes", "3"])
    assert done.exit_code == 0 and done.output.startswith("1 worlds of 3 nodes"), done.output
