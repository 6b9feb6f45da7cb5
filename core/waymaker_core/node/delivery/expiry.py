"""Expired deliveries: due again after their wait, or dropped after the last attempt, with a dead letter where configured.

One timer a stream, at the first expiry of all its consumers. Only a dead letter needs the message's stored body: the body is
read, then the copy and the drop are one record. An ack that arrives in between wins.
"""

from __future__ import annotations

from functools import partial

from waymaker_core.api.effects import Lane
from waymaker_core.api.requests import Messages
from waymaker_core.consumer.answers import ExhaustedMessages
from waymaker_core.model.disk_ops import Chunk, DiskFailure, DiskOp, OpResult, ReadChunk
from waymaker_core.model.types import StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.parking import Parking
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.stream_replica import Leading, StreamReplica
from waymaker_core.node.timers import Timer
from waymaker_core.storage.journal.writer import frame_bytes_max

DROPS_AT_ONCE = 64
"""Messages whose bodies are read together; each may lie in a chunk of its own."""
LETTER_BYTES = 512
"""Bytes that a dead letter's headers add to its body, about."""
SEGMENT_SHARE = 4
"""A drop's record is planned to take a quarter of a journal segment at most: one longer than a segment never fits."""
KEPT_BACK = (
    "messages are kept with the consumer that gave up on them, since their dead letters would not stay in the stream: "
    "one alone exceeds max_bytes, or by interest retention no consumer reads the dead-letter subject"
)
RETRY_NS = 1_000_000_000
"""Pause before bodies that could not be read, or records without free space, are tried again."""


class Deliveries:
    """Expiry and dead letters of all streams."""

    def __init__(
        self, state: NodeState, group_commit: GroupCommit, indexes: Indexes, parking: Parking, quarantine: Quarantine
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._indexes = indexes
        self._parking = parking
        self._quarantine = quarantine

    def expire_due(self, stream_id: int) -> None:
        """Expire the deliveries of a stream that are due."""
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is not None and replica.leading.serves:
            replica.consumers.expire(self._state.now)
            self._state.mark_dirty(replica)

    def retry_dead_letters(self, stream_id: int) -> None:
        """Try the dead letters of a stream again."""
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is not None and replica.leading.serves:
            self._state.mark_dirty(replica)

    def retry_kept(self, stream_id: int) -> None:
        """Try messages again that were kept because their dead letters would not have stayed."""
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is not None and replica.leading.serves:
            replica.consumers.retry_kept()
            self._state.mark_dirty(replica)

    def process_dirty(self, replica: StreamReplica) -> None:
        """Drop a stream's exhausted messages, answer its last naks, and set the timer of its next expiry."""
        consumers, timers = replica.consumers, self._state.timers
        if (
            consumers.has_exhausted()
            and not replica.leading.dropping
            and timers.deadline(Timer.DEAD_LETTERS, replica.id) is None
        ):
            self._give_up(replica.leading)
        timers.arm(Timer.DELIVERIES, replica.id, consumers.next_deadline())
        if replica.leading.last_naks:
            # No client waits for a drop that must be tried again later.
            put_off = timers.deadline(Timer.DEAD_LETTERS, replica.id) is not None
            self._parking.answer_last_naks(replica, dropped_only=not (put_off or self._state.stats.draining))

    # ------------------------------------------------------------------ giving up

    def _give_up(self, leading: Leading) -> None:
        hand_out, lost = partial(self._hand_out, leading), partial(self._no_index, leading)
        if not self._indexes.when_resident(leading.replica, hand_out, lost, partial(self._handed_out, leading)):
            leading.dropping += 1

    def _handed_out(self, leading: Leading) -> None:
        leading.dropping -= 1
        self._state.mark_dirty(leading.replica)

    def _hand_out(self, leading: Leading) -> None:
        if not leading.serves:
            return
        limits = self._state.limits
        share = limits.segment_bytes // SEGMENT_SHARE
        at_once = max(1, min(DROPS_AT_ONCE, share // (LETTER_BYTES + _column_bytes(1))))
        for exhausted in leading.replica.consumers.begin_dead_lettering(at_once, min(limits.record_bytes_max, share)):
            leading.dropping += 1
            if exhausted.messages is None:
                self._drop(leading, exhausted, None)
                continue
            chunks = _chunks(exhausted.messages)
            ops: list[DiskOp] = [ReadChunk(chunk) for chunk in chunks]
            self._state.start(
                Lane.READ,
                ops,
                partial(self._read, leading, exhausted, chunks),
                partial(self._not_read, leading, exhausted),
            )

    def _read(
        self, leading: Leading, exhausted: ExhaustedMessages, chunks: list[Chunk], results: list[OpResult]
    ) -> None:
        assert exhausted.messages is not None
        self._drop(leading, exhausted, _bodies(exhausted.messages, chunks, results))

    def _drop(self, leading: Leading, exhausted: ExhaustedMessages, bodies: list[bytes] | None) -> None:
        """Decide the drop of exhausted messages, as soon as the indexes that it needs are resident."""
        decide, lost = partial(self._decide, leading, exhausted, bodies), partial(self._not_read, leading, exhausted)
        self._indexes.when_resident(leading.replica, decide, lost)

    def _decide(self, leading: Leading, exhausted: ExhaustedMessages, bodies: list[bytes] | None) -> None:
        if not leading.serves:
            leading.dropping -= 1
            return
        replica = leading.replica
        count = len(exhausted.seqs)
        letter_bytes = sum(map(len, bodies)) + LETTER_BYTES * count if bodies else 0
        bound = _column_bytes(count) + frame_bytes_max(0, self._state.limits.subject_bytes_max, letter_bytes)
        if self._group_commit.stalled or not self._group_commit.has_room_for(
            replica.log, bound, ordinary=bodies is not None
        ):
            self._put_off(leading, exhausted)
            self._state.timers.note_no_space(Timer.DEAD_LETTERS, replica.id)
            return
        decided = replica.consumers.decide_drop(exhausted, bodies, self._state.now.wall_ms)
        for record, parts in decided:
            size = sum(map(len, parts))
            self._group_commit.add_record(replica, record, parts, bound + record_frame_bytes_max(record), size)
        leading.dropping -= 1
        if exhausted.kept:
            self._note_kept(leading, exhausted.kept)
        self._state.mark_dirty(leading.replica)

    def _note_kept(self, leading: Leading, count: int) -> None:
        self._state.stats.dead_letters_kept_back += count
        self._state.timers.arm(Timer.KEPT_LETTERS, leading.replica.id, self._state.now.mono_ns + RETRY_NS)
        if not leading.letters_kept_back:
            leading.letters_kept_back = True
            self._state.log(
                "warning",
                "dead_letters_kept_back",
                stream=leading.replica.name,
                stream_id=leading.replica.id,
                detail=KEPT_BACK,
            )

    def _put_off(self, leading: Leading, exhausted: ExhaustedMessages) -> None:
        leading.replica.consumers.abort_dead_lettering(exhausted)
        leading.dropping -= 1
        self._state.timers.arm(Timer.DEAD_LETTERS, leading.replica.id, self._state.now.mono_ns + RETRY_NS)
        self._state.mark_dirty(leading.replica)

    def _not_read(self, leading: Leading, exhausted: ExhaustedMessages, failure: DiskFailure) -> None:
        if not leading.serves:
            leading.dropping -= 1
            return
        self._put_off(leading, exhausted)
        self._quarantine.found(leading.replica, failure)

    def _no_index(self, leading: Leading, failure: DiskFailure) -> None:
        leading.dropping -= 1
        if leading.serves:
            self._state.timers.arm(Timer.DEAD_LETTERS, leading.replica.id, self._state.now.mono_ns + RETRY_NS)
            self._state.mark_dirty(leading.replica)
            self._quarantine.found(leading.replica, failure)


def _column_bytes(count: int) -> int:
    """Return the bytes that the columns of a drop take at most: dropped sequences, letters, originals."""
    return frame_bytes_max(3 * count, 0, 0, count) - frame_bytes_max(0, 0, 0)


def _chunks(messages: Messages) -> list[Chunk]:
    """Return the chunks of some messages, each once, in order of first use."""
    found: dict[tuple[str, int], Chunk] = {}
    for run in messages.runs:
        found.setdefault((run.chunk.path, run.chunk.offset), run.chunk)
    return list(found.values())


def _bodies(messages: Messages, chunks: list[Chunk], results: list[OpResult]) -> list[bytes]:
    """Cut one stored body a message from the chunks that were read."""
    data: dict[tuple[str, int], bytes] = {}
    for chunk, result in zip(chunks, results, strict=True):
        assert isinstance(result, bytes)
        data[(chunk.path, chunk.offset)] = result
    bodies: list[bytes] = []
    for run in messages.runs:
        joined, at = run.bodies_in(data[(run.chunk.path, run.chunk.offset)]), 0
        for length in run.lengths:
            bodies.append(joined[at : at + length])
            at += length
    return bodies
