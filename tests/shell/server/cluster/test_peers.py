"""Peers on loopback in one event loop: messages arrive, what does not belong is refused, nothing piles up."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kit.real_server import free_port
from waymaker.server.config import Address, ClusterMember, ServerConfig
from waymaker.server.peers import connection, lanes, peers
from waymaker.server.peers.figures import LaneFigures
from waymaker.server.peers.frames import Kind, frame
from waymaker.server.peers.hello import Hello, cluster_identity, encode_hello
from waymaker.server.peers.peers import UNGREETED_MAX, Peers
from waymaker.server.peers.port import PeerPort, PeerPortError
from waymaker_core.cluster.effects import Lane

Arrived = list[tuple[int, bytes]]


class Side:
    """One member: its peers, and what arrived."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.arrived: Arrived = []
        self.peers = Peers(config, PeerPort(config))

    async def start(self) -> None:
        await self.peers.start(
            lambda sender, data: self.arrived.append((sender, data)), f"client:{self.config.node_id}", "l:1"
        )

    def send(self, to: int, lane: Lane, *messages: bytes) -> None:
        for each in messages:
            self.peers.send(to, lane, each)
        self.peers.flush()

    def counts(self, lane: Lane = Lane.LIVE) -> LaneFigures:
        return next(each for each in self.peers.figures() if each.lane is lane)


def config_of(node: int, ports: dict[int, int], **settings: object) -> ServerConfig:
    cluster = tuple(ClusterMember(each, Address("127.0.0.1", port)) for each, port in ports.items())
    return ServerConfig(data_dir=Path("unused"), node_id=node, cluster=cluster, **settings)  # type: ignore[arg-type]


def new_ports() -> dict[int, int]:
    return {1: free_port(), 2: free_port(), 3: free_port()}


@asynccontextmanager
async def two(**settings: object) -> AsyncIterator[tuple[Side, Side]]:
    """Run members 1 and 2, connected to each other; member 3 never comes."""
    ports = new_ports()
    first, second = (Side(config_of(node, ports, **settings)) for node in (1, 2))
    try:
        for side in (first, second):
            await side.start()
        await until(lambda: all(is_connected(side, lane) for side in (first, second) for lane in Lane))
        yield first, second
    finally:
        await first.peers.close()
        await second.peers.close()


def is_connected(side: Side, lane: Lane) -> bool:
    return any(each.is_connected and each.lane is lane for each in side.peers.figures())


async def until(is_true: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_true():  # noqa: ASYNC110 - anything may become true
            await asyncio.sleep(0.01)


async def test_messages_arrive_in_order_on_both_lanes_with_their_sender() -> None:
    async with two() as (first, second):
        first.send(2, Lane.LIVE, b"a", b"", b"c" * 3_000_000)
        second.send(1, Lane.BULK, b"d")
        await until(lambda: len(second.arrived) == 3 and len(first.arrived) == 1)
        assert second.arrived == [(1, b"a"), (1, b""), (1, b"c" * 3_000_000)]
        assert first.arrived == [(2, b"d")]
        assert first.counts().sent_messages == 3
        assert second.counts().received_bytes == 3_000_001


async def test_each_knows_where_clients_reach_the_other_and_nothing_of_one_that_never_came() -> None:
    async with two() as (first, second):
        assert first.peers.client_address(2) == "client:2"
        assert second.peers.client_address(1) == "client:1"
        assert first.peers.client_address(1) == "client:1"
        assert first.peers.link_address(2) == "l:1"
        assert first.peers.client_address(3) is None
        assert first.peers.client_address(9) is None


async def test_messages_for_a_member_that_is_not_there_are_dropped_and_counted() -> None:
    ports = new_ports()
    first = Side(config_of(1, ports))
    await first.start()
    try:
        first.send(2, Lane.LIVE, b"a", b"b")
        first.send(9, Lane.LIVE, b"no member")
        assert first.counts().dropped_unconnected == 2
    finally:
        await first.peers.close()


async def test_a_member_that_starts_again_is_connected_again() -> None:
    ports = new_ports()
    first, second = Side(config_of(1, ports)), Side(config_of(2, ports))
    await first.start()
    await second.start()
    await until(lambda: is_connected(first, Lane.LIVE))
    await second.peers.close()
    await until(lambda: not is_connected(first, Lane.LIVE))
    again = Side(config_of(2, ports))
    try:
        await again.start()
        await until(lambda: is_connected(first, Lane.LIVE))
        first.send(2, Lane.LIVE, b"x")
        await until(lambda: again.arrived == [(1, b"x")])
        assert first.counts().connected == 2
    finally:
        await first.peers.close()
        await again.peers.close()


async def test_a_member_that_connects_is_connected_to_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "BACKOFF_S", 60.0)
    monkeypatch.setattr(peers, "BACKOFF_MAX_S", 60.0)
    ports = new_ports()
    first, second = Side(config_of(1, ports)), Side(config_of(2, ports))
    try:
        await first.start()
        await asyncio.sleep(0.2)  # it has found that the other is not there, and pauses for long
        await second.start()
        await until(lambda: all(is_connected(first, lane) for lane in Lane))
    finally:
        await first.peers.close()
        await second.peers.close()


async def test_a_full_queue_drops_records_and_still_takes_small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "QUEUE_BYTES", 100_000)
    async with two() as (first, second):
        for _ in range(4):
            first.peers.send(2, Lane.LIVE, b"r" * 60_000)
        first.peers.send(2, Lane.LIVE, b"beat")
        assert first.counts().dropped_full == 3
        first.peers.flush()
        await until(lambda: len(second.arrived) == 2)
        assert second.arrived[1] == (1, b"beat")


async def test_one_message_that_is_greater_than_the_queue_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "QUEUE_BYTES", 1_000)
    async with two() as (first, second):
        first.send(2, Lane.LIVE, b"r" * 60_000)
        await until(lambda: len(second.arrived) == 1)
        assert first.counts().dropped_full == 0


async def test_a_message_that_no_member_takes_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MESSAGE_BYTES_MAX", 1_000)
    async with two() as (first, second):
        first.send(2, Lane.LIVE, b"r" * 1_001, b"m")
        await until(lambda: second.arrived == [(1, b"m")])
        assert first.counts().connected == 1


# ---------------------------------------------------------------- what does not belong

CLUSTER = cluster_identity("waymaker", [1, 2, 3])
HELLO = Hello(CLUSTER, 2, 1, Lane.LIVE, bytes(16), "", "")


@asynccontextmanager
async def alone() -> AsyncIterator[Side]:
    side = Side(config_of(1, new_ports()))
    await side.start()
    try:
        yield side
    finally:
        await side.peers.close()


async def answer(side: Side, data: bytes) -> bytes:
    """Return all that a member says to a connection that sends some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", side.config.member_address.port)
    writer.write(data)
    async with asyncio.timeout(10):
        said = await reader.read()
    writer.close()
    return said


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"no frame"),
        (frame(Kind.MESSAGE, b"before the hello"), b"where none belongs"),
        (frame(Kind.HELLO, b"x"), b"another protocol"),
        (frame(Kind.HELLO, encode_hello(HELLO._replace(cluster=bytes(16)))), b"another cluster"),
        (frame(Kind.HELLO, encode_hello(HELLO._replace(to=3))), b"looks for member 3"),
        (frame(Kind.HELLO, encode_hello(HELLO._replace(node_id=1))), b"member 1, too"),
        (frame(Kind.HELLO, encode_hello(HELLO._replace(node_id=4))), b"no member 4"),
        (frame(Kind.HELLO, encode_hello(HELLO)) + frame(Kind.HELLO, encode_hello(HELLO)), b"where none belongs"),
        (frame(Kind.HELLO, encode_hello(HELLO)) + frame(Kind.MESSAGE, b"x")[:-1] + b"y", b"checksum"),
    ],
)
async def test_what_does_not_belong_is_refused_with_a_word(sent: bytes, said: bytes) -> None:
    async with alone() as side:
        assert said in await answer(side, sent)
        assert side.arrived == []


async def test_a_refused_connection_is_counted_and_a_good_one_is_not() -> None:
    async with alone() as side:
        await answer(side, b"x" * 20)
        await until(lambda: side.peers.refused == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", side.config.member_address.port)
        writer.write(frame(Kind.HELLO, encode_hello(HELLO)) + frame(Kind.MESSAGE, b"m"))
        await until(lambda: side.arrived == [(2, b"m")])
        writer.close()
        await reader.read()
        assert side.peers.refused == 1


async def ended(reader: asyncio.StreamReader) -> None:
    """Read until the other side ends the connection, in order or not."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while await reader.read(1_000):
                pass


async def test_a_second_connection_of_a_member_takes_the_place_of_the_first() -> None:
    async with alone() as side:
        address = ("127.0.0.1", side.config.member_address.port)
        old, old_writer = await asyncio.open_connection(*address)
        old_writer.write(frame(Kind.HELLO, encode_hello(HELLO)))
        await old.readexactly(10)
        new, new_writer = await asyncio.open_connection(*address)
        new_writer.write(frame(Kind.HELLO, encode_hello(HELLO)))
        await new.readexactly(10)
        await ended(old)
        new_writer.write(frame(Kind.MESSAGE, b"m"))
        await until(lambda: side.arrived == [(2, b"m")])
        new_writer.close()
        old_writer.close()


async def test_connections_that_say_nothing_are_bounded_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TICK_S", 0.05)
    async with alone() as side:
        address = ("127.0.0.1", side.config.member_address.port)
        silent = [await asyncio.open_connection(*address) for _ in range(UNGREETED_MAX + 1)]
        await until(lambda: side.peers.refused == len(silent))
        for _, writer in silent:
            writer.close()


async def test_signs_keep_an_idle_lane_and_a_member_that_falls_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "TICK_S", 0.05)
    async with two() as (first, second):
        await asyncio.sleep(0.6)  # twice what ends a silent connection
        assert first.counts().connected == second.counts().connected == 1
    async with alone() as side:
        reader, writer = await asyncio.open_connection("127.0.0.1", side.config.member_address.port)
        writer.write(frame(Kind.HELLO, encode_hello(HELLO)))
        await ended(reader)
        assert side.peers.refused == 0
        writer.close()


# ---------------------------------------------------------------- TLS


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_certificates(folder: Path) -> dict[str, Path]:
    """Make an authority and a certificate of it for this machine; return the settings that use them."""
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *key, "-keyout", folder / "ca.key", "-days", 2, "-subj", "/CN=ca", "-out", folder / "ca.pem"
    )
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("req", *key, "-keyout", folder / "own.key", "-subj", "/CN=member", "-out", folder / "own.csr")
    openssl("x509", "-req", "-in", folder / "own.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
            "-CAcreateserial", "-extfile", folder / "ext", "-days", 2, "-out", folder / "own.pem")  # fmt: skip
    return {
        "peer_tls_cert": folder / "own.pem", "peer_tls_key": folder / "own.key", "peer_tls_ca": folder / "ca.pem",
    }  # fmt: skip


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@needs_openssl
async def test_members_with_certificates_of_one_authority_talk_over_tls(tmp_path: Path) -> None:
    async with two(**make_certificates(tmp_path / "a")) as (first, second):
        first.send(2, Lane.LIVE, b"a" * 500_000)
        await until(lambda: second.arrived == [(1, b"a" * 500_000)])


@needs_openssl
async def test_a_member_with_a_certificate_of_another_authority_is_none(tmp_path: Path) -> None:
    ports = new_ports()
    first = Side(config_of(1, ports, **make_certificates(tmp_path / "a")))
    second = Side(config_of(2, ports, **make_certificates(tmp_path / "b")))
    third = Side(config_of(3, ports))
    try:
        for side in (first, second, third):
            await side.start()
        await asyncio.sleep(0.5)
        assert not any(is_connected(side, lane) for side in (first, second, third) for lane in Lane)
    finally:
        for side in (first, second, third):
            await side.peers.close()


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = {name: tmp_path / name for name in ("peer_tls_cert", "peer_tls_key", "peer_tls_ca")}
    with pytest.raises(PeerPortError, match="peer_tls_cert"):
        PeerPort(config_of(1, new_ports(), **missing))


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    config = config_of(1, new_ports())
    held = PeerPort(config)
    held.socket.listen()  # type: ignore[union-attr]
    with pytest.raises(PeerPortError, match="--peer-listen"):
        PeerPort(config)
    held.close()
