"""Members that keep next to nothing in memory: what others lack comes from the journal, and nothing confirmed is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from waymaker_core.api.inputs import ReadRecords, SentRecord
from waymaker_core.node.transfer.record_reads import RecordReads
from waymaker_sim.cluster.machines import MachinesPlan
from waymaker_sim.kernel.checks import Violation
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.process import NodeRaised
from waymaker_sim.members.world import MembersWorld, draw_members_plan, parted

FORGETFUL = {"recent_log_bytes_max": 600, "recent_bytes_max": 1_500}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count reads for followers and for claimants, and those that found nothing."""
    found: Counter[str] = Counter()
    answer = RecordReads._answer

    def note(self: RecordReads, event: ReadRecords, records: list[SentRecord] | None) -> None:
        found["none" if records is None else "follower" if event.reader else "claimant"] += 1
        answer(self, event, records)

    monkeypatch.setattr(RecordReads, "_answer", note)
    return found


def forgetful(seed: int) -> MembersWorld:
    plan = parted(draw_members_plan(Tape(seed).track("swarm"), 3))
    plan.limits = replace(plan.limits, **FORGETFUL)
    return MembersWorld(seed, plan=plan)


def run_all(seeds: range) -> None:
    for seed in seeds:
        forgetful(seed).run()


def test_a_follower_that_was_away_catches_up_from_the_journal(reads: Counter[str]) -> None:
    plan = MachinesPlan()
    plan.limits = replace(plan.limits, **FORGETFUL)
    world = MembersWorld(3, plan=plan)
    machines = world.machines
    machines.start()
    machines.run_for(2 * SECOND)
    away = machines.machines[2]
    away.kill()
    away.disk.faults.capacity = 0
    machines.run_for(6 * SECOND)
    assert reads.total() == 0
    machines.heal()
    machines.await_up()
    machines.run_for(3 * SECOND)
    assert reads["follower"] > 0 and reads["none"] == 0
    ends = {number: ends_of(process.node) for number, process in machines.machines.items()}
    assert all(abs(ends[2][each] - ends[1][each]) <= 3 for each in ends[1]), ends


def ends_of(node: object) -> dict[int, int]:
    return {each.stream_id: each.durable for each in node.log_figures()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("seeds", [range(1, 3), range(4, 6)], ids=str)
def test_forgetful_members_lose_nothing(seeds: range, reads: Counter[str]) -> None:
    run_all(seeds)
    assert reads["follower"]


def test_a_record_of_another_place_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that gives the records of the positions behind the wanted ones makes logs differ."""
    begin = RecordReads._begin

    def shifted(self: RecordReads, event: ReadRecords) -> None:
        wanted = event.first
        event.first += 1
        begin(self, event)
        event.first = wanted

    monkeypatch.setattr(RecordReads, "_begin", shifted)
    with pytest.raises((Violation, NodeRaised)):
        run_all(range(1, 7))
