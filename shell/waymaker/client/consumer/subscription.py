"""A subscription: a consumer's messages, pushed within the room that this side grants.

What waits here never exceeds `prefetch` messages and `prefetch_bytes` (one larger message aside), and no more than the
program can work on in time (`pace`). The server is told how far messages were handed out, for only those count as attempts:

- *before* a message is handed out where that costs little beside the work on it, and always for the first ones of a
  subscription and for those that were delivered before. A program that dies of a message has thus been counted.
- else a few milliseconds later. What a fast program was given in them when it dies comes first in the next session.

What is not handed out returns to the consumer when this is closed, when the session is lost, and when it waited too long to
be worked on in time. A lost connection is survived by subscribing again; the buffer belongs to the session that is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from waymaker.client.connection.subscribers import MOVED
from waymaker.client.consumer.delivery import Acker, Batch, Message, check_run
from waymaker.client.consumer.pace import Pace
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
    from waymaker.client.connection.connection import Connection
    from waymaker.client.connection.members import Members

TURN_S = 0.005
"""The time for which messages are handed out before other tasks have a turn, and before the server hears of it."""
CAREFUL_S = 0.001
"""Work on a message that takes so long is worth a report for each."""
CAREFUL_FIRST = 128
"""So many messages of a subscription are reported one by one, however fast the program."""


class Subscription:
    """Iterate over it: `async for message in subscription`. Ends by itself with `stop_when_empty`, or with `close`."""

    def __init__(
        self,
        connection: Members,
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
        self.home: Connection | None = None
        self.hops = 0
        self.reason = ""
        """The reason of its end: `empty`, `closed`, `limit`, or the server's word."""
        self._connection = connection
        self._acker = acker
        self._prefetch = prefetch
        self._prefetch_bytes = prefetch_bytes
        self._batch_size = batch_size
        self._stop_when_empty = stop_when_empty
        self._pace = Pace()
        self._batches: deque[tuple[Batch, float]] = deque()
        """Deliveries that wait, and the times at which they came."""
        self._run: Batch | None = None
        """The run that is being handed out, when it came, and where its rest begins."""
        self._run_came = 0.0
        self._run_at = 0
        self._chunk: deque[Message] = deque()
        """Messages that are the program's next."""
        self._chunk_left = 0
        """The number of messages of the chunk that the program has not been given. Lowered on the program's own thread."""
        self._chunk_unsaid = 0
        """Messages of the chunk that the server has not been told of."""
        self._given_out = 0
        self._dealt_with = 0
        """Messages of this session that were handed out, or back, as the server is told."""
        self._said = 0
        self._back: list[tuple[int, int]] = []
        self._queued = 0
        self._queued_bytes = 0
        self._granted = 0
        self._granted_bytes = 0
        self._wanted = limit
        self._arrived = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._started = False
        self._subscribed = False
        """True if the present session knows of this."""
        self._over = False
        self._error: WaymakerError | None = None
        self._turn_ends = 0.0

    # ------------------------------------------------------------------------------ for the connection

    def subscribe(self, frame: pl.Frame) -> None:
        self._subscribed = True
        self._granted, self._granted_bytes = self._room(), max(self._prefetch_bytes - self._queued_bytes, 0)
        frame.subscribes.add(
            id=self.id,
            stream=self.stream,
            consumer=self.consumer,
            batch_size=self._batch_size,
            stop_when_empty=self._stop_when_empty,
            credit_messages=self._granted,
            credit_bytes=self._granted_bytes,
            reports=True,
        )

    def _room(self) -> int:
        """Return for how many messages there is room, as far as they are still wanted."""
        most = self._pace.room(self._prefetch)
        if self._wanted is not None:
            most = min(most, self._wanted)
        return max(most - self._queued, 0)

    @property
    def is_wanted(self) -> bool:
        """Return False once it is over."""
        return not self._over

    def deliver(self, batch: pl.DeliveryBatch) -> None:
        self.hops = 0
        now = time.monotonic()
        self._pace.ack_wait_s = batch.ack_wait_ms / 1000
        for run in batch.runs:
            if not check_run(run):
                self.ended("", DataLossError(f"the server sent a malformed delivery at sequence {run.first_seq}"))
                return
            messages = Batch(run, self._acker, batch.incarnation)
            if not messages.lengths:
                continue
            self._batches.append((messages, now))
            self._queued += len(messages.lengths)
            self._queued_bytes += len(messages.bodies)
            self._granted -= len(messages.lengths)
            self._granted_bytes -= len(messages.bodies)
        self._arrived.set()

    def session_lost(self) -> None:
        """Forget what was not handed out: the server delivers it again, to any member of the group."""
        self._batches.clear()
        self._run = None
        if self._chunk_unsaid:
            self._drop_chunk()
        self._subscribed = False
        self._dealt_with = self._said = 0
        self._back = []
        self._queued = self._queued_bytes = self._granted = self._granted_bytes = 0

    def _drop_chunk(self) -> None:
        """Drop what of the chunk was not handed out: the server does not count it."""
        if self._wanted is not None:
            self._wanted += self._chunk_left
        self._chunk.clear()
        self._chunk_left = self._chunk_unsaid = 0

    def ended(self, reason: str, error: WaymakerError | None) -> None:
        if self._over:
            return
        renew = reason in MOVED or (isinstance(error, UnavailableError) and self._connection.options.reconnect)
        if renew or error is not None:
            self.session_lost()
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
        if not self._chunk:
            await self._fill()
        elif time.monotonic() > self._turn_ends:
            await self._yield()
            if not self._chunk:
                await self._fill()
        self.given()
        return self._chunk.popleft()

    async def batches(self) -> AsyncIterator[Batch]:
        """Return whole runs instead of single messages: the cheapest way to read much. Do not mix with iteration by message."""
        while True:
            try:
                batch = await self.take()
            except StopAsyncIteration:
                return
            yield batch

    async def next(self, timeout: float | None = None) -> Message:
        """Return the next message; TimeoutError where none came in time, StopAsyncIteration at the end."""
        async with asyncio.timeout(timeout):
            return await self.__anext__()

    async def take(self) -> Batch:
        """Return the next run of messages, all of them handed out with it; StopAsyncIteration at the end."""
        while True:
            run = await self._next_run()
            self._run = None
            self._deal(len(run))
            if await self._report():
                self._pace.begin(time.monotonic(), len(run))
                return run

    async def some(self) -> list[Message]:
        """Return the next messages, for a program that takes them on another thread and reports them by `given`."""
        if not self._chunk:
            await self._fill()
        messages = list(self._chunk)
        self._chunk.clear()
        return messages

    def given(self) -> None:
        """Count one message of the chunk as handed out."""
        if self._chunk_left:
            self._chunk_left -= 1

    # ------------------------------------------------------------------------------------- handing out

    async def _fill(self) -> None:
        """Make the next messages the program's: one that is reported before, or a few that are reported soon."""
        while not self._chunk:
            run = await self._next_run()
            count = self._careless(run)
            messages = run[self._run_at : self._run_at + max(count, 1)]
            self._run_at += len(messages)
            if self._run_at == len(run):
                self._run = None
            self._chunk.extend(messages)
            self._chunk_left = len(messages)
            self._take_from_queue(len(messages))
            if count:
                self._chunk_unsaid = len(messages)
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(TURN_S, self._say_in_time)
            else:
                self._dealt_with += 1
                if not await self._report():
                    self._drop_chunk()
        self._pace.begin(time.monotonic(), len(self._chunk))

    def _careless(self, run: Batch) -> int:
        """Return how many messages may be handed out before they are reported; 0: none."""
        work_s = self._pace.work_s
        if work_s is None or work_s >= CAREFUL_S or run.deliver_count > 1 or self._given_out < CAREFUL_FIRST:
            return 0
        return min(len(run) - self._run_at, max(1, int(TURN_S / max(work_s, 1e-7))))

    async def _next_run(self) -> Batch:
        """Return the run to be handed out from; hand back what waited too long to be worked on in time."""
        self._settle_chunk()
        self._pace.end(time.monotonic())
        while True:
            if self._wanted == 0:
                self._leave("limit")
                raise StopAsyncIteration
            if self._run is None:
                self._run, self._run_came = await self._take_run()
                self._run_at = 0
            if time.monotonic() - self._run_came <= self._pace.fresh_s():
                return self._run
            count = len(self._run) - self._run_at
            self._back.append((self._dealt_with + 1, self._dealt_with + count))
            self._run = None
            self._dealt_with += count
            self._queued -= count

    async def _take_run(self) -> tuple[Batch, float]:
        self._start()
        if not self._batches:
            self._say()
        while not self._batches:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._wait()
        if time.monotonic() > self._turn_ends:
            await self._yield()
            if not self._batches:
                return await self._take_run()
        batch, came = self._batches.popleft()
        self._queued_bytes -= len(batch.bodies)
        return batch, came

    def _deal(self, count: int) -> None:
        self._dealt_with += count
        self._take_from_queue(count)

    def _take_from_queue(self, count: int) -> None:
        self._queued -= count
        self._given_out += count
        if self._wanted is not None:
            self._wanted = max(self._wanted - count, 0)

    async def _wait(self) -> None:
        """Wait for what comes next. A server that is asked to stop when empty owes an answer, within the client's timeout."""
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

    # --------------------------------------------------------------------------------------- reporting

    def _settle_chunk(self) -> None:
        """Count what the program was given of the present chunk."""
        if self._chunk_unsaid:
            given = self._chunk_unsaid - self._chunk_left
            self._dealt_with += given
            self._chunk_unsaid -= given
            if self._dealt_with and not self._chunk_unsaid and not self._batches:
                self._say()

    def _say_in_time(self) -> None:
        self._timer = None
        if self._chunk_unsaid:
            self._settle_chunk()
            self._say()

    def _say(self) -> None:
        """Tell how far messages were handed out, and grant room for more."""
        if not self._subscribed:
            return
        messages = max(self._room() - self._granted, 0)
        bytes_ = max(self._prefetch_bytes - self._queued_bytes - self._granted_bytes, 0)
        if not (messages or bytes_ or self._back) and self._dealt_with == self._said:
            return
        self._granted += messages
        self._granted_bytes += bytes_
        self._said = self._dealt_with
        back, self._back = self._back, []
        assert self.home is not None, "it is subscribed"
        self.home.credit(self, messages, bytes_, self._dealt_with, back)

    async def _report(self) -> bool:
        """Tell how far messages were handed out, and wait until it is sent. False where the session was lost before."""
        if self._over:
            return True
        self._say()
        return self.home is None or await self.home.flushed()

    # ------------------------------------------------------------------------------------------ ending

    def _leave(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._over:
            self._settle_chunk()
            if not self._chunk_unsaid:
                for message in self._chunk:
                    # The server was told that it is the program's, which then wanted no more.
                    message.nak()
                self._drop_chunk()
            self._say()
            self._over = True
            self.reason = reason
            self._error = None
            self._connection.drop_subscriber(self)
        self._arrived.set()

    async def close(self, timeout: float | None = 5.0) -> None:
        """End it. Messages that were not taken return to the consumer at once; acknowledgements given are confirmed first."""
        self._leave("closed")
        self.session_lost()
        if self._connection.ended:
            return
        try:
            async with asyncio.timeout(timeout):
                if self.home is not None:
                    await self.home.flushed()
                await self._acker.flush(timeout)
        except TimeoutError:
            return

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
