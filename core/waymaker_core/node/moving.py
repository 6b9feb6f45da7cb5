"""Moving messages between files: the chunks of some streams, copied, indexed and synced, then read from their new place.

Sealed blocks get files of their own with an index; chunks of open blocks go to one tail file together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import cast

from waymaker_core.disk import Chunk, DiskFailure, DiskOp
from waymaker_core.node.hosted import Hosted
from waymaker_core.store.block_file import PartPlan, finish_ops, index_ops, plan_block, plan_tail
from waymaker_core.store.manifest import Manifest
from waymaker_core.stream import BlockMove


class Move:
    """One block's move: the part files it is copied to (none of its own for an open block), and what came of it."""

    __slots__ = ("hosted", "move", "parts", "copies", "index")

    def __init__(self, hosted: Hosted, move: BlockMove, parts: list[PartPlan]) -> None:
        self.hosted = hosted
        self.move = move
        self.parts = parts
        self.copies: list[Chunk] = []
        self.index: Chunk | None = None


class Batch:
    """The moves of a few streams. `ops` copy; then `index_next` until it gives None; then `sync_ops`; then `settle`."""

    def __init__(self, key: int, manifest: Manifest, part_bytes: int) -> None:
        self._key = key
        self._manifest = manifest
        self._part_bytes = part_bytes
        self.streams: list[Hosted] = []
        self.byte_count = 0
        self.ops: list[DiskOp] = []
        self.paths: list[str] = []
        """New files, the tail included."""
        self.tail: PartPlan | None = None
        self._sealed: list[Move] = []
        self._open: list[Move] = []
        self._plans: list[tuple[int, PartPlan]] = []
        """(index of its first operation, plan), in order."""
        self._unindexed: deque[Move] = deque()

    def add(self, hosted: Hosted, leaving: Callable[[str], bool]) -> None:
        """Plan the moves of one stream; a quarantined one keeps everything where it is."""
        self.streams.append(hosted)
        if hosted.damage is not None:
            return
        for move in hosted.stream.blocks_to_move(leaving):
            self.byte_count += sum(move.lengths)
            if move.sealed:
                draw = self._manifest.draw_file
                parts = plan_block(self._key, hosted.id, draw, move.block, move.sources, move.keep, self._part_bytes)
                self._sealed.append(Move(hosted, move, parts))
                for plan in parts:
                    self._include(plan)
            else:
                self._open.append(Move(hosted, move, []))

    def _include(self, plan: PartPlan) -> None:
        self._plans.append((len(self.ops), plan))
        self.ops += plan.ops
        self.paths.append(plan.path)

    def plan_tail(self) -> None:
        """Close the plan: the open blocks' chunks go to one file."""
        sources = [chunk for move in self._open for chunk in move.move.sources]
        keep = [ranges for move in self._open for ranges in move.move.keep]
        if sources:
            self.tail = plan_tail(self._key, self._manifest.draw_file(), sources, keep)
            self._include(self.tail)

    # ------------------------------------------------------------------ the copies are made

    def copied(self, results: list[object]) -> None:
        """Take over where everything lies now."""
        copies: dict[str, list[Chunk]] = {}
        for first, plan in self._plans:
            copies[plan.path] = plan.copied(cast("list[int]", results[first + len(plan.ops) - 1]))
        for move in self._sealed:
            move.copies = [chunk for plan in move.parts for chunk in copies[plan.path]]
        if self.tail is not None:
            moved = iter(copies[self.tail.path])
            for move in self._open:
                move.copies = [next(moved) for _ in move.move.sources]
        self._unindexed.extend(self._sealed)

    def index_next(self) -> list[DiskOp] | None:
        """Operations that close the next sealed block's file with its index; None when all have one."""
        if not self._unindexed:
            return None
        move = self._unindexed.popleft()
        data = move.hosted.stream.encode_index(move.move, move.copies)
        last = move.parts[-1]
        ops, move.index = index_ops(last.path, last.end, data)
        return ops

    def sync_ops(self) -> list[DiskOp]:
        """Syncs of all new files and their names."""
        return finish_ops(self.paths) if self.paths else []

    def settle(self, serves: Callable[[Hosted], bool], indexed: Callable[[Hosted, int, int], None]) -> list[str]:
        """Read from the copies from now on. Returns the files that turned out to be needed by nobody."""
        unused: list[str] = []
        for move in [*self._sealed, *self._open]:
            accepted = serves(move.hosted) and move.hosted.stream.moved(move.move, move.copies, move.index)
            if not accepted:
                unused += [plan.path for plan in move.parts]
            elif move.index is not None:
                indexed(move.hosted, move.move.block, move.index.length)
        return unused

    def owner_of(self, failure: DiskFailure) -> Hosted | None:
        """The stream one of whose chunks could not be copied."""
        for move in [*self._sealed, *self._open]:
            for chunk in move.move.sources:
                if chunk.path == failure.path and chunk.offset <= failure.offset < chunk.offset + max(1, chunk.length):
                    return move.hosted
        return None
