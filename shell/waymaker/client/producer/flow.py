"""The flow of a `publish_many`: messages are cut into batches, several of which are in flight, bounded in bytes.

Order is the source's. A message that cannot be sent has an outcome of its own and holds nothing up. Where the source fails,
what it gave before that is published.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

from waymaker.client.connection.members import Members
from waymaker.client.errors import WaymakerError, WrongTypeError
from waymaker.client.producer.publishing import Bulk, Many, is_nowhere, put_one, take_payloads
from waymaker.client.producer.results import PublishResults, Segment

_END = object()


def check_source(messages: object) -> None:
    """Refuse what gives no messages, and a single payload, whose bytes would pass for numbers."""
    if not isinstance(messages, Iterable) or isinstance(messages, str | bytes | bytearray | memoryview):
        raise WrongTypeError(f"messages are an iterable of messages, not {type(messages).__name__}")


class Flow:
    """Batches in flight, answered in order."""

    def __init__(self, connection: Members, on_progress: Callable[[int], None] | None) -> None:
        self.results = PublishResults()
        self.error: WaymakerError | None = None
        self._connection = connection
        self._on_progress = on_progress
        self._in_flight: deque[Bulk] = deque()

    async def add(self, part: Bulk) -> None:
        """Take a submitted batch, and wait while too much is in flight; raise once one has failed."""
        self._in_flight.append(part)
        while self._in_flight:
            first = self._in_flight[0]
            if not first.future.done() and self._bytes() < self._connection.options.window_bytes:
                break
            await self._next()
        if self.error is not None:
            raise self.error

    def _bytes(self) -> int:
        return sum(part.size for part in self._in_flight)

    async def _next(self) -> None:
        part = self._in_flight[0]
        try:
            segment = await part.future
        except WaymakerError as error:
            self.error = self.error or error
            segment = Segment(0, part.taken, part.refused, failure=error)
        self._in_flight.popleft()
        self.results.add(segment)
        if self._on_progress is not None:
            self._on_progress(segment.count)

    async def settle(self) -> None:
        """Wait for everything in flight."""
        while self._in_flight:
            await self._next()

    def fail(self, error: WaymakerError) -> None:
        """Remember what ends the flow; the first failure counts."""
        self.error = self.error or error

    def abandon(self) -> None:
        """Drop what is not sent and wait for nothing: the caller has left."""
        for part in self._in_flight:
            part.future.cancel()


async def cut(
    connection: Members, stream: str, messages: Iterable[Many] | AsyncIterable[Many], subject: str | None,
    deadline: Callable[[], float | None], begun: bool = False,
) -> AsyncIterator[Bulk]:  # fmt: skip
    """Cut messages into batches and submit each. `begun`: earlier messages of the same call were cut before."""
    if isinstance(messages, AsyncIterable):
        parts = _as_they_come(connection, stream, messages, subject, deadline)
    elif subject is not None and isinstance(messages, list | tuple) and messages and isinstance(messages[0], bytes):
        parts = _slices(connection, stream, messages, subject, deadline)
    else:
        check_source(messages)
        parts = _one_by_one(connection, stream, messages, subject, deadline, begun)
    async for part in parts:
        yield part


async def _slices(
    connection: Members, stream: str, payloads: Sequence[object], subject: str, deadline: Callable[[], float | None]
) -> AsyncIterator[Bulk]:
    """Cut payloads of one subject that are all there: whole slices become columns."""
    welcome = connection.welcome
    at = 0
    while at < len(payloads):
        bulk = Bulk(stream, welcome.publish_batch_max, deadline())
        try:
            at = take_payloads(bulk, subject, payloads, at, welcome.message_bytes_max)
        except WaymakerError:
            while at < len(payloads) and not bulk.full:
                _put(bulk, payloads[at], subject, welcome.message_bytes_max, begun=True)
                at += 1
        _submit(connection, bulk)
        yield bulk
        await asyncio.sleep(0)


async def _one_by_one(
    connection: Members, stream: str, messages: Iterable[Many], subject: str | None,
    deadline: Callable[[], float | None], begun: bool,
) -> AsyncIterator[Bulk]:  # fmt: skip
    welcome = connection.welcome
    source = iter(messages)
    bulk = Bulk(stream, welcome.publish_batch_max, deadline())
    ended: Exception | None = None
    while True:
        try:
            item = next(source, _END)
        except Exception as error:
            ended = error
            break
        if item is _END:
            break
        _put(bulk, item, subject, welcome.message_bytes_max, begun)
        begun = True
        if bulk.full:
            _submit(connection, bulk)
            yield bulk
            await asyncio.sleep(0)
            bulk = Bulk(stream, welcome.publish_batch_max, deadline())
    if bulk.taken:
        _submit(connection, bulk)
        yield bulk
    if ended is not None:
        raise ended


async def _as_they_come(
    connection: Members, stream: str, messages: AsyncIterable[Many], subject: str | None,
    deadline: Callable[[], float | None],
) -> AsyncIterator[Bulk]:  # fmt: skip
    """Submit a batch with its first message; it grows until it is sent."""
    welcome = connection.welcome
    bulk: Bulk | None = None
    begun = False
    async for item in messages:
        if bulk is None or bulk.sent or bulk.full or bulk.future.done():
            bulk = Bulk(stream, welcome.publish_batch_max, deadline())
        fresh = not bulk.taken
        _put(bulk, item, subject, welcome.message_bytes_max, begun)
        begun = True
        if fresh:
            _submit(connection, bulk)
            yield bulk


def _put(bulk: Bulk, item: object, subject: str | None, bytes_max: int, begun: bool) -> None:
    """Add a message to a batch, or the error that keeps it out. Raises where the call itself is wrong."""
    try:
        put_one(bulk, item, subject, bytes_max)  # type: ignore[arg-type]
    except WaymakerError as error:
        if not begun and is_nowhere(item, subject):
            raise
        bulk.refuse(error)


def _submit(connection: Members, bulk: Bulk) -> None:
    """Send a batch; one that holds refused messages alone ends here."""
    if bulk.payloads:
        connection.submit(bulk)
    else:
        bulk.answer_unsent()
