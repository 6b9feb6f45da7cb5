"""The flow of a `publish_many`: messages are cut into batches, several of which are under way, bounded in bytes.

Order is the source's. Whatever ends the source, a failure of its own or a message that cannot be sent, what it gave before
that is published.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

from waymaker.client.connection import Connection
from waymaker.client.errors import OversizeError, WaymakerError
from waymaker.client.publishing import Bulk, Many, put_one, take_payloads
from waymaker.client.results import PublishResults, Segment

_END = object()


class Flow:
    """Batches under way, answered in order."""

    def __init__(self, connection: Connection, on_progress: Callable[[int], None] | None) -> None:
        self.results = PublishResults()
        self.error: WaymakerError | None = None
        self._connection = connection
        self._on_progress = on_progress
        self._under_way: deque[Bulk | Segment] = deque()

    async def add(self, part: Bulk | Segment) -> None:
        """Takes a batch that was submitted, and waits while too much is under way; raises once one has failed."""
        self._under_way.append(part)
        while self._under_way:
            first = self._under_way[0]
            ready = isinstance(first, Segment) or first.future.done()
            if not ready and self._bytes() < self._connection.options.window_bytes:
                break
            await self._next()
        if self.error is not None:
            raise self.error

    def _bytes(self) -> int:
        return sum(part.size for part in self._under_way if isinstance(part, Bulk))

    async def _next(self) -> None:
        part = self._under_way[0]
        if isinstance(part, Bulk):
            try:
                segment = await part.future
            except WaymakerError as error:
                self.error = self.error or error
                segment = Segment(0, len(part.payloads), {}, failure=error)
        else:
            segment = part
        self._under_way.popleft()
        self.results.add(segment)
        if self._on_progress is not None:
            self._on_progress(segment.count)

    async def settle(self) -> None:
        """Waits for everything under way."""
        while self._under_way:
            await self._next()

    def fail(self, error: WaymakerError) -> None:
        """Remembers what ends the flow; the first failure counts."""
        self.error = self.error or error

    def abandon(self) -> None:
        """The caller went away: what was not sent will not be, the rest is not waited for."""
        for part in self._under_way:
            if isinstance(part, Bulk):
                part.future.cancel()


async def cut(
    connection: Connection, stream: str, messages: Iterable[Many] | AsyncIterable[Many], subject: str | None,
    deadline: Callable[[], float | None],
) -> AsyncIterator[Bulk | Segment]:  # fmt: skip
    """Cuts messages into batches and submits each. A message too large for any stream is a segment of its own."""
    if isinstance(messages, AsyncIterable):
        parts = _as_they_come(connection, stream, messages, subject, deadline)
    elif subject is not None and isinstance(messages, list | tuple) and messages and isinstance(messages[0], bytes):
        parts = _slices(connection, stream, messages, subject, deadline)
    else:
        parts = _one_by_one(connection, stream, messages, subject, deadline)
    async for part in parts:
        yield part


async def _slices(
    connection: Connection, stream: str, payloads: Sequence[object], subject: str, deadline: Callable[[], float | None]
) -> AsyncIterator[Bulk | Segment]:
    """Payloads of one subject that are all there: whole slices become columns."""
    welcome = connection.welcome
    at = 0
    while at < len(payloads):
        bulk = Bulk(stream, welcome.publish_batch_max, deadline())
        try:
            at = take_payloads(bulk, subject, payloads, at, welcome.message_bytes_max)
        except OversizeError as error:
            at += 1
            yield Segment(0, 1, {0: error})
            continue
        connection.submit(bulk)
        yield bulk
        await asyncio.sleep(0)


async def _one_by_one(
    connection: Connection, stream: str, messages: Iterable[Many], subject: str | None,
    deadline: Callable[[], float | None],
) -> AsyncIterator[Bulk | Segment]:  # fmt: skip
    welcome = connection.welcome
    source = iter(messages)
    bulk = Bulk(stream, welcome.publish_batch_max, deadline())
    ended: Exception | None = None
    while True:
        too_large: OversizeError | None = None
        try:
            item = next(source, _END)
            if item is _END:
                break
            put_one(bulk, item, subject, welcome.message_bytes_max)  # type: ignore[arg-type]
        except OversizeError as error:
            too_large = error
        except Exception as error:
            ended = error
            break
        if bulk.full or (too_large is not None and bulk.payloads):
            connection.submit(bulk)
            yield bulk
            await asyncio.sleep(0)
            bulk = Bulk(stream, welcome.publish_batch_max, deadline())
        if too_large is not None:
            yield Segment(0, 1, {0: too_large})
    if bulk.payloads:
        connection.submit(bulk)
        yield bulk
    if ended is not None:
        raise ended


async def _as_they_come(
    connection: Connection, stream: str, messages: AsyncIterable[Many], subject: str | None,
    deadline: Callable[[], float | None],
) -> AsyncIterator[Bulk | Segment]:  # fmt: skip
    """Messages that arrive over time: a batch is submitted with its first one and grows until it is sent."""
    welcome = connection.welcome
    bulk: Bulk | None = None
    async for item in messages:
        if bulk is None or bulk.sent or bulk.full or bulk.future.done():
            bulk = Bulk(stream, welcome.publish_batch_max, deadline())
        fresh = not bulk.payloads
        try:
            put_one(bulk, item, subject, welcome.message_bytes_max)
        except OversizeError as error:
            yield Segment(0, 1, {0: error})
            bulk = None
            continue
        if fresh:
            connection.submit(bulk)
            yield bulk
