"""Subscribe and WatchStreams: as fast as the client reads, and a reason at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.kit.server_fakes import Fixture, serving
from waymaker_core.api.effects import End, Event, EventKind
from waymaker_core.api.requests import Subscribe
from waymaker_core.model.result_codes import Refusal, Status
from waymaker_proto import waymaker_streams_pb2 as pb

SERVICE = "/waymaker.streams.WaymakerStreamsService/"


def subscribe(s: Fixture, **fields: Any) -> Any:
    request = pb.SubscribeRequest(stream="s", consumer="c", **fields)
    return s.channel.unary_stream(
        SERVICE + "Subscribe", pb.SubscribeRequest.SerializeToString, pb.SubscribeEvent.FromString
    )(request)


def watch(s: Fixture) -> Any:
    request = pb.WatchStreamsRequest()
    return s.channel.unary_stream(
        SERVICE + "WatchStreams", pb.WatchStreamsRequest.SerializeToString, pb.WatchEvent.FromString
    )(request)


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (conditions are of all kinds, few of them have an event)
            await asyncio.sleep(0.01)


def body(payload: bytes) -> bytes:
    return pb.MessagePb(subject="a", payload=payload).SerializeToString()


async def test_messages_come_in_order_and_the_end_gives_its_reason() -> None:
    async with serving() as s:
        s.node.streams["s"] = [body(b"%d" % n) for n in range(100)]
        events = [event async for event in subscribe(s, stop_when_empty=True)]
        assert [event.message.seq for event in events[:-1]] == list(range(1, 101))
        assert [event.message.payload for event in events[:-1]] == [b"%d" % n for n in range(100)]
        assert events[-1].stopped.reason == "empty"
        request = s.node.calls[0].request
        assert isinstance(request, Subscribe)
        assert (request.stream, request.consumer, request.stop_when_empty) == ("s", "c", True)


async def test_a_reader_that_stops_reading_stops_the_core() -> None:
    async with serving() as s:
        s.node.streams["s"] = [body(bytes(60_000)) for _ in range(400)]
        call = subscribe(s, batch_size=4)
        await call.read()
        (subscription,) = s.node.subscriptions.values()
        held = -1
        while held != subscription.next:
            held = subscription.next
            await asyncio.sleep(0.2)
        assert held < 250, "24 MB waited for a reader of one message"
        seqs = [(await call.read()).message.seq for _ in range(399)]
        assert seqs == list(range(2, 401))


async def test_a_missing_stream_is_not_found_with_its_code() -> None:
    async with serving() as s:
        call = subscribe(s)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert dict(caught.value.trailing_metadata())["wmkr-code"] == "no_such_stream"


async def test_a_client_that_goes_away_is_cancelled_in_the_core() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        call = subscribe(s)
        await until(lambda: s.node.subscriptions)
        call.cancel()
        await until(lambda: not s.node.subscriptions)
        assert len(s.node.cancelled) == 1
        assert s.server.runner.open_channels == 0


async def test_a_failure_after_messages_is_a_status_after_messages() -> None:
    async with serving() as s:
        s.node.streams["s"] = [body(b"x")]
        call = subscribe(s)
        assert (await call.read()).message.seq == 1
        (token,) = s.node.subscriptions
        line = s.server.runner._lines[token]
        del s.server.runner._lines[token]
        line.channel.ended(End(token, "", Refusal(Status.DATA_LOSS, "blocks/1-1.blk at 64", None)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS
        assert caught.value.details() == "blocks/1-1.blk at 64"


async def test_a_malformed_subscription_is_refused() -> None:
    async with serving() as s:
        call = s.channel.unary_stream(SERVICE + "Subscribe")(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_tells_of_streams_and_of_consumers_and_of_what_it_missed() -> None:
    async with serving(node_id=9) as s:
        call = watch(s)
        await until(lambda: s.node.watchers)
        await s.stub("CreateStream")(pb.CreateStreamRequest(config=pb.StreamConfigPb(name="s")).SerializeToString())
        event = await call.read()
        assert (event.type, event.stream.name, event.node_id) == (pb.WATCH_STREAM_CREATED, "s", 9)
        assert event.ts_ms > 1_700_000_000_000
        (token,) = s.node.watchers
        s.server.runner._forward(Event(token, EventKind.CONSUMER_DELETED, "s", "c", 5, 77))
        event = await call.read()
        assert (event.type, event.consumer.stream, event.consumer.consumer) == (pb.WATCH_CONSUMER_DELETED, "s", "c")
        assert event.lagged_count == 77


async def test_a_drain_ends_subscriptions_with_its_reason_and_watches_with_a_status() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        subscription, watching = subscribe(s), watch(s)
        await until(lambda: s.node.subscriptions and s.node.watchers)
        halt = await s.server.drain(5)
        assert halt is not None
        assert halt.clean
        assert (await subscription.read()).stopped.reason == "server_shutdown"
        assert await subscription.code() is grpc.StatusCode.OK
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watching.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
