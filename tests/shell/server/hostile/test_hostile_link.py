"""What an ill-meaning client does with the native link of the real server: memory stays, and the next client is served."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import waymaker
from tests.kit.hostile_server import channel_to, resident_mib, unharmed_within
from tests.kit.link_client import envelope, page
from tests.kit.real_server import RealServer
from tests.shell.server.process.test_server_process import create, running
from waymaker_proto import admin_pb2
from waymaker_proto import pipeline_pb2 as pipe

pytestmark = pytest.mark.process
CONNECTIONS = 200
HELLO = b"".join(page().example[:3])
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    folder = tmp_path_factory.mktemp("hostile")
    with running(folder / "d", "--link-connections-max", str(CONNECTIONS)) as server:
        with channel_to(server) as channel:
            create(channel, "s")
        yield server


@pytest.fixture(autouse=True)
def unharmed(server: RealServer) -> Iterator[None]:
    with unharmed_within(server):
        yield
    served(server)


def info(server: RealServer) -> admin_pb2.ServerInfoResponse:
    with channel_to(server) as channel:
        call: Any = channel.unary_unary("/waymaker.admin.WaymakerAdminService/ServerInfo")
        return admin_pb2.ServerInfoResponse.FromString(call(b"", timeout=10))


def served(server: RealServer) -> None:
    """Require that the next client is served over the link, soon."""
    deadline = time.monotonic() + 20
    while True:
        with waymaker.connect_sync(server.address) as wm:
            over_link = wm._client._connection.over_link
            assert wm.publish("s", "a", b"still here") > 0
        if over_link:
            return
        assert time.monotonic() < deadline, "the link lets nobody in"
        time.sleep(0.2)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def rest(connection: socket.socket) -> bytes:
    """Return what the server still sends, to its end."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            data += piece
    return data


def status(data: bytes) -> int | None:
    """Return the status of the END among these bytes."""
    data = data[len(page().greeting) :]
    while len(data) >= 5:
        length, kind = struct.unpack(">IB", data[:5])
        if kind == page().kinds["END"]:
            return int(pipe.Refused.FromString(data[5 : 5 + length]).status)
        data = data[5 + length :]
    return None


def test_garbage_of_every_kind_is_told_so_and_hung_up_on(server: RealServer) -> None:
    port = info(server).link_port
    draw = random.Random(7)
    for number in range(150):
        noise = draw.randbytes(draw.randrange(1, 400))
        begin = (b"", page().greeting, page().greeting + envelope("OPEN"), HELLO)[number % 4]
        with connected(port) as connection:
            connection.sendall(begin + noise)
            connection.shutdown(socket.SHUT_WR)
            said = status(rest(connection))
        assert said in (None, 3, 8), "malformed, too large, or broken off before it could be told"


def test_lengths_of_gigabytes_reserve_nothing(server: RealServer) -> None:
    port = info(server).link_port
    for length in (17 * MIB + 1, 1 << 31, (1 << 32) - 1):
        with connected(port) as connection:
            connection.sendall(HELLO + length.to_bytes(4, "big") + b"\3")
            assert status(rest(connection)) == 8
    before = resident_mib(server)
    claims = [connected(port) for _ in range(50)]
    for connection in claims:
        connection.sendall(HELLO + (17 * MIB).to_bytes(4, "big") + b"\3" + bytes(1_000))
    time.sleep(0.5)
    assert resident_mib(server) - before < 40, "memory grows with what came, not with what was claimed"
    for connection in claims:
        connection.close()


def test_half_frames_of_many_connections_share_a_bound(server: RealServer) -> None:
    port = info(server).link_port
    senders = [connected(port) for _ in range(8)]
    for connection in senders:
        connection.sendall(HELLO + (17 * MIB).to_bytes(4, "big") + b"\3" + bytes(4 * MIB))
    for connection in senders:
        connection.close()


def test_a_flood_of_connections_is_bounded_and_ends_with_its_senders(server: RealServer) -> None:
    port = info(server).link_port
    flood = [connected(port) for _ in range(CONNECTIONS + 50)]
    over = [connection for connection in flood if _refused_at_once(connection)]
    assert len(over) >= 40, "those over the bound hear it"
    for connection in flood:
        connection.close()


def _refused_at_once(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        return status(rest(connection)) == 8
    except TimeoutError:
        return False


def test_connections_cut_in_the_middle_leave_nothing(server: RealServer) -> None:
    port = info(server).link_port
    batch = pipe.PublishBatch(id=1, stream="s", subjects=["a"], payloads=[bytes(1_000)] * 500)
    whole = HELLO + envelope("FRAME", pipe.Frame(publishes=[batch]).SerializeToString())
    draw = random.Random(3)
    for _ in range(100):
        connection = connected(port)
        connection.sendall(whole[: draw.randrange(len(whole))])
        if draw.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
        connection.close()


def test_a_client_that_never_reads_holds_its_own_slice(server: RealServer) -> None:
    port = info(server).link_port
    with waymaker.connect_sync(server.address) as wm:
        wm.publish_many("s", [bytes(100_000)] * 300, subject="big")
        for number in range(20):
            wm.create_consumer("s", f"c{number}")
    before = resident_mib(server)
    readers = []
    for number in range(20):
        subscribe = pipe.Subscribe(
            id=1, stream="s", consumer=f"c{number}", credit_messages=1 << 30, credit_bytes=1 << 39
        )
        connection = connected(port)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(HELLO + envelope("FRAME", pipe.Frame(subscribes=[subscribe]).SerializeToString()))
        readers.append(connection)
    time.sleep(1.5)
    assert resident_mib(server) - before < 110, "of 600 MB, a slice each"
    for connection in readers:
        connection.close()


def test_a_socket_that_a_killed_server_left_is_taken_over(tmp_path: Path) -> None:
    with running(tmp_path / "d") as server:
        path = info(server).link_socket
        assert path == str(tmp_path / "d" / "link.sock")
        server.kill()
        assert Path(path).is_socket()
        server.start()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(b"".join(page().example))
            assert status(rest(connection)) == 0
        server.terminate()
        assert not Path(path).exists()
