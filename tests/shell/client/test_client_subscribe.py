"""Deliveries and acknowledgements, against a server that can be told to misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import waymaker
from tests.kit.client_arrivals import Arrivals
from tests.kit.client_fake_server import FakeConsumer, FakeServer, FakeStream, Session, until
from waymaker.client.connection.states import State
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        fake.streams["s"] = FakeStream(pb.StreamConfigPb(name="s"))
        fake.streams["s"].consumers["c"] = FakeConsumer(pb.ConsumerConfigPb(name="c"))
        yield fake


@pytest.fixture
async def wm(server: FakeServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(server.target, timeout=5.0) as client:
        yield client


def fill(server: FakeServer, count: int) -> None:
    stream = server.streams["s"]
    stream.messages.extend((f"x.{n}", [("n", str(n))], f"payload {n}".encode(), 1_000 + n) for n in range(count))


def said(server: FakeServer, kind: pl.AckKind.ValueType = pl.ACK) -> list[int]:
    return [seq for other, seq in server.streams["s"].consumers["c"].acked if other == kind]


async def test_iteration_gives_every_message_with_all_it_has(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 1_000)
    got = [message async for message in wm.subscribe("s", "c", stop_when_empty=True)]
    assert [m.seq for m in got] == list(range(1, 1_001))
    assert (got[7].subject, got[7].payload, got[7].ts_ms, got[7].headers) == ("x.7", b"payload 7", 1_007, {"n": "7"})
    assert got[7].header_pairs == [("n", "7")]
    assert got[7].deliver_count == 1


async def test_acknowledgements_of_a_loop_turn_travel_together_as_ranges(
    server: FakeServer, wm: waymaker.Client
) -> None:
    fill(server, 1_000)
    async for message in wm.subscribe("s", "c", stop_when_empty=True):
        message.ack()
    await until(lambda: len(said(server)) == 1_000)
    assert said(server) == list(range(1, 1_001))
    batches = [ack for frame in server.frames for ack in frame.acks]
    assert len(batches) < 180, "the first 128 are reported, and so acknowledged, one by one"
    assert sum(len(ack.seqs) for ack in batches) < 250, "consecutive sequences are told as ranges"


async def test_awaiting_an_acknowledgement_waits_for_the_servers_word(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 1)
    held: list[tuple[Session, pl.Frame]] = []

    def hold(session: Session, frame: pl.Frame) -> bool:
        if frame.acks:
            held.append((session, frame))
        return bool(frame.acks)

    message = await wm.subscribe("s", "c").next()
    server.on_frame = hold
    confirmation = asyncio.ensure_future(message.ack().wait())
    await until(lambda: held)
    assert not confirmation.done()
    server.on_frame = None
    server.handle(*held[0])
    await confirmation
    await message.ack()


async def test_nak_term_and_in_progress_say_what_they_mean(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 4)
    messages = await wm.fetch("s", "c")
    messages[0].nak()
    messages[1].nak(1.5)
    messages[2].term()
    await messages[3].in_progress()
    kinds = [(ack.kind, list(ack.seqs), ack.delay_ms) for frame in server.frames for ack in frame.acks]
    assert kinds == [(pl.NAK, [1], 0), (pl.NAK, [2], 1_500), (pl.TERM, [3], 0), (pl.IN_PROGRESS, [4], 0)]
    again = await wm.fetch("s", "c")
    assert [(m.seq, m.deliver_count) for m in again] == [(1, 2)]
    with pytest.raises(waymaker.UsageError, match="delay = -1"):
        again[0].nak(-1)


async def test_what_is_said_of_one_message_is_said_in_order(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 1)
    message = (await wm.fetch("s", "c"))[0]
    for _ in range(10):
        message.nak(5)
        message.in_progress()
    await message.ack()
    kinds = [kind for kind, _ in server.streams["s"].consumers["c"].acked]
    assert kinds == [pl.NAK, pl.IN_PROGRESS] * 10 + [pl.ACK]


async def test_an_acknowledgement_that_fails_raises_where_it_is_awaited(
    server: FakeServer, wm: waymaker.Client, caplog: pytest.LogCaptureFixture
) -> None:
    fill(server, 2)
    first, second = await wm.fetch("s", "c")
    del server.streams["s"].consumers["c"]
    with pytest.raises(waymaker.NoSuchConsumerError):
        await first.ack()
    second.ack()
    await until(lambda: "acknowledgements of s/c failed" in caplog.text)


async def test_a_message_that_was_read_cannot_be_acknowledged(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 1)
    message = await wm.get("s", "x.0")
    assert message is not None
    assert (message.seq, message.payload, message.deliver_count) == (1, b"payload 0", 0)
    with pytest.raises(waymaker.UsageError, match="was read"):
        message.ack()


async def test_batches_are_columns_and_settle_whole(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 250)
    seqs: list[int] = []
    async for batch in wm.subscribe("s", "c", stop_when_empty=True).batches():
        assert batch.payloads() == [m.payload for m in batch]
        assert batch[0].seq == batch.first_seq
        assert batch[-1].seq == batch.last_seq
        assert [m.subject for m in batch[1:3]] == [f"x.{batch.first_seq}", f"x.{batch.first_seq + 1}"]
        assert len(batch.times_ms) == len(batch)
        seqs += range(batch.first_seq, batch.last_seq + 1)
        batch.ack()
    assert seqs == list(range(1, 251))
    await until(lambda: said(server) == seqs)


async def test_a_slow_reader_is_sent_no_more_than_it_granted(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 500)
    consumer = server.streams["s"].consumers["c"]
    async with wm.subscribe("s", "c", prefetch=20) as subscription:
        await until(lambda: consumer.next_seq > 20)
        await asyncio.sleep(0.05)
        assert consumer.next_seq == 21
        for n in range(1, 101):
            assert (await subscription.next()).seq == n
            assert consumer.next_seq <= n + 2 * 20 + 1


async def test_new_messages_wake_a_waiting_reader(server: FakeServer, wm: waymaker.Client) -> None:
    async with wm.subscribe("s", "c") as subscription:
        with pytest.raises(TimeoutError):
            await subscription.next(timeout=0.05)
        waiting = asyncio.ensure_future(subscription.next())
        await wm.publish("s", "x", b"new")
        assert (await waiting).payload == b"new"


async def test_closing_hands_back_what_nobody_took(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 10)
    async with wm.subscribe("s", "c") as subscription:
        async for message in subscription:
            message.ack()
            if message.seq == 3:
                break
    assert said(server) == [1, 2, 3]
    consumer = server.streams["s"].consumers["c"]
    await until(lambda: consumer.returned)
    assert said(server, pl.NAK) == []
    assert consumer.returned == [4, 5, 6, 7, 8, 9, 10]
    assert [consumer.counts[seq] for seq in range(1, 11)] == [1] * 3 + [0] * 7
    assert subscription.reason == "closed"
    with pytest.raises(StopAsyncIteration):
        await subscription.next()


@pytest.mark.parametrize(("limit", "prefetch"), [(1, 512), (7, 3), (50, 20), (100, 1), (100, 512)])
async def test_a_limit_takes_so_many_and_not_one_more(
    server: FakeServer, wm: waymaker.Client, limit: int, prefetch: int
) -> None:
    fill(server, 200)
    subscription = wm.subscribe("s", "c", limit=limit, prefetch=prefetch)
    got = [message.seq async for message in subscription]
    assert got == list(range(1, limit + 1))
    assert subscription.reason == "limit"
    await wm.stream_info("s")
    assert server.streams["s"].consumers["c"].next_seq == limit + 1
    assert sum(batch.payloads() != [] for batch in [b async for b in wm.subscribe("s", "c", limit=3).batches()]) >= 1


async def test_a_limit_holds_through_a_lost_connection(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 200)
    got: list[int] = []
    async for message in wm.subscribe("s", "c", limit=60, prefetch=20):
        got.append(message.seq)
        if message.seq == 30:
            server.sessions[0].break_off()
            await until(lambda: len(server.sessions) == 2)
    assert sorted(set(got)) in (list(range(1, 61)), list(range(1, 60)))
    assert len(got) == 60
    assert server.streams["s"].consumers["c"].next_seq <= 61


async def test_closing_the_client_confirms_what_was_acknowledged(server: FakeServer) -> None:
    fill(server, 300)
    async with waymaker.connect(server.target) as wm:
        taken = 0
        async for message in wm.subscribe("s", "c"):
            message.ack()
            taken += 1
            if taken == 150:
                break
    assert said(server) == list(range(1, 151))


async def test_a_missing_consumer_ends_the_iteration_with_its_exception(wm: waymaker.Client) -> None:
    with pytest.raises(waymaker.NoSuchConsumerError):
        await wm.subscribe("s", "nobody").next()
    with pytest.raises(waymaker.NoSuchStreamError):
        await wm.subscribe("nowhere", "c").next()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("consumer_deleted", waymaker.NoSuchConsumerError),
        ("stream_deleted", waymaker.NoSuchStreamError),
        ("new_reason", waymaker.WaymakerError),
    ],
)
async def test_an_end_by_the_server_is_raised_after_the_last_message(
    server: FakeServer, wm: waymaker.Client, reason: str, kind: type[Exception]
) -> None:
    fill(server, 3)
    subscription = wm.subscribe("s", "c")
    assert (await subscription.next()).seq == 1
    server.sessions[0].send(pl.Frame(ended=[pl.Ended(subscription=subscription.id, reason=reason)]))
    assert (await subscription.next()).seq == 2
    assert (await subscription.next()).seq == 3
    with pytest.raises(kind):
        await subscription.next()
    assert subscription.reason == reason


async def test_a_lost_connection_is_survived_by_subscribing_again(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 30)
    got: list[int] = []
    async with wm.subscribe("s", "c", prefetch=10) as subscription:
        async for message in subscription:
            got.append(message.seq)
            message.ack()
            if message.seq == 15:
                await until(lambda: max(server.sessions[0].dealt.values()) >= 14)
                server.sessions[0].break_off()
                await until(lambda: wm._connection.sessions == 2)
            if message.seq == 30:
                break
    assert sorted(set(got)) == list(range(1, 31))
    assert len(got) <= 31, "only a message whose report was on its way may come twice"
    assert len(server.sessions) == 2
    assert sorted(set(said(server))) == list(range(1, 31))


async def test_acknowledgements_whose_answer_was_lost_are_said_again(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 3)
    messages = await wm.fetch("s", "c")

    def swallow(session: Session, frame: pl.Frame) -> bool:
        if not frame.acks:
            return False
        server.on_frame = None
        session.break_off()
        return True

    server.on_frame = swallow
    confirmations = [message.ack() for message in messages]
    await confirmations[-1]
    assert said(server) == [1, 2, 3]


async def test_a_draining_server_is_left_and_found_again(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 5)
    subscription = wm.subscribe("s", "c", prefetch=2)
    assert (await subscription.next()).seq == 1
    session = server.sessions[0]
    await until(lambda: session.dealt[subscription.id] == 1)
    session.send(pl.Frame(closing=pl.Closing(reason="server_shutdown")))
    session.send(pl.Frame(ended=[pl.Ended(subscription=subscription.id, reason="server_shutdown")]))
    server.leave(session, subscription.id)
    await until(lambda: wm._connection.state is State.DRAINING)
    publishing = asyncio.ensure_future(wm.publish("s", "x.9"))
    await asyncio.sleep(0.05)
    assert not publishing.done(), "nothing is sent to a server that is closing"
    session.out.put_nowait(None)
    assert await publishing == 6
    assert [(await subscription.next()).seq for _ in range(5)] == [2, 3, 4, 5, 6]


async def test_a_malformed_delivery_is_an_error_and_not_a_message(server: FakeServer, wm: waymaker.Client) -> None:
    subscription = wm.subscribe("s", "c")
    waiting = asyncio.ensure_future(subscription.next())
    await until(lambda: server.sessions[0].subscriptions)
    run = pl.DeliveryRun(first_seq=1, deliver_count=1, ts_ms=[1], lengths=[10], bodies=b"short")
    server.sessions[0].send(pl.Frame(deliveries=[pl.DeliveryBatch(subscription=subscription.id, runs=[run])]))
    with pytest.raises(waymaker.DataLossError, match="malformed"):
        await waiting


async def test_two_subscriptions_of_one_consumer_share_it(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 100)
    first, second = wm.subscribe("s", "c", prefetch=10), wm.subscribe("s", "c", prefetch=10)
    got: list[int] = []

    async def read(subscription: waymaker.Subscription) -> None:
        async for message in subscription:
            got.append(message.seq)
            message.ack()

    readers = [asyncio.ensure_future(read(subscription)) for subscription in (first, second)]
    await until(lambda: len(got) == 100)
    assert sorted(got) == list(range(1, 101))
    await first.close()
    await second.close()
    await asyncio.gather(*readers)


async def test_a_reader_that_never_pauses_still_lets_others_run(server: FakeServer, wm: waymaker.Client) -> None:
    fill(server, 2_000)
    turns = 0

    async def ticker() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.ensure_future(ticker())
    async with wm.subscribe("s", "c", prefetch=2_000) as subscription:
        await until(lambda: subscription._queued >= 100)
        before = turns
        async for message in subscription:
            until_then = asyncio.get_running_loop().time() + 0.0005
            while asyncio.get_running_loop().time() < until_then:
                pass
            if message.seq == 100:
                break
    task.cancel()
    assert turns - before >= 5


def test_prefetch_is_at_least_one() -> None:
    with pytest.raises(waymaker.UsageError, match="prefetch"):
        waymaker.connect("127.0.0.1:1").subscribe("s", "c", prefetch=0)
    with pytest.raises(waymaker.UsageError, match="limit"):
        waymaker.connect("127.0.0.1:1").subscribe("s", "c", limit=0)


async def test_a_delivery_behind_a_confirmed_ack_is_noticed(
    server: FakeServer, wm: waymaker.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = Arrivals(monkeypatch)
    consumer = server.streams["s"].consumers["c"]
    fill(server, 2)
    messages = wm.subscribe("s", "c")
    first, second = await messages.next(), await messages.next()
    consumer.again.append(first.seq)  # it waits when the ack is confirmed
    await wm.publish("s", "x.0")
    await until(lambda: arrivals.deliveries[first.seq] == 2)
    await first.ack()
    assert arrivals.confirmed == {first.seq} and arrivals.late == []
    await second.nak()
    assert arrivals.confirmed == {first.seq}, "a nak settles nothing"
    consumer.again.append(first.seq)
    await wm.publish("s", "x.1")
    await until(lambda: arrivals.deliveries[first.seq] == 3)
    assert arrivals.late == [first.seq]
