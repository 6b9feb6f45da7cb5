"""Convergence: at rest, all replicas of each log have the same records applied, one of them leads it, and all states are equal.

States are compared as a client reads them: a node that starts alone, on a copy of each member's disk, answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waymaker_core.cluster.member import Member
from waymaker_core.model.types import Now
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.instant import InstantNode
from waymaker_sim.machine.observations import Seen, differences, observe
from waymaker_sim.machine.process import Process


def _members(machines: Sequence[Process]) -> list[tuple[int, Member]]:
    return [(each.number, each.server) for each in machines if isinstance(each.server, Member)]


def lagging(machines: Sequence[Process]) -> str:
    """Return which log has no leader, or records that some member has not applied; empty if none has."""
    ends: dict[int, tuple[int, int]] = {}
    led: dict[int, int] = {}
    members = _members(machines)
    if len(members) < len(machines):
        return "some members do not serve"
    for number, member in members:
        for each in member.node.log_figures():
            led[each.stream_id] = led.get(each.stream_id, 0) + each.leads
            if each.applied < each.end:
                return f"machine {number} has applied {each.applied} of {each.end} records of log {each.stream_id}"
            other, end = ends.setdefault(each.stream_id, (number, each.end))
            if end != each.end:
                return f"log {each.stream_id} ends at {end} on machine {other}, at {each.end} on {number}"
    return next((f"log {log} has {count} leaders" for log, count in led.items() if count != 1), "")


def unlike(machines: Sequence[Process], track: Track) -> str:
    """Return how the streams on two disks differ, each read by a node that starts alone on a copy; empty if all are alike."""
    first: tuple[int, Seen] | None = None
    for process in machines:
        alone = replace(process.config, member=False, members=(), replicated=False)
        seen = observe(InstantNode(alone, process.disk.copy(track), Now(1, process.now().wall_ms)))
        if first is None:
            first = process.number, seen
        elif found := differences(first[1], seen):
            return f"machines {first[0]} and {process.number}: {found}"
    return ""
