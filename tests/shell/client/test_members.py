"""Members of a cluster, as the client finds, follows and leaves them; on fake servers that do as a test says."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import waymaker
from tests.kit.client_fake_server import FakeServer, Session, until
from tests.kit.fake_cluster import CATALOG, FakeCluster, fake_cluster
from waymaker.client.connection.numbering import STREAMS_MAX, Producer
from waymaker.client.connection.topics import topic_of
from waymaker.server.grpc.services import IN_SESSIONS
from waymaker_proto import pipeline_pb2 as pl

pytestmark = pytest.mark.usefixtures("transport")


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    async with fake_cluster() as own:
        yield own


@pytest.fixture
async def wm(cluster: FakeCluster) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(cluster.targets, timeout=10.0, backoff_first=0.01) as client:
        await client.create_stream("s")
        await client.create_consumer("s", "c")
        yield client


async def test_a_call_goes_where_it_is_served_and_the_next_one_at_once(
    cluster: FakeCluster, wm: waymaker.Client
) -> None:
    cluster.serves["s"] = 2
    assert await wm.publish("s", "a", b"1") == 1
    asked = len(cluster.members[1].asked)
    for place in range(2, 6):
        assert await wm.publish("s", "a", b"%d" % place) == place
    assert (await wm.stream_info("s")).last_seq == 5
    assert len(cluster.members[1].asked) == asked, "the client remembers who serves the stream"
    assert wm._connection.sessions == 2, "one session with each member that it needs"


async def test_streams_of_several_members_are_served_at_once(cluster: FakeCluster, wm: waymaker.Client) -> None:
    for place in range(6):
        await wm.create_stream(f"s{place}")
        cluster.serves[f"s{place}"] = place % 3 + 1
    cluster.serves[CATALOG] = 3
    assert len(await wm.list_streams()) == 7
    await asyncio.gather(*(wm.publish(f"s{place % 6}", "a", b"x") for place in range(60)))
    assert [len(cluster.payloads(f"s{place}")) for place in range(6)] == [10] * 6
    assert wm._connection.sessions == 3


@pytest.mark.parametrize("window", [4 << 20, 3_000])
async def test_order_within_a_stream_survives_its_moves(cluster: FakeCluster, wm: waymaker.Client, window: int) -> None:
    for member in cluster.members.values():
        member.welcome.window_bytes = window
    wm._connection.main.welcome.window_bytes = window
    payloads = [b"%05d" % place for place in range(4_000)]
    moves = itertools.cycle((2, 3, 1))

    async def keep_moving() -> None:
        """Move on whenever the present member has stored something: no stream is led twice within one round trip."""
        while True:
            stored = len(cluster.payloads("s"))
            cluster.serves["s"] = next(moves)
            await until(lambda: len(cluster.payloads("s")) > stored)  # noqa: B023

    moving = asyncio.create_task(keep_moving())
    published = [asyncio.ensure_future(wm.publish("s", "a", payload)) for payload in payloads[:500]]
    for start in range(500, 4_000, 100):
        published += [asyncio.ensure_future(wm.publish("s", "a", payload)) for payload in payloads[start : start + 100]]
        await asyncio.sleep(0.001)
    seqs = await asyncio.gather(*published)
    moving.cancel()
    assert cluster.payloads("s") == payloads
    assert seqs == list(range(1, 4_001))
    assert sum(len(member.sessions) for member in cluster.members.values()) <= 3, "moves end no session"


async def test_a_stream_that_comes_back_to_an_older_session_is_not_fenced(
    cluster: FakeCluster, wm: waymaker.Client
) -> None:
    for node_id in (1, 2, 3, 1, 2):
        cluster.serves["s"] = node_id
        await wm.publish("s", "a", b"%d" % node_id)
    assert cluster.payloads("s") == [b"1", b"2", b"3", b"1", b"2"]


@pytest.mark.parametrize("applied", [True, False])
async def test_what_a_dead_member_may_have_stored_is_stored_once(
    cluster: FakeCluster, wm: waymaker.Client, applied: bool
) -> None:
    cluster.serves["s"] = 2
    await wm.publish("s", "a", b"0")

    def die(session: Session, frame: pl.Frame) -> bool:
        if not frame.publishes:
            return False
        if applied:
            for batch in frame.publishes:
                batch.producer_epoch = session.producer[1]  # type: ignore[attr-defined]
                cluster.members[2].publish(batch)
        cluster.serves["s"] = 3
        session.break_off()
        return True

    cluster.members[2].on_frame = die
    seqs = await asyncio.gather(*(wm.publish("s", "a", b"%d" % place) for place in range(1, 4)))
    assert cluster.payloads("s") == [b"0", b"1", b"2", b"3"]
    assert seqs == [2, 3, 4]


async def test_the_main_member_may_die_too(cluster: FakeCluster, wm: waymaker.Client) -> None:
    await wm.publish("s", "a", b"0")
    await cluster.members[1].stop()
    cluster.serves.update({"s": 2, CATALOG: 3})
    assert await wm.publish("s", "a", b"1") == 2
    assert await wm.list_streams() == ["s"]
    await cluster.start(1)
    cluster.serves.update({"s": 1, CATALOG: 1})
    assert await wm.publish("s", "a", b"2") == 3


async def test_members_that_contradict_each_other_are_asked_slowly(cluster: FakeCluster, wm: waymaker.Client) -> None:
    cluster.serves["s"] = 3
    cluster.members[1].says["s"] = 2
    cluster.members[2].says["s"] = 1
    began = time.monotonic()
    waiting = asyncio.create_task(wm.publish("s", "a", b"x"))
    await asyncio.sleep(1.0)
    asked = sum(member.asked.count("s") for member in cluster.members.values())
    assert not waiting.done()
    assert asked < 40, f"{asked} questions in {time.monotonic() - began:.1f} s"
    del cluster.members[1].says["s"]
    assert await waiting == 1


async def test_without_a_leader_a_call_ends_in_time_and_says_that_nothing_was_done(
    cluster: FakeCluster, wm: waymaker.Client
) -> None:
    cluster.serves["s"] = 0
    outcomes: list[str | None] = []
    for _ in range(4):
        began = time.monotonic()
        with pytest.raises(waymaker.DeadlineExceededError) as caught:
            await wm.publish("s", "a", b"x", timeout=0.4)
        assert 0.3 < time.monotonic() - began < 5.0
        # A question that is on its way in the last moment may have been heard.
        outcomes.append(caught.value.outcome)
        assert "no node leads it" in str(caught.value) or caught.value.outcome == waymaker.UNKNOWN
    assert waymaker.NOT_APPLIED in outcomes
    with pytest.raises(waymaker.DeadlineExceededError):
        await wm.stream_info("s", timeout=0.3)
    cluster.serves["s"] = 2
    assert await wm.publish("s", "a", b"y") == 1
    assert cluster.payloads("s") == [b"y"]


async def test_every_member_is_asked_where_one_knows_of_no_leader(cluster: FakeCluster, wm: waymaker.Client) -> None:
    cluster.serves["s"] = 3
    cluster.members[1].says["s"] = 0
    cluster.members[2].says["s"] = 0
    assert await wm.publish("s", "a", b"x") == 1


async def test_an_unserved_stream_holds_up_no_other(cluster: FakeCluster, wm: waymaker.Client) -> None:
    await wm.create_stream("t")
    cluster.serves["s"] = 0
    waiting = asyncio.create_task(wm.publish("s", "a", b"x"))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    for _ in range(20):
        await wm.publish("t", "a", b"y")
    assert time.monotonic() - began < 2.0
    assert not waiting.done()
    cluster.serves["s"] = 1
    await waiting


async def test_a_change_that_is_not_repeatable_is_sent_again_only_where_nothing_was_done(
    cluster: FakeCluster, wm: waymaker.Client
) -> None:
    cluster.serves[CATALOG] = 2
    await wm.create_stream("t")

    def die(session: Session, frame: pl.Frame) -> bool:
        if frame.calls:
            session.break_off()
        return bool(frame.calls)

    cluster.members[2].on_frame = die
    with pytest.raises(waymaker.ConnectionLostError) as caught:
        await wm.delete_stream("t")
    assert caught.value.outcome == waymaker.UNKNOWN
    cluster.members[2].on_frame = None
    await wm.delete_stream("t")


@pytest.mark.parametrize("status", [14, 10])
async def test_a_primary_that_gives_up_what_it_had_is_no_failure_of_a_numbered_publish(
    cluster: FakeCluster, wm: waymaker.Client, status: int
) -> None:
    unknown = pl.Refused(status=status, message="another node leads", outcome="unknown")

    def step_down(session: Session, frame: pl.Frame) -> bool:
        if not frame.publishes and not frame.calls:
            return False
        cluster.serves["s"] = 2
        answer = pl.Frame()
        for batch in frame.publishes:
            answer.published.add(id=batch.id, refused=unknown)
        for call in frame.calls:
            answer.results.add(id=call.id, refused=unknown)
        session.send(answer)
        return True

    await wm.publish("s", "a", b"0")
    cluster.members[1].on_frame = step_down
    assert await wm.publish("s", "a", b"1") == 2
    cluster.serves["s"] = 1
    assert (await wm.stream_info("s")).last_seq == 2, "a read is asked again"
    cluster.serves["s"] = 1
    with pytest.raises(waymaker.WaymakerError) as caught:
        await wm.update_stream("s", max_msgs=5)
    assert caught.value.outcome == waymaker.UNKNOWN


async def test_a_subscription_follows_its_stream(cluster: FakeCluster, wm: waymaker.Client) -> None:
    seen: list[bytes] = []

    async def consume() -> None:
        async for message in wm.subscribe("s", "c"):
            seen.append(message.payload)
            await message.ack()

    consuming = asyncio.create_task(consume())
    for place, node_id in enumerate((1, 2, 3, 2)):
        moved_from, cluster.serves["s"] = cluster.serves.get("s", 1), node_id
        for session in cluster.members[moved_from].sessions:
            for id_ in list(session.subscriptions) if moved_from != node_id else ():
                cluster.members[moved_from].leave(session, id_)
                session.send(pl.Frame(ended=[pl.Ended(subscription=id_, reason="moved")]))
        await wm.publish("s", "a", b"%d" % place)
        await until(lambda place=place: len(seen) == place + 1)  # type: ignore[misc]
    await cluster.members[2].stop()
    cluster.serves["s"] = 3
    await wm.publish("s", "a", b"last")
    await until(lambda: seen[-1] == b"last")
    assert seen == [b"0", b"1", b"2", b"3", b"last"]
    consuming.cancel()


async def test_an_acknowledgement_follows_its_stream(cluster: FakeCluster, wm: waymaker.Client) -> None:
    await wm.publish("s", "a", b"x")
    (message,) = await wm.fetch("s", "c")
    cluster.serves["s"] = 3
    await message.ack()
    assert cluster.streams["s"].consumers["c"].acked == [(pl.ACK, 1)]


async def test_a_closed_subscription_does_not_come_back(cluster: FakeCluster, wm: waymaker.Client) -> None:
    async with waymaker.connect(cluster.targets, backoff_first=0.4) as patient:
        cluster.serves["s"] = 0
        subscription = patient.subscribe("s", "c")
        waiting = asyncio.create_task(subscription.next())
        await until(lambda: "s" in cluster.members[1].asked)
        await asyncio.sleep(0.1)
        cluster.serves["s"] = 1
        await subscription.close()
        waiting.cancel()
        asked = sum(member.asked.count("s") for member in cluster.members.values())
        await asyncio.sleep(1.0)
        assert sum(member.asked.count("s") for member in cluster.members.values()) == asked


async def test_a_server_that_stops_in_order_is_left(cluster: FakeCluster, wm: waymaker.Client) -> None:
    await wm.publish("s", "a", b"0")
    cluster.serves.update({"s": 2, CATALOG: 2})
    for session in cluster.members[1].sessions:
        session.send(pl.Frame(closing=pl.Closing(reason="server_shutdown")))
    assert await wm.publish("s", "a", b"1") == 2
    assert await wm.list_streams() == ["s"]


async def test_the_first_address_that_answers_is_enough(cluster: FakeCluster) -> None:
    await cluster.members[1].stop()
    async with waymaker.connect(",".join(cluster.targets), timeout=5.0) as wm:
        cluster.serves = {CATALOG: 2}
        assert await wm.list_streams() == []
    for member in cluster.members.values():
        await member.stop()
    with pytest.raises(waymaker.UnavailableError) as caught:
        async with waymaker.connect(cluster.targets):
            pass
    assert all(target in str(caught.value) for target in cluster.targets), "an error names the addresses that failed"


async def test_several_addresses_are_waited_for(cluster: FakeCluster) -> None:
    for member in cluster.members.values():
        await member.stop()

    async def come_back() -> None:
        await asyncio.sleep(0.4)
        await cluster.start(2)

    coming = asyncio.create_task(come_back())
    async with waymaker.connect(cluster.targets, wait_for_server=True, connect_timeout=10.0):
        await coming


async def test_without_reconnect_nothing_is_followed(cluster: FakeCluster, wm: waymaker.Client) -> None:
    cluster.serves["s"] = 2
    async with waymaker.connect(cluster.targets[0], reconnect=False) as strict:
        assert not cluster.members[1].frames[-1].hello.follows
        with pytest.raises(waymaker.UnavailableError, match=cluster.targets[1]) as caught:
            await strict.publish("s", "a", b"x")
        assert caught.value.outcome == waymaker.NOT_APPLIED


async def test_a_single_server_has_one_connection_and_keeps_it(transport: str) -> None:
    async with FakeServer() as alone, waymaker.connect(alone.target) as wm:
        await wm.create_stream("s")
        await wm.publish("s", "a", b"x")
        assert wm._connection.main.state is wm._connection.state
        assert not wm._connection.has_others
        assert len(alone.sessions) == 1


@pytest.mark.parametrize("wrong", ["", "a:1,", ",", "a:1,b", ["a:1", "b"], ["a:1", 7]])
def test_addresses_are_checked(wrong: Any, transport: str) -> None:
    with pytest.raises(waymaker.UsageError):
        waymaker.connect(wrong)


def test_every_call_of_a_session_has_a_topic(transport: str) -> None:
    topics: dict[str, str] = {}
    for name, rpc in IN_SESSIONS.items():
        request = rpc.request()
        for field in ("stream", "bucket", "name"):
            if field in rpc.request.DESCRIPTOR.fields_by_name:
                setattr(request, field, "x")
        topics[name] = topic_of(name, request)
    assert "" not in topics.values()
    assert (topics["Get"], topics["GetObjectInfo"], topics["Fetch"]) == ("kv:x", "obj:x", "x")
    assert topics["CreateStream"] == topics["ListStreams"] == topics["DeleteQueue"] == topics["CreateSketch"]
    assert topics["HashSet"] == topics["HashGet"] != topics["SetAdd"]


def test_epochs_of_a_producer_never_go_back_whatever_the_sessions(transport: str) -> None:
    chance = random.Random(7)
    producer = Producer()
    sessions = [producer.begin_epoch() for _ in range(3)]
    heard: dict[str, int] = {}
    for _ in range(3_000):
        stream = f"s{chance.randrange(20)}"
        if chance.random() < 0.05:
            sessions[chance.randrange(3)] = producer.begin_epoch()
        if chance.random() < 0.05:
            producer.begin_anew(stream)
        epoch = producer.epoch_for(stream, chance.choice(sessions))
        assert epoch >= heard.get(stream, 0)
        heard[stream] = epoch
    for place in range(STREAMS_MAX + 5):
        producer.epoch_for(f"other{place}", 1)
    assert all(producer.epoch_for(stream, 1) >= epoch for stream, epoch in heard.items())


async def test_a_member_that_hangs_is_left_and_one_that_only_waits_is_not(
    cluster: FakeCluster, wm: waymaker.Client
) -> None:
    cluster.serves["s"] = 2
    await wm.publish("s", "a", b"0")
    waiting: list[pl.Frame] = []

    def answer_questions_only(session: Session, frame: pl.Frame) -> bool:
        for call in frame.calls if not frame.publishes else ():
            session.send(pl.Frame(results=[pl.CallResult(id=call.id, refused=pl.Refused(status=12))]))
        waiting.append(frame)
        return True

    cluster.members[2].on_frame = answer_questions_only
    slow = asyncio.create_task(wm.publish("s", "a", b"1"))
    await asyncio.sleep(5.0)
    assert len(cluster.members[2].sessions) == 1, "a member that answers is waited for"
    cluster.serves["s"] = 3
    cluster.members[2].hung = True
    async with asyncio.timeout(8.0):
        await slow
    assert cluster.payloads("s") == [b"0", b"1"]
