"""Rules of dead letters: one for each dropped message, with its bytes, and in a work queue the original is removed."""

from __future__ import annotations

from typing import Any

import waymaker_core.consumer.dead_letter.letter as dead_letter
import waymaker_core.node.delivery.expiry as deliveries
import waymaker_core.stream.admission as admission
from waymaker_core.consumer.dead_letter.letter import DeadLetterBuilder
from waymaker_core.consumer.group import Group
from waymaker_core.model.records import DropRecord
from waymaker_core.stream.stream import Stream
from waymaker_sim.mutants.planting import Mutant, giving


def _without_drops(original: Any) -> Any:
    def replayed(self: Group, record: Any) -> None:
        if not isinstance(record, DropRecord):
            original(self, record)

    return replayed


def _keeping_originals(original: Any) -> Any:
    def decide(self: Stream, subject: str, seqs: Any, bodies: Any, wall_ms: int, replace: bool = False) -> Any:
        return original(self, subject, seqs, bodies, wall_ms, False)

    return decide


def _of_a_neighbour(original: Any) -> Any:
    def bodies(*arguments: Any) -> list[bytes]:
        found: list[bytes] = original(*arguments)
        return found[1:] + found[:1]

    return bodies


def _without_dropping(original: Any) -> Any:
    return lambda body, subject, marks, drop_prefix="": original(body, subject, marks)


def _always_own(_: Any) -> Any:
    return lambda self, headers: False


DEAD_LETTERS = {
    "lose-letters": Mutant(
        "a dropped message has a dead letter if the consumer has a subject for it", ("dead letter once",),
        DeadLetterBuilder, "letter", giving(None),
    ),
    "double-letters": Mutant(
        "a dropped message stays dropped after a restart", ("dead letter once", "monotone", "recovery twice"),
        Group, "replayed", _without_drops,
    ),
    "keep-originals": Mutant(
        "in a work queue the original ends with its dead letter", ("dead letter once",),
        admission, "decide_copies", _keeping_originals,
    ),
    "swap-letters": Mutant(
        "a dead letter is its own message's copy", ("bytes intact",), deliveries, "_bodies", _of_a_neighbour,
    ),
    "marks-that-pile-up": Mutant(
        "a dead letter of a dead letter has one set of marks", ("bytes intact",),
        dead_letter, "readdress", _without_dropping,
    ),
    "letters-of-letters": Mutant(
        "a message that is a consumer's own dead letter gets no other one", ("dead letter once",),
        DeadLetterBuilder, "_is_own", _always_own,
    ),
}  # fmt: skip
