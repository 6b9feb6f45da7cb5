"""Everything that can happen to a member. The mirror of `effects`: each docstring names the effect that answers it."""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.raft.members import Change
from waymaker_core.raft.messages import Message


@dataclass(slots=True, eq=False)
class Received:
    """A message arrived. With a `SnapshotRequest`, its payload is complete and verified.

    `doubtful`: its sender may have forgotten entries that it acknowledged.
    """

    message: Message
    doubtful: bool = False


@dataclass(slots=True, eq=False)
class Saved:
    """All writes up to a number are durable. Answers `Write` and `Install`; writes become durable in order."""

    number: int


@dataclass(slots=True, eq=False)
class Propose:
    """A wish to append data. Answered by `Accepted` or `Refused`; committed when `Apply` brings that index with that term."""

    token: int
    data: bytes


@dataclass(slots=True, eq=False)
class ProposeChange:
    """A wish to change the members. Answered like `Propose`."""

    token: int
    change: Change


@dataclass(slots=True, eq=False)
class Read:
    """A question that must see all that is committed now. Answered by `Readable` or `Refused`."""

    token: int


@dataclass(slots=True, eq=False)
class Transfer:
    """A wish that another voter leads; 0: the one that has most of the log. Answered by `Refused`, or by `RoleChanged`."""

    token: int
    to: int = 0


@dataclass(slots=True, eq=False)
class Applied:
    """Entries up to an index are part of the user's state. Answers `Apply`."""

    index: int


@dataclass(slots=True, eq=False)
class SnapshotTaken:
    """A snapshot of the user's state at an applied index is durable. Answers `SnapshotWanted`, or comes alone."""

    index: int


@dataclass(slots=True, eq=False)
class SnapshotLost:
    """The snapshot for a node did not arrive."""

    node: int


@dataclass(slots=True, eq=False)
class DiskStalled:
    """Writes take too long: a leader hands over, and the node neither votes nor campaigns."""


@dataclass(slots=True, eq=False)
class DiskRecovered:
    """Writes are in time again."""


@dataclass(slots=True, eq=False)
class WriteFailed:
    """A write or sync failed for good. The member is silent from now on, for it cannot know what its disk holds."""


Input = (
    Received | Saved | Propose | ProposeChange | Read | Transfer | Applied | SnapshotTaken | SnapshotLost
    | DiskStalled | DiskRecovered | WriteFailed
)  # fmt: skip
