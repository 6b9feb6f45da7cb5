"""A session of the pipeline driven as hard as it goes: frames are made beforehand, answers are counted.

This is the protocol without a client library, so that what is measured is the server and the wire. Credits and
windows are respected; anything but success ends the measurement.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto.pipeline_pb2_grpc import WaymakerPipelineServiceStub

if TYPE_CHECKING:
    from waymaker_proto.pipeline_pb2_grpc import WaymakerPipelineServiceAsyncStub

CREDIT_MESSAGES = 65_536
CREDIT_BYTES = 16 * 1024 * 1024
CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Failed(RuntimeError):
    """The server answered something else than success."""


class Session:
    """One open session. ``answers`` yields frames; ``send`` queues one."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub: WaymakerPipelineServiceAsyncStub = WaymakerPipelineServiceStub(channel)
        self._outgoing: asyncio.Queue[pl.Frame | None] = asyncio.Queue()
        self._call = stub.Session(self._frames())
        self.send(pl.Frame(hello=pl.Hello(version=1, client="benchmarks")))

    async def _frames(self) -> AsyncIterator[pl.Frame]:
        while (frame := await self._outgoing.get()) is not None:
            yield frame

    def send(self, frame: pl.Frame) -> None:
        self._outgoing.put_nowait(frame)

    async def answer(self) -> pl.Frame:
        frame = await self._call.read()
        if not isinstance(frame, pl.Frame):
            raise Failed(f"the session ended: {await self._call.code()} {await self._call.details()}")
        return frame

    async def close(self) -> None:
        self._outgoing.put_nowait(None)
        self._call.cancel()


async def publish(session: Session, batch: pl.PublishBatch, batches: int, in_flight: int) -> None:
    """Send ``batch`` so many times, ``in_flight`` of them unanswered, and return when all are confirmed."""
    ids = itertools.count(1)
    count = len(batch.payloads)

    def send() -> None:
        batch.id = next(ids)
        session.send(pl.Frame(publishes=[batch]))

    sent = min(in_flight, batches)
    for _ in range(sent):
        send()
    confirmed = 0
    while confirmed < batches:
        for published in (await session.answer()).published:
            if published.result_code != "ok" or published.count != count:
                raise Failed(f"a batch was not stored: {published}")
            confirmed += 1
            if sent < batches:
                send()
                sent += 1


async def replay(session: Session, stream: str, consumer: str, messages: int) -> int:
    """Take ``messages`` deliveries, acknowledge them as they come, and return the bytes of their bodies."""
    session.send(
        pl.Frame(
            subscribes=[
                pl.Subscribe(
                    id=1, stream=stream, consumer=consumer, credit_messages=CREDIT_MESSAGES, credit_bytes=CREDIT_BYTES
                )
            ]
        )
    )
    received, body_bytes = 0, 0
    for frame_id in itertools.count(1):
        frame = await session.answer()
        for ended in frame.ended:
            raise Failed(f"the subscription ended: {ended}")
        for acked in frame.acked:
            if acked.result_code != "ok":
                raise Failed(f"an acknowledgement failed: {acked}")
        ranges, taken, taken_bytes = [], 0, 0
        for run in (run for delivery in frame.deliveries for run in delivery.runs):
            ranges.append(pl.SeqRange(first=run.first_seq, last=run.first_seq + len(run.lengths) - 1))
            taken += len(run.lengths)
            taken_bytes += len(run.bodies)
        if not taken:
            continue
        received += taken
        body_bytes += taken_bytes
        if received >= messages:
            return body_bytes
        session.send(
            pl.Frame(
                acks=[pl.AckBatch(id=frame_id, stream=stream, consumer=consumer, kind=pl.ACK, ranges=ranges)],
                credits=[pl.Credit(subscription=1, messages=taken, bytes=taken_bytes)],
            )
        )
    raise AssertionError("unreachable")
