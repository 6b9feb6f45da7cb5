"""The one door of a stream: every decision, every change and every read of it goes through `Stream`.

A stream is a state machine over a log of records. `decide_*` read committed state and the tail of decisions that are not
committed yet, and stage what they decide in that tail; they change nothing committed, and where they raise they have
staged nothing. `apply*` change committed state and nothing else may: they are called with each record once, in log order,
live and in replay alike. Reads see committed, live messages only.

It must never look at a clock, hold a payload, or decide anything while a record is applied.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

from waymaker_core.api.requests import ImportBatch, Messages, Page, Publish, StreamStats
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import PruneRecord
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import admission, invariants, reads, snapshot
from waymaker_core.stream.answers import BlockRelocation, CopyDecision, PublishDecision, Selection, UpdateDecision
from waymaker_core.stream.relocation import relocation as moves
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.state import StreamState


class Stream(StreamState):
    """One life of a stream. What changes committed state is `StreamState`'s: `apply`, `apply_config`, `open_at`,
    `discard_uncommitted`.

    Attributes: `id`, `config`, `created_ms`, `limits`; `first_seq` (of live messages; `last_seq + 1` when there is none),
    `last_seq` (last committed, never goes back), `count` and `bytes` of live messages; `position` of the last applied
    record; `clock_ms` (greatest server time given); `reserved_to`; `notice` for operators, or empty.

    `reserve_interval_ms` (0: off) is set by a node that syncs at intervals: publish records then carry a `reserved_to`
    ahead of what they assign, by what the stream publishes in a few of these intervals.
    """

    # ------------------------------------------------------------ decisions

    def decide_publish(self, request: Publish, wall_ms: int) -> PublishDecision:
        """Assign sequences and times, check every message, decide what limits push out; stage all of it.

        Single messages fail on their own (`Published.failures`). Raises `NeedBlocks`, and `RefusedError`
        (INVALID_ARGUMENT) for a negative time or columns that disagree.
        """
        return admission.decide_publish(self, request, wall_ms)

    def decide_import(self, request: ImportBatch, wall_ms: int) -> PublishDecision:
        """Take messages with the sequences and times they had; limits prune nothing. RefusedError where they do not fit."""
        return admission.decide_import(self, request, wall_ms)

    def decide_copies(
        self, subject: str, seqs: Sequence[int], bodies: Sequence[bytes], wall_ms: int, replace: bool = False
    ) -> CopyDecision:
        """Stage copies of live messages under another subject: dead letters, with their new stored bodies.

        They get sequences and server times like a publish, and push out what a publish would push out, but nothing is
        refused. With `replace` the originals end with it, as one decision. Raises `NeedBlocks`, or `Displaced` where the
        limits would remove one of the copies by this very decision; nothing is staged then.
        """
        return admission.decide_copies(self, subject, seqs, bodies, wall_ms, replace)

    def decide_drops(self, seqs: Iterable[int]) -> tuple[array[int], array[int]]:
        """Stage the end of single messages: the sequences among `seqs` that live and are not dropped in the tail already.

        Returns `(drop_seqs, drop_sizes)` for the record that carries them. Raises `NeedBlocks`.
        """
        return retention.decide_drops(self, seqs)

    def decide_retention(self, wall_ms: int, interest_floor: int | None) -> PruneRecord | None:
        """The next piece of what age and interest take away, staged; None when nothing is due: call until then.

        `interest_floor` is the least ack floor of all consumers (`last_seq` when there are none), None on a stream whose
        retention is not interest. A message's age ends it once `time + max_age_ms <= wall_ms`. Raises `NeedBlocks`.
        """
        return retention.decide_retention(self, wall_ms, interest_floor)

    def decide_update(self, config: StreamConfig, wall_ms: int, dry_run: bool = False) -> UpdateDecision:
        """What exact pruning under new settings removes, in either mode; staged with the settings unless `dry_run`.

        The records go into the stream's log in one commit with the `StreamUpdated` of the catalogue, and later decisions
        are taken under the new settings at once. Raises `NeedBlocks`.
        """
        return retention.decide_update(self, config, wall_ms, dry_run)

    def next_expiry_ms(self) -> int | None:
        """Wall time before which `decide_retention` finds nothing aged; None when nothing ever ages."""
        return retention.next_expiry_ms(self)

    # ------------------------------------------------------------ reads: committed and live

    def stats(self) -> StreamStats:
        """Figures of committed, live messages."""
        blocks = self.blocks
        return StreamStats(
            self.first_seq, self.last_seq, self.count, self.bytes, len(blocks), blocks.peekitem(0)[0] if blocks else 0
        )

    def read_latest(self, subject: str) -> Messages:
        """The newest live message at a literal subject: one message or none. Raises `NeedBlocks`."""
        return reads.read_latest(self, subject)

    def latest_seq(self, subject: str) -> int:
        """Sequence of the newest live message at a literal subject, or 0. May raise `NeedBlocks`."""
        return self.latest(subject)

    def scan_subject(self, subject: str, from_seq: int, limit: int, byte_max: int) -> Messages:
        """Live messages at a literal subject in order; at least one if there is any, whatever its size."""
        return reads.scan_subject(self, subject, from_seq, limit, byte_max)

    def read_range(self, from_seq: int, limit: int, byte_max: int) -> Messages:
        """Live messages in order; at least one if there is any, whatever its size. Raises `NeedBlocks`."""
        return reads.read_range(self, from_seq, limit, byte_max)

    def messages_at(self, seqs: Sequence[int], counts: Sequence[int]) -> Messages:
        """Ascending sequences with their delivery counts as messages; what is not live is left out. Raises `NeedBlocks`."""
        return reads.messages_at(self, seqs, counts)

    def messages_in(self, ranges: Sequence[tuple[int, int]], deliver_count: int) -> Messages:
        """The ranges of a `Selection` as messages, one delivery count for all. Raises `NeedBlocks`."""
        return reads.messages_in(self, ranges, deliver_count)

    def select(self, from_seq: int, pattern: Pattern | None, limit: int, byte_max: int) -> Selection:
        """Live messages from a cursor on that match, up to `limit` messages and `byte_max` bytes.

        Bytes are stored bodies plus `MESSAGE_OVERHEAD_BYTES` each; the first message is taken whatever its size.
        Raises `NeedBlocks`.
        """
        return reads.select(self, from_seq, pattern, limit, byte_max)

    def list_subjects(self, prefix: str, after: str, limit: int) -> Page:
        """Subjects with live messages that begin with `prefix` and sort behind `after`, sorted. Raises `NeedBlocks`."""
        return reads.list_subjects(self, prefix, after, limit)

    def first_seq_at_or_after_time(self, time_ms: int) -> int:
        """The first live message in sequence order with that time or a later one; `last_seq + 1` when there is none."""
        return reads.first_seq_at_or_after_time(self, time_ms)

    def last_matching(self, pattern: Pattern | None) -> int:
        """Sequence of the last live message that matches, or 0. Raises `NeedBlocks`."""
        return reads.last_matching(self, pattern)

    # ------------------------------------------------------------ blocks and their indexes

    def index_location(self, block: int) -> Chunk | None:
        """Where a sealed block's index lies; None if there is none to load (resident, or gone)."""
        return moves.index_location(self, block)

    def load_index(self, block: int, place: Chunk, data: bytes) -> int:
        """Make an index resident that was read at `place`; bytes it takes, 0 where the block is gone or moved meanwhile.

        ValueError: not that index.
        """
        return moves.load_index(self, block, place, data)

    def evict_index(self, block: int) -> int:
        """Give up a resident index that can be loaded again; bytes freed, 0 where it must stay."""
        return moves.evict_index(self, block)

    def blocks_to_relocate(self, leaving: Callable[[str], bool], seal: bool = True) -> list[BlockRelocation]:
        """Chunks to copy: of every complete block without files of its own, and others in files that `leaving` names.

        Without `seal` complete blocks are treated like the open one, so that as little as possible is copied.

        Besides, sealed blocks in files of which little lives: as many as are bounded by their number of entries; when
        these have moved there may be more. `NeedBlocks` where their indexes must be resident first.
        """
        return moves.blocks_to_relocate(self, leaving, seal)

    def encode_index(self, relocation: BlockRelocation, copies: Sequence[Chunk]) -> bytes:
        """The index that closes a sealed block's file, given where its chunks are now."""
        return moves.encode_sealed(self, relocation, copies)

    def apply_relocation(
        self, relocation: BlockRelocation, copies: Sequence[Chunk], index: Chunk | None = None
    ) -> bool:
        """The copies are durable: read from there from now on. False if the block is gone meanwhile."""
        return moves.apply_relocation(self, relocation, copies, index)

    def files(self) -> dict[str, int]:
        """Files outside the journal that this state names, with the bytes that live in its resident chunks in each."""
        return moves.files(self)

    def chunks(self) -> Iterator[Chunk]:
        """The chunks of all blocks whose index is in no file: what an offline check must read besides the indexes."""
        return moves.chunks(self)

    def index_chunks(self) -> Iterator[Chunk]:
        """Where the indexes lie that are in files."""
        return moves.index_chunks(self)

    def take_released(self) -> list[str]:
        """Files no block uses any more; replay never opens one, so they may go once what released them is durable."""
        released, self.released = self.released, []
        return released

    # ------------------------------------------------------------ snapshots

    def snapshot(self) -> object:
        """Committed state as plain values for CBOR: all that replay of later records needs."""
        return snapshot.encode(self)

    @classmethod
    def restore(cls, value: object, limits: Limits) -> Stream:
        """A stream as it was at a snapshot. ValueError (`CorruptRecord`, `UnknownVersion`) where that is not one."""
        return snapshot.decode(value, limits, cls)

    def check(self) -> None:
        """Assert every invariant that can be seen from inside; for tests and simulations."""
        invariants.check(self)
