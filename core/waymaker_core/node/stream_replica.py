"""A stream on this node: its messages, its consumers, its readers, and its waiting calls."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from waymaker_core.api.inputs import Call
from waymaker_core.catalog.catalog import CatalogEntry
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.consumer.delivery.unreported import Unreported
from waymaker_core.layers.layer_set import LayerSet
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.records import StreamRecord
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.model.types import ConsumerId, StreamId, Token
from waymaker_core.node.memory_files import MemoryFiles
from waymaker_core.node.source_run import SourceRun
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.stream.stream import Stream


class Subscription:
    """One reader of one consumer: its credit, its batch size, and messages that are not known to have arrived.

    `window` (0: none): how many messages may be unanswered at a time. `unanswered` holds those that were sent: by sequence,
    the number of the delivery and its place among all that were sent. `answered` counts the others. `at_gate`: how many
    messages were taken for it and wait for a confirmation.
    """

    __slots__ = (
        "token", "replica", "consumer_id", "batch", "stop_when_empty", "messages", "bytes", "unreported", "window",
        "unanswered", "answered", "sent", "at_gate",
    )  # fmt: skip

    def __init__(
        self,
        token: Token,
        replica: StreamReplica,
        consumer_id: ConsumerId,
        batch: int,
        *,
        stop_when_empty: bool,
        window: int = 0,
    ) -> None:
        self.token = token
        self.replica = replica
        self.consumer_id = consumer_id
        self.batch = batch
        self.stop_when_empty = stop_when_empty
        self.messages = 0
        self.bytes = 0
        self.unreported = Unreported()
        self.window = window
        self.unanswered: dict[int, tuple[int, int]] = {}
        self.answered = 0
        self.sent = 0
        self.at_gate = 0


class LastNak(NamedTuple):
    """A nak that ended the last attempt of some messages, and whose answer waits until they are dropped."""

    token: Token
    consumer_id: ConsumerId
    seqs: list[int]


class Damage:
    """The reason why a stream is not served: a file, an offset, and what is wrong there.

    `at_start`: recovery found it, so that the stream's state is unknown; else a read failed later.
    """

    __slots__ = ("path", "offset", "detail", "at_start")

    def __init__(self, path: str, offset: int, detail: str, *, at_start: bool) -> None:
        self.path = path
        self.offset = offset
        self.detail = detail
        self.at_start = at_start

    def refusal(self, name: str) -> Refusal:
        """Return the answer to every call to the stream but its deletion."""
        return Refusal(
            Status.DATA_LOSS,
            f"stream {name!r} is quarantined: {self.path} is damaged at offset {self.offset} ({self.detail}); "
            "restore it from a backup, or delete the stream",
            Outcome.NOT_APPLIED,
        )


NOT_LEADING: Final = Refusal(
    Status.UNAVAILABLE, "no node leads the stream at the moment; try again later", Outcome.NOT_APPLIED
)


class Leading:
    """State of a replica that exists only while it leads its stream. It is made when it begins to, and thrown away at the end.

    Work that is continued later (a call that waits for an index, a dead letter whose body is read) holds this object. It stops
    where the object is `over`: a replica that leads again never takes up what it had begun before.
    """

    __slots__ = (
        "replica", "over", "queue", "subscribers", "live_readers", "dropping", "last_naks", "letters_kept_back", "judged_ns",
        "sources",
    )  # fmt: skip

    def __init__(self, replica: StreamReplica) -> None:
        self.replica = replica
        self.over = False
        """True once it leads no longer: it stepped down, or its stream was deleted."""
        self.queue: deque[Call] = deque()
        """Changes that wait in order: behind one that needs an index, or for a commit."""
        self.subscribers: dict[ConsumerId, deque[Subscription]] = {}
        self.live_readers: dict[Token, object] = {}
        """Readers that follow a service's messages, by their token (`readers/live_readers`)."""
        self.dropping = 0
        """Drops in progress: the bodies of their messages are being read, or an index is."""
        self.last_naks: deque[LastNak] = deque()
        """Naks whose answers wait for drops, oldest first."""
        self.letters_kept_back = False
        """True if it was logged that a dead letter would be lost, so that its message is kept."""
        self.judged_ns = 0
        """Time at which its age and interest were last judged."""
        self.sources: list[SourceRun] = []
        """Copying from its sources, once it has begun."""

    @property
    def serves(self) -> bool:
        """Return True while it leads, and its stream is not in quarantine."""
        return not self.over and self.replica.damage is None


class StreamReplica:
    """One incarnation of a stream on this node. Plain data; the parts of the node act on it."""

    __slots__ = ("entry", "id", "stream", "consumers", "layers", "memory", "log", "damage", "leading")

    def __init__(self, entry: CatalogEntry, stream: Stream, consumers: Consumers, layers: LayerSet) -> None:
        self.entry = entry
        self.id: StreamId = entry.stream_id
        self.stream = stream
        self.consumers = consumers
        self.layers = layers
        self.memory = MemoryFiles(entry.stream_id, entry.config.block_size)
        self.log = StreamLog(entry.stream_id, stream.position, self.memory if entry.config.ephemeral else None)
        self.log.reserved_synced = stream.reserved_to
        self.damage: Damage | None = None
        self.leading = Leading(self)

    def apply(self, position: int, record: StreamRecord, chunk: Chunk | None) -> None:
        """Apply a committed record to the messages, the consumers and the layers, in this order."""
        self.stream.apply(position, record, chunk)
        self.consumers.apply(record)
        self.layers.apply(record)

    @property
    def leads(self) -> bool:
        """Return True while this node leads the stream: only then anything is decided about it."""
        return not self.leading.over

    @property
    def importing(self) -> bool:
        """Return True while it is being restored, and serves no client."""
        return self.stream.importing

    @property
    def name(self) -> str:
        """Return its name, for messages and events."""
        return self.entry.config.name
