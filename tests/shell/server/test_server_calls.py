"""Unary calls over a real connection: tables, statuses, trailers, paging, credentials."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.kit.server_fakes import Fixture, serving
from tests.shell.server.test_server_streaming import until
from waymaker.server.auth.tokens import Tokens, new_token
from waymaker.server.grpc.rpcs import LATER, OBJECTS, STREAMING, UNARY
from waymaker_core.api import authority_requests as authority
from waymaker_core.api import requests as rq
from waymaker_core.api.object_requests import ObjectListing
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention, StreamConfig
from waymaker_core.model.result_codes import (
    INVALID_CONFIG,
    OK,
    OVERSIZE,
    WRONG_REVISION,
    Answer,
    CodeError,
    Outcome,
    Refusal,
    Status,
)
from waymaker_core.model.types import Principal
from waymaker_proto import admin_pb2, pipeline_pb2
from waymaker_proto import waymaker_streams_pb2 as pb

METHODS = pb.DESCRIPTOR.services_by_name["WaymakerStreamsService"].methods_by_name
ADMIN = "waymaker.admin.WaymakerAdminService"


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata() or ())


async def ask(fixture: Fixture, method: str, request: Any, **options: Any) -> Any:
    """One call by its name; the response as its message."""
    data = await fixture.stub(method)(request.SerializeToString(), **options)
    return getattr(pb, METHODS[method].output_type.name).FromString(data)


def test_every_call_of_the_contract_is_served_streamed_or_known_to_be_missing() -> None:
    assert sorted([*UNARY, *STREAMING, *OBJECTS, *LATER]) == sorted(METHODS)
    for name, rpc in UNARY.items():
        assert rpc.request.DESCRIPTOR.name == METHODS[name].input_type.name
        assert not METHODS[name].client_streaming
        assert not METHODS[name].server_streaming


async def test_calls_that_come_later_say_so_whatever_their_kind() -> None:
    async with serving() as s:
        for name in LATER:
            method = METHODS[name]
            path = f"/waymaker.streams.WaymakerStreamsService/{name}"
            if method.client_streaming:
                error = await refusal(s.channel.stream_unary(path)(iter([b""])))
            elif method.server_streaming:
                error = await refusal(s.channel.unary_stream(path)(b"").read())
            else:
                error = await refusal(s.channel.unary_unary(path)(b""))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED, name
            assert trailers(error)["wmkr-outcome"] == "not-applied", name
        assert s.node.calls == []


STREAM = StreamConfig("s")
CONSUMER = ConsumerConfig("c", policy=DeliveryPolicy.BY_START_SEQ, start_seq=7)
INFO = rq.ConsumerInfo(CONSUMER, 9, 6, 8, 1_234, 2, 1, 3)
GOOD: dict[str, tuple[Any, Any, Any]] = {
    # method: request, the core's value, the response expected
    "CreateStream": (pb.CreateStreamRequest(config=pb.StreamConfigPb(name="s")), None, pb.CreateStreamResponse()),
    "DeleteStream": (pb.DeleteStreamRequest(name="s"), None, pb.DeleteStreamResponse()),
    "GetStreamInfo": (
        pb.GetStreamInfoRequest(name="s"),
        rq.StreamInfo(
            STREAM, rq.StreamStats(3, 9, 7, 70, 2, 1), 5, 6, "a new life", [], authority.StreamAuthority(2, 8, 1, True)
        ),
        pb.GetStreamInfoResponse(
            message="a new life",
            config=pb.StreamConfigPb(name="s", retention=pb.Retention(limits=pb.LimitsRetention())),
            stats=pb.StreamStatsPb(last_seq=9, msg_count=7, bytes=70, block_count=2, first_block=1),
            authority_override=pb.StreamAuthorityOverride(claimant_node_id=2, fence_epoch=8),
            ring_owner_node_id=1,
            pinned=True,
        ),
    ),
    "UpdateStream": (
        pb.UpdateStreamRequest(name="s", max_msgs=0),
        (STREAM, 4),
        pb.UpdateStreamResponse(
            config=pb.StreamConfigPb(name="s", retention=pb.Retention(limits=pb.LimitsRetention())), pruned=4
        ),
    ),
    "Publish": (pb.PublishRequest(stream="s", subject="a"), rq.Published(300, 1, None), pb.PublishResponse(seq=300)),
    "Fetch": (pb.FetchRequest(stream="s", consumer="c"), rq.Messages([], 0, 0), pb.FetchResponse()),
    "Ack": (pb.AckRequest(stream="s", consumer="c", seq=1), None, pb.AckResponse()),
    "Nak": (pb.NakRequest(stream="s", consumer="c", seq=1, delay_ms=5), None, pb.NakResponse()),
    "Term": (pb.TermRequest(stream="s", consumer="c", seq=1), None, pb.TermResponse()),
    "InProgress": (pb.InProgressRequest(stream="s", consumer="c", seq=1), None, pb.InProgressResponse()),
    "CreateConsumer": (
        pb.CreateConsumerRequest(stream="s", config=pb.ConsumerConfigPb(name="c")), None, pb.CreateConsumerResponse(),
    ),
    "DeleteConsumer": (pb.DeleteConsumerRequest(stream="s", consumer="c"), None, pb.DeleteConsumerResponse()),
    "ListConsumers": (
        pb.ListConsumersRequest(stream="s"),
        rq.Page([INFO]),
        pb.ListConsumersResponse(
            consumers=[
                pb.ConsumerStatePb(
                    config=pb.ConsumerConfigPb(
                        name="c", delivery_policy=pb.DeliveryPolicyPb(type=pb.DELIVERY_BY_START_SEQ, start_seq=7)
                    ),
                    ack_floor=6, last_delivered=8, created_at_ms=1_234, redelivered_dropped=2,
                )
            ]
        ),
    ),
    "GetConsumerInfo": (
        pb.GetConsumerInfoRequest(stream="s", consumer="c"),
        INFO,
        pb.GetConsumerInfoResponse(
            consumer=pb.ConsumerStatePb(
                config=pb.ConsumerConfigPb(
                    name="c", delivery_policy=pb.DeliveryPolicyPb(type=pb.DELIVERY_BY_START_SEQ, start_seq=7)
                ),
                ack_floor=6, last_delivered=8, created_at_ms=1_234, redelivered_dropped=2,
            )
        ),
    ),
    "ReadLatestAtSubject": (
        pb.ReadLatestAtSubjectRequest(stream="s", subject="a"), rq.Messages([], 0, 0), pb.ReadLatestAtSubjectResponse(),
    ),
    "ListSubjectsByPrefix": (
        pb.ListSubjectsByPrefixRequest(stream="s", prefix="a"),
        rq.Page(["a", "ab"]),
        pb.ListSubjectsByPrefixResponse(subjects=["a", "ab"]),
    ),
    "ScanExactAtSubject": (
        pb.ScanExactAtSubjectRequest(stream="s", subject="a"), rq.Messages([], 0, 0), pb.ScanExactAtSubjectResponse(),
    ),
    "GetStreamSources": (
        pb.GetStreamSourcesRequest(),
        rq.Page([rq.SourceStatus("s", "t", 7, 9, "gone", 1_234)]),
        pb.GetStreamSourcesResponse(
            entries=[
                pb.GetStreamSourcesEntry(
                    sourcing_stream="s", source_stream="t", last_sourced_seq=7, pulled_total=9, last_error="gone",
                    last_error_ts_ms=1_234,
                )
            ]
        ),
    ),
    "DeleteObject": (
        pb.DeleteObjectRequest(bucket="b", name="x"), (7, 1_234), pb.DeleteObjectResponse(tombstone_seq=7),
    ),
    "GetObjectInfo": (
        pb.GetObjectInfoRequest(bucket="b", name="x"), None, pb.GetObjectInfoResponse(deleted=True),
    ),
    "ListObjects": (
        pb.ListObjectsRequest(bucket="b"),
        rq.Page([ObjectListing("x", 5, False), ObjectListing("y", 0, True)]),
        pb.ListObjectsResponse(
            entries=[pb.ObjectListEntry(name="x", total_bytes=5), pb.ObjectListEntry(name="y", deleted=True)]
        ),
    ),
    "ListObjectRevisions": (
        pb.ListObjectRevisionsRequest(bucket="b", name="x"), rq.Messages([], 0, 0), pb.ListObjectRevisionsResponse(),
    ),
    "SetStreamPinned": (pb.SetStreamPinnedRequest(stream="s", pinned=True), None, pb.SetStreamPinnedResponse()),
    "ClearStreamAuthority": (pb.ClearStreamAuthorityRequest(stream="s"), None, pb.ClearStreamAuthorityResponse()),
    "ListStreamAuthorityOverrides": (
        pb.ListStreamAuthorityOverridesRequest(),
        rq.Page([authority.StreamOverride("s", 2, 8)]),
        pb.ListStreamAuthorityOverridesResponse(
            entries=[pb.AuthorityOverrideEntry(stream="s", claimant_node_id=2, fence_epoch=8)]
        ),
    ),
    "GetClusterStreamStats": (
        pb.GetClusterStreamStatsRequest(include_per_stream=True),
        authority.ClusterStats(
            [
                authority.NodeSums(1, "ok", 3, 5, 70),
                authority.NodeSums(2, "ok", 1, 2, 20),
                authority.NodeSums(3, "unreachable"),
            ],
            [authority.StreamFigures("s", 1, 5, 70, 9)],
        ),
        pb.GetClusterStreamStatsResponse(
            nodes=[
                pb.PerNodeSummary(node_id=1, stream_count=3, total_msg_count=5, total_bytes=70, status="ok"),
                pb.PerNodeSummary(node_id=2, stream_count=1, total_msg_count=2, total_bytes=20, status="ok"),
                pb.PerNodeSummary(node_id=3, status="unreachable"),
            ],
            streams=[pb.PerStreamStats(name="s", owner_node_id=1, msg_count=5, bytes=70, last_seq=9)],
            total_stream_count=4, total_msg_count=7, total_bytes=90, skew_count=2, skew_bytes=50,
        ),
    ),
    "ListStreams": (pb.ListStreamsRequest(), rq.Page(["s", "t"]), pb.ListStreamsResponse(names=["s", "t"])),
}  # fmt: skip


def test_the_table_of_good_calls_is_complete() -> None:
    assert set(GOOD) == set(UNARY)


@pytest.mark.parametrize("method", sorted(GOOD))
async def test_a_good_call_carries_its_value_and_every_other_code_its_text(method: str) -> None:
    request, value, expected = GOOD[method]
    async with serving() as s:
        answer: list[Answer | Refusal] = [Answer(OK, "", value)]
        kind = type(UNARY[method].parse(request.SerializeToString(), no_paging(), serving_facts()))
        s.node.answers[kind] = lambda call: answer[0]
        if method != "ListStreams":
            expected.success, expected.result_code = True, "ok"
        assert await ask(s, method, request) == expected

        if method != "ListStreams":
            answer[0] = Answer("no_such_stream", "there is none")
            response = await ask(s, method, request)
            assert (response.success, response.result_code, response.message) == (
                False, "no_such_stream", "there is none",
            )  # fmt: skip

        answer[0] = Refusal(Status.RESOURCE_EXHAUSTED, "too much", Outcome.UNKNOWN, "some_code")
        error = await refusal(ask(s, method, request))
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
        assert (trailers(error)["wmkr-outcome"], trailers(error)["wmkr-code"]) == ("unknown", "some_code")


def no_paging() -> Any:
    from waymaker.server.grpc.metadata import Metadata

    return Metadata()


def serving_facts() -> Any:
    from waymaker.server.grpc.rpcs import Serving
    from waymaker_core.model.limits import Limits

    return Serving(Limits(), 1)


@pytest.mark.parametrize("method", sorted(UNARY))
async def test_bytes_that_are_no_request_are_malformed_and_not_applied(method: str) -> None:
    async with serving() as s:
        error = await refusal(s.stub(method)(b"\x0a\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert trailers(error)["wmkr-outcome"] == "not-applied"
        first = METHODS[method].input_type.fields_by_number.get(1)
        if first is not None and first.type in (first.TYPE_STRING, first.TYPE_MESSAGE):
            error = await refusal(s.stub(method)(b"\x0a\x02\xff\xfe"))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert s.node.calls == []


async def test_settings_reach_the_core_as_the_client_gave_them() -> None:
    async with serving() as s:
        config = pb.StreamConfigPb(name="q", subjects_filter=["a.>"], block_size=2**64 - 1, max_msg_bytes=3,
                                   ephemeral=True, max_msgs_per_subject=4)  # fmt: skip
        config.retention.work_queue.SetInParent()
        await ask(s, "CreateStream", pb.CreateStreamRequest(config=config))
        request = s.node.calls[-1].request
        assert isinstance(request, rq.CreateStream)
        assert request.config == StreamConfig(
            "q", ("a.>",), Retention.WORK_QUEUE, block_size=2**64 - 1, max_msg_bytes=3, ephemeral=True,
            max_msgs_per_subject=4,
        )  # fmt: skip
        limits = pb.Retention(limits=pb.LimitsRetention(max_age_ms=1, max_msgs=2, max_bytes=3, strict_limits=True))
        await ask(s, "CreateStream", pb.CreateStreamRequest(config=pb.StreamConfigPb(name="l", retention=limits)))
        request = s.node.calls[-1].request
        assert isinstance(request, rq.CreateStream)
        assert request.config == StreamConfig("l", (), Retention.LIMITS, 1, 2, 3, True)
        interest = pb.Retention(interest=pb.InterestRetention())
        await ask(s, "CreateStream", pb.CreateStreamRequest(config=pb.StreamConfigPb(name="i", retention=interest)))
        assert s.node.configs["i"].retention is Retention.INTEREST


async def test_an_update_tells_absent_from_zero() -> None:
    async with serving() as s:
        s.node.answers[rq.UpdateStream] = lambda call: Answer(OK, "", (STREAM, 0))
        await ask(s, "UpdateStream", pb.UpdateStreamRequest(name="s", max_bytes=0, strict_limits=False))
        request = s.node.calls[-1].request
        assert isinstance(request, rq.UpdateStream)
        assert (request.max_age_ms, request.max_bytes, request.strict_limits) == (None, 0, False)
        assert not request.dry_run
        request_bytes = pb.UpdateStreamRequest(name="s").SerializeToString()
        await s.stub("PreviewUpdate", ADMIN)(request_bytes)
        request = s.node.calls[-1].request
        assert isinstance(request, rq.UpdateStream)
        assert request.dry_run


async def test_a_policy_of_a_source_from_the_future_is_an_invalid_configuration() -> None:
    async with serving() as s:
        source = pb.StreamSourceConfigPb(source_stream="t", on_drop=9)  # type: ignore[arg-type]
        config = pb.StreamConfigPb(name="s", sources=[source])
        response = await ask(s, "CreateStream", pb.CreateStreamRequest(config=config))
        assert (response.success, response.result_code) == (False, INVALID_CONFIG)


async def test_a_delivery_policy_from_the_future_is_an_invalid_configuration() -> None:
    async with serving() as s:
        config = pb.ConsumerConfigPb(name="c", delivery_policy=pb.DeliveryPolicyPb(type=99))  # type: ignore[arg-type]
        response = await ask(s, "CreateConsumer", pb.CreateConsumerRequest(stream="s", config=config))
        assert (response.success, response.result_code) == (False, INVALID_CONFIG)


async def test_the_code_of_a_refused_message_is_the_answer_of_its_publish() -> None:
    async with serving() as s:
        s.node.answers[rq.Publish] = lambda call: Answer(
            OK, "", rq.Published(0, 0, {0: (WRONG_REVISION, "it is 12", 12)})
        )
        response = await ask(s, "Publish", pb.PublishRequest(stream="s", subject="a", expected_last_seq=2**64 - 1))
        assert (response.success, response.result_code, response.seq) == (False, WRONG_REVISION, 12)
        request = s.node.calls[-1].request
        assert isinstance(request, rq.Publish)
        assert request.expected == [2**64 - 1]
        s.node.answers[rq.Publish] = lambda call: Answer(OK, "", rq.Published(0, 0, {0: (OVERSIZE, "big", 0)}))
        response = await ask(s, "Publish", pb.PublishRequest(stream="s", subject="a"))
        assert (response.result_code, response.message, response.seq) == (OVERSIZE, "big", 0)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (pb.PublishRequest(ts_ms=-1), grpc.StatusCode.INVALID_ARGUMENT),
        (
            pb.PublishRequest(headers=[pb.MessageHeader(key="waymaker-source-stream", value="x")]),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (pb.PublishRequest(headers=[pb.MessageHeader(key="wmkv.ttl")]), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.PublishRequest(headers=[pb.MessageHeader(key="k")] * 73), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (
            pb.PublishRequest(headers=[pb.MessageHeader(key="k", value="v" * 65_536)]),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
    ],
)
async def test_publishes_that_no_stream_could_take_never_reach_the_core(
    request_: pb.PublishRequest, status: grpc.StatusCode
) -> None:
    async with serving() as s:
        error = await refusal(ask(s, "Publish", request_))
        assert error.code() is status
        assert trailers(error)["wmkr-outcome"] == "not-applied"
        assert s.node.calls == []


async def test_dead_letter_headers_are_left_out_of_what_is_stored() -> None:
    async with serving() as s:
        headers = [pb.MessageHeader(key="x-waymaker-dlq-seq", value="1"), pb.MessageHeader(key="k", value="v")]
        await ask(s, "Publish", pb.PublishRequest(stream="s", subject="a", payload=b"p", headers=headers))
        request = s.node.calls[-1].request
        assert isinstance(request, rq.Publish)
        stored = pb.MessagePb.FromString(request.body)
        assert stored == pb.MessagePb(subject="a", payload=b"p", headers=[headers[1]])
        assert request.sizes == [3]


async def test_fetched_messages_are_whole_messages_of_the_contract() -> None:
    async with serving() as s:
        await ask(s, "CreateStream", pb.CreateStreamRequest(config=pb.StreamConfigPb(name="s")))
        await ask(s, "CreateConsumer", pb.CreateConsumerRequest(stream="s", config=pb.ConsumerConfigPb(name="c")))
        for payload in (b"one", b"", b"x" * 200):
            await ask(s, "Publish", pb.PublishRequest(stream="s", subject="a", payload=payload))
        s.disk.cold = True
        response = await ask(s, "Fetch", pb.FetchRequest(stream="s", consumer="c", batch_size=2**32 - 1))
        assert [(m.seq, m.subject, m.ts_ms, m.payload, m.deliver_count) for m in response.messages] == [
            (1, "a", 1_000, b"one", 1), (2, "a", 1_001, b"", 1), (3, "a", 1_002, b"x" * 200, 1),
        ]  # fmt: skip


async def test_lists_page_by_metadata_in_any_alphabet() -> None:
    async with serving() as s:
        call = s.stub("ListStreams")(b"", metadata=(("wmkr-after", "%C3%BC%20%25"), ("wmkr-limit", "2")))
        await call
        request = s.node.calls[-1].request
        assert isinstance(request, rq.ListStreams)
        assert (request.after, request.limit) == ("ü %", 2)
        assert ("wmkr-next", "%C3%BC%20%25") in list(await call.trailing_metadata())


@pytest.mark.parametrize(
    ("key", "value"),
    [("wmkr-limit", "-1"), ("wmkr-limit", "many"), ("wmkr-limit", "9" * 20), ("wmkr-after", "%FF")],
)
async def test_paging_that_makes_no_sense_is_malformed(key: str, value: str) -> None:
    async with serving() as s:
        error = await refusal(s.stub("ListStreams")(b"", metadata=((key, value),)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert key in str(error.details())


async def test_a_bug_is_an_incident_number_and_never_an_exception_s_text(capsys: pytest.CaptureFixture[str]) -> None:
    def fall(call: object) -> Answer:
        return Answer(OK, "", "not the value that belongs here: secret")

    async with serving() as s:
        s.node.answers[rq.GetStreamInfo] = fall
        error = await refusal(ask(s, "GetStreamInfo", pb.GetStreamInfoRequest(name="s")))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(error.details())
        assert "wmkr-outcome" not in trailers(error)
        incident = str(error.details()).split()[2].strip(";")
        assert incident in capsys.readouterr().out
        await ask(s, "CreateStream", pb.CreateStreamRequest(config=pb.StreamConfigPb(name="s")))


async def test_a_code_found_before_the_core_is_a_response_too() -> None:
    from waymaker.server.grpc.rpcs import judged

    response = pb.CreateConsumerResponse.FromString(judged(CodeError("invalid_config", "no")))
    assert (response.success, response.result_code, response.message) == (False, "invalid_config", "no")


async def test_a_deadline_cancels_the_call_in_the_core() -> None:
    async with serving() as s:
        s.node.mute = True
        error = await refusal(ask(s, "ListStreams", pb.ListStreamsRequest(), timeout=0.1))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: s.node.cancelled)
        assert s.node.cancelled == [s.node.calls[0].token]


async def test_a_message_over_the_transport_s_limit_is_refused_and_one_just_below_is_not() -> None:
    async with serving() as s:
        await ask(s, "CreateStream", pb.CreateStreamRequest(config=pb.StreamConfigPb(name="s")))
        big = pb.PublishRequest(stream="s", subject="a", payload=bytes(16 << 20))
        assert (await ask(s, "Publish", big)).seq == 1
        error = await refusal(ask(s, "Publish", pb.PublishRequest(stream="s", payload=bytes(17 << 20))))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_compressed_requests_are_not_unpacked() -> None:
    async with serving() as s:
        call = s.stub("Publish")(bytes(1 << 20), compression=grpc.Compression.Gzip)
        assert (await refusal(call)).code() is grpc.StatusCode.UNIMPLEMENTED
        assert s.node.calls == []


async def test_who_does_not_take_its_answers_keeps_nobody_else_waiting() -> None:
    async with serving() as s:
        s.node.streams["s"] = [pb.MessagePb(subject="a", payload=bytes(1 << 20)).SerializeToString()] * 4
        data = pb.ScanExactAtSubjectRequest(stream="s", subject="a").SerializeToString()
        path = "/waymaker.streams.WaymakerStreamsService/ScanExactAtSubject"
        address = str(s.server.listeners.address)
        sparing = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1), *sparing]) as miser:
            scan: Any = miser.unary_stream(path)
            unread = [scan(data) for _ in range(70)]
            await until(lambda: s.node.calls)
            ask_again: Any = s.channel.unary_unary(path)
            assert len(await asyncio.wait_for(ask_again(data), 10)) > 4 << 20
            assert len(s.node.calls) < 20, "a connection that takes nothing is not served ever more"
            for call in unread:
                call.cancel()


async def test_health_and_readiness_fall_with_the_first_sign_of_a_stop() -> None:
    async with serving() as s:
        s.node.drain_at_once = False
        watch = health_pb2_grpc.HealthStub(s.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        draining = asyncio.create_task(s.server.drain(4.0))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health = health_pb2_grpc.HealthStub(s.channel)
        response = await health.Check(health_pb2.HealthCheckRequest())
        assert response.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert s.server.listeners.condition.not_ready == "draining"
        assert s.server.listeners.condition.not_alive == ""
        assert await draining is None
        assert await watch.code() is grpc.StatusCode.OK, "a watch of health does not keep the server"


async def test_health_and_reflection_know_every_service() -> None:
    names = {
        pb.DESCRIPTOR.services_by_name["WaymakerStreamsService"].full_name,
        pipeline_pb2.DESCRIPTOR.services_by_name["WaymakerPipelineService"].full_name,
        admin_pb2.DESCRIPTOR.services_by_name["WaymakerAdminService"].full_name,
    }
    async with serving() as s:
        health = health_pb2_grpc.HealthStub(s.channel)
        for name in ("", *names):
            response = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert response.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(s.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in reflection.ServerReflectionInfo(iter([request]))]
        assert names <= {service.name for service in answers[0].list_services_response.service}


async def test_server_info_tells_what_the_server_is() -> None:
    async with serving(sync="interval", node_id=5) as s:
        s.node.stats.streams, s.node.stats.consumers = 3, 4
        info = admin_pb2.ServerInfoResponse.FromString(await s.stub("ServerInfo", ADMIN)(b""))
        assert (info.version, info.node_id, info.sync, info.streams, info.consumers) == ("1.2.3", 5, "interval", 3, 4)
        assert (info.directory_id, list(info.quarantined), info.draining) == ("00ff", ["damaged"], False)


def let_in(tmp_path: Path) -> tuple[str, Tokens]:
    token, line = new_token("alice")
    (tmp_path / "tokens").write_text(line + "\n")
    return token, Tokens.load(tmp_path / "tokens")


async def test_strangers_get_nowhere_but_to_the_health_service(tmp_path: Path) -> None:
    token, tokens = let_in(tmp_path)
    async with serving(tokens) as s:
        pipeline = "/waymaker.pipeline.WaymakerPipelineService/Session"
        subscribe = "/waymaker.streams.WaymakerStreamsService/Subscribe"
        reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        for wrong in ((), (("authorization", "Bearer wmk_wrong"),), (("authorization", token),)):
            calls = [
                s.stub("ListStreams")(b"", metadata=wrong),
                s.stub("ServerInfo", ADMIN)(b"", metadata=wrong),
                s.channel.unary_stream(subscribe)(b"", metadata=wrong).read(),
                s.channel.stream_stream(pipeline)(iter([b""]), metadata=wrong).read(),
                s.channel.stream_stream(reflection)(iter([b""]), metadata=wrong).read(),
            ]
            for call in calls:
                error = await refusal(call)
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                assert trailers(error)["wmkr-outcome"] == "not-applied"
        assert s.node.calls == []
        await health_pb2_grpc.HealthStub(s.channel).Check(health_pb2.HealthCheckRequest())


async def test_every_call_carries_the_name_of_its_token(tmp_path: Path) -> None:
    token, tokens = let_in(tmp_path)
    async with serving(tokens) as s:
        await s.stub("ListStreams")(b"", metadata=(("authorization", f"Bearer {token}"),))
        assert s.node.calls[-1].principal == Principal("", "alice")
        s.server.authenticator.tokens = Tokens({})
        error = await refusal(s.stub("ListStreams")(b"", metadata=(("authorization", f"Bearer {token}"),)))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
