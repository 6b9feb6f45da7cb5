"""Planned moves in simulated worlds: members stop one after the other, operators pin and send back, and callers notice little."""

from __future__ import annotations

import pytest

from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.model.types import StreamId
from waymaker_sim.kernel.checks import Violation
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.members.move_rules import MOVE_RULES
from waymaker_sim.members.moves_world import SETTLE_MS, MovesWorld
from waymaker_sim.members.world import STREAMS


def test_members_that_stop_in_turn_leave_no_outcome_in_doubt() -> None:
    world = MovesWorld(2, healthy=True)
    world.run(12 * SECOND)
    assert world.moves > 3 and world.returns and len(world.acked) > 500
    assert world.machines.marks["halted: clean"] > 2


@pytest.mark.parametrize("seed", [1, 2])
def test_faults_beside_moves_lose_nothing(seed: int) -> None:
    world = MovesWorld(seed)
    world.run()
    assert world.moves


def test_an_orderly_stop_takes_milliseconds_and_gives_the_catalog_away() -> None:
    world = MovesWorld(3, healthy=True, stops=False)
    machines = world.machines
    machines.start()
    machines.run_for(2 * SECOND)
    (leader,) = [number for number, member in world._members().items() if member.leads_catalog]
    begun_ns, process = machines.events.now_ns, machines.machines[leader]
    run = process.run
    process.drain()
    machines.run_for(SECOND, lambda: process.halted is not None or process.run != run)
    assert machines.events.now_ns - begun_ns < 200 * MS
    assert [number for number, member in world._members().items() if member.leads_catalog] not in ([], [leader])


class LaggingHome(MovesWorld):
    """A world in which the home of a stream is paused when the stream is about to return to it."""

    def __init__(self, lag_max: int) -> None:
        settings = MemberSettings(settle_ms=SETTLE_MS, move_lag_max=lag_max)
        super().__init__(1, settings=settings, healthy=True, stops=False)

    def longest_gap_ms(self, before_ms: int) -> float:
        """Return the longest time without a primary, where a home is paused for 900 ms so long before its streams return."""
        machines, first = self.machines, STREAMS[0]
        machines.start()
        machines.run_for(2 * SECOND)
        home = next(iter(self._members().values())).node.home_of(StreamId(1))
        machines.run_for(5 * SECOND, lambda: self._led_by[first][1] == home)
        faults = machines.machines[home].disk.faults
        capacity, faults.capacity = faults.capacity, 0  # it stays away: its next start finds no room
        machines.machines[home].kill()
        machines.run_for(5 * SECOND, lambda: self._led_by[first][1] != home)
        assert self._led_by[first][1] != home
        faults.capacity = capacity
        machines.run_for(5 * SECOND, lambda: home in self._members())
        self.gaps_ms.clear()
        machines.run_for((SETTLE_MS - before_ms) * MS)
        assert not self.returns
        machines.machines[home].pause(900 * MS)
        machines.run_for(5 * SECOND)
        assert self.returns
        return max(self.gaps_ms)


def test_a_stream_is_drained_only_for_a_home_that_has_nearly_all() -> None:
    assert LaggingHome(4).longest_gap_ms(300) < 50
    with MOVE_RULES["drain_when_near"].planted():
        assert LaggingHome(4).longest_gap_ms(300) > 300


def test_a_home_that_takes_too_long_to_have_all_is_not_claimed_for() -> None:
    """The drain ends at its deadline, and the old primary serves on."""
    assert LaggingHome(256).longest_gap_ms(50) < MemberSettings().drain_ms + 50
    with MOVE_RULES["move_whole_log"].planted():
        assert LaggingHome(256).longest_gap_ms(50) > MemberSettings().drain_ms + 150


@pytest.mark.parametrize(
    ("name", "seed"), [("drain_first", 2), ("hand_deliveries_over", 2), ("return_when_settled", 2), ("keep_pinned", 4)]
)
def test_a_world_notices_each_rule_that_is_left_out(name: str, seed: int) -> None:
    (check,) = MOVE_RULES[name].caught_by
    with MOVE_RULES[name].planted(), pytest.raises(Violation, match=check):
        MovesWorld(seed, healthy=True).run(12 * SECOND)
