"""Messages as they reach a caller, and the acknowledgements that go back.

A message holds its stored body and parses it when the program looks. Acknowledging queues: what a loop turn acknowledges
travels in one batch, and the awaitable that comes back ends when the server has it on disk. Acknowledgements survive a lost
connection: saying them twice changes nothing, so they are sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from waymaker.client.checked import NAK_DELAY_S_MAX, Seconds, seconds
from waymaker.client.connection.work import Work, timed_out
from waymaker.client.errors import UsageError, WaymakerError, from_result
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

if TYPE_CHECKING:
    from waymaker.client.connection.members import Members

log = logging.getLogger("waymaker.client")

ACK_BATCHES_IN_FLIGHT_MAX = 4
"""Unanswered acknowledgement batches of one consumer; past it the next one gathers."""
ACK_BYTES = 10
_parse = pb.MessagePb.FromString


class Message:
    """One message. `deliver_count` is 1 at the first delivery, 0 for a message that was read and not delivered."""

    __slots__ = ("seq", "ts_ms", "deliver_count", "_body", "_acker", "_incarnation")

    def __init__(
        self, seq: int, ts_ms: int, deliver_count: int, body: bytes | pb.MessagePb, acker: Acker | None,
        incarnation: str = "",
    ) -> None:  # fmt: skip
        self.seq = seq
        self.ts_ms = ts_ms
        self.deliver_count = deliver_count
        self._body = body
        self._acker = acker
        self._incarnation = incarnation

    def _parsed(self) -> pb.MessagePb:
        body = self._body
        if isinstance(body, bytes):
            body = self._body = _parse(body)
        return body

    @property
    def subject(self) -> str:
        return self._parsed().subject

    @property
    def payload(self) -> bytes:
        return self._parsed().payload

    @property
    def headers(self) -> dict[str, str]:
        """Return headers by key; of a key that occurs twice, the last. `header_pairs` has all."""
        return {header.key: header.value for header in self._parsed().headers}

    @property
    def header_pairs(self) -> list[tuple[str, str]]:
        return [(header.key, header.value) for header in self._parsed().headers]

    def ack(self) -> Confirmation:
        """Settle the message. Queued at once; await the result to know that it is on disk."""
        return self._say(pl.ACK)

    def term(self) -> Confirmation:
        """Give the message up for this consumer, whatever its `max_deliver`."""
        return self._say(pl.TERM)

    def nak(self, delay: Seconds = 0.0) -> Confirmation:
        """Ask for the message again, after `delay` seconds."""
        return self._say(pl.NAK, round(seconds("delay", delay, most=NAK_DELAY_S_MAX) * 1000))

    def in_progress(self) -> Confirmation:
        """Start `ack_wait` anew while the work continues."""
        return self._say(pl.IN_PROGRESS)

    def _say(self, kind: pl.AckKind.ValueType, delay_ms: int = 0) -> Confirmation:
        if self._acker is None:
            raise UsageError("this message was read, not delivered to a consumer: there is nothing to acknowledge")
        return self._acker.say(kind, self.seq, delay_ms, self._incarnation)

    def __repr__(self) -> str:
        return f"Message(seq={self.seq}, subject={self.subject!r}, payload={len(self.payload)} bytes)"


class Batch(Sequence[Message]):
    """Messages with consecutive sequences from one frame, as columns; a `Message` is made where one is asked for."""

    __slots__ = ("first_seq", "deliver_count", "times_ms", "lengths", "bodies", "_acker", "_ends", "_incarnation")

    def __init__(self, run: pl.DeliveryRun, acker: Acker | None, incarnation: str = "") -> None:
        self.first_seq = run.first_seq
        self.deliver_count = run.deliver_count
        self.times_ms = list(run.ts_ms)
        self.lengths = list(run.lengths)
        self.bodies = run.bodies
        self._acker = acker
        self._ends: list[int] | None = None
        self._incarnation = incarnation

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.lengths) - 1

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Message]:
        bodies, acker, count, seq, start = self.bodies, self._acker, self.deliver_count, self.first_seq, 0
        incarnation = self._incarnation
        for length, ts_ms in zip(self.lengths, self.times_ms, strict=True):
            end = start + length
            yield Message(seq, ts_ms, count, bodies[start:end], acker, incarnation)
            seq += 1
            start = end

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._ends is None:
            total = 0
            self._ends = [total := total + length for length in self.lengths]
        end = self._ends[index]
        body = self.bodies[end - self.lengths[index] : end]
        seq, ts_ms = self.first_seq + index, self.times_ms[index]
        return Message(seq, ts_ms, self.deliver_count, body, self._acker, self._incarnation)

    def payloads(self) -> list[bytes]:
        """Return all payloads, without an object a message."""
        bodies, start, out = self.bodies, 0, []
        for length in self.lengths:
            end = start + length
            out.append(_parse(bodies[start:end]).payload)
            start = end
        return out

    def ack(self) -> Confirmation:
        """Settle all of them."""
        if self._acker is None:
            raise UsageError("these messages were read, not delivered to a consumer: there is nothing to acknowledge")
        return self._acker.say_range(pl.ACK, self.first_seq, self.last_seq, self._incarnation)

    def __repr__(self) -> str:
        return f"Batch(seqs {self.first_seq} to {self.last_seq})"


def check_run(run: pl.DeliveryRun) -> bool:
    """Return True if a run's columns agree with one another."""
    return len(run.ts_ms) == len(run.lengths) and sum(run.lengths) == len(run.bodies)


# ------------------------------------------------------------------------------------ acknowledging


class Confirmation(Work):
    """Acknowledgements of one kind in flight. Awaiting it waits for the server's answer, or raises what came instead."""

    __slots__ = ("acker", "kind", "delay_ms", "incarnation", "seqs", "ranges", "sealed", "done", "error", "_waiters")

    def __init__(self, acker: Acker, kind: pl.AckKind.ValueType, delay_ms: int, incarnation: str) -> None:
        super().__init__(len(acker.stream) + len(acker.consumer) + len(incarnation) + 32)
        self.acker = acker
        self.kind = kind
        self.delay_ms = delay_ms
        self.incarnation = incarnation
        self.seqs: list[int] = []
        self.ranges: list[tuple[int, int]] = []
        self.sealed = False
        self.done = False
        self.error: WaymakerError | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def __await__(self) -> Generator[Any, None, None]:
        return self.wait().__await__()

    async def wait(self, timeout: float | None = None) -> None:
        """Wait for the confirmation; `timeout` in seconds, None: the client's."""
        if not self.done:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(future)
            try:
                async with asyncio.timeout(self.acker.timeout if timeout is None else timeout):
                    await future
            except TimeoutError:
                raise timed_out(self.sent) from None
        if self.error is not None:
            raise self.error

    def fill(self, frame: pl.Frame) -> bool:
        self.sealed = True
        batch = frame.acks.add(
            id=self.id, stream=self.acker.stream, consumer=self.acker.consumer, kind=self.kind, delay_ms=self.delay_ms,
            incarnation=self.incarnation,
        )  # fmt: skip
        if len(self.seqs) > 2 and self.seqs[-1] - self.seqs[0] + 1 == len(self.seqs) and _ascending(self.seqs):
            batch.ranges.add(first=self.seqs[0], last=self.seqs[-1])
        else:
            batch.seqs.extend(self.seqs)
        for first, last in self.ranges:
            batch.ranges.add(first=first, last=last)
        return True

    def answer(self, reply: pl.Acked) -> None:
        self._end(None if reply.result_code == "ok" else from_result(reply.result_code, reply.message))

    def fail(self, error: WaymakerError) -> None:
        self._end(error)

    @property
    def topic(self) -> str:
        return self.acker.stream

    def lost(self, error: WaymakerError) -> bool:
        return True

    def _end(self, error: WaymakerError | None) -> None:
        self.sealed = True
        self.done = True
        self.error = error
        self.acker.ended(self)
        if error is not None and not self._waiters:
            log.warning("acknowledgements of %s/%s failed: %s", self.acker.stream, self.acker.consumer, error)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


def _ascending(seqs: list[int]) -> bool:
    return all(map(int.__lt__, seqs, seqs[1:]))


class Acker:
    """The way back to one consumer: gathers acknowledgements, in the order they were given."""

    def __init__(self, connection: Members, stream: str, consumer: str) -> None:
        self.connection = connection
        self.stream = stream
        self.consumer = consumer
        self.timeout = connection.options.timeout
        self._in_flight: set[Confirmation] = set()
        self._waiting: deque[Confirmation] = deque()
        self._open: Confirmation | None = None

    def say(self, kind: pl.AckKind.ValueType, seq: int, delay_ms: int, incarnation: str = "") -> Confirmation:
        batch = self._batch(kind, delay_ms, incarnation)
        batch.seqs.append(seq)
        batch.size += ACK_BYTES
        return batch

    def say_range(self, kind: pl.AckKind.ValueType, first: int, last: int, incarnation: str = "") -> Confirmation:
        batch = self._batch(kind, 0, incarnation)
        batch.ranges.append((first, last))
        # A batch is bounded by the sequences it names, so a range closes it.
        batch.sealed = True
        batch.size += 2 * ACK_BYTES
        return batch

    def _batch(self, kind: pl.AckKind.ValueType, delay_ms: int, incarnation: str) -> Confirmation:
        batch = self._open
        most = self.connection.welcome.ack_batch_max or 4_096
        alike = batch is not None and (batch.kind, batch.delay_ms, batch.incarnation) == (kind, delay_ms, incarnation)
        if batch is None or not alike or batch.sealed or len(batch.seqs) >= most:
            batch = self._open = Confirmation(self, kind, delay_ms, incarnation)
            self._waiting.append(batch)
            try:
                self._submit()
            except WaymakerError:  # the client is closed: nothing may join what will never leave
                self._waiting.remove(batch)
                self._open = None
                raise
        return batch

    def _submit(self) -> None:
        while self._waiting and len(self._in_flight) < ACK_BATCHES_IN_FLIGHT_MAX:
            batch = self._waiting[0]
            self.connection.submit(batch)
            self._waiting.popleft()
            self._in_flight.add(batch)

    def ended(self, batch: Confirmation) -> None:
        self._in_flight.discard(batch)
        if batch is self._open:
            self._open = None
        if not self._waiting:
            return
        try:
            self._submit()
        except WaymakerError as error:
            waiting, self._waiting = self._waiting, deque()
            for other in waiting:
                other.fail(error)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until every acknowledgement given so far is confirmed, or has failed."""
        async with asyncio.timeout(timeout):
            while batches := [*self._in_flight, *self._waiting]:
                for batch in batches:
                    try:
                        await batch.wait(timeout)
                    except WaymakerError:
                        log.debug("acknowledgements of %s/%s not confirmed", self.stream, self.consumer)
                        if not batch.done:
                            return

    @property
    def idle(self) -> bool:
        return not self._in_flight and not self._waiting
