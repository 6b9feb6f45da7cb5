"""The native link from its page: the same session over a socket, and what it refuses."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kit.link_client import LinkCall, envelope, page
from tests.kit.server_fakes import Fixture, serving
from tests.shell.server.test_server_streaming import until
from waymaker.server.auth.tokens import Tokens, new_token
from waymaker.server.config import TRANSPORT_BYTES_MAX, Address
from waymaker.server.grpc.listener import StartError
from waymaker.server.pipeline import link as link_module
from waymaker.wire.link import GREETING, HEADER_BYTES, SMALL_BYTES, Kind
from waymaker_proto import admin_pb2
from waymaker_proto import pipeline_pb2 as pipe


def port_of(s: Fixture) -> int:
    address = s.server.listeners.link.address
    assert address is not None
    return address.port


async def server_info(s: Fixture, **options: Any) -> admin_pb2.ServerInfoResponse:
    call = s.stub("ServerInfo", "waymaker.admin.WaymakerAdminService")
    return admin_pb2.ServerInfoResponse.FromString(await call(b"", **options))


async def end_after(s: Fixture, *pieces: bytes, hang_up: bool = False) -> pipe.Refused | None:
    """Return how the server ended a connection on which these bytes were sent; None where it said nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(s))
    try:
        for piece in pieces:
            writer.write(piece)
        if hang_up:
            writer.write_eof()
        async with asyncio.timeout(5):
            data = await reader.read()
    finally:
        writer.close()
    ready = len(page().greeting) + HEADER_BYTES + 2 + 16
    assert data[: len(page().greeting)] == page().greeting
    rest = data[ready:]
    while rest:
        length, kind = int.from_bytes(rest[:4], "big"), rest[4]
        if kind == page().kinds["END"]:
            return pipe.Refused.FromString(rest[5 : 5 + length])
        rest = rest[5 + length :]
    return None


@asynccontextmanager
async def session(s: Fixture, **options: Any):  # type: ignore[no-untyped-def]
    call = LinkCall(port_of(s), **options)
    await call.write(pipe.Frame(hello=pipe.Hello(version=1)))
    assert (await call.read()).welcome.version == 1
    try:
        yield call
    finally:
        call.cancel()


def test_the_page_says_what_the_code_does() -> None:
    said = page()
    assert said.greeting == GREETING
    assert said.length_bytes + said.kind_bytes == HEADER_BYTES
    assert said.kinds == {kind.name: kind.value for kind in Kind}
    assert said.largest["FRAME", "client"] == TRANSPORT_BYTES_MAX
    assert {said.largest[name] for name in (("READY", "server"), ("OPEN", "client"), ("END", "server"))} == {
        SMALL_BYTES
    }
    assert said.largest["END", "client"] == 0


async def test_the_example_of_the_page_is_a_session() -> None:
    async with serving() as s:
        end = await end_after(s, b"".join(page().example))
        assert end == pipe.Refused(), "a good end has status 0"
        assert len(s.server.sessions) == 0


async def test_the_server_tells_where_its_link_is_and_who_it_is_there(tmp_path: Path) -> None:
    async with serving(link_socket=tmp_path / "s") as s:
        info = await server_info(s)
        assert info.link_port == port_of(s)
        assert info.link_socket == str(tmp_path / "s")
        for call in (LinkCall(info.link_port), LinkCall(0, socket_path=info.link_socket)):
            await call.connect()
            assert call.identity == info.link_id
            call.cancel()
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "s").exists()
    async with serving(link_socket=tmp_path / "s") as s:
        assert (await server_info(s)).link_id != info.link_id, "each start is another server"


async def test_a_server_without_the_link_says_so() -> None:
    async with serving(link_listen="off") as s:
        info = await server_info(s)
        assert (info.link_port, info.link_socket, info.link_id) == (0, "", b"")


async def test_the_link_is_beside_the_contract_s_port_or_where_there_is_room() -> None:
    async with serving() as s:
        taken = s.server.listeners.address.port + 1
        try:
            blocker = await asyncio.start_server(lambda *_: None, "127.0.0.1", taken)
        except OSError:
            pytest.skip("another process has the port")
        async with blocker:
            with pytest.raises(StartError, match="--link-listen"):
                async with serving(link_listen=Address("127.0.0.1", taken)):
                    pass
            async with serving(listen=Address("127.0.0.1", 0)) as other:
                assert port_of(other) != taken


@pytest.mark.parametrize(
    ("what", "pieces", "status"),
    [
        ("another protocol", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], grpc.StatusCode.INVALID_ARGUMENT),
        ("a TLS hello", [bytes.fromhex("16030100c8010000c40303") + bytes(32)], grpc.StatusCode.INVALID_ARGUMENT),
        ("a later framing", [b"WMKRLNK\x09"], grpc.StatusCode.INVALID_ARGUMENT),
        ("a frame before OPEN", [GREETING, b"\0\0\0\2\3\0\0"], grpc.StatusCode.INVALID_ARGUMENT),
        ("a kind that no page knows", [GREETING, b"\0\0\0\0\x63"], grpc.StatusCode.INVALID_ARGUMENT),
        ("an OPEN that is none", [GREETING, b"\0\0\0\1\2\xff"], grpc.StatusCode.INVALID_ARGUMENT),
        ("a large OPEN", [GREETING, b"\0\0\x40\x01\2"], grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("two OPENs", [GREETING, 2 * b"\0\0\0\0\2"], grpc.StatusCode.INVALID_ARGUMENT),
        ("a huge frame", [GREETING, b"\0\0\0\0\2", b"\xff\xff\xff\xff\3"], grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("a frame that is none", [GREETING, b"\0\0\0\0\2", b"\0\0\0\1\3\xff"], grpc.StatusCode.INVALID_ARGUMENT),
        ("no hello", [GREETING, b"\0\0\0\0\2", b"\0\0\0\0\3"], grpc.StatusCode.INVALID_ARGUMENT),
        ("an END with content", [*page().example[:3], b"\0\0\0\1\4x"], grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("more after END", [*page().example, *page().example[2:3]], grpc.StatusCode.INVALID_ARGUMENT),
    ],
)  # fmt: skip
async def test_what_is_no_session_ends_with_its_status(what: str, pieces: list[bytes], status: grpc.StatusCode) -> None:
    async with serving() as s:
        end = await end_after(s, *pieces)
        assert end is not None, what
        assert end.status == status.value[0], (what, end)
        async with session(s):
            pass
        await until(lambda: len(s.server.sessions) == 0)


async def test_bytes_may_come_one_by_one() -> None:
    async with serving() as s:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(s))
        for byte in b"".join(page().example):
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert (await reader.read()).endswith(b"\0\0\0\0\4")
        writer.close()


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "HELLO_S", 0.1)
    monkeypatch.setattr(link_module, "ENVELOPE_S", 0.1)
    monkeypatch.setattr(link_module, "LINGER_S", 0.1)
    async with serving() as s:
        for pieces in ([], [GREETING], [GREETING[:3]], [GREETING, b"\0\0\0\0\2"], [*page().example[:2], b"\0\0\0\4\3"]):
            end = await end_after(s, *pieces)
            assert end is not None
            assert "hello" in end.message
        async with session(s) as call:
            call.send(b"\0\0\1\0\3half")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: s.server.link.figures.connections == 0)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing() -> None:
    async with serving() as s:
        for pieces in ([GREETING], [GREETING, b"\0\0\0\0\2\0\0"], [*page().example[:3], b"\0\1\0\0\3half"]):
            await end_after(s, *pieces, hang_up=True)
        await until(lambda: s.server.link.figures.connections == 0)
        assert len(s.server.sessions) == 0
        assert s.server.link.figures.held_bytes == 0


async def test_connections_are_bounded_and_the_next_is_served() -> None:
    async with serving(link_connections_max=2) as s, session(s) as first, session(s):
        end = await end_after(s)
        assert end is not None
        assert end.status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert s.server.link.figures.refused == 1
        first.cancel()
        await until(lambda: s.server.link.figures.connections == 1)
        async with session(s):
            pass


async def test_large_frames_that_are_not_complete_share_a_bound() -> None:
    async with serving() as s:
        s.server.link.held_bytes_max = 3 << 20
        async with session(s) as first, session(s) as second:
            for call in (first, second):
                call.send((4 << 20).to_bytes(4, "big") + b"\3" + bytes(3 << 20))
            ends = await asyncio.gather(
                *(asyncio.wait_for(call.read(), 5) for call in (first, second)), return_exceptions=True
            )
            codes = [end.code() for end in ends if isinstance(end, grpc.aio.AioRpcError)]
            assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        await until(lambda: s.server.link.figures.held_bytes == 0)


async def test_a_client_that_takes_nothing_is_not_written_for_without_end() -> None:
    async with serving() as s:
        s.node.streams["s"] = [bytes(60_000)] * 2_000
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(s), limit=1)
        subscribe = pipe.Subscribe(id=1, stream="s", consumer="c", credit_messages=1 << 30, credit_bytes=1 << 39)
        writer.write(
            b"".join(page().example[:3]) + envelope("FRAME", pipe.Frame(subscribes=[subscribe]).SerializeToString())
        )
        sent = -1
        while sent != s.server.link.figures.sent_bytes:
            sent = s.server.link.figures.sent_bytes
            await asyncio.sleep(0.3)
        assert sent < 32 << 20, "of 120 MB, what the sockets hold and one slice"
        async with session(s):
            pass
        writer.transport.abort()
        await until(lambda: s.server.link.figures.connections == 0)
        del reader


async def test_tokens_are_judged_at_the_beginning_and_again_when_they_change(tmp_path: Path) -> None:
    token, line = new_token("ann")
    (tmp_path / "tokens").write_text(line + "\n")
    other, other_line = new_token("bob")
    async with serving(tokens=Tokens.load(tmp_path / "tokens")) as s:
        for wrong in ("", "Bearer x", token, f"Bearer {other}"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async with session(s, authorization=wrong):
                    pass
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        async with session(s, authorization=f"Bearer {token}") as call:
            await call.write(pipe.Frame(calls=[pipe.Call(id=1, method="ListStreams")]))
            assert (await call.read()).results[0].id == 1
            assert s.node.calls[0].principal.name == "ann"
            (tmp_path / "tokens").write_text(other_line + "\n")
            s.server.authenticator.change_tokens(Tokens.load(tmp_path / "tokens"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(s.server.sessions) == 0


async def test_a_server_that_stops_says_what_was_not_done() -> None:
    async with serving() as s:
        call = LinkCall(port_of(s))
        await call.write(pipe.Frame(hello=pipe.Hello(version=1)))
        assert (await call.read()).welcome.version == 1
        waiting = LinkCall(port_of(s))
        await waiting.connect()
        await s.server.drain(2.0)
        assert (await call.read()).closing.reason == "server_shutdown"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata() or ())["wmkr-outcome"] == "not-applied"
        with pytest.raises(OSError):  # noqa: PT011
            await asyncio.open_connection("127.0.0.1", port_of(s))
        assert s.server.link.figures.connections == 0


async def test_one_caller_alone_is_answered_in_the_turn_of_its_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as s:
        s.node.streams["s"] = []
        now = 0
        turn_now = s.server.runner.turn_now

        def counted() -> None:
            nonlocal now
            now += 1
            turn_now()

        monkeypatch.setattr(s.server.runner, "turn_now", counted)
        async with session(s) as call, session(s) as other:
            for id_ in range(1, 11):
                await call.write(pipe.Frame(calls=[pipe.Call(id=id_, method="ListStreams")]))
                assert (await call.read()).results[0].id == id_
            assert now >= 4
            now = 0
            for id_ in range(11, 21):
                for each in (call, other):
                    await each.write(pipe.Frame(calls=[pipe.Call(id=id_, method="ListStreams")]))
                for each in (call, other):
                    assert (await each.read()).results[0].id == id_
            assert now <= 1, "the second caller's first frame ends it: two callers share a step"
