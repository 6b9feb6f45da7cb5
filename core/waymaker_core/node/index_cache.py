"""Indexes of sealed blocks: loaded when a search needs them, and kept up to a bound of bytes.

An action that meets a missing index changes nothing and raises `NeedBlocks`. `when_resident` reads the blocks and runs the
action again. A waiting action holds the blocks it has while it waits for further ones. So it always ends, even if it needs
more than the cache holds.

Opening indexes and searching them is bounded in each step by `limits.search_entries_max`. What came from the disk beyond that
waits encoded. An action whose blocks are all resident runs again in the next step, behind that step's inputs.

Eviction is a clock (second chance). An index that was used since the last round stays for another; one that served a single
search does not. So one long scan does not evict what others use all the time. See docs/decisions/0026-suspended-decisions.md.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from waymaker_core.api.effects import Lane
from waymaker_core.model.disk_ops import Chunk, DiskFailure, FailureKind, OpResult, ReadChunk
from waymaker_core.model.limits import U64_MAX
from waymaker_core.node.context import NodeState
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.stream import NeedBlocks
from waymaker_core.stream.relocation import relocation as relocating

Key = tuple[int, int]
"""(stream id, block)."""
BYTES_AN_ENTRY = 512
"""Bytes of an index that are opened in about the time in which an entry is looked at."""
ROUNDS_SPARE = 16


Action = Callable[[], object]
"""A function that needs indexes. It raises `NeedBlocks`, having changed nothing, where one is missing."""
OnLost = Callable[[DiskFailure], None]
"""The substitute for an action whose indexes cannot be read."""


@dataclass(slots=True, eq=False)
class Wait:
    """One suspended action: the blocks it holds, the reads it waits for, and what follows it."""

    replica: StreamReplica
    action: Action
    on_lost: OnLost
    after: Action | None
    held: dict[Key, None] = field(default_factory=dict)
    """Blocks that stay resident for it, each once however often it needs them."""
    loaded: list[int] = field(default_factory=list)
    """Blocks that were read for it."""
    missing: int = 0
    rounds: int = 0
    failure: DiskFailure | None = None


class Indexes:
    """The resident indexes of all streams, and the actions that wait for more."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._resident: OrderedDict[Key, tuple[StreamReplica, int]] = OrderedDict()
        self._bytes = 0
        self._all_held = False
        """True if everything resident was seen to be held: there is nothing to evict."""
        self._held: dict[Key, int] = {}
        self._loading: dict[Key, list[Wait]] = {}
        self._arrivals: deque[tuple[StreamReplica, int, Chunk, bytes]] = deque()
        """Indexes that were read and are not opened yet."""
        self._ready: deque[Wait] = deque()
        """Actions that lack nothing but a share of the work."""

    def when_resident(
        self, replica: StreamReplica, action: Action, on_lost: OnLost, after: Action | None = None
    ) -> bool:
        """Run an action; where it raises `NeedBlocks`, read what is missing and run it again, until it is done.

        True if it is done already. Else `after` follows the action when it is done, or `on_lost` takes the place of both.
        """
        try:
            action()
        except NeedBlocks as need:
            self._fill(Wait(replica, action, on_lost, after), need.blocks)
            return False
        return True

    def _fill(self, wait: Wait, blocks: list[int]) -> None:
        state, stream = self._state, wait.replica.stream
        wait.missing = 1
        wait.rounds += 1
        for block in blocks:
            key = (wait.replica.id, block)
            if key not in wait.held:
                wait.held[key] = None
                self._held[key] = self._held.get(key, 0) + 1
            if key in self._loading:
                self._loading[key].append(wait)
                wait.missing += 1
                continue
            chunk = relocating.index_location(stream, block)
            if chunk is None:
                continue
            self._loading[key] = [wait]
            wait.loaded.append(block)
            wait.missing += 1
            loaded = partial(self._loaded, wait.replica, block, chunk)
            lost = partial(self._lost, wait.replica, block, chunk)
            state.start(Lane.READ, [ReadChunk(chunk)], loaded, lost)
        if wait.missing == 1:
            self._ready.append(wait)
        else:
            self._arrived(wait)

    def has_ready(self) -> bool:
        """Return True if a step could resume an action or open an index at once."""
        return bool(self._ready or self._arrivals)

    def resume(self) -> None:
        """Resume what earlier steps left, with a share of its own, so that new calls never starve waiting ones."""
        if not self.has_ready():
            return
        work, share = self._state.work, self._state.limits.search_entries_max
        work.renew(share)
        while self._arrivals and work.left > 0:
            self._open(*self._arrivals.popleft())
        for _ in range(len(self._ready)):
            if work.left <= 0:
                break
            wait = self._ready.popleft()
            if wait.rounds > _rounds_max(wait.replica, share):
                # Others evicted what it had found, again and again: let it end.
                work.left = U64_MAX
            self._arrived(wait)
            work.left = share - work.used

    def _loaded(self, replica: StreamReplica, block: int, chunk: Chunk, results: list[OpResult]) -> None:
        data = results[0]
        assert isinstance(data, bytes)
        if self._arrivals or self._state.work.left <= 0:
            self._arrivals.append((replica, block, chunk, data))
        else:
            self._open(replica, block, chunk, data)

    def _open(self, replica: StreamReplica, block: int, chunk: Chunk, data: bytes) -> None:
        key = (replica.id, block)
        self._state.work.spend(1 + len(data) // BYTES_AN_ENTRY)
        try:
            if self._state.replicas.get(replica.id) is replica:
                byte_count = relocating.load_index(replica.stream, block, chunk, data)
                if byte_count:
                    self.admit(replica, block, byte_count)
        except ValueError as error:
            self._lost(replica, block, chunk, DiskFailure(FailureKind.CORRUPT, chunk.path, chunk.offset, str(error)))
            return
        self._state.stats.index_loads += 1
        for wait in self._loading.pop(key):
            self._arrived(wait)

    def _lost(self, replica: StreamReplica, block: int, chunk: Chunk, failure: DiskFailure) -> None:
        """Fail the actions that wait for an index, unless the block lies elsewhere by now: then they run again."""
        stale = relocating.index_location(replica.stream, block) != chunk
        for wait in self._loading.pop((replica.id, block)):
            if not stale:
                wait.failure = failure
            self._arrived(wait)

    def _arrived(self, wait: Wait) -> None:
        wait.missing -= 1
        if wait.missing:
            return
        if wait.failure is not None:
            self._release(wait)
            wait.on_lost(wait.failure)
            return
        try:
            wait.action()
        except NeedBlocks as need:
            self._fill(wait, need.blocks)
            return
        if wait.after is not None:
            wait.after()
        self._release(wait)

    def _release(self, wait: Wait) -> None:
        for number in wait.loaded:
            block = wait.replica.stream.blocks.get(number)
            if block is not None:
                block.used = False
        for key in wait.held:
            left = self._held[key] - 1
            if left:
                self._held[key] = left
            else:
                del self._held[key]
        wait.held.clear()
        self._all_held = False

    # ------------------------------------------------------------------ what is resident

    def admit(self, replica: StreamReplica, block: int, byte_count: int) -> None:
        """Note that an index is resident, and may be evicted later."""
        key = (replica.id, block)
        self._bytes += byte_count - self._resident.pop(key, (replica, 0))[1]
        self._resident[key] = (replica, byte_count)
        self._all_held = False

    def trim(self) -> None:
        """Evict indexes over the bound: the oldest that was not used since the last round, and is not held.

        What waiting actions hold comes on top of the bound: evicting others for a scan larger than the cache gains nothing.
        """
        state = self._state
        bound = state.limits.index_cache_bytes
        if self._bytes > bound and not self._all_held:
            bound += sum(self._resident[key][1] for key in self._held if key in self._resident)
        if self._bytes > bound and not self._all_held:
            for _ in range(2 * len(self._resident)):
                key, (replica, byte_count) = self._resident.popitem(last=False)
                block = replica.stream.blocks.get(key[1])
                if key in self._held or (block is not None and block.used):
                    if block is not None:
                        block.used = False
                    self._resident[key] = (replica, byte_count)
                    continue
                self._bytes -= byte_count
                if relocating.evict_index(replica.stream, key[1]):
                    state.stats.index_evictions += 1
                if self._bytes <= bound:
                    break
            self._all_held = self._bytes > bound
        state.stats.index_cache_bytes = self._bytes

    def forget(self, replica: StreamReplica) -> None:
        """Forget the indexes of a deleted stream."""
        for key in [key for key in self._resident if key[0] == replica.id]:
            self._bytes -= self._resident.pop(key)[1]


def _rounds_max(replica: StreamReplica, share: int) -> int:
    """Return how often a search may run again before something else than its own length must be the reason."""
    stream = replica.stream
    return ROUNDS_SPARE + 2 * len(stream.blocks) + 4 * len(stream.blocks) * stream.block_size // share
