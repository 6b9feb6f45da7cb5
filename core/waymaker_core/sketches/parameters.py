"""Parameters of a sketch, and the text that stands for them in the settings of the sketch's stream: `hyperloglog.14`.

A stream's settings are created, archived, restored and replicated with it, and these never change. They say all that a new
sketch needs, so a sketch is there as soon as its stream is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from waymaker_core.sketches import bloom, count_min
from waymaker_core.sketches.bloom import BloomFilter
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.errors import BadParameters
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.restoring import Sketch
from waymaker_core.sketches.snapshot_format import Kind
from waymaker_core.sketches.t_digest import BUFFER_PER_COMPRESSION, TDigest
from waymaker_core.sketches.top_k import VALUE_BYTES_MAX, TopK

PREFIX: Final = "sketch:"
"""The beginning of the names of streams that hold sketches."""

FORMS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.BLOOM: ("capacity", "error_ppb"),
    Kind.HYPERLOGLOG: ("precision",),
    Kind.COUNT_MIN: ("error_ppb", "failure_ppb"),
    Kind.TOP_K: ("k", "error_ppb", "failure_ppb"),
    Kind.T_DIGEST: ("compression",),
}
"""By kind, the numbers of its parameters in their order."""


class Parameters(NamedTuple):
    """A kind of sketch and its numbers, in the order of `FORMS`."""

    kind: Kind
    numbers: tuple[int, ...]

    @property
    def text(self) -> str:
        """Return the text that stands for them."""
        return ".".join([self.kind.name.lower(), *map(str, self.numbers)])

    def make(self) -> Sketch:
        """Return an empty sketch. BadParameters."""
        match self.kind:
            case Kind.BLOOM:
                return BloomFilter(*self.numbers)
            case Kind.HYPERLOGLOG:
                return HyperLogLog(*self.numbers)
            case Kind.COUNT_MIN:
                return CountMin(*self.numbers)
            case Kind.TOP_K:
                return TopK(*self.numbers)
            case Kind.T_DIGEST:
                return TDigest(*self.numbers)

    def memory_bytes(self) -> int:
        """Return about the greatest memory of a sketch with these parameters. BadParameters."""
        match self.kind:
            case Kind.BLOOM:
                return bloom.dimensions(*self.numbers)[1] // 8
            case Kind.HYPERLOGLOG:
                return 1 << self.numbers[0]
            case Kind.COUNT_MIN:
                return _table_bytes(*self.numbers)
            case Kind.TOP_K:
                return _table_bytes(*self.numbers[1:]) + self.numbers[0] * VALUE_BYTES_MAX
            case Kind.T_DIGEST:
                return self.numbers[0] * (2 * 16 + 8 * BUFFER_PER_COMPRESSION)


def parameters_of(settings: bytes) -> Parameters:
    """Return the parameters that a stream's settings stand for, whatever item follows. BadParameters where they are none."""
    text, _, _ = settings.decode("ascii", "replace").partition("/")
    name, *texts = text.split(".")
    for kind, form in FORMS.items():
        if name == kind.name.lower() and len(texts) == len(form) and all(map(_is_plain, texts)):
            parameters = Parameters(kind, tuple(map(int, texts)))
            parameters.make()
            return parameters
    forms = ", ".join(".".join([kind.name.lower(), *(f"<{each}>" for each in form)]) for kind, form in FORMS.items())
    raise BadParameters(f"a sketch is created by its service (CreateSketch), with one of these parameters: {forms}")


def _is_plain(text: str) -> bool:
    """Return True for a number as it is written: in ASCII digits, without a leading zero, and not endless."""
    return text.isascii() and text.isdigit() and len(text) <= 20 and (text == "0" or text[0] != "0")


def _table_bytes(error_ppb: int, failure_ppb: int) -> int:
    width, depth = count_min.dimensions(error_ppb, failure_ppb)
    return 8 * width * depth
