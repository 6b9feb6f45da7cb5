"""A state machine: one state out of an enum, changed by events as a table says."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class StateMachine(Generic[S, E]):
    """The present state of a thing. An event that the table does not list for it has no effect."""

    __slots__ = ("state", "_transitions")

    def __init__(self, initial: S, transitions: Mapping[tuple[S, E], S]) -> None:
        self.state = initial
        self._transitions = transitions

    def on(self, event: E) -> bool:
        """Change the state as the table says; return False where the event has no effect."""
        after = self._transitions.get((self.state, event))
        if after is None:
            return False
        self.state = after
        return True
