"""Coming to a server, losing it, leaving it: what a client says and does about its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

import waymaker
from tests.kit.client_fake_server import (
    FakeConsumer,
    FakeServer,
    FakeStream,
    Session,
    break_once,
    publishing_frames,
    until,
)
from waymaker.client.connection.states import IN_SESSION
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        fake.streams["s"] = FakeStream(pb.StreamConfigPb(name="s"))
        yield fake


@pytest.fixture
async def wm(server: FakeServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(server.target, timeout=5.0) as client:
        yield client


async def test_an_unreachable_server_is_said_at_once() -> None:
    with pytest.raises(waymaker.UnavailableError, match=r"127\.0\.0\.1:1: .*nobody listens"):
        async with waymaker.connect("127.0.0.1:1"):
            pass


async def test_a_client_can_wait_for_its_server_to_come_up(server: FakeServer) -> None:
    port = server.port
    await server.stop()

    async def later() -> None:
        await asyncio.sleep(0.2)
        await server.start(port)

    task = asyncio.ensure_future(later())
    async with waymaker.connect(f"127.0.0.1:{port}", wait_for_server=True) as wm:
        assert await wm.publish("s", "a") == 1
    await task


async def test_waiting_for_a_server_ends(server: FakeServer) -> None:
    with pytest.raises(waymaker.UnavailableError, match="within"):
        async with waymaker.connect("127.0.0.1:1", wait_for_server=True, connect_timeout=0.2):
            pass


async def test_what_waited_through_a_restart_is_sent_after_it(server: FakeServer, wm: waymaker.Client) -> None:
    port = server.port
    await server.stop()
    await until(lambda: wm._connection.state not in IN_SESSION)
    publishing = asyncio.ensure_future(wm.publish("s", "a"))
    listing = asyncio.ensure_future(wm.list_streams())
    await asyncio.sleep(0.1)
    await server.start(port)
    assert await publishing == 1
    assert await listing == ["s"]


async def test_a_rejected_token_ends_waiting_with_its_own_exception(server: FakeServer) -> None:
    server.refuse_sessions = grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(waymaker.UnauthenticatedError):
        async with waymaker.connect(server.target, token="wrong", wait_for_server=True):
            pass
    assert server.metadata[0]["authorization"] == "Bearer wrong"


async def test_a_server_of_another_kind_is_named_as_such(server: FakeServer) -> None:
    server.refuse_sessions = grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(waymaker.UnimplementedError, match="is it a Waymaker server"):
        async with waymaker.connect(server.target):
            pass


async def test_without_reconnect_the_first_loss_ends_the_client(server: FakeServer) -> None:
    break_once(server, apply=False)
    async with waymaker.connect(server.target, reconnect=False) as wm:
        with pytest.raises(waymaker.ConnectionLostError):
            await wm.publish("s", "a", expected_last_seq=0)
        await until(lambda: wm._connection.ended)
        with pytest.raises(waymaker.UnavailableError):
            await wm.publish("s", "a")
    assert len(server.sessions) == 1


def stop_at_a_publish(session: Session, frame: pl.Frame) -> bool:
    if frame.publishes:
        session.stop_in_order()
    return bool(frame.publishes)


async def test_what_an_orderly_stop_left_unanswered_did_not_happen_and_is_sent_again(
    server: FakeServer, wm: waymaker.Client
) -> None:
    def stop_once(session: Session, frame: pl.Frame) -> bool:
        if frame.publishes:
            server.on_frame = None
        return stop_at_a_publish(session, frame)

    server.on_frame = stop_once
    assert await wm.publish("s", "a") == 1
    assert [message[0] for message in server.streams["s"].messages] == ["a"]
    assert len(server.sessions) == 2


async def test_without_reconnect_an_orderly_stop_fails_everything_as_not_applied(server: FakeServer) -> None:
    server.streams["s"].consumers["c"] = FakeConsumer(pb.ConsumerConfigPb(name="c"))
    server.streams["s"].messages.append(("a", [], b"", 1))
    async with waymaker.connect(server.target, reconnect=False, timeout=5.0) as wm:
        message = (await wm.fetch("s", "c"))[0]
        server.on_frame = stop_at_a_publish
        with pytest.raises(waymaker.UnavailableError, match="broken off") as caught:
            await wm.publish("s", "a")
        assert caught.value.outcome == waymaker.NOT_APPLIED
        later = [wm.publish("s", "a"), wm.list_streams(), wm.fetch("s", "c"), wm.watch().__anext__()]
        for failure in await asyncio.gather(*later, return_exceptions=True):
            assert isinstance(failure, waymaker.UnavailableError)
            assert failure.outcome == waymaker.NOT_APPLIED
            assert failure is not caught.value
        for _ in range(2):
            with pytest.raises(waymaker.UnavailableError):
                message.ack()


@pytest.mark.parametrize("closing", [True, False])
async def test_the_reason_of_an_end_is_told_whatever_write_it_meets(
    server: FakeServer, wm: waymaker.Client, closing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Many writes are under way when the session ends; the transport has words of its own for that."""
    for _ in range(20):
        waiting = [asyncio.ensure_future(wm.publish("s", "a", b"x" * 50_000)) for _ in range(20)]
        await until(lambda: wm._connection.state in IN_SESSION)
        session = server.sessions[-1]
        session.stop_in_order() if closing else session.break_off()
        await asyncio.sleep(0)
        waiting += [asyncio.ensure_future(wm.publish("s", "a", b"x" * 50_000)) for _ in range(20)]
        for failure in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(failure, int) or (isinstance(failure, waymaker.ConnectionLostError) and not closing), (
                failure
            )
    lost = [record.getMessage() for record in caplog.records if "connection lost" in record.getMessage()]
    assert lost
    assert all("broken off by the test" in line for line in lost), lost


async def test_closing_fails_what_waits_and_says_what_may_have_happened(server: FakeServer) -> None:
    server.on_frame = lambda _, frame: bool(frame.publishes)
    wm = waymaker.connect(server.target)
    async with wm:
        waiting = asyncio.ensure_future(wm.publish("s", "a"))
        await until(lambda: publishing_frames(server))
    with pytest.raises(waymaker.ConnectionLostError) as caught:
        await waiting
    assert caught.value.outcome == waymaker.UNKNOWN
    with pytest.raises(waymaker.ClosedError):
        await wm.publish("s", "a")


async def test_a_client_that_was_not_opened_says_so() -> None:
    with pytest.raises(waymaker.ClosedError, match="async with"):
        await waymaker.connect("127.0.0.1:1").publish("s", "a")


@pytest.mark.parametrize(
    ("target", "options", "problem"),
    [
        ("", {}, "HOST:PORT"),
        ("host", {}, "no port"),
        ("a b:1", {}, "HOST:PORT"),
        ("example.org:7411", {"token": "t"}, "in the clear"),
        ("127.0.0.1:1", {"token": "geheim\n"}, "printable"),
        ("127.0.0.1:1", {"backoff_first": 0}, "backoff_first"),
    ],
)
def test_impossible_options_are_refused_by_name(target: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(waymaker.UsageError, match=problem):
        waymaker.connect(target, **options)


def test_a_token_may_cross_the_network_encrypted_or_where_the_caller_says_so() -> None:
    waymaker.connect("example.org:7411", token="t", tls=True)
    waymaker.connect("example.org:7411", token="t", plaintext_token=True)
    waymaker.connect("[::1]:7411", token="t")


def test_a_token_stays_out_of_the_printed_options() -> None:
    assert "secret" not in repr(waymaker.connect("127.0.0.1:1", token="secret").options)
