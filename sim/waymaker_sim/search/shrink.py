"""Shrinking: from a tape that fails to a small one that fails in the same way, by delta debugging over its draws
(Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002; the order of sizes is that of
Hypothesis' shrinker).

Since 0 is the benign choice, a tape is the set of its draws that are not 0. A smaller tape is one with fewer of them,
then with earlier ones, then with lower numbers. The shrinker leaves groups of draws out, a whole kind of fault or an
actor first and a single draw last; lowers numbers; and closes gaps, so that a run gets shorter. Nothing ever adds a
draw: what was left out stays out.

Responsible for the search alone. The caller decides what failing means and how long to search; the same answers give
the same search. The caller answers an attempt with the tape that the run really drew, so draws that it did not reach
are cut off at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from waymaker_sim.kernel.tape import Saved

Place = tuple[str, int, str, int]
"""The place of a draw: track, span, label, and its number under that label in that span."""
Draws = dict[Place, int]
"""The draws of a tape that are not 0."""
Grouping = Callable[[Place], Hashable | None]
"""The group of draws that a draw is left out with; None: this one stays."""
H = TypeVar("H", bound=Hashable)

LINEAR_MAX = 8
"""Up to here every lower number is tried, for options need not be ordered; above, numbers are halved."""


def flat(saved: Saved) -> Draws:
    """Return a tape as a set of draws."""
    return {
        (track, span, label, place): value
        for track, spans in saved.items()
        for span, labels in spans.items()
        for label, values in labels.items()
        for place, value in enumerate(values)
        if value
    }


def nested(draws: Draws) -> Saved:
    """Return a set of draws as a tape."""
    saved: Saved = {}
    for (track, span, label, place), value in sorted(draws.items()):
        values = saved.setdefault(track, {}).setdefault(span, {}).setdefault(label, [])
        values.extend([0] * (place - len(values)))
        values.append(value)
    return saved


def size(draws: Draws) -> tuple[int, int, int, int, int]:
    """Return the size that shrinking reduces: number of draws, their times, their actors, their magnitudes, their
    values."""
    return (
        len(draws),
        sum(span + place for _, span, _, place in draws),
        sum(numbered(track)[1] for track, _, _, _ in draws),
        sum(value.bit_length() for value in draws.values()),
        sum(draws.values()),
    )


def numbered(track: str) -> tuple[str, int]:
    """Return an actor's role and number; 0 where it has none."""
    role, _, number = track.rpartition(" ")
    return (role, int(number)) if number.isdecimal() else (track, 0)


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of simplification: `groups` of draws are left out, as many as possible at once."""

    name: str
    groups: Grouping


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Another kind of simplification: `proposals` makes smaller tapes of one, the best first; the search keeps the
    first that fails, and calls `proposals` again."""

    name: str
    proposals: Callable[[Draws], Iterable[Draws]]


@dataclass(slots=True)
class Progress:
    """The progress of the search."""

    step: str
    runs: int
    draws: int
    finished: bool = False


class OutOfBudget(Exception):
    """An error: the budget is spent."""


class Shrinker:
    """One search. `shrink` runs it to its end, or until its bound; `draws` is the smallest tape so far."""

    def __init__(
        self,
        start: Saved,
        attempt: Callable[[Saved], Saved | None],
        steps: Sequence[Step | Rewriting],
        may_go_on: Callable[[int], bool],
        on_progress: Callable[[Progress], None] = lambda progress: None,
        actor: Callable[[str], str] = lambda track: track,
    ) -> None:
        """Begin at `start`, which must fail. `attempt` runs a tape and returns its draws, if it fails in the same way.

        `may_go_on` is called before each attempt with the number of those made. Tracks of one `actor` are shifted together.
        """
        self.draws = flat(start)
        self.progress = Progress("", 0, len(self.draws))
        self._attempt = attempt
        self._steps = steps
        self._may_go_on = may_go_on
        self._on_progress = on_progress
        self._actor = actor
        self._tried: set[int] = set()

    def shrink(self) -> Saved:
        """Simplify until nothing gets smaller, or the budget is spent. The result has failed, or is the start."""
        try:
            while self._round():
                pass
            self.progress.finished = True
        except OutOfBudget:
            pass
        self._on_progress(self.progress)
        return nested(self.draws)

    def _round(self) -> bool:
        before = size(self.draws)
        for step in self._steps:
            self.progress.step = step.name
            if isinstance(step, Step):
                self._leave_out(step.groups)
            else:
                self._rewrite(step.proposals)
        self.progress.step = "each draw"
        self._leave_out(lambda place: place)
        self.progress.step = "numbers"
        self._lower_alike()
        for place in sorted(self.draws):
            self._lower([place])
        self.progress.step = "gaps"
        self._close_gaps()
        self._move_up()
        self._renumber()
        return size(self.draws)[:-1] < before[:-1]

    def _try(self, candidate: Draws) -> bool:
        """Return True if the candidate is smaller and fails, too; then it is shrunk further."""
        bound = size(self.draws)
        if size(candidate) >= bound:
            return False
        known = hash(frozenset(candidate.items()))
        if known in self._tried:
            return False
        if not self._may_go_on(self.progress.runs):
            raise OutOfBudget
        self._tried.add(known)
        self.progress.runs += 1
        drawn = self._attempt(nested(candidate))
        smaller = drawn is not None and size(draws := flat(drawn)) < bound
        if smaller:
            self.draws = draws
            self.progress.draws = len(draws)
        self._on_progress(self.progress)
        return smaller

    # ------------------------------------------------------------ leaving out

    def _leave_out(self, groups: Grouping) -> None:
        """Leave out all groups at once, then halves, quarters and so on down to each alone, the last ones first."""
        parts = _in_order(groups(place) for place in sorted(self.draws))
        chunk = len(parts)
        while chunk:
            end = len(parts)
            while end > 0:
                start = max(0, end - chunk)
                without = set(parts[start:end])
                kept = {place: value for place, value in self.draws.items() if groups(place) not in without}
                end = start
                if self._try(kept):
                    left = {groups(place) for place in self.draws}
                    before = [part for part in parts[:start] if part in left]
                    parts = before + [part for part in parts[start:] if part in left]
                    end = len(before)
            chunk = min(chunk, len(parts)) // 2

    def _rewrite(self, proposals: Callable[[Draws], Iterable[Draws]]) -> None:
        while any(self._try(proposal) for proposal in proposals(self.draws)):
            pass

    # ------------------------------------------------------------ numbers

    def _lower_alike(self) -> None:
        """Lower draws of one label and value together: they may have to agree, as names do."""
        alike: dict[tuple[str, int], list[Place]] = {}
        for place in sorted(self.draws):
            alike.setdefault((place[2], self.draws[place]), []).append(place)
        for places in alike.values():
            if len(places) > 1:
                self._lower(places)

    def _lower(self, places: list[Place]) -> None:
        """Lower these draws, which have one value, to the lowest that still fails."""
        value = self._value(places)
        if value is not None and value > LINEAR_MAX:
            self._halve(places, value)
            value = self._value(places)
        if value is not None and value <= LINEAR_MAX:
            any(self._try(self._with(places, lower)) for lower in range(value))

    def _halve(self, places: list[Place], high: int) -> None:
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            if not self._try(self._with(places, middle)):
                low = middle
                continue
            value = self._value(places)
            if value is None or value <= low:
                return
            high = value

    def _value(self, places: list[Place]) -> int | None:
        values = {self.draws.get(place) for place in places}
        return values.pop() if len(values) == 1 else None

    def _with(self, places: list[Place], value: int) -> Draws:
        changed = {**self.draws, **dict.fromkeys(places, value)}
        return changed if value else {place: kept for place, kept in changed.items() if kept}

    # ------------------------------------------------------------ gaps

    def _close_gaps(self) -> None:
        """Move the operations of an actor next to each other, as far as the run still fails."""
        for actor in _in_order(self._actor(track) for track, _, _, _ in sorted(self.draws)):
            previous = 0
            for span in sorted({span for track, span, _, _ in self.draws if self._actor(track) == actor and span}):
                here = self._close(actor, span, span - previous - 1)
                if here is None:
                    break
                previous = here

    def _close(self, actor: str, span: int, gap: int) -> int | None:
        """Remove as much as possible of the gap before this span. Returns its new place; None: it was cut off."""
        by = gap
        while by > 0:
            if self._try(self._shifted(actor, span, by)):
                span, gap = span - by, gap - by
                if not any(self._actor(track) == actor and at == span for track, at, _, _ in self.draws):
                    return None
                by = gap
            else:
                by //= 2
        return span

    def _shifted(self, actor: str, start: int, by: int) -> Draws:
        """Return an actor's draws with those from a span on so many spans earlier."""
        return {
            (track, span - by if span >= start and self._actor(track) == actor else span, label, place): value
            for (track, span, label, place), value in self.draws.items()
        }

    def _move_up(self) -> None:
        """Move draws to earlier places among those of their label."""
        for place in sorted(self.draws):
            by = place[3]
            while by > 0 and place in self.draws:
                earlier = (*place[:3], place[3] - by)
                moved = {earlier if at == place else at: value for at, value in self.draws.items()}
                if earlier not in self.draws and self._try(moved):
                    place, by = earlier, earlier[3]
                else:
                    by //= 2

    def _renumber(self) -> None:
        """Renumber actors, so that those that do nothing are last."""
        for actor in _in_order(self._actor(track) for track, _, _, _ in sorted(self.draws)):
            role, number = numbered(actor)
            for free in range(number):
                present = {self._actor(track) for track, _, _, _ in self.draws}
                if actor in present and f"{role} {free}" not in present:
                    self._try(self._renamed(actor, free))

    def _renamed(self, actor: str, number: int) -> Draws:
        return {
            (f"{numbered(place[0])[0]} {number}" if self._actor(place[0]) == actor else place[0], *place[1:]): value
            for place, value in self.draws.items()
        }


def _in_order(items: Iterable[H | None]) -> list[H]:
    return [item for item in dict.fromkeys(items) if item is not None]
