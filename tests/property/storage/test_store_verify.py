"""What verification and recovery say to a directory with more than one thing wrong in it, or an unusual one."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from random import Random
from struct import pack_into

import pytest

from tests.fuzz.mending import mend_header
from tests.kit.store_disk import MemoryDisk
from tests.kit.store_toy import LIMITS, History, ToyNode, open_directory
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import (
    Chunk,
    DiskFailure,
    DiskOp,
    FailureKind,
    OpResult,
    Read,
    ReadChunk,
    Rename,
    Write,
)
from waymaker_core.model.records import PruneRecord, PublishRecord, StreamCreated, StreamDeleted
from waymaker_core.storage.blocks.block_index import HOLE, BlockIndex, encode_index
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.errors import CorruptStore
from waymaker_core.storage.frame import HEADER_BYTES, WATERMARK, encode_header, frame_bytes
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES, decode_segment_header, encode_segment_header
from waymaker_core.storage.journal.writer import Segment
from waymaker_core.storage.paths import segment_path
from waymaker_core.storage.record_codec import encode
from waymaker_core.storage.recovery.verify import Report, verify


def life(seed: int = 1, streams: int = 2) -> tuple[MemoryDisk, ToyNode]:
    """A directory with streams 1, 2 and so on and nothing else in them."""
    disk = MemoryDisk()
    node = ToyNode(disk, Random(seed))
    for stream_id in range(1, streams + 1):
        node.append(0, StreamCreated(stream_id, StreamConfig(f"s{stream_id}"), 5))
    node.streams = list(range(1, streams + 1))
    node.flush()
    return disk, node


def check(disk: MemoryDisk, target: History | None = None) -> Report:
    return disk.drive(verify(target or History(), LIMITS))


def publish(node: ToyNode, stream_id: int, body: bytes = b"body") -> tuple[str, int]:
    """One message, durable; where its frame is."""
    seq = node.next_seq.get(stream_id, 1)
    sizes = array("I", [len(body)])
    record = PublishRecord(seq, array("q", [7]), sizes, sizes, ["a"])
    path, offset = place(node, frame_bytes(len(encode(record)), len(body)))
    node.append(stream_id, record, body)
    node.next_seq[stream_id] = seq + 1
    node.flush()
    return path, offset


def place(node: ToyNode, size: int) -> tuple[str, int]:
    """Where a frame of a size will go."""
    segment: Segment = node.journal._segments[-1]
    if size > segment.size - segment.end:
        return segment_path(segment.number + 1), SEGMENT_HEADER_BYTES
    return segment.path, segment.end


def fill(node: ToyNode, segments: int, stream_id: int = 1) -> list[tuple[str, int]]:
    """Messages until there are so many segments; where each message's frame is."""
    places: list[tuple[str, int]] = []
    while len(node.journal._segments) < segments:
        node.make_spare()
        places.append(publish(node, stream_id, b"x" * 500))
    return places


# ---------------------------------------------------------------- the journal


def test_every_damaged_record_of_a_stream_is_a_finding_of_its_own() -> None:
    disk, node = life()
    places = [publish(node, 1), publish(node, 1), publish(node, 2)]
    node.drain()
    for path, offset in places[:2]:
        disk.flip(path, 8 * (offset + HEADER_BYTES))
    report = check(disk)
    assert [(found.path, found.offset, found.stream_id) for found in report.findings] == [(*at, 1) for at in places[:2]]
    assert report.has_damage
    history, recovered = open_directory(disk)
    assert [quarantine.stream_id for quarantine in recovered.quarantines] == [1]
    assert history.story()[2] == [1]


def test_damage_in_a_stream_that_was_deleted_later_takes_nothing_away() -> None:
    disk, node = life()
    path, offset = publish(node, 1)
    publish(node, 2)
    node.append(0, StreamDeleted(1))
    node.flush()
    node.drain()
    disk.flip(path, 8 * (offset + HEADER_BYTES))
    report = check(disk)
    assert [(found.path, found.offset, found.harmless) for found in report.findings] == [(path, offset, True)]
    assert not report.has_damage
    _, recovered = open_directory(disk)
    assert recovered.quarantines == []
    assert [path in warning and "deleted since" in warning for warning in recovered.warnings] == [True]


def test_a_record_that_does_not_fit_its_messages_quarantines_its_stream() -> None:
    disk, node = life()
    path, offset = place(node, 0)
    record = PublishRecord(1, array("q", [7]), array("I", [4]), array("I", [4]), ["a"])
    meta, body = encode(record), b"four, or so"
    header = encode_header(
        node.key, record.KIND, 1, 0, 1, 1, 1, offset, 1, len(meta), len(body), crc32c(meta), crc32c(body)
    )
    content = header + meta.ljust(-(-len(meta) // 8) * 8, b"\0") + body.ljust(-(-len(body) // 8) * 8, b"\0")
    disk.perform(Write(path, offset, [content]))
    disk.kill()
    _, recovered = open_directory(disk)
    assert [(found.stream_id, found.path, found.offset) for found in recovered.quarantines] == [(1, path, offset)]
    assert "does not fit its messages" in recovered.quarantines[0].detail


def test_a_segment_that_follows_another_address_is_refused() -> None:
    disk, node = life()
    fill(node, 2)
    node.drain()
    first, second = node.journal._segments[:2]
    data = disk.perform(Read(second.path, 0, SEGMENT_HEADER_BYTES))
    assert isinstance(data, bytes)
    header = decode_segment_header(node.key, data)
    assert header is not None
    header = header._replace(previous_end=first.end - 8)
    disk.perform(Write(second.path, 0, [encode_segment_header(node.key, header)]))
    with pytest.raises(CorruptStore, match="the segment follows") as caught:
        open_directory(disk)
    assert caught.value.path == second.path


def test_verification_goes_on_behind_a_segment_of_which_nothing_is_left() -> None:
    disk, node = life()
    fill(node, 4)
    path, offset = publish(node, 2)
    node.drain()
    segments = node.journal._segments
    disk.perform(Write(segments[1].path, 0, [bytes(segments[1].size)]))
    disk.flip(path, 8 * (offset + HEADER_BYTES))
    report = check(disk)
    assert (segments[0].path, segments[0].end) in [(found.path, found.offset) for found in report.findings]
    assert (path, offset, 2) in [(found.path, found.offset, found.stream_id) for found in report.findings]
    with pytest.raises(CorruptStore):
        open_directory(disk)


def test_verification_goes_on_in_a_segment_whose_header_is_damaged() -> None:
    disk, node = life()
    fill(node, 3)
    path, offset = publish(node, 2)
    node.drain()
    broken = node.journal._segments[1]
    disk.flip(broken.path, 8 * 20)
    disk.flip(path, 8 * (offset + HEADER_BYTES))
    findings = [(found.path, found.offset) for found in check(disk).findings]
    assert (broken.path, 0) in findings
    assert (path, offset) in findings


def test_verification_ends_where_no_segment_behind_the_damage_says_how_it_goes_on() -> None:
    disk, node = life()
    fill(node, 3)
    publish(node, 2)
    node.drain()
    first, second, third = node.journal._segments[:3]
    del disk.names[second.path]
    disk.flip(third.path, 8 * 20)
    report = check(disk)
    assert report.has_damage
    assert (first.path, first.end) in [(found.path, found.offset) for found in report.findings]
    with pytest.raises(CorruptStore):
        open_directory(disk)


def test_a_frame_that_says_it_is_longer_than_its_segment_is_the_journal_s_damage() -> None:
    disk, node = life()
    path, offset = publish(node, 1)
    publish(node, 2)
    node.drain()
    header = disk.names[path].content[offset : offset + HEADER_BYTES]
    pack_into("<I", header, 48, 1 << 20)
    mend_header(node.key, header)
    disk.perform(Write(path, offset, [bytes(header)]))
    report = check(disk)
    size = len(disk.names[path].content)
    assert [(found.path, found.offset, found.stream_id) for found in report.findings] == [
        (path, offset, 1), (path, size, -1),
    ]  # fmt: skip
    with pytest.raises(CorruptStore, match="ends before its frames do"):
        open_directory(disk)


def test_what_only_looks_like_a_frame_behind_the_end_proves_nothing() -> None:
    """A message with the magic word in it, torn off: wherever the word stands, aligned or not."""
    disk, node = life()
    path, offset = publish(node, 1, b".WMfr" * 30)
    disk.perform(Write(path, offset, [bytes(HEADER_BYTES)]))
    disk.kill()
    history, recovered = open_directory(disk)
    assert history.story() == {1: [], 2: []}
    assert recovered.quarantines == []


def test_a_frame_in_a_segment_that_is_no_spare_goes_with_its_file() -> None:
    """A segment was made too far behind, or the ones before it are gone: nothing in it was ever confirmed."""
    disk, node = life()
    publish(node, 1)
    node.drain()
    path = segment_path(node.journal._segments[-1].number + 2)
    alien = encode_header(node.key, WATERMARK, 1, 0, int(path[8:24]), 0, 0, 0, 1, 0, 0, 0, 0)
    disk.perform(Write(path, SEGMENT_HEADER_BYTES, [alien]))
    history, recovered = open_directory(disk)
    assert path not in disk.names
    assert history.story() == {1: [1], 2: []}
    assert recovered.cut_bytes > 0
    assert open_directory(disk)[1].cut_bytes == 0


# ---------------------------------------------------------------- files that nobody knows


def test_a_foreign_file_is_mentioned_and_left_alone() -> None:
    disk, node = life()
    publish(node, 1)
    node.checkpoint()
    node.drain()
    foreign = ["checkpoints/notes.txt", "blocks/notes.txt", "tails/notes.txt", "journal/notes.txt"]
    for path in foreign:
        disk.perform(Write(path, 0, [b"mine"]))
    report = check(disk)
    assert not report.has_damage
    _, recovered = open_directory(disk)
    for path in foreign[:3]:
        assert any(path in warning for warning in recovered.warnings)
        assert any(path in found.detail for found in report.findings)
    assert all(path in disk.names for path in foreign)
    assert not set(foreign) & set(recovered.orphans)


def test_a_directory_that_was_never_opened_has_nothing_to_verify() -> None:
    report = check(MemoryDisk())
    assert report.is_new
    assert report.findings == []


# ---------------------------------------------------------------- blocks


class WithIndex(History):
    """A target one of whose streams names an index."""

    def __init__(self, location: Chunk) -> None:
        super().__init__()
        self.location = location

    def indexes(self) -> Iterable[tuple[int, Chunk]]:
        return [(1, self.location)]


BODY = b"0123456789"


def with_index(disk: MemoryDisk, index: BlockIndex) -> Report:
    """Verify a directory where a block of ten bytes has this index."""
    data = encode_index(index)
    disk.perform(Write("blocks/1-9.blk", 64, [BODY, data]))
    return check(disk, WithIndex(Chunk("blocks/1-9.blk", 74, len(data), crc32c(data))))


def index(firsts: list[int], chunks: list[Chunk], skip: int = 0, first_id: int = 0) -> BlockIndex:
    """Two messages of five bytes each, the first one perhaps a hole."""
    lengths = [5 if first_id != HOLE else 0, 5]
    return BlockIndex(
        1, array("I", lengths), array("I", lengths), array("q", [0, 0]), array("I", [first_id, 0]), ["a"],
        array("I", firsts), array("Q", [skip] * len(chunks)), chunks,
    )  # fmt: skip


WHOLE = Chunk("blocks/1-9.blk", 64, 10, crc32c(BODY))
HALF = Chunk("blocks/1-9.blk", 64, 5, crc32c(BODY[:5]))


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        pytest.param(index([0], [WHOLE]), "", id="an honest one"),
        pytest.param(index([1], [HALF], first_id=HOLE), "", id="a hole before the first chunk"),
        pytest.param(index([1], [HALF]), "messages before the first chunk", id="a message before the first chunk"),
        pytest.param(index([0], [HALF]), "chunk 0 is shorter", id="a chunk too short"),
        pytest.param(index([0], [WHOLE], skip=1), "chunk 0 is shorter", id="a chunk begun too late"),
        pytest.param(index([1, 0], [HALF, HALF], first_id=HOLE), "chunk 0 is shorter", id="chunks out of order"),
        pytest.param(index([], []), "messages without a chunk", id="no chunk"),
        pytest.param(index([0], [Chunk("blocks/1-8.blk", 64, 10, 0)]), "the file is missing", id="a chunk of no file"),
        pytest.param(index([0], [Chunk("blocks/1-9.blk", 64, 10, 1)]), "do not match", id="a damaged chunk"),
    ],
)
def test_an_index_that_does_not_fit_its_chunks_is_a_finding(block: BlockIndex, problem: str) -> None:
    disk, node = life()
    node.drain()
    findings = [found for found in with_index(disk, block).findings if not found.harmless]
    assert [problem in found.detail for found in findings] == ([True] if problem else [])
    assert all(found.stream_id == 1 for found in findings)


def test_an_index_that_is_damaged_or_no_index_is_a_finding_once() -> None:
    disk, node = life()
    node.drain()
    with_index(disk, index([0], [WHOLE]))
    for location, problem in (
        (Chunk("blocks/1-9.blk", 74, 20, 0), "do not match their checksum"),
        (Chunk("blocks/1-9.blk", 64, 10, crc32c(BODY)), "not a block's index"),
    ):
        findings = [found for found in check(disk, WithIndex(location)).findings if not found.harmless]
        assert [(found.path, found.offset, problem in found.detail) for found in findings] == [
            ("blocks/1-9.blk", location.offset, True)
        ]
    assert not check(disk, WithIndex(Chunk("blocks/1-7.blk", 0, 1, 0))).has_damage, "who names the file misses it"


# ---------------------------------------------------------------- a disk that fails


class FailsOnce(MemoryDisk):
    """Operations of a type fail with an I/O error."""

    def __init__(self, names: MemoryDisk, kind: type[DiskOp]) -> None:
        super().__init__()
        self.names = names.names
        self.kind = kind

    def perform(self, op: DiskOp) -> OpResult:
        if isinstance(op, self.kind):
            raise DiskFailure(FailureKind.IO, getattr(op, "path", ""), 0)
        return super().perform(op)


def test_a_disk_that_fails_while_it_is_verified_is_no_finding() -> None:
    disk, node = life()
    node.drain()
    with_index(disk, index([0], [WHOLE]))
    with pytest.raises(DiskFailure):
        check(FailsOnce(disk, ReadChunk), WithIndex(WHOLE))


def test_a_disk_that_fails_under_the_manifest_is_not_taken_for_a_full_one() -> None:
    disk, node = life()
    publish(node, 1)
    node.make_spare()
    node.drain()
    before = sorted(path for path in disk.names if path.startswith("journal/"))
    with pytest.raises(DiskFailure):
        open_directory(FailsOnce(disk, Rename))
    assert sorted(path for path in disk.names if path.startswith("journal/")) == before, "nothing was given up"
    assert open_directory(disk)[0].story() == {1: [1], 2: []}


def test_a_full_disk_gives_up_a_released_segment_to_be_opened() -> None:
    disk, node = life()
    node.append(1, PruneRecord(1))
    fill(node, 3)
    node.checkpoint()
    node.drain()
    story = node.history.story()
    first = node.manifest.first_segment
    released = [path for path in disk.names if path.startswith("journal/") and int(path[8:24]) < first]
    assert released
    disk.space = sum(len(inode.content) for inode in disk.names.values())
    history, _ = open_directory(disk)
    assert history.story() == story
    assert len([path for path in released if path in disk.names]) == len(released) - 1
