"""The segments after a start: in use, ready ahead, kept to be used again, or to be deleted; each file in one place only."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.store_disk import MemoryDisk
from tests.kit.store_toy import LIMITS, ToyNode, open_directory
from waymaker_core.storage.journal.writer import free_segments_max
from waymaker_core.storage.paths import JOURNAL, segment_path
from waymaker_core.storage.recovery.recovery import Recovered

SEEDS = st.integers(0, 1 << 32)


def segment_sizes(disk: MemoryDisk) -> dict[str, int]:
    """Every file of the journal and its length."""
    prefix = f"{JOURNAL}/"
    return {path: len(inode.content) for path, inode in disk.names.items() if path.startswith(prefix)}


def check_places(disk: MemoryDisk, recovered: Recovered) -> None:
    """Every segment has one place, and the free ones are the lowest of those that nobody needs, as many as are kept."""
    journal, first = recovered.journal, recovered.manifest.first_segment
    sizes = segment_sizes(disk)
    in_use = [segment.number for segment in journal.segments]
    spares = [number for number, _ in journal.spares]
    assert in_use + spares == list(range(first, first + len(in_use) + len(spares)))
    released = sorted(
        path for path, size in sizes.items() if path < segment_path(first) and size == LIMITS.segment_bytes
    )
    assert [segment_path(number) for number in journal.free] == released[: free_segments_max(LIMITS)]
    orphans = [path for path in recovered.orphans if path.startswith(f"{JOURNAL}/")]
    placed = [*(segment_path(number) for number in [*in_use, *spares, *journal.free]), *orphans]
    assert sorted(placed) == sorted(sizes), "no file is forgotten, and none is in two places"


def filled(disk: MemoryDisk, segments: int) -> ToyNode:
    """A node whose journal takes so many segments, with no checkpoint yet."""
    node = ToyNode(disk, Random(1))
    while node.journal.segment_count < segments:
        node.gather()
        node.flush(sync=True)
        node.make_spare()
    return node


@given(SEEDS, st.integers(1, 60), st.booleans())
def test_after_any_crash_every_segment_is_in_one_place(seed: int, rounds: int, power_loss: bool) -> None:
    random = Random(seed)
    node = ToyNode(MemoryDisk(), random)
    node.live(rounds)
    if power_loss:
        node.disk.lose_power(random)
    else:
        node.disk.kill()
    _, recovered = open_directory(node.disk)
    check_places(node.disk, recovered)
    assert not set(recovered.journal.free) & {segment.number for segment in recovered.journal.segments}


def test_of_released_segments_the_lowest_of_the_right_size_are_kept_and_the_rest_goes() -> None:
    most = free_segments_max(LIMITS)
    disk = MemoryDisk()
    node = filled(disk, most + 5)
    cut = node.journal.current_segment()
    assert cut > most + 3
    odd = segment_path(2)
    disk.names[odd].write(LIMITS.segment_bytes, b"a record longer than a segment")
    # A checkpoint is in force, and the process dies before anything is released.
    node.journal.release = lambda first_needed: []  # type: ignore[method-assign]
    node.checkpoint()
    disk.kill()
    _, recovered = open_directory(disk)
    check_places(disk, recovered)
    assert recovered.journal.free == [1, *range(3, most + 2)]
    assert odd in recovered.orphans
    assert segment_path(most + 2) in recovered.orphans


def test_segments_of_another_size_than_is_configured_now_are_not_used_again() -> None:
    disk = MemoryDisk()
    node = filled(disk, 4)
    node.journal.release = lambda first_needed: []  # type: ignore[method-assign]
    node.checkpoint()
    disk.kill()
    _, recovered = open_directory(disk, replace(LIMITS, segment_bytes=2 * LIMITS.segment_bytes))
    assert recovered.journal.free == []
    assert segment_path(1) in recovered.orphans
    assert recovered.journal.spares == []
