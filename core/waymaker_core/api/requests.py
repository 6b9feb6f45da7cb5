"""What a client can ask: the contract's calls as plain objects, and what each is answered with.

A transport builds these from its own messages and turns the `Answer.value` back. Every docstring names the value of an `ok`
answer and the codes beside it; a `Refusal` is possible for each. The hot ones (`Publish`, `Ack`, `Fetch`) are batches.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from enum import Enum

from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.types import ConsumerId, Token

# ---------------------------------------------------------------- values


class Run:
    """Messages whose stored bodies lie in one chunk, in the order of the stream, delivered as often.

    `lengths` (array 'I') and `times_ms` (array 'q') have one entry a message; `deliver_count` holds for all of them (0
    outside deliveries). Where sequences are consecutive and bodies lie one after the other, `first_seq` is the first
    sequence and `start` the first body's offset inside the chunk. Else `seqs` and `starts` (arrays 'Q') say it for each.
    """

    __slots__ = ("chunk", "start", "lengths", "first_seq", "times_ms", "deliver_count", "seqs", "starts")

    def __init__(
        self, chunk: Chunk, start: int, lengths: array[int], first_seq: int, times_ms: array[int], deliver_count: int,
        seqs: array[int] | None = None, starts: array[int] | None = None,
    ) -> None:  # fmt: skip
        self.chunk = chunk
        self.start = start
        self.lengths = lengths
        self.first_seq = first_seq
        self.times_ms = times_ms
        self.deliver_count = deliver_count
        self.seqs = seqs
        self.starts = starts

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


class Messages:
    """Messages by reference, in the order to be sent; an executor reads the chunks and joins the bodies.

    `taken_by`: the consumer they were taken for, if they are deliveries, and `incarnation` the word that names it;
    `dispatch_id` is the number of that delivery, `ack_wait_ms` how long each may stay unanswered, and `fetched` the call that
    they answer, of which the executor has to say whether they reached the caller (`inputs.Report`) or not (`inputs.Cancel`).
    `next_seq`: where a read goes on that was cut by its limit or by bytes; 0 where nothing was left out.
    """

    __slots__ = (
        "runs", "count", "byte_count", "taken_by", "incarnation", "dispatch_id", "ack_wait_ms", "fetched", "next_seq",
    )  # fmt: skip

    def __init__(self, runs: list[Run], count: int, byte_count: int) -> None:
        self.runs = runs
        self.count = count
        self.byte_count = byte_count
        self.taken_by: ConsumerId | None = None
        self.incarnation = ""
        self.dispatch_id = 0
        self.ack_wait_ms = 0
        self.fetched: Token | None = None
        self.next_seq = 0


ENTRY_OVERHEAD_BYTES = 4
"""What an entry of a list takes on the wire besides its text."""


class Page:
    """One page of a sorted list; `next_after` is the cursor of the next page, or empty at the end."""

    __slots__ = ("entries", "next_after")

    def __init__(self, entries: list[object], next_after: str = "") -> None:
        self.entries = entries
        self.next_after = next_after


class StreamStats:
    """A stream's figures. Bytes count payload, headers and subject of live messages."""

    __slots__ = ("first_seq", "last_seq", "msg_count", "bytes", "block_count", "first_block")

    def __init__(
        self, first_seq: int, last_seq: int, msg_count: int, bytes_: int, block_count: int, first_block: int
    ) -> None:
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.msg_count = msg_count
        self.bytes = bytes_
        self.block_count = block_count
        self.first_block = first_block


class StreamInfo:
    """Value of `GetStreamInfo`. `notice` says what an operator should know (a new, empty life), or is empty."""

    __slots__ = ("config", "stats", "stream_id", "created_ms", "notice")

    def __init__(self, config: StreamConfig, stats: StreamStats, stream_id: int, created_ms: int, notice: str) -> None:
        self.config = config
        self.stats = stats
        self.stream_id = stream_id
        self.created_ms = created_ms
        self.notice = notice


class ConsumerInfo:
    """A consumer's figures; members of one queue group share all but the configuration's name."""

    __slots__ = (
        "config", "consumer_id", "ack_floor", "last_delivered", "created_ms", "redelivered_dropped", "pending", "lag",
    )  # fmt: skip

    def __init__(
        self, config: ConsumerConfig, consumer_id: int, ack_floor: int, last_delivered: int, created_ms: int,
        redelivered_dropped: int, pending: int, lag: int,
    ) -> None:  # fmt: skip
        self.config = config
        self.consumer_id = consumer_id
        self.ack_floor = ack_floor
        self.last_delivered = last_delivered
        self.created_ms = created_ms
        self.redelivered_dropped = redelivered_dropped
        self.pending = pending
        self.lag = lag


class Published:
    """Value of `Publish`: the accepted messages have consecutive sequences from `first_seq`, in order.

    `failures` maps the index of each refused message to (result code, text, sequence): the sequence is the subject's actual
    last one for `wrong_revision`, else 0.
    """

    __slots__ = ("first_seq", "count", "failures")

    def __init__(self, first_seq: int, count: int, failures: dict[int, tuple[str, str, int]] | None) -> None:
        self.first_seq = first_seq
        self.count = count
        self.failures = failures


# ---------------------------------------------------------------- messages


class Publish:
    """Append messages to one stream, in order. Value `Published`; codes `no_such_stream`.

    Columns with one entry a message: `subjects`, `sizes` (payload + header keys and values as the client sent them),
    `lengths` (bytes of its stored body inside `body`, as made by `message.encode_body`), `times_ms` (None: all server time;
    0: server time), `expected` (None: no checks; -1: no check, else the expected last sequence at the subject).
    `body` holds the stored bodies one after the other. `service` marks the writer of a reserved stream.
    Failures of single messages (`subject_rejected`, `oversize`, `wrong_revision`) leave the others standing.
    """

    __slots__ = ("stream", "subjects", "sizes", "lengths", "body", "times_ms", "expected", "service")

    def __init__(
        self, stream: str, subjects: list[str], sizes: list[int], lengths: list[int], body: bytes,
        times_ms: list[int] | None = None, expected: list[int] | None = None, service: bool = False,
    ) -> None:  # fmt: skip
        self.stream = stream
        self.subjects = subjects
        self.sizes = sizes
        self.lengths = lengths
        self.body = body
        self.times_ms = times_ms
        self.expected = expected
        self.service = service


class Fetch:
    """Deliver up to `batch_size` messages now (0: the default). Value `Messages`; `no_such_stream`, `no_such_consumer`."""

    __slots__ = ("stream", "consumer", "batch_size")

    def __init__(self, stream: str, consumer: str, batch_size: int = 0) -> None:
        self.stream = stream
        self.consumer = consumer
        self.batch_size = batch_size


class AckKind(Enum):
    """What a client says of deliveries; the value is stored."""

    ACK = 1
    TERM = 2
    NAK = 3
    IN_PROGRESS = 4


class Ack:
    """Ack, term, nak or extend deliveries of one consumer. No value; `no_such_stream`, `no_such_consumer`.

    `incarnation`: that of the consumer which delivered them, as `Messages` told it. Where the name means another one by
    now, the answer is `ok` and nothing happens. Empty: whatever the name means.
    """

    __slots__ = ("stream", "consumer", "kind", "seqs", "delay_ms", "incarnation")

    def __init__(
        self, stream: str, consumer: str, kind: AckKind, seqs: list[int], delay_ms: int = 0, incarnation: str = ""
    ) -> None:
        self.stream = stream
        self.consumer = consumer
        self.kind = kind
        self.seqs = seqs
        self.delay_ms = delay_ms
        self.incarnation = incarnation


class Subscribe:
    """Deliver as long as there is credit (`inputs.Credit`). No reply on success: `Deliver` effects, then one `End`.

    `inputs.Report` tells how far they reached the program; what is never reported was no attempt. `window` (0: none): at
    most so many are unanswered at a time, and of those reported only the oldest `batch_size` count as attempts.
    Fails with a `Refusal` NOT_FOUND whose code is `no_such_stream` or `no_such_consumer`.
    """

    __slots__ = ("stream", "consumer", "batch_size", "stop_when_empty", "window")

    def __init__(
        self, stream: str, consumer: str, batch_size: int = 0, stop_when_empty: bool = False, window: int = 0
    ) -> None:
        self.stream = stream
        self.consumer = consumer
        self.batch_size = batch_size
        self.stop_when_empty = stop_when_empty
        self.window = window


class WatchStreams:
    """Tell of every creation, deletion and update on this node as `Event` effects, while there is credit."""

    __slots__ = ()


class ReadLatest:
    """The newest live message at a subject. Value `Messages` with one or none; `no_such_stream`."""

    __slots__ = ("stream", "subject")

    def __init__(self, stream: str, subject: str) -> None:
        self.stream = stream
        self.subject = subject


class ListSubjects:
    """Subjects with live messages that start with `prefix`, sorted. Value `Page` of str; `no_such_stream`.

    `limit` 0: all, and RESOURCE_EXHAUSTED where that is over the page limits.
    """

    __slots__ = ("stream", "prefix", "after", "limit")

    def __init__(self, stream: str, prefix: str = "", after: str = "", limit: int = 0) -> None:
        self.stream = stream
        self.prefix = prefix
        self.after = after
        self.limit = limit


class ScanSubject:
    """Messages at one subject in order from `from_seq`; `limit` 0: the default. Value `Messages`; `no_such_stream`."""

    __slots__ = ("stream", "subject", "from_seq", "limit")

    def __init__(self, stream: str, subject: str, from_seq: int = 0, limit: int = 0) -> None:
        self.stream = stream
        self.subject = subject
        self.from_seq = from_seq
        self.limit = limit


class ReadRange:
    """All live messages in order from `from_seq`, up to `limit` and the page bytes: for backup. Value `Messages`."""

    __slots__ = ("stream", "from_seq", "limit")

    def __init__(self, stream: str, from_seq: int, limit: int) -> None:
        self.stream = stream
        self.from_seq = from_seq
        self.limit = limit


# ---------------------------------------------------------------- streams


class CreateStream:
    """No value; `already_exists`, `invalid_config`."""

    __slots__ = ("config",)

    def __init__(self, config: StreamConfig) -> None:
        self.config = config


class DeleteStream:
    """No value; `no_such_stream`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class GetStreamInfo:
    """Value `StreamInfo`; `no_such_stream`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class ListStreams:
    """Value `Page` of names, sorted. `limit` 0: all, and RESOURCE_EXHAUSTED where that is over the page limits."""

    __slots__ = ("after", "limit")

    def __init__(self, after: str = "", limit: int = 0) -> None:
        self.after = after
        self.limit = limit


class UpdateStream:
    """Change what may change; None leaves a setting alone, 0 clears a bound. With `dry_run` nothing changes.

    Value (`StreamConfig` after, messages pruned or, dry, that would be); `no_such_stream`, `invalid_config`,
    `immutable_field`.
    """

    __slots__ = ("name", "max_age_ms", "max_msgs", "max_bytes", "max_msg_bytes", "strict_limits", "dry_run")

    def __init__(
        self, name: str, max_age_ms: int | None = None, max_msgs: int | None = None, max_bytes: int | None = None,
        max_msg_bytes: int | None = None, strict_limits: bool | None = None, dry_run: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.max_age_ms = max_age_ms
        self.max_msgs = max_msgs
        self.max_bytes = max_bytes
        self.max_msg_bytes = max_msg_bytes
        self.strict_limits = strict_limits
        self.dry_run = dry_run


# ---------------------------------------------------------------- consumers


class CreateConsumer:
    """No value; `no_such_stream`, `already_exists`, `invalid_config`."""

    __slots__ = ("stream", "config")

    def __init__(self, stream: str, config: ConsumerConfig) -> None:
        self.stream = stream
        self.config = config


class DeleteConsumer:
    """No value; `no_such_stream`, `no_such_consumer`."""

    __slots__ = ("stream", "consumer")

    def __init__(self, stream: str, consumer: str) -> None:
        self.stream = stream
        self.consumer = consumer


class ListConsumers:
    """Value `Page` of `ConsumerInfo`, sorted by name; `no_such_stream`. `limit` as in `ListStreams`."""

    __slots__ = ("stream", "after", "limit")

    def __init__(self, stream: str, after: str = "", limit: int = 0) -> None:
        self.stream = stream
        self.after = after
        self.limit = limit


class GetConsumerInfo:
    """Value `ConsumerInfo`; `no_such_stream`, `no_such_consumer`."""

    __slots__ = ("stream", "consumer")

    def __init__(self, stream: str, consumer: str) -> None:
        self.stream = stream
        self.consumer = consumer


# ---------------------------------------------------------------- archives


class ExportStream:
    """What an archive holds besides the messages, at one moment. Value: the archive's head (`store.archive.Head`).

    The messages follow by `ReadRange` from the head's first sequence to its last; `no_such_stream`.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class ImportBegin:
    """Reserve a name for a stream being restored; it serves nobody before `ImportEnd`. Value: its stream id (int).

    `head` is a `store.archive.Head`. `already_exists`, `invalid_config`.
    """

    __slots__ = ("name", "head")

    def __init__(self, name: str, head: object) -> None:
        self.name = name
        self.head = head


class ImportBatch:
    """Messages with the sequences and times they had. Value None. The stream id is `ImportBegin`'s."""

    __slots__ = ("stream_id", "seqs", "times_ms", "subjects", "sizes", "lengths", "body")

    def __init__(
        self, stream_id: int, seqs: list[int], times_ms: list[int], subjects: list[str], sizes: list[int],
        lengths: list[int], body: bytes,
    ) -> None:  # fmt: skip
        self.stream_id = stream_id
        self.seqs = seqs
        self.times_ms = times_ms
        self.subjects = subjects
        self.sizes = sizes
        self.lengths = lengths
        self.body = body


class ImportEnd:
    """Open a restored stream (`commit`), or give it up. Value None."""

    __slots__ = ("stream_id", "commit")

    def __init__(self, stream_id: int, commit: bool) -> None:
        self.stream_id = stream_id
        self.commit = commit


Request = (
    Publish | Fetch | Ack | Subscribe | WatchStreams | ReadLatest | ListSubjects | ScanSubject | ReadRange
    | CreateStream | DeleteStream | GetStreamInfo | ListStreams | UpdateStream
    | CreateConsumer | DeleteConsumer | ListConsumers | GetConsumerInfo
    | ExportStream | ImportBegin | ImportBatch | ImportEnd
)  # fmt: skip
