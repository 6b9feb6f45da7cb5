"""Targets for the pieces that files are made of: records, the manifest, block indexes, snapshots."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.fuzz.mending import mend_index, mend_manifest
from tests.fuzz.target import GOLDEN, Target
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import (
    AuthorityOpened,
    ClusterRecord,
    EpochRecord,
    MembersRecord,
    ReturnWished,
    StreamPinned,
    StreamsClaimed,
)
from waymaker_core.node.checkpoint.snapshots import encode_catalog
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.raft.members import Members, encode_members
from waymaker_core.storage import record_codec
from waymaker_core.storage.blocks.block_file import check_file_header
from waymaker_core.storage.blocks.block_index import decode_index, decode_subjects, encode_index, subject_section
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.frame import HEADER_BYTES, MAGIC, SNAPSHOT, FrameHeader, decode_header, directory_key
from waymaker_core.storage.manifest import decode_manifest, encode_manifest

PLAIN, MENDED = b"\0", b"\1"
"""The first byte of an input: checksums are left as they are, or made right."""

ENTRIES_MAX = 100_000
"""Entries of a block, as whoever reads an index knows it."""

CBOR_TOKENS = (
    b"\x80", b"\x81", b"\x9f", b"\xff", b"\xa0", b"\xa1", b"\xbf", b"\xf4", b"\xf5", b"\xf6", b"\xf7", b"\xfb", b"\x5f",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", b"\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x5b\x00\x00\x00\x10\x00\x00\x00\x00", b"\x9b\x00\x00\x00\x10\x00\x00\x00\x00", b"\xc2\x49\x01" + bytes(8), b"\xc1",
    b"\xc4\x82\x1a\x05\xf5\xe1\x00\x01", b"\xc5\x82\x1a\x05\xf5\xe1\x00\x01", b"\xd8\x1c", b"\xd8\x1d\x00", b"\xd8\x1e\x82",
    b"\xd8\x23\x61", b"\xd9\x01\x02", b"\x20", b"\x60", b"\x40", b"\x00", b"\x01",
)  # fmt: skip
"""Beginnings of values that a decoder may stumble over: tags, endless strings, great and negative numbers."""


@cache
def golden_key() -> int:
    return directory_key(decode_manifest((GOLDEN / "clean" / "MANIFEST").read_bytes()).directory_id)


def golden_files(pattern: str) -> list[Path]:
    """Files of the golden directory after an orderly stop."""
    return sorted((GOLDEN / "clean").glob(pattern))


def frames(data: bytes) -> list[tuple[FrameHeader, bytes]]:
    """All valid frames in a file, with their metas."""
    found: list[tuple[FrameHeader, bytes]] = []
    at = data.find(MAGIC)
    while at >= 0:
        header = decode_header(golden_key(), data, at)
        if header is not None:
            meta_at = at + HEADER_BYTES
            found.append((header, data[meta_at : meta_at + header.meta_length]))
        at = data.find(MAGIC, at + 1)
    return found


# ---------------------------------------------------------------- records


def record_seeds() -> list[bytes]:
    """A few records of each kind, behind their kind and version."""
    seeds: dict[int, list[bytes]] = {}
    for path in golden_files("journal/*.seg"):
        for header, meta in frames(path.read_bytes()):
            if header.kind < 64 and len(seeds.setdefault(header.kind, [])) < 6:
                seeds[header.kind].append(bytes([header.kind, header.version]) + meta)
    for record in cluster_records():
        seeds[record.KIND] = [bytes([record.KIND, record_codec.version_of(record)]) + record_codec.encode(record)]
    return [seed for kind in sorted(seeds) for seed in seeds[kind]]


def cluster_records() -> list[ClusterRecord]:
    """One record of each kind that only members of a cluster write."""
    group = encode_members(Members((1, 2, 3), (4,)))
    claims = StreamsClaimed([1, 4], [2, 3], [[2, 3, 1], [3, 1]])
    wishes: list[ClusterRecord] = [StreamPinned(1, True), ReturnWished(1, 3)]
    return [MembersRecord(group), claims, AuthorityOpened([1, 4], [7, 9]), *wishes]


def run_record(data: bytes) -> None:
    """Only the two documented errors; what is decoded is encoded to the same meaning again."""
    if len(data) < 2:
        return
    try:
        record = record_codec.decode(data[0], data[1], data[2:])
    except (CorruptRecord, UnknownVersion):
        return
    assert record_codec.body_bytes(record) >= 0
    again = record_codec.encode(record)
    assert record_codec.encode(record_codec.decode(data[0], record_codec.version_of(record), again)) == again


# ---------------------------------------------------------------- manifest


def manifest_seeds() -> list[bytes]:
    """The golden manifests."""
    return [flag + (GOLDEN / kind / "MANIFEST").read_bytes() for kind in ("clean", "torn") for flag in (PLAIN, MENDED)]


def run_manifest(data: bytes) -> None:
    """What is accepted can be written again and says the same."""
    content = bytearray(data[1:])
    if data[:1] == MENDED:
        mend_manifest(content)
    try:
        manifest = decode_manifest(bytes(content))
    except (CorruptRecord, UnknownVersion):
        return
    again = decode_manifest(encode_manifest(manifest))
    assert (again.open_epoch, again.next_file, len(again.chain)) == (
        manifest.open_epoch,
        manifest.next_file,
        len(manifest.chain),
    )


# ---------------------------------------------------------------- block files and their indexes


@cache
def block_indexes() -> list[tuple[bytes, bytes]]:
    """Header of the file and index, of every index in the golden block files."""
    found: list[tuple[bytes, bytes]] = []
    for path in golden_files("blocks/*.blk"):
        data = path.read_bytes()
        starts = []
        at = data.find(b"WMblkidx")
        while at >= 0:
            starts.append(at)
            at = data.find(b"WMblkidx", at + 1)
        for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
            found.append((data[:64], data[start:end]))
    return found


def block_seeds() -> list[bytes]:
    """A file's header and an index behind it."""
    return [flag + header + index for header, index in block_indexes()[::3] for flag in (PLAIN, MENDED)]


def run_block(data: bytes) -> None:
    """An index is refused, or its columns fit together and it can be written and read again."""
    header, content = data[1:65], bytearray(data[65:])
    with suppress(CorruptRecord, UnknownVersion):
        check_file_header(golden_key(), "blocks/1-7.blk", 7, header)
    if data[:1] == MENDED:
        mend_index(content)
    raw = bytes(content)
    with suppress(CorruptRecord, UnknownVersion):
        offset, length = subject_section(raw)
        decode_subjects(raw[offset : offset + length])
    try:
        index = decode_index(raw, ENTRIES_MAX)
    except (CorruptRecord, UnknownVersion):
        return
    entries = len(index.ids)
    assert len(index.lengths) == len(index.sizes) == len(index.times_ms) == entries
    assert len(index.posting_starts) == len(index.subjects) + 1
    assert index.posting_starts[-1] == len(index.postings)
    assert all(entry < entries for entry in index.postings)
    if len(set(index.subjects)) == len(index.subjects):
        again = decode_index(encode_index(index))
        assert (len(again.ids), again.lengths, again.times_ms) == (entries, index.lengths, index.times_ms)


# ---------------------------------------------------------------- snapshots


def snapshot_seeds() -> list[bytes]:
    """Snapshots of the golden checkpoints: of the catalogue (0) and of streams."""
    catalog = Catalog(Limits())
    catalog.apply(catalog.decide_create("", StreamConfig("s"), 7))
    for record in (EpochRecord(3), *cluster_records()):
        catalog.apply_cluster(record, 1)
    seeds = [b"\0" + encode_catalog(catalog)]
    for path in golden_files("checkpoints/*.ckpt"):
        for header, meta in frames(path.read_bytes()):
            if header.kind == SNAPSHOT:
                seeds.append(bytes([min(header.stream_id, 255)]) + meta)
    return seeds


@cache
def catalogue_meta() -> bytes:
    return next(seed[1:] for seed in reversed(snapshot_seeds()) if seed[0] == 0)


def run_snapshot(data: bytes) -> None:
    """A snapshot is refused as corrupt, whether it is the catalogue's or a stream's, or a stream is made from it."""
    if not data:
        return
    restoring = Restoring(Limits())
    try:
        if data[0]:
            restoring.snapshot(0, 1, catalogue_meta())
            restoring.snapshot(data[0], 1, data[1:])
        else:
            restoring.snapshot(0, 1, data[1:])
        for _, path in restoring.files():
            assert isinstance(path, str)
        sound = [*restoring.indexes(), *restoring.chunks()]
        restoring.finish_restore()
    except (CorruptRecord, UnknownVersion):
        return
    assert all(isinstance(chunk.path, str) for _, chunk in sound)


TARGETS = (
    Target("record", record_seeds, run_record, CBOR_TOKENS),
    Target("manifest", manifest_seeds, run_manifest, CBOR_TOKENS),
    Target("block", block_seeds, run_block),
    Target("snapshot", snapshot_seeds, run_snapshot, CBOR_TOKENS),
)
