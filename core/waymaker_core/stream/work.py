"""The work that one step of a node may spend on searching indexes, so that a cold search does not delay all others.

A search that finds its share used up raises `NeedBlocks` for blocks that are resident: the asker then asks again in a later
step, and finds what it has looked at already (hits, blocks known to match nothing) where it left it.
"""

from __future__ import annotations

from waymaker_core.model.limits import U64_MAX


class Work:
    """A share of index entries to look at. `left` may fall below zero by the last block that was looked at."""

    __slots__ = ("left", "used")

    def __init__(self, share: int = U64_MAX) -> None:
        self.left = share
        self.used = 0
        """Since the share was given."""

    def renew(self, share: int) -> None:
        """Begin a step with a share of its own."""
        self.left = share
        self.used = 0

    def spend(self, entries: int) -> None:
        """Account for entries that were looked at."""
        self.left -= entries
        self.used += entries
