"""Ill-meaning clients of the pipeline: frames that would become a hundred times their size, sessions that go nowhere."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.kit.hostile_server import MIB, channel_to, field, resident_mib, unharmed_within
from tests.kit.real_server import RealServer
from tests.kit.waiting import wait_for
from tests.shell.server.process.test_server_process import SESSION, ask, create, publish, running
from waymaker.server.pipeline.session import SUBSCRIPTIONS_MAX
from waymaker_proto import pipeline_pb2 as pipe
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.process

HELLO = pipe.Frame(hello=pipe.Hello(version=1)).SerializeToString()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with running(tmp_path_factory.mktemp("frames") / "d") as server:
        with channel_to(server) as channel:
            create(channel, "s")
            request = pb.CreateConsumerRequest(
                stream="s", config=pb.ConsumerConfigPb(name="idle", filter_subject="none")
            )
            ask(channel, "CreateConsumer", request, pb.CreateConsumerResponse)
        yield server


def session(channel: grpc.Channel, frames: Iterator[bytes]) -> Any:
    open_call: Any = channel.stream_stream(SESSION, None, pipe.Frame.FromString)
    return open_call(frames, timeout=30)


def outcome(server: RealServer, *frames: bytes) -> list[int]:
    """Statuses (gRPC's numbers) that the session's items got, or the one that it ended with."""
    with channel_to(server) as channel:
        try:
            answers = list(session(channel, iter((HELLO, *frames))))
        except grpc.RpcError as error:
            return [error.code().value[0]]
        return [item.refused.status for frame in answers for item in (*frame.published, *frame.acked)]


def batch(more: bytes, payload: bytes = b"x") -> bytes:
    return field(3, b"\x08\x01" + field(2, b"s") + field(3, b"a") + field(5, payload) + more)


def acks(more: bytes) -> bytes:
    return field(4, b"\x08\x01" + field(2, b"s") + field(3, b"idle") + b"\x20\x01" + more)


def keys(more: bytes) -> bytes:
    return field(10, b"\x08\x01" + field(2, b"b") + more)


EMPTIES = 8 * MIB
FLOODS = {
    "calls": b"\x12\x00" * EMPTIES,
    "publishes": b"\x1a\x00" * EMPTIES,
    "acks": b"\x22\x00" * EMPTIES,
    "subscribes": b"\x2a\x00" * EMPTIES,
    "credits": b"\x32\x00" * EMPTIES,
    "unsubscribes": b"\x38\x01" * EMPTIES,
    "packed unsubscribes": field(7, b"\x01" * (16 * MIB)),
    "payloads": batch(b"\x2a\x00" * EMPTIES),
    "headers": batch(b"\x32\x00" * EMPTIES),
    "subjects": batch(b"\x1a\x00" * EMPTIES),
    "subject indexes": batch(field(4, bytes(16 * MIB))),
    "times": batch(field(7, b"\xff\xff\x7f" * (5 * MIB))),
    "conditions": batch(field(8, b"\x02" * (16 * MIB))),
    "sequences": acks(field(5, b"\xff\xff\x7f" * (5 * MIB))),
    "key batches": b"\x52\x00" * EMPTIES,
    "keys": keys(b"\x22\x00" * EMPTIES),
    "values of keys": keys(b"\x2a\x00" * EMPTIES),
    "calls of keys": keys(field(3, b"\x01" * (16 * MIB))),
    "ranges": acks(b"\x32\x00" * EMPTIES),
}


@pytest.mark.parametrize("what", sorted(FLOODS))
def test_a_frame_of_millions_of_parts_ends_its_session_before_they_are_built(server: RealServer, what: str) -> None:
    with unharmed_within(server):
        assert outcome(server, FLOODS[what]) == [grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]]


@pytest.mark.parametrize("parts", [b"\x1a\x00", b"\x1a\x02\xc3\xa9", b"\x2a\x00", b"\x32\x00"])
def test_two_million_bytes_of_parts_are_taken_or_refused_cheaply(server: RealServer, parts: bytes) -> None:
    """Frames of this size are parsed without being counted."""
    with unharmed_within(server):
        assert outcome(server, batch(parts * ((2 * MIB - 100) // len(parts)))) in ([0], [3], [8])


def test_a_frame_as_large_as_may_be_is_still_taken(server: RealServer) -> None:
    with unharmed_within(server):
        assert outcome(server, batch(b"", payload=bytes(16 * MIB - 1))) == [0]
        many = pipe.PublishBatch(
            id=1, stream="s", subjects=["a", "b"], payloads=[bytes(24)] * 65_536, ts_ms=[1 << 40] * 65_536
        )
        many.subject_index.extend([1] * 65_536)
        assert outcome(server, pipe.Frame(publishes=[many]).SerializeToString()) == [0]


def test_what_a_session_was_refused_for_goes_with_it(server: RealServer) -> None:
    with unharmed_within(server):
        for _ in range(10):
            assert outcome(server, FLOODS["packed unsubscribes"]) == [8]


def test_sessions_that_never_begin_or_never_go_on_keep_nobody_out(server: RealServer) -> None:
    over = threading.Event()

    def half_open(*frames: bytes) -> Iterator[bytes]:
        yield from frames
        over.wait(20)

    with unharmed_within(server):
        channels = [channel_to(server) for _ in range(4)]
        calls = [session(channel, half_open(*frames)) for channel in channels for frames in ((), (HELLO,)) * 25]
        with channel_to(server) as channel:
            for _ in range(20):
                publish(channel, "s", b"x")
        over.set()
        for call in calls:
            call.cancel()
        for channel in channels:
            channel.close()


def test_ten_thousand_idle_subscriptions_cost_little_and_go_with_their_sessions(server: RealServer) -> None:
    before = resident_mib(server)
    frame = pipe.Frame()
    for number in range(SUBSCRIPTIONS_MAX):
        frame.subscribes.add(id=number, stream="s", consumer="idle", credit_messages=1 << 40, credit_bytes=1 << 40)
    with unharmed_within(server):
        channels = [channel_to(server) for _ in range(10)]
        outboxes: list[queue.SimpleQueue[bytes | None]] = [queue.SimpleQueue() for _ in channels]
        calls = [session(channel, iter(outbox.get, None)) for channel, outbox in zip(channels, outboxes, strict=True)]
        for outbox in outboxes:
            for data in (HELLO, frame.SerializeToString()):
                outbox.put(data)
        for call in calls:
            assert next(call).HasField("welcome")
        with channel_to(server) as channel:
            for _ in range(5):
                publish(channel, "s", b"nobody wants it")
        assert resident_mib(server) - before < 100
        for outbox in outboxes:
            outbox.put(None)
        for call in calls:
            assert list(call) == [], "subscriptions end with their session, and say nothing"
        for channel in channels:
            channel.close()


def test_subscribers_that_never_read_make_the_server_hold_no_more_than_their_windows(server: RealServer) -> None:
    with channel_to(server) as channel:
        create(channel, "much")
        for name in "abcdefgh":
            request = pb.CreateConsumerRequest(stream="much", config=pb.ConsumerConfigPb(name=name))
            ask(channel, "CreateConsumer", request, pb.CreateConsumerResponse)
        for _ in range(40):
            publish(channel, "much", bytes(MIB))
    over = threading.Event()

    def greedy(name: str) -> Iterator[bytes]:
        frame = pipe.Frame(hello=pipe.Hello(version=1))
        frame.subscribes.add(id=1, stream="much", consumer=name, credit_messages=1 << 40, credit_bytes=1 << 40)
        yield frame.SerializeToString()
        over.wait(20)

    with unharmed_within(server, growth_mib_max=80):
        channels = [channel_to(server) for _ in range(8)]
        calls = [session(channel, greedy(name)) for channel, name in zip(channels, "abcd", strict=False)]
        for channel, name in zip(channels[4:], "efgh", strict=True):
            subscribe: Any = channel.unary_stream("/waymaker.streams.WaymakerStreamsService/Subscribe")
            calls.append(
                subscribe(pb.SubscribeRequest(stream="much", consumer=name, batch_size=10_000).SerializeToString())
            )

        def handed_out() -> bool:
            request = pb.ListConsumersRequest(stream="much")
            with channel_to(server) as channel:
                found = ask(channel, "ListConsumers", request, pb.ListConsumersResponse).consumers
            return all(consumer.last_delivered > 0 for consumer in found)

        wait_for(handed_out)
        time.sleep(0.3)
        with channel_to(server) as channel:
            found = ask(
                channel, "ListConsumers", pb.ListConsumersRequest(stream="much"), pb.ListConsumersResponse
            ).consumers
        assert all(consumer.last_delivered <= 12 for consumer in found), "a window, and not the stream"
        over.set()
        for call in calls:
            call.cancel()
        for channel in channels:
            channel.close()
