"""An orderly stop under load, seen by clients of the wire: an answer, or a refusal that says that nothing happened."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kit.client_fake_server import until
from tests.kit.real_server import RealServer
from tests.shell.server.process.test_server_process import SESSION, STREAMS, create, running, scan
from waymaker_proto import pipeline_pb2 as pipe
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.process

NOT_APPLIED = ("wmkr-outcome", "not-applied")


def kind_of(error: grpc.aio.AioRpcError) -> str:
    """What a caller may conclude."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        if NOT_APPLIED in [tuple(pair) for pair in error.trailing_metadata() or ()]:
            return "not applied"
        if "connect" in (error.details() or "").lower():
            return "never sent"  # gRPC's own word for a call that found no connection
    return f"{error.code().name}: {error.details()}"


class Load:
    """Callers that go on until the server is gone, and what they were told."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.ends: Counter[str] = Counter()
        self.confirmed: list[int] = []
        self.refused: set[bytes] = set()

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        async with grpc.aio.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield channel

    async def publish(self, number: int, again: bool) -> None:
        """Publish for ever. `again`: on the same connection until it is gone, else up to the first refusal."""
        async with self.channel() as channel:
            call: Any = channel.unary_unary(STREAMS + "Publish")
            count = 0
            while True:
                count += 1
                payload = b"%d-%d" % (number, count)
                request = pb.PublishRequest(stream="s", subject="a.b", payload=payload).SerializeToString()
                try:
                    self.confirmed.append(pb.PublishResponse.FromString(await call(request, timeout=20)).seq)
                except grpc.aio.AioRpcError as error:
                    kind = kind_of(error)
                    self.ends[kind] += 1
                    if kind == "not applied":
                        self.refused.add(payload)
                    if not again or kind == "never sent":
                        return

    async def session(self, number: int) -> None:
        """Publish through a session with many batches under way until the server says that it is about to go.

        Who writes after that word may lose the session's status: gRPC tells a failed write in its place.
        """
        async with self.channel() as channel:
            call: Any = channel.stream_stream(SESSION)()
            await call.write(pipe.Frame(hello=pipe.Hello(version=1)).SerializeToString())
            waiting: dict[int, bytes] = {}
            room, going = asyncio.Semaphore(64), asyncio.Event()
            going.set()

            async def write() -> None:
                id_ = 0
                while going.is_set():
                    id_ += 1
                    payload = b"%d-%d" % (number, id_)
                    waiting[id_] = payload
                    batch = pipe.PublishBatch(id=id_, stream="s", subjects=["a.b"], payloads=[payload])
                    await call.write(pipe.Frame(publishes=[batch]).SerializeToString())
                    await room.acquire()

            writer = asyncio.create_task(write())
            try:
                while (data := await call.read()) is not grpc.aio.EOF:
                    frame = pipe.Frame.FromString(data)
                    if frame.HasField("closing"):
                        going.clear()
                    for published in frame.published:
                        payload = waiting.pop(published.id)
                        room.release()
                        if published.HasField("refused"):
                            self.ends["not applied" if published.refused.outcome == "not-applied" else "unknown"] += 1
                            self.refused.add(payload)
                        else:
                            self.confirmed.append(published.first_seq)
                self.ends["ended in silence"] += 1
            except grpc.aio.AioRpcError as error:
                kind = kind_of(error)
                self.ends[kind] += 1
                if kind == "not applied":
                    self.refused.update(waiting.values())
            finally:
                writer.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await writer


async def stop_under(server: RealServer, load: Load, callers: list[asyncio.Task[None]]) -> None:
    await until(lambda: len(load.confirmed) > 200, 20)
    assert await asyncio.to_thread(server.terminate) == 0
    await asyncio.wait_for(asyncio.gather(*callers), 30)


def judge(server: RealServer, load: Load) -> None:
    assert set(load.ends) <= {"not applied", "never sent"}, load.ends
    assert load.ends["not applied"] > 0
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stored = {message.seq: message.payload for message in scan(channel, "s")}
    assert set(load.confirmed) <= set(stored)
    assert len(load.confirmed) == len(set(load.confirmed))
    assert not load.refused & set(stored.values()), "what was refused did not happen"


@pytest.mark.parametrize("again", [False, True])
async def test_every_call_under_way_at_a_stop_is_answered_or_refused_as_not_applied(
    tmp_path: Path, again: bool
) -> None:
    with running(tmp_path / "d") as server:
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s")
        load = Load(server.address)
        await stop_under(server, load, [asyncio.create_task(load.publish(n, again)) for n in range(100)])
        judge(server, load)


async def test_frames_in_flight_at_a_stop_are_answered_or_were_not_applied(tmp_path: Path) -> None:
    with running(tmp_path / "d") as server:
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s")
        load = Load(server.address)
        await stop_under(server, load, [asyncio.create_task(load.session(n)) for n in range(20)])
        judge(server, load)
