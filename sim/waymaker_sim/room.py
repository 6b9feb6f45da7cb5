"""What is deleted leaves disk and memory: every stream goes, checkpoints pass, and what was there before must be gone.

The disk is looked at from the outside, by the names of its files; memory by weak references. A node that serves for years
lives on this: a file that nobody uses and nobody deletes is found by no reader, until the disk is full.
"""

from __future__ import annotations

import gc
import weakref
from typing import Final

from waymaker_core import outcomes
from waymaker_core.configs import StreamConfig
from waymaker_core.limits import Limits
from waymaker_core.outcomes import Answer
from waymaker_core.requests import CreateStream, DeleteStream, Publish, Request
from waymaker_core.store.paths import BLOCKS, JOURNAL, TAILS
from waymaker_sim.audit import Asker, Seen
from waymaker_sim.checks import listed, require
from waymaker_sim.events import MS, SECOND
from waymaker_sim.process import Process

FILLER: Final = "filler"
KEPT: Final = 8
"""Messages that the filler keeps, and that it has in a block."""
FILES_KEPT: Final = 3 * KEPT
"""Files of either kind, if each message has its own: two blocks, begun and ended by what is kept, and the open one."""
CHECKPOINTS: Final = 12
"""Two would do for what was deleted, as one may have begun before; the journal has to be seen not to grow any more."""
ROUNDS_OF_A_CHECKPOINT: Final = 3
"""Checkpoints' worth of journal that may be written before one is in force."""
SYNCS_BETWEEN: Final = 10
"""Syncs for which the writer waits each time, so that a slow disk is not overrun: a checkpoint makes about as many."""


def empty_the_disk(process: Process, asker: Asker, before: Seen) -> None:
    """Delete all that there is, write until checkpoints have passed, and look what is left."""
    limits = process.config.limits
    old = _files(process, BLOCKS) | _files(process, TAILS)
    kept = _in_memory(process)
    for name in before:
        _ask(asker, DeleteStream(name))
    _ask(asker, CreateStream(StreamConfig(FILLER, max_msgs=KEPT, block_size=KEPT)))
    _fill(process, asker, limits)
    process.events.run_until(process.events.now_ns + SECOND + 2 * process.config.sync_interval_ms * MS)
    _check_memory(process, kept)
    left = _files(process, BLOCKS) | _files(process, TAILS)
    require(
        not old & left, "room given back", f"all streams are gone, and still there are {listed(sorted(old & left))}"
    )
    for folder in (BLOCKS, TAILS):
        count = len(_files(process, folder))
        require(count <= FILES_KEPT, "room given back", f"{count} files in {folder}/ for {KEPT} messages")
    segments, most = len(_files(process, JOURNAL)), segments_max(limits)
    require(segments <= most, "room given back", f"{segments} segments are kept, {most} have a purpose")


def segments_max(limits: Limits) -> int:
    """Journal segments that may be there: behind the last two checkpoints, kept to be used again, in use, made ahead."""
    written = limits.checkpoint_journal_bytes // limits.segment_bytes + 1
    return 2 * written + (written + 1) + 1 + limits.segments_spare


def _fill(process: Process, asker: Asker, limits: Limits) -> None:
    """Publish until checkpoints have passed, but no more than should do."""
    size = limits.checkpoint_journal_bytes // 8
    for _ in range(CHECKPOINTS):
        passed = _passed(process)
        for _ in range(ROUNDS_OF_A_CHECKPOINT * limits.checkpoint_journal_bytes // size):
            if _passed(process) > passed:
                break
            _ask(asker, Publish(FILLER, ["fill"], [size], [size], bytes(size), None, None))
            process.events.run_until(process.events.now_ns + SYNCS_BETWEEN * process.pace.sync_ns)
        else:
            require(False, "room given back", "the journal grows, and no checkpoint comes into force")


def _in_memory(process: Process) -> list[tuple[str, weakref.ref[object]]]:
    """Return weak references to what each stream keeps in memory."""
    node = process.node
    assert node is not None, "at rest the process is up"
    return [(hosted.name, weakref.ref(hosted.stream)) for hosted in node._state.hosted.values()]


def _check_memory(process: Process, kept: list[tuple[str, weakref.ref[object]]]) -> None:
    """Require that nothing refers to a deleted stream any more."""
    gc.collect()
    alive = sorted(name for name, stream in kept if stream() is not None)
    require(not alive, "memory given back", f"deleted, and still in memory: {alive}")


def _passed(process: Process) -> int:
    return process.node.stats.checkpoints if process.node is not None else 0


def _ask(asker: Asker, request: Request) -> None:
    answer, _ = asker.ask(request)
    ok = isinstance(answer, Answer) and answer.code == outcomes.OK
    require(ok, "progress", f"at rest {type(request).__name__} ended with {answer!r}")


def _files(process: Process, folder: str) -> set[str]:
    return {path for path in process.disk.paths() if path.startswith(f"{folder}/")}
