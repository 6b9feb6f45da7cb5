"""Everything that a replica can want done. The mirror of `inputs`.

What the node is to do is an input of the node. `Promise`, `Enrol`, `Cut` and `Append` carry a number and are answered by `Kept`
or `Declined`, in order, `ReadRecords` by `RecordsRead`. `Lead`, `StepDown`, `Replicated`, `Confirmed` and `EndReading` are not
answered.
"""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.api.inputs import (
    Append,
    Confirmed,
    Cut,
    EndReading,
    Enrol,
    Lead,
    Promise,
    ReadRecords,
    Replicated,
    StepDown,
)
from waymaker_core.replication.messages import Message


@dataclass(slots=True, eq=False)
class Send:
    """A message for another node."""

    to: int
    message: Message


@dataclass(slots=True, eq=False)
class ProposeOpened:
    """A wish that the catalog records an epoch as opened. Repeated until `ConfChanged` says so, or names a newer claim."""

    epoch: int


@dataclass(slots=True, eq=False)
class GiveUp:
    """A claimant gives its claim up, for it cannot get the log that it chose. The node that has it should be claimed for."""

    to: int


@dataclass(slots=True, eq=False)
class NoteDoubt:
    """The claim up to which this replica may have forgotten something; 0: nothing is in doubt any more.

    It is durable with what is kept next, at the latest.
    """

    epoch: int


@dataclass(slots=True, eq=False)
class SnapshotNeeded:
    """A node lacks records that the journal has no more: it needs a snapshot of this replica's state."""

    to: int


NodeInput = Promise | Enrol | Cut | Append | Lead | StepDown | Replicated | Confirmed | ReadRecords | EndReading
Effect = Send | ProposeOpened | GiveUp | NoteDoubt | SnapshotNeeded | NodeInput
