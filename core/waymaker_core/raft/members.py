"""Members of the group: who votes, who only learns, and the changes that lead from one set to the next.

A change moves one node at a time, so that majorities of a set and of the next one always share a node (Raft thesis, 4.1).
This module knows sets alone; `changes` knows when a leader may propose one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import cbor2

VOTERS_MAX: Final = 5
"""More voters make commits slower and a majority no likelier to be up; other nodes learn."""
MEMBERS_MAX: Final = 256


class Members(NamedTuple):
    """A set of nodes by id, both parts in ascending order. A learner is sent the log and counts in no majority."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()

    def has(self, node: int) -> bool:
        """Return True for a voter or learner."""
        return node in self.voters or node in self.learners

    @property
    def majority(self) -> int:
        """Return how many voters decide."""
        return len(self.voters) // 2 + 1


class ChangeKind(IntEnum):
    """The steps of one node: it learns first, votes when it has caught up, and leaves from either part."""

    ADD_LEARNER = 1
    PROMOTE = 2
    DEMOTE = 3
    REMOVE = 4


class Change(NamedTuple):
    """A wish to move one node."""

    kind: ChangeKind
    node: int


def changed(members: Members, change: Change) -> Members | None:
    """Return the set after a change; None where the change does not apply to this set."""
    kind, node = change
    voters, learners = members
    if node < 1:
        return None
    if kind == ChangeKind.ADD_LEARNER:
        if members.has(node) or len(voters) + len(learners) >= MEMBERS_MAX:
            return None
        return Members(voters, _with(learners, node))
    if kind == ChangeKind.PROMOTE:
        if node not in learners or len(voters) >= VOTERS_MAX:
            return None
        return Members(_with(voters, node), _without(learners, node))
    if node in voters and len(voters) == 1:
        return None  # a group without voters would never decide again
    if kind == ChangeKind.DEMOTE:
        return Members(_without(voters, node), _with(learners, node)) if node in voters else None
    return Members(_without(voters, node), _without(learners, node)) if members.has(node) else None


def _with(nodes: tuple[int, ...], node: int) -> tuple[int, ...]:
    return tuple(sorted((*nodes, node)))


def _without(nodes: tuple[int, ...], node: int) -> tuple[int, ...]:
    return tuple(each for each in nodes if each != node)


def members_as_list(members: Members) -> list[list[int]]:
    """Return a set as plain values."""
    return [list(members.voters), list(members.learners)]


def members_from(value: object) -> Members:
    """Return the set that plain values describe; ValueError where they describe none."""
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("not a set of members")
    parts: list[tuple[int, ...]] = []
    for part in value:
        if not isinstance(part, list) or not all(type(node) is int and 0 < node < 1 << 64 for node in part):
            raise ValueError("a member that is no node")
        if any(part[at] >= part[at + 1] for at in range(len(part) - 1)):
            raise ValueError("members out of order")
        parts.append(tuple(part))
    members = Members(*parts)
    if len(members.voters) > VOTERS_MAX or len(members.voters) + len(members.learners) > MEMBERS_MAX:
        raise ValueError("too many members")
    if any(node in members.voters for node in members.learners):
        raise ValueError("a node that votes and learns")
    return members


def encode_members(members: Members) -> bytes:
    """Encode a set as the data of an entry."""
    return cbor2.dumps(members_as_list(members))


def decode_members(data: bytes) -> Members:
    """Decode the data of such an entry; ValueError where it is none."""
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORError, TypeError, OverflowError, MemoryError, RecursionError) as problem:
        raise ValueError(f"not CBOR: {problem}") from problem
    return members_from(value)
