"""Recovery after a crash at any operation: what was confirmed is there, in order, and twice the same."""

from __future__ import annotations

from array import array
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.store_disk import Crash, MemoryDisk
from tests.kit.store_toy import FRESH_ID, LIMITS, History, ToyNode, bodies, open_directory
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import DiskFailure, FailureKind, Write
from waymaker_core.model.records import PublishRecord, StreamCreated
from waymaker_core.storage.errors import JournalFull
from waymaker_core.storage.frame import frame_bytes
from waymaker_core.storage.record_codec import encode
from waymaker_core.storage.recovery.recovery import recover

SEEDS = st.integers(0, 1 << 32)


def expected_stories(node: ToyNode, count: int) -> dict[int, list[int]]:
    """What the streams say after the first `count` records that were submitted, on top of what the node began with."""
    history = History()
    history.alive = dict(node.began_alive)
    history.positions = dict(node.began_positions)
    history.said = {stream_id: list(said) for stream_id, said in node.began_said.items()}
    for stream_id, position, record in node.submitted[:count]:
        if stream_id == 0 or history.exists(stream_id):
            history.record(stream_id, position, record, None)
    return history.story()


def check_survival(node: ToyNode, story: dict[int, list[int]], kept_at_least: int) -> None:
    """The state is that of a prefix of what was submitted, and the prefix holds all that was confirmed."""
    for count in range(kept_at_least, len(node.submitted) + 1):
        if story == expected_stories(node, count):
            return
    raise AssertionError(f"no prefix of at least {kept_at_least} records gives {story}")


def crash_and_recover(node: ToyNode, random: Random, power_loss: bool) -> MemoryDisk:
    """Whatever a crash leaves is recovered, twice the same, and holds what was confirmed."""
    disk = node.disk
    confirmed = len(node.confirmed) if not power_loss or not node.lazy else node.synced
    if power_loss:
        disk.lose_power(random)
    else:
        disk.kill()
        if random.random() < 0.5:
            disk.give_up_writing()
    twin = disk.copy()
    history, recovered = open_directory(disk)
    serve_only_what_lasts(disk, random, history)
    assert recovered.quarantines == []
    assert recovered.warnings == []
    check_survival(node, history.story(), confirmed)
    stored = bodies(disk, history)
    again, second = open_directory(disk)
    assert again.story() == history.story()
    assert bodies(disk, again) == stored
    assert second.cut_bytes == 0
    interrupt_recovery(twin, random, history.story(), power_loss)
    return disk


def serve_only_what_lasts(disk: MemoryDisk, random: Random, history: History) -> None:
    """What recovery handed over may be told to anybody: a loss of power right afterwards takes nothing of it away."""
    twin = disk.copy()
    twin.lose_power(random)
    again, _ = open_directory(twin)
    assert again.story() == history.story()
    assert bodies(twin, again) == bodies(disk, history)


def interrupt_recovery(disk: MemoryDisk, random: Random, story: dict[int, list[int]], power_loss: bool) -> None:
    """A recovery that dies midway changes nothing for the next one."""
    crash_in = 0
    while True:
        disk.crash_in = crash_in
        try:
            history, _ = open_directory(disk)
        except Crash:
            if power_loss:
                disk.lose_power(random)
            else:
                disk.kill()
            crash_in += random.randint(1, 3)
        else:
            assert history.story() == story
            return


@given(SEEDS, st.booleans(), st.booleans())
def test_a_crash_at_any_operation_loses_nothing_that_was_confirmed(seed: int, power_loss: bool, lazy: bool) -> None:
    random = Random(seed)
    disk = MemoryDisk()
    for _ in range(random.randint(1, 4)):
        node = ToyNode(disk, random, lazy=lazy)
        disk.crash_in = random.randint(1, 120)
        with pytest.raises(Crash):
            node.live(10_000)
        disk = crash_and_recover(node, random, power_loss)


@pytest.mark.parametrize("power_loss", [False, True], ids=["killed", "power lost"])
def test_every_single_crash_point_of_one_life_is_survived(power_loss: bool) -> None:
    quiet = MemoryDisk()
    ToyNode(quiet, Random(3)).live(40)
    for crash_in in range(quiet.written_ops):
        disk = MemoryDisk()
        disk.crash_in = crash_in
        node = None
        try:
            node = ToyNode(disk, Random(3))
            node.live(40)
        except Crash:
            pass
        if node is not None:
            crash_and_recover(node, Random(crash_in), power_loss)
        else:
            interrupt_recovery(disk, Random(crash_in), {}, power_loss)


def test_an_orderly_stop_is_known_and_leaves_nothing_to_cut() -> None:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(1))
    node.live(30)
    node.drain()
    disk.lose_power(Random(2))
    history, recovered = open_directory(disk)
    assert recovered.clean
    assert recovered.cut_at is None
    assert history.story() == node.history.story()
    # Opened and killed before it wrote anything: it may have delivered, so nothing is known for certain any more.
    _, later = open_directory(disk)
    assert not later.clean


def test_a_stop_that_something_followed_is_not_orderly() -> None:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(1))
    node.live(5)
    node.drain()
    for _ in range(2):
        node.append(0, _created(node))
    flush = node.journal.flush()
    assert flush is not None
    write = flush.ops[0]
    assert isinstance(write, Write)
    disk.run([write])
    # Of the write behind the last mark only the second frame is there.
    disk.names[write.path].content[write.offset : write.offset + 64] = bytes(64)
    disk.kill()
    _, recovered = open_directory(disk)
    assert not recovered.clean
    assert recovered.cut_bytes > 0


def test_what_was_cut_never_comes_back() -> None:
    """Frames behind a torn one are valid by themselves: a later write that ends where they begin must not revive them."""
    random = Random(5)
    disk = MemoryDisk()
    node = ToyNode(disk, random)
    node.live(2)
    for _ in range(3):
        node.append(0, _created(node))
    flush = node.journal.flush()
    assert flush is not None
    disk.run(flush.ops[:1])
    write = flush.ops[0]
    assert isinstance(write, Write)
    # The first of the three frames is torn; the other two are whole.
    disk.names[write.path].content[write.offset + 70] ^= 255
    disk.kill()
    before, recovered = open_directory(disk)
    assert recovered.cut_bytes > 0
    node = ToyNode(disk, random)
    node.append(0, _created(node))
    node.flush()
    disk.kill()
    after, _ = open_directory(disk)
    assert after.positions[0] == before.positions[0] + 1


def _created(node: ToyNode) -> StreamCreated:
    node.next_id += 1
    return StreamCreated(node.next_id, StreamConfig("s"), 5)


def test_opening_counts_and_keeps_the_directory_s_identity() -> None:
    disk = MemoryDisk()
    _, first = open_directory(disk)
    assert first.is_new
    assert first.manifest.open_epoch == 1
    second = disk.drive(recover(History(), LIMITS, b"another fresh id"))
    assert not second.is_new
    assert (second.manifest.open_epoch, second.manifest.directory_id) == (2, FRESH_ID)


def test_file_numbers_are_not_drawn_twice() -> None:
    disk = MemoryDisk()
    open_directory(disk)
    disk.names["tails/17.tail"] = disk.names["blocks/3-9.blk"] = disk.names["MANIFEST"]
    _, recovered = open_directory(disk)
    assert recovered.manifest.next_file == 18
    assert sorted(recovered.orphans) == ["blocks/3-9.blk", "tails/17.tail"]


def test_a_spare_that_was_not_finished_is_no_spare() -> None:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(4))
    for _ in range(2):
        node.make_spare()
    assert [number for number, _ in node.journal.spares] == [2, 3]
    del disk.names["journal/0000000000000002.seg"].content[1000:]
    disk.kill()
    _, recovered = open_directory(disk)
    assert recovered.journal.spares == []
    assert [path for path in disk.names if path.startswith("journal/")] == ["journal/0000000000000001.seg"]


def test_a_full_disk_gives_up_a_spare_to_be_opened() -> None:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(4))
    node.append(0, _created(node))
    node.flush()
    for _ in range(2):
        node.make_spare()
    disk.names["tails/17.tail"] = disk.names["MANIFEST"]
    for spared in ("tails/17.tail", "journal/0000000000000003.seg", "journal/0000000000000002.seg"):
        disk.space = sum(len(inode.content) for inode in disk.names.values())
        disk.kill()
        assert spared in disk.names
        history, recovered = open_directory(disk)
        assert history.story() == node.history.story()
        assert spared not in disk.names
        assert recovered.orphans == []
    disk.space = sum(len(inode.content) for inode in disk.names.values())
    with pytest.raises(DiskFailure) as caught:
        open_directory(disk)
    assert caught.value.kind is FailureKind.NO_SPACE
    disk.space = None
    assert open_directory(disk)[0].story() == node.history.story()


def test_a_full_disk_fails_the_spare_and_leaves_room_for_what_is_not_ordinary() -> None:
    disk = MemoryDisk()
    node = ToyNode(disk, Random(9))
    for _ in range(2):
        node.make_spare()
    disk.space = sum(len(inode.content) for inode in disk.names.values())
    record = PublishRecord(1, array("q", [1]), array("I", [900]), array("I", [900]), ["a"])
    size = frame_bytes(len(encode(record)), 900)
    ordinary = 0
    while node.journal.fits(size, ordinary=True):
        node.journal.append(1, ordinary + 1, record, [bytes(900)], ordinary=True)
        ordinary += 1
        node.make_spare()
    with pytest.raises(JournalFull):
        node.journal.append(1, ordinary + 1, record, [bytes(900)], ordinary=True)
    reserve = 0
    while node.journal.fits(size, ordinary=False):
        node.journal.append(1, ordinary + reserve + 1, record, [bytes(900)])
        reserve += 1
    assert ordinary >= 4
    assert reserve >= 3
    while (flush := node.journal.flush()) is not None:
        disk.run(flush.ops)
        node.journal.done(flush)
    assert node.journal.spare_job() is not None
