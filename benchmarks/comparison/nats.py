"""NATS through its Python client, and its protocol over one bare connection. Its library is imported only where it runs."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any, Final

from benchmarks.comparison.contestant import IN_FLIGHT_BYTES, Contestant, Subject

TIMEOUT_S: Final = 60.0
ACK_WAIT_S: Final = 600.0
REPLAY_BATCH: Final = 1_000
IN_FLIGHT: Final = 4_000
"""The client's own bound of publishes without an answer."""
_INBOX: Final = b"_INBOX.bench."
_SUBSCRIPTIONS: Final = 2
"""The first number of a pull's subscription; 1 is that of all requests."""


class Nats(Contestant):
    """The client as programs use it: JetStream with streams in files, pull consumers, and keys in buckets."""

    async def open(self, target: str) -> None:
        library: Any = __import__("nats.js.api")
        self._port = int(target)
        self._api = library.js.api
        self._connection = await library.connect(f"nats://127.0.0.1:{target}", pending_size=64 << 20)
        self._streams = self._connection.jetstream(timeout=TIMEOUT_S)
        self._pulls: dict[tuple[str, str, int], Any] = {}

    async def close(self) -> None:
        await self._connection.close()

    async def make_stream(self, stream: str) -> None:
        await self._streams.add_stream(name=stream, subjects=[f"{stream}.>"])

    async def delete_stream(self, stream: str) -> None:
        await self._streams.delete_stream(stream)

    async def publish(self, stream: str, subject: str, payload: bytes) -> None:
        await self._streams.publish(f"{stream}.{subject}", payload)

    async def publish_all(self, stream: str, subject: Subject, payload: bytes, count: int) -> None:
        answers: list[asyncio.Future[Any]] = []
        most = max(1, min(IN_FLIGHT, IN_FLIGHT_BYTES // max(len(payload), 1)))
        for number in range(count):
            if number >= most:
                await answers[number - most]
            answers.append(await self._streams.publish_async(f"{stream}.{subject(number)}", payload))
        await asyncio.gather(*answers)

    async def make_consumer(self, stream: str, consumer: str) -> None:
        settings = self._api.ConsumerConfig(
            durable_name=consumer, ack_policy=self._api.AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=10_000
        )
        await self._streams.add_consumer(stream, settings)

    async def fetch(self, stream: str, consumer: str, most: int, task: int = 0) -> int:
        key = stream, consumer, task
        if (pull := self._pulls.get(key)) is None:
            pull = self._pulls[key] = await self._streams.pull_subscribe_bind(consumer, stream)
        messages = await pull.fetch(most, timeout=TIMEOUT_S)
        for message in messages[:-1]:
            await message.ack()
        # Only this acknowledgement is confirmed; the others came before it.
        await messages[-1].ack_sync(timeout=TIMEOUT_S)
        return len(messages)

    async def replay(self, stream: str, count: int) -> int:
        settings = self._api.ConsumerConfig(ack_policy=self._api.AckPolicy.NONE)
        pull = await self._streams.pull_subscribe(f"{stream}.>", config=settings, stream=stream)
        read = received = 0
        while read < count:
            for message in await pull.fetch(min(REPLAY_BATCH, count - read), timeout=TIMEOUT_S):
                received += len(message.data)
                read += 1
        name = (await pull.consumer_info()).name
        await pull.unsubscribe()
        await self._streams.delete_consumer(stream, name)
        return received

    async def make_bucket(self, bucket: str) -> None:
        self._kv = await self._streams.create_key_value(bucket=bucket, direct=True)
        self.bucket = bucket

    async def delete_bucket(self, bucket: str) -> None:
        await self._streams.delete_key_value(bucket)

    async def put(self, key: str, value: bytes) -> None:
        await self._kv.put(key, value)

    async def get(self, key: str) -> bytes:
        return bytes((await self._kv.get(key)).value)


# ------------------------------------------------------------------------------------ without a client


class Wire(asyncio.Protocol):
    """One connection: commands out, and each message that comes in to the request whose inbox it was sent to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._unread = b""
        self._numbers = itertools.count()
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._pulls: dict[bytes, asyncio.Queue[tuple[bytes, bytes]]] = {}
        """By the number of the subscription: what a consumer sends has the subject that it was published at."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        greeting = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "python"}
        self._transport.write(b"CONNECT %b\r\nSUB %b> 1\r\n" % (json.dumps(greeting).encode(), _INBOX))

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the connection to NATS was lost"))

    def data_received(self, data: bytes) -> None:
        data = self._unread + data if self._unread else data
        at = 0
        while (line := data.find(b"\r\n", at)) >= 0:
            words = data[at:line].split(b" ")
            end = line + 2
            if words[0] in {b"MSG", b"HMSG"}:
                size = int(words[-1])
                if end + size + 2 > len(data):
                    break
                headers = int(words[-2]) if words[0] == b"HMSG" else 0
                has_reply = len(words) == (5 if words[0] == b"MSG" else 6)
                content = data[end + headers : end + size]
                reply = words[3] if has_reply else b""
                if (queue := self._pulls.get(words[2])) is not None:
                    queue.put_nowait((reply, content if reply else data[end : end + headers]))
                elif (future := self._waiting.pop(words[1], None)) is not None and not future.done():
                    future.set_result(content)
                end += size + 2
            elif words[0] == b"PING":
                self._transport.write(b"PONG\r\n")
            elif words[0] == b"-ERR":
                raise RuntimeError(data[at:line].decode())
            at = end
        self._unread = data[at:]

    def request(self, subject: str | bytes, payload: bytes = b"") -> asyncio.Future[bytes]:
        """Send a message whose answer the future will have."""
        inbox = b"%b%d" % (_INBOX, next(self._numbers))
        self._waiting[inbox] = future = self._loop.create_future()
        name = subject if isinstance(subject, bytes) else subject.encode()
        self._transport.write(b"PUB %b %b %d\r\n%b\r\n" % (name, inbox, len(payload), payload))
        return future

    async def pull(self, stream: str, consumer: str, most: int) -> list[tuple[bytes, bytes]]:
        """Ask a consumer for so many messages, which are there; return them with the subjects of their acknowledgements."""
        number = b"%d" % (next(self._numbers) + _SUBSCRIPTIONS)
        inbox = b"_PULL.bench." + number
        queue = self._pulls[number] = asyncio.Queue()
        asked = json.dumps({"batch": most, "expires": round(TIMEOUT_S * 1e9)}).encode()
        name = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}".encode()
        self._transport.write(b"SUB %b %b\r\nPUB %b %b %d\r\n%b\r\n" % (inbox, number, name, inbox, len(asked), asked))
        found: list[tuple[bytes, bytes]] = []
        while len(found) < most:
            reply, content = await queue.get()
            if not reply:
                raise RuntimeError(f"NATS ended a pull: {content!r}")
            found.append((reply, content))
        del self._pulls[number]
        self._transport.write(b"UNSUB %b\r\n" % number)
        return found

    def acknowledge(self, replies: list[bytes]) -> asyncio.Future[bytes]:
        """Acknowledge messages; the future has the confirmation of the last one."""
        self._transport.write(b"".join([b"PUB %b 4\r\n+ACK\r\n" % reply for reply in replies[:-1]]))
        return self.request(replies[-1], b"+ACK")

    def close(self) -> None:
        self._transport.close()


class NatsBare(Nats):
    """The same calls as lines of the protocol; only streams, consumers and buckets are made by the client."""

    async def open(self, target: str) -> None:
        await super().open(target)
        _, self._wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", int(target))

    async def close(self) -> None:
        self._wire.close()
        await super().close()

    async def publish(self, stream: str, subject: str, payload: bytes) -> None:
        _stored(await self._wire.request(f"{stream}.{subject}", payload))

    async def publish_all(self, stream: str, subject: Subject, payload: bytes, count: int) -> None:
        answers: list[asyncio.Future[bytes]] = []
        most = max(1, min(IN_FLIGHT, IN_FLIGHT_BYTES // max(len(payload), 1)))
        for number in range(count):
            if number >= most:
                await answers[number - most]
            answers.append(self._wire.request(f"{stream}.{subject(number)}", payload))
        for answer in await asyncio.gather(*answers):
            _stored(answer)

    async def fetch(self, stream: str, consumer: str, most: int, task: int = 0) -> int:
        messages = await self._wire.pull(stream, consumer, most)
        await self._wire.acknowledge([reply for reply, _ in messages])
        return len(messages)

    async def replay(self, stream: str, count: int) -> int:
        settings = self._api.ConsumerConfig(ack_policy=self._api.AckPolicy.NONE, inactive_threshold=ACK_WAIT_S)
        consumer = (await self._streams.add_consumer(stream, settings)).name
        read = received = 0
        while read < count:
            for _, content in await self._wire.pull(stream, consumer, min(REPLAY_BATCH, count - read)):
                received += len(content)
                read += 1
        await self._streams.delete_consumer(stream, consumer)
        return received

    async def put(self, key: str, value: bytes) -> None:
        _stored(await self._wire.request(f"$KV.{self.bucket}.{key}", value))

    async def get(self, key: str) -> bytes:
        return await self._wire.request(f"$JS.API.DIRECT.GET.KV_{self.bucket}.$KV.{self.bucket}.{key}")


def _stored(answer: bytes) -> None:
    """Raise an error where an answer does not confirm a publish."""
    if b'"seq"' not in answer or b'"error"' in answer:
        raise RuntimeError(f"NATS did not store a message: {answer.decode(errors='replace')}")
