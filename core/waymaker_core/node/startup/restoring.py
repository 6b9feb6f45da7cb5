"""From what recovery finds to the streams of a node: snapshots first, then every record behind them.

The target of `storage.recovery`. Records take the very `apply` of a stream that a live commit uses, so that a restart cannot
reach another state. It decides nothing and reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterator

from waymaker_core.catalog.catalog import Catalog
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.layers.layer import LayerFactory
from waymaker_core.layers.layer_set import LayerSet
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import (
    CatalogRecord,
    ClusterRecord,
    EpochRecord,
    ImportEnded,
    Record,
    SettingsRecord,
    StreamCreated,
    StreamDeleted,
    StreamOpened,
    StreamUpdated,
)
from waymaker_core.model.types import CATALOG, StreamId
from waymaker_core.node.changes import Changes
from waymaker_core.node.checkpoint.snapshots import (
    StreamSnapshot,
    decode_catalog,
    decode_stream,
    make_from_snapshot,
)
from waymaker_core.node.services import make_layers
from waymaker_core.node.stream_replica import Damage, StreamReplica
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.storage.paths import CHECKPOINTS
from waymaker_core.storage.recovery.replay import NONSENSE, Quarantine
from waymaker_core.stream import snapshot as stream_snapshot
from waymaker_core.stream.relocation import relocation as relocating
from waymaker_core.stream.stream import Stream


class Restoring:
    """The state during recovery. `finish_restore` returns its streams."""

    def __init__(self, limits: Limits, layers: LayerFactory = make_layers) -> None:
        self._limits = limits
        self._layers = layers
        self.catalog = Catalog(limits)
        self.catalog_position = 0
        self.replicas: dict[StreamId, StreamReplica] = {}
        self.changes = Changes()
        """Everything that the next checkpoint must write."""
        self._snapshots: dict[StreamId, StreamSnapshot] = {}
        self._damage: dict[StreamId, Damage] = {}
        self._own_settings: dict[StreamId, None] = {}
        """Streams whose settings are known from their own log or snapshot: nothing in the catalog is newer."""

    # ------------------------------------------------------------------ what recovery calls

    def snapshot(self, stream_id: int, position: int, meta: bytes) -> None:
        """Take a state from a checkpoint. That of a stream waits until the stream is known to exist."""
        if stream_id == CATALOG:
            decode_catalog(meta, self.catalog, position)
            self.catalog_position = position
        else:
            self._snapshots[StreamId(stream_id)] = decode_stream(meta)

    def exists(self, stream_id: int) -> bool:
        """Return True if a stream exists after the records so far."""
        return stream_id in self.catalog.entries

    def is_deleted(self, stream_id: int) -> bool:
        """Return True if a stream was created and is no more: ids ascend."""
        return stream_id < self.catalog.next_id and stream_id not in self.catalog.entries

    def record(self, stream_id: int, position: int, record: Record, chunk: Chunk | None) -> None:
        """Apply a committed record."""
        if stream_id == CATALOG:
            self._apply_to_catalog(position, record)
            return
        if isinstance(record, CatalogRecord | ClusterRecord):
            raise CorruptRecord("a record of the catalogue in a stream's log")
        replica = self._serve(StreamId(stream_id))
        if isinstance(record, SettingsRecord):
            self._own_settings[replica.id] = None
        elif isinstance(record, ImportEnded):
            self.import_ended(stream_id)
        replica.apply(position, record, chunk)
        self.changes.replicas[replica.id] = replica

    def adopt_snapshot(self, stream_id: int, position: int, meta: bytes, path: str) -> None:
        """Take a stream's state from a snapshot that was adopted, in place of all that came before."""
        key = StreamId(stream_id)
        if stream_id == CATALOG:
            self._adopt_catalog(position, meta, path)
            return
        self.replicas.pop(key, None)
        self._damage.pop(key, None)
        self._own_settings.pop(key, None)
        self._snapshots[key] = decode_stream(meta)
        replica = self._serve(key)
        if (replica.stream.id, replica.stream.position) != (stream_id, position):
            raise CorruptRecord(f"it is one of stream {replica.stream.id} at position {replica.stream.position}")
        self.changes.replicas[key] = replica
        self.changes.adopted[key] = path

    def _adopt_catalog(self, position: int, meta: bytes, path: str) -> None:
        other = Catalog(self._limits)
        decode_catalog(meta, other, position)
        for stream_id in self.catalog.adopt(other):
            self._forget(stream_id)
        for replica in self.replicas.values():
            replica.entry.importing = replica.stream.importing
        self.catalog_position = position
        self.changes.catalog = True
        self.changes.adopted[StreamId(CATALOG)] = path

    def quarantine(self, quarantine: Quarantine) -> None:
        """Note that a stream's data are damaged."""
        self._damage[StreamId(quarantine.stream_id)] = Damage(
            quarantine.path, quarantine.offset, quarantine.detail, at_start=True
        )

    def import_ended(self, stream_id: int) -> None:
        """Note that the log of a stream, maybe a damaged one, says that its restore is complete."""
        self.catalog.import_ended(StreamId(stream_id))
        self.changes.catalog = True

    def files(self) -> Iterator[tuple[int, str]]:
        """Yield the block files and shared block files that streams name."""
        for stream_id in list(self.catalog.entries):
            if stream_id in self._damage:
                continue
            try:
                replica = self._serve(stream_id)
            except CorruptRecord as problem:
                self._damage[stream_id] = Damage(CHECKPOINTS, 0, str(problem), at_start=True)
                continue
            for path in relocating.files(replica.stream):
                yield stream_id, path

    def chunks(self) -> Iterator[tuple[int, Chunk]]:
        """Yield the chunks of blocks that have no index of their own."""
        for replica in self._sound():
            for chunk in relocating.chunks(replica.stream):
                yield replica.id, chunk

    def indexes(self) -> Iterator[tuple[int, Chunk]]:
        """Yield the places of the indexes of sealed blocks."""
        for replica in self._sound():
            for chunk in relocating.index_chunks(replica.stream):
                yield replica.id, chunk

    def _sound(self) -> list[StreamReplica]:
        return [self._serve(stream_id) for stream_id in self.catalog.entries if stream_id not in self._damage]

    # ------------------------------------------------------------------ state

    def _serve(self, stream_id: StreamId) -> StreamReplica:
        """Return a stream, made from its snapshot when it is first needed. `CorruptRecord` where that fails."""
        replica = self.replicas.get(stream_id)
        if replica is None:
            replica = self._make(stream_id)
            self.replicas[stream_id] = replica
        return replica

    def _make(self, stream_id: StreamId) -> StreamReplica:
        entry = self.catalog.entries[stream_id]
        snapshot = self._snapshots.pop(stream_id, None)
        try:
            if snapshot is None or stream_id in self._damage:
                stream = Stream(stream_id, entry.config, entry.created_ms, self._limits)
                stream.importing = entry.importing
                layers = LayerSet(self._layers(stream))
                return StreamReplica(entry, stream, Consumers(stream, self._limits), layers)
            replica = make_from_snapshot(snapshot, entry, self._limits, self._layers, self.catalog.next_id)
        except NONSENSE as error:
            raise CorruptRecord(f"the stream's state in the checkpoint makes no sense: {error}") from error
        if stream_snapshot.holds_own_state(snapshot.stream):
            self._own_settings[stream_id] = None
            entry.importing = replica.stream.importing
        else:
            replica.stream.apply_config(entry.config)
            replica.stream.importing = entry.importing
        return replica

    def _apply_to_catalog(self, position: int, record: Record) -> None:
        if isinstance(record, EpochRecord | ClusterRecord):
            self.catalog.apply_cluster(record, position)
            self.catalog_position = position
            self.changes.catalog = True
            return
        if not isinstance(record, CatalogRecord):
            raise CorruptRecord("a record of a stream in the catalogue's log")
        self.catalog_position = position
        self.changes.catalog = True
        stream_id = StreamId(record.stream_id)
        if isinstance(record, StreamDeleted):
            self._forget(stream_id)
        elif isinstance(record, StreamCreated) and record.replaces:
            self._forget(StreamId(record.replaces))
        self.catalog.apply(record)
        if stream_id not in self.catalog.entries:
            return
        if isinstance(record, StreamUpdated):
            if stream_id not in self._own_settings:
                self._serve(stream_id).stream.apply_config(record.config)
        elif isinstance(record, StreamOpened):
            replica = self._serve(stream_id)
            replica.stream.open_at(record.last_seq)
            # It may have no record of its own that would mark it as changed.
            self.changes.replicas[stream_id] = replica

    def _forget(self, stream_id: StreamId) -> None:
        """Forget a deleted stream."""
        self.changes.ended[stream_id] = None
        self.replicas.pop(stream_id, None)
        self.changes.replicas.pop(stream_id, None)
        self.changes.adopted.pop(stream_id, None)
        self._snapshots.pop(stream_id, None)
        self._damage.pop(stream_id, None)
        self._own_settings.pop(stream_id, None)

    def damage_of_unknown(self) -> dict[StreamId, Damage]:
        """Return the damage of streams that the catalog does not know yet."""
        return {stream_id: each for stream_id, each in self._damage.items() if stream_id >= self.catalog.next_id}

    def finish_restore(self) -> dict[StreamId, StreamReplica]:
        """Return every stream, the damaged ones with their damage."""
        for stream_id in self.catalog.entries:
            damage = self._damage.get(stream_id)
            if damage is not None:
                self.replicas.pop(stream_id, None)
                self.changes.replicas.pop(stream_id, None)
            replica = self._serve(stream_id)
            replica.damage = damage
            if damage is None:
                self._open_again(replica)
            if damage is not None or relocating.uses_journal(replica.stream):
                self.changes.replicas[stream_id] = replica
        self.replicas = {stream_id: self.replicas[stream_id] for stream_id in self.catalog.entries}
        return self.replicas

    def _open_again(self, replica: StreamReplica) -> None:
        """Open an imported stream whose snapshot is older than the `StreamOpened` that the catalog's snapshot holds."""
        entry = replica.entry
        if not replica.importing and replica.stream.last_seq < entry.last_seq:
            replica.stream.open_at(entry.last_seq)
            self.changes.replicas[replica.id] = replica
