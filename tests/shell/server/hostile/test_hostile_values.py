"""Ill-meaning values in well-formed requests: numbers out of every range, forged headers, requests that would be kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.kit.hostile_server import MIB, channel_to, field, refused, resident_mib, unharmed_within
from tests.kit.real_server import RealServer
from tests.kit.wire_client import exposes_internals
from tests.shell.server.process.test_server_process import ADMIN, STREAMS, ask, create, publish, running
from waymaker.server.grpc.admin import RESTORES_MAX
from waymaker_core.model.config import StreamConfig
from waymaker_core.storage.archive import ArchiveWriter, Batch, Head
from waymaker_proto import admin_pb2
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.process

U64, U32, I64 = (1 << 64) - 1, (1 << 32) - 1, (1 << 63) - 1
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with running(tmp_path_factory.mktemp("values") / "d") as server:
        with channel_to(server) as channel:
            create(channel, "s")
            request = pb.CreateConsumerRequest(stream="s", config=pb.ConsumerConfigPb(name="c"))
            ask(channel, "CreateConsumer", request, pb.CreateConsumerResponse)
            for _ in range(3):
                publish(channel, "s", b"x")
        yield server


@pytest.fixture(autouse=True)
def unharmed(server: RealServer) -> Iterator[None]:
    with unharmed_within(server):
        yield


def answer(server: RealServer, method: str, request: Any) -> Any:
    """The response, whatever its code; a refusal as its status."""
    kinds = pb.DESCRIPTOR.services_by_name["WaymakerStreamsService"].methods_by_name[method]
    with channel_to(server) as channel:
        try:
            response = ask(channel, method, request, getattr(pb, kinds.output_type.name))
        except grpc.RpcError as error:
            assert not exposes_internals(error.details() or "")
            return error.code()
    assert not exposes_internals(response.message)
    return response


@pytest.mark.parametrize("ts_ms", [-1, -(1 << 63)])
def test_a_negative_time_is_refused(server: RealServer, ts_ms: int) -> None:
    assert answer(server, "Publish", pb.PublishRequest(stream="s", subject="a", ts_ms=ts_ms)) is INVALID


def test_a_far_future_time_is_kept_and_drags_nobody_along(server: RealServer) -> None:
    with channel_to(server) as channel:
        create(channel, "future", retention=pb.Retention(limits=pb.LimitsRetention(max_age_ms=1)))
        assert answer(server, "Publish", pb.PublishRequest(stream="future", subject="a", ts_ms=I64)).success
        assert publish(channel, "future", b"now") == 2
        latest = answer(server, "ReadLatestAtSubject", pb.ReadLatestAtSubjectRequest(stream="future", subject="a"))
        assert latest.latest.ts_ms == I64


@pytest.mark.parametrize("setting", ["max_age_ms", "max_msgs", "max_bytes"])
@pytest.mark.parametrize("value", [U64, 1 << 63])
def test_limits_beyond_what_counts_are_invalid_settings(server: RealServer, setting: str, value: int) -> None:
    limits = pb.LimitsRetention(**{setting: value})  # type: ignore[arg-type]
    config = pb.StreamConfigPb(name="n", retention=pb.Retention(limits=limits))
    assert answer(server, "CreateStream", pb.CreateStreamRequest(config=config)).result_code == "invalid_config"
    update = pb.UpdateStreamRequest(name="s", **{setting: value})  # type: ignore[arg-type]
    assert answer(server, "UpdateStream", update).result_code == "invalid_config"


@pytest.mark.parametrize("setting", ["block_size", "max_msg_bytes", "max_msgs_per_subject"])
def test_so_are_other_numbers(server: RealServer, setting: str) -> None:
    config = pb.StreamConfigPb(name="n", **{setting: U64})  # type: ignore[arg-type]
    assert answer(server, "CreateStream", pb.CreateStreamRequest(config=config)).result_code == "invalid_config"


def test_a_block_size_of_zero_is_the_default_and_one_of_one_works(server: RealServer) -> None:
    with channel_to(server) as channel:
        create(channel, "zero", block_size=0)
        info = answer(server, "GetStreamInfo", pb.GetStreamInfoRequest(name="zero"))
        assert info.config.block_size > 1
        create(channel, "one", block_size=1)
        assert [publish(channel, "one", b"x") for _ in range(50)] == list(range(1, 51))


def policy(kind: int, **start: int) -> pb.DeliveryPolicyPb:
    """2: from a sequence, 3: from a time."""
    return pb.DeliveryPolicyPb(type=kind, **start)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"ack_wait_ms": U64}, {"dead_letter_subject": "a.*"}, {"filter_subject": "a..b"},
        {"delivery_policy": policy(2, start_seq=U64)},
        {"delivery_policy": policy(2, start_seq=0)},
        {"delivery_policy": policy(3, start_time_ms=-(1 << 63))},
        {"delivery_policy": policy(99)}, {"deliver_group": "g\0"}, {"name": "../c"},
    ],
    ids=str,
)  # fmt: skip
def test_consumers_with_impossible_settings_are_refused(server: RealServer, settings: dict[str, Any]) -> None:
    config = pb.ConsumerConfigPb(**{"name": "n", **settings})
    response = answer(server, "CreateConsumer", pb.CreateConsumerRequest(stream="s", config=config))
    assert response.result_code == "invalid_config"


def test_counts_of_billions_ask_for_what_there_is_or_are_refused(server: RealServer) -> None:
    fetched = answer(server, "Fetch", pb.FetchRequest(stream="s", consumer="c", batch_size=U32))
    assert fetched is INVALID or 0 < len(fetched.messages) <= 10_000
    scanned = answer(
        server, "ScanExactAtSubject", pb.ScanExactAtSubjectRequest(stream="s", subject="a.b", from_seq=1, limit=U64)
    )
    assert scanned is INVALID or len(scanned.messages) >= 3
    beyond = answer(server, "ScanExactAtSubject", pb.ScanExactAtSubjectRequest(stream="s", subject="a.b", from_seq=U64))
    assert beyond is INVALID or not beyond.messages
    data = pb.SubscribeRequest(stream="s", consumer="c", batch_size=U32).SerializeToString()
    with channel_to(server) as channel:
        subscribe: Any = channel.unary_stream(STREAMS + "Subscribe", None, pb.SubscribeEvent.FromString)
        try:
            assert next(subscribe(data, timeout=5)).message.seq > 0
        except grpc.RpcError as error:
            assert error.code() in {INVALID, grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.mark.parametrize("method", ["Ack", "Nak", "Term", "InProgress"])
@pytest.mark.parametrize("seq", [0, U64, 1 << 63])
def test_sequences_that_nobody_has_are_harmless(server: RealServer, method: str, seq: int) -> None:
    request = getattr(pb, method + "Request")(stream="s", consumer="c", seq=seq)
    if method == "Nak":
        request.delay_ms = U64
    response = answer(server, method, request)
    assert response is INVALID or response.result_code == "ok"


def test_an_impossible_condition_is_a_wrong_revision(server: RealServer) -> None:
    for expected in (U64, 1 << 63):
        request = pb.PublishRequest(stream="s", subject="a.b", expected_last_seq=expected)
        assert answer(server, "Publish", request).result_code == "wrong_revision"


@pytest.mark.parametrize("key", ["waymaker-source-stream", "waymaker-source-", "wmkv.ttl", "wmkv."])
def test_the_server_s_own_headers_cannot_be_forged(server: RealServer, key: str) -> None:
    request = pb.PublishRequest(stream="s", subject="forged", headers=[pb.MessageHeader(key=key, value="x")])
    assert answer(server, "Publish", request) is INVALID


def test_dead_letter_headers_of_a_client_are_left_out(server: RealServer) -> None:
    headers = [
        pb.MessageHeader(key="x-waymaker-dlq-reason", value="forged"),
        pb.MessageHeader(key="own", value="v\0\n"),
    ]
    assert answer(server, "Publish", pb.PublishRequest(stream="s", subject="letters", headers=headers)).success
    latest = answer(server, "ReadLatestAtSubject", pb.ReadLatestAtSubjectRequest(stream="s", subject="letters"))
    assert [(header.key, header.value) for header in latest.latest.headers] == [("own", "v\0\n")]


# ---------------------------------------------------------------- what is kept


UNKNOWN = field(1_000, bytes(12 * MIB))
"""Twelve megabytes in a field that nobody knows."""


def test_subscriptions_and_watches_do_not_keep_their_requests(server: RealServer) -> None:
    with channel_to(server) as channel:
        before = resident_mib(server)
        subscribe: Any = channel.unary_stream(STREAMS + "Subscribe")
        watch: Any = channel.unary_stream(STREAMS + "WatchStreams")
        calls = []
        for number in range(6):
            config = pb.ConsumerConfigPb(name=f"kept-{number}", filter_subject="wake")
            request = pb.CreateConsumerRequest(stream="s", config=config)
            ask(channel, "CreateConsumer", request, pb.CreateConsumerResponse)
            calls.append(subscribe(pb.SubscribeRequest(stream="s", consumer=config.name).SerializeToString() + UNKNOWN))
            assert answer(server, "Publish", pb.PublishRequest(stream="s", subject="wake")).success
            assert next(calls[-1]), "the subscription is there"
            calls.append(watch(UNKNOWN))
            calls[-1].initial_metadata()  # and so is the watch
        assert resident_mib(server) - before < 100, "of 144 MiB that came, once as bytes and once as messages"
        for call in calls:
            call.cancel()


def test_refused_requests_are_not_kept_either(server: RealServer) -> None:
    for _ in range(10):
        assert refused(server, "Publish", b"\x22\x00" * (8 * MIB)) is INVALID


# ---------------------------------------------------------------- archives


def archive(last_seq: int, body: bytes) -> bytes:
    from array import array

    writer = ArchiveWriter()
    head = Head(StreamConfig("r", block_size=10), 0, 1, last_seq, 1, 10, None)
    batch = Batch(array("Q", [1]), array("q", [0]), ["a"], array("I", [1]), array("I", [len(body)]), body)
    return writer.head(head) + writer.batch(batch) + writer.finish(1)


def restore(server: RealServer, data: bytes) -> Any:
    frames = [admin_pb2.RestoreFrame(start=admin_pb2.RestoreStart(name="r")), admin_pb2.RestoreFrame(data=data)]
    with channel_to(server) as channel:
        upload: Any = channel.stream_unary(ADMIN + "Restore", None, admin_pb2.RestoreResponse.FromString)
        return upload(iter([frame.SerializeToString() for frame in frames]), timeout=20)


BODY = field(2, b"a") + field(5, b"x")


@pytest.mark.parametrize(
    ("last_seq", "body"), [(1 << 64, BODY), (I64, BODY), (-1, BODY), (1, b"\xff\xff"), (1, field(2, b"b"))]
)
def test_an_archive_that_no_node_wrote_is_refused(server: RealServer, last_seq: int, body: bytes) -> None:
    response = restore(server, archive(last_seq, body))
    assert (response.success, response.result_code) == (False, "transfer_corrupted")
    assert not exposes_internals(response.message)
    assert answer(server, "GetStreamInfo", pb.GetStreamInfoRequest(name="r")).result_code == "no_such_stream"


def test_restores_at_once_are_few(server: RealServer) -> None:
    import threading

    over = threading.Event()
    start = admin_pb2.RestoreFrame(start=admin_pb2.RestoreStart(name="x")).SerializeToString()

    def unfinished() -> Iterator[bytes]:
        yield start
        over.wait(20)

    with channel_to(server) as channel:
        upload: Any = channel.stream_unary(ADMIN + "Restore")
        calls = [upload.future(unfinished(), timeout=20) for _ in range(RESTORES_MAX + 4)]
        refusals = 0
        for call in calls[::-1]:
            try:
                call.result(timeout=0.2)
            except grpc.FutureTimeoutError:
                continue
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                refusals += 1
        assert refusals == 4
        over.set()
        for call in calls:
            call.cancel()
