"""The answers of a stream inside the core: decisions, selections, and the work to be done on its blocks."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waymaker_core.api.requests import Published
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.records import PruneRecord, PublishRecord, SettingsRecord

if TYPE_CHECKING:
    from waymaker_core.stream.blocks.columns import Columns

MESSAGE_OVERHEAD_BYTES = 33
"""The most that a message can take on the wire besides its stored body: sequence, time, count and lengths, at their longest."""


@dataclass(slots=True, eq=False)
class PublishDecision:
    """The result of a publish, already staged in the overlay.

    `record` is None when every message was refused. `parts` are the stored bodies of the accepted messages, in order.
    `depends_on_uncommitted`: the answer depends on records that are not committed yet and must not leave before they
    are; with a record of its own it leaves with that record anyway.
    """

    record: PublishRecord | None
    parts: list[bytes]
    published: Published
    depends_on_uncommitted: bool


@dataclass(slots=True, eq=False)
class CopyDecision:
    """Copies of messages, and the originals deleted with them (`drop_seqs`, `drop_sizes`): columns of a `DropRecord`."""

    copies: PublishRecord
    drop_seqs: array[int]
    drop_sizes: array[int]


@dataclass(slots=True, eq=False)
class ServiceDecision:
    """Messages of a service (None: it appends none), and messages deleted with them: columns of a `LayerRecord`."""

    messages: PublishRecord | None
    drop_seqs: array[int]
    drop_sizes: array[int]


class Displaced(Exception):
    """Copies that would not outlive the commit that writes them, because of the stream's limits; nothing is staged."""


@dataclass(slots=True, eq=False)
class UpdateDecision:
    """New settings and the messages that they prune: `records` for the stream's log in this order; `pruned` counts messages."""

    records: list[PruneRecord | SettingsRecord]
    pruned: int


@dataclass(slots=True, eq=False)
class Selection:
    """Live messages found from a cursor on, as ascending inclusive ranges of sequences, all of them live.

    Everything from the cursor up to (not including) `next_seq` was looked at: selected, not matching or deleted.
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
    """Chunks of one block to be copied to another file, and what the stream needs to know once they are there.

    `block`, `first_seq` and `entries` say which chunks these are; a relocation whose block was deleted meanwhile is not
    applied. `sources` and `keep` are as in `disk_ops.CopyChunks`; `lengths` are the bytes each copy takes. `sealed`:
    the block is complete and every chunk of it is listed, so it gets files of its own and an index; otherwise it is the
    open block (or a part of it), which is copied to a shared block file. `messages`: about how many its index lists.
    `dead`: flags of the entries that are left behind, or None to take all along; `replaces`: the index it had before.
    `gone`: chunks of the open block that hold nothing live and are forgotten. `columns`: the block's index when the
    relocation was planned; the cache may evict it before the new one is made.
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
