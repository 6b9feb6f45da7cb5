"""The one door of a stream: every decision, every change and every read of it goes through `Stream`.

A stream is a state machine over a log of records. `decide_*` read committed state and the tail of decisions that are not
committed yet, and stage what they decide in that tail; they change nothing committed, and where they raise they have
staged nothing. `apply*` change committed state and nothing else may: they are called with each record once, in log order,
live and in replay alike. Reads see committed, live messages only.

It must never look at a clock, hold a payload, or decide anything while a record is applied.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Sequence

from waymaker_core.configs import StreamConfig
from waymaker_core.disk import Chunk
from waymaker_core.limits import Limits
from waymaker_core.records import PruneRecord, PublishRecord, StreamRecord
from waymaker_core.requests import ImportBatch, Messages, Page, Publish, StreamStats
from waymaker_core.stream.answers import BlockMove, PublishDecision, Selection, UpdateDecision
from waymaker_core.subjects import Pattern


class Stream:
    """One life of a stream.

    Attributes: `id`, `config`, `created_ms`, `limits`; `first_seq` (of live messages; `last_seq + 1` when there is none),
    `last_seq` (last committed, never goes back), `count` and `bytes` of live messages; `position` of the last applied
    record; `clock_ms` (greatest server time given); `reserved_to`; `notice` for operators, or empty.

    `reserve_ahead` (0: off) is set by a node that syncs at intervals: publish records then carry a `reserved_to` that far
    ahead of what they assign.
    """

    def __init__(self, stream_id: int, config: StreamConfig, created_ms: int, limits: Limits) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------ decisions

    def decide_publish(self, request: Publish, wall_ms: int) -> PublishDecision:
        """Assign sequences and times, check every message, decide what limits push out; stage all of it.

        Single messages fail on their own (`Published.failures`). Raises `NeedBlocks`, and `RefusedError`
        (INVALID_ARGUMENT) for a negative time or columns that disagree.
        """
        raise NotImplementedError

    def decide_import(self, request: ImportBatch, wall_ms: int) -> PublishDecision:
        """Take messages with the sequences and times they had; limits prune nothing. RefusedError where they do not fit."""
        raise NotImplementedError

    def decide_copies(self, subject: str, seqs: Sequence[int], bodies: Sequence[bytes], wall_ms: int) -> PublishRecord:
        """Stage copies of live messages under another subject: dead letters, with their new stored bodies.

        They get sequences and server times like a publish, and push out what a publish would push out, but nothing is
        refused. The record belongs into a `DropRecord`. Raises `NeedBlocks`.
        """
        raise NotImplementedError

    def decide_drops(self, seqs: Iterable[int]) -> tuple[array[int], array[int]]:
        """Stage the end of single messages: the sequences among `seqs` that live and are not dropped in the tail already.

        Returns `(drop_seqs, drop_sizes)` for the record that carries them. Raises `NeedBlocks`.
        """
        raise NotImplementedError

    def decide_retention(self, wall_ms: int, interest_floor: int | None) -> PruneRecord | None:
        """The next piece of what age and interest take away, staged; None when nothing is due: call until then.

        `interest_floor` is the least ack floor of all consumers (`last_seq` when there are none), None on a stream whose
        retention is not interest. A message's age ends it once `time + max_age_ms <= wall_ms`. Raises `NeedBlocks`.
        """
        raise NotImplementedError

    def decide_update(self, config: StreamConfig, wall_ms: int, dry_run: bool = False) -> UpdateDecision:
        """What exact pruning under new settings removes, in either mode; staged with the settings unless `dry_run`.

        The records go into the stream's log in one commit with the `StreamUpdated` of the catalogue, and later decisions
        are taken under the new settings at once. Raises `NeedBlocks`.
        """
        raise NotImplementedError

    def next_expiry_ms(self) -> int | None:
        """Wall time before which `decide_retention` finds nothing aged; None when nothing ever ages."""
        raise NotImplementedError

    def cut_tail(self) -> None:
        """Forget every decision that is staged and not applied. Their records must never be applied afterwards."""
        raise NotImplementedError

    # ------------------------------------------------------------ changes: committed records, in order

    def apply(self, position: int, record: StreamRecord, chunk: Chunk | None) -> None:
        """What any record of the stream's log means for its messages; `chunk` holds the record's bodies, if it has any.

        Consumers apply their part of the same record themselves. Needs no index to be resident.
        """
        raise NotImplementedError

    def apply_publish(self, record: PublishRecord, chunk: Chunk) -> None:
        """The messages of a publish record (or of a drop record's copies), and what they push out."""
        raise NotImplementedError

    def apply_prune(self, record: PruneRecord) -> None:
        """Retention's record."""
        raise NotImplementedError

    def apply_drops(self, seqs: Sequence[int], sizes: Sequence[int]) -> None:
        """Single messages end; one that is gone already stays gone."""
        raise NotImplementedError

    def apply_config(self, config: StreamConfig) -> None:
        """New settings, committed by the catalogue."""
        raise NotImplementedError

    def skip_reserved(self) -> None:
        """After an unclean stop: never assign what may have been assigned before it (`reserved_to`)."""
        raise NotImplementedError

    # ------------------------------------------------------------ reads: committed and live

    def stats(self) -> StreamStats:
        """Figures of committed, live messages."""
        raise NotImplementedError

    def is_live(self, seq: int) -> bool:
        """Whether a committed message is still there. Needs no index."""
        raise NotImplementedError

    def live_count_from(self, seq: int) -> int:
        """How many live messages have this sequence or a later one. Needs no index."""
        raise NotImplementedError

    def read_latest(self, subject: str) -> Messages:
        """The newest live message at a literal subject: one message or none. Raises `NeedBlocks`."""
        raise NotImplementedError

    def latest_seq(self, subject: str) -> int:
        """Sequence of the newest live message at a literal subject, or 0. May raise `NeedBlocks`."""
        raise NotImplementedError

    def scan_subject(self, subject: str, from_seq: int, limit: int, byte_max: int) -> Messages:
        """Live messages at a literal subject in order; at least one if there is any, whatever its size."""
        raise NotImplementedError

    def read_range(self, from_seq: int, limit: int, byte_max: int) -> Messages:
        """Live messages in order; at least one if there is any, whatever its size. Raises `NeedBlocks`."""
        raise NotImplementedError

    def messages_at(self, seqs: Sequence[int], counts: Sequence[int]) -> Messages:
        """Ascending sequences with their delivery counts as messages; what is not live is left out. Raises `NeedBlocks`."""
        raise NotImplementedError

    def messages_in(self, ranges: Sequence[tuple[int, int]], deliver_count: int) -> Messages:
        """The ranges of a `Selection` as messages, one delivery count for all. Raises `NeedBlocks`."""
        raise NotImplementedError

    def select(
        self, from_seq: int, pattern: Pattern | None, limit: int, byte_max: int, withheld: Container[int] | None = None
    ) -> Selection:
        """Live messages from a cursor on that match and are not withheld, up to `limit` messages and `byte_max` bytes.

        Bytes are stored bodies plus `MESSAGE_OVERHEAD_BYTES` each; the first message is taken whatever its size.
        Raises `NeedBlocks`.
        """
        raise NotImplementedError

    def list_subjects(self, prefix: str, after: str, limit: int, byte_max: int) -> Page:
        """Subjects with live messages that begin with `prefix` and sort behind `after`, sorted. Raises `NeedBlocks`."""
        raise NotImplementedError

    def first_seq_at_or_after_time(self, time_ms: int) -> int:
        """The first live message in sequence order with that time or a later one; `last_seq + 1` when there is none."""
        raise NotImplementedError

    def last_matching(self, pattern: Pattern | None) -> int:
        """Sequence of the last live message that matches, or 0. Raises `NeedBlocks`."""
        raise NotImplementedError

    # ------------------------------------------------------------ blocks and their indexes

    def index_location(self, block: int) -> Chunk | None:
        """Where a sealed block's index lies; None if there is none to load (resident, or gone)."""
        raise NotImplementedError

    def load_index(self, block: int, data: bytes) -> int:
        """Make an index resident; bytes it takes. Nothing happens for a block that is gone. ValueError: not that index."""
        raise NotImplementedError

    def evict_index(self, block: int) -> int:
        """Give up a resident index that can be loaded again; bytes freed, 0 where it must stay."""
        raise NotImplementedError

    def blocks_to_move(self, leaving: Callable[[str], bool]) -> list[BlockMove]:
        """Chunks to copy: of every complete block without files of its own, and others in files that `leaving` names."""
        raise NotImplementedError

    def encode_index(self, move: BlockMove, copies: Sequence[Chunk]) -> bytes:
        """The index that closes a sealed block's file, given where its chunks are now."""
        raise NotImplementedError

    def moved(self, move: BlockMove, copies: Sequence[Chunk], index: Chunk | None = None) -> bool:
        """The copies are durable: read from there from now on. False if the block is gone meanwhile."""
        raise NotImplementedError

    def take_released(self) -> list[str]:
        """Files of blocks that are gone, to be deleted once no checkpoint names them; each is told once."""
        raise NotImplementedError

    # ------------------------------------------------------------ snapshots

    def snapshot(self) -> object:
        """Committed state as plain values for CBOR: all that replay of later records needs."""
        raise NotImplementedError

    @classmethod
    def restore(cls, snapshot: object, limits: Limits) -> Stream:
        """A stream as it was at `snapshot`. ValueError where that is not one."""
        raise NotImplementedError

    def check(self) -> None:
        """Assert every invariant that can be seen from inside; for tests and simulations."""
        raise NotImplementedError
