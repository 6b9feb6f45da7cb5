"""A stream with its consumers and a log, without a node: what the tests of consumers act on.

Records are decided, wait in a tail, and are committed when a test says so. A crash forgets everything but the log (and as
much of the tail as the test grants) and replays it, from the last snapshot or from the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cbor2

from waymaker_core.api.requests import AckKind, Messages, Publish
from waymaker_core.consumer.answers import ExhaustedMessages
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.model.config import ConsumerConfig, Retention, StreamConfig
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.records import DropRecord, PruneRecord, PublishRecord, StreamRecord
from waymaker_core.model.types import ConsumerId, Now, StreamId
from waymaker_core.stream import admission
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot
from waymaker_core.stream.stream import Stream

LIMITS = Limits(block_size_default=7)


class ConsumerWorld:
    """One stream, its consumers, their log, and the clock."""

    def __init__(self, config: StreamConfig, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.config = config
        self.now_ms = 1_000
        self.stream = Stream(StreamId(1), config, self.now_ms, limits)
        self.consumers = Consumers(self.stream, limits)
        self.consumers.resume(self.now, complete=True)
        self.log: list[tuple[StreamRecord, Chunk | None]] = []
        self.overlay: list[tuple[StreamRecord, Chunk | None]] = []
        self.snapshot: tuple[int, bytes] | None = None
        self.bodies: dict[int, bytes] = {}
        self._file = 0

    @property
    def now(self) -> Now:
        """Return both clocks, in step."""
        return Now(self.now_ms * 1_000_000, self.now_ms)

    # ------------------------------------------------------------ the log

    def decide(self, record: StreamRecord, parts: Sequence[bytes] = ()) -> None:
        """Add a decided record to the overlay, its bodies in a chunk of their own."""
        body = b"".join(parts)
        self._file += 1
        chunk = Chunk(f"journal/{self._file}", 0, len(body), 0) if body else None
        self.overlay.append((record, chunk))
        copies = record.copies if isinstance(record, DropRecord) else record
        if isinstance(copies, PublishRecord):
            at = 0
            for index, length in enumerate(copies.lengths):
                self.bodies[copies.first_seq + index] = body[at : at + length]
                at += length

    def commit(self, count: int | None = None) -> None:
        """Commit the first records of the overlay, all without a number."""
        count = len(self.overlay) if count is None else count
        done, self.overlay = self.overlay[:count], self.overlay[count:]
        for record, chunk in done:
            self.log.append((record, chunk))
            self._apply(record, chunk, len(self.log))

    def _apply(self, record: StreamRecord, chunk: Chunk | None, position: int) -> None:
        self.stream.apply(position, record, chunk)
        self.consumers.apply(record)

    def log_deliveries(self) -> None:
        """Add records of what was delivered to the overlay."""
        for record in self.consumers.delivered_records(self.now):
            self.decide(record)

    def take_snapshot(self) -> None:
        """Take a checkpoint of what is committed."""
        state = [encode_snapshot(self.stream), self.consumers.snapshot(self.now)]
        self.snapshot = (len(self.log), cbor2.dumps(state))

    def restart(self, *, survives: int = 0, orderly: bool = False) -> None:
        """End the process; `survives` records of the overlay had reached the disk, all of them if it is `orderly`."""
        if orderly:
            self.log_deliveries()
            self.commit()
        self.log.extend(self.overlay[:survives])
        self.overlay = []
        position = 0
        if self.snapshot is None:
            self.stream = Stream(StreamId(1), self.config, 1_000, self.limits)
            self.consumers = Consumers(self.stream, self.limits)
        else:
            position, raw = self.snapshot
            stream_state, consumers_state = cbor2.loads(raw)
            self.stream = decode_snapshot(stream_state, self.limits)
            self.consumers = Consumers(self.stream, self.limits)
            self.consumers.restore(consumers_state)
        for index, (record, chunk) in enumerate(self.log[position:]):
            self._apply(record, chunk, position + index + 1)
        self.consumers.resume(self.now, complete=orderly)

    # ------------------------------------------------------------ what clients do

    def publish(self, *subjects: str, payload: bytes = b"x") -> int:
        """Publish messages and commit them; return the last sequence."""
        bodies = [encode_body(subject, [], payload, self.limits) for subject in subjects]
        request = Publish(
            self.config.name,
            list(subjects),
            [size for _, size in bodies],
            [len(body) for body, _ in bodies],
            b"".join(body for body, _ in bodies),
        )
        decision = admission.decide_publish(self.stream, request, self.now_ms)
        assert decision.record is not None and not decision.published.failures
        self.decide(decision.record, decision.parts)
        self.commit()
        return self.stream.last_seq

    def create(self, config: ConsumerConfig) -> ConsumerId:
        """Create a consumer and commit it."""
        decision = self.consumers.decide_create(config, self.now_ms)
        assert decision.record is not None
        self.decide(decision.record)
        self.commit()
        return ConsumerId(decision.record.consumer_id)

    def delete(self, name: str) -> None:
        """Delete a consumer and commit that."""
        self.decide(self.consumers.decide_delete(name))
        self.commit()

    def fetch(self, consumer: ConsumerId, count: int, byte_max: int = 1 << 40) -> list[tuple[int, int]]:
        """Return sequences and delivery counts of what is dispatched, and reaches the program."""
        messages = self.consumers.dispatch(consumer, self.now, count, byte_max)
        for seq, _ in expanded(messages):
            assert messages is not None
            self.consumers.reported(consumer, messages.dispatch_id, [seq])
        return expanded(messages)

    def answer(self, consumer: ConsumerId, kind: AckKind, seqs: list[int], delay_ms: int = 0) -> int:
        """Ack, term, nak or extend; return how many were touched."""
        decision = self.consumers.decide_ack(consumer, kind, seqs, delay_ms, self.now)
        if decision.record is not None:
            self.decide(decision.record)
        return decision.count

    def ack(self, consumer: ConsumerId, *seqs: int) -> int:
        """Ack, and commit."""
        count = self.answer(consumer, AckKind.ACK, list(seqs))
        self.commit()
        return count

    def prune(self, below: int, seqs: list[int] | None = None) -> None:
        """Prune messages, and commit that: all below a sequence (whole blocks in one go), and single ones."""
        whole = (below - 1) // self.config.block_size * self.config.block_size + 1 if below else 0
        singles = sorted({*range(max(whole, 1), below), *(seqs or [])})
        drop_seqs, drop_sizes = retention.decide_drops(self.stream, [seq for seq in singles if seq >= whole])
        self.decide(PruneRecord(whole if whole > 1 else 0, drop_seqs, drop_sizes))
        self.commit()

    # ------------------------------------------------------------ giving up

    def hand_out(self, limit: int = 100) -> list[ExhaustedMessages]:
        """Begin the drop of what is exhausted."""
        return self.consumers.begin_dead_lettering(limit, 1 << 40)

    def drop(self, spent: ExhaustedMessages) -> list[DropRecord]:
        """Drop messages whose bodies were read."""
        bodies = None if spent.messages is None else [self.bodies[seq] for seq, _ in expanded(spent.messages)]
        if bodies is not None:
            assert [seq for seq, _ in expanded(spent.messages)] == list(spent.seqs)
        records: list[DropRecord] = []
        for record, parts in self.consumers.decide_drop(spent, bodies, self.now_ms):
            self.decide(record, parts)
            records.append(record)
        return records

    def give_up(self) -> None:
        """Drop everything that is exhausted, and commit that."""
        self.consumers.expire(self.now)
        while self.consumers.has_exhausted():
            for spent in self.hand_out():
                self.drop(spent)
        self.commit()

    def check(self) -> None:
        """Assert every invariant of both."""
        check_stream(self.stream)
        self.consumers.check()


def expanded(messages: Messages | None) -> list[tuple[int, int]]:
    """Return sequence and delivery count of each message, in order."""
    if messages is None:
        return []
    found = [(seq, run.deliver_count) for run in messages.runs for seq in run.sequences()]
    assert len(found) == messages.count
    return found


def world(retention: Retention = Retention.LIMITS, limits: Limits | None = None, **settings: object) -> ConsumerWorld:
    """Make an empty stream of that kind."""
    config = StreamConfig("s", retention=retention, block_size=7, **settings)  # type: ignore[arg-type]
    return ConsumerWorld(config, limits or Limits())


def configured(settings: Mapping[str, object]) -> ConsumerConfig:
    """Make a configuration with short waits."""
    return ConsumerConfig(**{"name": "c", "ack_wait_ms": 100, **settings})  # type: ignore[arg-type]


def consumer(name: str = "c", **settings: object) -> ConsumerConfig:
    """Make the same, said shorter."""
    return configured({"name": name, **settings})


def queue() -> ConsumerWorld:
    """Make a work queue with five messages."""
    w = world(Retention.WORK_QUEUE)
    w.publish(*["a"] * 5)
    return w
