"""Mutants: each removes one rule of the core as long as a run lasts; this module plants and removes them.

A mutant replaces one name of a class or module: of the core, or of the simulated shell for a rule that the shell keeps. One
that names what no longer exists is an error at once, never a quiet pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from waymaker_sim.machine.swarm import Plan

Make = Callable[[Any], Any]
"""Makes the replacement from the original."""
Needs = Callable[[Plan], bool]
Adapt = Callable[[Plan], None]
"""Changes a drawn world in place."""


def as_drawn(plan: Plan) -> None:
    """Leave a world as it was drawn."""


def anything(plan: Plan) -> bool:
    """Return True for every world."""
    return True


@dataclass(frozen=True, slots=True)
class Mutant:
    """One removed rule. `owner` is a class or module, `name` its attribute, replaced by `make(original)`.

    `caught_by` names the checks that must notice; the gate reports when another one did.
    """

    rule: str
    caught_by: tuple[str, ...]
    owner: object
    name: str
    make: Make
    needs: Needs = anything
    """Selects the worlds that can reach the rule; the others are not tried."""
    adapt: Adapt = as_drawn
    """Adapts each world to the rule, where drawn worlds reach it too rarely. A seed that notices holds for that world only."""

    conversation: str = ""
    """A rule that no world's client can judge: the conversation with naive services that notices instead (`compare`)."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Remove this rule from the core meanwhile."""
        original = vars(self.owner)[self.name]
        setattr(self.owner, self.name, self.make(original))
        try:
            yield
        finally:
            setattr(self.owner, self.name, original)


def giving(value: Any) -> Make:
    """Make a function that does nothing and returns this."""
    return lambda _: lambda *arguments, **keywords: value


def nothing(_: Any) -> Any:
    """Make a function that does nothing."""
    return lambda *arguments, **keywords: None
