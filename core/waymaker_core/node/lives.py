"""Lives of streams on this node: found by name, begun and ended by the catalogue's records, changed by their own.

The one place where a committed record changes anything. A record whose stream is gone means nothing.
"""

from __future__ import annotations

from waymaker_core.catalogue import Life
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.effects import EventKind
from waymaker_core.node.calls import Calls
from waymaker_core.node.commits import Gathered
from waymaker_core.node.garbage import Garbage
from waymaker_core.node.hosted import Hosted
from waymaker_core.node.indexes import Indexes
from waymaker_core.node.state import NodeState
from waymaker_core.node.subscriptions import Subscriptions
from waymaker_core.node.timers import OF_STREAMS
from waymaker_core.node.watch import Watchers
from waymaker_core.outcomes import NO_SUCH_STREAM, CodeError, RefusedError
from waymaker_core.records import (
    AckRecord,
    ConsumerCreated,
    ConsumerDeleted,
    DropRecord,
    PruneRecord,
    PublishRecord,
    StreamCreated,
    StreamDeleted,
    StreamOpened,
    StreamUpdated,
)
from waymaker_core.store.archive import Head
from waymaker_core.stream.stream import Stream
from waymaker_core.types import ConsumerId, Principal, StreamId


def host(life: Life, state: NodeState) -> Hosted:
    """A life that begins now, with no messages and no consumers."""
    stream = Stream(life.stream_id, life.config, life.created_ms, state.limits)
    consumers = Consumers(stream, state.limits)
    if not life.importing:  # an import replays its consumers' records first
        consumers.resume(state.now, complete=True)
    return begin(Hosted(life, stream, consumers), state)


def begin(hosted: Hosted, state: NodeState) -> Hosted:
    """Settings of a stream in service that its own state does not hold."""
    if state.config.sync_interval_ms and not hosted.stream.config.ephemeral:
        hosted.stream.reserve_interval_ms = state.config.sync_interval_ms
    hosted.stream.work = state.work
    return hosted


class Lives:
    """Finding streams, and applying records to them."""

    def __init__(self, state: NodeState, watchers: Watchers, catalogue_position: int) -> None:
        self._state = state
        self.catalogue_position = catalogue_position
        """The last record of the catalogue that is applied."""
        self._watchers = watchers
        self.changed: dict[StreamId, Hosted] = {}
        """Streams that differ from what the last checkpoint holds."""
        self.catalogue_changed = False
        self.import_heads: dict[int, Head] = {}
        """Of streams being restored: what their archives hold besides the messages."""
        self.ended: dict[StreamId, None] = {}
        """Lives that ended since the last checkpoint."""
        self.dead_bytes = 0
        """Bytes of the messages that ended since the last checkpoint; until the next one they may take room on the disk."""

    def wire(self, calls: Calls, subscriptions: Subscriptions, indexes: Indexes, garbage: Garbage) -> None:
        """Meet the parts that need this one themselves."""
        self._calls = calls
        self._subscriptions = subscriptions
        self._indexes = indexes
        self._garbage = garbage

    # ------------------------------------------------------------------ finding

    def find(self, principal: Principal, name: str) -> Hosted:
        """The stream a name means, as far as it is committed. CodeError (`no_such_stream`); refused in quarantine."""
        life = self._state.catalogue.find(principal.account, name)
        if life is None or life.importing:
            raise no_such_stream(name)
        hosted = self._state.hosted[life.stream_id]
        if hosted.damage is not None:
            raise RefusedError(hosted.damage.refusal(hosted.name))
        return hosted

    def find_for_change(self, principal: Principal, name: str) -> Hosted:
        """The same, and its end is not decided yet."""
        hosted = self.find(principal, name)
        if self._state.catalogue.is_going(hosted.life):
            raise no_such_stream(name)
        return hosted

    def find_for_deletion(self, principal: Principal, name: str) -> Hosted:
        """The same, in quarantine too."""
        life = self._state.catalogue.find(principal.account, name)
        if life is None or life.importing or self._state.catalogue.is_going(life):
            raise no_such_stream(name)
        return self._state.hosted[life.stream_id]

    def find_import(self, stream_id: int) -> Hosted:
        """A stream being restored, by the id that its restorer was told."""
        hosted = self._state.hosted.get(StreamId(stream_id))
        if hosted is None or not hosted.life.importing or self._state.catalogue.is_going(hosted.life):
            raise CodeError(NO_SUCH_STREAM, f"no stream with id {stream_id} is being restored here")
        return hosted

    # ------------------------------------------------------------------ applying

    def apply(self, item: Gathered) -> None:
        """Make a committed record so."""
        if item.hosted is None:
            self._apply_to_catalogue(item)
        elif self._state.hosted.get(item.hosted.id) is item.hosted:
            self._apply_to_stream(item.hosted, item)

    def _apply_to_stream(self, hosted: Hosted, item: Gathered) -> None:
        state, record, chunk = self._state, item.record, item.chunk
        kind = type(record)
        clock_ms = hosted.stream.clock_ms
        if kind is PublishRecord:
            assert isinstance(record, PublishRecord)
            before = hosted.stream.bytes
            hosted.stream.apply(item.position, record, chunk)
            if record.truncate_to or record.drop_seqs:
                self.dead_bytes += before + sum(record.sizes) - hosted.stream.bytes
            hosted.consumers.apply(record)
            state.stats.published_messages += len(record.subjects)
            state.stats.published_bytes += item.body_bytes
        else:
            self._apply_other(hosted, item)
        if hosted.stream.clock_ms < clock_ms:
            state.stats.clock_corrections += 1
            state.log(
                "warning", "clock_corrected", stream=hosted.name, account=hosted.life.account,
                ahead_ms=clock_ms - hosted.stream.clock_ms, server_time_ms=hosted.stream.clock_ms,
            )  # fmt: skip
        self.changed[hosted.id] = hosted
        state.touched[hosted.id] = hosted
        released = hosted.stream.take_released()
        if released:
            self._garbage.add(hosted, released)

    def _apply_other(self, hosted: Hosted, item: Gathered) -> None:
        stats, record = self._state.stats, item.record
        count, byte_count = hosted.stream.count, hosted.stream.bytes
        assert not isinstance(record, StreamCreated | StreamDeleted | StreamUpdated | StreamOpened)
        match record:
            case ConsumerDeleted():
                self._consumer_deleted(hosted, record, item)
                return
            case AckRecord():
                # Its client waited for this commit.
                hosted.consumers.inactivity.used(ConsumerId(record.consumer_id), self._state.now)
                if record.term:
                    stats.termed_messages += len(record.seqs)
                else:
                    stats.acked_messages += len(record.seqs)
            case DropRecord():
                stats.dropped_messages += len(record.seqs)
                if record.copies is not None:
                    stats.dead_letters += len(record.copies.subjects)
            case _:
                pass
        hosted.stream.apply(item.position, record, item.chunk)
        hosted.consumers.apply(record)
        self.dead_bytes += max(0, byte_count - hosted.stream.bytes)
        if isinstance(record, PruneRecord):
            stats.pruned_messages += count - hosted.stream.count
        elif isinstance(record, ConsumerCreated):
            stats.consumers += 1
            hosted.consumers.inactivity.used(ConsumerId(record.consumer_id), self._state.now)
            # By interest it may be the reader that dead letters wait for.
            hosted.consumers.retry_kept()
            self.catalogue_changed = True
            self._tell(hosted, EventKind.CONSUMER_CREATED, record.config.name)

    def _consumer_deleted(self, hosted: Hosted, record: ConsumerDeleted, item: Gathered) -> None:
        consumer_id = ConsumerId(record.consumer_id)
        name = hosted.consumers.name_of(consumer_id)
        self._state.stats.consumers -= 1
        hosted.stream.apply(item.position, record, None)
        hosted.consumers.apply(record)
        self._subscriptions.end_consumer(hosted, consumer_id, "consumer_deleted")
        self._tell(hosted, EventKind.CONSUMER_DELETED, name)

    def _tell(self, hosted: Hosted, kind: EventKind, consumer: str = "") -> None:
        if not hosted.life.importing:
            state = self._state
            self._watchers.tell(kind, hosted.name, consumer, state.now.wall_ms, state.effects)

    # ------------------------------------------------------------------ the catalogue's records

    def _apply_to_catalogue(self, item: Gathered) -> None:
        state, record = self._state, item.record
        assert isinstance(record, StreamCreated | StreamDeleted | StreamUpdated | StreamOpened)
        catalogue = state.catalogue
        catalogue.unstage(record, item.account)
        self.catalogue_changed = True
        self.catalogue_position = item.position
        stream_id = StreamId(record.stream_id)
        hosted = state.hosted.get(stream_id)
        catalogue.apply(record, item.account)
        if isinstance(record, StreamCreated):
            hosted = host(catalogue.lives[stream_id], state)
            state.hosted[stream_id] = hosted
            self._tell(hosted, EventKind.STREAM_CREATED)
        elif hosted is None:
            return
        elif isinstance(record, StreamDeleted):
            self._ended(hosted)
            return
        elif isinstance(record, StreamUpdated):
            hosted.stream.apply_config(record.config)
            hosted.consumers.retry_kept()
            if hosted.config_decided is record.config:
                hosted.config_decided = None
            self._tell(hosted, EventKind.STREAM_UPDATED)
        else:
            hosted.stream.open_at(record.last_seq)
            hosted.consumers.resume(state.now, complete=True)
            self.import_heads.pop(stream_id, None)
            self._tell(hosted, EventKind.STREAM_CREATED)
        self.changed[stream_id] = hosted
        state.touched[stream_id] = hosted

    def _ended(self, hosted: Hosted) -> None:
        """A life is over: nobody finds it any more, and what it held on disk goes."""
        state = self._state
        del state.hosted[hosted.id]
        self._tell(hosted, EventKind.STREAM_DELETED)
        self._subscriptions.end_stream(hosted, "stream_deleted")
        for timer in OF_STREAMS:
            state.timers.arm(timer, hosted.id, None)
        self._indexes.forget(hosted)
        state.stats.consumers -= len(hosted.consumers)
        if hosted.damage is not None:
            state.stats.quarantined_streams -= 1
        self.changed.pop(hosted.id, None)
        self.ended[hosted.id] = None
        self.dead_bytes += hosted.stream.bytes
        self.import_heads.pop(hosted.id, None)
        self._calls.ask_all_of(hosted)
        self._calls.answer_last_naks(hosted)
        self._garbage.add(hosted, [*hosted.stream.take_released(), *hosted.stream.files(), *hosted.memory_ends])


def no_such_stream(name: str) -> CodeError:
    """The answer about a name that means nothing."""
    return CodeError(NO_SUCH_STREAM, f"no stream is called {name[:300]!r}")
