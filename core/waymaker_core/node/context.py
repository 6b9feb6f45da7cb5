"""The state that the parts of a node share: clocks, the effects of this step, streams, timers, jobs, counters.

Plain data with the few verbs that every part needs. It must never decide anything.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.api.effects import Effect, Lane, Log
from waymaker_core.api.requests import Messages
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.catalog.overrides import Overrides
from waymaker_core.model.disk_ops import DiskOp
from waymaker_core.model.limits import Limits
from waymaker_core.model.types import CATALOG, Now, StreamId, Token
from waymaker_core.node.changes import Changes
from waymaker_core.node.config import NodeConfig
from waymaker_core.node.jobs import Done, Failed, Jobs
from waymaker_core.node.recent_records import RecentRecords
from waymaker_core.node.stats import NodeStats
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.node.stream_replica import Damage, StreamReplica
from waymaker_core.node.timers import Timer, Timers
from waymaker_core.stream.work import Work

REPLIES_REMEMBERED = 8_192
"""The number of latest replies with messages, and of latest readers that ended, whose stream's id is remembered.

Where their messages cannot be read, the damage is that stream's."""


DISK_FULL: Final = "the disk is full"


class NodeState:
    """One node's shared state."""

    def __init__(
        self,
        config: NodeConfig,
        catalog: Catalog,
        catalog_position: int,
        replicas: dict[StreamId, StreamReplica],
        changes: Changes,
    ) -> None:
        self.config = config
        self.limits: Limits = config.limits
        self.stats = NodeStats()
        self.no_room_because = DISK_FULL
        """The reason why the journal cannot grow, for the callers that are refused."""
        self.now = Now(0, 0)
        self.effects: list[Effect] = []
        self.catalog = catalog
        self.catalog_log = StreamLog(CATALOG, catalog_position)
        self.overrides = Overrides(catalog, config.members or (config.node_id,))
        """The streams that are claimed for another node than the ring names."""
        self.replicas = replicas
        """Every stream in the catalog, by its id."""
        self.changes = changes
        self.written_lsn = 0
        """LSN behind the last record that was written."""
        self.timers = Timers()
        self.jobs = Jobs()
        self.work = Work(self.limits.search_entries_max)
        self.dirty: dict[StreamId, StreamReplica] = {}
        """Streams that changed in this step: their timers and subscribers are looked at before it ends."""
        self.unknown: dict[StreamId, StreamLog] = {}
        """Logs of streams that the catalog does not know yet: they are kept until it does."""
        self.unknown_damage: dict[StreamId, Damage] = {}
        """Damage of such streams."""
        self.opening: dict[StreamId, StreamReplica] = {}
        """Streams to lead once their whole log is applied."""
        self.passing: list[StreamReplica] = []
        """Streams whose incarnation, or restore, ended with the last run of a process: to be ended by a decision."""
        self.catalog_leads = not config.member
        """False after a start, until the whole log of the catalog is applied; in a cluster also until it is to be led here."""
        self.catalog_opening = False
        """True while a member of a cluster is to lead the catalog, and its whole log is not applied yet."""
        self.found_end = catalog_position
        """The position of the last record of the catalog that the start found, committed or not."""
        self.recent: RecentRecords | None = None
        """In a cluster, the last records of all logs."""
        if config.member:
            self.recent = RecentRecords(self.limits.recent_log_bytes_max, self.limits.recent_bytes_max)
        self.conf_changes: dict[StreamId, None] = {}
        """Streams that were created or deleted, or whose claims changed, in this step."""
        self.emptied: dict[StreamId, None] = {}
        """Ids of ephemeral streams that begin anew after a start, with a notice."""
        self._ended: dict[Token, StreamId] = {}

    def remember_ended(self, token: Token, replica: StreamReplica) -> None:
        """Remember the stream of a reader that ended: deliveries in flight to it may still turn out unreadable."""
        remember(self._ended, token, replica.id)

    def has_ended(self, token: Token) -> bool:
        """Return True for one of the latest readers that ended."""
        return token in self._ended

    def ended(self, token: Token) -> StreamReplica | None:
        """Return the stream of one of the latest readers that ended, if it is still served."""
        stream_id = self._ended.get(token)
        return None if stream_id is None else self.replicas.get(stream_id)

    def find_log(self, stream_id: int) -> StreamLog | None:
        """Return a log by its id, also that of a stream which the catalog does not know yet; None where there is none."""
        if stream_id == CATALOG:
            return self.catalog_log
        replica = self.replicas.get(StreamId(stream_id))
        return self.unknown.get(StreamId(stream_id)) if replica is None else replica.log

    def note_conf(self, stream_id: StreamId) -> None:
        """Note that a stream was created or deleted, or that its claims changed."""
        if self.config.member:
            self.conf_changes[stream_id] = None

    def release_group_history(self, position: int) -> None:
        """Let go of terms and members that neither the last checkpoint needs, at a position, nor a record in memory."""
        first = None if self.recent is None else self.recent.first_of(CATALOG)
        self.catalog.group.release(position if first is None else min(position, first - 1))

    def start(self, lane: Lane, ops: list[DiskOp], done: Done, failed: Failed) -> None:
        """Emit a job."""
        self.jobs.start(self.effects, lane, ops, done, failed)

    def retry_disk_by(self, timer: Timer) -> None:
        """Set a timer to the end of the pause after which a full disk is tried again."""
        self.timers.arm(timer, 0, self.now.mono_ns + self.limits.disk_retry_ms * 1_000_000)

    def log(self, level: str, event: str, **fields: str | int | bool) -> None:
        """Write a log event for the operator."""
        self.effects.append(Log(level, event, fields))

    def mark_dirty(self, replica: StreamReplica) -> None:
        """Note that this stream changed: it is processed before the step ends."""
        self.dirty[replica.id] = replica

    def count_delivery(self, messages: Messages) -> None:
        """Count messages that are sent to a reader."""
        stats = self.stats
        stats.delivered_messages += messages.count
        stats.delivered_bytes += messages.byte_count
        for run in messages.runs:
            if run.deliver_count > 1:
                stats.redelivered_messages += len(run.lengths)


def remember(of: dict[Token, StreamId], token: Token, stream_id: StreamId) -> None:
    """Note an id, never the stream itself: it would stay in memory long after its deletion."""
    if len(of) >= REPLIES_REMEMBERED:
        del of[next(iter(of))]
    of[token] = stream_id
