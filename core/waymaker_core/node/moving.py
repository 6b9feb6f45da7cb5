"""Moving messages between files: the chunks of some streams, copied, indexed and synced, then read from their new place.

Sealed blocks get files of their own, each closed by its index; small ones share a file with their neighbours, so that it is
bytes that are synced and not blocks. Chunks of open blocks go to one tail file together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import cast

from waymaker_core.disk import Chunk, DiskFailure, DiskOp
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.store.block_file import PartPlan, finish_ops, index_ops, plan_block, plan_shared_file
from waymaker_core.store.block_index import index_bound
from waymaker_core.store.manifest import Manifest
from waymaker_core.stream import BlockMove
from waymaker_core.types import StreamId

PACK_BYTES = 1024 * 1024
"""Small blocks share a file up to this size: it goes when the last of them does."""
PACK_BLOCKS = 128
"""Blocks that share a file at most: their indexes are made in one step."""


class Move:
    """One block's move, and what came of it."""

    __slots__ = ("replica", "move", "copies", "index")

    def __init__(self, replica: StreamReplica, move: BlockMove) -> None:
        self.replica = replica
        self.move = move
        self.copies: list[Chunk] = []
        self.index: Chunk | None = None


class Pack:
    """Files for one large sealed block, or one file for several small ones, neighbours in their stream."""

    __slots__ = ("moves", "parts")

    def __init__(self, moves: list[Move], parts: list[PartPlan]) -> None:
        self.moves = moves
        self.parts = parts

    def copied(self, copies: dict[str, list[Chunk]]) -> None:
        """Each block's copies, in the order in which they were asked for."""
        made = (chunk for plan in self.parts for chunk in copies[plan.path])
        for move in self.moves:
            move.copies = [next(made) for _ in move.move.sources]

    def index(self) -> list[DiskOp]:
        """Operations that close the file with the blocks' indexes, one behind the other."""
        last, ops = self.parts[-1], list[DiskOp]()
        end = last.end
        for move in self.moves:
            data = move.replica.stream.encode_index(move.move, move.copies)
            if data:
                more, move.index = index_ops(last.path, end, data)
                ops += more
                end += len(data)
        return ops


def packs(moves: list[BlockMove], part_bytes: int) -> list[list[BlockMove]]:
    """Blocks of one stream, in order, as they share files: neighbours whose bodies fit one part and that are small together."""
    found: list[list[BlockMove]] = []
    bodies = total = 0
    for move in moves:
        size = sum(move.lengths)
        bodies += size
        total += size + index_bound(move.messages, len(move.lengths))
        if not found or bodies > part_bytes or total > PACK_BYTES or len(found[-1]) == PACK_BLOCKS:
            found.append([])
            bodies, total = size, size + index_bound(move.messages, len(move.lengths))
        found[-1].append(move)
    return found


class Batch:
    """The moves of a few streams. `ops` copy; then `index_next` until it gives None; then `sync_ops`; then `settle`."""

    def __init__(self, key: int, manifest: Manifest, part_bytes: int) -> None:
        self._key = key
        self._manifest = manifest
        self._part_bytes = part_bytes
        self.streams: list[StreamReplica] = []
        self.unfinished: dict[StreamId, None] = {}
        """Streams of which more sealed blocks may be worth writing anew, now that some are."""
        self.byte_count = 0
        self.ops: list[DiskOp] = []
        self.paths: list[str] = []
        """New files, the tail included."""
        self.shared_file: PartPlan | None = None
        self._packs: list[Pack] = []
        self._open: list[Move] = []
        self._plans: list[tuple[int, PartPlan]] = []
        """(index of its first operation, plan), in order."""
        self._unindexed: deque[Pack] = deque()

    def add(self, replica: StreamReplica, leaving: Callable[[str], bool], seal: bool) -> None:
        """Plan the moves of one stream; a quarantined one keeps everything where it is.

        `NeedBlocks`, before anything is planned.
        """
        moves = replica.stream.blocks_to_move(leaving, seal) if replica.damage is None else []
        self.streams.append(replica)
        self.byte_count += sum(sum(move.lengths) for move in moves)
        sealed = [move for move in moves if move.sealed]
        for together in packs(sealed, self._part_bytes):
            self._pack(replica, together)
        self._open += [Move(replica, move) for move in moves if not move.sealed]

    def _pack(self, replica: StreamReplica, moves: list[BlockMove]) -> None:
        sources = [chunk for move in moves for chunk in move.sources]
        keep = [ranges for move in moves for ranges in move.keep]
        draw = self._manifest.draw_file
        parts = plan_block(self._key, replica.id, draw, moves[0].block, sources, keep, self._part_bytes)
        assert len(moves) == 1 or len(parts) == 1, "blocks that share a file fit into one"
        self._packs.append(Pack([Move(replica, move) for move in moves], parts))
        for plan in parts:
            self._include(plan)

    def _include(self, plan: PartPlan) -> None:
        self._plans.append((len(self.ops), plan))
        self.ops += plan.ops
        self.paths.append(plan.path)

    def plan_shared_file(self) -> None:
        """Close the plan: the open blocks' chunks go to one file."""
        sources = [chunk for move in self._open for chunk in move.move.sources]
        keep = [ranges for move in self._open for ranges in move.move.keep]
        if sources:
            self.shared_file = plan_shared_file(self._key, self._manifest.draw_file(), sources, keep)
            self._include(self.shared_file)

    # ------------------------------------------------------------------ the copies are made

    def copied(self, results: list[object]) -> None:
        """Take over where everything lies now."""
        copies: dict[str, list[Chunk]] = {}
        for first, plan in self._plans:
            copies[plan.path] = plan.copied(cast("list[int]", results[first + len(plan.ops) - 1]))
        for pack in self._packs:
            pack.copied(copies)
        if self.shared_file is not None:
            moved = iter(copies[self.shared_file.path])
            for move in self._open:
                move.copies = [next(moved) for _ in move.move.sources]
        self._unindexed.extend(self._packs)

    def index_next(self) -> list[DiskOp] | None:
        """Operations that close the next file of sealed blocks with their indexes; None when all have theirs."""
        return self._unindexed.popleft().index() if self._unindexed else None

    def sync_ops(self) -> list[DiskOp]:
        """Syncs of all new files and their names."""
        return finish_ops(self.paths) if self.paths else []

    def settle(
        self, serves: Callable[[StreamReplica], bool], indexed: Callable[[StreamReplica, int, int], None]
    ) -> list[str]:
        """Read from the copies from now on. Returns the files that turned out to be needed by nobody."""
        unused: list[str] = []
        for pack in self._packs:
            accepted = [self._settle(move, serves, indexed) for move in pack.moves]
            if not any(accepted):
                unused += [plan.path for plan in pack.parts]
        for move in self._open:
            self._settle(move, serves, indexed)
        return unused

    def _settle(
        self, move: Move, serves: Callable[[StreamReplica], bool], indexed: Callable[[StreamReplica, int, int], None]
    ) -> bool:
        if not serves(move.replica) or not move.replica.stream.moved(move.move, move.copies, move.index):
            return False
        if move.index is not None and move.move.dead is None:
            indexed(move.replica, move.move.block, move.index.length)
        if move.move.replaces is not None:
            self.unfinished[move.replica.id] = None
        return True

    def owner_of(self, failure: DiskFailure) -> StreamReplica | None:
        """The stream one of whose chunks could not be copied."""
        for move in [*(move for pack in self._packs for move in pack.moves), *self._open]:
            for chunk in move.move.sources:
                if chunk.path == failure.path and chunk.offset <= failure.offset < chunk.offset + max(1, chunk.length):
                    return move.replica
        return None
