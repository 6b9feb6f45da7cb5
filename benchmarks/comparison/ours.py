"""The Python client of Waymaker, and the frames of its native link without a client."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from typing import Any, Final

import waymaker
from benchmarks.comparison.contestant import IN_FLIGHT_BYTES, Contestant, Subject
from waymaker.wire.link import GREETING, Kind, Receiver, envelope
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

BATCH: Final = 256
BATCH_BYTES: Final = 512 << 10
BATCHES_IN_FLIGHT: Final = 24
FRAME_BYTES_MAX: Final = 64 << 20
ACK_WAIT_MS: Final = 600_000
CREDIT_MESSAGES: Final = 65_536


class Ours(Contestant):
    """The client as programs use it: its calls, its messages, its confirmed acknowledgements."""

    async def open(self, target: str) -> None:
        self._target = target.partition(",")[0]
        self.client = waymaker.connect(self._target, timeout=60.0)
        await self.client.__aenter__()
        self._names = itertools.count()

    async def close(self) -> None:
        await self.client.close()

    async def make_stream(self, stream: str) -> None:
        await self.client.create_stream(stream)

    async def delete_stream(self, stream: str) -> None:
        await self.client.delete_stream(stream)

    async def publish(self, stream: str, subject: str, payload: bytes) -> None:
        await self.client.publish(stream, subject, payload)

    async def publish_all(self, stream: str, subject: Subject, payload: bytes, count: int) -> None:
        messages = ((subject(number), payload) for number in range(count))
        (await self.client.publish_many(stream, messages)).raise_first()

    async def make_consumer(self, stream: str, consumer: str) -> None:
        await self.client.create_consumer(stream, consumer, ack_wait_ms=ACK_WAIT_MS)

    async def fetch(self, stream: str, consumer: str, most: int, task: int = 0) -> int:
        messages = await self.client.fetch(stream, consumer, most)
        if messages:
            confirmed = [message.ack() for message in messages]
            await confirmed[-1]
        return len(messages)

    async def replay(self, stream: str, count: int) -> int:
        consumer, received = await self._reader(stream), 0
        async with self.client.subscribe(stream, consumer, prefetch=4_096, limit=count) as subscription:
            async for batch in subscription.batches():
                for message in batch:
                    received += len(message.payload)
                batch.ack()
        await self.client.delete_consumer(stream, consumer)
        return received

    async def _reader(self, stream: str) -> str:
        consumer = f"reader-{os.getpid()}-{next(self._names)}"
        await self.make_consumer(stream, consumer)
        return consumer

    async def make_bucket(self, bucket: str) -> None:
        self.bucket = bucket
        self._kv = await self.client.kv(bucket, create=True)

    async def delete_bucket(self, bucket: str) -> None:
        await self.client.delete_bucket(bucket)

    async def put(self, key: str, value: bytes) -> None:
        await self._kv.put(key, value)

    async def get(self, key: str) -> bytes:
        entry = await self._kv.get(key)
        return b"" if entry is None else entry.value or b""


# ------------------------------------------------------------------------------------ without a client


class Link(asyncio.BufferedProtocol):
    """A session of the native link: frames out, and each answer to the call that waits for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._receiver = Receiver(lambda _: FRAME_BYTES_MAX)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self.deliveries: asyncio.Queue[pl.DeliveryBatch] = asyncio.Queue()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._transport.write(GREETING + envelope(Kind.OPEN))
        self.send(pl.Frame(hello=pl.Hello(version=1, client="benchmarks")))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._receiver.space()

    def buffer_updated(self, nbytes: int) -> None:
        self._receiver.filled(nbytes)
        while (found := self._receiver.next()) is not None:
            kind, content = found
            if kind is Kind.FRAME:
                self._frame(pl.Frame.FromString(content))
            elif kind is Kind.END:
                self._fail(RuntimeError(f"the session ended: {pl.Refused.FromString(content).message}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionError("the session's connection was lost"))

    def _fail(self, error: Exception) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def _frame(self, frame: pl.Frame) -> None:
        answers: tuple[Sequence[Any], ...] = (frame.published, frame.acked, frame.results, frame.keyed)
        for answer in itertools.chain(*answers):
            future = self._waiting.pop(answer.id)
            if not future.done():
                future.set_result(answer)
        for batch in frame.deliveries:
            self.deliveries.put_nowait(batch)

    def send(self, frame: pl.Frame) -> None:
        self._transport.write(envelope(Kind.FRAME, frame.SerializeToString()))

    def begin(self) -> tuple[int, asyncio.Future[Any]]:
        """Return an id that is free, and the answer that will carry it."""
        number = next(self._ids)
        self._waiting[number] = future = self._loop.create_future()
        return number, future

    async def publish(self, batch: pl.PublishBatch) -> None:
        batch.id, future = self.begin()
        self.send(pl.Frame(publishes=[batch]))
        answer = await future
        if answer.result_code != "ok" or answer.count != len(batch.payloads):
            raise RuntimeError(f"a batch was not stored: {answer}")

    def close(self) -> None:
        self._transport.close()


class OursBare(Ours):
    """The same calls as frames of the native link; only streams and consumers are made by the client."""

    async def open(self, target: str) -> None:
        await super().open(target)
        port = int(target.rpartition(",")[2])
        _, self._link = await asyncio.get_running_loop().create_connection(Link, "127.0.0.1", port)

    async def close(self) -> None:
        self._link.close()
        await super().close()

    async def publish(self, stream: str, subject: str, payload: bytes) -> None:
        await self._link.publish(pl.PublishBatch(stream=stream, subjects=[subject], payloads=[payload]))

    async def publish_all(self, stream: str, subject: Subject, payload: bytes, count: int) -> None:
        most = max(1, min(BATCH, BATCH_BYTES // max(len(payload), 1)))
        firsts = iter(range(0, count, most))

        async def each() -> None:
            for first in firsts:
                part = min(most, count - first)
                named = [subject(number) for number in range(first, first + part)]
                subjects = list(dict.fromkeys(named))
                places = {name: place for place, name in enumerate(subjects)}
                index = [places[name] for name in named] if len(subjects) > 1 else []
                await self._link.publish(
                    pl.PublishBatch(stream=stream, subjects=subjects, subject_index=index, payloads=[payload] * part)
                )

        in_flight = max(1, min(BATCHES_IN_FLIGHT, IN_FLIGHT_BYTES // max(most * len(payload), 1)))
        await asyncio.gather(*(each() for _ in range(in_flight)))

    async def fetch(self, stream: str, consumer: str, most: int, task: int = 0) -> int:
        number, future = self._link.begin()
        request = pb.FetchRequest(stream=stream, consumer=consumer, batch_size=most).SerializeToString()
        self._link.send(pl.Frame(calls=[pl.Call(id=number, method="Fetch", request=request)]))
        answer = await future
        seqs = [message.seq for message in pb.FetchResponse.FromString(answer.response).messages]
        if seqs:
            await self._acked(pl.AckBatch(stream=stream, consumer=consumer, kind=pl.ACK, seqs=seqs))
        return len(seqs)

    async def _acked(self, batch: pl.AckBatch) -> None:
        batch.id, future = self._link.begin()
        self._link.send(pl.Frame(acks=[batch]))
        answer = await future
        if answer.result_code != "ok":
            raise RuntimeError(f"an acknowledgement failed: {answer}")

    async def replay(self, stream: str, count: int) -> int:
        consumer, received, read = await self._reader(stream), 0, 0
        subscription = next(self._names) + 1
        first = pl.Subscribe(
            id=subscription, stream=stream, consumer=consumer,
            credit_messages=min(count, CREDIT_MESSAGES), credit_bytes=IN_FLIGHT_BYTES, stop_when_empty=True,
        )  # fmt: skip
        self._link.send(pl.Frame(subscribes=[first]))
        credited, answers = first.credit_messages, []
        while read < count:
            batch = await self._link.deliveries.get()
            if batch.subscription != subscription:
                continue
            ranges, taken, taken_bytes = [], 0, 0
            for run in batch.runs:
                ranges.append(pl.SeqRange(first=run.first_seq, last=run.first_seq + len(run.lengths) - 1))
                taken += len(run.lengths)
                taken_bytes += len(run.bodies)
                received += _payload_bytes(run)
            read += taken
            more = min(taken, count - credited)
            credited += more
            ack = pl.AckBatch(stream=stream, consumer=consumer, kind=pl.ACK, ranges=ranges)
            ack.id, future = self._link.begin()
            answers.append(future)
            credit = pl.Credit(subscription=subscription, messages=more, bytes=taken_bytes)
            self._link.send(pl.Frame(acks=[ack], credits=[credit]))
        for answer in await asyncio.gather(*answers):
            if answer.result_code != "ok":
                raise RuntimeError(f"an acknowledgement failed: {answer}")
        await self.client.delete_consumer(stream, consumer)
        return received

    async def _keys(self, batch: pl.KeyBatch) -> Any:
        batch.id, future = self._link.begin()
        self._link.send(pl.Frame(key_batches=[batch]))
        answer = await future
        if answer.failures or answer.HasField("refused"):
            raise RuntimeError(f"a key was refused: {answer}")
        return answer

    async def put(self, key: str, value: bytes) -> None:
        await self._keys(pl.KeyBatch(bucket=self.bucket, calls=[pl.KEY_PUT], keys=[key], values=[value]))

    async def get(self, key: str) -> bytes:
        answer = await self._keys(pl.KeyBatch(bucket=self.bucket, calls=[pl.KEY_GET], keys=[key]))
        return bytes(answer.values[0])


def _payload_bytes(run: pl.DeliveryRun) -> int:
    """Return the bytes of the payloads of a run, each message parsed as a client must."""
    total, at = 0, 0
    for length in run.lengths:
        total += len(pb.MessagePb.FromString(run.bodies[at : at + length]).payload)
        at += length
    return total
