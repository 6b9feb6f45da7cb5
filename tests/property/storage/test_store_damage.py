"""A flipped bit is detected, named, and never skipped in silence, wherever it is."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.store_disk import MemoryDisk
from tests.kit.store_toy import LIMITS, History, ToyNode, bodies, open_directory
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import Chunk, DiskFailure, DiskOp, FailureKind, OpResult, Read
from waymaker_core.model.records import PruneRecord, Record, StreamCreated, StreamDeleted
from waymaker_core.storage.errors import CorruptStore, NotAStore, StoreRefused, UnknownStoreVersion, UnknownVersion
from waymaker_core.storage.frame import WATERMARK, directory_key, encode_header
from waymaker_core.storage.manifest import decode_manifest, encode_manifest
from waymaker_core.storage.recovery.recovery import Recovered, recover
from waymaker_core.storage.recovery.verify import Report, verify


def stopped(
    seed: int, rounds: int = 40
) -> tuple[MemoryDisk, dict[int, list[int]], dict[int, list[bytes]], list[tuple[str, int]]]:
    """A directory after an orderly stop: disk, what its streams say and hold, and the ends of its segments."""
    disk = MemoryDisk()
    node = ToyNode(disk, Random(seed))
    node.live(rounds)
    node.drain()
    ends = [(segment.path, segment.end) for segment in node.journal._segments]
    # Nothing vouches for the last mark itself, nor for a segment that only holds it; neither says anything.
    path, end = ends.pop()
    if end > 128:
        ends.append((path, end - 64))
    return disk, node.history.story(), bodies(disk, node.history), ends


def check(disk: MemoryDisk) -> tuple[History, Report]:
    """Verify, and see that nothing is written by it."""
    image = disk.image()
    history = History()
    report = disk.drive(verify(history, LIMITS))
    assert disk.image() == image
    return history, report


def open_or_refuse(disk: MemoryDisk) -> tuple[History, Recovered] | StoreRefused:
    try:
        return open_directory(disk)
    except StoreRefused as refused:
        return refused


@given(st.integers(0, 30))
def test_an_undamaged_directory_has_nothing_to_report(seed: int) -> None:
    disk, story, held, _ = stopped(seed)
    history, report = check(disk)
    assert not report.has_damage
    assert all(finding.path.startswith("tails/") for finding in report.findings)
    assert history.story() == story
    opened, recovered = open_directory(disk)
    assert (opened.story(), bodies(disk, opened)) == (story, held)
    assert recovered.quarantines == []
    assert recovered.warnings == []
    assert recovered.orphans == [finding.path for finding in report.findings]


@given(st.integers(0, 30), st.data())
def test_a_flipped_bit_in_the_journal_is_named(seed: int, data: st.DataObject) -> None:
    disk, story, _, ends = stopped(seed)
    path, end = data.draw(st.sampled_from(ends))
    bit = data.draw(st.integers(0, 8 * end - 1))
    disk.flip(path, bit)
    _, report = check(disk)
    assert path in [finding.path for finding in report.findings]
    outcome = open_or_refuse(disk)
    if isinstance(outcome, StoreRefused):
        assert isinstance(outcome, CorruptStore | UnknownStoreVersion)
        assert path in (outcome.path, *outcome.detail.split())
        assert report.has_damage
        return
    history, recovered = outcome
    assert recovered.quarantines or recovered.warnings
    for quarantine in recovered.quarantines:
        assert quarantine.path == path
        assert quarantine.offset <= bit // 8 < end
        assert quarantine.stream_id in [finding.stream_id for finding in report.findings]
    for warning in recovered.warnings:
        assert path in warning
    found = history.story()
    for stream_id, said in story.items():
        if stream_id not in history.quarantined:
            assert found[stream_id] == said
    again, second = open_directory(disk)
    assert again.story() == found
    assert len(second.quarantines) == len(recovered.quarantines)


@given(st.integers(0, 30), st.data())
def test_a_flipped_bit_in_a_checkpoint_is_named(seed: int, data: st.DataObject) -> None:
    disk, story, _, _ = stopped(seed, rounds=80)
    paths = [path for path in disk.names if path.startswith("checkpoints/")]
    if not paths:
        return
    path = data.draw(st.sampled_from(sorted(paths)))
    disk.flip(path, data.draw(st.integers(0, 8 * len(disk.names[path].content) - 1)))
    _, report = check(disk)
    assert any(path == finding.path or path in finding.detail for finding in report.findings)
    outcome = open_or_refuse(disk)
    if isinstance(outcome, StoreRefused):
        assert outcome.path == path
        return
    history, recovered = outcome
    assert path in [quarantine.path for quarantine in recovered.quarantines] or any(
        path in w for w in recovered.warnings
    )
    for stream_id, said in story.items():
        if stream_id not in history.quarantined:
            assert history.story()[stream_id] == said


def test_damage_inside_a_snapshot_takes_only_its_stream() -> None:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(1))
    for stream_id in (1, 2):
        node.append(0, StreamCreated(stream_id, StreamConfig("s"), 5))
    node.streams = [1, 2]
    node.append(1, PruneRecord(1))
    node.append(2, PruneRecord(2))
    node.flush()
    node.checkpoint()
    node.drain()
    path = f"checkpoints/{node.chain.files[-1].number}.ckpt"
    content = bytes(disk.names[path].content)
    frames = [at for at in range(64, len(content), 8) if content[at : at + 4] == b"WMfr"]
    for at, stream_id in zip(frames, (0, 1, 2), strict=False):
        twin = disk.copy()
        twin.flip(path, 8 * (at + 64))
        outcome = open_or_refuse(twin)
        if stream_id == 0:
            assert isinstance(outcome, CorruptStore)
            assert (outcome.path, outcome.offset) == (path, at)
            assert "the catalogue is damaged" in outcome.detail
        else:
            assert not isinstance(outcome, StoreRefused)
            assert [(q.stream_id, q.path, q.offset) for q in outcome[1].quarantines] == [(stream_id, path, at)]


@given(st.integers(0, 30), st.data())
def test_a_flipped_bit_in_a_tail_is_named_and_never_served(seed: int, data: st.DataObject) -> None:
    disk, _, held, _ = stopped(seed, rounds=80)
    named = [
        (stream_id, chunk) for stream_id, chunk in open_directory(disk)[0].chunks() if chunk.path.startswith("tails/")
    ]
    if not named:
        return
    stream_id, chunk = data.draw(st.sampled_from(named))
    in_header = data.draw(st.booleans())
    start, length = (0, 64) if in_header else (chunk.offset, chunk.length)
    disk.flip(chunk.path, data.draw(st.integers(8 * start, 8 * (start + length) - 1)))
    _, report = check(disk)
    found = [(finding.path, finding.offset, finding.stream_id) for finding in report.findings if not finding.harmless]
    assert found == [(chunk.path, start, -1 if in_header else stream_id)]
    history, _ = open_directory(disk)
    if not in_header:
        assert stream_id in held
        with pytest.raises(DiskFailure):
            bodies(disk, history)


@given(st.integers(0, 5), st.data())
def test_a_flipped_bit_in_the_manifest_refuses_the_directory(seed: int, data: st.DataObject) -> None:
    disk, _, _, _ = stopped(seed, rounds=20)
    size = len(disk.names["MANIFEST"].content)
    disk.flip("MANIFEST", data.draw(st.integers(0, 8 * size - 1)))
    image = disk.image()
    for _ in range(2):
        refused = open_or_refuse(disk)
        assert isinstance(refused, CorruptStore)
        assert refused.path == "MANIFEST"
        assert disk.image() == image
    with pytest.raises(StoreRefused):
        check(disk)


@given(st.integers(0, 30), st.data())
def test_a_refused_directory_is_left_as_it_is(seed: int, data: st.DataObject) -> None:
    disk, _, _, ends = stopped(seed)
    path, _ = data.draw(st.sampled_from(ends))
    disk.flip(path, 8 * 80)
    image = disk.image()
    if isinstance(open_or_refuse(disk), StoreRefused):
        assert disk.image() == image


def test_a_lost_manifest_is_never_a_new_directory() -> None:
    disk, _, _, _ = stopped(1)
    del disk.names["MANIFEST"]
    refused = open_or_refuse(disk)
    assert isinstance(refused, NotAStore)
    assert "the manifest was lost" in str(refused)


def test_somebody_else_s_folder_is_not_taken() -> None:
    disk = MemoryDisk()
    disk.names["notes.txt"] = MemoryDisk().names.setdefault("x", _empty(disk))
    refused = open_or_refuse(disk)
    assert isinstance(refused, NotAStore)
    assert "'notes.txt'" in str(refused)


def _empty(disk: MemoryDisk):  # type: ignore[no-untyped-def]
    from waymaker_core.model.disk_ops import CreateFile

    disk.perform(CreateFile("x", 0))
    return disk.names.pop("x")


@pytest.mark.parametrize("name", ["LOCK", "MANIFEST.new", "lost+found"])
def test_a_folder_with_only_our_beginnings_is_new(name: str) -> None:
    disk = MemoryDisk()
    disk.names[name] = _empty(disk)
    _, recovered = open_directory(disk)
    assert recovered.is_new


def test_a_missing_segment_is_named() -> None:
    disk, _, _, ends = stopped(2)
    for path, _ in ends[:-1]:
        twin = disk.copy()
        del twin.names[path]
        refused = open_or_refuse(twin)
        assert isinstance(refused, CorruptStore)
        assert refused.path in {path, _before(path)}


def _before(path: str) -> str:
    return f"journal/{int(path[8:24]) - 1:016d}.seg"


def test_a_missing_checkpoint_or_tail_is_named() -> None:
    disk, _, _, _ = stopped(3, rounds=80)
    checkpoints = [path for path in disk.names if path.startswith("checkpoints/")]
    tails = [path for path in disk.names if path.startswith("tails/")]
    assert checkpoints
    assert tails
    for path in checkpoints:
        twin = disk.copy()
        del twin.names[path]
        refused = open_or_refuse(twin)
        assert isinstance(refused, CorruptStore)
        assert (refused.path, refused.detail) == (path, "the checkpoint is missing")
    for path in tails:
        twin = disk.copy()
        del twin.names[path]
        outcome = open_or_refuse(twin)
        assert not isinstance(outcome, StoreRefused)
        assert {(q.path, q.detail) for q in outcome[1].quarantines} == {(path, "the file is missing")}
        assert path in [finding.path for finding in check(twin)[1].findings]


def test_a_manifest_older_than_the_journal_is_refused() -> None:
    disk, _, _, _ = stopped(4)
    old = bytes(disk.names["MANIFEST"].content)
    node = ToyNode(disk, Random(4))
    node.live(3)
    disk.names["MANIFEST"].content[:] = old
    refused = open_or_refuse(disk)
    assert isinstance(refused, CorruptStore)
    assert "the manifest knows of 1: it is too old" in str(refused)


def test_an_unknown_version_of_a_file_is_refused_by_name() -> None:
    disk, _, _, _ = stopped(5)
    content = disk.names["MANIFEST"].content
    manifest = decode_manifest(bytes(content))
    raw = bytearray(encode_manifest(manifest)[:-4])
    raw[8] = 9
    from waymaker_core.storage.checksum import crc32c

    content[:] = raw + crc32c(bytes(raw)).to_bytes(4, "little")
    refused = open_or_refuse(disk)
    assert isinstance(refused, UnknownStoreVersion)
    assert "MANIFEST" in str(refused)
    assert "version 9; this program knows versions up to 2" in str(refused)


def test_an_unknown_kind_of_record_is_refused_by_name() -> None:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(6))
    node.append(0, StreamCreated(1, StreamConfig("s"), 5))
    node.flush()
    segment = node.journal._segments[-1]
    frame = encode_header(node.key, 31, 1, 0, 1, 0, 2, segment.end, 1, 0, 0, 0, 0)
    disk.names[segment.path].content[segment.end : segment.end + 64] = frame
    disk.kill()
    refused = open_or_refuse(disk)
    assert isinstance(refused, UnknownStoreVersion)
    assert (refused.path, refused.offset) == (segment.path, segment.end)


def test_bytes_of_a_message_cannot_pass_for_a_frame() -> None:
    """A client's message that is a frame, valid under any key but the directory's, proves nothing behind a torn tail."""
    disk = MemoryDisk()
    node = ToyNode(disk, Random(7))
    node.append(0, StreamCreated(1, StreamConfig("s"), 5))
    node.flush()
    forged = encode_header(directory_key(b"a guess of an id"), WATERMARK, 1, 0, 1, 0, 0, 1 << 40, 1, 0, 0, 0, 0)
    segment = node.journal._segments[-1]
    disk.names[segment.path].content[segment.end + 64 : segment.end + 128] = forged
    disk.kill()
    history, recovered = open_directory(disk)
    assert history.story() == {1: []}
    assert recovered.cut_at is None


def test_damage_in_a_deleted_stream_s_record_takes_nothing_away() -> None:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(8))
    for stream_id in (1, 2):
        node.append(0, StreamCreated(stream_id, StreamConfig("s"), 5))
    node.append(0, StreamDeleted(1))
    node.flush()
    node.next_seq = {}
    node.streams = [1]
    segment = node.journal._segments[-1]
    start = segment.end
    while segment.end == start:
        node._one_record()
    node.flush()
    node.drain()
    disk.flip(segment.path, 8 * (start + 64))
    _, recovered = open_directory(disk)
    assert recovered.quarantines == []
    assert len(recovered.warnings) == 1
    assert "which is deleted" in recovered.warnings[0]


def test_a_read_error_is_not_taken_for_damage() -> None:
    disk, _, _, ends = stopped(9)

    class Failing(MemoryDisk):
        def perform(self, op: DiskOp) -> OpResult:
            if isinstance(op, Read) and op.path == ends[0][0]:
                raise DiskFailure(FailureKind.IO, op.path, op.offset)
            return super().perform(op)

    failing = Failing()
    failing.names = disk.names
    with pytest.raises(DiskFailure) as caught:
        open_directory(failing)
    assert caught.value.path == ends[0][0]


class Stubborn(History):
    """A target whose state cannot take what it is given."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem

    def snapshot(self, stream_id: int, position: int, meta: bytes) -> None:
        if stream_id == 1:
            raise self.problem
        super().snapshot(stream_id, position, meta)

    def record(self, stream_id: int, position: int, record: Record, chunk: Chunk | None) -> None:
        if stream_id == 1:
            raise self.problem
        super().record(stream_id, position, record, chunk)


def one_stream(checkpoint: bool) -> MemoryDisk:
    """A stream, and another one, with a record each behind the checkpoint or in it."""
    disk = MemoryDisk()
    node = ToyNode(disk, Random(1))
    for stream_id in (1, 2):
        node.append(0, StreamCreated(stream_id, StreamConfig("s"), 5))
        node.append(stream_id, PruneRecord(1))
    node.streams = [1, 2]
    node.flush()
    if checkpoint:
        node.checkpoint()
    node.drain()
    return disk


@pytest.mark.parametrize("checkpoint", [False, True], ids=["a record", "a snapshot"])
@pytest.mark.parametrize(
    "problem", [AssertionError("no"), KeyError("no"), OverflowError("no"), TypeError("no")], ids=repr
)
def test_what_no_state_can_take_quarantines_its_stream(checkpoint: bool, problem: Exception) -> None:
    target = Stubborn(problem)
    recovered = one_stream(checkpoint).drive(recover(target, LIMITS, bytes(16)))
    assert [quarantine.stream_id for quarantine in recovered.quarantines] == [1]
    (found,) = recovered.quarantines
    assert found.path.startswith("checkpoints/" if checkpoint else "journal/")
    assert found.offset >= 64
    assert "no" in found.detail
    assert target.story()[2] == [-1]


@pytest.mark.parametrize("checkpoint", [False, True], ids=["a record", "a snapshot"])
def test_a_state_of_a_version_to_come_refuses_the_directory_by_name(checkpoint: bool) -> None:
    with pytest.raises(UnknownStoreVersion, match="a state has version 9; this program knows versions up to 1"):
        one_stream(checkpoint).drive(recover(Stubborn(UnknownVersion("a state", 9, 1)), LIMITS, bytes(16)))
