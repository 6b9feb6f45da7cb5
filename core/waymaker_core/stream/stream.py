"""A stream: what is committed, the overlay of what is not, and how records change it.

A stream is a state machine over a log of records. Decisions (`admission`, `retention`) read committed state and the
overlay, and stage what they decide; one that raises has staged nothing. `Stream.apply` changes committed state, and nothing
else may: it is called with each record once, in log order, live and in replay alike. `reads` see committed, live messages
only. `relocation` knows where their bytes lie.

Applying asks no questions: a record says which sequence, which time, which drops. It needs no index of a sealed block,
because a record never cuts through one: it truncates whole blocks, or names single messages with their sizes. It must never
look at a clock, hold a payload, or decide anything.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from sortedcontainers import SortedDict

from waymaker_core.api.requests import StreamStats
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import Limits
from waymaker_core.model.names import reserved_prefix
from waymaker_core.model.records import (
    AckRecord,
    DropRecord,
    EpochRecord,
    ImportEnded,
    LayerRecord,
    PruneRecord,
    PublishRecord,
    SettingsRecord,
    StreamRecord,
)
from waymaker_core.model.subjects import SubjectFilter
from waymaker_core.stream.blocks.block import Block
from waymaker_core.stream.blocks.columns import Columns
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.blocks.subject_caps import SubjectCaps
from waymaker_core.stream.blocks.subject_table import SubjectTable
from waymaker_core.stream.clock import CORRECTIONS_MAX, Correction, is_ahead, server_time
from waymaker_core.stream.epochs import Epochs
from waymaker_core.stream.overlay import Overlay
from waymaker_core.stream.producers import Producers
from waymaker_core.stream.work import Work

SHARED_FILES = ("journal/", "tails/")
"""Beginnings of the paths of files that do not belong to one block."""


class Stream:
    """One incarnation of a stream. Committed state, the overlay over it, and notes that can be made anew.

    Figures of what is committed: `first_seq` of live messages (`last_seq + 1` when there is none), `last_seq` (never
    decreases), `count` and `bytes` of live messages, `position` of the last applied record, `clock_ms` (greatest server time
    given), `reserved_to`; `corrections` of server time, oldest first. `notice`: a text for operators, or empty.

    `blocks`: by number, in order; a block without a live message is not there. `in_order`: no message is older than one
    before it, since the stream was last empty. `shielded`: retention has met messages kept only because an older one at
    their subject is kept. `absent`: how many blocks are not resident. `released`: files that no block uses any more.
    """

    def __init__(self, stream_id: int, config: StreamConfig, created_ms: int, limits: Limits) -> None:
        assert config.block_size > 0, "a validated configuration has a block size"
        self.id = stream_id
        self.config = config
        self.created_ms = created_ms
        self.limits = limits
        self.notice = ""
        self.importing = False
        """True while it is being restored from an archive: it serves no client."""
        self.position = 0
        self.last_seq = 0
        self.count = 0
        self.bytes = 0
        self.clock_ms = 0
        self.corrections: list[Correction] = []
        self.reserved_to = 0
        self.block_size = config.block_size
        self.blocks: SortedDict[int, Block] = SortedDict()
        self.subjects = SubjectTable(config.block_size)
        self.overlay = Overlay(config.block_size)
        self.producers = Producers(limits)
        self.epochs = Epochs()
        self.time_max = 0
        self.in_order = True
        self.shielded = False
        self.absent = 0
        self.file_uses: dict[str, int] = {}
        self.released: list[str] = []
        self.layout = 0
        """Number of moves of messages and of released files since the start: places known before may be void."""
        self.reserve_ahead = 0
        """Sequences that the last reservation was for."""
        self.reserve_interval_ms = 0
        """The interval between syncs, set by a node that syncs at intervals; 0: nothing is reserved.

        With one, publish records carry a `reserved_to` ahead of what they assign, by what is published in a few intervals.
        """
        self.reserve_noted_ms = 0
        self.reserve_noted_seq = 0
        """Time of the last reservation, and the sequence behind which it was made."""
        self.void = (1, 0)
        """First and last of the sequences that were skipped when the node opened: no message ever has one."""
        self.reserved = bool(reserved_prefix(config.name))
        self.filter = SubjectFilter(config.subjects_filter)
        self.accepted: dict[str, int] = {}
        self.caps = SubjectCaps()
        self.work = Work()
        """The work that searches may still spend; a node puts its own here, one for all its streams."""

    # ------------------------------------------------------------ figures

    @property
    def first_seq(self) -> int:
        """Return the sequence of the first live message; `last_seq + 1` when there is none."""
        return self.blocks.peekitem(0)[1].first_live if self.blocks else self.last_seq + 1

    @property
    def settings(self) -> StreamConfig:
        """Return the settings under which decisions are taken: the newest ones, committed or staged."""
        return self.overlay.configs[-1] if self.overlay.configs else self.config

    @property
    def pinned(self) -> bool:
        """Return True if any publish may need any index, so that all of them stay resident."""
        return self.config.max_msgs_per_subject > 0

    def is_complete(self, block: Block) -> bool:
        """Return True if nothing will ever be added to a block."""
        return (block.number + 1) * self.block_size <= self.last_seq

    def need_all(self) -> None:
        """Raise `NeedBlocks` unless every index is resident."""
        if not self.absent:
            return
        raise NeedBlocks([number for number, block in self.blocks.items() if block.columns is None])

    def block_of(self, seq: int) -> int:
        """Return the number of the block of a sequence."""
        return (seq - 1) // self.block_size

    def is_ahead(self, wall_ms: int) -> bool:
        """Return True if server time, as decided, runs so far ahead of the wall clock that it has to be taken back."""
        return is_ahead(self.overlay.clock_ms, wall_ms, self.limits.clock_ahead_max_ms)

    def server_time(self, wall_ms: int) -> int:
        """Return the server's time for the next message."""
        return server_time(self.overlay.clock_ms, wall_ms, self.limits.clock_ahead_max_ms)

    def is_live(self, seq: int) -> bool:
        """Return True if a committed message was not deleted. Needs no index."""
        block = self.blocks.get((seq - 1) // self.block_size)
        return block is not None and block.is_live(seq)

    def live_count_from(self, seq: int) -> int:
        """Return how many live messages have this sequence or a later one."""
        number = self.block_of(max(1, seq))
        total = 0
        for later in self.blocks.irange(number):
            block = self.blocks[later]
            total += block.alive if later > number else block.live_count_from(seq)
        return total

    def stats(self) -> StreamStats:
        """Return the figures of committed, live messages."""
        blocks = self.blocks
        return StreamStats(
            self.first_seq, self.last_seq, self.count, self.bytes, len(blocks), blocks.peekitem(0)[0] if blocks else 0
        )

    def take_released(self) -> list[str]:
        """Return the files that no block uses any more, once each.

        Replay never opens one, so that they may be deleted as soon as the records that released them are durable.
        """
        released, self.released = self.released, []
        return released

    # ------------------------------------------------------------ changes

    def apply(self, position: int, record: StreamRecord, chunk: Chunk | None) -> None:
        """Apply any record of the stream's log to its messages."""
        assert position == self.position + 1, "records are applied once, in order and without a gap"
        if isinstance(record, PublishRecord):
            assert chunk is not None, "a publish has bodies"
            self.apply_publish(record, chunk)
        elif isinstance(record, PruneRecord):
            self.apply_prune(record)
        elif isinstance(record, AckRecord):
            self.apply_drops(record.drop_seqs, record.drop_sizes)
        elif isinstance(record, DropRecord):
            if record.copies is not None:
                assert chunk is not None, "copies have bodies"
                self.apply_publish(record.copies, chunk)
            self.apply_drops(record.drop_seqs, record.drop_sizes)
        elif isinstance(record, LayerRecord):
            if record.messages is not None:
                assert chunk is not None, "messages have bodies"
                self.apply_publish(record.messages, chunk)
            self.apply_drops(record.drop_seqs, record.drop_sizes)
        elif isinstance(record, SettingsRecord):
            self.apply_config(record.config)
        elif isinstance(record, ImportEnded):
            self.open_at(record.last_seq)
        elif isinstance(record, EpochRecord):
            self.epochs.begin(record.epoch, position)
        self.position = position

    def apply_publish(self, record: PublishRecord, chunk: Chunk) -> None:
        """Append messages, then delete what they push out."""
        overlay = self.overlay
        last_seq = record.first_seq + len(record.subjects) - 1 if record.seqs is None else record.seqs[-1]
        if last_seq > overlay.last_seq:
            # Not decided here: replayed, or sent by a primary.
            overlay.clock_ms = record.clock_ms or overlay.clock_ms
            overlay.count += len(record.subjects)
            overlay.bytes += sum(record.sizes)
            overlay.last_seq = last_seq
            self.caps.forget()
        if record.seqs is None:
            self._append(record, 0, len(record.subjects), record.first_seq, chunk)
        else:
            self._append_with_gaps(record, record.seqs, chunk)
        if record.clock_ms:
            self._set_clock(record.clock_ms)
        self.last_seq = last_seq
        self.reserved_to = max(self.reserved_to, record.reserved_to)
        overlay.reserved_to = max(overlay.reserved_to, record.reserved_to)
        overlay.commit_publishes(last_seq)
        if record.spans or self.producers.staged:
            self.producers.apply(record.spans, record.first_seq, last_seq)
        if record.truncate_to:
            self._truncate(record.truncate_to)
        if record.drop_seqs:
            self.apply_drops(record.drop_seqs, record.drop_sizes)

    def apply_prune(self, record: PruneRecord) -> None:
        """Apply a record of retention."""
        if record.clock_ms:
            self.overlay.commit_correction(record.clock_ms)
            self._set_clock(record.clock_ms)
        if record.truncate_to:
            self._truncate(record.truncate_to)
        if record.drop_seqs:
            self.apply_drops(record.drop_seqs, record.drop_sizes)

    def _set_clock(self, clock_ms: int) -> None:
        """Move server time on, or back behind the last message."""
        if clock_ms < self.clock_ms:
            # Of corrections without a live message only the newest still matters.
            self.corrections = [each for each in self.corrections if each.last_seq >= self.first_seq]
            self.corrections.append(Correction(self.last_seq, clock_ms, self.clock_ms))
            del self.corrections[:-CORRECTIONS_MAX]
        self.clock_ms = clock_ms

    def apply_drops(self, seqs: Sequence[int], sizes: Sequence[int]) -> None:
        """Delete single messages; one that is deleted already changes nothing."""
        block_size = self.block_size
        dropped = start = 0
        while start < len(seqs):
            number = (seqs[start] - 1) // block_size
            low, high = number * block_size, (number + 1) * block_size
            end = start + 1
            while end < len(seqs) and low < seqs[end] <= high:
                end += 1
            dropped += self._drop_in_block(number, seqs[start:end], sizes[start:end])
            start = end
        if dropped:
            self._after_drops(dropped)

    def _drop_in_block(self, number: int, seqs: Sequence[int], sizes: Sequence[int]) -> int:
        overlay, block = self.overlay, self.blocks.get(number)
        foreign = overlay.commit_drops(number, seqs)
        if block is None:
            return 0
        if foreign:
            # Not decided here, or deleted for another reason before this record was applied.
            known = dict(zip(seqs, sizes, strict=True))
            for seq in dict.fromkeys(foreign):
                if block.is_live(seq) and not overlay.is_dropped(seq):
                    overlay.count -= 1
                    overlay.bytes -= known[seq]
                    self.caps.forget()
        gone = block.drop(seqs, sizes)
        self.count -= len(gone)
        self.bytes -= sum(gone)
        if not block.alive:
            self._release(block)
        return len(gone)

    def apply_config(self, config: StreamConfig) -> None:
        """Apply new settings."""
        self.overlay.commit_config(config)
        self.config = config

    def open_at(self, last_seq: int) -> None:
        """End an import: sequences up to here are used, whether their messages still existed or not."""
        assert self.overlay.is_empty(), "nothing is published to a stream being imported"
        self.importing = self.overlay.import_ended = False
        self.last_seq = max(self.last_seq, last_seq)
        self.overlay.last_seq = max(self.overlay.last_seq, last_seq)

    def skip_reserved(self) -> None:
        """Skip, after a recovery, what may have been assigned before the stop (`reserved_to`)."""
        assert self.overlay.is_empty(), "only a stream that has just been recovered skips"
        self.overlay.last_seq = max(self.overlay.last_seq, self.reserved_to)
        self.void = (self.last_seq + 1, self.overlay.last_seq)

    def discard_uncommitted(self) -> None:
        """Drop every decision that is not committed, and what retention noted on the strength of one."""
        self.overlay.discard(self.last_seq, self.count, self.bytes, self.clock_ms, self.reserved_to)
        self.producers.discard()
        self.caps.forget()
        self.void = (1, 0)
        for block in self.blocks.values():
            block.forget_notes()

    # ------------------------------------------------------------ appending

    def _append(self, record: PublishRecord, start: int, end: int, seq: int, chunk: Chunk, skip: int = 0) -> int:
        """Append entries `start` to `end` of a record, with consecutive sequences from `seq` on; return the skip behind
        them.
        """
        block_size = self.block_size
        while start < end:
            number = (seq - 1) // block_size
            stop = min(end, start + (number + 1) * block_size - seq + 1)
            lengths = record.lengths
            if stop - start == len(record.subjects):
                self._append_to_block(number, seq, record.subjects, record.times_ms, record.sizes, lengths, chunk, skip)
                return skip
            lengths = lengths[start:stop]
            self._append_to_block(
                number, seq, record.subjects[start:stop], record.times_ms[start:stop], record.sizes[start:stop], lengths,
                chunk, skip,
            )  # fmt: skip
            skip += sum(lengths)
            seq += stop - start
            start = stop
        return skip

    def _append_with_gaps(self, record: PublishRecord, seqs: array[int], chunk: Chunk) -> None:
        start = skip = 0
        for entry in range(1, len(seqs) + 1):
            if entry == len(seqs) or seqs[entry] != seqs[entry - 1] + 1:
                skip = self._append(record, start, entry, seqs[start], chunk, skip)
                start = entry

    def _append_to_block(
        self, number: int, seq: int, subjects: list[str], times_ms: array[int], sizes: array[int], lengths: array[int],
        chunk: Chunk, skip: int,
    ) -> None:  # fmt: skip
        block = self.blocks.get(number)
        if block is None:
            block = self.blocks[number] = Block(number, seq, Columns())
            self.subjects.repaired.clear()
        columns = block.columns
        assert columns is not None, "the block that grows is resident"
        if self.subjects.repaired:
            self.subjects.enter_again(subjects, number, self.blocks.peekitem(0)[0])
        ids = list(map(columns.table.get, subjects))
        known: list[int] = self._enter(number, columns, subjects, ids) if None in ids else ids  # type: ignore[assignment]
        self.subjects.last.update(zip(subjects, range(seq, seq + len(subjects)), strict=True))
        byte_count = sum(sizes)
        if min(times_ms) < self.time_max:
            self.in_order = False
        block.append(seq, known, times_ms, sizes, lengths, chunk, skip, byte_count)
        self.in_order = self.in_order and block.ordered
        self.time_max = max(self.time_max, block.time_max)
        self.count += len(subjects)
        self.bytes += byte_count
        if not chunk.path.startswith(SHARED_FILES) and chunk.path not in block.files:
            self._use_file(block, chunk.path)

    def _enter(self, number: int, columns: Columns, subjects: list[str], ids: list[int | None]) -> list[int]:
        """Give ids to the subjects that are new in a block. All at once: a bucket's replay enters little else."""
        table, names = columns.table, columns.subjects
        known: list[int]
        if ids.count(None) == len(ids):
            new = subjects
        else:
            new = [subject for subject, ident in zip(subjects, ids, strict=True) if ident is None]
        count = len(names)
        table.update(zip(new, range(count, count + len(new)), strict=True))
        if len(table) != count + len(new):
            # Some occur more than once; those took the id of their last place.
            new = list(dict.fromkeys(new))
            table.update(zip(new, range(count, count + len(new)), strict=True))
        names += new
        self.subjects.enter_block(new, number, self.blocks.peekitem(0)[0])
        if len(new) == len(subjects):
            return list(range(count, count + len(new)))
        known = [table[subject] for subject in subjects]
        return known

    # ------------------------------------------------------------ deleting

    def _truncate(self, truncate_to: int) -> None:
        """Delete every message below; none of them shares a block with one that stays."""
        dropped = byte_count = 0
        while self.blocks:
            _, block = self.blocks.peekitem(0)
            if block.first_live >= truncate_to:
                break
            assert block.last < truncate_to, "a record truncates whole blocks"
            dropped += block.alive
            byte_count += block.bytes
            self._release(block)
        self.count -= dropped
        self.bytes -= byte_count
        if truncate_to > self.overlay.truncate_to:
            # Not decided here. What is staged at this moment cannot be below, for a primary has no other's records.
            self.overlay.count -= dropped
            self.overlay.bytes -= byte_count
            self.overlay.truncate_to = truncate_to
            self.caps.forget()
        self.overlay.commit_truncate(truncate_to)
        if dropped:
            self._after_drops(dropped)

    def _release(self, block: Block) -> None:
        """Remove a block that has no live message any more."""
        del self.blocks[block.number]
        self.absent -= block.columns is None
        for path in block.files:
            self.release_file(path)
        block.files = []

    def _use_file(self, block: Block, path: str) -> None:
        block.files.append(path)
        self.file_uses[path] = self.file_uses.get(path, 0) + 1

    def use_files(self, block: Block, paths: Sequence[str]) -> None:
        """Count the files that a block has of its own; one may serve two blocks that a record crosses."""
        for path in paths:
            if path not in block.files:
                self._use_file(block, path)

    def release_file(self, path: str) -> None:
        """End the use of a file by a block."""
        self.file_uses[path] -= 1
        if not self.file_uses[path]:
            del self.file_uses[path]
            self.released.append(path)
            self.layout += 1

    def _after_drops(self, dropped: int) -> None:
        if not self.blocks:
            self.in_order = True
            self.shielded = False
            self.time_max = 0
        for subject in self.subjects.sweep_some(dropped):
            if subject in self.subjects.last:
                try:
                    self.latest(subject)
                except NeedBlocks:
                    continue

    def judge_age_anew(self) -> None:
        """Forget notes of age after another deletion: it may take the message for whose sake retention spared others."""
        if self.shielded:
            self.shielded = False
            for block in self.blocks.values():
                block.forget_notes()

    # ------------------------------------------------------------ subjects

    def latest(self, subject: str) -> int:
        """Return the newest live sequence at a subject, or 0; repairs the subject table. `NeedBlocks` only after
        deletions.
        """
        seq = self.subjects.last.get(subject, 0)
        if not seq or self.is_live(seq):
            return seq
        found = self._previous(subject, seq, None)
        if found:
            self.subjects.set_last(subject, found)
        else:
            self.subjects.remove(subject)
        newest = self.blocks.get(self.block_of(self.last_seq))
        if newest is not None and newest.columns is not None and newest.columns.knows(subject):
            # Known to the block that grows: its next message there would not look new.
            self.subjects.repaired[subject] = None
        return found

    def projected_latest(self, subject: str) -> int:
        """Return the newest sequence at a subject once everything staged is applied, or 0."""
        overlay = self.overlay
        seq = overlay.latest_at(subject)
        if seq > self.last_seq:
            if not overlay.is_dropped(seq):
                return seq
            staged = overlay.seqs_at(subject)
            if staged:
                return staged[-1]
        seq = self.latest(subject)
        if not seq or not overlay.is_dropped(seq):
            return seq
        return 0 if seq < overlay.truncate_to else self._previous(subject, seq, overlay)

    def _previous(self, subject: str, before: int, overlay: Overlay | None) -> int:
        """Return the newest live sequence at a subject below another one (and not dropped in `overlay`), or 0."""
        for number in reversed(self.subjects.blocks_of(subject)):
            block = self.blocks.get(number)
            if block is None or block.first_live >= before:
                continue
            if overlay is not None and block.last < overlay.truncate_to:
                break
            for entry in reversed(block.resident().postings_of(subject)):
                seq = block.first + entry
                if seq < before and block.is_live(seq) and (overlay is None or not overlay.is_dropped(seq)):
                    return seq
        return 0

    def projected_seqs_at(self, subject: str) -> list[int]:
        """Return the sequences at a subject that are live in the projection, ascending. `NeedBlocks`."""
        overlay = self.overlay
        seqs: list[int] = []
        for number in self.subjects.blocks_of(subject):
            block = self.blocks.get(number)
            if block is not None:
                first = block.first
                seqs += [
                    first + entry
                    for entry in block.resident().postings_of(subject)
                    if block.is_live(first + entry) and not overlay.is_dropped(first + entry)
                ]
        return seqs + overlay.seqs_at(subject)

    def is_projected(self, seq: int) -> bool:
        """Return True if a message, committed or staged, is live in the projection."""
        return not self.overlay.is_dropped(seq) and (seq > self.last_seq or self.is_live(seq))

    def is_settled(self) -> bool:
        """Return True if nothing staged changes what is committed, so that an answer may leave at once."""
        overlay = self.overlay
        return overlay.is_empty() and (not self.blocks or overlay.truncate_to <= self.first_seq)
