"""What a stream answers its callers inside the core: decisions, selections, and the work it wants done on its blocks."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waymaker_core.api.requests import Published
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.records import PruneRecord, PublishRecord

if TYPE_CHECKING:
    from waymaker_core.stream.blocks.columns import Columns

MESSAGE_OVERHEAD_BYTES = 33
"""What a message can take on the wire besides its stored body: sequence, time, count and lengths, at their longest."""


@dataclass(slots=True, eq=False)
class PublishDecision:
    """What a publish came to, already staged in the tail.

    `record` is None when every message was refused. `parts` are the stored bodies of the accepted messages, in order.
    `depends_on_uncommitted`: the answer depends on records that are not committed yet and must not leave before they are; with
    a record of its own it leaves with that record anyway.
    """

    record: PublishRecord | None
    parts: list[bytes]
    published: Published
    depends_on_uncommitted: bool


@dataclass(slots=True, eq=False)
class CopyDecision:
    """Copies of messages, and the originals that end with them (`drop_seqs`, `drop_sizes`): columns of a `DropRecord`."""

    copies: PublishRecord
    drop_seqs: array[int]
    drop_sizes: array[int]


class Displaced(Exception):
    """Copies would not outlive the commit that writes them, for want of room under the stream's limits; nothing is staged."""


@dataclass(slots=True, eq=False)
class UpdateDecision:
    """What new settings prune: `records` go into the stream's log in this order; `pruned` counts their messages."""

    records: list[PruneRecord]
    pruned: int


@dataclass(slots=True, eq=False)
class Selection:
    """Live messages found from a cursor on, as ascending inclusive ranges of sequences, all of them live.

    Everything from the cursor up to (not including) `next_seq` was considered: selected, not matching or gone.
    `next_seq` beyond the stream's last sequence means there is nothing more. `byte_count` counts stored bodies and
    `MESSAGE_OVERHEAD_BYTES` for each.
    """

    ranges: list[tuple[int, int]]
    count: int
    byte_count: int
    next_seq: int

    def __repr__(self) -> str:
        return f"Selection({self.ranges}, count={self.count}, bytes={self.byte_count}, next={self.next_seq})"


@dataclass(slots=True, eq=False)
class BlockRelocation:
    """Chunks of one block that should be copied to another file, and what to say when they are there.

    `sources` and `keep` are as in `disk.CopyChunks`; `lengths` are the bytes each copy takes. `sealed`: the block is
    complete and every chunk of it is listed, so it gets files of its own and an index; otherwise it is the open block
    (or a part of it), which goes to a shared tail file. `block`, `first_seq` and `entries` say which chunks these are; a
    move whose block is gone meanwhile is simply not accepted by `Stream.moved`. `messages`: about how many its index lists.
    `dead`: flags of the entries that are left behind, or None to take all along; `replaces`: the index it had before.
    `gone`: chunks of the open block that hold nothing live and are forgotten. `columns`: the block's index, as it was
    when the move was planned; the cache may give it up before the new one is made.
    """

    block: int
    first_seq: int
    messages: int
    entries: list[int]
    sources: list[Chunk]
    keep: list[list[tuple[int, int]] | None]
    lengths: list[int]
    columns: Columns
    sealed: bool = False
    dead: bytes | None = None
    replaces: Chunk | None = None
    gone: list[int] = field(default_factory=list)
