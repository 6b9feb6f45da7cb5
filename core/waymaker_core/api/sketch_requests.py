"""Requests of sketches, as plain values. `stream` is the whole name of the sketch's stream; a missing one is `no_such_stream`.

Numbers travel as the little-endian bytes of IEEE 754 doubles: the core calculates with them in `sketches` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waymaker_core.api.requests import SourceStatus


class Question(Enum):
    """A question to a sketch. Which kinds of sketches answer it is `sketches.answers`'."""

    CONTAINS = 1
    DISTINCT = 2
    COUNTS = 3
    TOP = 4
    QUANTILES = 5
    RANKS = 6


@dataclass(slots=True, eq=False)
class AddToSketch:
    """Add a batch: `values` to most kinds, `numbers` to a t-digest. No value. A batch is taken whole or refused whole."""

    stream: str
    values: list[bytes] = field(default_factory=list)
    numbers: bytes = b""


@dataclass(slots=True, eq=False)
class MergeIntoSketch:
    """Take in the snapshot of another sketch of the same parameters. No value."""

    stream: str
    snapshot: bytes


@dataclass(slots=True, eq=False)
class QuerySketch:
    """Ask a sketch. Value `sketches.answers.SketchAnswer`."""

    stream: str
    question: Question
    values: list[bytes] = field(default_factory=list)
    numbers: bytes = b""
    limit: int = 0


@dataclass(slots=True, eq=False)
class GetSketchSnapshot:
    """Read a sketch whole. Value: its snapshot (bytes)."""

    stream: str


@dataclass(slots=True, eq=False)
class GetSketchInfo:
    """Read a sketch's settings and figures. Value `SketchInfo`."""

    stream: str


@dataclass(slots=True, eq=False)
class SketchInfo:
    """Value of `GetSketchInfo`. `parameters`: kind and numbers, as a text (`sketches.parameters`).

    `added` counts the values of all batches, not those of merged sketches. `item`: what is added of a source's message,
    as a text (`sketches.items`); empty without sources. `skipped` counts messages of sources that had none.
    """

    parameters: str
    added: int
    memory_bytes: int
    ephemeral: bool
    item: str = ""
    skipped: int = 0
    sources: list[SourceStatus] = field(default_factory=list)


SketchRequest = AddToSketch | MergeIntoSketch | QuerySketch | GetSketchSnapshot | GetSketchInfo

SKETCH_CHANGES = (AddToSketch, MergeIntoSketch)
"""Those that change a sketch, and are decided in the order in which they came."""
SKETCH_READS = (QuerySketch, GetSketchSnapshot, GetSketchInfo)
"""Those that are answered from applied state."""
