"""Requests of collections: what a client may ask of a hash store, a set store or a queue, as plain values.

Entries are named by their subjects (`collections.subjects`), which the edge makes from keys, fields and members. Columns have
one entry for each subject or value; one request is one decision and one record. `stream` is the whole name of the store's
stream; a missing one is `no_such_stream`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class PutEntries:
    """Store one message for each subject, in place of the one before. Value: the sequence of each (list of int).

    `sizes`: bytes of the values, `bodies` the stored bodies. No subject comes twice. With `only_absent` an entry that
    exists stays as it is, and its sequence is 0 in the value.
    """

    stream: str
    subjects: list[str]
    sizes: list[int]
    bodies: list[bytes]
    only_absent: bool = False


@dataclass(slots=True, eq=False)
class RemoveEntries:
    """Delete entries. Value: how many of them there were (int). No subject comes twice."""

    stream: str
    subjects: list[str]


@dataclass(slots=True, eq=False)
class GetEntries:
    """Read entries. Value `EntryMessages`, with a sequence in `wanted` for each subject: 0 where there is no entry."""

    stream: str
    subjects: list[str]


@dataclass(slots=True, eq=False)
class HasEntries:
    """Look whether entries exist. Value: a list of bool."""

    stream: str
    subjects: list[str]


@dataclass(slots=True, eq=False)
class ListEntries:
    """The subjects of the entries that begin with `head` and sort behind `after`. Value `Page` of str.

    `limit` 0: all, and RESOURCE_EXHAUSTED where that is over the page limits.
    """

    stream: str
    head: str
    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class ReadEntries:
    """The same entries with their values. Value `EntryMessages`, in the order of sequences."""

    stream: str
    head: str
    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class CountEntries:
    """Count the entries whose subjects begin with `head`. Value: int."""

    stream: str
    head: str


# ---------------------------------------------------------------- queues


@dataclass(slots=True, eq=False)
class PushValues:
    """Append values to a queue. Value: the sequence of the first (int); the others follow it."""

    stream: str
    sizes: list[int]
    bodies: list[bytes]


@dataclass(slots=True, eq=False)
class PopValues:
    """Take the first values, at most `limit` and an answer's bytes. Value `Messages`; none where the queue is empty.

    The take is committed before the answer leaves, so that no value is given twice.
    """

    stream: str
    limit: int


@dataclass(slots=True, eq=False)
class PeekValues:
    """Read values from a sequence on, at most `limit` (0: the default of scans), and leave them. Value `Messages`."""

    stream: str
    from_seq: int = 0
    limit: int = 0


@dataclass(slots=True, eq=False)
class CountValues:
    """Count the values that are not taken. Value: int."""

    stream: str


CollectionRequest = (
    PutEntries | RemoveEntries | GetEntries | HasEntries | ListEntries | ReadEntries | CountEntries
    | PushValues | PopValues | PeekValues | CountValues
)  # fmt: skip

COLLECTION_CHANGES = (PutEntries, RemoveEntries, PushValues, PopValues)
"""Those that change a store, and are decided in the order in which they came."""
COLLECTION_READS = (GetEntries, HasEntries, ListEntries, ReadEntries, CountEntries, PeekValues, CountValues)
"""Those that are answered from applied state."""
