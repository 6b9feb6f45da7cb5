"""Founding: when the group of the catalog begins, with which directories, and how it takes in members later.

One member founds the group: the one with the data of a single node, else the one with the smallest number. It waits until it
hears all others, that none of them has a group, and that none has data of its own. So no empty members can elect a leader
beside the one that has data. The founding record names the directory of each member. From then on only these directories
count. A member that comes with another one has lost everything: it is removed, added as a learner, and promoted.

That a group exists is durable: its record in the log, or a term that was kept. It is never founded twice in a directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple

from waymaker_core.cluster.peer_messages import Announcement
from waymaker_core.raft.members import VOTERS_MAX, Change, ChangeKind, Members


class Condition(IntEnum):
    """The relation of a member's directory to a group."""

    EMPTY = 0
    """There is nothing in it."""
    SINGLE = 1
    """It holds the data of a single node, and no group."""
    GROUPED = 2
    """It knows of a group."""
    UNREAD = 3
    """The member has not read it yet, or reads it anew. Nothing is said of it, for that would be taken for the truth."""


def directory_number(directory_id: str) -> int:
    """Return the number by which a directory is known among members, never 0."""
    return int.from_bytes(blake2b(bytes.fromhex(directory_id), digest_size=8).digest(), "big") or 1


class Heard(NamedTuple):
    """The last announcement of a member, and when it came."""

    at: int
    announcement: Announcement


class Founding:
    """The announcements of the other members, and what follows from them."""

    def __init__(self, node_id: int, nodes: tuple[int, ...], directory: int, fresh_ms: int) -> None:
        self._node_id = node_id
        self._nodes = tuple(sorted({*nodes, node_id}))
        self.directory = directory
        self._fresh_ms = fresh_ms
        self._heard: dict[int, Heard] = {}
        self._replaced: set[tuple[int, int]] = set()
        """Directories that were named in the group when another one was heard: a late announcement of theirs means nothing."""

    def announcement(self, condition: Condition) -> Announcement:
        """Return what this member says of itself."""
        return Announcement(self.directory, condition, self._nodes)

    def heard(self, now: int, sender: int, announcement: Announcement) -> None:
        """Note what a member says of itself."""
        if sender in self._nodes and sender != self._node_id:
            self._heard[sender] = Heard(now, announcement)

    def _lately(self, now: int) -> dict[int, Announcement]:
        return {node: each.announcement for node, each in self._heard.items() if now - each.at < self._fresh_ms}

    # ------------------------------------------------------------------ the first members

    def first_members(self, now: int, condition: Condition) -> Members | None:
        """Return the set with which this member is to found the group; None while it must not."""
        others = self._lately(now)
        if condition not in (Condition.EMPTY, Condition.SINGLE) or len(others) < len(self._nodes) - 1:
            return None
        if any(each.condition != Condition.EMPTY or each.nodes != self._nodes for each in others.values()):
            return None
        if condition == Condition.EMPTY and self._node_id != self._nodes[0]:
            return None
        order = (self._node_id, *(each for each in self._nodes if each != self._node_id))
        directories = {self._node_id: self.directory} | {node: each.directory for node, each in others.items()}
        return Members(
            tuple(sorted(order[:VOTERS_MAX])), tuple(sorted(order[VOTERS_MAX:])), tuple(sorted(directories.items()))
        )

    def obstacle(self, now: int, condition: Condition) -> str:
        """Return why this member can neither found a group nor join one before an operator acts, or an empty text."""
        for node, other in self._lately(now).items():
            if condition == Condition.SINGLE and other.condition == Condition.SINGLE:
                return f"this node and node {node} both have data of a single node: one has to begin with an empty directory"
            if condition == Condition.SINGLE and other.condition == Condition.GROUPED:
                return (
                    f"node {node} has a group, and this node has data of a single node: begin with an empty directory"
                )
            if condition != Condition.GROUPED and other.condition != Condition.GROUPED and other.nodes != self._nodes:
                return f"node {node} is set up with other members: {list(other.nodes)}, and this node with {list(self._nodes)}"
        return ""

    # ------------------------------------------------------------------ later members

    def changes(self, now: int, members: Members) -> Iterator[Change]:
        """Yield the changes of the group that bring its members' directories up to date, the most urgent first."""
        lately = self._lately(now)
        for node, announcement in lately.items():
            named = members.directory_of(node)
            if (
                members.has(node)
                and named
                and named != announcement.directory
                and (node, announcement.directory) not in self._replaced
            ):
                self._replaced.add((node, named))
                yield Change(ChangeKind.REMOVE, node)
        for node, announcement in lately.items():
            gone = (node, announcement.directory) in self._replaced or announcement.condition == Condition.SINGLE
            if not members.has(node) and not gone:
                yield Change(ChangeKind.ADD_LEARNER, node, announcement.directory)
        for node, announcement in lately.items():
            if node in members.learners and members.directory_of(node) in (0, announcement.directory):
                yield Change(ChangeKind.PROMOTE, node)
