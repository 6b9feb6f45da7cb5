"""Space reclaimed: after every stream is deleted and checkpoints have passed, disk and memory hold nothing of them.

The check sees the disk from outside, by the names of its files, and memory by weak references. A node that serves for
years depends on this: no reader finds a file that is unused and never deleted, until the disk is full.
"""

from __future__ import annotations

import gc
from typing import Final

from waymaker_core.api.requests import CreateStream, DeleteStream, Publish, Request, UpdateStream
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.storage.paths import BLOCKS, JOURNAL, SHARED_BLOCKS
from waymaker_core.stream.stream import Stream
from waymaker_sim.kernel.checks import listed, require
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.machine.disk import DiskFaults
from waymaker_sim.machine.observations import Asker, Seen
from waymaker_sim.machine.process import Process

FILLER: Final = "filler"
RING: Final = "ring"
"""The stream that keeps the same few messages, all of them in the open block."""
BALLAST: Final = "ballast"
"""The stream that fills the disk, and is then pruned."""
KEPT: Final = 8
"""Messages that the filler keeps, and that a block of it has."""
FILES_KEPT: Final = 3 * KEPT
"""Files of either kind if each message has its own: two blocks, at the ends of what is kept, and the open one."""
STORED_TO_LIVE: Final = 2
"""Bytes on the disk for each live byte, at most, once checkpoints have passed."""
FILE_BYTES: Final = 2048
"""Bytes of a block file besides its messages, at most: its header, and the indexes of a few blocks."""
FREED_NS: Final = 10 * SECOND
"""Time after which a full disk takes publishes once what fills it was pruned: a few pauses between attempts."""
CHECKPOINTS: Final = 12
"""Two would be enough for what was deleted, as one may have begun before; the rest show that the journal stops growing."""
ROUNDS_OF_A_CHECKPOINT: Final = 3
"""Journal bytes, in checkpoints' worth, that may be written before one is in force."""
SYNCS_BETWEEN: Final = 10
"""Syncs that the writer awaits each time, so that a slow disk keeps up: about as many as a checkpoint makes."""


def empty_the_disk(process: Process, asker: Asker, before: Seen) -> None:
    """Delete every stream, write until checkpoints have passed, and check what is left."""
    limits = process.config.limits
    old = _files(process, BLOCKS) | _files(process, SHARED_BLOCKS)
    kept = _in_memory(process)
    for name in before:
        _ask(asker, DeleteStream(name))
    _ask(asker, CreateStream(StreamConfig(FILLER, max_msgs=KEPT, block_size=KEPT)))
    _ask(asker, CreateStream(StreamConfig(RING, max_msgs=KEPT, strict_limits=True, block_size=limits.block_size_max)))
    _fill(process, asker, limits)
    process.events.run_until(process.events.now_ns + SECOND + 2 * process.config.sync_interval_ms * MS)
    _check_memory(process, kept)
    left = _files(process, BLOCKS) | _files(process, SHARED_BLOCKS)
    require(
        not old & left, "room given back", f"all streams are gone, and still there are {listed(sorted(old & left))}"
    )
    _check_dead(process, limits)
    for folder in (BLOCKS, SHARED_BLOCKS):
        count = len(_files(process, folder))
        require(count <= FILES_KEPT, "room given back", f"{count} files in {folder}/ for {KEPT} messages")
    _prune_when_full(process, asker, limits)
    segments, most = len(_files(process, JOURNAL)), segments_max(limits)
    require(segments <= most, "room given back", f"{segments} segments are kept, {most} have a purpose")


def segments_max(limits: Limits) -> int:
    """Return how many journal segments may exist: behind the last two checkpoints, kept for reuse, in use, made
    ahead."""
    written = limits.checkpoint_journal_bytes // limits.segment_bytes + 1
    return 2 * written + (written + 1) + 1 + limits.segments_spare


def _fill(process: Process, asker: Asker, limits: Limits) -> None:
    """Publish until checkpoints have passed, within a bound."""
    size = _message_bytes(limits)
    for _ in range(CHECKPOINTS):
        passed = _passed(process)
        for _ in range(ROUNDS_OF_A_CHECKPOINT * limits.checkpoint_journal_bytes // size):
            if _passed(process) > passed:
                break
            for name in (FILLER, RING):
                _ask(asker, _one_message(name, size))
            process.events.run_until(process.events.now_ns + SYNCS_BETWEEN * process.pace.sync_ns)
        else:
            require(False, "room given back", "the journal grows, and no checkpoint comes into force")


def _one_message(stream: str, size: int) -> Publish:
    return Publish(stream, ["fill"], [size], [size], bytes(size), None, None)


def _check_dead(process: Process, limits: Limits) -> None:
    """Require that block files hold little more than live messages: two blocks of one stream, and the ring."""
    paths = _files(process, BLOCKS) | _files(process, SHARED_BLOCKS)
    stored = sum(process.disk.length(path) for path in sorted(paths))
    live = 3 * KEPT * _message_bytes(limits)
    most = STORED_TO_LIVE * live + len(paths) * FILE_BYTES
    require(stored <= most, "room given back", f"{stored} bytes in blocks/ and tails/, where {live} may live")


def _message_bytes(limits: Limits) -> int:
    return limits.checkpoint_journal_bytes // 8


def _prune_when_full(process: Process, asker: Asker, limits: Limits) -> None:
    """Fill the disk, prune what fills it, and require that publishes are accepted again."""
    _ask(asker, CreateStream(StreamConfig(BALLAST, block_size=limits.block_size_max)))
    size, disk, events = _message_bytes(limits), process.disk, process.events
    disk.faults.capacity = disk.used_bytes() + 2 * limits.checkpoint_journal_bytes + 2 * limits.segment_bytes
    publish = _one_message(BALLAST, size)
    while not isinstance(asker.ask(publish)[0], Refusal):
        events.run_until(events.now_ns + SYNCS_BETWEEN * process.pace.sync_ns)
    disk.faults.capacity = min(disk.faults.capacity, disk.used_bytes() + size // 2)
    _ask(asker, UpdateStream(BALLAST, max_msgs=1))
    end_ns = events.now_ns + FREED_NS
    while isinstance(asker.ask(publish)[0], Refusal):
        require(events.now_ns < end_ns, "room given back", "the disk is full of what was pruned, and stays full")
        events.run_until(events.now_ns + SECOND // 10)
    disk.faults.capacity = DiskFaults().capacity


def _in_memory(process: Process) -> list[tuple[str, int]]:
    """Return the name of each stream and the identity of what it keeps in memory."""
    node = process.node
    assert node is not None, "at rest the process is up"
    return [(replica.name, id(replica.stream)) for replica in node._state.replicas.values()]


def _check_memory(process: Process, kept: list[tuple[str, int]]) -> None:
    """Require that nothing refers to a deleted stream any more."""
    gc.collect()
    present = {identity for _, identity in _in_memory(process)}
    # Not a weak reference, for an object of a compiled class takes none. An identity is used again by a new stream at most.
    remaining = {id(found) for found in gc.get_objects() if isinstance(found, Stream)} - present
    alive = sorted(name for name, identity in kept if identity in remaining)
    require(not alive, "memory given back", f"deleted, and still in memory: {alive}")


def _passed(process: Process) -> int:
    return process.node.stats.checkpoints if process.node is not None else 0


def _ask(asker: Asker, request: Request) -> None:
    answer, _ = asker.ask(request)
    ok = isinstance(answer, Answer) and answer.code == outcomes.OK
    require(ok, "progress", f"at rest {type(request).__name__} ended with {answer!r}")


def _files(process: Process, folder: str) -> set[str]:
    return {path for path in process.disk.paths() if path.startswith(f"{folder}/")}
