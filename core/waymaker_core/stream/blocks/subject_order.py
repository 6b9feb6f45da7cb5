"""The sorted order of a stream's subjects, made as far as a listing needs it: quicksort, of which the rest is put off.

The subjects lie in parts, each below the next. A part is split and sorted when a listing comes to it, so that the first
page of a million keys costs a few passes over them and no sort. Removed subjects stay until many are: readers look each
one up anyway.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterator
from typing import Final

PART_SUBJECTS: Final = 8_192
"""A part of at most so many is sorted; a longer one is split first."""
SAMPLE: Final = 64
LOWER_SHARE: Final = 4
"""The lower part of a split holds about one in so many: a listing waits for that one only."""
FEW_SHARE: Final = 8
"""At most one new subject in so many is put into its part; with more, all begin again as one part."""


class SubjectOrder:
    """Subjects in parts. One that was removed and entered again occurs twice until its part is sorted."""

    __slots__ = ("fresh", "_bounds", "_parts", "_sorted", "_count")

    def __init__(self) -> None:
        self.fresh: list[str] = []
        """Subjects that are in no part yet."""
        self._bounds = [""]
        """A text for each part: at most its least subject, and above all before it."""
        self._parts: list[list[str]] = [[]]
        self._sorted = [True]
        self._count = 0

    def subjects_from(self, start: str) -> Iterator[str]:
        """Yield the subjects from a text on, in order, removed ones too. None may be entered meanwhile."""
        self._enter_fresh()
        place = bisect_right(self._bounds, start) - 1
        while place < len(self._parts):
            part = self._sorted_part(place)
            yield from part[bisect_left(part, start) :]
            place += 1

    def keep_only(self, known: Container[str]) -> None:
        """Forget all other subjects, in one pass. Parts stay where they are, so that a listing may go on."""
        self._parts = [[subject for subject in part if subject in known] for part in self._parts]
        self.fresh = [subject for subject in self.fresh if subject in known]
        self._count = sum(map(len, self._parts))

    def _enter_fresh(self) -> None:
        fresh, self.fresh = self.fresh, []
        if not fresh:
            return
        self._count += len(fresh)
        if len(fresh) * FEW_SHARE > self._count:
            for part in self._parts[1:]:
                self._parts[0] += part
            self._parts[0] += fresh
            self._bounds, self._parts, self._sorted = [""], self._parts[:1], [False]
            return
        for subject in fresh:
            place = bisect_right(self._bounds, subject) - 1
            self._parts[place].append(subject)
            self._sorted[place] = False

    def _sorted_part(self, place: int) -> list[str]:
        """Return a part, sorted; its upper end becomes parts of their own where it is long."""
        part = self._parts[place]
        if self._sorted[place]:
            return part
        while len(part) > PART_SUBJECTS:
            sample = sorted(part[:: max(1, len(part) // SAMPLE)])
            pivot = sample[len(sample) // LOWER_SHARE]
            lower = [subject for subject in part if subject < pivot]
            if len(lower) * SAMPLE < len(part):
                break  # a sample that says nothing, by chance or on purpose: sorted at once, the work stays bounded
            self._bounds.insert(place + 1, pivot)
            self._parts[place : place + 1] = [lower, [subject for subject in part if subject >= pivot]]
            self._sorted.insert(place + 1, False)
            part = lower
        part = self._parts[place] = list(dict.fromkeys(sorted(part)))
        self._sorted[place] = True
        return part
