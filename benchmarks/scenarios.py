"""The scenarios that are measured: publishing, one call at a time, replay, and a restart with many messages.

Each scenario runs on a server of its own, in a directory of its own, and returns figures. Targets are those the
project sets itself for two cores shared with the client. Beside a small load the warm-up and the bare peers are short too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from benchmarks.figures import Figure
from benchmarks.peers import read_bytes_a_second, synced_appends_a_second
from benchmarks.session import CHANNEL_OPTIONS, Session, publish, replay
from tests.kit.real_server import RealServer
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb
from waymaker_proto.waymaker_streams_pb2_grpc import WaymakerStreamsServiceStub

if TYPE_CHECKING:
    from waymaker_proto.waymaker_streams_pb2_grpc import WaymakerStreamsServiceAsyncStub

STREAM = "bench"
PAYLOAD = bytes(range(128))
BATCH_MESSAGES = 256
IN_FLIGHT = 24
PUBLISH_TARGET = 100_000
REPLAY_TARGET = 200_000
RESTART_TARGET_S = 10


def batch_of(messages: int, subjects: int) -> pl.PublishBatch:
    """Make a batch over so many subjects in turn."""
    names = [f"{STREAM}.sensor.{number}" for number in range(min(subjects, messages))]
    return pl.PublishBatch(
        stream=STREAM,
        subjects=names,
        subject_index=[number % len(names) for number in range(messages)],
        payloads=[PAYLOAD] * messages,
    )


@asynccontextmanager
async def fresh_server(folder: Path) -> AsyncIterator[RealServer]:
    server = RealServer(folder / "data")
    server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: WaymakerStreamsServiceAsyncStub = WaymakerStreamsServiceStub(channel)
            created = await stub.CreateStream(pb.CreateStreamRequest(config=pb.StreamConfigPb(name=STREAM)))
            assert created.success, created
        yield server
    finally:
        server.close()


@asynccontextmanager
async def session_with(server: RealServer) -> AsyncIterator[Session]:
    async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
        session = Session(channel)
        yield session
        await session.close()


async def publishing(folder: Path, messages: int) -> list[Figure]:
    """Measure pipelined publishes of 128 bytes, each confirmed after its sync."""
    batch = batch_of(BATCH_MESSAGES, subjects=16)
    async with fresh_server(folder) as server, session_with(server) as session:
        batches = messages // BATCH_MESSAGES
        await publish(session, batch, min(200, batches), IN_FLIGHT)  # warm up
        began = time.perf_counter()
        await publish(session, batch, batches, IN_FLIGHT)
        rate = batches * BATCH_MESSAGES / (time.perf_counter() - began)
    stored = batch.SerializeToString()
    peer = synced_appends_a_second(folder, stored, BATCH_MESSAGES, seconds=min(2.0, messages / 25_000))
    return [
        Figure(
            "publish 128 B, pipelined, synced", rate, "messages/s", PUBLISH_TARGET,
            beside=f"{rate / peer:.2f} of a loop that writes and syncs each batch ({peer:,.0f}/s)",
        )
    ]  # fmt: skip


async def one_at_a_time(folder: Path, calls: int) -> list[Figure]:
    """Measure unary publishes, each of which waits for its answer before the next one leaves."""
    async with fresh_server(folder) as server, grpc.aio.insecure_channel(server.address) as channel:
        stub: WaymakerStreamsServiceAsyncStub = WaymakerStreamsServiceStub(channel)
        request = pb.PublishRequest(stream=STREAM, subject=f"{STREAM}.one", payload=PAYLOAD)
        took_ms = []
        for _ in range(calls):
            began = time.perf_counter()
            answer = await stub.Publish(request)
            took_ms.append((time.perf_counter() - began) * 1_000)
            assert answer.success, answer
    peer = synced_appends_a_second(folder, request.SerializeToString(), 1, seconds=min(1.0, calls / 200))
    cuts = statistics.quantiles(took_ms, n=100)
    beside = f"a bare write and sync takes {1_000 / peer:.2f} ms"
    return [
        Figure("publish one at a time, median", cuts[49], "ms", smaller_is_better=True, beside=beside),
        Figure("publish one at a time, 99th percentile", cuts[98], "ms", smaller_is_better=True),
    ]


async def replaying(folder: Path, messages: int) -> list[Figure]:
    """Measure a consumer that reads a stored stream from its beginning and acknowledges everything."""
    batch = batch_of(BATCH_MESSAGES, subjects=16)
    batches = messages // BATCH_MESSAGES
    async with fresh_server(folder) as server:
        async with session_with(server) as session:
            await publish(session, batch, batches, IN_FLIGHT)
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: WaymakerStreamsServiceAsyncStub = WaymakerStreamsServiceStub(channel)
            made = await stub.CreateConsumer(
                pb.CreateConsumerRequest(stream=STREAM, config=pb.ConsumerConfigPb(name="reader", ack_wait_ms=600_000))
            )
            assert made.success, made
        async with session_with(server) as session:
            began = time.perf_counter()
            body_bytes = await replay(session, STREAM, "reader", batches * BATCH_MESSAGES)
            took_s = time.perf_counter() - began
    rate = batches * BATCH_MESSAGES / took_s
    peer = read_bytes_a_second(folder, min(messages, 32_768) * 8_192)
    return [
        Figure(
            "replay 128 B, acknowledged", rate, "messages/s", REPLAY_TARGET,
            beside=f"{body_bytes / took_s / peer:.3f} of reading a warm file ({peer / 1e6:,.0f} MB/s)",
        )
    ]  # fmt: skip


async def restarting(folder: Path, messages: int) -> list[Figure]:
    """Measure the time from start to first answer, after a kill, with so many messages in one stream."""
    batch = batch_of(4 * BATCH_MESSAGES, subjects=1_000)
    batches = messages // (4 * BATCH_MESSAGES)
    async with fresh_server(folder) as server:
        async with session_with(server) as session:
            began = time.perf_counter()
            await publish(session, batch, batches, in_flight=8)
            filled_s = time.perf_counter() - began
        server.kill()
        began = time.perf_counter()
        server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: WaymakerStreamsServiceAsyncStub = WaymakerStreamsServiceStub(channel)
            info = await stub.GetStreamInfo(pb.GetStreamInfoRequest(name=STREAM), timeout=60)
            took_s = time.perf_counter() - began
        stored = batches * 4 * BATCH_MESSAGES
        assert info.stats.msg_count == info.stats.last_seq == stored, info
        resident_mib = resident_bytes(server.pid) / 1024 / 1024
    return [
        Figure(
            f"restart after a kill, {stored:,} messages", took_s, "s", RESTART_TARGET_S, smaller_is_better=True,
            beside=f"filled at {stored / filled_s:,.0f} messages/s",
        ),
        Figure("resident memory after that restart", resident_mib, "MiB", smaller_is_better=True),
    ]  # fmt: skip


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, from the kernel; 0 where it does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096
