"""Adoption of the catalog: another member's state of it takes the place of log and state here, in one durable act.

The state comes whole, for the catalog is in memory on every member anyway. It is written to a checkpoint file of its own, and
put into force by a frame `ADOPT` of the journal, as a stream's snapshot is (`adoption`). When that is durable, streams begin
and end as by the records that this node never saw. What a crash leaves before is garbage.
"""

from __future__ import annotations

from functools import partial

from waymaker_core.api.effects import Declined, Kept, Lane
from waymaker_core.api.inputs import InstallCatalog
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.model.disk_ops import Delete, DiskFailure, OpResult
from waymaker_core.model.types import CATALOG
from waymaker_core.node.apply import Applier
from waymaker_core.node.checkpoint.checkpoints import Checkpoints
from waymaker_core.node.checkpoint.snapshots import decode_catalog
from waymaker_core.node.context import NodeState
from waymaker_core.node.file_gc import Garbage
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.storage.checkpoint.writer import Chain, CheckpointWriter
from waymaker_core.storage.errors import JournalFull
from waymaker_core.storage.frame import ADOPT
from waymaker_core.storage.journal.adoption_frame import encode_adoption
from waymaker_core.storage.manifest import CheckpointFile
from waymaker_core.storage.recovery.replay import NONSENSE

NO_ROOM = "the journal has no free space for it"


class CatalogAdoption:
    """Puts the catalog of another member into force."""

    def __init__(
        self, state: NodeState, group_commit: GroupCommit, applier: Applier, checkpoints: Checkpoints, garbage: Garbage,
        key: int,
    ) -> None:  # fmt: skip
        self._state = state
        self._group_commit = group_commit
        self._applier = applier
        self._checkpoints = checkpoints
        self._garbage = garbage
        self._key = key
        self._busy = False
        """True while a file, or the frame that names it, is being written."""

    def install_catalog(self, event: InstallCatalog) -> None:
        """Begin to adopt a state: write its file."""
        problem = self._why_not(event.position)
        other = Catalog(self._state.limits)
        if not problem:
            try:
                decode_catalog(event.state, other, event.position)
            except NONSENSE as error:
                problem = f"the catalog makes no sense: {error}"
        if problem:
            self._decline(event, problem)
            return
        writer = CheckpointWriter(self._key, self._checkpoints.draw_number(), full=False)
        writer.add_snapshot(CATALOG, event.position, event.state)
        ops = writer.finish()
        (file,) = writer.chain_after(Chain()).files
        self._busy = True
        done = partial(self._written, event, other, file, writer.path)
        self._state.start(Lane.BACKGROUND, ops, done, partial(self._not_written, event, writer.path))

    def _why_not(self, position: int) -> str:
        """Return why the catalog cannot be adopted now, or an empty text."""
        state, log = self._state, self._state.catalog_log
        if not state.config.member or state.catalog_leads or state.catalog_opening:
            return "this node leads the catalog"
        if self._busy:
            return "another catalog is being adopted"
        if position <= log.end:
            return f"the log here goes to {log.end}, and the catalog to {position}"
        return ""

    def _decline(self, event: InstallCatalog, problem: str) -> None:
        self._state.effects.append(Declined(event.ask, problem, self._state.catalog_log.end))

    def _written(
        self, event: InstallCatalog, other: Catalog, file: CheckpointFile, path: str, _results: list[OpResult]
    ) -> None:
        """Name the file in the journal. All that the log here holds is older, and void from then on: the state has it."""
        log = self._state.catalog_log
        self._busy = False
        problem = self._why_not(event.position)
        if log.carrying:
            problem = problem or "a checkpoint writes records of the catalog"
        if not problem and not self._group_commit.place_commits():
            problem = NO_ROOM
        if not problem:
            try:
                self._group_commit.journal.append_fact(ADOPT, encode_adoption(file), CATALOG, event.position)
            except JournalFull:
                problem = NO_ROOM
        if problem:
            self._give_up(event, path, problem)
            return
        self._busy = log.abandoned = True
        self._group_commit.void_above(log, log.applied)
        self._group_commit.call_when_durable(partial(self._in_force, event, other, path))

    def _not_written(self, event: InstallCatalog, path: str, failure: DiskFailure) -> None:
        self._give_up(event, path, f"{path} could not be written: {failure.detail or failure.kind.value}")

    def _give_up(self, event: InstallCatalog, path: str, problem: str) -> None:
        self._busy = self._state.catalog_log.abandoned = False
        self._garbage.delete([Delete(path)])
        self._decline(event, problem)

    def _in_force(self, event: InstallCatalog, other: Catalog, path: str) -> None:
        """Let the new catalog take the old one's place, now that a restart would find it too."""
        self._busy = self._state.catalog_log.abandoned = False
        self._applier.replace_catalog(other, event.position, path)
        self._state.log("info", "catalog_adopted", position=event.position, streams=len(self._state.replicas))
        self._state.effects.append(Kept(event.ask))
