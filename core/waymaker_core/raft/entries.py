"""Entries of the group's log, and the facts of a member that survive its restart.

Plain values. Their place on disk is the executor's; nothing here knows a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from waymaker_core.raft.members import Members

ENTRY_OVERHEAD: Final = 32
"""Bytes that an entry counts beside its data, so that bounds in bytes bound empty entries too."""


NO_MEMBERS: Final = Members()


class EntryKind(IntEnum):
    """The meaning of an entry's data."""

    DATA = 0
    """The user's own bytes."""
    NOOP = 1
    """The first entry of each term: with it, entries of earlier terms are committed (Raft paper, 5.4.2 and 8)."""
    MEMBERS = 2
    """A set of members, in force from the moment it is appended (Raft thesis, 4.1)."""


class Entry(NamedTuple):
    """One entry: the term in which a leader made it, and its data."""

    term: int
    kind: int
    data: bytes = b""


class HardState(NamedTuple):
    """The newest term that a member has seen, and the node that has its vote in it (0: none). Never taken back."""

    term: int = 0
    vote: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """The place of a snapshot in the log: all entries up to `index`, of which the last has `term`.

    `members` is the set in force at `index`. The state itself is the user's, and never passes through here.
    """

    index: int = 0
    term: int = 0
    members: Members = NO_MEMBERS


class Durable(NamedTuple):
    """The facts that a member begins with: what its disk holds, in order. `doubt`: see `MemberState`.

    `entries` follow the snapshot without a gap. The members that a group begins with are named by a snapshot of term 0 that all
    of them begin with, or by an entry of term 0 that one of them has. A node that knows none campaigns for nothing.
    """

    hard: HardState = HardState()
    snapshot: SnapshotMeta = SnapshotMeta()
    entries: tuple[Entry, ...] = ()
    doubt: int = 0


def size_of(entry: Entry) -> int:
    """Return the bytes that an entry counts."""
    return len(entry.data) + ENTRY_OVERHEAD
