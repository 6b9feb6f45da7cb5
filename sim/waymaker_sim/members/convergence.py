"""Convergence: at rest, all replicas of each log have the same records applied, one of them leads it, and all states are equal.

States are compared as a client reads them: a node that starts alone, on a copy of each member's disk, answers. Alone it leads
all streams, and goes on copying where the member that leads has no replica of a source. What it adds so is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from waymaker_core.cluster.member import Member
from waymaker_core.model.types import CATALOG, Now
from waymaker_core.node.node import LogFigures
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.instant import InstantNode
from waymaker_sim.machine.observations import Seen, SeenStream, differences, figures, growing, observe, up_to
from waymaker_sim.machine.process import Process


def _members(machines: Sequence[Process]) -> list[tuple[int, Member]]:
    return [(each.number, each.server) for each in machines if isinstance(each.server, Member)]


def _replicated_here(number: int, member: Member) -> Iterator[LogFigures]:
    """Yield the logs that a member has a replica of: the catalog, and the streams that were placed on it."""
    for each in member.node.log_figures():
        conf = member.node.conf(each.stream_id)
        if each.stream_id == CATALOG or (conf is not None and number in conf.newest.replicas):
            yield each


def lagging(machines: Sequence[Process]) -> str:
    """Return which log has no leader, or records that some member has not applied; empty if none has."""
    ends: dict[int, tuple[int, int]] = {}
    led: dict[int, int] = {}
    members = _members(machines)
    if len(members) < len(machines):
        return "some members do not serve"
    for number, member in members:
        for each in _replicated_here(number, member):
            led[each.stream_id] = led.get(each.stream_id, 0) + each.leads
            if each.applied < each.end:
                return f"machine {number} has applied {each.applied} of {each.end} records of log {each.stream_id}"
            other, end = ends.setdefault(each.stream_id, (number, each.end))
            if end != each.end:
                return f"log {each.stream_id} ends at {end} on machine {other}, at {each.end} on {number}"
    return next((f"log {log} has {count} leaders" for log, count in led.items() if count != 1), "")


def unlike(machines: Sequence[Process], track: Track) -> str:
    """Return how a stream differs on two disks, each read by a node that starts alone on a copy; empty if all are alike."""
    first: dict[str, tuple[int, SeenStream | str]] = {}
    members = dict(_members(machines))
    for process in machines:
        alone = replace(process.config, member=False, members=(), replicated=False)
        seen = observe_alone(InstantNode(alone, process.disk.copy(track), Now(1, process.now().wall_ms)))
        here = {each.name for each in _replicated_here(process.number, members[process.number])}
        for name in sorted(here & seen.keys()):
            other, known = first.setdefault(name, (process.number, seen[name]))
            if found := differences({name: known}, {name: seen[name]}):
                return f"machines {other} and {process.number}: {found}"
    return ""


def observe_alone(node: InstantNode) -> Seen:
    """Read everything, but of streams that copy only what was there at the start."""
    known = {each.name: figures(each.stream.stats()) for each in node.replicas()}
    seen = observe(node)
    for name in growing(seen) & known.keys():
        stream = seen.get(name)
        if isinstance(stream, SeenStream):
            seen[name] = replace(up_to(stream, known[name][1]), stats=known[name])
    return seen
