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
    """A set of nodes by id, both parts in ascending order. A learner is sent the log and counts in no majority.

    `directories`: pairs of a node and the number of the directory that counts, in ascending order. A node that has lost its
    directory has forgotten its votes, and what it acknowledged: it is removed, and added with another one. A node without a
    pair counts with any directory.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    directories: tuple[tuple[int, int], ...] = ()

    def has(self, node: int) -> bool:
        """Return True for a voter or learner."""
        return node in self.voters or node in self.learners

    def directory_of(self, node: int) -> int:
        """Return the directory with which a node counts; 0 for any."""
        return next((directory for member, directory in self.directories if member == node), 0)

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
    """A wish to move one node. `directory`: the one with which a new learner counts; 0 for any."""

    kind: ChangeKind
    node: int
    directory: int = 0


def changed(members: Members, change: Change) -> Members | None:
    """Return the set after a change; None where the change does not apply to this set."""
    kind, node, directory = change
    voters, learners, directories = members
    if node < 1:
        return None
    if kind == ChangeKind.ADD_LEARNER:
        if members.has(node) or len(voters) + len(learners) >= MEMBERS_MAX:
            return None
        named = tuple(sorted((*directories, (node, directory)))) if directory else directories
        return Members(voters, _with(learners, node), named)
    if kind == ChangeKind.PROMOTE:
        if node not in learners or len(voters) >= VOTERS_MAX:
            return None
        return Members(_with(voters, node), _without(learners, node), directories)
    if node in voters and len(voters) == 1:
        return None  # a group without voters would never decide again
    if kind == ChangeKind.DEMOTE:
        return Members(_without(voters, node), _with(learners, node), directories) if node in voters else None
    left = tuple(each for each in directories if each[0] != node)
    return Members(_without(voters, node), _without(learners, node), left) if members.has(node) else None


def _with(nodes: tuple[int, ...], node: int) -> tuple[int, ...]:
    return tuple(sorted((*nodes, node)))


def _without(nodes: tuple[int, ...], node: int) -> tuple[int, ...]:
    return tuple(each for each in nodes if each != node)


def members_as_list(members: Members) -> list[object]:
    """Return a set as plain values; without directories where it names none."""
    plain: list[object] = [list(members.voters), list(members.learners)]
    return [*plain, [list(each) for each in members.directories]] if members.directories else plain


def members_from(value: object) -> Members:
    """Return the set that plain values describe; ValueError where they describe none."""
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise ValueError("not a set of members")
    parts: list[tuple[int, ...]] = []
    for part in value[:2]:
        if not isinstance(part, list) or not all(type(node) is int and 0 < node < 1 << 64 for node in part):
            raise ValueError("a member that is no node")
        if any(part[at] >= part[at + 1] for at in range(len(part) - 1)):
            raise ValueError("members out of order")
        parts.append(tuple(part))
    members = Members(parts[0], parts[1], _directories(value[2]) if len(value) == 3 else ())
    if len(members.voters) > VOTERS_MAX or len(members.voters) + len(members.learners) > MEMBERS_MAX:
        raise ValueError("too many members")
    if any(node in members.voters for node in members.learners):
        raise ValueError("a node that votes and learns")
    if not all(members.has(node) for node, _ in members.directories):
        raise ValueError("a directory of a node that is no member")
    return members


def _directories(value: object) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for each in value if isinstance(value, list) else [None]:
        match each:
            case [int(node), int(directory)] if (
                type(node) is type(directory) is int and 0 < directory < 1 << 64 and (not found or found[-1][0] < node)
            ):
                found.append((node, directory))
            case _:
                raise ValueError("not a directory of a member")
    if not found:
        raise ValueError("no directories where there are some")
    return tuple(found)


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
