"""Subjects of the simulated worlds: the subjects that clients publish to, and the streams that accept them.

The naive broker's rules decide which subjects a stream accepts; they share nothing with the core's.
"""

from __future__ import annotations

from functools import cache

from waymaker_core.model.limits import Limits
from waymaker_sim.reference.naive_consumer import matches
from waymaker_sim.reference.naive_names import good_subject

SUBJECTS = ("a.x", "a.y", "b", "b.c.d", "a.z")
LETTERS = "dead.letters"
WIDE = ("a.*", "b.>", "b", "dead.*")
"""A filter that accepts all of these."""
NARROW = (("a.*",), ("a.*", "dead.*"), ("b", "b.c.*"), ("a.x", "*.c.>"), ("*",), ("b.>", "a.y"), (">",))
"""Filters that accept some of them."""
STRAYS = ("c.d", "a.x.y", "a", "b.c", "*", "a.*", "b.>", "a..x", "b.c.d.")
"""Subjects that hardly any stream accepts, and texts that are no valid subject."""


@cache
def accepts(patterns: tuple[str, ...], subject: str) -> bool:
    """Return True if a stream with this filter accepts a message at this subject; an empty filter accepts all."""
    return good_subject(subject, Limits()) and (not patterns or any(matches(each, subject) for each in patterns))


DLQ = "x-waymaker-dlq-"


def _origin_of(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Return the origin headers that a dead letter of a message with these headers must have."""
    marks = {key.removeprefix(DLQ): value for key, value in headers if key.startswith(DLQ)}
    origin = {key: value for key, value in marks.items() if key.startswith("origin-")}
    return origin or {f"origin-{key}": value for key, value in marks.items() if key != "via"}
