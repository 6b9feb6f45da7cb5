"""A consumer of a real cluster, through the client: it acknowledges all, and notes what comes again after a confirmed ack."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import CancelledError, Future

import waymaker
from tests.kit.real_cluster import Publisher, RealCluster

CONSUMER = "audit"
CALL_S = 60.0
ACK_WAIT_MS = 20_000
"""Longer than any pause, so that none lets a message come again that waits to be read here."""


class Consumer:
    """One subscription to the stream of a publisher, on a loop that runs in another thread, from `start` to `finish`."""

    def __init__(self, cluster: RealCluster, stream: str, loop: asyncio.AbstractEventLoop) -> None:
        self._targets = [server.address for server in cluster.servers.values()]
        self._stream = stream
        self.seen: dict[int, bytes] = {}
        self.acked: set[int] = set()
        """Messages whose acks were confirmed."""
        self.again: list[int] = []
        """Messages that arrived after that."""
        self._settled: set[int] = set()
        """Messages whose acks were confirmed, and behind which all that had arrived was read: what comes now was sent later."""
        self._unsettled: list[int] = []
        self.deliveries = self.doubtful_acks = 0
        self.longest_s = 0.0
        """The longest time between two deliveries."""
        self._loop = loop
        self._reading: Future[None] | None = None
        self.broken: BaseException | None = None

    def start(self) -> None:
        """Begin to read."""
        self._reading = asyncio.run_coroutine_threadsafe(self._run(), self._loop)

    def await_all(self, publisher: Publisher, within_s: float) -> None:
        """Return once all that was confirmed was delivered and acknowledged, and nothing came again after its ack."""
        deadline = time.monotonic() + within_s
        while missing := publisher.confirmed.keys() - self.acked:
            assert self.broken is None, self.broken
            few = sorted(missing)[:5]
            assert time.monotonic() < deadline, (
                f"{self._stream}: {len(missing)} were not delivered, or acks of them: {few}"
            )
            time.sleep(0.1)
        assert {seq: self.seen[seq] for seq in publisher.confirmed} == publisher.confirmed
        assert not self.again, f"{self._stream}: delivered after their acks were confirmed: {self.again[:5]}"

    def finish(self) -> None:
        """End the subscription, and the client."""
        assert self._reading is not None
        self._reading.cancel()
        with contextlib.suppress(CancelledError):
            self._reading.result(CALL_S)

    async def _run(self) -> None:
        try:
            async with waymaker.connect(self._targets, timeout=CALL_S) as client:
                with contextlib.suppress(waymaker.AlreadyExistsError):
                    await client.create_consumer(
                        self._stream, CONSUMER, ack_wait_ms=ACK_WAIT_MS, max_deliver="unlimited"
                    )
                await self._read(client)
        except Exception as error:
            self.broken = error

    async def _read(self, client: waymaker.Client) -> None:
        last = time.monotonic()
        subscription = client.subscribe(self._stream, CONSUMER, prefetch=16)
        while True:
            if not subscription._queued and not subscription._chunk:
                self._settled.update(self._unsettled)
                self._unsettled.clear()
            message = await anext(subscription)
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now
            self.deliveries += 1
            if message.seq in self._settled:
                self.again.append(message.seq)
            assert self.seen.setdefault(message.seq, message.payload) == message.payload
            try:
                await message.ack()
            except waymaker.WaymakerError:
                self.doubtful_acks += 1
            else:
                self.acked.add(message.seq)
                self._unsettled.append(message.seq)
