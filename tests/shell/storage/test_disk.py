"""The real disk: operations, failures, lanes, cached and uncached reads, one process a directory."""

from __future__ import annotations

import contextlib
import errno
import gc
import multiprocessing
import os
import resource
import shutil
import threading
import time
from array import array
from collections.abc import Generator
from pathlib import Path
from queue import Queue

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker.storage.cache import ChunkCache
from waymaker.storage.files import Files
from waymaker.storage.lock import DirectoryLock, DirectoryLocked
from waymaker.storage.store import Bodies, FileStore, JobResult
from waymaker.wire.messages import wire_messages
from waymaker_core.api.effects import Job, Lane
from waymaker_core.api.requests import Messages, Run
from waymaker_core.model.disk_ops import (
    Chunk,
    CopyChunks,
    CreateFile,
    Delete,
    DiskFailure,
    DiskOp,
    FailureKind,
    ListDir,
    OpResult,
    Read,
    ReadChunk,
    Rename,
    SyncDir,
    SyncFile,
    Write,
)
from waymaker_core.model.message_codec import wire_message
from waymaker_core.model.types import JobId
from waymaker_proto.waymaker_streams_pb2 import MessagePb


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path, ChunkCache(1 << 20))


def chunk_of(path: str, offset: int, data: bytes) -> Chunk:
    return Chunk(path, offset, len(data), google_crc32c.value(data))


def test_a_created_file_has_its_size_and_only_zeros(files: Files, tmp_path: Path) -> None:
    files.perform(CreateFile("journal/1", 3 << 20))
    assert (tmp_path / "journal/1").read_bytes() == bytes(3 << 20)
    assert os.stat(tmp_path / "journal/1").st_blocks * 512 >= 3 << 20


def test_what_is_written_is_read_and_listed(files: Files) -> None:
    files.perform(Write("a/b", 10, [b"one", b"two"]))
    files.perform(SyncFile("a/b"))
    files.perform(SyncDir("a"))
    assert files.perform(Read("a/b", 8, 5)) == b"\0\0one"
    assert files.perform(Read("a/b", 13, 100)) == b"two"
    assert files.perform(Read("a/b", 99, 5)) == b""
    assert files.perform(ListDir("a")) == {"b": 16}
    assert files.perform(ListDir("nothing")) == {}


def test_large_parts_of_a_write_lie_where_small_ones_would(files: Files, tmp_path: Path) -> None:
    parts = [b"head", bytes([1]) * 300_000, b"", b"pad", bytes([2]) * 200_000, bytes([3]) * 200_000, b"end"]
    files.perform(Write("journal/1", 7, parts))
    assert (tmp_path / "journal/1").read_bytes() == bytes(7) + b"".join(parts)


def test_a_missing_file_is_missing_and_deleting_it_is_fine(files: Files) -> None:
    with pytest.raises(DiskFailure) as caught:
        files.perform(Read("a/b", 0, 1))
    assert (caught.value.kind, caught.value.path) == (FailureKind.MISSING, "a/b")
    files.perform(Delete("a/b"))


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, FailureKind.NO_SPACE, "no space left"),
        (errno.EDQUOT, FailureKind.NO_SPACE, "quota"),
        (errno.EROFS, FailureKind.IO, "read-only"),
        (errno.EACCES, FailureKind.IO, "permission denied"),
        (errno.ENOTDIR, FailureKind.IO, "not a directory"),
        (errno.EMFILE, FailureKind.IO, "too many open files"),
        (errno.EIO, FailureKind.IO, "Input/output error"),
    ],
)
def test_an_error_of_the_system_is_told_by_its_own_name(
    files: Files, monkeypatch: pytest.MonkeyPatch, number: int, kind: FailureKind, words: str
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DiskFailure) as caught:
        files.perform(Write("a", 0, [b"x"]))
    assert caught.value.kind is kind
    assert words in caught.value.detail


def test_files_are_opened_though_connections_have_used_up_the_descriptors(files: Files) -> None:
    files.perform(Write("a/1", 0, [b"x"]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for number in range(2, 12):  # more than the idle handles give
            files.perform(CreateFile(f"a/{number}", 10))
            files.perform(Write(f"a/{number}", 0, [b"%d" % number]))
            files.perform(SyncFile(f"a/{number}"))
        files.perform(SyncDir("a"))
        assert files.perform(Read("a/2", 0, 1)) == b"2"
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_sync_of_a_file_that_has_lost_its_name_fails(files: Files, tmp_path: Path) -> None:
    files.perform(Write("a", 0, [b"x"]))
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(DiskFailure, match="removed or replaced"):
        files.perform(SyncFile("a"))
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(DiskFailure, match="removed or replaced"):
        files.perform(SyncFile("a"))


@pytest.mark.parametrize("above", [False, True], ids=["removed", "removed with its parent"])
@pytest.mark.parametrize(
    "op",
    [CreateFile("journal/1", 10), Write("blocks/1/2", 0, [b"x"]), Write("top", 0, [b"x"]), CopyChunks("a/b", 0, [])],
)
def test_a_data_directory_that_was_removed_is_never_made_anew(tmp_path: Path, op: DiskOp, above: bool) -> None:
    root = tmp_path / "parent" / "data"
    root.mkdir(parents=True)
    files = Files(root, ChunkCache(1 << 20))
    files.perform(Write("blocks/1/1", 0, [b"x"]))
    files.perform(SyncFile("blocks/1/1"))
    shutil.rmtree(root.parent if above else root)
    for _ in range(2):
        with pytest.raises(DiskFailure, match="data directory was removed") as caught:
            files.perform(op)
        assert caught.value.kind is FailureKind.IO
    assert not root.exists()
    root.mkdir(parents=True)
    with pytest.raises(DiskFailure, match="data directory was removed"):
        files.perform(op)
    assert list(root.iterdir()) == [], "another directory is not ours"
    files.close()


def test_a_directory_in_the_place_of_one_that_was_moved_gets_no_file(tmp_path: Path) -> None:
    root, moved = tmp_path / "data", tmp_path / "moved"
    root.mkdir()
    files = Files(root, ChunkCache(1 << 20))
    files.perform(Write("blocks/1/1", 0, [b"x"]))
    root.rename(moved)
    root.mkdir()
    for op in (
        CreateFile("journal/1", 10), Write("blocks/2/2", 0, [b"x"]), Write("top", 0, [b"x"]), CopyChunks("a/b", 0, []),
        SyncFile("top"), SyncDir("blocks/2"), Rename("top", "MANIFEST"), Delete("blocks/1/1"), SyncDir("blocks/1"),
    ):  # fmt: skip
        files.perform(op)
    assert list(root.iterdir()) == []
    assert files.perform(ListDir("")) == {"MANIFEST": 1, "a": 0, "blocks": 0, "journal": 0}
    assert (moved / "MANIFEST").read_bytes() == b"x"
    files.close()


def test_rename_replaces_and_the_old_content_is_no_longer_served(files: Files) -> None:
    files.perform(Write("old", 0, [b"old!"], [(0, b"old!")]))
    files.perform(Write("new", 0, [b"new!"]))
    assert files.perform(Read("old", 0, 4)) == b"old!"
    files.perform(Rename("new", "old"))
    assert files.perform(Read("old", 0, 4)) == b"new!"
    with pytest.raises(DiskFailure) as caught:
        files.perform(ReadChunk(chunk_of("old", 0, b"old!")))
    assert caught.value.kind is FailureKind.CORRUPT


def test_an_emptied_folder_goes_and_its_parent_can_be_synced(files: Files, tmp_path: Path) -> None:
    files.perform(Write("blocks/7/3.blk", 0, [b"x"]))
    files.perform(Delete("blocks/7/3.blk"))
    assert not (tmp_path / "blocks/7").exists()
    files.perform(SyncDir("blocks/7"))


@pytest.mark.parametrize("damage", ["flip", "short"])
def test_a_damaged_chunk_is_named_and_never_returned(files: Files, tmp_path: Path, damage: str) -> None:
    data = os.urandom(5000)
    files.perform(Write("f", 100, [data]))
    chunk = chunk_of("f", 100, data)
    assert files.read_chunk(chunk) == data
    fresh = Files(tmp_path, ChunkCache(0))
    if damage == "flip":
        with (tmp_path / "f").open("r+b") as f:
            f.seek(2600)
            byte = f.read(1)[0]
            f.seek(2600)
            f.write(bytes([byte ^ 4]))
    else:
        os.truncate(tmp_path / "f", 3000)
    for op in (ReadChunk(chunk), CopyChunks("g", 0, [chunk])):
        with pytest.raises(DiskFailure) as caught:
            fresh.perform(op)
        assert (caught.value.kind, caught.value.path, caught.value.offset) == (FailureKind.CORRUPT, "f", 100)


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 40)), max_size=20),
    st.integers(0, 100),
    st.data(),
)
def test_copies_are_what_was_kept_of_the_sources(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, int]], start: int, data: st.DataObject
) -> None:
    files = Files(tmp_path_factory.mktemp("copy"), ChunkCache(0))
    sources: list[Chunk] = []
    keep: list[list[tuple[int, int]] | None] = []
    want: list[bytes] = []
    at = 0
    for piece, gap in pieces:
        at += gap
        files.perform(Write("src", at, [piece]))
        sources.append(chunk_of("src", at, piece))
        at += len(piece)
        if data.draw(st.booleans()):
            keep.append(None)
            want.append(piece)
        else:
            cut = data.draw(st.integers(0, len(piece)))
            keep.append([(0, cut // 2), (cut, len(piece))])
            want.append(piece[: cut // 2] + piece[cut:])
    crcs = files.perform(CopyChunks("dst", start, sources, keep))
    assert crcs == [google_crc32c.value(part) for part in want]
    if any(want):
        assert files.perform(Read("dst", start, 1 << 20)) == b"".join(want)


def test_memory_files_never_reach_the_disk(files: Files, tmp_path: Path) -> None:
    files.perform(Write("memory/4/0", 3, [b"abc"]))
    files.perform(SyncFile("memory/4/0"))
    files.perform(SyncDir("memory/4"))
    assert files.read_chunk(chunk_of("memory/4/0", 3, b"abc")) == b"abc"
    assert list(tmp_path.iterdir()) == []
    files.perform(Delete("memory/4/0"))
    with pytest.raises(DiskFailure):
        files.perform(Read("memory/4/0", 0, 1))


def test_a_full_disk_is_no_space_and_leaves_no_half_file(files: Files, tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "full").symlink_to(full)
    with pytest.raises(DiskFailure) as caught:
        files.perform(Write("full", 0, [b"x"]))
    assert (caught.value.kind, caught.value.path) == (FailureKind.NO_SPACE, "full")


def test_the_cache_holds_its_bound_and_forgets_files() -> None:
    cache = ChunkCache(1000)
    for n in range(50):
        cache.put(f"f{n % 3}", n, bytes(100))
    assert cache.byte_count <= 1000
    assert cache.get("f1", 49, 100) == bytes(100)
    assert cache.get("f1", 49, 99) is None
    cache.forget("f1")
    assert cache.get("f1", 49, 100) is None
    cache.put("big", 0, bytes(999))
    assert cache.get("big", 0, 999) is None


def _wait(store: FileStore, job: Job) -> JobResult:
    outcome: Queue[JobResult] = Queue()
    store.submit(job, lambda _, result: outcome.put(result))
    return outcome.get(timeout=5)


def test_a_job_stops_at_its_first_failure_and_says_which(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    job = Job(JobId(1), Lane.JOURNAL, [Write("a", 0, [b"x"]), SyncFile("a"), Read("none", 0, 1), Write("b", 0, [b"y"])])
    result = _wait(store, job)
    assert isinstance(result, DiskFailure)
    assert (result.kind, result.path, result.op_index) == (FailureKind.MISSING, "none", 2)
    assert (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    store.close()


def _run(path: str, first_seq: int, payloads: list[bytes], count: int) -> tuple[Run, bytes]:
    body = b"".join(payloads)
    times = array("q", [1000 + n // 2 for n in range(len(payloads))])
    chunk = chunk_of(path, 8, body)
    return Run(chunk, 0, array("I", map(len, payloads)), first_seq, times, count), body


def test_bodies_come_from_memory_when_they_can_and_from_disk_when_they_must(tmp_path: Path) -> None:
    run, body = _run("journal/1", 300, [b"\x12\x01a\x2a\x01x", b"\x12\x01b\x2a\x02yz"], 3)
    messages = Messages([run], 2, len(body))
    store = FileStore(tmp_path)
    _wait(store, Job(JobId(1), Lane.JOURNAL, [Write("journal/1", 8, [body], [(8, body)])]))
    assert store.cached_bodies(messages) == [body]
    store.close()

    store = FileStore(tmp_path)
    assert store.cached_bodies(messages) is None
    outcome: Queue[Bodies | DiskFailure] = Queue()
    store.read_bodies(messages, outcome.put)
    assert outcome.get(timeout=5) == [body]
    assert store.cached_bodies(messages) == [body]
    wire = wire_messages(messages, [body])
    assert wire == [wire_message(300, 1000, body[:6], 3), wire_message(301, 1000, body[6:], 3)]
    second = MessagePb.FromString(wire[1])
    assert (second.seq, second.subject, second.payload, second.ts_ms, second.deliver_count) == (
        301,
        "b",
        b"yz",
        1000,
        3,
    )
    store.close()


def test_deleting_waits_for_messages_that_are_read_later(tmp_path: Path) -> None:
    run, body = _run("blocks/1-2.blk", 300, [b"\x12\x01a\x2a\x01x"], 3)
    messages = Messages([run], 1, len(body))
    store = FileStore(tmp_path, cache_bytes=0)
    _wait(store, Job(JobId(1), Lane.BACKGROUND, [Write("blocks/1-2.blk", 8, [body])]))
    let_go = store.hold(messages)
    deleted: Queue[object] = Queue()
    delete = Job(JobId(2), Lane.BACKGROUND, [Delete("blocks/1-2.blk")])
    store.submit(delete, lambda job, result: deleted.put(result))
    outcome: Queue[Bodies | DiskFailure] = Queue()
    store.read_bodies(messages, outcome.put)
    assert outcome.get(timeout=5) == [body]
    assert deleted.empty() and (tmp_path / "blocks/1-2.blk").exists()
    let_go()
    assert deleted.get(timeout=5) == [None]
    assert not (tmp_path / "blocks/1-2.blk").exists()
    store.close()


def test_deleting_waits_for_a_read_that_was_handed_out(tmp_path: Path) -> None:
    files = Files(tmp_path, ChunkCache(0))
    files.perform(Write("f", 0, [b"x"]))
    files.pin("f")
    deleted = threading.Thread(target=files.perform, args=(Delete("f"),))
    deleted.start()
    deleted.join(0.05)
    assert deleted.is_alive() and (tmp_path / "f").exists()
    files.unpin("f")
    deleted.join(5)
    assert not (tmp_path / "f").exists()


def test_a_segment_is_not_used_again_under_a_reader(tmp_path: Path) -> None:
    """The bytes under its name are those that were there until the read is over, and the new name never has them."""
    old, new = "journal/0000000000000001.seg", "journal/0000000000000009.seg"
    run, body = _run(old, 64, [b"\x12\x01a\x2a\x01x"], 3)
    messages = Messages([run], 1, len(body))
    store = FileStore(tmp_path, cache_bytes=0)
    _wait(store, Job(JobId(1), Lane.BACKGROUND, [Write(old, 8, [body])]))
    let_go = store.hold(messages)
    ended: Queue[object] = Queue()
    recycle = Job(JobId(2), Lane.BACKGROUND, [Rename(old, new), Write(new, 0, [bytes(64 + len(body))])])
    store.submit(recycle, lambda job, result: ended.put(result))
    outcome: Queue[Bodies | DiskFailure] = Queue()
    store.read_bodies(messages, outcome.put)
    assert outcome.get(timeout=5) == [body]
    assert ended.empty() and not (tmp_path / new).exists()
    let_go()
    assert ended.get(timeout=5) == [None, None]
    assert not (tmp_path / old).exists()
    store.close()


def _try_lock(root: Path, answers: multiprocessing.Queue[int]) -> None:
    try:
        DirectoryLock(root)
        answers.put(-1)
    except DirectoryLocked as locked:
        answers.put(locked.pid)


def test_a_second_process_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[int] = context.Queue()
    for expected in (os.getpid(), -1):
        process = context.Process(target=_try_lock, args=(tmp_path, answers))
        process.start()
        assert answers.get(timeout=30) == expected
        process.join()
        lock.release()


@pytest.mark.parametrize("fails", [False, True])
def test_no_collector_walks_through_what_a_recovery_builds(tmp_path: Path, fails: bool) -> None:
    built: list[list[int]] = []

    def steps() -> Generator[DiskOp, OpResult, int]:
        for number in range(20_000):
            built.append([number])
        yield Read("missing", 0, 1) if fails else ListDir("")
        return len(built)

    walks: list[str] = []
    store = FileStore(tmp_path)
    gc.callbacks.append(count := lambda phase, _: walks.append(phase))
    try:
        with pytest.raises(DiskFailure) if fails else contextlib.nullcontext():
            assert store.drive(steps()) == 20_000
    finally:
        gc.callbacks.remove(count)
        store.close()
    assert walks == []
    assert gc.isenabled()
    assert not any(each is built for each in gc.get_objects(generation=0)), "the next walk would meet it as new"
    assert gc.get_freeze_count() == 0


def test_the_time_of_a_sync_is_that_of_most_and_not_of_the_slowest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path / "data")
    took = 0.0
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    perform = Files.perform

    def timed(files: Files, op: DiskOp) -> OpResult:
        now[0] += took if isinstance(op, SyncFile) else 0.0
        return perform(files, op)

    monkeypatch.setattr(Files, "perform", timed)
    job = Job(JobId(1), Lane.JOURNAL, [Write("journal/1", 0, [b"x"]), SyncFile("journal/1")])

    def sync(times: int, seconds: float) -> float:
        nonlocal took
        took = seconds
        for _ in range(times):
            assert not isinstance(store.run(job), DiskFailure)
        return store.sync_s

    try:
        for _ in range(20):
            sync(19, 0.0001)
            assert sync(1, 0.5) < 0.0005, "one slow sync among quick ones"
        assert sync(20, 0.005) > 0.001, "most are slow"
        assert sync(40, 0.0001) < 0.0005, "and quick again"
    finally:
        store.close()
