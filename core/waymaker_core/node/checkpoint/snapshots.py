"""Snapshots: the whole state of the catalog and of a stream as the meta of a checkpoint's frame, and back.

The catalog's state is the records that would create its entries, in the one encoding that records have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from waymaker_core.catalog.catalog import Catalog, CatalogEntry
from waymaker_core.catalog.group_history import GroupHistory
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.layers.layer import LayerFactory
from waymaker_core.layers.layer_set import LayerSet
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import StreamCreated
from waymaker_core.model.types import Now
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage import record_codec
from waymaker_core.storage.checkpoint.writer import decode_state, encode_state
from waymaker_core.storage.config_codec import ARRAY, check_members, encode_plain, plain_head
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.stream.snapshot import decode_snapshot, defer_snapshot, encode_snapshot


def encode_catalog(catalog: Catalog) -> bytes:
    """Encode the committed entries, and the next id; where there are any, also group and claims of a cluster, and wishes."""
    registry = [[entry.account, record_codec.encode(record)] for entry, record in catalog.snapshot()]
    group, claims = catalog.group.history_as_list(), catalog.authority.claims_as_list()
    wishes = catalog.wishes.wishes_as_list()
    is_member = claims or group != GroupHistory().history_as_list()
    of_cluster = [[group, claims, *([wishes] if wishes else [])]] if is_member or wishes else []
    return encode_state([catalog.next_id, record_codec.VERSION, registry, *of_cluster])


def decode_catalog(meta: bytes, into: Catalog, position: int) -> None:
    """Fill an empty catalog, at a position of its log. `CorruptRecord` where the bytes are no such state."""
    match decode_state(meta):
        case [int(next_id), int(version), list(registry), *of_cluster] if len(of_cluster) <= 1:
            for entry in registry:
                match entry:
                    case [str(account), bytes(encoded)]:
                        record = record_codec.decode(StreamCreated.KIND, version, encoded)
                        assert isinstance(record, StreamCreated), "its own kind's codec gives it"
                        if into.find(account, record.config.name) is not None:
                            raise CorruptRecord("two streams of one name")
                        into.apply(record, account)
                    case _:
                        raise CorruptRecord("not an entry of the catalog")
            into.next_id = max(into.next_id, next_id)
            for part in of_cluster:
                _decode_cluster(part, into, position)
        case _:
            raise CorruptRecord("not a state of the catalog")


def _decode_cluster(value: object, into: Catalog, position: int) -> None:
    match value:
        case [list(group), list(claims), *wishes] if len(wishes) <= 1:
            try:
                into.group.restore(group, position)
                into.authority.restore(claims, position)
                if into.group.members[-1].position:
                    check_members(into.group.members[-1].data)
                for each in wishes:
                    into.wishes.restore(each)
            except ValueError as problem:
                raise CorruptRecord(str(problem)) from problem
            of_wishes = (*into.wishes.pinned, *into.wishes.returning)
            if any(stream_id not in into.entries for stream_id in (*into.authority.confs, *of_wishes)):
                raise CorruptRecord("claims of a stream that the catalog does not hold, or wishes for one")
        case _:
            raise CorruptRecord("not the part of a cluster in a state of the catalog")


class StreamSnapshot(NamedTuple):
    """The snapshots of a stream, of its consumers and of its layers, as plain values; older ones have no layers."""

    stream: object
    consumers: object
    layers: object


def encode_stream(replica: StreamReplica, now: Now) -> bytes:
    """Encode a stream, its consumers and its layers, at the stream's position."""
    layers = replica.layers.snapshot()
    return encode_parts(StreamSnapshot(encode_snapshot(replica.stream), replica.consumers.snapshot(now), layers))


def defer_stream(replica: StreamReplica, now: Now) -> Callable[[], Iterator[bytes]]:
    """Fix what `encode_stream` encodes; return what makes the same bytes later, piece by piece."""
    layers = replica.layers.snapshot()
    rest = [encode_plain(part) for part in (replica.consumers.snapshot(now), *([layers] if layers else []))]
    stream = defer_snapshot(replica.stream)

    def pieces() -> Iterator[bytes]:
        yield plain_head(ARRAY, 1 + len(rest))
        yield from stream()
        yield b"".join(rest)

    return pieces


def encode_parts(snapshot: StreamSnapshot) -> bytes:
    """Encode the parts of a state; layers only where there are any."""
    return encode_state([snapshot.stream, snapshot.consumers, *([snapshot.layers] if snapshot.layers else [])])


def make_from_snapshot(
    snapshot: StreamSnapshot, entry: CatalogEntry, limits: Limits, layers: LayerFactory, next_id: int
) -> StreamReplica:
    """Make the replica of a stream as it was at a snapshot. ValueError and others where that makes no sense.

    `next_id`: the catalog's, which drew the ids of consumers when snapshots did not hold their counter.
    """
    stream = decode_snapshot(snapshot.stream, limits)
    consumers = Consumers(stream, limits)
    consumers.restore(snapshot.consumers, next_id)
    layer_set = LayerSet(layers(stream))
    layer_set.restore(snapshot.layers)
    return StreamReplica(entry, stream, consumers, layer_set)


def decode_stream(meta: bytes) -> StreamSnapshot:
    """Return the parts of a stream's state; `CorruptRecord` where the bytes are no such state."""
    match decode_state(meta):
        case [stream, consumers]:
            return StreamSnapshot(stream, consumers, [])
        case [stream, consumers, list(layers)]:
            return StreamSnapshot(stream, consumers, layers)
    raise CorruptRecord("not a state of a stream")
