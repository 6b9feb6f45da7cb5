"""Makers: what makes a world, by the number of its members as a command or a saved case names it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from waymaker_sim.world.world import World

NODES_MAX = 7


class NoNumber(Exception):
    """An error: a text that is no number of members, and no range of such numbers."""


def nodes_of(text: str) -> range:
    """Read `N` or `A..B`. Raises `NoNumber`."""
    first, dots, last = text.partition("..")
    last = last if dots else first
    if not (first.isdecimal() and last.isdecimal()):
        raise NoNumber(f"{text!r} is no number of nodes; write it as 3, or as 3..5")
    if not 1 <= int(first) <= int(last) <= NODES_MAX:
        raise NoNumber(f"a cluster has 1 to {NODES_MAX} nodes, not {text!r}")
    return range(int(first), int(last) + 1)


def text_of(nodes: range) -> str:
    """Return a range of numbers as `nodes_of` reads it."""
    return str(nodes[0]) if len(nodes) == 1 else f"{nodes[0]}..{nodes[-1]}"


def maker(nodes: str) -> Callable[..., World]:
    """Return what makes a world: with one process, or with so many members of a cluster. Raises `NoNumber`."""
    if not nodes:
        return World
    # Worlds of clusters stand on a higher floor: they are loaded where one is wanted.
    made: Callable[..., World] = import_module("waymaker_sim.members.cluster_world").world_of(nodes_of(nodes))
    return made
