"""Subjects of the simulated worlds: what is published where, and which stream takes it.

What a stream accepts is told by the naive broker's rules, which share nothing with the core's.
"""

from __future__ import annotations

from functools import cache

from waymaker_core.limits import Limits
from waymaker_sim.naive_consumer import matches
from waymaker_sim.naive_names import good_subject

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
