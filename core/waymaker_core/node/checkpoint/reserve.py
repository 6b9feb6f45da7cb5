"""The reserve: a file of zeros, deleted to give a checkpoint space on a full disk.

A checkpoint frees space, and needs some first: for the messages it copies and for its own file. The journal's spare
segments are no help, for acks and deletions go on with them. The file is made anew when there is free space again. It never
holds data; a start on a full disk deletes it as well.
"""

from __future__ import annotations

from enum import Enum

from waymaker_core.api.effects import Lane
from waymaker_core.model.disk_ops import CreateFile, Delete, DiskFailure, DiskOp, OpResult, SyncFile
from waymaker_core.node.context import NodeState
from waymaker_core.node.jobs import ignore
from waymaker_core.storage.paths import RESERVE

SEGMENT_SHARE = 2
"""The reserve is one part in so many of a journal segment."""


class State(Enum):
    """The state of the reserve's file."""

    MISSING = 1
    """There is none, and it can be made."""
    MAKING = 2
    """The job that makes it is in flight."""
    READY = 3
    """It exists."""
    NO_SPACE = 4
    """There is none, and the last attempt to make it failed."""


class Reserve:
    """The reserve's file, and the jobs that make it."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self.size = state.limits.segment_bytes // SEGMENT_SHARE
        self._file = State.MISSING

    def wake(self) -> None:
        """Make the file, unless it exists or there was no space for it the last time."""
        if self._file is not State.MISSING:
            return
        self._file = State.MAKING
        ops: list[DiskOp] = [CreateFile(RESERVE, self.size), SyncFile(RESERVE)]
        self._state.start(Lane.BACKGROUND, ops, self._made, self._not_made)

    def retry(self) -> None:
        """Allow another attempt: there may be free space again."""
        if self._file is State.NO_SPACE:
            self._file = State.MISSING

    def take(self) -> list[DiskOp]:
        """Return operations that delete the file; none where it does not exist."""
        if self._file is not State.READY:
            return []
        self._file = State.MISSING
        return [Delete(RESERVE)]

    def _made(self, _results: list[OpResult]) -> None:
        self._file = State.READY

    def _not_made(self, _failure: DiskFailure) -> None:
        """Delete what was made of it: it is missed only on a full disk, and a failed sync of zeros loses nothing."""
        self._file = State.NO_SPACE
        self._state.start(Lane.BACKGROUND, [Delete(RESERVE)], ignore, ignore)
