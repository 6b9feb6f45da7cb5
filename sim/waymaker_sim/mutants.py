"""Mutants: rules of the core, each of which can be taken out, to prove that the checks notice.

A mutant replaces one method of a core class while it is planted. The gate runs each against as many seeds as it needs, and
fails when one escapes. A mutant that names a method which no longer exists is an error at once, never a quiet pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One removed rule: `plant` makes the change and returns how to undo it."""

    rule: str
    plant: Callable[[], Callable[[], None]]


MUTANTS: dict[str, Mutant] = {}


def replaced(owner: object, name: str, make: Callable[[object], object]) -> Callable[[], Callable[[], None]]:
    """A mutant that replaces one attribute; `make` gets the original."""

    def plant() -> Callable[[], None]:
        original = vars(owner)[name]
        setattr(owner, name, make(original))
        return lambda: setattr(owner, name, original)

    return plant


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The core with one rule missing; with an empty name, as it is."""
    if not name:
        yield
        return
    undo = MUTANTS[name].plant()
    try:
        yield
    finally:
        undo()
