"""Names for the integers that the system passes around, so that a type checker keeps them apart.

Ids and tokens are plain integers at run time; nothing here costs anything on a hot path.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

StreamId = NewType("StreamId", int)
"""Id of one incarnation of a stream; 0 is the catalog's own log. Never reused: a name created anew is another stream."""

ConsumerId = NewType("ConsumerId", int)
"""Id of one incarnation of a consumer (drawn from the same counter as stream ids). Never reused."""

Token = NewType("Token", int)
"""The shell's name for one outstanding call or subscription; the core only returns it."""

JobId = NewType("JobId", int)
"""The core's name for one disk job; the answer carries it back."""


class Now(NamedTuple):
    """The two clocks, read once a step: durations run on the first, stamps on the second."""

    mono_ns: int
    wall_ms: int


class Principal(NamedTuple):
    """The caller. `account` is the namespace of names (only the empty one exists today); `name` is for messages and logs."""

    account: str = ""
    name: str = ""


ANYONE = Principal()
"""The principal of a listener without authentication."""

CATALOG = StreamId(0)
"""The log that holds stream creations, deletions and settings."""
