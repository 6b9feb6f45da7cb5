"""Livelock: steps that no client caused, again and again.

A client's call may cause a few more steps, when its write is done, and one for each file that had to be read for it.
That may be hundreds where indexes are many and memory for them is small. A node that takes many more steps keeps itself
busy: a deadline that stays in the past, a job that is started again as soon as it is done. Both take a step every 0.1
virtual milliseconds or less. A node that reads the same place of a file again and again makes no progress either: what
it read for one purpose is evicted before it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from waymaker_core.api.inputs import Input, JobDone, JobFailed, Unreadable
from waymaker_sim.kernel.checks import listed, violated
from waymaker_sim.kernel.events import SECOND

OWN_STEPS_MAX: Final = 4_000
"""Steps in a virtual second that checkpoints, timers and other work of the node may cause."""
STEPS_OF_A_CALL: Final = 2
"""Steps that each input from a client may cause, for its write and for its wait."""
READS_OF_ONE_MAX: Final = 500
"""Reads of one place in a virtual second, at most; the clients of a clean world read one about 40 times."""

_OWN = (JobDone, JobFailed, Unreadable)


class LivelockDetector:
    """Counts steps and their causes, by virtual second."""

    def __init__(self) -> None:
        self._second = 0
        self._own = 0
        self._inputs = 0
        self._read = 0
        self._reads_of: Counter[tuple[str, int]] = Counter()

    def read(self, places: Iterable[tuple[str, int]] = ()) -> None:
        """Note a read that a call or a job needed. Violation (`progress`) if one (path, offset) is read without end."""
        self._read += 1
        for place in places:
            self._reads_of[place] += 1
            if self._reads_of[place] > READS_OF_ONE_MAX + STEPS_OF_A_CALL * self._inputs:
                violated(
                    "progress",
                    f"{place[0]} at {place[1]} was read {self._reads_of[place]} times in one virtual second"
                    f" in which clients said {self._inputs} things",
                )

    def stepped(self, at_ns: int, inputs: Sequence[Input]) -> None:
        """Note one step with these inputs. Violation (`progress`) if too many steps had no cause outside the node."""
        second = at_ns // SECOND
        if second != self._second:
            self._second, self._own, self._inputs, self._read = second, 0, 0, 0
            self._reads_of.clear()
        inputs_seen = sum(not isinstance(one, _OWN) for one in inputs)
        self._inputs += inputs_seen
        self._own += not inputs_seen
        if self._own > OWN_STEPS_MAX + STEPS_OF_A_CALL * self._inputs + self._read:
            violated(
                "progress",
                f"{self._own} steps in one virtual second in which clients said {self._inputs} things and {self._read} reads"
                f" were done; this one takes {listed(type(one).__name__ for one in inputs)}",
            )
