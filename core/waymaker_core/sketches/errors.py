"""The errors of sketches: parameters, values, merges and stored bytes that are refused, in words for the client."""

from __future__ import annotations


class SketchError(ValueError):
    """A call that a sketch refuses. The sketch is as it was before."""


class BadParameters(SketchError):
    """Parameters out of their range, or such that the sketch would be larger than any may be."""


class BadValue(SketchError):
    """A value that the sketch cannot take."""


class DifferentParameters(SketchError):
    """Two sketches that cannot be merged: they were made with different parameters."""


class CorruptSnapshot(SketchError):
    """Bytes that no sketch wrote, or that were changed since."""


def check_range(what: str, value: int, least: int, most: int) -> None:
    """Refuse (BadParameters) a parameter out of its range."""
    if not least <= value <= most:
        raise BadParameters(f"{what} is {value:,}; it must lie between {least:,} and {most:,}")
