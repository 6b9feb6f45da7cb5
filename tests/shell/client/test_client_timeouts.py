"""Every call of both clients and of the command line keeps its timeout, whatever the server does or is.

A call that is missing here fails the first test, so that none is added without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import waymaker
from tests.kit.backup_kit import write_backup
from tests.kit.client_fake_server import FakeConsumer, FakeServer, FakeStream, run_beside, threaded_server, until
from tests.kit.waiting import wait_for
from waymaker.cli import exits, main
from waymaker.client.client import Client
from waymaker.client.connection.states import IN_SESSION
from waymaker.client.sync import SyncClient
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")

TIMEOUT_S = 0.3
SLACK_S = 5.0
"""For a busy machine: a call that does not keep its timeout waits for ever."""


async def asked(result: Any) -> None:
    """Bring a call of the asynchronous client to its end."""
    if isinstance(result, AsyncIterable):
        async for _ in result:
            pass
    else:
        await result


def asked_sync(result: Any) -> None:
    """Bring a call of the synchronous client to its end."""
    if isinstance(result, Iterable):
        for _ in result:
            pass


async def _some() -> AsyncIterator[bytes]:
    yield b"x"


CALLS: dict[str, Callable[[Any], object]] = {
    "publish": lambda wm: wm.publish("s", "a", b"x"),
    "publish_many": lambda wm: wm.publish_many("s", [b"x"] * 5_000, subject="a"),
    "publish_many, from a generator": lambda wm: wm.publish_many("s", (b"x" for _ in range(40_000)), subject="a"),
    "fetch": lambda wm: wm.fetch("s", "c"),
    "subscribe, next": lambda wm: wm.subscribe("s", "c").next(TIMEOUT_S),
    "subscribe": lambda wm: wm.subscribe("s", "c", stop_when_empty=True),
    "get": lambda wm: wm.get("s", "a"),
    "scan": lambda wm: wm.scan("s", "a"),
    "subjects": lambda wm: wm.subjects("s"),
    "create_stream": lambda wm: wm.create_stream("t"),
    "delete_stream": lambda wm: wm.delete_stream("s"),
    "stream_info": lambda wm: wm.stream_info("s"),
    "list_streams": lambda wm: wm.list_streams(),
    "stream_sources": lambda wm: wm.stream_sources(),
    "update_stream": lambda wm: wm.update_stream("s", max_msgs=1),
    "preview_update": lambda wm: wm.preview_update("s", max_msgs=1),
    "create_consumer": lambda wm: wm.create_consumer("s", "d"),
    "create_consumer, new": lambda wm: wm.create_consumer("s", "d", policy="new"),
    "delete_consumer": lambda wm: wm.delete_consumer("s", "c"),
    "consumer_info": lambda wm: wm.consumer_info("s", "c"),
    "list_consumers": lambda wm: wm.list_consumers("s"),
    "server_info": lambda wm: wm.server_info(),
    "pin_stream": lambda wm: wm.pin_stream("s"),
    "unpin_stream": lambda wm: wm.unpin_stream("s"),
    "clear_authority": lambda wm: wm.clear_authority("s"),
    "authority_overrides": lambda wm: wm.authority_overrides(),
    "cluster_streams": lambda wm: wm.cluster_streams(),
    "backup": lambda wm: wm.backup("s"),
    "restore": lambda wm: wm.restore([b"x" * 1_000_000] * 3, "new"),
    "backup_all": lambda wm: wm.backup_all("new-backup"),
    "restore_all": lambda wm: wm.restore_all("backup"),
    "watch": lambda wm: wm.watch(),
}
"""Calls of both clients, each said once: what one returns is brought to its end by `asked` or `asked_sync`."""
ASYNC_CALLS = CALLS | {
    "publish_many, from an asynchronous source": lambda wm: wm.publish_many("s", _some(), subject="a"),
}
OF_SERVICES = {"kv", "objects", "hash_store", "set_store", "queue", "sketch", "delete_bucket"}
"""Handles of services, whose calls are ordinary ones of a session; their own tests are beside them."""
ENDLESS = {"watch"}
"""Waits for events however long they take, once there is a connection."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "stream add": ("t",),
    "stream ls": (),
    "stream info": ("s",),
    "stream edit": ("s", "--max-msgs", "1", "--yes"),
    "stream rm": ("s", "--yes"),
    "consumer add": ("s", "d"),
    "consumer ls": ("s",),
    "consumer info": ("s", "c"),
    "consumer rm": ("s", "c"),
    "pub": ("s", "a", "x"),
    "sub": ("s", "c", "--stop-when-empty"),
    "fetch": ("s", "c"),
    "get": ("s", "a"),
    "subjects": ("s",),
    "info": (),
    "backup": ("s", "file"),
    "restore": ("archive",),
}
CHANGES = {"stream add", "stream rm", "consumer add", "consumer rm", "pub", "fetch", "restore"}
"""Commands that may have changed something when no answer came; `stream edit` looks first."""


def test_no_call_is_left_out() -> None:
    for kind, calls in ((Client, ASYNC_CALLS), (SyncClient, CALLS)):
        public = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        assert public - {"close", "acknowledge"} - OF_SERVICES == {name.partition(",")[0] for name in calls}


# --------------------------------------------------------------------------------- what a server may be


def _stock(server: FakeServer) -> None:
    stream = server.streams["s"] = FakeStream(pb.StreamConfigPb(name="s"))
    stream.messages.append(("a", [], b"x", 1))
    stream.consumers["c"] = FakeConsumer(pb.ConsumerConfigPb(name="c"))


@pytest.fixture
def backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup, and room for another one, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_backup(tmp_path / "backup")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        _stock(fake)
        yield fake


@contextlib.asynccontextmanager
async def absent(server: FakeServer, wm: Client) -> AsyncIterator[None]:
    await server.stop()
    await until(lambda: wm._connection.state not in IN_SESSION)
    yield


@contextlib.asynccontextmanager
async def silent(server: FakeServer, wm: Client) -> AsyncIterator[None]:
    """Takes connections and says nothing."""
    await server.stop()
    await until(lambda: wm._connection.state not in IN_SESSION)
    held = []
    async with await asyncio.start_server(lambda *both: held.append(both), "127.0.0.1", server.port):
        await until(lambda: held)
        yield
        for _, writer in held:
            writer.close()


@contextlib.asynccontextmanager
async def hung(server: FakeServer, wm: Client) -> AsyncIterator[None]:
    """Was there, takes everything and answers nothing."""
    server.hung = True
    yield


@pytest.mark.usefixtures("backups")
@pytest.mark.parametrize("call", ASYNC_CALLS)
@pytest.mark.parametrize("fault", [absent, silent, hung])
async def test_a_call_ends_in_time_with_a_clear_error(server: FakeServer, fault: Any, call: str) -> None:
    if fault is hung and call in ENDLESS:
        pytest.skip("waits for events")
    wm = waymaker.connect(server.target, timeout=TIMEOUT_S, backoff_max=0.1)
    async with wm:
        async with fault(server, wm):
            began = time.monotonic()
            with pytest.raises((waymaker.WaymakerError, TimeoutError)) as caught:
                async with asyncio.timeout(20):
                    await asked(ASYNC_CALLS[call](wm))
            took = time.monotonic() - began
        closing = time.monotonic()
        await wm.close(timeout=TIMEOUT_S)
        assert time.monotonic() - closing < TIMEOUT_S + SLACK_S
    assert took < TIMEOUT_S + SLACK_S, caught.value
    if call == "subscribe, next":
        assert isinstance(caught.value, TimeoutError)
        return
    assert isinstance(caught.value, waymaker.DeadlineExceededError | waymaker.UnavailableError), repr(caught.value)
    assert "in time" in str(caught.value)
    if fault is absent and call != "subscribe":
        assert caught.value.outcome == waymaker.NOT_APPLIED
        assert "nobody listens there" in str(caught.value), "it says why"


async def test_what_waits_for_room_in_the_window_ends_in_time(server: FakeServer) -> None:
    server.welcome.window_bytes = 1_000
    async with waymaker.connect(server.target, timeout=TIMEOUT_S) as wm:
        server.hung = True
        began = time.monotonic()
        first, second = await asyncio.gather(
            wm.publish("s", "a", b"x" * 900), wm.list_streams(), return_exceptions=True
        )
        publishing = [wm.publish(name, "a", b"x" * 900) for name in ("s", "t")]
        third, fourth = await asyncio.gather(*publishing, return_exceptions=True)
        assert time.monotonic() - began < 2 * TIMEOUT_S + SLACK_S
        for failure in (first, second, third, fourth):
            assert isinstance(failure, waymaker.DeadlineExceededError)
        assert isinstance(fourth, waymaker.DeadlineExceededError)
        assert fourth.outcome == waymaker.NOT_APPLIED, "it never left"


async def test_acknowledging_and_closing_end_in_time(server: FakeServer) -> None:
    wm = waymaker.connect(server.target, timeout=TIMEOUT_S)
    async with wm:
        subscription = wm.subscribe("s", "c")
        message = await subscription.next(5)
        server.hung = True
        began = time.monotonic()
        with pytest.raises(waymaker.DeadlineExceededError) as caught:
            await message.ack()
        assert caught.value.outcome == waymaker.UNKNOWN
        await subscription.close(timeout=TIMEOUT_S)
        await wm.close(timeout=TIMEOUT_S)
        assert time.monotonic() - began < 3 * TIMEOUT_S + SLACK_S


async def test_a_lost_connection_ends_a_call_outside_the_session_as_such(server: FakeServer) -> None:
    async with waymaker.connect(server.target, timeout=10) as wm:
        server.hung = True
        calls = [wm.server_info(), wm.preview_update("s", max_msgs=1), asked(wm.backup("s")), wm.restore([b"x"], "new")]
        asking = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0.2)
        server.sessions[-1].break_off()
        for failure in await asking:
            assert isinstance(failure, waymaker.ConnectionLostError), repr(failure)


async def test_opening_ends_in_time_where_the_session_is_never_welcomed(server: FakeServer) -> None:
    server.hung = True
    began = time.monotonic()
    with pytest.raises(waymaker.UnavailableError, match="no answer from"):
        async with waymaker.connect(server.target, connect_timeout=TIMEOUT_S):
            pass
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S


# --------------------------------------------------------------------------------- the synchronous client


@pytest.fixture
def threaded() -> Iterator[FakeServer]:
    with threaded_server() as fake:
        _stock(fake)
        yield fake


@pytest.mark.usefixtures("backups")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ["absent", "hung"])
def test_a_synchronous_call_ends_in_time_with_a_clear_error(threaded: FakeServer, fault: str, call: str) -> None:
    if fault == "hung" and call in ENDLESS:
        pytest.skip("waits for events")
    with waymaker.connect_sync(threaded.target, timeout=TIMEOUT_S, backoff_max=0.1) as wm:
        if fault == "hung":
            threaded.hung = True
        else:
            run_beside(threaded.stop())
            # A watch that begins before the client has noticed is one that waits for its server to come back.
            wait_for(lambda: wm._client._connection.state not in IN_SESSION)
        began = time.monotonic()
        with pytest.raises((waymaker.WaymakerError, TimeoutError)) as caught:
            asked_sync(CALLS[call](wm))
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S, caught.value
        began = time.monotonic()
        wm.close(timeout=TIMEOUT_S)
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S


# ----------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_in_time_with_an_exit_code_of_its_own(
    threaded: FakeServer, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asyncio, "run", run_beside)
    (tmp_path / "archive").write_bytes(b"x" * 1_000)
    threaded.on_frame = lambda _, frame: not frame.HasField("hello")
    threaded.hang_calls = True
    whole = [*command.split(), *COMMANDS[command], "--server", threaded.target, "--timeout", str(TIMEOUT_S)]
    with CliRunner().isolation(env={"WAYMAKER_SERVER": None}) as (_, err, _):
        began = time.monotonic()
        code = main(whole)
        took = time.monotonic() - began
        said = err.getvalue().decode()
    assert took < TIMEOUT_S + 2 * SLACK_S, said
    assert code == (exits.UNKNOWN if command in CHANGES else exits.UNAVAILABLE), said
    assert "in time" in said
