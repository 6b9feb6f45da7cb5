"""What an ill-meaning client sends to the real server: each is answered, nothing grows, and the next client is served."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.kit.hostile_server import channel_to, refused, resident_mib, unharmed_within
from tests.kit.real_server import RealServer
from tests.shell.server.process.test_server_process import STREAMS, ask, create, publish, running
from waymaker.server.grpc.rpcs import UNARY
from waymaker_core.model.message_codec import varint
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with running(tmp_path_factory.mktemp("hostile") / "d") as server:
        with channel_to(server) as channel:
            create(channel, "s")
        yield server


@pytest.fixture(autouse=True)
def unharmed(server: RealServer) -> Iterator[None]:
    with unharmed_within(server):
        yield


GARBAGE = {
    "bad UTF-8": b"\x0a\x02\xff\xfe",
    "a truncated varint": b"\x28\x80",
    "an 11-byte varint": b"\x28" + b"\x80" * 10 + b"\x01",
    "a field that runs past the end": b"\x0a\x7fabc",
    "a million nested groups": b"\x4b" * 1_000_000,
    "field number 0": b"\x02\x00",
    "an overlong tag": b"\xff" * 20,
}


@pytest.mark.parametrize("what", sorted(GARBAGE))
def test_garbage_is_an_invalid_argument_for_every_call_that_has_fields(server: RealServer, what: str) -> None:
    for method in ("Publish", "CreateStream", "Fetch", "ReadLatestAtSubject"):
        data = GARBAGE[what]
        if method != "Publish" and data[0] == 0x28:
            continue  # that field is a number in Publish only
        assert refused(server, method, data) is grpc.StatusCode.INVALID_ARGUMENT, method


def test_unknown_fields_are_let_through_and_ignored(server: RealServer) -> None:
    with channel_to(server) as channel:
        data = pb.GetStreamInfoRequest(name="s").SerializeToString() + b"\xfa\x7f\x03abc" * 100
        raw: Any = channel.unary_unary(STREAMS + "GetStreamInfo")
        assert pb.GetStreamInfoResponse.FromString(raw(data, timeout=10)).success


@pytest.mark.parametrize("method", ["Publish", "CreateStream", "UpdateStream", "Ack"])
def test_millions_of_empty_fields_are_refused_before_they_are_built(server: RealServer, method: str) -> None:
    descriptor = UNARY[method].request.DESCRIPTOR
    for number in range(1, len(descriptor.fields) + 1):
        data = bytes([number << 3 | 2, 0]) * (8 << 20)
        assert refused(server, method, data) is grpc.StatusCode.INVALID_ARGUMENT


def test_nested_fields_are_counted_too(server: RealServer) -> None:
    sources = b"\x3a\x00" * (8 << 20)
    data = b"\x0a" + varint(len(sources)) + sources
    assert refused(server, "CreateStream", data) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("subject", ["x" * 3_000_000, "a\0b", "a\nb", "a b", "../x", "a..b", ".", "a.*", ">"])
def test_impossible_subjects_are_rejected_whatever_their_size(server: RealServer, subject: str) -> None:
    with channel_to(server) as channel:
        response = ask(channel, "Publish", pb.PublishRequest(stream="s", subject=subject), pb.PublishResponse)
        assert (response.success, response.result_code) == (False, "subject_rejected")
        assert len(response.message) < 2_000


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\0b", "x" * 3_000_000, "", ".", "..", "a b"])
def test_names_never_reach_a_file_system(server: RealServer, name: str) -> None:
    files = sorted(path.name for path in server.data_dir.rglob("*"))
    with channel_to(server) as channel:
        request = pb.CreateStreamRequest(config=pb.StreamConfigPb(name=name))
        response = ask(channel, "CreateStream", request, pb.CreateStreamResponse)
        assert response.result_code == "invalid_config"
        assert len(response.message) < 2_000
        response = ask(channel, "GetStreamInfo", pb.GetStreamInfoRequest(name=name), pb.GetStreamInfoResponse)
        assert response.result_code == "no_such_stream"
    assert sorted(path.name for path in server.data_dir.rglob("*")) == files


def test_a_compressed_bomb_is_not_unpacked(server: RealServer) -> None:
    data = pb.PublishRequest(stream="s", subject="a", payload=bytes(16 << 20)).SerializeToString()
    code = refused(server, "Publish", data, compression=grpc.Compression.Gzip)
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_a_flood_of_metadata_is_refused(server: RealServer) -> None:
    metadata = tuple((f"x-{n}", "v" * 1_000) for n in range(100))
    code = refused(server, "ListStreams", b"", metadata=metadata)
    assert code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}


def test_connections_that_speak_something_else_are_closed(server: RealServer) -> None:
    for greeting in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + b"\0" * 100, b"\0" * 10_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
            connection.sendall(greeting)
            connection.settimeout(15)
            try:
                while connection.recv(65_536):
                    pass
            except ConnectionError:
                pass
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=15) as plain,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        context.wrap_socket(plain)


def test_calls_that_are_opened_and_never_finished_keep_nobody_out(server: RealServer) -> None:
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(20)
        yield from ()

    channels = [channel_to(server) for _ in range(5)]
    calls: list[Any] = []
    for channel in channels:
        open_call: Any = channel.stream_unary(STREAMS + "Publish")
        calls += [open_call.future(nothing(), timeout=20) for _ in range(100)]
    time.sleep(0.3)
    with channel_to(server) as channel:
        assert publish(channel, "s", b"x") > 0
    for call in calls:
        call.cancel()
    never.set()
    for channel in channels:
        channel.close()


def test_a_call_without_a_request_is_malformed(server: RealServer) -> None:
    with channel_to(server) as channel:
        call: Any = channel.stream_unary(STREAMS + "ListStreams")
        with pytest.raises(grpc.RpcError) as caught:
            call(iter(()), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_thousand_idle_subscriptions_cost_little_and_go_with_their_clients(server: RealServer) -> None:
    with channel_to(server) as channel:
        request = pb.CreateConsumerRequest(stream="s", config=pb.ConsumerConfigPb(name="idle", filter_subject="none"))
        ask(channel, "CreateConsumer", request, pb.CreateConsumerResponse)
    before = resident_mib(server)
    channels = [channel_to(server) for _ in range(10)]
    data = pb.SubscribeRequest(stream="s", consumer="idle").SerializeToString()
    calls: list[Any] = []
    for channel in channels:
        subscribe: Any = channel.unary_stream(STREAMS + "Subscribe")
        calls += [subscribe(data) for _ in range(99)]
    with channel_to(server) as channel:
        publish(channel, "s", b"x")
    assert resident_mib(server) - before < 100
    for call in calls:
        call.cancel()
    for channel in channels:
        channel.close()
