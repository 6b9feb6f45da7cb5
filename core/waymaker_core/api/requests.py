"""Requests and their answers: the contract's calls as plain objects.

A transport builds these from its own messages and turns the `Answer.value` back. Every docstring names the value of an `ok`
answer and the codes beside it; a `Refusal` is possible for each. The hot ones (`Publish`, `Ack`, `Fetch`) are batches.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from waymaker_core.api.authority_requests import AuthorityRequest, StreamAuthority
from waymaker_core.api.cluster_requests import ClusterRequest
from waymaker_core.api.collection_requests import CollectionRequest
from waymaker_core.api.kv_requests import KvRequest
from waymaker_core.api.object_requests import ObjectRequest
from waymaker_core.api.sketch_requests import SketchRequest
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.types import ConsumerId, Token

# ---------------------------------------------------------------- values


@dataclass(slots=True, eq=False)
class Run:
    """Messages whose stored bodies lie in one chunk, in the order of the stream, delivered as often.

    `lengths` (array 'I') and `times_ms` (array 'q') have one entry a message; `deliver_count` holds for all of them (0
    outside deliveries). Where sequences are consecutive and bodies lie one after the other, `first_seq` is the first
    sequence and `start` the first body's offset inside the chunk. Else `seqs` and `starts` (arrays 'Q') say it for each.
    """

    chunk: Chunk
    start: int
    lengths: array[int]
    first_seq: int
    times_ms: array[int]
    deliver_count: int
    seqs: array[int] | None = None
    starts: array[int] | None = None

    def sequences(self) -> Sequence[int]:
        """Return the sequence of each message, ascending."""
        return range(self.first_seq, self.first_seq + len(self.lengths)) if self.seqs is None else self.seqs

    def bodies_in(self, data: bytes) -> bytes:
        """Cut the bodies out of the chunk's bytes, one after the other."""
        if self.starts is None:
            return data[self.start : self.start + sum(self.lengths)]
        return b"".join([data[at : at + size] for at, size in zip(self.starts, self.lengths, strict=True)])

    def head(self, count: int) -> Run:
        """Return a run of the first messages."""
        return Run(
            self.chunk, self.start, self.lengths[:count], self.first_seq, self.times_ms[:count], self.deliver_count,
            None if self.seqs is None else self.seqs[:count], None if self.starts is None else self.starts[:count],
        )  # fmt: skip

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Yield where stretches of consecutive sequences begin and end, as places in the columns."""
        seqs = self.sequences()
        if self.seqs is None:
            yield 0, len(seqs)
            return
        begin = 0
        for place in range(1, len(seqs) + 1):
            if place == len(seqs) or seqs[place] != seqs[place - 1] + 1:
                yield begin, place
                begin = place

    def __repr__(self) -> str:
        return f"Run(first_seq={self.first_seq}, n={len(self.lengths)}, count={self.deliver_count}, {self.chunk!r})"


@dataclass(slots=True, eq=False)
class Messages:
    """Messages by reference, in the order to be sent; an executor reads the chunks and joins the bodies.

    `taken_by`: the consumer they were dispatched for, if they are deliveries, and `incarnation` the word that names it.
    `dispatch_id` is the number of that delivery, `taken_ns` the monotonic time at which it was taken, and `layout` that of its
    stream then. `ack_wait_ms`: how long each may stay unanswered. `fetched`: the call that they answer, of which the
    executor has to say whether they reached the caller (`inputs.Report`) or not (`inputs.Cancel`).
    `of_keys`: of a read of keys, for each key the sequence of its value, 0 for none.
    `next_seq`: where a read continues that was cut by its limit or by bytes; 0 where nothing was left out.
    """

    runs: list[Run]
    count: int
    byte_count: int
    taken_by: ConsumerId | None = None
    incarnation: str = ""
    dispatch_id: int = 0
    taken_ns: int = 0
    layout: int = 0
    ack_wait_ms: int = 0
    fetched: Token | None = None
    next_seq: int = 0
    of_keys: list[int] | None = None


@dataclass(slots=True, eq=False)
class EntryMessages(Messages):
    """Messages of entries. `wanted`: the sequence of each entry that was asked for, 0 where it does not exist.

    `next_after`: the subject behind which a list goes on; empty at its end.
    """

    wanted: Sequence[int] = field(default_factory=list)
    next_after: str = ""


@dataclass(slots=True, eq=False)
class TakenMessages(Messages):
    """Values of a queue that a committed take removed. Where they cannot be read, the take has happened all the same."""


ENTRY_OVERHEAD_BYTES = 4
"""Bytes that an entry of a list takes on the wire besides its text."""


Entry = TypeVar("Entry")


@dataclass(slots=True, eq=False)
class Page(Generic[Entry]):
    """One page of a sorted list; `next_after` is the cursor of the next page, or empty at the end."""

    entries: list[Entry]
    next_after: str = ""


@dataclass(slots=True, eq=False)
class StreamStats:
    """A stream's figures. Bytes count payload, headers and subject of live messages."""

    first_seq: int
    last_seq: int
    msg_count: int
    bytes: int
    block_count: int
    first_block: int


@dataclass(slots=True, eq=False)
class SourceStatus:
    """The state of copying from one source: up to `last_sourced_seq` everything was copied or passed over.

    `pulled_total`: messages read since this node leads the stream. `last_error`: the latest trouble, or empty. `stream`: the
    stream that copies. `lag`: sequences of the source behind the last sourced one, as far as was seen.
    """

    stream: str
    source_stream: str
    last_sourced_seq: int
    pulled_total: int = 0
    last_error: str = ""
    last_error_ms: int = 0
    filter_subject: str = ""
    lag: int = 0

    @property
    def troubled(self) -> bool:
        """Return True if there is a latest trouble."""
        return bool(self.last_error)


@dataclass(slots=True, eq=False)
class StreamInfo:
    """Value of `GetStreamInfo`. `notice` says what an operator should know (a new, empty incarnation), or is empty."""

    config: StreamConfig
    stats: StreamStats
    stream_id: int
    created_ms: int
    notice: str
    sources: list[SourceStatus] = field(default_factory=list)
    authority: StreamAuthority = field(default_factory=StreamAuthority)


@dataclass(slots=True, eq=False)
class ConsumerInfo:
    """A consumer's figures; members of one queue group share all but the configuration's name."""

    config: ConsumerConfig
    consumer_id: int
    ack_floor: int
    last_delivered: int
    created_ms: int
    redelivered_dropped: int
    pending: int
    lag: int


@dataclass(slots=True, eq=False)
class Published:
    """Value of `Publish`: the accepted messages have consecutive sequences from `first_seq`, in order.

    `seqs` (None: as just said) gives the sequence of each accepted message where some were stored before.
    `failures` maps the index of each refused message to (result code, text, sequence): the sequence is the subject's actual
    last one for `wrong_revision`, else 0.
    """

    first_seq: int
    count: int
    failures: dict[int, tuple[str, str, int]] | None
    seqs: array[int] | None = None


# ---------------------------------------------------------------- messages


@dataclass(slots=True, eq=False)
class Producer:
    """The sender of a publish, so that a message that is sent again is stored once.

    `numbers` has one entry a message, ascending, from 1; the same number always means the same message. `resent`: some of
    the messages may have been sent before. A stream refuses an `epoch` lower than the newest that it stored of this id.
    """

    id: int
    epoch: int
    numbers: Sequence[int]
    resent: bool = False


@dataclass(slots=True, eq=False)
class Publish:
    """Append messages to one stream, in order. Value `Published`; codes `no_such_stream`.

    Columns with one entry a message: `subjects`, `sizes` (payload + header keys and values as the client sent them),
    `lengths` (bytes of its stored body inside `body`, as made by `message.encode_body`), `times_ms` (None: all server time;
    0: server time), `expected` (None: no checks; -1: no check, else the expected last sequence at the subject).
    `body` holds the stored bodies one after the other. `service` marks the writer of a reserved stream.
    With a `producer`, a message whose number is stored is answered with the sequence that it has.
    Failures of single messages (`subject_rejected`, `oversize`, `wrong_revision`; with a producer `outcome_unknown` and
    `producer_fenced` too) leave the others standing.
    """

    stream: str
    subjects: list[str]
    sizes: list[int]
    lengths: list[int]
    body: bytes
    times_ms: list[int] | None = None
    expected: list[int] | None = None
    service: bool = False
    producer: Producer | None = None


@dataclass(slots=True, eq=False)
class Fetch:
    """Deliver up to `batch_size` messages now (0: the default). Value `Messages`; `no_such_stream`, `no_such_consumer`."""

    stream: str
    consumer: str
    batch_size: int = 0


class AckKind(Enum):
    """A client's answer to deliveries; the value is stored."""

    ACK = 1
    TERM = 2
    NAK = 3
    IN_PROGRESS = 4


@dataclass(slots=True, eq=False)
class Ack:
    """Ack, term, nak or extend deliveries of one consumer. No value; `no_such_stream`, `no_such_consumer`.

    `incarnation`: that of the consumer which delivered them, as `Messages` named it. Where the name means another one by
    now, the answer is `ok` and nothing happens. Empty: whatever the name means.
    """

    stream: str
    consumer: str
    kind: AckKind
    seqs: list[int]
    delay_ms: int = 0
    incarnation: str = ""


@dataclass(slots=True, eq=False)
class Subscribe:
    """Deliver as long as there is credit (`inputs.Credit`). No reply on success: `Deliver` effects, then one `End`.

    `inputs.Report` says how far they reached the program; what is never reported was no attempt. `window` (0: none): at
    most so many are unanswered at a time, and of those reported only the oldest `batch_size` count as attempts.
    Fails with a `Refusal` NOT_FOUND whose code is `no_such_stream` or `no_such_consumer`.
    """

    stream: str
    consumer: str
    batch_size: int = 0
    stop_when_empty: bool = False
    window: int = 0


@dataclass(slots=True, eq=False)
class WatchStreams:
    """Send every creation, deletion and update on this node as `Event` effects, while there is credit."""


@dataclass(slots=True, eq=False)
class ReadLatest:
    """The newest live message at a subject. Value `Messages` with one or none; `no_such_stream`."""

    stream: str
    subject: str


@dataclass(slots=True, eq=False)
class ListSubjects:
    """Subjects with live messages that start with `prefix`, sorted. Value `Page` of str; `no_such_stream`.

    `limit` 0: all, and RESOURCE_EXHAUSTED where that is over the page limits.
    """

    stream: str
    prefix: str = ""
    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class ScanSubject:
    """Messages at one subject in order from `from_seq`; `limit` 0: the default. Value `Messages`; `no_such_stream`."""

    stream: str
    subject: str
    from_seq: int = 0
    limit: int = 0


@dataclass(slots=True, eq=False)
class ReadRange:
    """All live messages in order from `from_seq`, up to `limit` and the page bytes: for backup. Value `Messages`."""

    stream: str
    from_seq: int
    limit: int


# ---------------------------------------------------------------- streams


@dataclass(slots=True, eq=False)
class CreateStream:
    """No value; `already_exists`, `invalid_config`."""

    config: StreamConfig


@dataclass(slots=True, eq=False)
class DeleteStream:
    """No value; `no_such_stream`."""

    name: str


@dataclass(slots=True, eq=False)
class GetStreamInfo:
    """Value `StreamInfo`; `no_such_stream`."""

    name: str


@dataclass(slots=True, eq=False)
class ListStreams:
    """Value `Page` of names, sorted. `limit` 0: all, and RESOURCE_EXHAUSTED where that is over the page limits."""

    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class GetStreamSources:
    """Value `Page` of `SourceStatus`, by the name of the stream that copies, in the order of its settings.

    A page ends between two streams. `limit` 0: all, and RESOURCE_EXHAUSTED where that is over the page limits.
    """

    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class UpdateStream:
    """Change what may change; None leaves a setting alone, 0 clears a bound. With `dry_run` nothing changes.

    Value (`StreamConfig` after, messages pruned or, dry, that would be); `no_such_stream`, `invalid_config`,
    `immutable_field`.
    """

    name: str
    max_age_ms: int | None = None
    max_msgs: int | None = None
    max_bytes: int | None = None
    max_msg_bytes: int | None = None
    strict_limits: bool | None = None
    dry_run: bool = False


# ---------------------------------------------------------------- consumers


@dataclass(slots=True, eq=False)
class CreateConsumer:
    """No value; `no_such_stream`, `already_exists`, `invalid_config`."""

    stream: str
    config: ConsumerConfig


@dataclass(slots=True, eq=False)
class DeleteConsumer:
    """No value; `no_such_stream`, `no_such_consumer`."""

    stream: str
    consumer: str


@dataclass(slots=True, eq=False)
class ListConsumers:
    """Value `Page` of `ConsumerInfo`, sorted by name; `no_such_stream`. `limit` as in `ListStreams`."""

    stream: str
    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class GetConsumerInfo:
    """Value `ConsumerInfo`; `no_such_stream`, `no_such_consumer`."""

    stream: str
    consumer: str


# ---------------------------------------------------------------- archives


@dataclass(slots=True, eq=False)
class ExportStream:
    """Read what an archive holds besides the messages, at one moment. Value: the archive's head (`storage.archive.Head`).

    The messages follow by `ReadRange` from the head's first sequence to its last; `no_such_stream`.
    """

    name: str


@dataclass(slots=True, eq=False)
class ImportBegin:
    """Reserve a name for a stream being restored; it is not served before `ImportEnd`. Value: its stream id (int).

    `head` is a `storage.archive.Head`. `already_exists`, `invalid_config`.
    """

    name: str
    head: object


@dataclass(slots=True, eq=False)
class ImportBatch:
    """Messages with the sequences and times they had. Value None. The stream id is `ImportBegin`'s."""

    stream_id: int
    seqs: list[int]
    times_ms: list[int]
    subjects: list[str]
    sizes: list[int]
    lengths: list[int]
    body: bytes


@dataclass(slots=True, eq=False)
class ImportEnd:
    """Open a restored stream (`commit`), or discard it. Value None."""

    stream_id: int
    commit: bool


Request = (
    Publish | Fetch | Ack | Subscribe | WatchStreams | ReadLatest | ListSubjects | ScanSubject | ReadRange
    | CreateStream | DeleteStream | GetStreamInfo | ListStreams | GetStreamSources | UpdateStream
    | CreateConsumer | DeleteConsumer | ListConsumers | GetConsumerInfo
    | ExportStream | ImportBegin | ImportBatch | ImportEnd | ObjectRequest
    | CollectionRequest | SketchRequest | KvRequest | ClusterRequest | AuthorityRequest
)  # fmt: skip
