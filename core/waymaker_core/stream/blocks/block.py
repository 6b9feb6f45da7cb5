"""A block: the messages of one range of sequences, `(seq - 1) // block_size`, as one unit of retention and storage.

The summary (which messages are live, how many, their bytes and times) is always resident and is committed state; it is
all that replay needs. The columns are an index over the same messages: resident while the block is open or pinned or in
use, loaded from the block's file otherwise.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.stream.blocks.columns import Columns
from waymaker_core.stream.blocks.need_blocks import NeedBlocks

TIME_MAX_MS = (1 << 63) - 1
SKIPS_MAX = 64
"""Patterns without any message in a block that its summary remembers."""


class Block:
    """`first`: sequence of entry 0. `size`: entries so far, holes included. `head`: first live entry (`size`: none).

    `alive` and `bytes` count live messages. `time_min`, `time_max`: bounds of all its times. `last_size`: size of the
    last entry. `ordered`: no entry's time is below an earlier one's. `dead`: one byte an entry, 1 where no
    live message is, or None while every entry is live. `files`: its own files; `index`: where its index can be loaded.
    `stored` and `stored_bytes`: messages whose bodies its own files hold, the deleted ones included, and their bytes; 0
    until they are known. `due_ms`, `newest_ms`, `spared`: notes on the projection (see `retention`). `skips`: patterns that
    match nothing here, once sealed. `used`: its columns were asked for since the cache looked last.
    """

    __slots__ = (
        "number", "first", "size", "head", "alive", "bytes", "time_min", "time_max", "last_size", "ordered", "dead",
        "columns", "files", "index", "stored", "stored_bytes", "due_ms", "newest_ms", "spared", "skips", "used",
    )  # fmt: skip

    def __init__(self, number: int, first: int, columns: Columns | None) -> None:
        self.number = number
        self.first = first
        self.size = 0
        self.head = 0
        self.alive = 0
        self.bytes = 0
        self.time_min = TIME_MAX_MS
        self.time_max = 0
        self.last_size = 0
        self.ordered = True
        self.dead: bytearray | None = None
        self.columns = columns
        self.files: list[str] = []
        self.index: Chunk | None = None
        self.stored = 0
        self.stored_bytes = 0
        self.due_ms = TIME_MAX_MS
        self.newest_ms = 0
        self.spared = -1
        self.skips: set[str] | None = None
        self.used = False

    @property
    def last(self) -> int:
        """Return the sequence of the last entry."""
        return self.first + self.size - 1

    @property
    def first_live(self) -> int:
        """Return the sequence of the first live message; there is one."""
        return self.first + self.head

    def resident(self) -> Columns:
        """Return the columns, or raise `NeedBlocks`."""
        if self.columns is None:
            raise NeedBlocks([self.number])
        self.used = True
        return self.columns

    def is_live(self, seq: int) -> bool:
        """Return True if the message was not deleted. Needs no index."""
        entry = seq - self.first
        return 0 <= entry < self.size and (self.dead is None or not self.dead[entry])

    def next_live(self, entry: int) -> int:
        """Return the first live entry at or behind one; `size` where there is none."""
        entry = max(entry, self.head)
        if self.dead is None or entry >= self.size:
            return min(entry, self.size)
        found = self.dead.find(0, entry)
        return found if found >= 0 else self.size

    def live_end(self, entry: int) -> int:
        """Return the entry behind the run of live ones that begins at a live entry."""
        if self.dead is None:
            return self.size
        found = self.dead.find(1, entry)
        return found if found >= 0 else self.size

    def live_count_from(self, seq: int) -> int:
        """Return how many live messages have this sequence or a later one."""
        entry = max(0, seq - self.first)
        if entry == 0:
            return self.alive
        if entry >= self.size:
            return 0
        return self.size - entry if self.dead is None else self.dead.count(0, entry)

    def forget_notes(self) -> None:
        """Judge its age anew."""
        self.due_ms, self.newest_ms, self.spared = self.time_min, self.time_max, -1

    # ------------------------------------------------------------ changes

    def append(
        self, seq: int, ids: list[int], times_ms: array[int], sizes: array[int], lengths: array[int], chunk: Chunk,
        skip: int, byte_count: int,
    ) -> None:  # fmt: skip
        """Append messages with consecutive sequences from `seq` on; what lies between is a hole."""
        columns = self.columns
        assert columns is not None, "the block that grows is resident"
        gap = seq - self.first - self.size
        if gap:
            assert gap > 0, "sequences never go back"
            self._mark_hole(gap, columns)
        count = len(ids)
        columns.extend(ids, times_ms, sizes, lengths, chunk, skip)
        low, high = min(times_ms), max(times_ms)
        if self.ordered and (low < self.time_max or (low != high and not _is_sorted(times_ms))):
            self.ordered = False
        self.size += count
        if self.dead is not None:
            self.dead += bytes(count)
        self.alive += count
        self.bytes += byte_count
        self.time_min = min(self.time_min, low)
        self.time_max = max(self.time_max, high)
        self.due_ms = min(self.due_ms, low)
        self.newest_ms = max(self.newest_ms, high)
        self.spared = -1
        self.last_size = sizes[-1]

    def _mark_hole(self, gap: int, columns: Columns) -> None:
        columns.add_hole(gap)
        if self.dead is None:
            self.dead = bytearray(self.size)
        self.dead += b"\x01" * gap
        if self.head == self.size:
            self.head += gap
        self.size += gap

    def drop(self, seqs: Sequence[int], sizes: Sequence[int]) -> list[int]:
        """Delete messages of this block. Return the sizes of those that were live."""
        first, size_now = self.first, self.size
        dead = self.dead
        if dead is None:
            dead = self.dead = bytearray(size_now)
        gone: list[int] = []
        for seq, size in zip(seqs, sizes, strict=True):
            entry = seq - first
            if 0 <= entry < size_now and not dead[entry]:
                dead[entry] = 1
                gone.append(size)
        self.alive -= len(gone)
        self.bytes -= sum(gone)
        if self.head < size_now and dead[self.head]:
            found = dead.find(0, self.head)
            self.head = found if found >= 0 else size_now
        return gone


def _is_sorted(times_ms: array[int]) -> bool:
    values = times_ms.tolist()
    return values == sorted(values)
