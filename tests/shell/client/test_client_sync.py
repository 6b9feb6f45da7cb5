"""The synchronous twin, against a fake server on a loop of its own."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator

import pytest

import waymaker
from tests.kit.client_fake_server import FakeServer, threaded_server
from waymaker.client.client import Client
from waymaker.client.sync import SyncClient
from waymaker_proto import pipeline_pb2 as pl


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with threaded_server() as fake:
        yield fake


@pytest.fixture
def wm(server: FakeServer) -> Iterator[waymaker.SyncClient]:
    with waymaker.connect_sync(server.target, timeout=5.0) as client:
        client.create_stream("s")
        client.create_consumer("s", "c")
        yield client


def test_the_twin_has_every_call_with_the_same_arguments() -> None:
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if name.startswith("_") or name == "close":
            continue
        twin = getattr(SyncClient, name)
        assert list(inspect.signature(twin).parameters) == list(inspect.signature(method).parameters), name


def test_publishing_and_reading_back(server: FakeServer, wm: waymaker.SyncClient) -> None:
    assert wm.publish("s", "a", b"1") == 1
    results = wm.publish_many("s", [b"2", b"3"], subject="a")
    assert list(results) == [2, 3]
    latest = wm.get("s", "a")
    assert latest is not None
    assert latest.payload == b"3"
    assert [m.payload for m in wm.scan("s", "a")] == [b"1", b"2", b"3"]
    assert wm.subjects("s") == ["a"]
    assert wm.list_streams() == ["s"]
    assert wm.stream_info("s").msg_count == 3
    assert [info.name for info in wm.list_consumers("s")] == ["c"]
    assert wm.server_info().version == wm.server_version == "fake"


def test_publish_many_reads_its_source_on_the_callers_thread_in_order(
    server: FakeServer, wm: waymaker.SyncClient
) -> None:
    here = threading.get_ident()
    threads: set[int] = set()

    def source() -> Iterator[bytes]:
        for n in range(60_000):
            threads.add(threading.get_ident())
            yield str(n).encode()

    seen: list[int] = []
    results = wm.publish_many("s", source(), subject="a", on_progress=seen.append)
    assert threads == {here}
    assert list(results) == list(range(1, 60_001))
    assert [m[2] for m in server.streams["s"].messages] == [str(n).encode() for n in range(60_000)]
    assert sum(seen) == 60_000


def test_publish_many_that_fails_midway_tells_of_what_went_before(server: FakeServer, wm: waymaker.SyncClient) -> None:
    def source() -> Iterator[tuple[str, bytes]]:
        for n in range(60_000):
            if n == 40_000:
                del server.streams["s"]
            yield ("a", b"x")

    with pytest.raises(waymaker.NoSuchStreamError) as caught:
        wm.publish_many("s", source())
    assert caught.value.results is not None
    assert 0 < caught.value.results.stored < 60_000


def test_a_subscription_is_iterated_and_acknowledged(server: FakeServer, wm: waymaker.SyncClient) -> None:
    wm.publish_many("s", [b"%d" % n for n in range(300)], subject="a")
    got = []
    for message in wm.subscribe("s", "c", stop_when_empty=True):
        got.append(message.payload)
        message.ack()
    assert got == [b"%d" % n for n in range(300)]
    wm.close()
    assert server.streams["s"].consumers["c"].acked == [(pl.ACK, seq) for seq in range(1, 301)]


def test_leaving_a_subscription_early_hands_the_rest_back(server: FakeServer, wm: waymaker.SyncClient) -> None:
    wm.publish_many("s", [b"x"] * 10, subject="a")
    with wm.subscribe("s", "c") as subscription:
        next(subscription).ack(wait=True)
        assert next(subscription).seq == 2
    assert subscription.reason == "closed"
    consumer = server.streams["s"].consumers["c"]
    assert consumer.acked == [(pl.ACK, 1)]
    wm.stream_info("s")
    assert consumer.returned == list(range(3, 11))
    with wm.subscribe("s", "c") as subscription:
        assert next(subscription).seq == 3
        for _ in range(7):
            next(subscription)
        with pytest.raises(TimeoutError):
            subscription.next(timeout=0.05)


def test_fetched_messages_can_be_settled_with_or_without_waiting(server: FakeServer, wm: waymaker.SyncClient) -> None:
    wm.publish_many("s", [b"x"] * 4, subject="a")
    first, second, third, fourth = wm.fetch("s", "c")
    first.nak(2.0, wait=True)
    second.term(wait=True)
    third.in_progress(wait=True)
    fourth.ack()
    wm.close()
    assert server.streams["s"].consumers["c"].acked == [(pl.NAK, 1), (pl.TERM, 2), (pl.IN_PROGRESS, 3), (pl.ACK, 4)]
    with pytest.raises(waymaker.ClosedError):
        fourth.ack()


def test_exceptions_are_the_same(wm: waymaker.SyncClient) -> None:
    with pytest.raises(waymaker.NoSuchStreamError):
        wm.publish("nowhere", "a")
    with pytest.raises(waymaker.UsageError):
        wm.publish("s", "a", "text")  # type: ignore[arg-type]
    with pytest.raises(waymaker.NoSuchConsumerError):
        wm.subscribe("s", "nobody").next(5)


def test_backup_and_restore_are_iterators_and_iterables(server: FakeServer, wm: waymaker.SyncClient) -> None:
    assert b"".join(wm.backup("s")) == b"".join(server.archive)
    assert wm.restore(iter([b"a", b"b"]), name="new").name == "new"
    assert server.restored == b"ab"


def test_many_threads_may_share_a_client(server: FakeServer, wm: waymaker.SyncClient) -> None:
    seqs: list[int] = []

    def work() -> None:
        for _ in range(20):
            seqs.append(wm.publish("s", "a", b"x"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seqs) == list(range(1, 161))


def test_a_client_cannot_be_used_before_or_after_its_life(server: FakeServer) -> None:
    client = waymaker.connect_sync(server.target)
    with pytest.raises(waymaker.ClosedError, match="use `with`"):
        client.list_streams()
    with client:
        client.list_streams()
    client.close()
    with pytest.raises(waymaker.ClosedError):
        client.list_streams()
    with pytest.raises(waymaker.ClosedError, match="another one"), client:
        pass


def test_a_failed_opening_leaves_no_thread_behind() -> None:
    """The loop's thread has ended by then; the one of the diagnosis is not waited for, and ends by itself."""
    before = set(threading.enumerate())
    with pytest.raises(waymaker.UnavailableError), waymaker.connect_sync("127.0.0.1:1"):
        pass
    left = set(threading.enumerate()) - before
    assert {thread.name for thread in left} <= {"waymaker-diagnosis"}
    for thread in left:
        thread.join(30)
        assert not thread.is_alive()
