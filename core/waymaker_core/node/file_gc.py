"""Deletion of files that nothing names any more, as soon as a crash cannot bring their names back.

A file is deleted when a restart will apply the record that made it garbage, and so never read the file: with one replica, when
that record is durable; with more, when it is durable that it is committed. With interval sync a record commits before it is
durable, so its files wait for the sync.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from waymaker_core.api.effects import Lane
from waymaker_core.model.disk_ops import Delete, DiskFailure, DiskOp
from waymaker_core.node.context import NodeState
from waymaker_core.node.facts import CommitPoint, Facts
from waymaker_core.node.jobs import ignore
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.paths import SHARED_BLOCKS

FILES_A_JOB = 64


class Garbage:
    """Paths to delete, each with the point that must be durable first."""

    def __init__(self, state: NodeState, journal: Journal, facts: Facts) -> None:
        self._state = state
        self._journal = journal
        self._facts = facts
        self._waiting: deque[tuple[CommitPoint, str]] = deque()
        self._held: dict[str, int] = {}
        """Files that are needed as they are for a while, with the number of their holders."""
        self._kept: dict[str, None] = {}
        """Garbage among them."""

    def delete_later(self, replica: StreamReplica, paths: Iterable[str]) -> None:
        """Delete files that nothing committed of this stream names any more.

        Shared block files are not this stream's to delete. A file in memory with records in flight is needed at once.
        """
        point = self._facts.point()
        for path in paths:
            if path.startswith(SHARED_BLOCKS) or replica.memory.is_written_to(path):
                continue
            self._state.stats.ephemeral_bytes -= replica.memory.remove(path)
            self._waiting.append((point, path))

    def delete_shared_later(self, path: str) -> None:
        """Delete a file that is no stream's own."""
        self._waiting.append((self._facts.point(), path))

    def hold(self, paths: Iterable[str]) -> None:
        """Keep files until `let_go`, even if they become garbage."""
        for path in paths:
            self._held[path] = self._held.get(path, 0) + 1

    def let_go(self, paths: Iterable[str]) -> None:
        """End a hold, and delete what has become garbage meanwhile."""
        for path in paths:
            self._held[path] -= 1
            if not self._held[path]:
                del self._held[path]
                if path in self._kept:
                    del self._kept[path]
                    self.delete([Delete(path)])

    def collect(self) -> None:
        """Delete the files whose points are durable."""
        waiting = self._waiting
        while waiting and self._is_durable(waiting[0][0]):
            ops: list[DiskOp] = []
            while waiting and self._is_durable(waiting[0][0]) and len(ops) < FILES_A_JOB:
                path = waiting.popleft()[1]
                if path in self._held:
                    self._kept[path] = None
                else:
                    ops.append(Delete(path))
            if ops:
                self.delete(ops)

    def _is_durable(self, point: CommitPoint) -> bool:
        return point.lsn is not None and point.lsn <= self._journal.durable_lsn

    def delete(self, ops: list[DiskOp]) -> None:
        """Run operations that delete files which nothing names. A file that stays is an orphan at the next start."""
        self._state.start(Lane.BACKGROUND, ops, ignore, self._not_deleted)

    def _not_deleted(self, failure: DiskFailure) -> None:
        self._state.log("warning", "file_not_deleted", path=failure.path, detail=failure.detail)
