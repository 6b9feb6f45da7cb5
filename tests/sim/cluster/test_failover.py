"""Failover of a thousand streams: within three seconds of virtual time, for a handful of entries in the catalog's log."""

from __future__ import annotations

import pytest

from waymaker_core.cluster import member as members
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.node import claims
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.members.failover import FailoverWorld

STREAMS = 1_000
BUDGET_NS = 3 * SECOND


def gathered(count: int, streams: int = STREAMS, seed: int = 1) -> tuple[FailoverWorld, int]:
    """Return a world in which the machine that leads the catalog leads all streams, too."""
    world = FailoverWorld(seed, count, streams)
    world.begin()
    leader = world.catalog_leader()
    world.gather(leader)
    world.machines.run_for(SECOND)
    return world, leader


@pytest.mark.parametrize(("count", "entries"), [(3, 8), (5, 24)])
def test_all_streams_of_the_leader_of_the_catalog_are_served_again_within_three_seconds(
    count: int, entries: int
) -> None:
    world, leader = gathered(count)
    led, end = world.led(leader), world.catalog_end()
    assert len(led) == STREAMS
    world.stop(leader)
    confirmed = world.serve_again(led)
    assert confirmed.keys() == set(led)
    assert max(confirmed.values()) < BUDGET_NS
    world.machines.run_for(2 * SECOND)
    assert world.catalog_end() - end <= entries, "claims and openings of many streams share entries"
    assert len([number for number in world.members() if world.led(number)]) >= 2, "the survivors share them"


@pytest.mark.parametrize("seed", range(2, 8))
def test_the_lots_of_an_election_do_not_break_the_budget(seed: int) -> None:
    world, leader = gathered(3 if seed % 2 else 5, 60, seed)
    world.stop(leader)
    confirmed = world.serve_again(world.names)
    assert len(confirmed) == 60 and max(confirmed.values()) < BUDGET_NS


def test_a_member_that_starts_again_leads_its_streams_again_for_a_handful_of_entries() -> None:
    world = FailoverWorld(2, 3, 600)
    world.begin()
    other = next(number for number in world.members() if number != world.catalog_leader())
    led, end = world.led(other), world.catalog_end()
    assert len(led) > 100
    world.machines.machines[other].kill()
    confirmed = world.serve_again(led)
    assert confirmed.keys() == set(led) and max(confirmed.values()) < BUDGET_NS
    world.machines.run_for(SECOND)
    assert world.catalog_end() - end <= 8
    assert world.led(other) == led


def test_the_checks_bite(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry for a few streams makes many, and a silence of three seconds is more than the budget has."""
    world, leader = gathered(3, 60)
    end = world.catalog_end()
    monkeypatch.setattr(claims, "STREAMS_PER_RECORD_MAX", 2)
    world.stop(leader)
    assert max(world.serve_again(world.names).values()) < BUDGET_NS
    assert world.catalog_end() - end > 30
    monkeypatch.setattr(members, "MemberSettings", lambda: MemberSettings(suspect_ms=3_000))
    late, leader = gathered(3, 20)
    late.stop(leader)
    assert max(late.serve_again(late.names).values()) > BUDGET_NS * 9 // 10
