"""Free space on the disk: spare segments and the reserve, made ahead of need, and retries while the disk is full.

A full disk is an answer, not an end. Publishes are refused once the allocated space is used up, except for a reserve that
acks, deletes and settings may use. What frees space (retention, deletes, a checkpoint) is tried again by timer. When the disk
turns out to be full, parked calls are attempted again, and their handlers refuse them (`handlers/free_space`).
"""

from __future__ import annotations

from functools import partial

from waymaker_core.api.effects import Lane
from waymaker_core.model.disk_ops import DiskFailure, FailureKind, OpResult, SyncDir, SyncFile
from waymaker_core.node.calls import Calls
from waymaker_core.node.checkpoint.checkpoints import Checkpoints
from waymaker_core.node.checkpoint.reserve import Reserve
from waymaker_core.node.context import DISK_FULL, NodeState
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.jobs import ignore
from waymaker_core.node.timers import Timer
from waymaker_core.storage.journal.writer import SpareJob


class DiskSpace:
    """Spare segments, and the state of a full disk."""

    def __init__(
        self, state: NodeState, group_commit: GroupCommit, calls: Calls, checkpoints: Checkpoints, reserve: Reserve
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._calls = calls
        self._checkpoints = checkpoints
        self._reserve = reserve
        self._no_spare = False
        """True if there was no space for the last spare segment."""
        self._trying = False
        """True if the pause after that is over."""
        self.failed: DiskFailure | None = None
        """The failure after which it is unknown what is durable."""

    def make_spares(self) -> None:
        """Make the next spare segment, if one is wanted, and note whether the disk is full."""
        journal = self._group_commit.journal
        if journal.free or not (self._checkpoints.cramped or (self._no_spare and not self._trying)):
            # A segment that is used again needs no free space.
            job = journal.spare_job()
            if job is not None:
                self._trying = False
                self._state.start(Lane.BACKGROUND, job.ops, partial(self._made, job), partial(self._not_made, job))
        if not (self._checkpoints.cramped or self._state.stats.disk_full):
            self._reserve.wake()
        self.note()

    def note(self) -> None:
        """Set the gauge, and log when it changes."""
        stats = self._state.stats
        full = self._no_spare or self._group_commit.stalled or self._checkpoints.full or self._checkpoints.cramped
        if full != stats.disk_full:
            stats.disk_full = full
            if full and self._state.no_room_because != DISK_FULL:
                self._state.log("error", "disk_not_writable", problem=self._state.no_room_because)
            elif full:
                self._state.log("error", "disk_full")
            else:
                self._state.log("info", "disk_has_room")
            self._calls.retry_parked()

    def retry_spare(self) -> None:
        """Try again what lacked free space: the pause is over."""
        self._trying = True
        self._reserve.retry()
        self._checkpoints.retry_checkpoint()

    def _made(self, job: SpareJob, _results: list[OpResult]) -> None:
        self._group_commit.journal.spare_done(job)
        self._group_commit.note_capacity()
        self._state.no_room_because = DISK_FULL
        self._no_spare = False

    def _not_made(self, job: SpareJob, failure: DiskFailure) -> None:
        failed_op = job.ops[failure.op_index] if failure.op_index < len(job.ops) else None
        if isinstance(failed_op, SyncFile | SyncDir) and failure.kind is not FailureKind.NO_SPACE:
            self.failed = failure
            return
        ops = self._group_commit.journal.spare_failed(job)
        self._state.start(Lane.BACKGROUND, ops, ignore, ignore)
        self._no_spare = True
        state = self._state
        full = failure.kind is FailureKind.NO_SPACE
        state.no_room_because = DISK_FULL if full else f"{failure.path} cannot be made: {failure.detail}"
        state.retry_disk_by(Timer.DISK_RETRY)
