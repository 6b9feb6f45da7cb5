"""The pipeline session: answers found by their ids, flow control both ways, and no neighbour harmed."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.kit.link_client import LinkCall
from tests.kit.server_fakes import Fixture, serving
from tests.shell.server.test_server_streaming import body, until
from waymaker.server.pipeline import session as session_module
from waymaker.wire.protocol import FRAME_ITEMS_MAX
from waymaker_core.api import requests as rq
from waymaker_core.model.result_codes import OK, Answer, Outcome, Refusal, Status
from waymaker_proto import pipeline_pb2 as pipe
from waymaker_proto import waymaker_streams_pb2 as pb

PATH = "/waymaker.pipeline.WaymakerPipelineService/Session"


class Client:
    """One session as a client sees it, over either transport."""

    transport = "grpc"

    def __init__(self, s: Fixture) -> None:
        link = s.server.listeners.link.address
        self.call: Any
        if self.transport == "link":
            assert link is not None
            self.call = LinkCall(link.port)
        else:
            self.call = s.channel.stream_stream(PATH, pipe.Frame.SerializeToString, pipe.Frame.FromString)()

    async def send(self, **fields: Any) -> None:
        await self.call.write(pipe.Frame(**fields))

    async def read(self) -> pipe.Frame:
        frame = await asyncio.wait_for(self.call.read(), 5)
        assert frame is not grpc.aio.EOF, "the session is over"
        return frame  # type: ignore[no-any-return]

    async def hello(self) -> pipe.Welcome:
        await self.send(hello=pipe.Hello(version=1, client="test"))
        return (await self.read()).welcome

    async def until(self, **wanted: int) -> pipe.Frame:
        """Everything received, merged, once it has this many of each."""
        merged = pipe.Frame()
        while any(len(getattr(merged, name)) < count for name, count in wanted.items()):
            merged.MergeFrom(await self.read())
        return merged

    async def refusal(self) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self._exhaust()
        return caught.value

    async def _exhaust(self) -> None:
        while await asyncio.wait_for(self.call.read(), 5) is not grpc.aio.EOF:
            pass


@pytest.fixture(autouse=True, params=["grpc", "link"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run every test over gRPC and over the native link."""
    monkeypatch.setattr(Client, "transport", request.param)
    return str(request.param)


def batch(id_: int, payloads: list[bytes], stream: str = "s") -> pipe.PublishBatch:
    return pipe.PublishBatch(id=id_, stream=stream, subjects=["a"], payloads=payloads)


async def test_a_session_is_greeted_with_what_it_may_do() -> None:
    async with serving(session_window_bytes=123_456) as s:
        welcome = await Client(s).hello()
        assert (welcome.version, welcome.server, welcome.window_bytes) == (1, "1.2.3", 123_456)
        assert welcome.frame_bytes_max == 17 << 20
        assert welcome.publish_batch_max == welcome.ack_batch_max == 65_536
        assert welcome.message_bytes_max == 16 << 20


async def test_a_batch_carries_the_numbers_of_the_producer_that_the_hello_names() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        client = Client(s)
        numbered = batch(1, [b"x", b"y"])
        numbered.numbers.append(7)
        await client.send(
            hello=pipe.Hello(version=1, producer_id=(1 << 64) - 1, producer_epoch=3),
            publishes=[numbered, batch(2, [b"z"])],
        )
        welcome = (await client.until(published=2)).welcome
        assert welcome.producer_spans_max == 256
        first, second = [call.request for call in s.node.calls]
        assert isinstance(first, rq.Publish)
        assert first.producer is not None
        assert (first.producer.id, first.producer.epoch, first.producer.numbers) == ((1 << 64) - 1, 3, range(7, 9))
        assert isinstance(second, rq.Publish)
        assert second.producer is None


async def test_numbers_without_a_producer_are_refused() -> None:
    async with serving() as s:
        client = Client(s)
        await client.hello()
        numbered = batch(1, [b"x"])
        numbered.numbers.append(7)
        await client.send(publishes=[numbered])
        refused = (await client.until(published=1)).published[0].refused
        assert refused.status == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert "hello" in refused.message
        assert s.node.calls == []


async def test_a_newer_session_of_a_producer_ends_the_older_one() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        older, newer, other = Client(s), Client(s), Client(s)
        await older.send(hello=pipe.Hello(version=1, producer_id=5, producer_epoch=1))
        await older.read()
        await other.send(hello=pipe.Hello(version=1, producer_id=6, producer_epoch=1))
        await other.read()
        await newer.send(hello=pipe.Hello(version=1, producer_id=5, producer_epoch=2))
        await newer.read()
        error = await older.refusal()
        assert error.code() is grpc.StatusCode.ABORTED
        assert dict(error.trailing_metadata() or ())["wmkr-outcome"] == "unknown"
        late = Client(s)
        await late.send(hello=pipe.Hello(version=1, producer_id=5, producer_epoch=1), publishes=[batch(1, [b"x"])])
        assert (await late.refusal()).code() is grpc.StatusCode.ABORTED
        assert s.node.calls == [], "nothing of a session that is over is taken"
        for client in (newer, other):
            await client.send(publishes=[batch(1, [b"x"])])
            assert (await client.until(published=1)).published[0].count == 1


@pytest.mark.parametrize("first", [pipe.Frame(), pipe.Frame(hello=pipe.Hello()), pipe.Frame(calls=[pipe.Call(id=1)])])
async def test_a_session_that_does_not_say_hello_is_ended(first: pipe.Frame) -> None:
    async with serving() as s:
        client = Client(s)
        await client.call.write(first)
        error = await client.refusal()
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert s.node.calls == []


async def test_work_may_come_with_the_hello_and_one_frame_is_one_step() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        client = Client(s)
        steps = s.node.steps
        await client.send(
            hello=pipe.Hello(version=9),
            publishes=[batch(1, [b"x", b"y"]), batch(2, [b"z"]), batch(3, [b"z"], "none")],
            acks=[pipe.AckBatch(id=4, stream="s", consumer="c", kind=pipe.ACK, seqs=[1, 2])],
            calls=[pipe.Call(id=5, method="ListStreams")],
        )
        got = await client.until(published=3, acked=1, results=1)
        assert got.welcome.version == 1
        assert s.node.steps == steps + 1
        by_id = {p.id: p for p in got.published}
        assert (by_id[1].first_seq, by_id[1].count, by_id[2].first_seq) == (1, 2, 3)
        assert by_id[3].result_code == "no_such_stream"
        assert got.acked[0].result_code == OK
        assert pb.ListStreamsResponse.FromString(got.results[0].response).names == ["s"]
        kinds = [type(call.request) for call in s.node.calls]
        assert kinds == [rq.Publish] * 3 + [rq.Ack, rq.ListStreams]


async def test_a_call_is_judged_as_the_unary_call_is() -> None:
    async with serving() as s:
        client = Client(s)
        await client.hello()
        await client.send(
            calls=[
                pipe.Call(id=1, method="ListStreams", after="ü %", limit=3),
                pipe.Call(id=2, method="Publish", request=b"\xff"),
                pipe.Call(id=3, method="PutObject"),
                pipe.Call(id=4, method="NoSuchThing"),
                pipe.Call(id=5, method="Publish", request=pb.PublishRequest(stream="none").SerializeToString()),
                pipe.Call(
                    id=6,
                    method="CreateConsumer",
                    request=pb.CreateConsumerRequest(
                        config=pb.ConsumerConfigPb(delivery_policy=pb.DeliveryPolicyPb(type=9))  # type: ignore[arg-type]
                    ).SerializeToString(),
                ),
            ]
        )
        results = {r.id: r for r in (await client.until(results=6)).results}
        assert results[1].next == "ü %"
        assert [results[n].refused.status for n in (2, 3, 4)] == [3, 12, 12]
        assert {results[n].refused.outcome for n in (2, 3, 4)} == {"not-applied"}
        assert pb.PublishResponse.FromString(results[5].response).result_code == "no_such_stream"
        assert pb.CreateConsumerResponse.FromString(results[6].response).result_code == "invalid_config"


async def test_refusals_of_batches_carry_status_outcome_and_code() -> None:
    async with serving() as s:
        refusal = Refusal(Status.RESOURCE_EXHAUSTED, "disk full", Outcome.NOT_APPLIED, "x")
        s.node.answers[rq.Publish] = s.node.answers[rq.Ack] = lambda call: refusal
        client = Client(s)
        await client.hello()
        await client.send(
            publishes=[batch(1, [b"x"]), pipe.PublishBatch(id=2, stream="s")],
            acks=[pipe.AckBatch(id=3, kind=pipe.TERM, seqs=[1]), pipe.AckBatch(id=4, kind=pipe.TERM)],
        )
        got = await client.until(published=2, acked=2)
        refused = {p.id: p.refused for p in got.published} | {a.id: a.refused for a in got.acked}
        assert refused[1] == refused[3] == pipe.Refused(
            status=8, message="disk full", outcome="not-applied", code="x"
        )  # fmt: skip
        assert refused[2].status == refused[4].status == 3


async def test_an_id_still_in_use_ends_the_session() -> None:
    async with serving() as s:
        s.node.mute = True
        client = Client(s)
        await client.hello()
        await client.send(publishes=[batch(1, [b"x"])])
        await client.send(acks=[pipe.AckBatch(id=1, kind=pipe.ACK, seqs=[1])])
        assert (await client.refusal()).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert s.server.runner.open_calls == 0


async def test_bytes_that_are_no_frame_end_the_session_and_no_other() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        good, bad = Client(s), s.channel.stream_stream(PATH, None, pipe.Frame.FromString)()
        await good.hello()
        await bad.write(b"\x0a\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bad.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await good.send(publishes=[batch(1, [b"x"])])
        assert (await good.until(published=1)).published[0].first_seq == 1


@pytest.mark.parametrize(
    "frame",
    [
        pipe.Frame(calls=[pipe.Call(id=n) for n in range(FRAME_ITEMS_MAX + 1)]),
        pipe.Frame(publishes=[batch(1, [b""] * 40_000), batch(2, [b""] * 40_000)]),
        pipe.Frame(credits=[pipe.Credit()] * (FRAME_ITEMS_MAX + 1)),
    ],
)
async def test_a_frame_of_too_many_things_ends_the_session(frame: pipe.Frame) -> None:
    async with serving() as s:
        client = Client(s)
        await client.hello()
        await client.call.write(frame)
        assert (await client.refusal()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert s.node.calls == []


async def test_half_closing_answers_everything_and_ends_well() -> None:
    async with serving() as s:
        s.node.streams["s"] = [body(b"x")]
        client = Client(s)
        await client.hello()
        await client.send(subscribes=[pipe.Subscribe(id=1, stream="s", consumer="c")])
        await client.send(publishes=[batch(n, [b"x"]) for n in range(500)])
        await client.call.done_writing()
        got = await client.until(published=500)
        assert sorted(p.id for p in got.published) == list(range(500))
        assert await client.call.read() is grpc.aio.EOF
        assert await client.call.code() is grpc.StatusCode.OK
        assert s.server.runner.open_channels == 0
        assert len(s.server.sessions) == 0


async def test_a_client_that_vanishes_leaves_nothing_behind() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        s.node.mute = True
        client = Client(s)
        await client.hello()
        await client.send(
            publishes=[batch(1, [b"x"])], subscribes=[pipe.Subscribe(id=1, stream="s", consumer="c")]
        )  # fmt: skip
        await until(lambda: s.server.runner.open_calls and s.server.runner.open_channels)
        client.call.cancel()
        await until(lambda: not len(s.server.sessions))
        assert s.server.runner.open_calls == s.server.runner.open_channels == 0
        await until(lambda: len(s.node.cancelled) == 2)


# ---------------------------------------------------------------- flow control


async def test_a_flood_is_not_read_beyond_the_window() -> None:
    async with serving(session_window_bytes=1 << 20) as s:
        s.node.streams["s"] = []
        s.node.mute = True
        client = Client(s)
        await client.hello()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for n in range(300):
                await client.send(publishes=[batch(n, [bytes(100_000)])])
                sent += 1

        flooding = asyncio.create_task(flood())
        await until(lambda: len(s.node.calls) >= 10)
        await asyncio.sleep(0.5)
        assert 10 <= len(s.node.calls) <= 12, "a window of 1 MiB holds ten frames of 100 kB and the one that filled it"
        assert sent < 200, "the transport pushes back"
        held = s.node.release()
        s.server.runner._perform(held)
        got = await client.until(published=300)
        await flooding
        assert sorted(p.id for p in got.published) == list(range(300))


async def test_a_client_that_does_not_read_answers_is_not_read_either() -> None:
    async with serving(session_window_bytes=1 << 20) as s:
        s.node.answers[rq.Publish] = lambda call: Answer("no_such_stream", "x" * 20_000)
        client = Client(s)
        await client.hello()

        async def flood() -> None:
            for n in range(3_000):
                await client.send(publishes=[batch(n, [b"x"])])

        flooding = asyncio.create_task(flood())
        calls = -1
        while calls != len(s.node.calls):
            calls = len(s.node.calls)
            await asyncio.sleep(0.3)
        assert calls < 2_500, "60 MB of answers waited for a client that reads none"
        flooding.cancel()


async def test_deliveries_need_credit_in_messages_and_in_bytes() -> None:
    async with serving() as s:
        s.node.streams["s"] = [body(bytes(1000)) for _ in range(100)]
        client = Client(s)
        await client.hello()
        await client.send(subscribes=[pipe.Subscribe(id=7, stream="s", consumer="c")])
        await until(lambda: s.node.subscriptions)
        (subscription,) = s.node.subscriptions.values()
        assert subscription.next == 0
        await client.send(credits=[pipe.Credit(subscription=7, messages=5, bytes=1 << 20)])
        got = await client.until(deliveries=1)
        assert (got.deliveries[0].subscription, len(got.deliveries[0].runs[0].lengths)) == (7, 5)
        await client.send(credits=[pipe.Credit(subscription=7, messages=2**64 - 1, bytes=2**64 - 1)])
        total = 5
        while total < 100:
            for delivery in (await client.read()).deliveries:
                total += sum(len(run.lengths) for run in delivery.runs)
        assert total == 100


async def test_credit_given_back_by_the_bytes_of_bodies_never_runs_dry() -> None:
    async with serving() as s:
        stored = body(b"x")
        s.node.streams["s"] = [stored] * 5_000
        client = Client(s)
        await client.hello()
        await client.send(
            subscribes=[pipe.Subscribe(id=1, stream="s", consumer="c", credit_messages=100, credit_bytes=1_000)]
        )
        total = 0
        while total < 5_000:
            for delivery in (await client.read()).deliveries:
                count = sum(len(run.lengths) for run in delivery.runs)
                total += count
                await client.send(
                    credits=[
                        pipe.Credit(subscription=1, messages=count, bytes=sum(len(r.bodies) for r in delivery.runs))
                    ]
                )
        assert total == 5_000


async def test_a_generous_client_that_does_not_read_cannot_make_the_server_hold_a_stream() -> None:
    async with serving(session_window_bytes=1 << 20) as s:
        s.node.streams["s"] = [body(bytes(10_000)) for _ in range(4_000)]
        client = Client(s)
        await client.hello()
        subscribe = pipe.Subscribe(id=1, stream="s", consumer="c", credit_messages=2**64 - 1, credit_bytes=2**64 - 1)
        await client.send(subscribes=[subscribe])
        await until(lambda: s.node.subscriptions)
        (subscription,) = s.node.subscriptions.values()
        held = -1
        while held != subscription.next:
            held = subscription.next
            await asyncio.sleep(0.3)
        assert held < 2_000, "40 MB waited for a client that reads nothing"
        total = 0
        while total < 4_000:
            for delivery in (await client.read()).deliveries:
                total += sum(len(run.lengths) for run in delivery.runs)


async def test_large_answers_are_asked_for_a_few_at_a_time() -> None:
    async with serving() as s:
        s.node.mute = True
        client = Client(s)
        await client.hello()
        await client.send(calls=[pipe.Call(id=n, method="ListStreams") for n in range(50)])
        await until(lambda: len(s.node.calls) >= session_module.LARGE_RESPONSES_OPEN_MAX)
        await asyncio.sleep(0.05)
        assert len(s.node.calls) == session_module.LARGE_RESPONSES_OPEN_MAX
        s.server.runner._perform(s.node.release())
        got = await client.until(results=50)
        assert sorted(r.id for r in got.results) == list(range(50))


# ---------------------------------------------------------------- subscriptions


async def test_the_end_of_a_subscription_frees_its_id() -> None:
    async with serving() as s:
        s.node.streams["s"] = [body(b"x")]
        client = Client(s)
        await client.hello()
        for _ in range(2):
            await client.send(
                subscribes=[
                    pipe.Subscribe(
                        id=1, stream="s", consumer="c", stop_when_empty=True, credit_messages=9, credit_bytes=9
                    )
                ]
            )
            got = await client.until(ended=1)
            assert (got.ended[0].subscription, got.ended[0].reason) == (1, "empty")
        await client.send(subscribes=[pipe.Subscribe(id=1, stream="none", consumer="c")])
        ended = (await client.until(ended=1)).ended[0]
        assert (ended.refused.status, ended.refused.code) == (5, "no_such_stream")


async def test_two_subscriptions_with_one_id_end_the_session() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        client = Client(s)
        await client.hello()
        await client.send(subscribes=[pipe.Subscribe(id=1, stream="s", consumer="c")] * 2)
        assert (await client.refusal()).code() is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: not s.node.subscriptions)


async def test_unsubscribing_is_final_and_unknown_ids_are_no_matter() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        client = Client(s)
        await client.hello()
        await client.send(subscribes=[pipe.Subscribe(id=1, stream="s", consumer="c")])
        await until(lambda: s.node.subscriptions)
        await client.send(unsubscribes=[1, 2], credits=[pipe.Credit(subscription=3, messages=1)])
        await until(lambda: not s.node.subscriptions)
        await client.send(calls=[pipe.Call(id=1, method="ListStreams")])
        assert not (await client.until(results=1)).ended


async def test_a_session_has_a_bounded_number_of_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "SUBSCRIPTIONS_MAX", 2)
    async with serving() as s:
        s.node.streams["s"] = []
        client = Client(s)
        await client.hello()
        await client.send(subscribes=[pipe.Subscribe(id=n, stream="s", consumer="c") for n in range(3)])
        ended = (await client.until(ended=1)).ended[0]
        assert (ended.subscription, ended.refused.status) == (2, 8)


# ---------------------------------------------------------------- the end


async def test_a_drain_says_that_it_is_closing_ends_subscriptions_and_answers_what_was_admitted() -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        s.node.drain_at_once = False
        client = Client(s)
        await client.hello()
        await client.send(subscribes=[pipe.Subscribe(id=1, stream="s", consumer="c")])
        await until(lambda: s.node.subscriptions)
        s.node.mute = True
        await client.send(publishes=[batch(1, [b"x"])])
        await until(lambda: s.server.runner.open_calls)
        draining = asyncio.create_task(s.server.drain(5))
        await asyncio.sleep(0.05)
        s.node.drain_at_once = True
        s.server.runner._perform(s.node.release())
        s.server.runner.drain()
        got = await client.until(published=1, ended=1)
        assert got.closing.reason == "server_shutdown"
        assert got.ended[0].reason == "server_shutdown"
        assert got.published[0].first_seq == 1
        with pytest.raises(grpc.aio.AioRpcError) as ending:
            await client.call.read()
        assert ending.value.code() is grpc.StatusCode.UNAVAILABLE
        assert ("wmkr-outcome", "not-applied") in list(ending.value.trailing_metadata() or ()), "nothing unanswered was"
        halt = await draining
        assert halt is not None
        assert halt.clean


async def test_a_drain_that_takes_too_long_is_cut_and_says_that_it_may_have_happened() -> None:
    async with serving() as s:
        s.node.mute = True
        client = Client(s)
        await client.hello()
        await client.send(publishes=[batch(1, [b"x"])])
        await until(lambda: s.server.runner.open_calls)
        assert await s.server.drain(0.7) is None
        got = await client.until(published=1)
        assert (got.published[0].refused.status, got.published[0].refused.outcome) == (14, "")


async def test_a_bug_behind_a_call_costs_that_call_only() -> None:
    async with serving() as s:
        s.node.answers[rq.GetStreamInfo] = lambda call: Answer(OK, "", "secret")
        client = Client(s)
        await client.hello()
        await client.send(calls=[pipe.Call(id=1, method="GetStreamInfo"), pipe.Call(id=2, method="ListStreams")])
        results = {r.id: r for r in (await client.until(results=2)).results}
        assert results[1].refused.status == 13
        assert "secret" not in results[1].refused.message
        assert results[2].HasField("response")
