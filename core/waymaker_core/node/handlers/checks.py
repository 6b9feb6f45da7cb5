"""Checks that several handlers make before they decide."""

from __future__ import annotations

from waymaker_core.model.result_codes import invalid, resource_exhausted
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import Commits
from waymaker_core.node.parking import RetryLater


def page_limit(limit: int, entries_max: int) -> int:
    """Return how many entries a list may hold: what was asked for, or all that fit."""
    if not 0 <= limit <= entries_max:
        raise invalid(f"a page of {limit} entries; at most {entries_max} are given at once")
    return limit or entries_max


def require_whole(limit: int, next_after: str) -> None:
    """Refuse a list that was asked for whole and is too long; it is never cut in silence."""
    if not limit and next_after:
        raise resource_exhausted(
            "the list is too long for one answer; ask for pages (wmkr-limit, and wmkr-after for the next)"
        )


def require_free_space(state: NodeState, commits: Commits, bound: int, *, ordinary: bool = False) -> None:
    """Refuse or put off a record of at most `bound` bytes for which the journal has no room.

    `ordinary`: the reserve is not for it.
    """
    if not commits.has_free_space_for(bound, ordinary=ordinary):
        if state.stats.disk_full:
            what = "nothing was stored" if ordinary else "the reserve is used up too, and nothing was changed"
            raise resource_exhausted(f"{state.no_room_because}; {what}")
        raise RetryLater
