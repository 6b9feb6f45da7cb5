"""The simulated disk keeps exactly what it promised to keep, and loses the rest in every way it may."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.model.disk_ops import (
    Chunk,
    CopyChunks,
    CreateFile,
    Delete,
    DiskFailure,
    FailureKind,
    ListDir,
    Read,
    ReadChunk,
    Rename,
    SyncDir,
    SyncFile,
    Write,
)
from waymaker_sim.kernel.tape import Tape, Track
from waymaker_sim.machine.disk import SECTOR, DiskFaults, SimDisk


def new_disk(seed: int = 1, capacity: int = 1 << 62) -> SimDisk:
    return SimDisk(DiskFaults(capacity=capacity), Tape(seed).track("disk"))


def crash(seed: int) -> Track:
    return Tape(seed).track("crash")


def content(disk: SimDisk, path: str) -> bytes | None:
    try:
        data = disk.perform(Read(path, 0, 1 << 30))
    except DiskFailure as failure:
        assert failure.kind is FailureKind.MISSING
        return None
    assert isinstance(data, bytes)
    return data


def durable_file(disk: SimDisk, path: str, data: bytes) -> None:
    for op in (Write(path, 0, [data]), SyncFile(path), SyncDir(path.rpartition("/")[0])):
        disk.perform(op)


def test_what_was_synced_survives_any_loss_of_power() -> None:
    for seed in range(50):
        disk = new_disk()
        durable_file(disk, "a/f", b"x" * 2000)
        disk.lose_power(crash(seed))
        assert content(disk, "a/f") == b"x" * 2000


def test_every_outcome_of_an_unsynced_write_occurs() -> None:
    old, new = b"o" * 2048, b"n" * 2048
    fates = set()
    for seed in range(200):
        disk = new_disk()
        durable_file(disk, "f", old)
        disk.perform(Write("f", 0, [new]))
        disk.lose_power(crash(seed))
        after = content(disk, "f")
        assert after is not None and len(after) == 2048
        sectors = {bytes(after[at : at + SECTOR]) for at in range(0, 2048, SECTOR)}
        assert sectors <= {old[:SECTOR], new[:SECTOR]}, "a sector is old or new, never half"
        fates.add({old: "lost", new: "kept"}.get(after, "torn"))
    assert fates == {"lost", "kept", "torn"}


def test_the_benign_tape_keeps_everything() -> None:
    disk = new_disk()
    durable_file(disk, "f", b"o" * 600)
    disk.perform(Write("f", 0, [b"n" * 600]))
    disk.perform(Write("g", 0, [b"g"]))
    disk.lose_power(Tape(0, {}).track("crash"))
    assert content(disk, "f") == b"n" * 600
    assert content(disk, "g") == b"g"


def test_a_killed_process_leaves_its_writes_behind() -> None:
    disk = new_disk()
    disk.perform(Write("f", 0, [b"ab", b"cd"]))
    disk.perform(Write("memory/1/0", 0, [b"m"]))
    disk.kill()
    assert content(disk, "f") == b"abcd"
    assert content(disk, "memory/1/0") is None


def test_a_name_is_lost_or_kept_until_its_folder_is_synced() -> None:
    seen = set()
    for seed in range(100):
        disk = new_disk()
        disk.perform(Write("d/f", 0, [b"x"]))
        disk.perform(SyncFile("d/f"))
        disk.lose_power(crash(seed))
        seen.add(content(disk, "d/f"))
    assert seen == {None, b"x"}


def test_a_rename_is_atomic_and_durable_after_the_sync_of_its_folder() -> None:
    for seed in range(100):
        disk = new_disk()
        durable_file(disk, "MANIFEST", b"old")
        disk.perform(Write("MANIFEST.new", 0, [b"new"]))
        disk.perform(SyncFile("MANIFEST.new"))
        disk.perform(Rename("MANIFEST.new", "MANIFEST"))
        halfway = disk.copy(crash(0))
        disk.lose_power(crash(seed))
        assert content(disk, "MANIFEST") in (b"old", b"new")
        halfway.perform(SyncDir(""))
        halfway.lose_power(crash(seed))
        assert content(halfway, "MANIFEST") == b"new"


def test_a_deletion_that_was_not_synced_may_be_undone() -> None:
    seen = set()
    for seed in range(60):
        disk = new_disk()
        durable_file(disk, "d/f", b"x")
        disk.perform(Delete("d/f"))
        assert content(disk, "d/f") is None
        disk.lose_power(crash(seed))
        seen.add(content(disk, "d/f"))
    assert seen == {None, b"x"}


def test_a_failed_sync_may_give_pages_up_for_good() -> None:
    seen = set()
    for seed in range(60):
        disk = new_disk(seed)
        durable_file(disk, "f", b"old")
        disk.perform(Write("f", 0, [b"new"]))
        disk.faults.sync_error = 1_000_000
        with pytest.raises(DiskFailure):
            disk.perform(SyncFile("f"))
        disk.faults.sync_error = 0
        disk.perform(SyncFile("f"))
        assert content(disk, "f") == b"new", "readers still see the page cache"
        disk.lose_power(crash(0))
        seen.add(content(disk, "f"))
    assert seen == {b"old", b"new"}, "a second sync that succeeds proves nothing"


def test_a_full_disk_refuses_what_does_not_fit_and_nothing_else() -> None:
    disk = new_disk(capacity=1000)
    disk.perform(CreateFile("j", 900))
    disk.perform(Write("j", 0, [b"x" * 900]))
    with pytest.raises(DiskFailure) as caught:
        disk.perform(Write("k", 0, [b"y" * 200]))
    assert caught.value.kind is FailureKind.NO_SPACE
    with pytest.raises(DiskFailure):
        disk.perform(CreateFile("l", 101))
    disk.perform(Write("j", 100, [b"z" * 100]))
    disk.perform(Delete("j"))
    disk.perform(CreateFile("l", 1000))


def test_a_rotten_bit_is_found_by_the_checksum_of_its_chunk() -> None:
    disk = new_disk()
    data = bytes(range(256)) * 8
    durable_file(disk, "blocks/1/1.blk", data)
    chunk = Chunk("blocks/1/1.blk", 0, len(data), google_crc32c.value(data))
    assert disk.perform(ReadChunk(chunk)) == data
    assert disk.rot(crash(3)) is not None
    with pytest.raises(DiskFailure) as caught:
        disk.perform(ReadChunk(chunk))
    assert caught.value.kind is FailureKind.CORRUPT
    with pytest.raises(DiskFailure):
        disk.perform(CopyChunks("blocks/1/2.blk", 0, [chunk]))
    assert disk.rotten_paths() == ["blocks/1/1.blk"]


def test_rot_spares_the_journals_newest_batch() -> None:
    disk = new_disk()
    disk.perform(CreateFile("journal/1.seg", 4096))
    disk.perform(Write("journal/1.seg", 0, [b"a" * 2048]))
    disk.perform(SyncFile("journal/1.seg"))
    for seed in range(50):
        assert disk.rot(crash(seed)) is None, "the whole file was written by the newest sync"
    disk.perform(Write("journal/1.seg", 2048, [b"b" * 100]))
    disk.perform(SyncFile("journal/1.seg"))
    hit = [found[1] for seed in range(200) if (found := disk.rot(crash(seed))) is not None]
    assert hit
    assert not any(2048 <= offset < 2148 for offset in hit)


def test_copies_keep_ranges_and_tell_checksums() -> None:
    disk = new_disk()
    durable_file(disk, "a", b"0123456789")
    chunk = Chunk("a", 2, 6, google_crc32c.value(b"234567"))
    crcs = disk.perform(CopyChunks("b", 1, [chunk, chunk], [None, [(0, 1), (4, 6)]]))
    assert crcs == [chunk.crc, google_crc32c.value(b"267")]
    assert content(disk, "b") == b"\x00234567267"


def test_folders_list_files_and_folders_sorted() -> None:
    disk = new_disk()
    for path in ("b/2", "b/1", "c/d/e", "a"):
        disk.perform(Write(path, 0, [b"xyz"]))
    assert disk.perform(ListDir("")) == {"a": 3, "b": 0, "c": 0}
    assert disk.perform(ListDir("b")) == {"1": 3, "2": 3}
    assert disk.perform(ListDir("nowhere")) == {}


@given(st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=900)), max_size=6), st.integers(0, 99))
def test_a_torn_file_holds_only_versions_that_its_sectors_once_had(writes: list[tuple[int, bytes]], seed: int) -> None:
    disk = new_disk()
    durable_file(disk, "f", b"d" * 1024)
    image = bytearray(b"d" * 1024)
    versions: dict[int, set[bytes]] = {n: {b"d" * SECTOR} for n in range(2)}
    for offset, data in writes:
        disk.perform(Write("f", offset, [data]))
        if len(image) < offset:
            image.extend(bytes(offset - len(image)))
        image[offset : offset + len(data)] = data
        for n in range(8):
            versions.setdefault(n, set()).add(bytes(image[n * SECTOR : (n + 1) * SECTOR]))
    disk.lose_power(crash(seed))
    after = content(disk, "f")
    assert after is not None
    for n in range((len(after) + SECTOR - 1) // SECTOR):
        sector = after[n * SECTOR : (n + 1) * SECTOR]
        known = versions.get(n, set()) | {b""}
        assert any(sector == v.ljust(len(sector), b"\0") for v in known), n


def test_a_disk_that_copies_on_write_needs_room_for_what_is_written_over() -> None:
    for copies in (False, True):
        disk = SimDisk(DiskFaults(copy_on_write=copies), Tape(1).track("disk"))
        durable_file(disk, "journal/1", bytes(4_000))
        disk.faults.capacity = disk.used_bytes() + 100
        disk.perform(Write("journal/1", 500, [b"x" * 100]))
        if not copies:
            disk.perform(Write("journal/1", 500, [b"y" * 101]))
            continue
        with pytest.raises(DiskFailure) as caught:
            disk.perform(Write("journal/1", 500, [b"y" * 101]))
        assert caught.value.kind is FailureKind.NO_SPACE
        assert content(disk, "journal/1") == bytes(500) + b"y" * 100 + bytes(3_400), "what fits is written"
        disk.faults.capacity = 1 << 62
        disk.perform(Write("journal/1", 500, [b"y" * 101]))
        assert disk.used_bytes() == 4_000


def torn_images(whole: bool) -> set[bytes]:
    """Return what stops leave of a write that was unsynced, and of one that was under way, other than all or nothing."""
    first, second = b"a" * 1_500, b"b" * 1_500
    found = set()
    for seed in range(200):
        track = Tape(seed).track("stop")
        disk = SimDisk(DiskFaults(whole=whole), track)
        disk.perform(CreateFile("journal/1", 3_000))
        disk.perform(SyncFile("journal/1"))
        disk.perform(SyncDir("journal"))
        disk.perform(Write("journal/1", 0, (first,)))
        disk.interrupt(Write("journal/1", 1_500, (second,)), track)
        if seed % 2:
            disk.lose_power(track)
        image = bytes(disk._names["journal/1"].content)
        assert whole or not image.strip(b"\0") or disk.torn or image in {first + bytes(1_500), first + second}
        assert not (whole and disk.torn)
        found.add(image)
    return found - {bytes(3_000), first + bytes(1_500), first + second}


def test_a_stop_may_tear_what_was_written_unless_it_must_be_whole() -> None:
    assert len(torn_images(whole=False)) > 20
    assert torn_images(whole=True) == set()
