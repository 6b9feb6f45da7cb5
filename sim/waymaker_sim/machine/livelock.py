"""A node that runs in circles: steps that nobody outside asked for, again and again.

A client's call may lead to a few more steps, when what it wrote is done, and to one for each file that had to be read for it,
which may be hundreds where indexes are many and memory for them is little. A node that takes many more than that keeps itself
busy: a deadline that stays in the past, a job that is given out again as soon as it is done. Both take a step every 0.1 virtual
milliseconds or less. A node that reads the same place of a file again and again does not get on either: what it read for one
purpose is pushed out before it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from waymaker_core.api.inputs import Input, JobDone, JobFailed, Unreadable
from waymaker_sim.kernel.checks import listed, violated
from waymaker_sim.kernel.events import SECOND

OWN_STEPS_MAX: Final = 4_000
"""So many steps in a virtual second may come of checkpoints, timers and what else the node does by itself."""
STEPS_OF_A_CALL: Final = 2
"""And so many of each thing that a client said, for what it wrote and what it waits for."""
READS_OF_ONE_MAX: Final = 500
"""So often in a virtual second one place may be read; the clients of a clean world read one about 40 times."""

_OWN = (JobDone, JobFailed, Unreadable)


class LivelockDetector:
    """Counts steps and what gave a reason for them, by virtual second."""

    def __init__(self) -> None:
        self._second = 0
        self._own = 0
        self._said = 0
        self._read = 0
        self._reads_of: Counter[tuple[str, int]] = Counter()

    def read(self, places: Iterable[tuple[str, int]] = ()) -> None:
        """A read for whoever asked is done. Violation (`progress`) when one (path, offset) is read for ever."""
        self._read += 1
        for place in places:
            self._reads_of[place] += 1
            if self._reads_of[place] > READS_OF_ONE_MAX + STEPS_OF_A_CALL * self._said:
                violated(
                    "progress",
                    f"{place[0]} at {place[1]} was read {self._reads_of[place]} times in one virtual second"
                    f" in which clients said {self._said} things",
                )

    def stepped(self, at_ns: int, inputs: Sequence[Input]) -> None:
        """One step with these inputs. Violation (`progress`) when there were too many that only the node had a reason for."""
        second = at_ns // SECOND
        if second != self._second:
            self._second, self._own, self._said, self._read = second, 0, 0, 0
            self._reads_of.clear()
        said = sum(not isinstance(one, _OWN) for one in inputs)
        self._said += said
        self._own += not said
        if self._own > OWN_STEPS_MAX + STEPS_OF_A_CALL * self._said + self._read:
            violated(
                "progress",
                f"{self._own} steps in one virtual second in which clients said {self._said} things and {self._read} reads"
                f" were done; this one takes {listed(type(one).__name__ for one in inputs)}",
            )
