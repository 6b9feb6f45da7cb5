"""A stream as a list of messages, and a toy disk: what the real one is compared with.

The model takes every decision one message at a time, by walking the whole list. It keeps two lists: what is decided (the
projection) and what is committed; and the last sequence ever committed in each block.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import google_crc32c

from waymaker_core.api.requests import Messages
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.records import AckRecord, DropRecord, PruneRecord, PublishRecord
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import NeedBlocks, Stream, reads
from waymaker_core.stream.relocation import relocation as relocating

T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """One message; `size` counts payload, headers and subject."""

    seq: int
    subject: str
    size: int
    time_ms: int
    body: bytes


@dataclass
class Failure:
    """A message that was refused."""

    code: str
    seq: int


@dataclass
class Model:
    """The naive stream."""

    config: StreamConfig
    decided: list[Message] = field(default_factory=list)
    committed: list[Message] = field(default_factory=list)
    last_decided: int = 0
    last_committed: int = 0
    clock_ms: int = 0
    newest: dict[int, int] = field(default_factory=dict)

    def block(self, seq: int) -> int:
        return (seq - 1) // self.config.block_size

    # ------------------------------------------------------------ publishing

    def publish(
        self, subject: str, payload: int, body: bytes, time_ms: int, expected: int, wall_ms: int, free: bool = False
    ) -> Message | Failure:
        """Publish messages. `free`: nothing is refused."""
        if not free and self.config.max_bytes and payload + len(subject) > self.config.max_bytes:
            return Failure("oversize", 0)
        if not free and self.config.max_msg_bytes and payload > self.config.max_msg_bytes:
            return Failure("oversize", 0)
        actual = max((message.seq for message in self.decided if message.subject == subject), default=0)
        if expected >= 0 and expected != actual:
            return Failure("wrong_revision", actual)
        if not time_ms:
            self.clock_ms = time_ms = max(wall_ms, self.clock_ms)
        self.last_decided += 1
        message = Message(self.last_decided, subject, payload + len(subject), time_ms, body)
        self.decided.append(message)
        self._cap(subject)
        if self.config.strict_limits:
            self.decided = self.within_bounds(self.decided, self.config)
        else:
            self._prune_blocks()
        return message

    def _cap(self, subject: str) -> None:
        at_subject = [message for message in self.decided if message.subject == subject]
        if self.config.max_msgs_per_subject:
            for message in at_subject[: -self.config.max_msgs_per_subject]:
                self.decided.remove(message)

    @staticmethod
    def within_bounds(messages: list[Message], config: StreamConfig) -> list[Message]:
        kept = list(messages)
        while kept and (
            (config.max_msgs and len(kept) > config.max_msgs)
            or (config.max_bytes and sum(message.size for message in kept) > config.max_bytes)
        ):
            del kept[0]
        return kept

    def _prune_blocks(self) -> None:
        while True:
            exact = self.within_bounds(self.decided, self.config)
            first = self.block(self.decided[0].seq)
            # A copy may be larger than the limit alone: then nothing fits, and the block that grows stays.
            if first == self.block(exact[0].seq if exact else self.last_decided):
                return
            self.decided = [message for message in self.decided if self.block(message.seq) != first]

    # ------------------------------------------------------------ age

    @staticmethod
    def expired(messages: list[Message], cutoff: int) -> list[Message]:
        """Return what exact pruning by age removes."""
        held: set[str] = set()
        gone = []
        for message in messages:
            if message.time_ms > cutoff or message.subject in held:
                held.add(message.subject)
            else:
                gone.append(message)
        return gone

    def forget(self, seqs: set[int]) -> None:
        self.decided = [message for message in self.decided if message.seq not in seqs]

    # ------------------------------------------------------------ commit

    def commit(self, record: PublishRecord | PruneRecord | AckRecord | DropRecord, bodies: dict[int, bytes]) -> None:
        if isinstance(record, DropRecord) and record.copies is not None:
            self.commit(record.copies, bodies)
        gone = set(record.drop_seqs)
        truncate_to = 0
        if isinstance(record, PublishRecord):
            seqs = record.seqs or range(record.first_seq, record.first_seq + len(record.subjects))
            for entry, seq in enumerate(seqs):
                self.committed.append(
                    Message(seq, record.subjects[entry], record.sizes[entry], record.times_ms[entry], bodies[seq])
                )
                self.last_committed = self.newest[self.block(seq)] = seq
        if isinstance(record, PublishRecord | PruneRecord):
            truncate_to = record.truncate_to
        self.committed = [m for m in self.committed if m.seq >= truncate_to and m.seq not in gone]

    # ------------------------------------------------------------ reads

    def latest(self, subject: str) -> int:
        return max((message.seq for message in self.committed if message.subject == subject), default=0)

    def select(self, from_seq: int, pattern: str | None) -> list[int]:
        match = Pattern(pattern).matches if pattern is not None else (lambda subject: True)
        return [message.seq for message in self.committed if message.seq >= from_seq and match(message.subject)]


class ToyDisk:
    """Files in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}

    def append(self, path: str, data: bytes) -> Chunk:
        file = self.files.setdefault(path, bytearray())
        offset = len(file)
        file += data
        return Chunk(path, offset, len(data), google_crc32c.value(data))

    def read(self, chunk: Chunk) -> bytes:
        data = bytes(self.files[chunk.path][chunk.offset : chunk.offset + chunk.length])
        assert len(data) == chunk.length
        assert google_crc32c.value(data) == chunk.crc
        return data

    def bodies(self, messages: Messages) -> list[tuple[int, int, int, bytes]]:
        """Return (sequence, time, delivery count, body) of every message."""
        found = []
        for run in messages.runs:
            data, at = run.bodies_in(self.read(run.chunk)), 0
            for seq, time_ms, length in zip(run.sequences(), run.times_ms, run.lengths, strict=True):
                found.append((seq, time_ms, run.deliver_count, data[at : at + length]))
                at += length
            assert at == len(data)
        assert len(found) == messages.count
        return found


def resident(stream: Stream, disk: ToyDisk, ask: Callable[[], T]) -> T:
    """Ask, loading indexes as long as some are missing."""
    for _ in range(200):
        try:
            return ask()
        except NeedBlocks as need:
            loaded = 0
            for number in need.blocks:
                place = relocating.index_location(stream, number)
                if place is not None:
                    loaded += relocating.load_index(stream, number, place, disk.read(place))
            assert loaded, "what is asked for can be loaded"
    raise AssertionError("the same question asks for ever more indexes")


def relocate_blocks(stream: Stream, disk: ToyDisk, leaving: Callable[[str], bool], file_number: int) -> int:
    """Move what should move, as a checkpoint would; how many blocks moved."""
    count = 0
    for move in relocating.blocks_to_relocate(stream, leaving):
        path = f"blocks/{stream.id}-{file_number}.blk" if move.sealed else f"tails/{file_number}.tail"
        file_number += 1
        copies = []
        for source, ranges, length in zip(move.sources, move.keep, move.lengths, strict=True):
            data = disk.read(source)
            if ranges is not None:
                data = b"".join(data[start:end] for start, end in ranges)
            assert len(data) == length
            copies.append(disk.append(path, data))
        index = disk.append(path, relocating.encode_sealed(stream, move, copies)) if move.sealed else None
        assert relocating.apply_relocation(stream, move, copies, index)
        count += 1
    return count


def view(stream: Stream, disk: ToyDisk) -> list[object]:
    """Return everything committed about a stream that can be told from outside."""
    figures = stream.stats()
    listed = resident(stream, disk, lambda: reads.read_range(stream, 1, 1 << 30, 1 << 40))
    subjects = resident(stream, disk, lambda: reads.list_subjects(stream, "", "", 0))
    latest = [
        (subject, resident(stream, disk, lambda subject=subject: stream.latest(subject)))  # type: ignore[misc]
        for subject in subjects.entries
    ]
    return [
        stream.id, stream.config, stream.created_ms, stream.position, stream.clock_ms, stream.reserved_to,
        [getattr(figures, name) for name in figures.__slots__], disk.bodies(listed), latest,
    ]  # fmt: skip


def ack_record(seqs: array[int], sizes: array[int]) -> AckRecord:
    """Make a record that carries deletions."""
    return AckRecord(1, False, seqs, seqs, sizes)
