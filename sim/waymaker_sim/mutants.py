"""Mutants: rules of the core, each of which can be taken out, to prove that the checks notice.

A mutant replaces one method of a core class while it is planted. The gate runs each against as many seeds as it needs, and
fails when one escapes. A mutant that names a method which no longer exists is an error at once, never a quiet pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from waymaker_core.catalogue import Catalogue
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.consumer.group import Group
from waymaker_core.consumer.withholding import Withholding
from waymaker_core.disk import SyncFile
from waymaker_core.node.commits import Commits
from waymaker_core.store.journal import Journal
from waymaker_core.store.journal_reader import JournalReader
from waymaker_core.stream.state import StreamState


@dataclass(frozen=True, slots=True)
class Mutant:
    """One removed rule: `plant` makes the change and returns how to undo it."""

    rule: str
    plant: Callable[[], Callable[[], None]]


def replaced(owner: object, name: str, make: Callable[[Any], Any]) -> Callable[[], Callable[[], None]]:
    """A mutant that replaces one attribute; `make` gets the original."""

    def plant() -> Callable[[], None]:
        original = vars(owner)[name]
        setattr(owner, name, make(original))
        return lambda: setattr(owner, name, original)

    return plant


# ---------------------------------------------------------------- the rules that can be taken out


def _without_syncs(original: Any) -> Any:
    def flush(self: Journal, sync: bool = True) -> Any:
        found = original(self, sync)
        if found is not None:
            found.ops = [op for op in found.ops if not isinstance(op, SyncFile)]
        return found

    return flush


def _answering_first(original: Any) -> Any:
    def start(self: Any) -> None:
        for item in self._flying:
            for token, answer in item.replies:
                self._state.reply(token, answer)
            item.replies = []
        original(self)

    return start


def _doing_nothing(_: Any) -> Any:
    return lambda self, *arguments, **keywords: None


def _gathering_nothing(_: Any) -> Any:
    def gather(self: Any, *arguments: Any) -> Iterator[Any]:
        yield from ()

    return gather


def _as_committed(_: Any) -> Any:
    return lambda self, subject: self.latest(subject)


def _never(_: Any) -> Any:
    return lambda self, *arguments: False


def _in_flight_twice(original: Any) -> Any:
    def draw(self: Any) -> int:
        drawn: int = original(self)
        return drawn - drawn % 2

    return draw


MUTANTS: dict[str, Mutant] = {
    "skip-sync": Mutant("what is confirmed is synced", replaced(Journal, "flush", _without_syncs)),
    "answer-early": Mutant(
        "an answer leaves after its record is durable", replaced(Commits, "_start", _answering_first)
    ),
    "forget-acks": Mutant(
        "a logged acknowledgement holds after a restart", replaced(Group, "replayed", _doing_nothing)
    ),
    "withhold-nothing": Mutant(
        "on a work queue one holder keeps out the others", replaced(Withholding, "hold", _doing_nothing)
    ),
    "ignore-staged": Mutant(
        "an expectation is judged with what is staged", replaced(StreamState, "projected_latest", _as_committed)
    ),
    "keep-dropped": Mutant("what a record drops is gone", replaced(StreamState, "apply_drops", _doing_nothing)),
    "cut-damage": Mutant(
        "damage below what was durable is not the end", replaced(JournalReader, "_gather_evidence", _gathering_nothing)
    ),
    "expire-nothing": Mutant("an unanswered delivery is due again", replaced(Consumers, "expire", _never)),
    "reuse-ids": Mutant("an id of a life is drawn once", replaced(Catalogue, "draw_id", _in_flight_twice)),
}


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
