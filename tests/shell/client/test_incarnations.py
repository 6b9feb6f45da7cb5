"""Late answers to deliveries of a consumer that is gone: they touch nothing of the one that has its name now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import waymaker
from tests.kit.real_server import RealServer
from tests.kit.wire_client import WireClient

INCARNATION = "wmkr-incarnation"


def make_queue(client: WireClient) -> None:
    """A work queue with one message and a consumer, in the place of an earlier one."""
    client.call("DeleteStream", name="q")
    assert client.call("CreateStream", config={"name": "q", "retention": {"work_queue": {}}}).success
    assert client.call("Publish", stream="q", subject="a", payload=b"x").seq == 1
    assert client.call("CreateConsumer", stream="q", config={"name": "c"}).success


def fetch(client: WireClient) -> tuple[Any, str]:
    request = client.request("Fetch", stream="q", consumer="c")
    response, call = client._unary("Fetch").with_call(request, timeout=20)
    words = dict(call.initial_metadata())
    return response, words[INCARNATION]


@pytest.mark.parametrize("rpc", ["Ack", "Nak", "Term", "InProgress"])
def test_a_late_answer_touches_nothing_of_the_queue_made_anew(client: WireClient, rpc: str) -> None:
    make_queue(client)
    fetched, old = fetch(client)
    assert [message.seq for message in fetched.messages] == [1]
    make_queue(client)
    fetched, new = fetch(client)
    assert [message.seq for message in fetched.messages] == [1]
    assert new != old
    answer = client.call(rpc, [(INCARNATION, old)], stream="q", consumer="c", seq=1)
    assert (answer.success, answer.result_code) == (True, "ok")
    assert client.call("GetStreamInfo", name="q").stats.msg_count == 1
    assert client.call("GetConsumerInfo", stream="q", consumer="c").consumer.ack_floor == 0
    assert client.call("Fetch", stream="q", consumer="c").messages[:] == []
    assert client.call("Ack", [(INCARNATION, new)], stream="q", consumer="c", seq=1).success
    assert client.call("GetStreamInfo", name="q").stats.msg_count == 0


def test_a_consumer_made_anew_is_another_one_also_without_messages(client: WireClient) -> None:
    make_queue(client)
    _, first = fetch(client)
    assert client.call("DeleteConsumer", stream="q", consumer="c").success
    assert client.call("CreateConsumer", stream="q", config={"name": "c"}).success
    assert client.call("Term", [(INCARNATION, first)], stream="q", consumer="c", seq=1).success
    fetched, second = fetch(client)
    assert [message.seq for message in fetched.messages] == [1]
    fetched, third = fetch(client)
    assert (list(fetched.messages), third) == ([], second)


def test_a_subscription_tells_the_same_word_as_a_fetch(client: WireClient) -> None:
    make_queue(client)
    call = client.stream("Subscribe", stream="q", consumer="c")
    assert next(call).message.seq == 1
    words = dict(call.initial_metadata())
    call.cancel()
    assert words[INCARNATION] == fetch(client)[1]


def test_a_wrong_word_is_no_error(client: WireClient) -> None:
    make_queue(client)
    fetch(client)
    for word in ("", "x" * 500):
        assert client.call("InProgress", [(INCARNATION, word)], stream="q", consumer="c", seq=1).result_code == "ok"


async def test_the_python_client_always_says_whose_messages_it_means(server: RealServer) -> None:
    async with waymaker.connect(server.address, timeout=20.0) as wm:

        async def make() -> None:
            await wm.create_stream("again", retention=waymaker.Retention.WORK_QUEUE)
            await wm.publish("again", "a", b"one")
            await wm.publish("again", "a", b"two")
            await wm.create_consumer("again", "c")

        await make()
        (fetched,) = await wm.fetch("again", "c", 1)
        async with wm.subscribe("again", "c") as subscription:
            pushed = await subscription.next()
            await wm.delete_stream("again")
            await make()
            assert len(await wm.fetch("again", "c")) == 2
            await fetched.ack()
            await pushed.ack()
            await fetched.nak()
            assert (await wm.stream_info("again")).msg_count == 2
            assert await wm.fetch("again", "c") == []
        await wm.delete_stream("again")


def test_the_word_survives_a_restart(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "data")
    server.start()
    try:
        client = WireClient(server.address)
        make_queue(client)
        _, before = fetch(client)
        client.close()
        server.kill()
        server.start()
        client = WireClient(server.address)
        assert fetch(client)[1] == before
        assert client.call("Ack", [(INCARNATION, before)], stream="q", consumer="c", seq=1).success
        assert client.call("GetStreamInfo", name="q").stats.msg_count == 0
        client.close()
    finally:
        server.close()
