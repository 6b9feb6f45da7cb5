"""Minimize: the smallest run that still fails in the same way; the groups of draws that the shrinker leaves out, in
order.

First faults, kind by kind and then one by one; then actors; then kinds of choice; then the plan; then single
operations. Two runs fail in the same way if they violate the same check, and where the node threw if they threw the
same in the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from waymaker_sim.kernel.checks import CRASH
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.kernel.tape import Saved, Tape
from waymaker_sim.machine.swarm import Plan, plan_of
from waymaker_sim.search.shrink import Draws, Place, Progress, Rewriting, Shrinker, Step, flat, nested, numbered
from waymaker_sim.world.run import Report, run_tape
from waymaker_sim.world.world import TURNS, World, turn_ns

RUNS_MAX = 20_000
SECONDS: Place = ("swarm", 0, "seconds", 0)
FAULT_TRACKS = ("nemesis", "disk", "machine", "network", "clocks", "link")
NO_FAULTS = ("takes", "clock origin", "moment", "latency")
"""Draws of machines and links that are no faults."""
PLANS = ("swarm", "swarm of members", "services of members")
"""Tracks of what is drawn before a run begins."""
FAULTS_OF_PLAN = (
    "kill", "kill at effect", "power", "drain", "wall jump", "pause", "full", "rot", "read error", "write error",
    "sync error", "wrong clock", "loss", "tears", "lost names", "slow", "late", "duplicates", "breaks", "breaks of all",
    "partitions", "clogs", "jitter", "rates", "skew", "lost directories", "damage", "lying disks",
)  # fmt: skip
"""Draws of the swarm about faults; without one, its kind of fault does not exist."""


def is_fault(place: Place) -> bool:
    """Return True if a draw that is not 0 causes or permits a fault."""
    track, _, label, _ = place
    if track in PLANS:
        return label.rstrip("?") in FAULTS_OF_PLAN
    return _who(track) == "nemesis" and label not in NO_FAULTS


def is_operation(place: Place) -> bool:
    """Return True if a draw is a client's."""
    return place[1] > 0 and _who(place[0]) != "nemesis"


def _fault_kind(place: Place) -> str | None:
    return place[2].rstrip("?") if is_fault(place) else None


def _fault(place: Place) -> tuple[str, int] | None:
    return place[:2] if is_fault(place) and place[1] else None


def _who(track: str) -> str:
    """Return the actor of a track; machines, their disks and their links are shifted with the nemesis."""
    who = track.removeprefix("moments of ")
    return "nemesis" if numbered(who)[0].partition(" ")[0] in FAULT_TRACKS else who


def _plan(place: Place) -> str | None:
    return place[2].rstrip("?") if place[0] in PLANS else None


def _actor(place: Place) -> str | None:
    return None if place[0] in PLANS or is_fault(place) else _who(place[0])


def _label(place: Place) -> tuple[str, str] | None:
    return None if is_fault(place) else (numbered(place[0])[0], place[2])


def _operation(place: Place) -> tuple[str, int] | None:
    return None if is_fault(place) else (_who(place[0]), place[1])


def _detail(place: Place) -> tuple[str, int, str]:
    return place[:3]


def _shorter(draws: Draws) -> Iterator[Draws]:
    """Propose all operations earlier, and the faults' time shorter by the same. Those that cannot be earlier are
    first."""
    plan = plan_of(Tape(0, nested(draws)))
    left = draws.get(SECONDS, 0)
    fewer = left
    while fewer:
        yield {**_earlier(draws, plan, fewer * SECOND), SECONDS: left - fewer}
        fewer //= 2
    for part in (1, 2, 5, 10):
        yield _earlier(draws, plan, SECOND // part)


def _earlier(draws: Draws, plan: Plan, by_ns: int) -> Draws:
    spans: dict[str, dict[int, int]] = {}
    for who, span in sorted({(_who(track), span) for track, span, _, _ in draws if span}):
        moved = spans.setdefault(who, {})
        before = next(reversed(moved.values()), 0)
        moved[span] = max(before + 1, span - by_ns // _turn_ns(who, plan))
    return {
        (track, spans[_who(track)][span] if span else 0, label, place): value
        for (track, span, label, place), value in draws.items()
    }


def _turn_ns(who: str, plan: Plan) -> int:
    """Return the length of an actor's turn. What is no client has a new span with each turn of the nemesis."""
    return turn_ns(who if who.partition(" ")[0] in TURNS else "nemesis", plan)


STEPS = (
    Step("kinds of fault", _fault_kind),
    Step("faults", _fault),
    Step("actors", _actor),
    Step("kinds of choice", _label),
    Step("the plan", _plan),
    Rewriting("time", _shorter),
    Step("operations", _operation),
    Step("choices", _detail),
)


@dataclass(slots=True)
class Minimized:
    """The result of a search: the tape, its failure, and the cost of the search."""

    tracks: Saved
    report: Report
    runs: int
    finished: bool
    """True if no smaller tape is in reach; False if the budget ended the search."""

    def figures(self) -> str:
        """Return the figures for people."""
        draws = flat(self.tracks)
        faults = sum(1 for place in draws if is_fault(place))
        return (
            f"{len(draws)} draws, {faults} of them faults, {len(operations(draws))} operations, "
            f"{self.report.asked} calls, {self.report.virtual_ns / SECOND:.1f} virtual seconds"
        )


def operations(draws: Draws) -> set[tuple[str, int]]:
    """Return the operations of clients in a tape, by track and span."""
    return {(_who(place[0]), place[1]) for place in draws if is_operation(place)}


def minimize(
    start: Saved,
    mutant: str = "",
    *,
    make: Callable[..., World] = World,
    may_go_on: Callable[[int], bool] = lambda runs: runs < RUNS_MAX,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Minimized:
    """Shrink a tape that fails, with `mutant` if it needs a missing rule. `make` makes another kind of world."""
    first = Tape(0, start)
    wanted = run_tape(first, mutant=mutant, make=make)
    if wanted.clean():
        raise ValueError("this run violates nothing")

    def attempt(candidate: Saved) -> Saved | None:
        tape = Tape(0, candidate)
        report = run_tape(tape, mutant=mutant, make=make)
        return tape.saved() if same_way(report, wanted) else None

    shrinker = Shrinker(first.saved(), attempt, STEPS, may_go_on, on_progress, _who)
    tracks = shrinker.shrink()
    report = run_tape(Tape(0, tracks), mutant=mutant, make=make)
    assert same_way(report, wanted), f"shrunk from {wanted.check!r} to {report.check!r}"
    return Minimized(tracks, report, shrinker.progress.runs, shrinker.progress.finished)


def same_way(one: Report, other: Report) -> bool:
    """Return True if two runs failed in the same way. Where the node threw, the check alone is not enough."""
    return one.check == other.check and (one.kind() != CRASH or one.thrown == other.thrown)
