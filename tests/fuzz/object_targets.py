"""Targets for what an object store reads back: metadata, facts in records, and the state of a bucket in a snapshot."""

from __future__ import annotations

from contextlib import suppress

from tests.fuzz.format_targets import CBOR_TOKENS
from tests.fuzz.target import Target
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.objects.chunk_map import ChunkMap
from waymaker_core.objects.facts import Deleted, Finished, Stored, Swept, decode_fact, encode_fact
from waymaker_core.objects.layer import ObjectLayer
from waymaker_core.objects.metadata import Metadata, decode_metadata, encode_metadata
from waymaker_core.objects.state import ObjectEntry, ObjectState
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.stream.stream import Stream


def _map(*chunks: tuple[int, int]) -> ChunkMap:
    made = ChunkMap()
    for seq, size in chunks:
        made.add_chunk(seq, size)
    return made


def metadata_seeds() -> list[bytes]:
    """Metadata of an empty object, of one in one place and of one in many, and a tombstone."""
    maps = [_map(), _map((7, 100), (8, 100), (9, 3)), _map((9, 1 << 20), (2, 1 << 20), (9, 1 << 20))]
    made = [Metadata(False, 1 << 20, bytes(32), shared, chunks) for shared in (False, True) for chunks in maps]
    return [encode_metadata(metadata) for metadata in [*made, Metadata(deleted=True)]]


def run_metadata(data: bytes) -> None:
    """Metadata is refused, or it is what would be written, and a range of it costs what its bytes cost."""
    with suppress(CorruptRecord, UnknownVersion):
        metadata = decode_metadata(data)
        assert encode_metadata(metadata) == data
        ranges, begin = metadata.chunks.covering(metadata.chunks.total_bytes // 2, 1 << 40, 1_000, 1 << 24)
        assert bool(ranges) == bool(metadata.chunks.count)
        assert 0 <= begin <= metadata.chunks.total_bytes // 2


def fact_seeds() -> list[bytes]:
    """One fact of each kind that live records carry."""
    return [
        encode_fact(fact)
        for fact in (Stored(), Finished("a", 3, True, _map((1, 3)).encode()), Deleted("a"), Swept(["a"]))
    ]


def run_fact(data: bytes) -> None:
    """A fact is refused, or it is what would be written."""
    with suppress(CorruptRecord):
        assert encode_fact(decode_fact(data)) == data


def archived_seeds() -> list[bytes]:
    """The state of a bucket: empty, and with objects that share a chunk, a tombstone and a loose chunk."""
    state = ObjectState()
    empty = encode_plain(state.snapshot())
    state.add_loose(range(9, 10), 5)
    state.put("x", ObjectEntry(3, 2, True, _map((1, 1), (2, 1)).encode(), False, 7))
    state.put("y", ObjectEntry(4, 1, True, _map((2, 1)).encode(), False, 7))
    state.put("z", ObjectEntry(5, 0, False, b"", True, 8))
    return [empty, encode_plain(state.snapshot())]


def run_archived(data: bytes) -> None:
    """The state of a bucket in an archive is refused, for the stream has no such messages; it costs what its bytes cost."""
    layer = ObjectLayer(Stream(1, StreamConfig("obj:b", block_size=100), 0, Limits()))
    with suppress(CorruptRecord, UnknownVersion):
        value = decode_plain(data)
        facts = layer.import_facts(value)
        assert not facts or value[1] == [], facts  # type: ignore[index]


TARGETS = (
    Target("object-metadata", metadata_seeds, run_metadata, CBOR_TOKENS),
    Target("object-fact", fact_seeds, run_fact, CBOR_TOKENS),
    Target("object-archive", archived_seeds, run_archived, CBOR_TOKENS),
)
