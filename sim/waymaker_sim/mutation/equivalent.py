"""Mutants that no run can distinguish from the core, each with its reason.

An entry names function and texts, not lines, so that it stays valid while the file around it changes. When the text of
the function changes, the entry is void and must be deleted: a test checks that.
"""

from __future__ import annotations

from typing import NamedTuple

from waymaker_sim.mutation.drawing import Drawn


class Equivalent(NamedTuple):
    """One mutant and the reason why nothing can notice it."""

    module: str
    function: str
    before: str
    after: str
    reason: str


EQUIVALENT: tuple[Equivalent, ...] = ()


def reason_for(drawn: Drawn) -> str:
    """Return why a mutant is equivalent, or an empty text."""
    key = (drawn.module, drawn.function, drawn.before, drawn.after)
    return next((each.reason for each in EQUIVALENT if each[:4] == key), "")
