"""Rules of frames that are encoded when they are written: what they hold, and where what follows them lies."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

from waymaker_core.model.limits import KIB
from waymaker_core.storage.checkpoint.deferred import DeferredFrame
from waymaker_core.storage.checkpoint.writer import CheckpointWriter
from waymaker_core.stream import snapshot
from waymaker_core.stream.blocks.subject_image import SubjectImage
from waymaker_core.stream.blocks.subject_table import SubjectTable
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant

DEFERRED_MAX = 20
"""Subjects from which on small worlds may encode later."""


def _deferring(plan: Plan) -> bool:
    """Return True for worlds with many checkpoints that are encoded later, and with starts that read them."""
    limits = plan.limits
    often = limits.checkpoint_journal_bytes <= 64 * KIB and plan.kill + plan.power > 10_000
    return often and limits.checkpoint_deferred_subjects <= DEFERRED_MAX


class _LiveImage:
    """An image that looks at the table when it is encoded."""

    def __init__(self, table: SubjectTable) -> None:
        self._table = table

    def encoded(self, raw: Callable[[array[int]], bytes]) -> Iterator[bytes]:
        yield from SubjectImage(self._table).encoded(raw)


def _counting_at_once(original: Any) -> Any:
    def settle(self: CheckpointWriter) -> None:
        self._taken = [part for part in self._taken if not isinstance(part[1], DeferredFrame)]
        original(self)

    return settle


DEFERRED_FRAMES = {
    "encode-what-is-there-then": Mutant(
        "a frame that is encoded later holds the state of the step that added it",
        ("recovery honest", "node raised", "acked survives", "answer allowed", "invariant", "recovery twice"),
        snapshot, "SubjectImage", lambda _: _LiveImage, _deferring,
    ),
    "count-no-deferred-frame": Mutant(
        "what follows a frame that is encoded later lies behind it", ("recovery honest",),
        CheckpointWriter, "_settle", _counting_at_once, _deferring,
    ),
}  # fmt: skip
