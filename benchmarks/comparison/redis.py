"""Redis through its Python client, and its protocol over one bare connection. Its library is imported only where it runs.

A stream is a stream of Redis, a consumer a group of one, a key a string. A client's task has a connection of its own, as its
library works; the bare connection answers commands in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from benchmarks.comparison.contestant import IN_FLIGHT_BYTES, Contestant, Subject

REPLAY_BATCH: Final = 1_000
PIPELINE: Final = 1_000
CONNECTIONS_MAX: Final = 64
GROUP_BEGIN: Final = "0"


class Redis(Contestant):
    """The client as programs use it: an asyncio client, and its pipelines where commands do not wait for each other."""

    async def open(self, target: str) -> None:
        library: Any = __import__("redis.asyncio").asyncio
        self._client = library.Redis(port=int(target), max_connections=CONNECTIONS_MAX)

    async def close(self) -> None:
        await self._client.aclose()

    async def command(self, *words: str | bytes) -> Any:
        """Send a command, and return its answer."""
        return await self._client.execute_command(*words)

    async def make_stream(self, stream: str) -> None:
        await self.command("DEL", stream)

    async def delete_stream(self, stream: str) -> None:
        await self.command("DEL", stream)

    async def publish(self, stream: str, subject: str, payload: bytes) -> None:
        await self.command("XADD", stream, "*", "s", subject, "p", payload)

    async def publish_all(self, stream: str, subject: Subject, payload: bytes, count: int) -> None:
        most = max(1, min(PIPELINE, IN_FLIGHT_BYTES // max(len(payload), 1)))
        for first in range(0, count, most):
            async with self._client.pipeline(transaction=False) as pipeline:
                for number in range(first, min(first + most, count)):
                    pipeline.xadd(stream, {"s": subject(number), "p": payload})
                await pipeline.execute()

    async def make_consumer(self, stream: str, consumer: str) -> None:
        await self.command("XGROUP", "CREATE", stream, consumer, GROUP_BEGIN, "MKSTREAM")

    async def fetch(self, stream: str, consumer: str, most: int, task: int = 0) -> int:
        found = await self._client.xreadgroup(consumer, f"task{task}", {stream: ">"}, count=most)
        ids = [name for _, entries in found for name, _ in entries]
        if ids:
            await self._client.xack(stream, consumer, *ids)
        return len(ids)

    async def replay(self, stream: str, count: int) -> int:
        read, received, after = 0, 0, "-"
        while read < count:
            entries = await self._client.xrange(stream, min=after, count=min(REPLAY_BATCH, count - read))
            for _, fields in entries:
                received += len(fields[b"p"])
            read += len(entries)
            after = "(" + entries[-1][0].decode()
        return received

    async def make_bucket(self, bucket: str) -> None:
        self.bucket = bucket

    async def delete_bucket(self, bucket: str) -> None:
        await self.command("DEL", *await self.command("KEYS", f"{bucket}.*"))

    async def put(self, key: str, value: bytes) -> None:
        await self.command("SET", f"{self.bucket}.{key}", value)

    async def get(self, key: str) -> bytes:
        return bytes(await self.command("GET", f"{self.bucket}.{key}"))


# ------------------------------------------------------------------------------------ without a client


class Incomplete(Exception):
    """An answer has not arrived as a whole."""


def parsed(data: bytes, at: int) -> tuple[Any, int]:
    """Return the answer that begins at a place, and where it ends. Raises `Incomplete`."""
    line = data.find(b"\r\n", at)
    if line < 0:
        raise Incomplete
    kind, text, end = data[at : at + 1], data[at + 1 : line], line + 2
    if kind == b"$":
        size = int(text)
        if size < 0:
            return None, end
        if end + size + 2 > len(data):
            raise Incomplete
        return data[end : end + size], end + size + 2
    if kind == b"*":
        answers = []
        for _ in range(max(int(text), 0)):
            answer, end = parsed(data, end)
            answers.append(answer)
        return answers, end
    if kind == b"-":
        return RuntimeError(text.decode()), end
    return (int(text) if kind == b":" else text), end


class Wire(asyncio.Protocol):
    """One connection; each answer belongs to the oldest command without one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_exception(ConnectionError("the connection to Redis was lost"))

    def data_received(self, data: bytes) -> None:
        # A long answer is looked at again only when there is twice as much of it, or it would be parsed again and again.
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._wanted and not data.endswith(b"\r\n"):
            return
        whole, at = b"".join(self._pieces), 0
        self._wanted = 0
        while at < len(whole):
            try:
                answer, at = parsed(whole, at)
            except Incomplete:
                self._wanted = 2 * (len(whole) - at)
                break
            future = self._waiting.popleft()
            if isinstance(answer, RuntimeError):
                future.set_exception(answer)
            elif not future.done():
                future.set_result(answer)
        self._pieces = [whole[at:]] if at < len(whole) else []
        self._size = len(whole) - at

    def command(self, *words: str | bytes) -> asyncio.Future[Any]:
        """Send a command; the future will have its answer."""
        encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
        self._transport.write(
            b"*%d\r\n" % len(encoded) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded])
        )
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(future)
        return future

    def close(self) -> None:
        self._transport.close()


class RedisBare(Redis):
    """The same calls as commands of the protocol, all of them over one connection."""

    async def open(self, target: str) -> None:
        _, self._wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", int(target))

    async def close(self) -> None:
        self._wire.close()

    async def command(self, *words: str | bytes) -> Any:
        return await self._wire.command(*words)

    async def publish_all(self, stream: str, subject: Subject, payload: bytes, count: int) -> None:
        most = max(1, min(PIPELINE, IN_FLIGHT_BYTES // max(len(payload), 1)))
        answers: list[asyncio.Future[Any]] = []
        for number in range(count):
            if number >= most:
                await answers[number - most]
            answers.append(self._wire.command("XADD", stream, "*", "s", subject(number), "p", payload))
        await asyncio.gather(*answers)

    async def fetch(self, stream: str, consumer: str, most: int, task: int = 0) -> int:
        words = ("XREADGROUP", "GROUP", consumer, f"task{task}", "COUNT", str(most), "STREAMS", stream, ">")
        found = await self.command(*words)
        ids = [entry[0] for _, entries in found or [] for entry in entries]
        if ids:
            await self.command("XACK", stream, consumer, *ids)
        return len(ids)

    async def replay(self, stream: str, count: int) -> int:
        read, received, after = 0, 0, "-"
        while read < count:
            entries = await self.command("XRANGE", stream, after, "+", "COUNT", str(min(REPLAY_BATCH, count - read)))
            for _, fields in entries:
                received += len(fields[fields.index(b"p") + 1])
            read += len(entries)
            after = "(" + entries[-1][0].decode()
        return received
