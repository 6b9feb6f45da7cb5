"""Planned moves in simulated worlds: members stop in turn, operators pin and send back, and callers notice little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.model.types import StreamId
from waymaker_core.replication.settings import ReplicationSettings
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


@pytest.mark.parametrize("seed", [1, 7])
def test_faults_beside_moves_lose_nothing(seed: int) -> None:
    """7: a member that leads the catalog, and cannot leave at once, has no work left over meanwhile."""
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


class ReturningHome(MovesWorld):
    """A world in which something happens to the home of a stream when the stream is about to return to it."""

    def __init__(self, seed: int, settings: MemberSettings) -> None:
        super().__init__(seed, settings=settings, healthy=True, stops=False)
        self.home = 0
        self.waits_for_drain = 0

    def await_return(self) -> None:
        """Kill the home of the first stream, let its streams be claimed for others, and let it come back."""
        machines, first = self.machines, STREAMS[0]
        machines.start()
        machines.run_for(2 * SECOND)
        self.home = home = next(iter(self._members().values())).node.home_of(StreamId(1))
        machines.run_for(5 * SECOND, lambda: self._led_by[first][1] == home)
        self._stay_away(lambda: self._led_by[first][1] != home)
        machines.run_for(5 * SECOND, lambda: home in self._members())
        self.gaps_ms.clear()

    def _stay_away(self, until: Callable[[], bool]) -> None:
        """Kill the home, and let its next starts find no room on the disk."""
        process = self.machines.machines[self.home]
        capacity, process.disk.faults.capacity = process.disk.faults.capacity, 0
        process.kill()
        self.machines.run_for(5 * SECOND, until)
        assert until()
        process.disk.faults.capacity = capacity

    def gap_ms_with_pause(self, before_ms: int, ms: int = 900) -> float:
        """Return the longest time without a primary, where the home is paused so long before its streams return."""
        self.await_return()
        self.machines.run_for((SETTLE_MS - before_ms) * MS)
        assert self.returns == 0
        self.machines.machines[self.home].pause(ms * MS)
        self.machines.run_for(5 * SECOND)
        assert self.returns > 0
        return max(self.gaps_ms)

    def gap_ms_with_death(self) -> float:
        """Return the time without a primary, where the home dies when a stream is drained for it, and has not all yet."""
        self.await_return()
        begun_ns = self.machines.events.now_ns
        self._wait_for_drain()
        self.machines.run_for(6 * SECOND, lambda: not self.waits_for_drain)
        assert self.machines.events.now_ns - begun_ns > SECOND
        self._stay_away(lambda: not self._since)
        return max(self.gaps_ms)

    def _wait_for_drain(self) -> None:
        self.waits_for_drain = 1

    def _look(self) -> None:
        super()._look()
        if self.waits_for_drain:
            for member in self._members().values():
                replica = member.replicas.replica_of(1)
                if replica is not None and member.moves.is_draining(1):
                    # What arrived there could be acknowledged yet, and then the home has all.
                    lacks = self._members()[self.home].node.log_end(1) < member.node.log_end(1)
                    self.waits_for_drain = int(not lacks or member.moves.target(1) != self.home)


def settings() -> MemberSettings:
    return MemberSettings(settle_ms=SETTLE_MS)


def slow_settings(lag_max: int) -> MemberSettings:
    """Settings with which a replica that lags is sent one record at a time."""
    replication = ReplicationSettings(append_bytes_max=1, window_bytes_max=1)
    return MemberSettings(settle_ms=SETTLE_MS, move_lag_max=lag_max, replication=replication)


def test_a_stream_is_drained_only_for_a_home_that_answers() -> None:
    assert ReturningHome(1, settings()).gap_ms_with_pause(150) < 50
    with MOVE_RULES["ask_the_other_first"].planted():
        assert ReturningHome(1, settings()).gap_ms_with_pause(150) > 400


def test_a_stream_is_drained_only_for_a_home_that_has_nearly_all() -> None:
    assert ReturningHome(1, slow_settings(2)).gap_ms_with_pause(500) < 50
    with MOVE_RULES["drain_when_near"].planted():
        assert ReturningHome(1, slow_settings(2)).gap_ms_with_pause(500) > 100


def test_a_home_that_never_has_all_is_not_claimed_for() -> None:
    """The drain ends at its deadline, and the old primary serves on."""
    assert ReturningHome(4, settings()).gap_ms_with_death() < MemberSettings().drain_ms + 50
    with MOVE_RULES["move_whole_log"].planted():
        assert ReturningHome(4, settings()).gap_ms_with_death() > MemberSettings().suspect_ms - MemberSettings().beat_ms


def test_the_streams_of_a_stalled_disk_are_led_elsewhere_and_come_back() -> None:
    world = MovesWorld(1, settings=settings(), healthy=True, stops=False)
    machines = world.machines
    machines.start()
    machines.run_for(3 * SECOND)
    stalled = world._led_by[STREAMS[0]][1]
    process = machines.machines[stalled]
    pace, process.pace = process.pace, replace(process.pace, sync_ns=6 * SECOND)
    machines.run_for(5 * SECOND)
    assert machines.up() == [1, 2, 3]
    assert world._led_by[STREAMS[0]][1] != stalled
    assert not any(member.leads_catalog for number, member in world._members().items() if number == stalled)
    process.pace = pace
    before = len(world.confirmed)
    machines.run_for(10 * SECOND)
    assert len(world.confirmed) > before
    assert world._members()[stalled]._liveness.is_well(machines.events.now_ns // MS, stalled)


SEEDS = {"drain_first": 14, "hand_deliveries_over": 2, "return_when_settled": 11, "keep_pinned": 16}
"""By rule: a world that notices soon that it is left out."""


@pytest.mark.parametrize("name", SEEDS)
def test_a_world_notices_each_rule_that_is_left_out(name: str) -> None:
    assert first_broken(name) == MOVE_RULES[name].caught_by[0]


def first_broken(name: str) -> str:
    """Return the check that notices first, in some worlds, that a rule is left out; empty where none does."""
    with MOVE_RULES[name].planted():
        for seed in dict.fromkeys([SEEDS[name], *range(11, 19)]):
            try:
                MovesWorld(seed, healthy=True).run(12 * SECOND)
            except Violation as broken:
                return broken.check
    return ""
