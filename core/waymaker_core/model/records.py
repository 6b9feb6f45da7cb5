"""Records: what a log holds. A stream's committed state is exactly what its committed records make it.

A record holds decisions (this sequence, this time, these drops), never a question to be answered again on replay, so that
applying one needs neither a clock nor a block that is not resident. Applying is idempotent where two decisions could
overlap: a drop of a deleted message changes nothing.

Each class has a `KIND`, which is stored. Encoding is `storage.record_codec`'s. Kinds are never reused; a changed layout is
a new record version.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from waymaker_core.model.config import ConsumerConfig, StreamConfig


def seq_array(values: list[int] | None = None) -> array[int]:
    """Return a column of sequences, sizes or positions: unsigned 64-bit."""
    return array("Q", values or [])


class ProducerSpan(NamedTuple):
    """Neighbours in a record that one producer numbered: `length` messages from entry `start` on, from `first_number` on."""

    producer_id: int
    epoch: int
    first_number: int
    start: int
    length: int


@dataclass(slots=True, eq=False)
class PublishRecord:
    """Messages appended by one commit, with what they push out.

    Columns, one entry a message: `times_ms` ('q'), `sizes` ('I': payload + headers + subject, what statistics count),
    `lengths` ('I': stored body bytes), `subjects`. Sequences run from `first_seq` unless `seqs` ('Q', an import with gaps)
    gives each. `truncate_to`: every message below is deleted (0: none). `drop_seqs`/`drop_sizes`: single deleted messages.
    `reserved_to` (sync = interval): sequences up to here are never assigned again after an unclean stop.
    `clock_ms`: the stream's server time from here on, below which no later one is (0: unchanged). Less than before it is
    a correction (see `stream.clock`). `corrects` says so while the record is not joined with others; it is not stored.
    `spans`: the messages that producers numbered, in the record's order; the others have no number.
    The stored bodies travel beside the record, in the frame's body.
    """

    KIND: ClassVar[int] = 1

    first_seq: int
    times_ms: array[int]
    sizes: array[int]
    lengths: array[int]
    subjects: list[str]
    seqs: array[int] | None = None
    truncate_to: int = 0
    drop_seqs: array[int] = field(default_factory=seq_array)
    drop_sizes: array[int] = field(default_factory=seq_array)
    reserved_to: int = 0
    clock_ms: int = 0
    spans: list[ProducerSpan] = field(default_factory=list)
    corrects: bool = False


@dataclass(slots=True, eq=False)
class PruneRecord:
    """Retention: every message below `truncate_to` is deleted (0: none), and each of `drop_seqs`.

    `clock_ms`: server time is taken back to it (0: unchanged), see `stream.clock`.
    """

    KIND: ClassVar[int] = 2

    truncate_to: int = 0
    drop_seqs: array[int] = field(default_factory=seq_array)
    drop_sizes: array[int] = field(default_factory=seq_array)
    clock_ms: int = 0


@dataclass(slots=True, eq=False)
class ConsumerCreated:
    """The creation of a consumer. `start_seq` is the decided first sequence that it looks at; its floor is one less."""

    KIND: ClassVar[int] = 3

    consumer_id: int
    config: ConsumerConfig
    start_seq: int
    created_ms: int


@dataclass(slots=True, eq=False)
class ConsumerDeleted:
    """The deletion of a consumer."""

    KIND: ClassVar[int] = 4

    consumer_id: int


@dataclass(slots=True, eq=False)
class AckRecord:
    """Messages that a consumer acked or (`term`) gave up without having processed them, with the originals that a work
    queue deletes.
    """

    KIND: ClassVar[int] = 5

    consumer_id: int
    term: bool
    seqs: array[int]
    drop_seqs: array[int] = field(default_factory=seq_array)
    drop_sizes: array[int] = field(default_factory=seq_array)


@dataclass(slots=True, eq=False)
class DropRecord:
    """Messages that a consumer drops after their last delivery, and their dead letters, in one.

    `copies` is None without a dead-letter subject, else one message for each of `seqs`, its bodies in the frame's body.
    `drop_seqs` are a work queue's originals.
    """

    KIND: ClassVar[int] = 6

    consumer_id: int
    seqs: array[int]
    copies: PublishRecord | None
    drop_seqs: array[int] = field(default_factory=seq_array)
    drop_sizes: array[int] = field(default_factory=seq_array)


@dataclass(slots=True, eq=False)
class Listed:
    """Messages that are pending alike: `seqs` ascend and were delivered `deliver_count` times.

    A count of 0 has two meanings. With a deadline: they were sent, and no reader reported that they reached a program.
    Without one: the consumer's queue group skipped them because another group had the claim, and will come back.
    `deadline_ms`: the wall-clock time at which they are due (0: not known). `rest_ms`: how far off that was when it was
    recorded; no restart makes it longer, whatever became of the wall clock. `holding`: on a work queue, the group has
    the claim to them until then.
    """

    deliver_count: int
    seqs: array[int]
    deadline_ms: int = 0
    rest_ms: int = 0
    holding: bool = True


@dataclass(slots=True, eq=False)
class DeliveredRecord:
    """Pending deliveries: how often each was delivered, and when it is due.

    Logged lazily after deliveries, never synced for its own sake, so that a restart knows what was pending. Logged and
    synced before its answer for a nak or an in-progress, with what those changed.

    `scanned_to`: every sequence up to here was looked at, and what is neither listed here nor in an earlier record is
    done or does not match. `last_delivered` is the greatest sequence delivered, `dropped` the messages dropped so far
    (neither ever decreases; 0 says nothing). `uncertain_to`: up to here deliveries may be pending that no record lists,
    since the server crashed.
    """

    KIND: ClassVar[int] = 7

    consumer_id: int
    scanned_to: int
    last_delivered: int
    dropped: int
    uncertain_to: int
    listed: list[Listed]


@dataclass(slots=True, eq=False)
class SettingsRecord:
    """New settings of the stream. What they prune are `PruneRecord`s before it, of the same decision."""

    KIND: ClassVar[int] = 8

    config: StreamConfig


@dataclass(slots=True, eq=False)
class ImportEnded:
    """The end of a restore: the stream is complete, and served from now on, at least at `last_seq`."""

    KIND: ClassVar[int] = 9

    last_seq: int


@dataclass(slots=True, eq=False)
class EpochRecord:
    """The first record that a leader writes in an epoch. So the table of epochs is a function of the log.

    In the catalog's log, which a consensus group keeps, the epochs are the terms of the group.
    """

    KIND: ClassVar[int] = 10

    epoch: int


@dataclass(slots=True, eq=False)
class LayerRecord:
    """A decision of a service: messages that it appends, single messages deleted with them, and facts of its layers.

    `messages` is None where it appends none; their bodies are the frame's body. `facts`: the kind of a layer and bytes that
    only this layer reads, at most one of each kind.
    """

    KIND: ClassVar[int] = 11

    messages: PublishRecord | None
    drop_seqs: array[int] = field(default_factory=seq_array)
    drop_sizes: array[int] = field(default_factory=seq_array)
    facts: list[tuple[int, bytes]] = field(default_factory=list)


# ---------------------------------------------------------------- catalog records (stream id 0)


@dataclass(slots=True, eq=False)
class StreamCreated:
    """The creation of a stream; `importing` keeps it from being served before `ImportEnded`.

    `replaces`: id of a stream of the same name that is deleted with it, or 0. Both are one record, so that none is kept alone.
    """

    KIND: ClassVar[int] = 32

    stream_id: int
    config: StreamConfig
    created_ms: int
    importing: bool = False
    last_seq: int = 0
    replaces: int = 0


@dataclass(slots=True, eq=False)
class StreamDeleted:
    """The deletion of a stream, with its log and messages."""

    KIND: ClassVar[int] = 33

    stream_id: int


@dataclass(slots=True, eq=False)
class StreamUpdated:
    """Settings for the next incarnation of an ephemeral stream, whose own log a restart ends.

    Directories of before `SettingsRecord` have it for every stream, and its settings were the stream's.
    """

    KIND: ClassVar[int] = 34

    stream_id: int
    config: StreamConfig


@dataclass(slots=True, eq=False)
class StreamOpened:
    """An ephemeral stream's import is complete: its next incarnation is created anew and not deleted.

    Directories of before `ImportEnded` have it for every stream, and it was what `ImportEnded` is.
    """

    KIND: ClassVar[int] = 35

    stream_id: int
    last_seq: int


# ---------------------------------------------------------------- catalog records that only members of a cluster write


@dataclass(slots=True, eq=False)
class MembersRecord:
    """The nodes that hold the catalog, from this record on: `data` as the consensus group encodes them."""

    KIND: ClassVar[int] = 36

    data: bytes


@dataclass(slots=True, eq=False)
class StreamsClaimed:
    """Claims: of each stream, a node is to lead it, and others hold it with it. The record's own position is their epoch.

    Three columns of one length; streams are in ascending order.
    """

    KIND: ClassVar[int] = 37

    stream_ids: list[int]
    primaries: list[int]
    replicas: list[list[int]]


@dataclass(slots=True, eq=False)
class AuthorityOpened:
    """The opening of claims: their primaries may commit. Each counts only while no later claim of its stream exists.

    Two columns of one length; streams are in ascending order.
    """

    KIND: ClassVar[int] = 38

    stream_ids: list[int]
    epochs: list[int]


@dataclass(slots=True, eq=False)
class StreamPinned:
    """A wish: a stream is to stay where it is, or may be moved again. A node outside of a cluster writes it, too."""

    KIND: ClassVar[int] = 48

    stream_id: int
    pinned: bool


@dataclass(slots=True, eq=False)
class ReturnWished:
    """A wish: a stream is to return to the node that the ring named when it was decided, once that node has caught up."""

    KIND: ClassVar[int] = 49

    stream_id: int
    node_id: int


StreamRecord = (
    PublishRecord
    | PruneRecord
    | ConsumerCreated
    | ConsumerDeleted
    | AckRecord
    | DropRecord
    | DeliveredRecord
    | SettingsRecord
    | ImportEnded
    | LayerRecord
    | EpochRecord
)
CatalogRecord = StreamCreated | StreamDeleted | StreamUpdated | StreamOpened
ClusterRecord = MembersRecord | StreamsClaimed | AuthorityOpened | StreamPinned | ReturnWished
Record = StreamRecord | CatalogRecord | ClusterRecord


def appended(record: Record) -> PublishRecord | None:
    """Return the messages that a record appends, whatever its kind; their bodies are its frame's body."""
    if isinstance(record, PublishRecord):
        return record
    if isinstance(record, DropRecord):
        return record.copies
    return record.messages if isinstance(record, LayerRecord) else None
