"""Members of one cluster in simulated worlds: machines and links fail, primaries move, and what was confirmed is there."""

from __future__ import annotations

from collections import Counter

import pytest
from click.testing import CliRunner

from waymaker_core.api.effects import Reply
from waymaker_core.api.inputs import Call, KeepVote
from waymaker_core.api.requests import Publish
from waymaker_core.cluster.effects import FromPeer
from waymaker_core.cluster.member import Member
from waymaker_core.cluster.peer_messages import OfGroup, OfReplica, frames_of
from waymaker_core.model.message_codec import plain_body
from waymaker_core.model.result_codes import Outcome, Refusal
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.raft.messages import VoteRequest
from waymaker_core.replication.messages import Fence
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


def test_a_member_that_waits_for_its_disk_rests() -> None:
    """Where the node declined one thing, and another was still on its way to the disk, a deadline stayed in the past."""
    world = MembersWorld(1, plan=MachinesPlan())
    world.machines.start()
    world.machines.run_for(2 * SECOND)
    members = [each.server for each in world.machines.machines.values() if isinstance(each.server, Member)]
    follower = next(each for each in members if not each.leads_catalog)
    group, own = follower._group, follower.node.config.node_id
    group.take_node_inputs()
    now = group.next_deadline()
    for term in (100, 101):
        vote = VoteRequest(group.leader or 1 + own % 3, own, term, 1 << 40, 99, forced=True)
        group.step(now, [OfGroup(0, False, vote)])
    first, second = [each.ask for each in group.take_node_inputs() if isinstance(each, KeepVote)]
    assert group.take_answer(now, first, False)
    assert group.next_deadline() > now + 60_000, "nothing can begin before the second one is answered"
    assert group.take_answer(now + 5_000, second, True)
    assert group.next_deadline() <= now + 5_000
    group.step(now + 5_000, [])
    assert now + 5_000 < group.next_deadline() < now + 60_000, "it takes part again"


def test_a_primary_decides_nothing_after_a_newer_claim_has_arrived() -> None:
    """Both came in one step, after a pause. The records of the call were kept behind a log that was verified without them."""
    world = MembersWorld(1, plan=MachinesPlan())
    world.machines.start()
    world.machines.run_for(2 * SECOND)
    process = next(each for each in world.machines.machines.values() if leads(each, 1))
    member = process.server
    assert isinstance(member, Member)
    conf, end = member.node.conf(1), member.node.log_end(1)
    assert conf is not None
    body = plain_body("subject", b"too late")
    stream = next(each.name for each in member.node.log_figures() if each.stream_id == 1)
    call = Call(Token(1 << 40), ANYONE, Publish(stream, ["subject"], [8], [len(body)], body))
    (frame,) = frames_of([OfReplica(1, Fence(conf.newest.epoch + 1))])
    sender = next(each for each in conf.newest.replicas if each != process.number)
    effects = member.step(process.now(), [call, FromPeer(sender, frame)])
    assert member.node.log_end(1) == end
    (reply,) = [each for each in effects if isinstance(each, Reply) and each.token == call.token]
    assert isinstance(reply.answer, Refusal) and reply.answer.outcome is Outcome.NOT_APPLIED


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
