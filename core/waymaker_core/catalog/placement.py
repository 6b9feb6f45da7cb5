"""Placement: the nodes that hold a new stream, by consistent hashing.

Each node stands at many points of a ring (Karger et al. 1997), and a stream belongs to the nodes that follow its own point,
the first of them as primary. So streams spread evenly, and a node that joins or leaves changes only the places that it
takes or had. The points are part of no format: a claim names its nodes, and holds whatever the ring says later.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from hashlib import blake2b
from typing import Final

POINTS_A_NODE: Final = 64
"""Points of one node on the ring: with so many its share is within about an eighth of the mean."""


def hashed_order(key: str, nodes: tuple[int, ...]) -> list[int]:
    """Return all nodes in the order in which a key meets them on the ring."""
    points = _points(nodes)
    start = bisect_right(points, (_point(key), 0))
    return list(dict.fromkeys(node for _, node in points[start:] + points[:start]))


def place(key: str, nodes: tuple[int, ...], count: int, first: int = 0) -> list[int]:
    """Return up to `count` nodes for a key, the primary first; `first`: a node that is to be the primary, or 0."""
    order = hashed_order(key, nodes)
    if first:
        order = [first, *(node for node in order if node != first)]
    return order[:count]


@cache
def _points(nodes: tuple[int, ...]) -> list[tuple[int, int]]:
    return sorted((_point(f"{node}/{number}"), node) for node in nodes for number in range(POINTS_A_NODE))


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
