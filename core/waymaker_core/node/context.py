"""The state that the parts of a node share: clocks, the effects of this step, streams, timers, jobs, counters.

Plain data with the few verbs that every part needs. It must never decide anything.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.api.effects import Effect, Lane, Log, Reply
from waymaker_core.api.requests import Messages
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.model.disk_ops import DiskOp
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import Now, StreamId, Token
from waymaker_core.node.changes import Changes
from waymaker_core.node.config import NodeConfig
from waymaker_core.node.jobs import Done, Failed, Jobs
from waymaker_core.node.stats import NodeStats
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.node.timers import Timer, Timers
from waymaker_core.stream.work import Work

REPLIES_REMEMBERED = 8_192
"""How many of the latest replies with messages, and of the latest readers that ended, have their stream's id remembered.

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
        self.catalog_position = catalog_position
        """The last record of the catalog that is applied."""
        self.replicas = replicas
        """Every stream in the catalog, by its id."""
        self.changes = changes
        self.committed_end = 0
        """LSN behind the last record that was applied."""
        self.timers = Timers()
        self.jobs = Jobs()
        self.work = Work(self.limits.search_entries_max)
        self.dirty: dict[StreamId, StreamReplica] = {}
        """Streams that changed in this step: their timers and subscribers are looked at before it ends."""
        self._read_for: dict[Token, StreamId] = {}
        self._ended: dict[Token, StreamId] = {}

    def reply(self, token: Token, answer: Answer | Refusal) -> None:
        """Send the one answer to a call."""
        if isinstance(answer, Refusal):
            self.stats.calls_refused += 1
        self.effects.append(Reply(token, answer))

    def reply_messages(self, token: Token, replica: StreamReplica, messages: Messages) -> None:
        """Send an answer whose bodies are still to be read, and remember their stream."""
        _remember(self._read_for, token, replica.id)
        self.effects.append(Reply(token, Answer("ok", "", messages)))

    def read_for(self, token: Token) -> StreamReplica | None:
        """Return the stream whose messages a reply carried, if it is remembered and still served; forget it."""
        stream_id = self._read_for.pop(token, None)
        return None if stream_id is None else self.replicas.get(stream_id)

    def remember_ended(self, token: Token, replica: StreamReplica) -> None:
        """Remember the stream of a reader that ended: deliveries in flight to it may still turn out unreadable."""
        _remember(self._ended, token, replica.id)

    def has_ended(self, token: Token) -> bool:
        """Return True for one of the latest readers that ended."""
        return token in self._ended

    def ended(self, token: Token) -> StreamReplica | None:
        """Return the stream of one of the latest readers that ended, if it is still served."""
        stream_id = self._ended.get(token)
        return None if stream_id is None else self.replicas.get(stream_id)

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


def _remember(of: dict[Token, StreamId], token: Token, stream_id: StreamId) -> None:
    """Note an id, never the stream itself: it would stay in memory long after its deletion."""
    if len(of) >= REPLIES_REMEMBERED:
        del of[next(iter(of))]
    of[token] = stream_id
