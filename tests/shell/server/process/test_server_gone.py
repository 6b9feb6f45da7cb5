"""Callers that go while they are served: by a cancel, or with their connection cut. None of it is a bug, and no log says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.shell.server.process.test_server_process import ADMIN, SESSION, STREAMS, ask, create, running
from waymaker_proto import admin_pb2
from waymaker_proto import pipeline_pb2 as pipe
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = [pytest.mark.process, pytest.mark.slow]


class Cable:
    """A connection through the middle, that can be cut without a farewell."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        with contextlib.suppress(OSError):
            await asyncio.gather(_copy(reader, back), _copy(there, writer))

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[Cable]:
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            self.cut()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


def begin(channel: grpc.aio.Channel, kind: str) -> Any:
    """A call whose answers nobody reads."""
    request: Any
    open_: Any = channel.unary_stream
    if kind == "subscribe":
        request = pb.SubscribeRequest(stream="s", consumer="c")
        return open_(STREAMS + "Subscribe")(request.SerializeToString())
    if kind == "watch":
        return open_(STREAMS + "WatchStreams")(b"")
    if kind == "backup":
        return open_(ADMIN + "Backup")(admin_pb2.BackupRequest(stream="s").SerializeToString())
    if kind == "scan":
        request = pb.ScanExactAtSubjectRequest(stream="s", subject="a.b", limit=100)
        return channel.unary_unary(STREAMS + "ScanExactAtSubject")(request.SerializeToString())
    if kind == "restore":
        return channel.stream_stream(ADMIN + "Restore")()
    return channel.stream_stream(SESSION)()


async def go_on(call: Any, kind: str) -> None:
    if kind == "session":
        hello = pipe.Frame(hello=pipe.Hello(version=1))
        hello.subscribes.add(id=1, stream="s", consumer="c", credit_messages=1_000, credit_bytes=1 << 30)
        request = pb.ScanExactAtSubjectRequest(stream="s", subject="a.b", limit=100).SerializeToString()
        for id_ in range(1, 20):
            hello.calls.add(id=id_, method="ScanExactAtSubject", request=request)
        await call.write(hello.SerializeToString())
    elif kind == "restore":
        await call.write(admin_pb2.RestoreFrame(start=admin_pb2.RestoreStart(name="r")).SerializeToString())


@pytest.mark.parametrize("cut", [True, False])
async def test_a_caller_that_goes_while_it_is_served_is_no_incident(tmp_path: Path, cut: bool) -> None:
    kinds = ("subscribe", "watch", "backup", "scan", "restore", "session")
    with running(tmp_path / "d") as server:
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s")
            for _ in range(60):
                request = pb.PublishRequest(stream="s", subject="a.b", payload=bytes(100_000))
                ask(channel, "Publish", request, pb.PublishResponse)
            consumer = pb.CreateConsumerRequest(stream="s", config=pb.ConsumerConfigPb(name="c", max_deliver=1_000))
            ask(channel, "CreateConsumer", consumer, pb.CreateConsumerResponse)
        async with Cable(server.port).laid() as cable:
            for kind in kinds * 2:
                options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.lookahead_bytes", 16_384)]
                async with grpc.aio.insecure_channel(f"127.0.0.1:{cable.port}", options) as channel_:
                    await asyncio.wait_for(channel_.channel_ready(), 20)
                    calls = [begin(channel_, kind) for _ in range(4)]
                    for call in calls:
                        await asyncio.wait_for(go_on(call, kind), 20)
                    await asyncio.sleep(0.3)
                    if cut:
                        cable.cut()
                    else:
                        for call in calls:
                            call.cancel()
                    for call in calls:
                        # The client's library now and then never tells the end of a cut call; the server's log is judged.
                        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError, TimeoutError):
                            await asyncio.wait_for(call.code(), 10)
        with grpc.insecure_channel(server.address) as channel:
            assert ask(channel, "ListStreams", pb.ListStreamsRequest(), pb.ListStreamsResponse).names[0] == "s"
        assert await asyncio.to_thread(server.terminate) == 0
        log = server.log_tail(1_000)
        assert "internal_error" not in log
        assert "Traceback" not in log
        assert '"level": "error"' not in log
