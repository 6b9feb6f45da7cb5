"""Arguments and results of the client's calls: plain values, no class of the wire.

Configurations are the core's own. Everything else here is read-only for the caller; times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from waymaker.client.checked import Moment, Whole
from waymaker_core.model.config import (
    ConsumerConfig,
    DeliveryPolicy,
    OnDrop,
    Retention,
    SourceConfig,
    StreamConfig,
    SubjectTransform,
)

__all__ = [
    "AuthorityOverride",
    "BackupSummary",
    "ClusterStreams",
    "ConsumerConfig",
    "ConsumerInfo",
    "DeliveryPolicy",
    "Headers",
    "NodeStreams",
    "ObjectEntry",
    "ObjectInfo",
    "ObjectRevision",
    "OnDrop",
    "Outgoing",
    "RestoreReport",
    "RestoreResult",
    "Retention",
    "ServerInfo",
    "SourceConfig",
    "SourceStatus",
    "StreamConfig",
    "StreamInfo",
    "StreamUpdate",
    "SubjectTransform",
    "WatchEvent",
    "WatchKind",
]

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers of a message: a mapping, or pairs where a key occurs twice."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish, where `(subject, payload)` says too little."""

    subject: str
    payload: bytes = b""
    headers: Headers | None = None
    ts_ms: Moment = 0
    """0: the server's time."""
    expected_last_seq: Whole | None = None
    """Store only if this is the last sequence at the subject (0: none yet)."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The state of copying from one source: up to `last_sourced_seq` everything was copied or passed over.

    `pulled_total` counts messages read since the server leads the stream. `last_error`: the latest trouble; empty while all is
    well. `stream`: the stream that copies.
    """

    stream: str
    source_stream: str
    last_sourced_seq: int
    pulled_total: int
    last_error: str
    last_error_ms: int


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream's settings after defaults, and its figures. `bytes` counts payloads, headers and subjects."""

    config: StreamConfig
    last_seq: int
    msg_count: int
    bytes: int
    block_count: int
    first_block: int
    notice: str = ""
    """A note for the operator, such as that an ephemeral stream began anew, empty."""
    sources: tuple[SourceStatus, ...] = ()
    """Statuses of its sources, in the order of its settings."""
    ring_owner: int = 0
    """The node that consistent hashing names for it; 0 from a server that cannot say."""
    claimant: int = 0
    """The node that leads it instead, by an override; 0 where there is none."""
    fence_epoch: int = 0
    """The epoch of the claim that is the override."""
    pinned: bool = False
    """True while it stays where it is, until a failover moves it."""

    @property
    def name(self) -> str:
        return self.config.name


@dataclass(frozen=True, slots=True)
class StreamUpdate:
    """The outcome of an update, done or previewed: the settings after it and how many messages it prunes."""

    config: StreamConfig
    pruned: int


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer's settings after defaults, and its figures. Everything up to `ack_floor` is settled."""

    config: ConsumerConfig
    ack_floor: int
    last_delivered: int
    created_ms: int
    redelivered_dropped: int

    @property
    def name(self) -> str:
        return self.config.name


class WatchKind(Enum):
    """The kinds of changes that a watcher sees; values are the contract's, `RESUMED` is the client's own."""

    RESUMED = 0
    """The connection was lost and is back: what happened meanwhile was not seen."""
    STREAM_CREATED = 1
    STREAM_DELETED = 2
    STREAM_UPDATED = 3
    CONSUMER_CREATED = 4
    CONSUMER_DELETED = 5
    STREAM_AUTHORITY_CHANGED = 6


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change on the server. `lagged` counts the events that were missed before this one."""

    kind: WatchKind
    stream: str
    consumer: str
    ts_ms: int
    lagged: int
    claimant: int = 0
    """Of a change of authority: the node that leads the stream by an override from now on; 0 where none does."""
    fence_epoch: int = 0


@dataclass(frozen=True, slots=True)
class AuthorityOverride:
    """A claim that set a stream's primary apart from the node that consistent hashing names."""

    stream: str
    claimant: int
    fence_epoch: int


@dataclass(frozen=True, slots=True)
class NodeStreams:
    """The streams added up that one node leads. `status`: `ok`, or why there are no figures."""

    node_id: int
    status: str
    streams: int
    msg_count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ClusterStreams:
    """Rows of what each node of a cluster leads, and the greatest differences between them."""

    nodes: tuple[NodeStreams, ...]
    skew_count: int
    skew_bytes: int


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Facts about the server process."""

    version: str
    node_id: int
    directory_id: str
    sync: str
    uptime_ms: int
    streams: int
    consumers: int
    quarantined: tuple[str, ...]
    draining: bool
    members: dict[int, str] = field(default_factory=dict)
    """Of a cluster: where its members serve clients, as far as the server knows."""


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """Totals of an archive, as the server sent them behind it."""

    total_bytes: int
    messages: int
    last_seq: int
    stream_id: int = 0
    """Of the stream on its server; 0 from one that does not say. A stream made later under the name has another."""
    first_seq: int = 0
    """Of the first message; 0 without messages."""


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The stream that an archive became."""

    name: str
    messages: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """The streams that a backup became. `skipped`: names that existed."""

    restored: tuple[RestoreResult, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object without its payload. `revision` is the sequence of its metadata, `deduped`: chunks are stored by content."""

    name: str
    total_bytes: int
    chunk_size: int
    chunk_count: int
    sha256: str
    ts_ms: int
    headers: tuple[tuple[str, str], ...]
    revision: int
    deduped: bool


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """An object in a list."""

    name: str
    total_bytes: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class ObjectRevision:
    """One version of an object's metadata; of a tombstone (`deleted`) nothing else is known."""

    revision: int
    deleted: bool
    total_bytes: int
    chunk_count: int
    sha256: str
    ts_ms: int
