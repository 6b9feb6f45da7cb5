"""Queues with the manners of a deque whose values are bytes: appended at the end, taken from the front.

A value is handed out at most once. The server removes it durably before its answer leaves; where the answer is lost on the way,
or the program ends, that value is lost with it. Work that must be done at least once belongs into a work-queue stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable

from waymaker.client.checked import UNSET, Timeout, Whole, flag, whole
from waymaker.client.stores.calling import Caller, parts, value
from waymaker_proto import collections_pb2 as pc
from waymaker_proto import waymaker_streams_pb2 as pb

TAKE_MAX = 10_000


class Queue:
    """A queue. Made by `Client.queue`."""

    def __init__(self, caller: Caller, name: str) -> None:
        self.name = name
        self._caller = caller
        self._waiting: list[asyncio.Future[bytes]] = []
        self._taking: set[asyncio.Future[None]] = set()
        self._kept: deque[bytes] = deque()
        """Values that were taken for tasks which were cancelled."""

    async def create(
        self, *, max_bytes: Whole = 0, max_messages: Whole = 0, ephemeral: bool = False, timeout: Timeout = UNSET
    ) -> None:
        """Make the queue. It refuses values beyond its bounds; 0: no bound. AlreadyExistsError."""
        request = pb.CreateQueueRequest(
            name=self.name,
            max_bytes=whole("max_bytes", max_bytes),
            max_messages=whole("max_messages", max_messages),
            ephemeral=flag("ephemeral", ephemeral),
        )
        await self._caller._call_service("CreateQueue", request, pb.CreateQueueResponse, timeout, repeatable=False)

    async def delete(self, *, timeout: Timeout = UNSET) -> None:
        """Delete the queue with its values. NoSuchBucketError."""
        request = pb.DeleteQueueRequest(name=self.name)
        await self._caller._call_service("DeleteQueue", request, pb.DeleteQueueResponse, timeout, repeatable=False)

    async def append(self, value_: bytes, *, timeout: Timeout = UNSET) -> int:
        """Add a value at the end, and return its sequence once it is on disk."""
        request = pb.QueuePushRequest(bucket=self.name, value=value("a queue's value", value_))
        response = await self._caller._call_service(
            "QueuePush", request, pb.QueuePushResponse, timeout, repeatable=False
        )  # fmt: skip
        return response.sequence

    async def extend(self, values: Iterable[bytes], *, timeout: Timeout = UNSET) -> None:
        """Add many values, in order. Up to 4,096 of them and 4 MiB are one write, all or none; more go in parts."""
        given = (value("a queue's value", each) for each in values)
        for part in parts(given, len):
            request = pc.QueuePushManyRequest(bucket=self.name, values=part)
            await self._caller._call_service(
                "QueuePushMany", request, pc.QueuePushManyResponse, timeout, repeatable=False
            )

    async def popleft(self, *, timeout: Timeout = UNSET) -> bytes:
        """Take the first value. IndexError where the queue is empty.

        What many tasks ask for in one turn of the loop travels as one request, where no timeout of their own is given. A
        value that came for a task that was cancelled meanwhile is given to the next call of this object.
        """
        if self._kept:
            return self._kept.popleft()
        if timeout is UNSET:
            return await self._shared_take()
        taken = await self.take(1, timeout=timeout)
        if not taken:
            raise self._empty()
        return taken[0]

    def _empty(self) -> IndexError:
        return IndexError(f"queue {self.name!r} is empty")

    async def _shared_take(self) -> bytes:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            loop.call_soon(self._take_for_all)
        return await future

    def _take_for_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for at in range(0, len(waiting), TAKE_MAX):
            taking = asyncio.ensure_future(self._take_for(waiting[at : at + TAKE_MAX]))
            self._taking.add(taking)
            taking.add_done_callback(self._taking.discard)

    async def _take_for(self, waiting: list[asyncio.Future[bytes]]) -> None:
        """Take a value for each that still waits, and hand them over in order; an answer's bytes may hold fewer."""
        try:
            while wanted := [each for each in waiting if not each.done()]:
                taken = deque(await self.take(len(wanted)))
                if not taken:
                    raise self._empty()
                for each in wanted:
                    if taken and not each.done():
                        each.set_result(taken.popleft())
                self._kept.extend(taken)
        except BaseException as error:
            for each in waiting:
                if not each.done():
                    each.set_exception(error)
            if not isinstance(error, Exception):
                raise

    async def take(self, limit: Whole, *, timeout: Timeout = UNSET) -> list[bytes]:
        """Take the first values, at most `limit` (up to 10,000) and 8 MiB; none where the queue is empty."""
        request = pc.QueuePopManyRequest(bucket=self.name, limit=whole("limit", limit, 1, TAKE_MAX))
        response = await self._caller._call_service(
            "QueuePopMany", request, pc.QueuePopManyResponse, timeout, repeatable=False
        )
        return list(response.values)

    async def values(self, from_sequence: Whole = 0, *, timeout: Timeout = UNSET) -> AsyncIterator[bytes]:
        """Yield the values in order, from a sequence on, and leave them where they are."""
        request = pb.QueueRangeRequest(bucket=self.name, from_sequence=whole("from_sequence", from_sequence))
        async for page in self._caller._service_pages("QueueRange", request, pb.QueueRangeResponse, timeout):
            for each in page.values:
                yield each

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.values()

    async def peek(self, limit: Whole = 1, *, timeout: Timeout = UNSET) -> list[bytes]:
        """Return the first values, at most `limit`, and leave them where they are."""
        request = pb.QueueRangeRequest(bucket=self.name, limit=whole("limit", limit, 1, TAKE_MAX))
        response = await self._caller._call_service("QueueRange", request, pb.QueueRangeResponse, timeout)
        return list(response.values)

    async def len(self, *, timeout: Timeout = UNSET) -> int:
        """Return how many values there are."""
        request = pb.QueueLenRequest(bucket=self.name)
        response = await self._caller._call_service("QueueLen", request, pb.QueueLenResponse, timeout)
        return response.count
