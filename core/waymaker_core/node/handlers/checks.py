"""Checks that several handlers make before they decide."""

from __future__ import annotations

from waymaker_core.model.result_codes import invalid, resource_exhausted


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
