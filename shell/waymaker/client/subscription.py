"""A subscription: a consumer's messages, pushed within the room that this side grants.

What waits here never exceeds `prefetch` messages and `prefetch_bytes` (one larger message aside), beside the run being
handed out: credit is given back as runs are taken. A lost connection is survived by subscribing again; what is in the buffer
stays valid, for it is the consumer that remembers what was delivered, not the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from waymaker.client.delivery import Acker, Batch, Message, check_run
from waymaker.client.errors import (
    DataLossError,
    DeadlineExceededError,
    NoSuchConsumerError,
    NoSuchStreamError,
    UnavailableError,
    WaymakerError,
)
from waymaker_proto import pipeline_pb2 as pl

if TYPE_CHECKING:
    from waymaker.client.connection import Connection

RESUBSCRIBE = frozenset({"server_shutdown", "moved"})
TURN_S = 0.005
"""How long messages are handed out before other tasks have a turn."""


class Subscription:
    """Iterate over it: `async for message in subscription`. Ends by itself with `stop_when_empty`, or with `close`."""

    def __init__(
        self,
        connection: Connection,
        acker: Acker,
        *,
        prefetch: int,
        prefetch_bytes: int,
        batch_size: int,
        stop_when_empty: bool,
        limit: int | None = None,
    ) -> None:
        self.id = 0
        self.stream = acker.stream
        self.consumer = acker.consumer
        self.reason = ""
        """Why it ended: `empty`, `closed`, `limit`, or the server's word."""
        self._connection = connection
        self._acker = acker
        self._prefetch = prefetch
        self._prefetch_bytes = prefetch_bytes
        self._batch_size = batch_size
        self._stop_when_empty = stop_when_empty
        self._batches: deque[Batch] = deque()
        self._messages: Iterator[Message] | None = None
        self._now: Batch | None = None
        self._left = 0
        self._queued = 0
        self._queued_bytes = 0
        self._granted = 0
        self._granted_bytes = 0
        self._wanted = limit
        self._arrived = asyncio.Event()
        self._started = False
        self._over = False
        self._error: WaymakerError | None = None
        self._turn_ends = 0.0

    # ------------------------------------------------------------------------------ for the connection

    def subscribe(self, frame: pl.Frame) -> None:
        self._granted, self._granted_bytes = self._room(), max(self._prefetch_bytes - self._queued_bytes, 0)
        frame.subscribes.add(
            id=self.id,
            stream=self.stream,
            consumer=self.consumer,
            batch_size=self._batch_size,
            stop_when_empty=self._stop_when_empty,
            credit_messages=self._granted,
            credit_bytes=self._granted_bytes,
        )

    def _room(self) -> int:
        """Messages that there is room for, and that are still wanted."""
        most = self._prefetch if self._wanted is None else min(self._prefetch, self._wanted)
        return max(most - self._queued, 0)

    def deliver(self, runs: Iterable[pl.DeliveryRun], incarnation: str) -> None:
        for run in runs:
            if not check_run(run):
                self.ended("", DataLossError(f"the server sent a malformed delivery at sequence {run.first_seq}"))
                return
            batch = Batch(run, self._acker, incarnation)
            if not batch.lengths:
                continue
            self._batches.append(batch)
            self._queued += len(batch.lengths)
            self._queued_bytes += len(batch.bodies)
            self._granted -= len(batch.lengths)
            self._granted_bytes -= len(batch.bodies)
        self._arrived.set()

    def too_late(self, runs: Iterable[pl.DeliveryRun]) -> None:
        """Deliveries that were under way when this was closed go back."""
        for run in runs:
            self.hand_back(range(run.first_seq, run.first_seq + len(run.lengths)))

    def ended(self, reason: str, error: WaymakerError | None) -> None:
        if self._over:
            return
        renew = reason in RESUBSCRIBE or (isinstance(error, UnavailableError) and self._connection.options.reconnect)
        if renew and not self._connection.ended:
            self._connection.retry_subscriber(self)
            return
        self._over = True
        self.reason = reason
        if reason == "consumer_deleted":
            error = NoSuchConsumerError(
                f"consumer {self.consumer!r} of stream {self.stream!r} was deleted", outcome=None
            )
        elif reason == "stream_deleted":
            error = NoSuchStreamError(f"stream {self.stream!r} was deleted", outcome=None)
        elif reason not in {"empty", "closed", ""} and error is None:
            error = WaymakerError(f"the subscription ended: {reason}", code=reason)
        self._error = error
        self._arrived.set()

    # ------------------------------------------------------------------------------------- for callers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._left:
            if time.monotonic() > self._turn_ends:
                await self._yield()
        else:
            await self._next_run()
        self._left -= 1
        assert self._messages is not None
        return next(self._messages)

    async def _next_run(self) -> None:
        batch = self._now = await self._take()
        self._messages = iter(batch)
        self._left = len(batch)

    async def batches(self) -> AsyncIterator[Batch]:
        """Whole runs instead of single messages: the cheapest way to read much. Do not mix with iteration by message."""
        while True:
            try:
                batch = await self._take()
            except StopAsyncIteration:
                return
            yield batch

    async def next(self, timeout: float | None = None) -> Message:
        """The next message; TimeoutError where none came in time, StopAsyncIteration at the end."""
        async with asyncio.timeout(timeout):
            return await self.__anext__()

    async def take(self) -> Batch:
        """The next run of messages; StopAsyncIteration at the end."""
        return await self._take()

    async def _take(self) -> Batch:
        if self._wanted == 0:
            self._leave("limit")
            raise StopAsyncIteration
        self._start()
        while not self._batches:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._wait()
        if time.monotonic() > self._turn_ends:
            await self._yield()
        batch = self._batches.popleft()
        self._queued -= len(batch)
        self._queued_bytes -= len(batch.bodies)
        if self._wanted is not None:
            self._wanted = max(self._wanted - len(batch), 0)
        self._give_back()
        return batch

    async def _wait(self) -> None:
        """Waits for what comes next. A server that is asked to stop when empty owes an answer, within the client's timeout."""
        try:
            async with asyncio.timeout(self._connection.options.timeout if self._stop_when_empty else None):
                await self._arrived.wait()
        except TimeoutError:
            raise DeadlineExceededError("neither messages nor the end of the subscription came in time") from None

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._connection.add_subscriber(self)

    async def _yield(self) -> None:
        await asyncio.sleep(0)
        self._turn_ends = time.monotonic() + TURN_S

    def _give_back(self) -> None:
        """Grants room again, in portions of a quarter so that credits cost little."""
        if self._over:
            return
        messages = self._room() - self._granted
        bytes_ = self._prefetch_bytes - self._queued_bytes - self._granted_bytes
        if messages * 4 >= self._prefetch or bytes_ * 4 >= self._prefetch_bytes or not self._batches:
            messages, bytes_ = max(messages, 0), max(bytes_, 0)
            self._granted += messages
            self._granted_bytes += bytes_
            if messages or bytes_:
                self._connection.credit(self, messages, bytes_)

    def _leave(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self.reason = reason
            self._error = None
            self._connection.drop_subscriber(self)
        self._arrived.set()

    async def close(self, timeout: float | None = 5.0) -> None:
        """Ends it. Messages that nobody took go back to the consumer at once; acknowledgements given are confirmed first."""
        self._leave("closed")
        if self._connection.ended:
            return
        left: list[int] = []
        if self._now is not None and self._left:
            left.extend(range(self._now.last_seq - self._left + 1, self._now.last_seq + 1))
        for batch in self._batches:
            left.extend(range(batch.first_seq, batch.last_seq + 1))
        self._batches.clear()
        self._left = 0
        self.hand_back(left)
        try:
            await self._acker.flush(timeout)
        except TimeoutError:
            return

    def hand_back(self, seqs: Iterable[int]) -> None:
        """Gives messages back that nobody worked on."""
        if not self._connection.ended:
            for seq in seqs:
                self._acker.say(pl.NAK, seq, 0)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
