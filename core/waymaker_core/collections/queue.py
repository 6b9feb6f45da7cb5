"""Queue: the layer of a queue, which knows how far its values were taken.

Values are taken from the front, so one number tells them apart: every message up to `taken_to` is taken. A take is a fact,
committed before its answer leaves: from then on no other take gives the same value, whatever becomes of the answer. The message
itself stays where it is until the answer has left, for the answer is read from it; retention deletes it later (`floor`).
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final, NamedTuple

from waymaker_core.collections.settings import decode_settings
from waymaker_core.layers.layer import COLLECTIONS, LayerDecision, fact_of, messages_of
from waymaker_core.model.records import StreamRecord
from waymaker_core.model.types import Now, Token
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.stream import Stream

VERSION: Final = 1
_FACT: Final = struct.Struct("<BQQQ")


class Taken(NamedTuple):
    """A take: every value up to `taken_to` is taken from now on, `values` of them with `bytes` by this one."""

    taken_to: int
    values: int
    bytes: int


class Pushed(NamedTuple):
    """Values that wait for their commit, up to a sequence."""

    last_seq: int
    values: int
    bytes: int


class Queue:
    """The state of one queue: `taken_to`, and `count` and `bytes` of the values that are not taken.

    `staged_takes` and `staged_pushes` are decided and not committed. `answering`: by call, the first sequence of values
    that are taken, and whose answer has not left.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.settings = decode_settings(stream.config.service_settings)
        self.taken_to = 0
        self.count = 0
        self.bytes = 0
        self.staged_takes: deque[Taken] = deque()
        self.staged_pushes: deque[Pushed] = deque()
        self.answering: dict[Token, int] = {}

    @property
    def kind(self) -> int:
        """Return the stored number of this kind of layer."""
        return COLLECTIONS

    # ------------------------------------------------------------ look-ups

    @property
    def cursor(self) -> int:
        """Return the last sequence that is taken once all that is staged is applied."""
        return self.staged_takes[-1].taken_to if self.staged_takes else self.taken_to

    def projected_count(self) -> int:
        """Return how many values are left once all that is staged is applied."""
        pushed = sum(push.values for push in self.staged_pushes)
        return self.count + pushed - sum(take.values for take in self.staged_takes)

    def projected_bytes(self) -> int:
        """Return the bytes of those values."""
        pushed = sum(push.bytes for push in self.staged_pushes)
        return self.bytes + pushed - sum(take.bytes for take in self.staged_takes)

    @property
    def floor(self) -> int:
        """Return the last sequence that nothing needs any more: it is taken, and the answer has left."""
        for first in self.answering.values():
            return min(self.taken_to, first - 1)  # takes are answered in the order in which they were decided
        return self.taken_to

    # ------------------------------------------------------------ overlay

    def stage_take(self, take: Taken, token: Token, first_seq: int) -> None:
        """Lay a take over what is committed; its values are kept until `answered`."""
        assert take.taken_to > self.cursor and take.values > 0, "a take goes on from the one before"
        self.staged_takes.append(take)
        self.answering[token] = first_seq

    def stage_push(self, push: Pushed) -> None:
        """Lay pushed values over what is committed."""
        self.staged_pushes.append(push)

    def answered(self, token: Token) -> None:
        """Let go of values whose answer has left, or will never leave."""
        self.answering.pop(token, None)

    def discard_uncommitted(self) -> None:
        """Drop every decision that is not committed, and what waits for one."""
        self.staged_takes.clear()
        self.staged_pushes.clear()
        self.answering.clear()

    def has_staged(self) -> bool:
        """Return True if a decision waits for its commit."""
        return bool(self.staged_takes or self.staged_pushes)

    # ------------------------------------------------------------ committed records

    def apply(self, record: StreamRecord) -> None:
        """Apply a committed record: values that were pushed, or taken."""
        messages = messages_of(record)
        if messages is not None:
            self.count += len(messages.subjects)
            self.bytes += sum(messages.sizes)
            last = messages.first_seq + len(messages.subjects) - 1 if messages.seqs is None else messages.seqs[-1]
            while self.staged_pushes and self.staged_pushes[0].last_seq <= last:
                self.staged_pushes.popleft()
        fact = fact_of(record, COLLECTIONS)
        if fact is not None:
            take = decode_take(fact)
            if not self.taken_to < take.taken_to <= self._stream.last_seq or take.values > self.count:
                raise CorruptRecord(
                    f"a take up to {take.taken_to} of a queue with {self.count} values behind {self.taken_to}"
                )
            self.taken_to = take.taken_to
            self.count -= take.values
            self.bytes -= take.bytes
            if self.staged_takes and self.staged_takes[0] == take:
                self.staged_takes.popleft()

    # ------------------------------------------------------------ time

    def next_due(self, now: Now) -> int | None:
        """Return None: taken values are deleted by retention."""
        return None

    def decide_due(self, now: Now) -> LayerDecision | None:
        """Decide nothing: taken values are deleted by retention."""
        return None

    # ------------------------------------------------------------ snapshots

    def snapshot(self) -> object:
        """Return the committed state as plain values for CBOR."""
        return [VERSION, self.taken_to, self.count, self.bytes]

    def restore(self, snapshot: object) -> None:
        """Load a snapshot into a new layer."""
        self.taken_to, self.count, self.bytes = _decode(snapshot)

    def import_facts(self, snapshot: object) -> list[bytes]:
        """Return one take of what an archive's queue had taken, as far as its messages are there. Raises `NeedBlocks`."""
        taken_to, _, _ = _decode(snapshot)
        stream = self._stream
        taken_to = min(taken_to, stream.last_seq)
        if not taken_to:
            return []
        left = stream.live_count_from(taken_to + 1)
        return [encode_take(Taken(taken_to, stream.count - left, _bytes_up_to(stream, taken_to)))]

    def check(self) -> None:
        """Assert that the counts are those of the stream's live messages behind the last one taken."""
        left = self._stream.live_count_from(self.taken_to + 1)
        assert self.count == left, f"{self.count} values counted, {left} live behind {self.taken_to}"
        assert self.count or not self.bytes, "a queue without values has no bytes"


def _bytes_up_to(stream: Stream, seq: int) -> int:
    """Return the bytes of the live messages up to a sequence. Raises `NeedBlocks`."""
    total = 0
    for block in stream.blocks.values():
        if block.last <= seq:
            total += block.bytes
        elif block.first <= seq:
            if block.columns is None:
                raise NeedBlocks([block.number])
            sizes = block.columns.sizes
            total += sum(sizes[entry] for entry in range(seq - block.first + 1) if block.is_live(block.first + entry))
    return total


def encode_take(take: Taken) -> bytes:
    """Return the fact that values were taken."""
    return _FACT.pack(VERSION, *take)


def decode_take(fact: bytes) -> Taken:
    """Return the take of a fact. CorruptRecord, UnknownVersion."""
    if fact and fact[0] != VERSION:
        raise UnknownVersion("the fact of a queue", fact[0], VERSION)
    if len(fact) != _FACT.size:
        raise CorruptRecord(f"the fact of a queue has {len(fact)} bytes instead of {_FACT.size}")
    return Taken(*_FACT.unpack(fact)[1:])


def _decode(snapshot: object) -> tuple[int, int, int]:
    match snapshot:
        case [int(version), int(taken_to), int(count), int(byte_count)] if version == VERSION:
            if not 0 <= taken_to < 1 << 63 or count < 0 or byte_count < 0:
                raise CorruptRecord(f"a queue with {count} values behind {taken_to}")
            return taken_to, count, byte_count
        case [int(version), *_] if version != VERSION:
            raise UnknownVersion("the snapshot of a queue", version, VERSION)
    raise CorruptRecord("not the snapshot of a queue")
