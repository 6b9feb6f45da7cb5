"""The reserve: a file of zeros that a checkpoint may have the room of when a full disk leaves it none.

A checkpoint is what gives room back, and needs some first: for the messages it copies and for its own file. The journal's
spare segments are no help, for acks and deletions go on with them. The file is made anew when there is room again; it never
holds data, and a start on a full disk gives it up as well.
"""

from __future__ import annotations

from waymaker_core.api.effects import Lane
from waymaker_core.model.disk_ops import CreateFile, Delete, DiskFailure, DiskOp, SyncFile
from waymaker_core.node.context import NodeState
from waymaker_core.node.jobs import ignore
from waymaker_core.storage.paths import RESERVE

SEGMENT_SHARE = 2
"""The reserve is one part in so many of a journal segment."""


class Reserve:
    """Whether the file is there, and the jobs that make it."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self.size = state.limits.segment_bytes // SEGMENT_SHARE
        self._there = False
        self._making = False
        self._refused = False

    def wake(self) -> None:
        """Make the file, unless it is there or there was no room for it the last time."""
        if self._there or self._making or self._refused:
            return
        self._making = True
        ops: list[DiskOp] = [CreateFile(RESERVE, self.size), SyncFile(RESERVE)]
        self._state.start(Lane.BACKGROUND, ops, self._made, self._not_made)

    def retry(self) -> None:
        """There may be room again."""
        self._refused = False

    def take(self) -> list[DiskOp]:
        """Operations that give its room back; none where it is not there."""
        if not self._there:
            return []
        self._there = False
        return [Delete(RESERVE)]

    def _made(self, _results: list[object]) -> None:
        self._making, self._there = False, True

    def _not_made(self, _failure: DiskFailure) -> None:
        """It is missed only on a full disk; a failed sync of zeros loses nothing."""
        self._making, self._refused = False, True
        self._state.start(Lane.BACKGROUND, [Delete(RESERVE)], ignore, ignore)
