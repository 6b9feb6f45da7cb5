"""Calls that another member serves: sent on by one hop for any client, and refused by name inside sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kit.client_fake_server import until
from tests.kit.real_server import free_port
from tests.kit.server_fakes import Fixture, serving
from tests.shell.server.cluster.test_peers import make_certificates, needs_openssl
from tests.shell.server.test_server_calls import ask, refusal, trailers
from waymaker.server.auth.tokens import Tokens, new_token
from waymaker.server.config import Address, ClusterMember
from waymaker.server.grpc import forwarding
from waymaker.server.server import Members
from waymaker_core.api import requests as rq
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.model.types import Principal
from waymaker_proto import admin_pb2
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

ONE = (ClusterMember(1, Address("127.0.0.1", free_port())),)
STREAMS = "/waymaker.streams.WaymakerStreamsService/"


@asynccontextmanager
async def cluster(count: int = 2, tokens: Tokens | None = None) -> AsyncIterator[list[Fixture]]:
    """Run members, of which the last one serves stream `far` and the calls about none."""
    addresses: dict[int, str] = {}
    members = Members(range(1, count + 1), addresses.get)
    async with AsyncExitStack() as stack:
        fixtures: list[Fixture] = []
        for node_id in range(1, count + 1):
            fixture = await stack.enter_async_context(serving(tokens, members, node_id=node_id))
            addresses[node_id] = str(fixture.server.listeners.address)
            if node_id < count:
                fixture.node.elsewhere = {"far": count, "": count}
            fixtures.append(fixture)
        yield fixtures


async def make(fixture: Fixture, name: str = "far") -> None:
    await ask(fixture, "CreateStream", pb.CreateStreamRequest(config=pb.StreamConfigPb(name=name)))


async def test_a_unary_call_is_answered_by_the_member_that_serves_it() -> None:
    async with cluster() as (near, far):
        await make(near)
        assert "far" in far.node.streams
        assert "far" not in near.node.streams
        published = await ask(near, "Publish", pb.PublishRequest(stream="far", subject="s", payload=b"p"))
        assert (published.success, published.seq) == (True, 1)
        await make(near, "own")
        assert "own" in near.node.streams


async def test_metadata_and_trailers_cross_unchanged() -> None:
    async with cluster() as (near, far):
        await make(far)
        listed = near.stub("ListStreams")(
            pb.ListStreamsRequest().SerializeToString(), metadata=(("wmkr-limit", "5"), ("x-request-id", "abc"))
        )
        assert pb.ListStreamsResponse.FromString(await listed).names == ["far"]
        assert dict(await listed.trailing_metadata())["wmkr-next"] == "%C3%BC%20%25"
        far.node.answers[rq.Publish] = lambda call: Refusal(Status.RESOURCE_EXHAUSTED, "full", Outcome.UNKNOWN, "full")
        error = await refusal(ask(near, "Publish", pb.PublishRequest(stream="far", subject="s")))
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        assert (trailers(error)["wmkr-outcome"], trailers(error)["wmkr-code"]) == ("unknown", "full")


async def test_the_callers_token_is_judged_by_both_members(tmp_path: Path) -> None:
    token, line = new_token("alice")
    (tmp_path / "tokens").write_text(line + "\n")
    async with cluster(tokens=Tokens.load(tmp_path / "tokens")) as (near, far):
        data = pb.PublishRequest(stream="far", subject="s").SerializeToString()
        await near.stub("Publish")(data, metadata=(("authorization", f"Bearer {token}"),))
        assert far.node.calls[-1].principal.name == "alice"
        error = await refusal(near.stub("Publish")(data))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_is_sent_on_once() -> None:
    async with cluster() as (near, far):
        far.node.elsewhere = {"far": 1}
        error = await refusal(ask(near, "Publish", pb.PublishRequest(stream="far", subject="s"), timeout=5.0))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert trailers(error)["wmkr-outcome"] == "not-applied"
        assert [len(each.node.calls) for each in (near, far)] == [1, 1]


async def test_a_member_that_cannot_be_reached_did_certainly_nothing() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    async with serving(members=Members((1, 2), {2: nowhere}.get)) as near:
        near.node.elsewhere = {"far": 2, "further": 3}
        error = await refusal(ask(near, "Publish", pb.PublishRequest(stream="far", subject="s")))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert trailers(error)["wmkr-outcome"] == "not-applied"
        assert nowhere in (error.details() or "")
        error = await refusal(ask(near, "Publish", pb.PublishRequest(stream="further", subject="s")))
        assert trailers(error)["wmkr-outcome"] == "not-applied"
        assert "not known" in (error.details() or "")


async def test_a_member_that_dies_before_its_answer_leaves_the_outcome_open() -> None:
    async with cluster() as (near, far):
        far.node.mute = True
        call = asyncio.ensure_future(ask(near, "Publish", pb.PublishRequest(stream="far", subject="s")))
        await until(lambda: far.node.calls)
        await far.server.listeners.grpc.stop(0)
        error = await refusal(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert trailers(error)["wmkr-outcome"] == "unknown"


async def test_cancellation_and_deadline_reach_the_other_member() -> None:
    async with cluster() as (near, far):
        far.node.mute = True
        error = await refusal(ask(near, "Publish", pb.PublishRequest(stream="far", subject="s"), timeout=0.3))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: far.node.cancelled)
        call = near.stub("Publish")(pb.PublishRequest(stream="far", subject="s").SerializeToString())
        await until(lambda: len(far.node.calls) == 2)
        call.cancel()
        await until(lambda: len(far.node.cancelled) == 2)


async def test_calls_that_are_sent_on_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "CALLS_MAX", 1)
    async with cluster() as (near, far):
        far.node.mute = True
        held = asyncio.ensure_future(ask(near, "Publish", pb.PublishRequest(stream="far", subject="s")))
        await until(lambda: far.node.calls)
        error = await refusal(ask(near, "Publish", pb.PublishRequest(stream="far", subject="s")))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert trailers(error)["wmkr-outcome"] == "not-applied"
        held.cancel()


async def test_subscriptions_and_watches_are_sent_on() -> None:
    async with cluster() as (near, far):
        watching: Any = near.channel.unary_stream(STREAMS + "WatchStreams")
        watch = watching(b"")
        await watch.initial_metadata()
        await until(lambda: far.node.watchers)
        await make(near)
        event = pb.WatchEvent.FromString(await watch.read())
        assert "far" in str(event)
        watch.cancel()
        await ask(near, "Publish", pb.PublishRequest(stream="far", subject="s", payload=b"p"))
        request = pb.SubscribeRequest(stream="far", consumer="c", stop_when_empty=True).SerializeToString()
        subscribing: Any = near.channel.unary_stream(STREAMS + "Subscribe")
        events = [pb.SubscribeEvent.FromString(data) async for data in subscribing(request)]
        assert events[0].message.payload == b"p"
        assert events[-1].stopped.reason == "empty"


async def test_a_call_of_many_messages_is_sent_on_from_its_beginning() -> None:
    async with cluster() as (near, far):
        frames: list[bytes] = []

        async def collect(principal: Principal, requests: object, context: Any) -> None:
            while (data := await context.read()) is not grpc.aio.EOF:
                frames.append(data)
            await context.write(b"\x08\x01")

        far.server.router.add_sessions(STREAMS[1:-1], {"PutObjectStream": collect})
        call: Any = near.channel.stream_stream(STREAMS + "PutObjectStream")()
        near.node.elsewhere["obj:b"] = 2
        sent = [
            pb.PutObjectStreamFrame(start=pb.PutObjectStart(bucket="b", name="n")).SerializeToString(),
            pb.PutObjectStreamFrame(data=b"x").SerializeToString(),
            pb.PutObjectStreamFrame(finish=True).SerializeToString(),
        ]
        for data in sent:
            await call.write(data)
        await call.done_writing()
        assert await call.read() == b"\x08\x01"
        assert await call.code() is grpc.StatusCode.OK
        assert frames == sent


async def test_a_single_node_keeps_no_requests_and_refuses_in_words() -> None:
    async with serving() as alone:
        alone.node.elsewhere = {"far": 2}
        error = await refusal(ask(alone, "Publish", pb.PublishRequest(stream="far", subject="s")))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert trailers(error)["wmkr-outcome"] == "not-applied"


@pytest.mark.parametrize("follows", [True, False])
async def test_a_session_is_told_where_each_kind_of_item_is_served(follows: bool) -> None:
    async with cluster() as (near, far):
        address = str(far.server.listeners.address)
        call: Any = near.channel.stream_stream("/waymaker.pipeline.WaymakerPipelineService/Session")()
        first = pl.Frame(hello=pl.Hello(version=1, follows=follows))
        first.publishes.add(id=1, stream="far", subjects=["s"], payloads=[b"p"])
        first.acks.add(id=2, stream="far", consumer="c", kind=pl.ACK, seqs=[1])
        first.calls.add(id=3, method="GetStreamInfo", request=pb.GetStreamInfoRequest(name="far").SerializeToString())
        first.key_batches.add(id=4, bucket="b", calls=[pl.KEY_GET], keys=["k"])
        near.node.elsewhere["kv:b"] = 2
        first.subscribes.add(id=5, stream="far", consumer="c", credit_messages=1, credit_bytes=1)
        await call.write(first.SerializeToString())
        got = pl.Frame()
        while not (got.published and got.acked and got.results and got.keyed and got.ended):
            got.MergeFromString(await call.read())
        call.cancel()
        assert {member.node_id: member.address for member in got.welcome.members}[2] == address
        places = (got.published, got.acked, got.results, got.ended, got.keyed[0].failures)
        for refused in (each[0].refused for each in places):
            assert (refused.status, refused.outcome) == (14, "not-applied")
            assert address in refused.message
            assert refused.HasField("elsewhere") == follows
            if follows:
                assert refused.elsewhere == pl.Elsewhere(node_id=2, address=address, epoch=7)


async def test_server_info_names_the_members() -> None:
    async with cluster() as (near, far):
        data = await near.stub("ServerInfo", "waymaker.admin.WaymakerAdminService")(b"")
        info = admin_pb2.ServerInfoResponse.FromString(data)
        assert info.node_id == 1
        assert [member.node_id for member in info.members] == [1, 2]
        assert info.members[1].address == str(far.server.listeners.address)


@needs_openssl
async def test_members_that_serve_clients_with_tls_reach_each_other_with_it(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "a")
    own = {"tls_cert": made["peer_tls_cert"], "tls_key": made["peer_tls_key"]}
    addresses: dict[int, str] = {}
    members = Members((1, 2), addresses.get)
    credentials = grpc.ssl_channel_credentials(made["peer_tls_ca"].read_bytes())
    data = pb.CreateStreamRequest(config=pb.StreamConfigPb(name="far")).SerializeToString()
    for authorities in (made["peer_tls_ca"], None):
        settings = {**own, **({"cluster": ONE, "forward_tls_ca": authorities} if authorities else {})}
        async with (
            serving(None, members, **settings) as near,
            serving(None, members, **own) as far,
            grpc.aio.secure_channel(str(near.server.listeners.address), credentials) as channel,
        ):
            addresses[2] = str(far.server.listeners.address)
            near.node.elsewhere = {"far": 2}
            call: Any = channel.unary_unary(STREAMS + "CreateStream")
            if authorities is not None:
                await call(data)
                assert "far" in far.node.streams
            else:
                error = await refusal(call(data))
                assert trailers(error)["wmkr-outcome"] == "not-applied", "the system trusts no such authority"
