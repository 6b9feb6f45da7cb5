"""Targets for what a sketch's service will read: stored sketches, and the subject transforms of sources."""

from __future__ import annotations

from contextlib import suppress

from tests.fuzz.target import Target
from tests.kit.sketch_kit import empty_sketches, small_sketches, used
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import CodeError
from waymaker_core.model.subjects import subject_bytes
from waymaker_core.sketches.errors import BadValue, CorruptSnapshot
from waymaker_core.sketches.snapshot_format import MAGIC, Kind
from waymaker_core.sources.transform import parse

LIMITS = Limits()

# ---------------------------------------------------------------- stored sketches


def sketch_seeds() -> list[bytes]:
    """A snapshot of each kind: empty, with a few values, and with many."""
    made = [empty_sketches(), small_sketches(7), small_sketches()]
    return [sketch.snapshot() for sketches in made for sketch in sketches.values()]


def run_sketch(data: bytes) -> None:
    """A snapshot is refused as corrupt, or it is a sketch that can be asked, added to and merged until it is full."""
    with suppress(CorruptSnapshot, BadValue):
        used(data)


# ---------------------------------------------------------------- transforms


def transform_seeds() -> list[bytes]:
    """A pattern, a destination and a subject, a line each."""
    return [
        text.encode()
        for text in (
            "a.*.*\nb.$2.{{wildcard(1)}}\na.x.y",
            "a.>\nb.{{partition(10,1)}}.>\na.x.y",
            "*\n{{split(1,-)}}.{{SliceFromLeft(1,3)}}.{{splitfromright(1,2)}}\nab-cd--ef",
            "*.*\n{{ Partition (10, 1,2) }}.{{left(1,2)}}.{{right(2,1)}}\né.ß",
            "\nprefix.>\na.b",
        )
    ]


def run_transform(data: bytes) -> None:
    """A transform is refused as invalid; what it makes of a subject is a subject, or the reason is told."""
    pattern, destination, subject = (*data.decode(errors="surrogateescape").split("\n"), "", "", "")[:3]
    try:
        transform = parse(pattern, destination, LIMITS)
    except CodeError:
        return
    if subject_bytes(subject, LIMITS):
        result = transform.apply(subject)
        assert (result is None) == bool(transform.fault(subject))
        assert result is None or subject_bytes(result, LIMITS)


TOKENS = (
    b"{{",
    b"}}",
    b"$1",
    b"{{wildcard(1)}}",
    b"partition(",
    b"split(1,",
    b",",
    b".",
    b"*",
    b">",
    b"\n",
    b"0",
    b"(",
    b")",
)

TARGETS = (
    Target("sketch", sketch_seeds, run_sketch, tuple(MAGIC + bytes([kind, 1]) for kind in Kind)),
    Target("transform", transform_seeds, run_transform, TOKENS),
)
