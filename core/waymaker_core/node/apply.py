"""Applying committed records: those of the catalog create and delete replicas, those of a stream change its replica.

The one place where a committed record changes anything. A record of a stream that was deleted changes nothing.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.api.effects import EventKind, Kept, Replicate
from waymaker_core.catalog.catalog import Catalog, CatalogEntry
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.layers.layer_set import LayerSet
from waymaker_core.model.records import (
    AckRecord,
    CatalogRecord,
    ClusterRecord,
    ConsumerCreated,
    ConsumerDeleted,
    DropRecord,
    EpochRecord,
    ImportEnded,
    LayerRecord,
    PruneRecord,
    PublishRecord,
    SettingsRecord,
    StreamCreated,
    StreamDeleted,
)
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.model.types import CATALOG, ConsumerId, StreamId
from waymaker_core.node.calls import Calls
from waymaker_core.node.context import NodeState
from waymaker_core.node.facts import Facts
from waymaker_core.node.feed import Feed
from waymaker_core.node.file_gc import Garbage
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.parking import Parking
from waymaker_core.node.readers.subscriptions import Subscriptions
from waymaker_core.node.readers.watchers import Watchers
from waymaker_core.node.stream_log import PendingRecord, StreamLog
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.node.timers import OF_STREAMS
from waymaker_core.stream.relocation import relocation as relocating
from waymaker_core.stream.stream import Stream

EMPTIED: Final = "the messages of this ephemeral stream ended with the server's restart; this is a new, empty life"
DELETED: Final = Refusal(Status.ABORTED, "the stream was deleted before a majority had confirmed this", Outcome.UNKNOWN)


def make_replica(entry: CatalogEntry, state: NodeState, *, leads: bool = True) -> StreamReplica:
    """Make the replica of a new stream, with no messages and no consumers; one that does not lead may have a log already."""
    stream = Stream(entry.stream_id, entry.config, entry.created_ms, state.limits)
    stream.importing = entry.importing
    consumers = Consumers(stream, state.limits)
    if leads and not entry.importing:  # an import replays its consumers' records first
        consumers.resume(state.now, complete=True)
    replica = StreamReplica(entry, stream, consumers, LayerSet(state.config.layers(stream)))
    replica.leading.over = not leads
    return start_replica(replica, state)


def start_replica(replica: StreamReplica, state: NodeState) -> StreamReplica:
    """Give a replica the settings that its own state does not hold."""
    if state.config.sync_interval_ms and not replica.stream.config.ephemeral:
        replica.stream.reserve_interval_ms = state.config.sync_interval_ms
    replica.stream.work = state.work
    return replica


class Applier:
    """Applies committed records. Nothing else changes the state of a stream or of the catalog."""

    def __init__(
        self,
        state: NodeState,
        group_commit: GroupCommit,
        gate: Gate,
        garbage: Garbage,
        indexes: Indexes,
        registry: StreamRegistry,
        watchers: Watchers,
        subscriptions: Subscriptions,
        parking: Parking,
        calls: Calls,
        feed: Feed,
        facts: Facts,
    ) -> None:
        self._state = state
        self._facts = facts
        self._replicated = state.config.replicated
        self._group_commit = group_commit
        self._gate = gate
        self._garbage = garbage
        self._indexes = indexes
        self._registry = registry
        self._watchers = watchers
        self._subscriptions = subscriptions
        self._parking = parking
        self._calls = calls
        self._feed = feed

    def advance(self) -> None:
        """Apply what is committed, and let the answers leave that rest on it."""
        written_records, carried = self._group_commit.take_written(), self._group_commit.take_carried()
        if not written_records and not carried:
            return
        replicating: dict[int, StreamLog] = {}
        for written in written_records:
            log = written.log
            if written.ask is not None:
                self._state.effects.append(Kept(written.ask))
            if written.sent and not log.abandoned:
                self._commit(log, log.majority)
            elif self._replicated and not log.abandoned:
                replicating[log.stream_id] = log
            else:
                # Records of different logs are applied in the order of the journal.
                self._commit(log, written.position)
        for log in [*replicating.values(), *carried]:
            if log.stream_id in replicating:
                self._state.effects.append(Replicate(log.stream_id, log.durable))
            self._commit(log, log.majority)

    def replicate_suffixes(self) -> None:
        """Send what recovery found durable and not known to be committed, from the node that is to lead its log."""
        state = self._state
        if state.config.member or not self._replicated:
            return  # it is to lead none yet, or needs no other replica for what a first step has decided
        for log in [state.catalog_log, *(replica.log for replica in state.opening.values())]:
            if log.entries:
                state.effects.append(Replicate(log.stream_id, log.durable))

    def _commit(self, log: StreamLog, position: int) -> None:
        """Commit a log up to a position, as far as it is durable here, and apply that."""
        before = log.committed
        log.commit(position)
        if log.committed > before:
            self._facts.note_commit(log)
        if log.stream_id not in self._state.unknown:
            self._apply_committed(log)

    def replicated(self, stream_id: int, position: int) -> None:
        """Commit what a majority of the replicas has of a log; it may be late, and mean a stream that was deleted."""
        log = self._state.find_log(stream_id)
        if log is not None:
            log.majority = max(log.majority, position)
            self._commit(log, position)
            self._gate.replicated_to(log, position)

    def _apply_committed(self, log: StreamLog) -> None:
        item = log.take_applicable()
        while item is not None:
            self._apply(item)
            self._gate.open(log)
            item = log.take_applicable()

    def _apply(self, item: PendingRecord) -> None:
        """Apply one committed record; one of a deleted stream changes nothing."""
        stats, log = self._state.stats, item.log
        stats.inflight_bytes -= item.body_bytes
        stats.pending_records -= 1
        if log.memory is not None and item.chunk is not None:
            log.memory.written(item.chunk.path)
        if log.stream_id == CATALOG:
            self._apply_to_catalog(item)
            return
        replica = self._state.replicas.get(StreamId(log.stream_id))
        if replica is not None:
            self._apply_to_stream(replica, item)

    def _apply_to_stream(self, replica: StreamReplica, item: PendingRecord) -> None:
        state, record, chunk = self._state, item.record, item.chunk
        kind = type(record)
        clock_ms = replica.stream.clock_ms
        if kind is PublishRecord:
            assert isinstance(record, PublishRecord)
            before = replica.stream.bytes
            replica.apply(item.position, record, chunk)
            if record.truncate_to or record.drop_seqs:
                state.changes.dead_bytes += before + sum(record.sizes) - replica.stream.bytes
            state.stats.published_messages += len(record.subjects)
            state.stats.published_bytes += item.body_bytes
        else:
            self._apply_other(replica, item)
        if replica.stream.clock_ms < clock_ms:
            state.stats.clock_corrections += 1
            state.log(
                "warning", "clock_corrected", stream=replica.name, account=replica.entry.account,
                ahead_ms=clock_ms - replica.stream.clock_ms, server_time_ms=replica.stream.clock_ms,
            )  # fmt: skip
        state.changes.replicas[replica.id] = replica
        state.dirty[replica.id] = replica
        released = replica.stream.take_released()
        if released:
            self._garbage.delete_later(replica, released)

    def _apply_other(self, replica: StreamReplica, item: PendingRecord) -> None:
        state, stats, record = self._state, self._state.stats, item.record
        count, byte_count = replica.stream.count, replica.stream.bytes
        assert not isinstance(record, CatalogRecord | ClusterRecord)
        match record:
            case ConsumerDeleted():
                self._consumer_deleted(replica, record, item)
                return
            case AckRecord():
                # Its client waited for this commit.
                replica.consumers.inactivity.used(ConsumerId(record.consumer_id), state.now)
                if record.term:
                    stats.termed_messages += len(record.seqs)
                else:
                    stats.acked_messages += len(record.seqs)
            case DropRecord():
                stats.dropped_messages += len(record.seqs)
                if record.copies is not None:
                    stats.dead_letters += len(record.copies.subjects)
            case LayerRecord() if record.messages is not None:
                stats.published_messages += len(record.messages.subjects)
                stats.published_bytes += item.body_bytes
                byte_count += sum(record.messages.sizes)
            case _:
                pass
        replica.apply(item.position, record, item.chunk)
        state.changes.dead_bytes += max(0, byte_count - replica.stream.bytes)
        if isinstance(record, PruneRecord):
            stats.pruned_messages += count - replica.stream.count
        elif isinstance(record, SettingsRecord):
            replica.consumers.retry_kept()
            self._notify_watchers(replica, EventKind.STREAM_UPDATED)
        elif isinstance(record, ImportEnded):
            state.catalog.import_ended(replica.id)
            state.changes.catalog = True
            if replica.leads:
                replica.consumers.resume(state.now, complete=True)
            self._registry.import_heads.pop(replica.id, None)
            self._notify_watchers(replica, EventKind.STREAM_CREATED)
        elif isinstance(record, ConsumerCreated):
            stats.consumers += 1
            replica.consumers.inactivity.used(ConsumerId(record.consumer_id), state.now)
            # By interest it may be the reader that dead letters wait for.
            replica.consumers.retry_kept()
            self._notify_watchers(replica, EventKind.CONSUMER_CREATED, record.config.name)

    def _consumer_deleted(self, replica: StreamReplica, record: ConsumerDeleted, item: PendingRecord) -> None:
        consumer_id = ConsumerId(record.consumer_id)
        name = replica.consumers.name_of(consumer_id)
        self._state.stats.consumers -= 1
        replica.apply(item.position, record, None)
        self._subscriptions.end_consumer(replica, consumer_id, "consumer_deleted")
        self._notify_watchers(replica, EventKind.CONSUMER_DELETED, name)

    def _notify_watchers(self, replica: StreamReplica, kind: EventKind, consumer: str = "") -> None:
        if not replica.importing:
            state = self._state
            self._watchers.notify(kind, replica.name, consumer, state.now.wall_ms, state.effects)

    def _notify_override(self, stream_id: StreamId) -> None:
        """Notify watchers of the override that holds for a stream from now on, or that it has none."""
        replica, state = self._state.replicas[stream_id], self._state
        if not replica.importing:
            override, wall_ms = state.overrides.override_of(stream_id), state.now.wall_ms
            self._watchers.notify(EventKind.AUTHORITY_CHANGED, replica.name, "", wall_ms, state.effects, override)

    # ------------------------------------------------------------------ records of the catalog

    def _apply_to_catalog(self, item: PendingRecord) -> None:
        state, record = self._state, item.record
        catalog = state.catalog
        state.changes.catalog = True
        if isinstance(record, EpochRecord | ClusterRecord):
            for changed in catalog.apply_cluster(record, item.position):
                state.note_conf(changed)
                if state.overrides.refresh(changed):
                    self._notify_override(changed)
            return
        assert isinstance(record, CatalogRecord)
        stream_id = StreamId(record.stream_id)
        replica = state.replicas.get(stream_id)
        catalog.apply(record, item.account)
        if isinstance(record, StreamCreated):
            replaced = state.replicas.get(StreamId(record.replaces))
            if replaced is not None:
                self._notify_watchers(replaced, EventKind.STREAM_DELETED)
            self._begin_stream(stream_id, may_be_served=item.position <= state.found_end)
            if replaced is not None:
                self._ended(replaced)
        elif replica is not None and isinstance(record, StreamDeleted):
            self._notify_watchers(replica, EventKind.STREAM_DELETED)
            self._ended(replica)

    def _begin_stream(self, stream_id: StreamId, *, may_be_served: bool = False) -> None:
        """Begin the replica of a stream that the catalog knows by now; an earlier run of this process may have served it."""
        state = self._state
        replica = self._make_known(stream_id)
        state.replicas[stream_id] = replica
        self._notify_watchers(replica, EventKind.STREAM_CREATED)
        state.changes.replicas[stream_id] = replica
        state.dirty[stream_id] = replica
        state.note_conf(stream_id)
        if replica.importing and stream_id not in self._registry.import_heads:
            # An earlier run decided it, and the majority came after the restart: nothing can end this restore.
            state.passing.append(replica)
        elif state.config.member and may_be_served and replica.stream.config.ephemeral:
            state.passing.append(replica)
        if replica.log.entries:
            if not state.config.member:
                state.effects.append(Replicate(stream_id, replica.log.durable))
            self._apply_committed(replica.log)

    def _drop_unknown(self, end: StreamId) -> None:
        """Drop the records of streams below an id that the catalog does not know: ids ascend, so it never will."""
        state = self._state
        for stream_id in [each for each in state.unknown if each < end]:
            never = state.unknown.pop(stream_id)
            never.abandoned = True
            self._group_commit.forget_records(stream_id)
            never.commit(never.durable)
            self._apply_committed(never)

    def _make_known(self, stream_id: StreamId) -> StreamReplica:
        """Make the replica of a new stream; one whose records came before its creation has them."""
        state = self._state
        entry = state.catalog.entries[stream_id]
        log = state.unknown.pop(stream_id, None)
        self._drop_unknown(stream_id)
        replica = make_replica(entry, state, leads=log is None and not state.config.member)
        if log is not None:
            replica.log, log.memory = log, replica.log.memory
            if not state.config.member:
                state.opening[stream_id] = replica
        replica.damage = state.unknown_damage.pop(stream_id, None)
        if stream_id in state.emptied:
            del state.emptied[stream_id]
            replica.stream.notice = EMPTIED
            state.log("warning", "stream_emptied", stream=replica.name, stream_id=replica.id)
        return replica

    def _ended(self, replica: StreamReplica) -> None:
        """Remove a deleted stream: end its readers, admit its waiting calls anew, delete its files."""
        state = self._state
        del state.replicas[replica.id]
        replica.leading.over = True
        state.note_conf(replica.id)
        state.overrides.refresh(replica.id)
        self._group_commit.forget_records(replica.id)
        self._subscriptions.end_stream(replica, "stream_deleted")
        for timer in OF_STREAMS:
            state.timers.arm(timer, replica.id, None)
        self._indexes.forget(replica)
        state.stats.consumers -= len(replica.consumers)
        if replica.damage is not None:
            state.stats.quarantined_streams -= 1
        state.changes.replicas.pop(replica.id, None)
        state.changes.ended[replica.id] = None
        state.changes.dead_bytes += replica.stream.bytes
        self._registry.import_heads.pop(replica.id, None)
        self._feed.drop_watches(replica)
        self._feed.wake(replica)
        self._calls.readmit_queue(replica)
        self._parking.answer_last_naks(replica)
        self._facts.found.drop_stream(replica.id)
        self.forget_adopted(replica.id)
        if self._replicated:
            replica.log.abandoned = True
            self._gate.abandon(replica.log, DELETED)
            replica.log.commit(replica.log.durable)
            self._apply_committed(replica.log)
        self._garbage.delete_later(
            replica, [*replica.stream.take_released(), *relocating.files(replica.stream), *replica.memory.paths()]
        )

    # ------------------------------------------------------------------ adopted snapshots

    def replace(self, before: StreamReplica, replica: StreamReplica, path: str) -> None:
        """Put the replica of an adopted snapshot in the place of the one before. `path`: the snapshot's file."""
        state = self._state
        state.replicas[replica.id] = start_replica(replica, state)
        before.leading.over = True
        self._group_commit.forget_records(replica.id)
        self._indexes.forget(before)
        state.stats.consumers += len(replica.consumers) - len(before.consumers)
        if before.damage is not None:
            state.stats.quarantined_streams -= 1
        replica.entry.importing = replica.stream.importing
        state.changes.catalog = True
        state.changes.replicas[replica.id] = replica
        state.changes.dead_bytes += before.stream.bytes
        self.forget_adopted(replica.id)
        state.changes.adopted[replica.id] = path
        self._garbage.delete_later(before, [*before.stream.take_released(), *relocating.files(before.stream)])

    def replace_catalog(self, other: Catalog, position: int, path: str) -> None:
        """Put the catalog of an adopted snapshot in the place of the one before: streams begin and end as by its records."""
        state, catalog = self._state, self._state.catalog
        known = list(catalog.entries)
        gone = catalog.adopt(other)
        state.catalog_log.begin_behind(position)
        self._group_commit.forget_records(CATALOG)
        self.forget_adopted(StreamId(CATALOG))
        state.changes.adopted[StreamId(CATALOG)] = path
        state.changes.catalog = True
        for stream_id in gone:
            replica = state.replicas[stream_id]
            self._notify_watchers(replica, EventKind.STREAM_DELETED)
            self._ended(replica)
        for stream_id in known:
            if stream_id in state.replicas:
                replica = state.replicas[stream_id]
                replica.entry.importing = replica.stream.importing
                state.note_conf(stream_id)
        for stream_id in catalog.entries:
            if stream_id not in state.replicas:
                self._begin_stream(stream_id)
            if state.overrides.refresh(stream_id):
                self._notify_override(stream_id)
        self._drop_unknown(StreamId(catalog.next_id))

    def forget_adopted(self, stream_id: StreamId) -> None:
        """Delete the snapshot's file that a stream has adopted, where it is named by nothing else any more."""
        path = self._state.changes.adopted.pop(stream_id, None)
        if path is not None:
            self._garbage.delete_shared_later(path)

    def drop_received(self, replica: StreamReplica, path: str) -> None:
        """Delete what came for a stream that was deleted meanwhile."""
        self._garbage.delete_later(replica, relocating.files(replica.stream))
        self._garbage.delete_shared_later(path)
