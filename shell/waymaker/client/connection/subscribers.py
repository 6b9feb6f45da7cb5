"""The subscriptions of a connection, and the news of them that the next frame carries.

News belongs to a session: a new session begins with every subscription anew, and with nothing else to say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from waymaker.client.connection.failures import error_of
from waymaker.client.errors import WaymakerError
from waymaker_proto import pipeline_pb2 as pl

if TYPE_CHECKING:
    from waymaker.client.connection.connection import Connection

MOVED: Final = frozenset({"server_shutdown", "moved"})
"""Reasons of ends after which a subscription begins again, at another member where there is one."""


class Subscriber(Protocol):
    """A subscription, as the connection sees it."""

    id: int
    stream: str
    home: Connection | None
    """The connection that it is with, or was last."""
    hops: int
    """Ends since its last delivery because another member serves it, or none does."""

    @property
    def is_wanted(self) -> bool: ...

    def subscribe(self, frame: pl.Frame) -> None: ...
    def deliver(self, batch: pl.DeliveryBatch) -> None: ...
    def session_lost(self) -> None: ...
    def ended(self, reason: str, error: WaymakerError | None) -> None: ...


class Subscribers:
    """Subscriptions by their number, and the news of them and of fetches."""

    def __init__(self) -> None:
        self._by_id: dict[int, Subscriber] = {}
        self._new: list[Subscriber] = []
        self._credits: dict[int, pl.Credit] = {}
        self._unsubscribes: list[int] = []
        self._received: list[int] = []
        self._cancels: list[int] = []
        self._waiters: list[asyncio.Future[bool]] = []
        """Tasks that wait until the news is sent."""
        self._unsent_waiters: list[asyncio.Future[bool]] = []
        """The same, once the news is in the frame that is being sent."""

    def add(self, subscriber: Subscriber) -> None:
        """Subscribe with the next frame."""
        self._by_id[subscriber.id] = subscriber
        self._new.append(subscriber)

    def remove(self, subscriber: Subscriber, in_session: bool) -> bool:
        """Forget a subscription; return True where the server has to hear of it."""
        if self._by_id.pop(subscriber.id, None) is None:
            return False
        if subscriber in self._new:
            self._new.remove(subscriber)
        elif in_session:
            self._unsubscribes.append(subscriber.id)
            return True
        return False

    def credit(
        self, subscriber: Subscriber, messages: int, bytes_: int, handed_out: int, back: list[tuple[int, int]]
    ) -> bool:
        """Grant more to a subscription and report how far it handed out; return False where it has ended."""
        if subscriber.id not in self._by_id:
            return False
        credit = self._credits.setdefault(subscriber.id, pl.Credit(subscription=subscriber.id))
        credit.messages += messages
        credit.bytes += bytes_
        credit.handed_out = handed_out
        for first, last in back:
            credit.handed_back.add(first=first, last=last)
        return True

    def answered(self, fetch_id: int, arrived: bool) -> None:
        """Report that the answer to a fetch reached its caller, or that its caller had left."""
        (self._received if arrived else self._cancels).append(fetch_id)

    def deliver(self, batch: pl.DeliveryBatch) -> None:
        """Hand a delivery to its subscription, if there still is one."""
        subscriber = self._by_id.get(batch.subscription)
        if subscriber is not None:
            subscriber.deliver(batch)

    @property
    def is_empty(self) -> bool:
        """Return True without any subscription."""
        return not self._by_id

    def find(self, id_: int) -> Subscriber | None:
        """Return a subscription by its number."""
        return self._by_id.get(id_)

    def withdraw(self) -> list[Subscriber]:
        """Give back every subscription: each has heard that its session is lost."""
        subscribers = list(self._by_id.values())
        self._by_id.clear()
        self._new.clear()
        return subscribers

    def end(self, ended: pl.Ended) -> None:
        """End the subscription that the server ended."""
        subscriber = self._by_id.pop(ended.subscription, None)
        if subscriber is not None:
            refused = ended.refused if ended.HasField("refused") else None
            subscriber.ended(ended.reason, None if refused is None else error_of(refused))

    def pack(self, frame: pl.Frame) -> bytes | None:
        """Add the news to a frame, and return it once more as bytes; None where there is none."""
        if not self.has_news:
            return None
        for subscriber in self._new:
            subscriber.subscribe(frame)
        frame.credits.extend(self._credits.values())
        frame.unsubscribes.extend(self._unsubscribes)
        frame.received.extend(self._received)
        frame.cancels.extend(self._cancels)
        self._unsent_waiters += self._waiters
        self._waiters.clear()
        self._new.clear()
        self._forget_news()
        return frame.SerializeToString()

    def sent(self) -> None:
        """Note that the frame with the packed news is sent."""
        _release(self._unsent_waiters, True)

    async def flushed(self) -> bool:
        """Wait until the news is sent; return False where the session ended before."""
        if not (self._credits or self._unsubscribes or self._received or self._unsent_waiters):
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return await waiter

    def session_began(self) -> None:
        """Forget news of the session before, and subscribe anew."""
        self._forget_news()
        self._new = list(self._by_id.values())

    def session_lost(self) -> None:
        """Tell waiters and subscriptions that the session ended."""
        _release(self._waiters, False)
        _release(self._unsent_waiters, False)
        for subscriber in list(self._by_id.values()):
            subscriber.session_lost()

    def fail(self, error: WaymakerError) -> None:
        """End every subscription with an error."""
        subscribers = list(self._by_id.values())
        self._by_id.clear()
        self._new.clear()
        for subscriber in subscribers:
            subscriber.ended("", error)

    @property
    def has_news(self) -> bool:
        """Return True if the next frame has something to say of subscriptions or fetches."""
        return bool(self._new or self._credits or self._unsubscribes or self._received or self._cancels)

    def _forget_news(self) -> None:
        self._credits.clear()
        self._unsubscribes.clear()
        self._received.clear()
        self._cancels.clear()


def _release(waiters: list[asyncio.Future[bool]], sent: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(sent)
    waiters.clear()
