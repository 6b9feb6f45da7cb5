"""Moving messages between files: the chunks of some streams, copied, indexed and synced, then read from their new place.

Sealed blocks get files of their own, each closed by its index; small ones share a file with their neighbours, so that it is
bytes that are synced and not blocks. Chunks of open blocks are copied to one shared block file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from waymaker_core.model.disk_ops import Chunk, DiskFailure, DiskOp, OpResult
from waymaker_core.model.types import StreamId
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.blocks.block_file import PartPlan, finish_ops, index_ops, plan_block, plan_shared_file
from waymaker_core.storage.blocks.block_index import index_bytes_max
from waymaker_core.storage.manifest import Manifest
from waymaker_core.stream import BlockRelocation
from waymaker_core.stream.relocation import relocation as relocating

RELOCATION_FILE_BYTES_MAX = 1024 * 1024
"""Small blocks share a file up to this size: it is deleted with the last of them."""
RELOCATION_FILE_BLOCKS_MAX = 128
"""Blocks that share a file at most: their indexes are made in one step."""


@dataclass(slots=True, eq=False)
class Relocation:
    """One block's relocation, and where its copies lie."""

    replica: StreamReplica
    relocation: BlockRelocation
    copies: list[Chunk] = field(default_factory=list)
    index: Chunk | None = None


class RelocationFile:
    """Files for one large sealed block, or one file for several small ones, neighbours in their stream."""

    __slots__ = ("relocations", "parts")

    def __init__(self, relocations: list[Relocation], parts: list[PartPlan]) -> None:
        self.relocations = relocations
        self.parts = parts

    def copied(self, copies: dict[str, list[Chunk]]) -> None:
        """Give each block its copies, in the order of its sources."""
        made = (chunk for plan in self.parts for chunk in copies[plan.path])
        for relocation in self.relocations:
            relocation.copies = [next(made) for _ in relocation.relocation.sources]

    def index(self) -> list[DiskOp]:
        """Return operations that close the file with the blocks' indexes, one behind the other."""
        last, ops = self.parts[-1], list[DiskOp]()
        end = last.end
        for relocation in self.relocations:
            data = relocating.encode_sealed(relocation.replica.stream, relocation.relocation, relocation.copies)
            if data:
                more, relocation.index = index_ops(last.path, end, data)
                ops += more
                end += len(data)
        return ops


def relocation_files(relocations: list[BlockRelocation], part_bytes: int) -> list[list[BlockRelocation]]:
    """Group blocks of one stream, in order, into files: neighbours whose bodies fit one part and that are small together."""
    found: list[list[BlockRelocation]] = []
    bodies = total = 0
    for relocation in relocations:
        size = sum(relocation.lengths)
        bodies += size
        total += size + index_bytes_max(relocation.messages, len(relocation.lengths))
        if (
            not found
            or bodies > part_bytes
            or total > RELOCATION_FILE_BYTES_MAX
            or len(found[-1]) == RELOCATION_FILE_BLOCKS_MAX
        ):
            found.append([])
            bodies, total = size, size + index_bytes_max(relocation.messages, len(relocation.lengths))
        found[-1].append(relocation)
    return found


class RelocationBatch:
    """The relocations of a few streams. `ops` copy; then `index_next` until it gives None; then `sync_ops`; then `settle`."""

    def __init__(self, key: int, manifest: Manifest, part_bytes: int) -> None:
        self._key = key
        self._manifest = manifest
        self._part_bytes = part_bytes
        self.streams: list[StreamReplica] = []
        self.relocated: dict[StreamId, None] = {}
        """Streams of which something moves, or is forgotten."""
        self.unfinished: dict[StreamId, None] = {}
        """Streams of which more sealed blocks may be worth writing anew, now that some are."""
        self.byte_count = 0
        self.ops: list[DiskOp] = []
        self.paths: list[str] = []
        """New files, the shared one included."""
        self.shared_file: PartPlan | None = None
        self._files: list[RelocationFile] = []
        self._open: list[Relocation] = []
        self._plans: list[tuple[int, PartPlan]] = []
        """(index of its first operation, plan), in order."""
        self._unindexed: deque[RelocationFile] = deque()

    def add_stream(self, replica: StreamReplica, leaving: Callable[[str], bool], seal: bool) -> None:
        """Plan the relocations of one stream; a quarantined one keeps everything where it is.

        `NeedBlocks`, before anything is planned.
        """
        relocations = relocating.blocks_to_relocate(replica.stream, leaving, seal) if replica.damage is None else []
        self.streams.append(replica)
        if relocations:
            self.relocated[replica.id] = None
        self.byte_count += sum(sum(relocation.lengths) for relocation in relocations)
        sealed = [relocation for relocation in relocations if relocation.sealed]
        for together in relocation_files(sealed, self._part_bytes):
            self._pack(replica, together)
        self._open += [Relocation(replica, relocation) for relocation in relocations if not relocation.sealed]

    def _pack(self, replica: StreamReplica, relocations: list[BlockRelocation]) -> None:
        sources = [chunk for relocation in relocations for chunk in relocation.sources]
        keep = [ranges for relocation in relocations for ranges in relocation.keep]
        draw = self._manifest.draw_file
        parts = plan_block(self._key, replica.id, draw, relocations[0].block, sources, keep, self._part_bytes)
        assert len(relocations) == 1 or len(parts) == 1, "blocks that share a file fit into one"
        self._files.append(RelocationFile([Relocation(replica, relocation) for relocation in relocations], parts))
        for plan in parts:
            self._include(plan)

    def _include(self, plan: PartPlan) -> None:
        self._plans.append((len(self.ops), plan))
        self.ops += plan.ops
        self.paths.append(plan.path)

    def plan_shared_file(self) -> None:
        """Close the plan: the open blocks' chunks are copied to one file."""
        sources = [chunk for relocation in self._open for chunk in relocation.relocation.sources]
        keep = [ranges for relocation in self._open for ranges in relocation.relocation.keep]
        if sources:
            self.shared_file = plan_shared_file(self._key, self._manifest.draw_file(), sources, keep)
            self._include(self.shared_file)

    # ------------------------------------------------------------------ the copies are made

    def copied(self, results: list[OpResult]) -> None:
        """Note where every copy lies."""
        copies: dict[str, list[Chunk]] = {}
        for first, plan in self._plans:
            crcs = results[first + len(plan.ops) - 1]
            assert isinstance(crcs, list)
            copies[plan.path] = plan.copied(crcs)
        for file in self._files:
            file.copied(copies)
        if self.shared_file is not None:
            moved = iter(copies[self.shared_file.path])
            for relocation in self._open:
                relocation.copies = [next(moved) for _ in relocation.relocation.sources]
        self._unindexed.extend(self._files)

    def index_next(self) -> list[DiskOp] | None:
        """Return operations that close the next file of sealed blocks with their indexes; None when all have theirs."""
        return self._unindexed.popleft().index() if self._unindexed else None

    def sync_ops(self) -> list[DiskOp]:
        """Return the syncs of all new files and their names."""
        return finish_ops(self.paths) if self.paths else []

    def settle(
        self, serves: Callable[[StreamReplica], bool], indexed: Callable[[StreamReplica, int, int], None]
    ) -> list[str]:
        """Let streams read from the copies from now on. Return the new files that no stream needs."""
        unused: list[str] = []
        for file in self._files:
            accepted = [self._settle(relocation, serves, indexed) for relocation in file.relocations]
            if not any(accepted):
                unused += [plan.path for plan in file.parts]
        for relocation in self._open:
            self._settle(relocation, serves, indexed)
        return unused

    def _settle(
        self,
        relocation: Relocation,
        serves: Callable[[StreamReplica], bool],
        indexed: Callable[[StreamReplica, int, int], None],
    ) -> bool:
        if not serves(relocation.replica) or not relocating.apply_relocation(
            relocation.replica.stream, relocation.relocation, relocation.copies, relocation.index
        ):
            return False
        if relocation.index is not None and relocation.relocation.dead is None:
            indexed(relocation.replica, relocation.relocation.block, relocation.index.length)
        if relocation.relocation.replaces is not None:
            self.unfinished[relocation.replica.id] = None
        return True

    def owner_of(self, failure: DiskFailure) -> StreamReplica | None:
        """Return the stream one of whose chunks could not be copied."""
        for relocation in [*(relocation for file in self._files for relocation in file.relocations), *self._open]:
            for chunk in relocation.relocation.sources:
                if chunk.path == failure.path and chunk.offset <= failure.offset < chunk.offset + max(1, chunk.length):
                    return relocation.replica
        return None
