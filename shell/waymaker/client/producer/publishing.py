"""Publishing: single messages that gather into batches, and many messages as columns.

A `PendingBatch` holds what tasks publish to one stream while it waits to be sent: one future a message. A `Bulk` holds a part
of a `publish_many`: columns and one future. After its outcome became unknown either is sent a second time only where the server
stores each message once all the same: because they are numbered, or because they carry `expected_last_seq`.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import chain
from typing import TYPE_CHECKING

from waymaker.client.checked import Moment, Whole, moment_ms, text, whole
from waymaker.client.connection.work import Work, timed_out
from waymaker.client.contract import header_pairs
from waymaker.client.errors import (
    NOT_APPLIED,
    UNKNOWN,
    ConnectionLostError,
    DataLossError,
    OversizeError,
    ProducerFencedError,
    SubjectRejectedError,
    UsageError,
    WaymakerError,
    WrongRevisionError,
    WrongTypeError,
    from_result,
    from_status,
)
from waymaker.client.producer.results import Segment
from waymaker.client.values import Headers, Outgoing

if TYPE_CHECKING:
    from waymaker.client.connection.members import Members
    from waymaker.client.connection.numbering import Numbering
    from waymaker_proto import pipeline_pb2 as pl

BATCH_BYTES_TARGET = 256 * 1024
BATCH_MESSAGES_TARGET = 2_048
MESSAGE_OVERHEAD_BYTES = 16
"""Bytes of a frame beside payload, headers and subject, at most."""
NO_CHECK = -1
SUBJECT_CHARACTERS_MAX = 16 * 1024
"""A longer subject is refused here; the server judges the others."""

Many = bytes | tuple[str, bytes] | tuple[str, bytes, Headers] | Outgoing
"""An item of `publish_many`: a payload (with `subject=`), or subject, payload and headers, or an `Outgoing`."""


def conditions(ts_ms: Moment, expected: Whole | None) -> tuple[int, int | None]:
    """Return a message's time and expected sequence as the wire carries them."""
    return moment_ms("ts_ms", ts_ms), None if expected is None else whole("expected_last_seq", expected)


class _Columns(Work):
    """The columns of a batch, and how they become one."""

    __slots__ = (
        "stream",
        "subjects",
        "payloads",
        "headers",
        "times_ms",
        "expected",
        "numbers",
        "retried",
        "messages_max",
    )

    def __init__(self, stream: str, messages_max: int, deadline: float | None) -> None:
        super().__init__(len(stream) + 32, deadline)
        self.stream = stream
        self.messages_max = min(BATCH_MESSAGES_TARGET, messages_max or BATCH_MESSAGES_TARGET)
        self.subjects: list[str] | str = []
        """One a message, or one for all."""
        self.payloads: list[bytes] = []
        self.headers: list[tuple[int, list[tuple[str, str]]]] = []
        self.times_ms: list[int] | None = None
        self.expected: list[int] | None = None
        self.numbers: Sequence[int] | None = None
        """The producer's number of each message, from the first sending on."""
        self.retried = False
        """Sent before, with an unknown outcome."""

    def put(
        self,
        subject: str,
        payload: bytes,
        headers: list[tuple[str, str]] | None,
        ts_ms: int,
        expected: int | None,
        size: int,
    ) -> None:
        assert isinstance(self.subjects, list)
        at = len(self.payloads)
        self.subjects.append(subject)
        self.payloads.append(payload)
        self.size += size
        if headers:
            self.headers.append((at, headers))
        if ts_ms or self.times_ms is not None:
            if self.times_ms is None:
                self.times_ms = [0] * at
            self.times_ms.append(ts_ms)
        if expected is not None or self.expected is not None:
            if self.expected is None:
                self.expected = [NO_CHECK] * at
            self.expected.append(NO_CHECK if expected is None else expected)

    @property
    def messages(self) -> int:
        return len(self.payloads)

    @property
    def topic(self) -> str:
        return self.stream

    @property
    def may_have_happened(self) -> bool:
        return self.sent or self.retried

    def put_back(self) -> None:
        super().put_back()
        if not self.retried:
            # Certainly not done. First sendings have ascending numbers, so what others sent meanwhile stays in front.
            self.numbers = None

    @property
    def lane(self) -> str:
        return self.stream if self.producer is not None and self.producer.spans_max else ""

    @property
    def full(self) -> bool:
        return len(self.payloads) >= self.messages_max or self.size >= BATCH_BYTES_TARGET

    def fill_columns(self, frame: pl.Frame) -> None:
        batch = frame.publishes.add(id=self.id, stream=self.stream)
        subjects = self.subjects
        if isinstance(subjects, str):
            batch.subjects.append(subjects)
        else:
            table: dict[str, int] = {}
            index = [table.setdefault(subject, len(table)) for subject in subjects]
            batch.subjects.extend(table)
            if len(table) > 1:
                batch.subject_index.extend(index)
        batch.payloads.extend(self.payloads)
        for at, pairs in self.headers:
            headers = batch.headers.add(index=at).headers
            for key, value in pairs:
                headers.add(key=key, value=value)
        if self.times_ms is not None:
            batch.ts_ms.extend(self.times_ms)
        if self.expected is not None:
            batch.expected_last_seq.extend(self.expected)
        if self.producer is not None and self.producer.spans_max:
            self._number(batch, self.producer)

    def _number(self, batch: pl.PublishBatch, producer: Numbering) -> None:
        """Write the numbers of the messages, which they keep for ever."""
        numbers = self.numbers
        if numbers is None:
            numbers = self.numbers = producer.producer.take(self.stream, len(self.payloads))
        epoch = producer.producer.epoch_for(self.stream, producer.epoch)
        if epoch != producer.epoch:
            batch.producer_epoch = epoch
        dense = numbers[-1] - numbers[0] == len(numbers) - 1
        batch.numbers.extend(numbers[:1] if dense else numbers)
        batch.resent = self.retried

    def _must_stay(self) -> bool:
        """Return True if what may be stored would now reach a server that does not know its numbers."""
        return self.retried and self.numbers is not None and self.producer is not None and not self.producer.spans_max

    def of_all_sendings(self, error: WaymakerError) -> WaymakerError:
        """Return the end of the last sending as that of the messages: an earlier one may have stored them."""
        if not self.retried or error.outcome == UNKNOWN:
            return error
        whole = copy(error)
        whole.outcome = UNKNOWN
        return whole

    def failures_of(self, reply: pl.Published) -> dict[int, WaymakerError]:
        failures: dict[int, WaymakerError] = {}
        for failure in reply.failures:
            error = (
                from_status(failure.status, failure.message, NOT_APPLIED)
                if failure.status
                else from_result(failure.result_code, failure.message, failure.seq)
            )
            if self.retried and (self.numbers is None or isinstance(error, ProducerFencedError)):
                error = self.of_all_sendings(error) if isinstance(error, _OF_THE_STREAM) else error
            failures[failure.index] = error
        return failures


_OF_THE_STREAM = (WrongRevisionError, ProducerFencedError)
"""Refusals that say nothing about an earlier sending: it may be what moved the stream, or the epoch."""


def sequences(reply: pl.Published) -> Iterator[int]:
    """Return the sequences of the accepted messages, in order. DataLossError where the answer does not fit together."""
    if not reply.stored:
        return iter(range(reply.first_seq, reply.first_seq + reply.count))
    runs = [range(run.first, run.last + 1) for run in reply.stored]
    if sum(map(len, runs)) != reply.count:
        raise DataLossError("the server's answer to a publish cannot be read", outcome=UNKNOWN)
    return chain.from_iterable(runs)


# ------------------------------------------------------------------------------------------- single


class PendingBatch(_Columns):
    """Messages of tasks that publish one each; every one has its own future and deadline."""

    __slots__ = ("futures", "deadlines", "publisher")

    def __init__(self, stream: str, publisher: Publisher) -> None:
        super().__init__(stream, publisher.messages_max, None)
        self.futures: list[asyncio.Future[int]] = []
        self.deadlines: list[float | None] = []
        self.publisher = publisher

    def fill(self, frame: pl.Frame) -> bool:
        self.publisher.close_batch(self)
        if any(future.done() for future in self.futures):
            self._keep([at for at, future in enumerate(self.futures) if not future.done()])
        if not self.futures:
            return False
        if self._must_stay():
            self.fail(_without_numbers())
            return False
        self.fill_columns(frame)
        return True

    def answer(self, reply: pl.Published) -> None:
        if reply.result_code != "ok":
            return self.fail(from_result(reply.result_code, reply.message))
        seq = reply.first_seq
        if not reply.failures and not reply.stored:
            for future in self.futures:
                if not future.done():
                    future.set_result(seq)
                seq += 1
            return None
        failures = self.failures_of(reply)
        try:
            seqs = sequences(reply)
        except DataLossError as error:
            return self.fail(error)
        for at, future in enumerate(self.futures):
            failure = failures.get(at)
            seq = 0 if failure is not None else next(seqs, 0)
            if future.done():
                continue
            if failure is None:
                future.set_result(seq)
            else:
                future.set_exception(failure)
        return None

    def fail(self, error: WaymakerError) -> None:
        error = self.of_all_sendings(error)
        self.publisher.close_batch(self)
        for future in self.futures:
            if not future.done():
                future.set_exception(error)

    def lost(self, error: WaymakerError) -> bool:
        expected = self.expected or [NO_CHECK] * len(self.futures)
        numbered = self.numbers is not None
        safe = [at for at, seq in enumerate(expected) if (numbered or seq != NO_CHECK) and not self.futures[at].done()]
        kept = set(safe)
        for at, future in enumerate(self.futures):
            if at not in kept and not future.done():
                future.set_exception(error)
        self._keep(safe)
        self.retried = True
        return bool(safe)

    def expire(self, now: float, absence: str = "") -> bool:
        if self.deadline is None or self.deadline > now:
            return not self.futures
        left: list[float] = []
        for future, deadline in zip(self.futures, self.deadlines, strict=True):
            if deadline is None or future.done():
                continue
            if deadline <= now:
                future.set_exception(timed_out(self.may_have_happened, absence))
            else:
                left.append(deadline)
        self.deadline = min(left, default=None)
        if any(not future.done() for future in self.futures):
            return False
        self.publisher.close_batch(self)
        return True

    def _keep(self, places: list[int]) -> None:
        """Forget all messages but these."""
        assert isinstance(self.subjects, list)
        new_at = {old: new for new, old in enumerate(places)}
        self.subjects = [self.subjects[at] for at in places]
        self.payloads = [self.payloads[at] for at in places]
        self.futures = [self.futures[at] for at in places]
        self.deadlines = [self.deadlines[at] for at in places]
        self.headers = [(new_at[at], pairs) for at, pairs in self.headers if at in new_at]
        if self.times_ms is not None:
            self.times_ms = [self.times_ms[at] for at in places]
        if self.expected is not None:
            self.expected = [self.expected[at] for at in places]
        if self.numbers is not None:
            self.numbers = [self.numbers[at] for at in places]


class Publisher:
    """The open batch of each stream."""

    def __init__(self, connection: Members) -> None:
        self._connection = connection
        self._open: dict[str, PendingBatch] = {}

    @property
    def messages_max(self) -> int:
        return self._connection.welcome.publish_batch_max

    def add(
        self, stream: str, subject: str, payload: bytes, headers: Headers | None, ts_ms: Moment, expected: Whole | None,
        deadline: float | None,
    ) -> asyncio.Future[int]:  # fmt: skip
        """Queue one message; the future gives its sequence."""
        if type(payload) is not bytes:
            payload = as_bytes(payload)
        text("stream", stream)
        text("subject", subject)
        time_ms, at_seq = (0, None) if ts_ms == 0 and expected is None else conditions(ts_ms, expected)
        pairs = header_pairs(headers) if headers else None
        size = message_size(subject, payload, pairs, self._connection.welcome.message_bytes_max)
        gather = self._open.get(stream)
        is_first = gather is None
        if gather is None:
            gather = PendingBatch(stream, self)
            self._connection.submit(gather)
            self._open[stream] = gather
        gather.put(subject, payload, pairs, time_ms, at_seq, size)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        gather.futures.append(future)
        gather.deadlines.append(deadline)
        if deadline is not None and (gather.deadline is None or deadline < gather.deadline):
            gather.deadline = deadline
            self._connection.watch_deadline(deadline)
        if gather.full:
            self.close_batch(gather)
        if is_first:
            self._connection.send_alone()
        return future

    def close_batch(self, gather: PendingBatch) -> None:
        """Close a batch: no further message joins it."""
        if self._open.get(gather.stream) is gather:
            del self._open[gather.stream]


def as_bytes(payload: object) -> bytes:
    """Return a payload as bytes; text is refused, since its encoding is the caller's to choose."""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    hint = "; encode it first" if isinstance(payload, str) else ""
    raise WrongTypeError(f"a payload must be bytes, not {type(payload).__name__}{hint}")


def message_size(subject: str, payload: bytes, headers: list[tuple[str, str]] | None, bytes_max: int) -> int:
    """Return about the message's bytes in a frame; OversizeError or SubjectRejectedError where no stream takes it.

    Such a message must not enter a batch: it would make a frame that the server refuses with everything in it.
    """
    if len(subject) > SUBJECT_CHARACTERS_MAX:
        raise SubjectRejectedError(f"a subject of {len(subject)} characters; no server takes as many")
    size = len(payload)
    count = 1
    if headers:
        size += sum(len(key.encode()) + len(value.encode()) for key, value in headers)
        count += len(headers)
    if bytes_max and size + MESSAGE_OVERHEAD_BYTES * (count - 1) > bytes_max and size > len(payload):
        raise OversizeError(
            f"payload and {count - 1} headers of {size} bytes; the server's limit message_bytes_max is {bytes_max}"
        )
    if bytes_max and size > bytes_max:
        raise OversizeError(f"a payload of {len(payload)} bytes; the server's limit message_bytes_max is {bytes_max}")
    return size + len(subject) + MESSAGE_OVERHEAD_BYTES * count


# --------------------------------------------------------------------------------------------- many


class Bulk(_Columns):
    """A part of a `publish_many`. Its future gives the outcomes of the whole, refused messages included."""

    __slots__ = ("future", "refused")

    def __init__(self, stream: str, messages_max: int, deadline: float | None) -> None:
        super().__init__(stream, messages_max, deadline)
        self.future: asyncio.Future[Segment] = asyncio.get_running_loop().create_future()
        self.refused: dict[int, WaymakerError] = {}
        """Messages that are not sent, by their place in the part."""

    @property
    def taken(self) -> int:
        """Return how many messages of the caller this part stands for."""
        return len(self.payloads) + len(self.refused)

    @property
    def full(self) -> bool:
        return super().full or self.taken >= self.messages_max

    def refuse(self, error: WaymakerError) -> None:
        """Take a message that is not sent, because of `error`."""
        self.refused[self.taken] = error

    def fill(self, frame: pl.Frame) -> bool:
        if self.future.done() or not self.payloads:
            return False
        if self._must_stay():
            self.fail(_without_numbers())
            return False
        self.fill_columns(frame)
        return True

    def answer(self, reply: pl.Published) -> None:
        if self.future.done():
            return
        if reply.result_code != "ok":
            self.fail(from_result(reply.result_code, reply.message))
            return
        failures = self.failures_of(reply) if reply.failures else {}
        try:
            seqs = array("Q", sequences(reply)) if reply.stored else None
        except DataLossError as error:
            self.fail(error)
        else:
            self.future.set_result(self._segment(reply.first_seq, failures, seqs))

    def answer_unsent(self) -> None:
        """End a part that has nothing to be sent."""
        assert not self.payloads
        self.future.set_result(self._segment(0, {}))

    def _segment(self, first_seq: int, failures: dict[int, WaymakerError], seqs: array[int] | None = None) -> Segment:
        if self.refused and failures:
            sent = [place for place in range(self.taken) if place not in self.refused]
            failures = {sent[index]: error for index, error in failures.items()}
        return Segment(first_seq, self.taken, failures | self.refused if self.refused else failures, seqs=seqs)

    def fail(self, error: WaymakerError) -> None:
        if not self.future.done():
            self.future.set_exception(self.of_all_sendings(error))

    def lost(self, error: WaymakerError) -> bool:
        conditional = self.expected is not None and NO_CHECK not in self.expected
        if not self.future.done() and (self.numbers is not None or conditional):
            self.retried = True
            return True
        self.fail(error)
        return False


def _without_numbers() -> ConnectionLostError:
    return ConnectionLostError(
        "the connection was lost before the answer came, and the server that answers now knows no producers",
        outcome=UNKNOWN,
    )


def take_payloads(bulk: Bulk, subject: str, payloads: Sequence[object], at: int, bytes_max: int) -> int:
    """Move payloads of one subject from `at` into a batch, as a slice, until it is full; return where it stopped."""
    part = payloads[at : at + bulk.messages_max]
    message_size(subject, b"", None, 0)
    for place, payload in enumerate(part):
        if type(payload) is not bytes:
            part = _convertible(part, place)
            break
    lengths = list(map(len, part))  # type: ignore[arg-type]
    total = sum(lengths)
    if total > BATCH_BYTES_TARGET:
        total = taken = 0
        for length in lengths:
            if taken and total + length > BATCH_BYTES_TARGET:
                break
            total += length
            taken += 1
        part = part[:taken]
    if bytes_max and total > bytes_max:
        message_size(subject, part[0], None, bytes_max)  # type: ignore[arg-type]
    bulk.subjects = subject
    bulk.payloads = list(part)  # type: ignore[arg-type]
    bulk.size += total + MESSAGE_OVERHEAD_BYTES * len(part) + len(subject)
    return at + len(part)


def _convertible(part: Sequence[object], place: int) -> list[bytes]:
    """Return the payloads of a slice as bytes, up to the first that is none; WrongTypeError where that stands in front."""
    out: list[bytes] = list(part[:place])  # type: ignore[arg-type]
    for payload in part[place:]:
        try:
            out.append(as_bytes(payload))
        except UsageError:
            if not out:
                raise
            break
    return out


def is_nowhere(item: object, subject: str | None) -> bool:
    """Return True if an item is a payload of no subject. At the head of a call, that is a mistake of the whole call."""
    return subject is None and not isinstance(item, tuple | Outgoing)


def put_one(bulk: Bulk, item: Many, subject: str | None, bytes_max: int) -> None:
    """Add one item of `publish_many` to a batch; WaymakerError where it can be sent to no stream."""
    ts_ms, expected, headers = 0, None, None
    if isinstance(item, tuple):
        if not 2 <= len(item) <= 3:
            raise UsageError("a tuple to publish is (subject, payload) or (subject, payload, headers)")
        where, payload = item[0], item[1]
        headers = item[2] if len(item) == 3 else None
    elif isinstance(item, Outgoing):
        where, payload, headers = item.subject, item.payload, item.headers
        ts_ms, expected = conditions(item.ts_ms, item.expected_last_seq)
    elif subject is None:
        as_bytes(item)  # what is no payload at all is refused as that
        raise UsageError("payloads alone need subject=; else publish tuples (subject, payload) or Outgoing")
    else:
        where, payload = subject, item
    if type(payload) is not bytes:
        payload = as_bytes(payload)
    text("subject", where)
    pairs = header_pairs(headers) if headers else None
    bulk.put(where, payload, pairs, ts_ms, expected, message_size(where, payload, pairs, bytes_max))
