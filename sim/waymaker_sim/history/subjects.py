"""Subjects of the simulated worlds: what is published where, and which stream takes it.

What a stream accepts is told by the naive broker's rules, which share nothing with the core's.
"""

from __future__ import annotations

from functools import cache

from waymaker_core.model.limits import Limits
from waymaker_sim.reference.naive_consumer import matches
from waymaker_sim.reference.naive_names import good_subject

SUBJECTS = ("a.x", "a.y", "b", "b.c.d", "a.z")
LETTERS = "dead.letters"
WIDE = ("a.*", "b.>", "b", "dead.*")
"""A filter that takes all of these."""
NARROW = (("a.*",), ("a.*", "dead.*"), ("b", "b.c.*"), ("a.x", "*.c.>"), ("*",), ("b.>", "a.y"), (">",))
"""Filters that take some of them."""
STRAYS = ("c.d", "a.x.y", "a", "b.c", "*", "a.*", "b.>", "a..x", "b.c.d.")
"""What hardly any stream takes, and what nobody may publish to."""


@cache
def accepts(patterns: tuple[str, ...], subject: str) -> bool:
    """Whether a stream with this filter takes a message at this subject; an empty filter takes all."""
    return good_subject(subject, Limits()) and (not patterns or any(matches(each, subject) for each in patterns))


DLQ = "x-waymaker-dlq-"


def _origin_of(headers: list[tuple[str, str]]) -> dict[str, str]:
    """What a dead letter of a message with these headers is to say of where it came from first."""
    marks = {key.removeprefix(DLQ): value for key, value in headers if key.startswith(DLQ)}
    told = {key: value for key, value in marks.items() if key.startswith("origin-")}
    return told or {f"origin-{key}": value for key, value in marks.items() if key != "via"}
