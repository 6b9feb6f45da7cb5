"""Founding: when the group of the catalog begins, with which directories, and how it takes in members later.

One member founds the group: the one with the data of a single node, else the one with the smallest number. It waits until it
hears all others, that none of them has a group, and that none has data of its own. So no empty members can elect a leader
beside the one that has data. The founding record names the directory of each member. From then on only these directories
count; a member that comes with another one has lost everything, and is taken in anew: removed, added as a learner, promoted.

That a group exists is durable: its record in the log, or a term that was kept. It is never founded twice in a directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple

from waymaker_core.cluster.peer_messages import Hello
from waymaker_core.raft.members import VOTERS_MAX, Change, ChangeKind, Members


class Standing(IntEnum):
    """The relation of a member's directory to a group."""

    EMPTY = 0
    """There is nothing in it."""
    SINGLE = 1
    """It holds the data of a single node, and no group."""
    GROUPED = 2
    """It knows of a group."""


def directory_number(directory_id: str) -> int:
    """Return the number by which a directory is known among members, never 0."""
    return int.from_bytes(blake2b(bytes.fromhex(directory_id), digest_size=8).digest(), "big") or 1


class Heard(NamedTuple):
    """The last hello of a member, and when it came."""

    at: int
    hello: Hello


class Founding:
    """The hellos of the other members, and what follows from them."""

    def __init__(self, node_id: int, nodes: tuple[int, ...], directory: int, fresh_ms: int) -> None:
        self._node_id = node_id
        self._nodes = tuple(sorted({*nodes, node_id}))
        self.directory = directory
        self._fresh_ms = fresh_ms
        self._heard: dict[int, Heard] = {}
        self._replaced: set[tuple[int, int]] = set()
        """Directories that were named in the group when another one was heard: a late hello of theirs means nothing."""

    def hello(self, standing: Standing) -> Hello:
        """Return what this member says of itself."""
        return Hello(self.directory, standing, self._nodes)

    def heard(self, now: int, sender: int, hello: Hello) -> None:
        """Note what a member says of itself."""
        if sender in self._nodes and sender != self._node_id:
            self._heard[sender] = Heard(now, hello)

    def _lately(self, now: int) -> dict[int, Hello]:
        return {node: each.hello for node, each in self._heard.items() if now - each.at < self._fresh_ms}

    # ------------------------------------------------------------------ the first members

    def first_members(self, now: int, standing: Standing) -> Members | None:
        """Return the set with which this member is to found the group; None while it must not."""
        others = self._lately(now)
        if standing == Standing.GROUPED or len(others) < len(self._nodes) - 1:
            return None
        if any(each.standing != Standing.EMPTY or each.nodes != self._nodes for each in others.values()):
            return None
        if standing == Standing.EMPTY and self._node_id != self._nodes[0]:
            return None
        order = (self._node_id, *(each for each in self._nodes if each != self._node_id))
        directories = {self._node_id: self.directory} | {node: each.directory for node, each in others.items()}
        return Members(
            tuple(sorted(order[:VOTERS_MAX])), tuple(sorted(order[VOTERS_MAX:])), tuple(sorted(directories.items()))
        )

    def obstacle(self, now: int, standing: Standing) -> str:
        """Return why this member can neither found a group nor join one before an operator acts, or an empty text."""
        for node, other in self._lately(now).items():
            if standing == Standing.SINGLE and other.standing == Standing.SINGLE:
                return f"this node and node {node} both have data of a single node: one has to begin with an empty directory"
            if standing == Standing.SINGLE and other.standing == Standing.GROUPED:
                return (
                    f"node {node} has a group, and this node has data of a single node: begin with an empty directory"
                )
            if standing != Standing.GROUPED and other.standing != Standing.GROUPED and other.nodes != self._nodes:
                return f"node {node} is set up with other members: {list(other.nodes)}, and this node with {list(self._nodes)}"
        return ""

    # ------------------------------------------------------------------ later members

    def changes(self, now: int, members: Members) -> Iterator[Change]:
        """Yield the changes of the group that bring its members' directories up to date, the most urgent first."""
        lately = self._lately(now)
        for node, hello in lately.items():
            named = members.directory_of(node)
            if (
                members.has(node)
                and named
                and named != hello.directory
                and (node, hello.directory) not in self._replaced
            ):
                self._replaced.add((node, named))
                yield Change(ChangeKind.REMOVE, node)
        for node, hello in lately.items():
            gone = (node, hello.directory) in self._replaced or hello.standing == Standing.SINGLE
            if not members.has(node) and not gone:
                yield Change(ChangeKind.ADD_LEARNER, node, hello.directory)
        for node, hello in lately.items():
            if node in members.learners and members.directory_of(node) in (0, hello.directory):
                yield Change(ChangeKind.PROMOTE, node)
