"""A data directory as the node's shell uses it: jobs on lanes, message bodies read back.

Lanes are threads: the journal's (writes and their syncs, in order), the background's (checkpoints, segments, deletions, in
order) and a few for reads. A journal job may also run inline, which is faster when exactly one caller waits for it, since
no thread has to be woken twice. Completion callbacks run on the lane's thread; the caller brings them to its own.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from waymaker.storage.cache import ChunkCache
from waymaker.storage.files import Files
from waymaker.storage.lock import DirectoryLock
from waymaker_core.api.effects import Job, Lane
from waymaker_core.api.requests import Messages
from waymaker_core.model.disk_ops import Chunk, DiskFailure, DiskOp, FailureKind, OpResult, ReadChunk, SyncFile
from waymaker_core.storage.disk_steps import drive

T = TypeVar("T")
JobResult = list[OpResult] | DiskFailure
Bodies = list[bytes]
"""The bodies of each run of a `Messages`, joined: one entry a run."""

_READERS = 2
_CACHE_BYTES = 64 << 20
_TIME_STEP_S = 0.0005


class FileStore:
    """One locked data directory. Raises `DirectoryLocked` where another process has it."""

    def __init__(self, root: Path, cache_bytes: int = _CACHE_BYTES) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._lock = DirectoryLock(root)
        self._cache = ChunkCache(cache_bytes)
        self._files = Files(self._lock.folder, self._cache)
        self._problem = ""
        self.sync_s = 0.0
        """About the median of the last syncs of the journal, in seconds. One slow sync among quick ones moves it little."""
        self._queues: dict[Lane, SimpleQueue[Callable[[], None] | None]] = {lane: SimpleQueue() for lane in Lane}
        self._threads = [self._worker(Lane.JOURNAL, 0), self._worker(Lane.BACKGROUND, 0)]
        self._threads += [self._worker(Lane.READ, n) for n in range(_READERS)]

    def _worker(self, lane: Lane, number: int) -> threading.Thread:
        thread = threading.Thread(
            target=self._work, args=(self._queues[lane],), name=f"disk-{lane.name.lower()}-{number}", daemon=True
        )
        thread.start()
        return thread

    def _work(self, queue: SimpleQueue[Callable[[], None] | None]) -> None:
        while (task := queue.get()) is not None:
            try:
                task()
            except BaseException as error:  # a caller that waits for the task's end would wait for ever
                self._problem = f"the end of a disk operation was lost: {type(error).__name__}"

    def problem(self) -> str:
        """Return why the end of a job may never be reported; empty while all is well."""
        if not self._problem and not all(thread.is_alive() for thread in self._threads):
            return "a thread that serves the disk has ended"
        return self._problem

    def lost(self) -> str:
        """Return why this is not the directory any more that was opened; empty while it is."""
        return self._lock.lost()

    def drive(self, steps: Generator[DiskOp, OpResult, T]) -> T:
        """Run a generator of disk operations (a recovery, a verification) to its end, blocking; return its value.

        A failed operation is thrown into the generator as `DiskFailure`.
        """
        with _collector_paused():
            return drive(steps, self._files.perform)

    def submit(self, job: Job, done: Callable[[Job, JobResult], None]) -> None:
        """Perform a job on its lane; `done` runs on that lane's thread."""
        if job.lane is Lane.READ:
            paths = [op.chunk.path for op in job.ops if isinstance(op, ReadChunk)]
            self._read_later(paths, lambda: self.run(job), lambda result: done(job, result))
        else:
            self._queues[job.lane].put(lambda: done(job, self.run(job)))

    def run(self, job: Job) -> JobResult:
        """Perform a job here and now: its results, or its failure with the failed operation's index."""
        results: list[OpResult] = []
        try:
            for op in job.ops:
                if type(op) is SyncFile and job.lane is Lane.JOURNAL:
                    results.append(self._synced(op))
                else:
                    results.append(self._files.perform(op))
        except DiskFailure as failure:
            failure.op_index = len(results)
            return failure if failure.kind is FailureKind.NO_SPACE else self._gone(job, failure) or failure
        except Exception as error:  # a bug must not leave the core waiting for an answer for ever
            return DiskFailure(FailureKind.IO, "", 0, f"{type(error).__name__}: {error}", len(results))
        return self._gone(job) or results

    def _synced(self, op: SyncFile) -> OpResult:
        began = time.perf_counter()
        result = self._files.perform(op)
        took = time.perf_counter() - began
        self.sync_s = toward_median(self.sync_s, took)
        return result

    def _gone(self, job: Job, failure: DiskFailure | None = None) -> DiskFailure | None:
        """Return the failure of a job on a directory that is not there any more: what it wrote will not be found.

        A job that succeeded matters only where answers rest on it; one that failed may have failed for this reason.
        """
        if (failure is None and job.lane is not Lane.JOURNAL) or not (lost := self._lock.lost()):
            return None
        return DiskFailure(FailureKind.IO, "the journal", 0, lost, failure.op_index if failure else len(job.ops) - 1)

    def cached_bodies(self, messages: Messages) -> Bodies | None:
        """Return the bodies if every chunk is in memory, else None: never waits for a disk."""
        bodies: Bodies = []
        for run in messages.runs:
            chunk = run.chunk
            if chunk.path.startswith("memory/"):
                try:
                    data: bytes | None = self._files.read_chunk(chunk)
                except DiskFailure:
                    return None
            else:
                data = self._cache.get(chunk.path, chunk.offset, chunk.length)
            if data is None:
                return None
            bodies.append(run.bodies_in(data))
        return bodies

    def read_bodies(self, messages: Messages, done: Callable[[Bodies | DiskFailure], None]) -> None:
        """Read the bodies on a reader's thread; `done` runs there."""
        self._read_later([run.chunk.path for run in messages.runs], lambda: self._read(messages), done)

    def hold(self, messages: Messages) -> Callable[[], None]:
        """Keep the files of messages that are read later from being renamed or deleted, until the result is called."""
        return self._hold([run.chunk.path for run in messages.runs])

    def _hold(self, paths: list[str]) -> Callable[[], None]:
        for path in paths:
            self._files.pin(path)

        def unpin() -> None:
            for path in paths:
                self._files.unpin(path)

        return unpin

    def _read_later(self, paths: list[str], read: Callable[[], T], done: Callable[[T], None]) -> None:
        """Read on a reader's thread. Until it is done the files keep their names."""
        unpin = self._hold(paths)

        def task() -> None:
            try:
                outcome = read()
            finally:
                unpin()
            done(outcome)

        try:
            self._queues[Lane.READ].put(task)
        except BaseException:
            unpin()
            raise

    def _read(self, messages: Messages) -> Bodies | DiskFailure:
        bodies: Bodies = []
        last: Chunk | None = None
        data = b""
        try:
            for run in messages.runs:
                if run.chunk is not last:
                    data = self._files.read_chunk(run.chunk)
                    last = run.chunk
                bodies.append(run.bodies_in(data))
        except DiskFailure as failure:
            return failure
        except Exception as error:
            return DiskFailure(FailureKind.IO, "", 0, f"{type(error).__name__}: {error}")
        return bodies

    def close(self) -> None:
        """Finish what is queued, close the files, give up the lock."""
        for lane, queue in self._queues.items():
            for _ in range(_READERS if lane is Lane.READ else 1):
                queue.put(None)
        for thread in self._threads:
            thread.join()
        self._files.close()
        self._lock.release()


def toward_median(median_s: float, took_s: float) -> float:
    """Return about the median of times, moved by one more. One that is slow among quick ones moves it little."""
    if took_s > median_s:
        return median_s + max(median_s, _TIME_STEP_S) / 8
    return median_s + (took_s - median_s) / 8


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from walking through a growing state again and again, while hardly any of it is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Both together make everything old without a walk, which would come with the first calls otherwise.
        gc.freeze()
        gc.unfreeze()
        if was_enabled:
            gc.enable()
