"""Mistakes with TLS, certificates and addresses: each is named for what it is, to programs and at the command line."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

import waymaker
from tests.kit.client_fake_server import FakeServer, threaded_server
from tests.kit.real_server import LAUNCH, RealServer
from waymaker.server.auth.tokens import new_token
from waymaker_proto import admin_pb2

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


class Identity(NamedTuple):
    cert: Path
    key: Path


class Papers(NamedTuple):
    """Certificates of two authorities."""

    ca: Path
    other_ca: Path
    server: Identity
    elsewhere: Identity
    expired: Identity
    client: Identity
    stranger: Identity


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _authority(folder: Path, name: str) -> Identity:
    made = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(made.key))
    _openssl("req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", "-out", str(made.cert))
    return made


def _signed(folder: Path, name: str, by: Identity, names: str, *validity: str) -> Identity:
    made = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(made.key))
    _openssl("req", *key, "-subj", f"/CN={name}", "-out", str(request))
    signing = ("-CA", str(by.cert), "-CAkey", str(by.key), "-CAcreateserial", "-extfile", str(extensions))
    _openssl("x509", "-req", "-in", str(request), *signing, *(validity or ("-days", "2")), "-out", str(made.cert))
    return made


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = _authority(folder, "ours"), _authority(folder, "theirs")
    here = "DNS:localhost,IP:127.0.0.1"
    return Papers(
        ours.cert,
        theirs.cert,
        _signed(folder, "server", ours, here),
        _signed(folder, "elsewhere", ours, "DNS:streams.example.org"),
        _signed(folder, "expired", ours, here, "-days", "-1"),
        _signed(folder, "client", ours, "DNS:client"),
        _signed(folder, "stranger", theirs, "DNS:stranger"),
    )


def credentials(identity: Identity, client_ca: Path | None = None) -> grpc.ServerCredentials:
    pair = (identity.key.read_bytes(), identity.cert.read_bytes())
    ca = None if client_ca is None else client_ca.read_bytes()
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


@pytest.fixture
def plain() -> Iterator[FakeServer]:
    with threaded_server() as fake:
        yield fake


@pytest.fixture
def encrypted(papers: Papers) -> Iterator[FakeServer]:
    with threaded_server(credentials(papers.server)) as fake:
        yield fake


def refused(target: str, **options: Any) -> waymaker.WaymakerError:
    with pytest.raises(waymaker.WaymakerError) as caught, waymaker.connect_sync(target, **options):
        pass
    assert "OPENSSL" not in str(caught.value).upper()
    return caught.value


def command(*arguments: str) -> tuple[int, str]:
    """The exit code and everything printed; it is a process because gRPC's C++ parts write past Python."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WAYMAKER_", "GRPC_"))}
    whole = [sys.executable, "-c", LAUNCH, *arguments]
    ran = subprocess.run(whole, capture_output=True, text=True, timeout=60, env=environment, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def test_the_right_papers_are_let_in(encrypted: FakeServer, papers: Papers) -> None:
    with waymaker.connect_sync(encrypted.target, tls=waymaker.TLS(ca=papers.ca)) as wm:
        assert wm.list_streams() == []
    with threaded_server(credentials(papers.server, papers.ca)) as strict:
        tls = waymaker.TLS(papers.ca, papers.client.cert, papers.client.key)
        with waymaker.connect_sync(strict.target, tls=tls) as wm:
            assert wm.list_streams() == []


def test_a_plain_client_at_a_server_with_tls(encrypted: FakeServer) -> None:
    error = refused(encrypted.target)
    assert isinstance(error, waymaker.HandshakeError)
    assert (error.code, error.outcome) == ("tls_needed", waymaker.NOT_APPLIED)
    assert str(error) == (
        f"{encrypted.target} speaks TLS, and this client does not; use tls=True, or tls=waymaker.TLS(ca=FILE)"
    )


def test_a_client_with_tls_at_a_plain_server(plain: FakeServer, papers: Papers) -> None:
    assert refused(plain.target, tls=waymaker.TLS(ca=papers.ca)).code == "tls_not_spoken"
    assert refused(plain.target, tls=True).code == "tls_not_spoken"


def test_an_authority_that_did_not_sign_the_server_s_certificate(encrypted: FakeServer, papers: Papers) -> None:
    error = refused(encrypted.target, tls=waymaker.TLS(ca=papers.other_ca))
    assert error.code == "certificate_not_trusted"
    assert str(papers.other_ca) in str(error)
    error = refused(encrypted.target, tls=True)
    assert error.code == "certificate_not_trusted"
    assert "of this system" in str(error)


def test_a_certificate_for_another_name(papers: Papers) -> None:
    with threaded_server(credentials(papers.elsewhere)) as fake:
        error = refused(fake.target, tls=waymaker.TLS(ca=papers.ca))
        assert error.code == "certificate_name"
        assert "for streams.example.org, not for 127.0.0.1" in str(error)
        right = waymaker.TLS(ca=papers.ca, server_name="streams.example.org")
        with waymaker.connect_sync(fake.target, tls=right) as wm:
            assert wm.list_streams() == []


def test_a_certificate_that_has_expired(papers: Papers) -> None:
    with threaded_server(credentials(papers.expired)) as fake:
        error = refused(fake.target, tls=waymaker.TLS(ca=papers.ca))
        assert error.code == "certificate_expired"
        assert "has expired" in str(error)


def test_a_client_certificate_that_is_missing_or_a_stranger_s(papers: Papers) -> None:
    with threaded_server(credentials(papers.server, papers.ca)) as fake:
        error = refused(fake.target, tls=waymaker.TLS(ca=papers.ca))
        assert error.code == "client_certificate"
        assert "none was given" in str(error)
        stranger = waymaker.TLS(papers.ca, papers.stranger.cert, papers.stranger.key)
        error = refused(fake.target, tls=stranger)
        assert error.code == "client_certificate"
        assert f"does not accept the certificate in {papers.stranger.cert}" in str(error)


def test_files_that_cannot_be_used_are_named_before_anything_is_sent(
    encrypted: FakeServer, papers: Papers, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n")
    absent, client, server = tmp_path / "absent.pem", papers.client, papers.server
    for tls, said in (
        (waymaker.TLS(ca=absent), f"cannot read {absent}: No such file"),
        (waymaker.TLS(ca=tmp_path), f"cannot read {tmp_path}: Is a directory"),
        (waymaker.TLS(ca=garbage), f"{garbage} holds no certificate of an authority"),
        (waymaker.TLS(ca=client.key), f"{client.key} holds no certificate of an authority"),
        (waymaker.TLS(papers.ca, client.cert, absent), f"cannot read {absent}"),
        (waymaker.TLS(papers.ca, client.cert, server.key), f"{server.key} does not belong to the certificate"),
        (waymaker.TLS(papers.ca, client.key, client.cert), "are not a certificate and its private key"),
    ):
        error = refused(encrypted.target, tls=tls, wait_for_server=True)
        assert isinstance(error, waymaker.UsageError)
        assert said in str(error)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://127.0.0.1:7411", "is a URL; give the address alone, such as 127.0.0.1:7411"),
        ("https://streams.example.org:7411/x", "alone with tls, such as streams.example.org:7411"),
        ("tcp://10.0.0.1:7411", "such as 10.0.0.1:7411"),
        ("127.0.0.1:http", "a port from 1 to 65535"),
        ("127.0.0.1:0", "a port from 1 to 65535"),
        (":7411", "give HOST:PORT"),
    ],
)
def test_an_address_that_is_none_is_refused(target: str, said: str) -> None:
    with pytest.raises(waymaker.UsageError, match=said):
        waymaker.connect(target)
    code, printed = command("stream", "ls", "--server", target)
    assert code == 2
    assert said in printed


def test_another_kind_of_server_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        held: list[socket.socket] = []

        def web(answer: bytes) -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    if answer:
                        connection.recv(100)
                        connection.sendall(answer)
                        connection.close()
            except OSError:
                return

        thread = threading.Thread(target=web, args=(b"HTTP/1.1 400 Bad Request\r\n\r\n",), daemon=True)
        thread.start()
        error = refused(target, connect_timeout=10)
        assert error.code == "not_waymaker"
        assert "speaks HTTP/1" in str(error)
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


async def test_a_server_that_takes_connections_and_says_nothing() -> None:
    async with await asyncio.start_server(lambda *_: asyncio.sleep(60), "127.0.0.1", 0) as silent:
        target = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        for tls in (None, True):
            began = asyncio.get_running_loop().time()
            with pytest.raises(waymaker.UnavailableError, match=r"says nothing|no answer|cannot reach"):
                async with waymaker.connect(target, connect_timeout=1.5, tls=tls):
                    pass
            assert asyncio.get_running_loop().time() - began < 10


def test_the_command_line_says_what_to_type_and_nothing_of_the_libraries(
    plain: FakeServer, encrypted: FakeServer, papers: Papers, tmp_path: Path
) -> None:
    (tmp_path / "garbage.pem").write_text("nonsense")
    for options, expected, said, advice in (
        ((encrypted.target,), 6, "speaks TLS, and this client does not (tls_needed)", "next: --tls, or --ca FILE"),
        ((plain.target, "--tls"), 6, "does not speak TLS (tls_not_spoken)", "next: leave out --tls"),
        ((encrypted.target, "--ca", str(papers.other_ca)), 6, "none of the authorities in", "next: --ca FILE"),
        ((encrypted.target, "--ca", str(tmp_path / "garbage.pem")), 2, "holds no certificate", ""),
        ((encrypted.target, "--ca", str(tmp_path / "absent.pem")), 2, "No such file", ""),
        ((encrypted.target, "--ca", str(papers.ca), "--tls-name", "x.org"), 6, "not for x.org", "--tls-name NAME"),
    ):
        code, printed = command("stream", "ls", "--server", *options)
        assert code == expected, printed
        assert said in printed
        assert advice in printed
        assert len(printed.splitlines()) <= 2, printed


@pytest.mark.process
def test_the_native_link_has_the_server_s_certificate_and_asks_for_the_token(papers: Papers, tmp_path: Path) -> None:
    token, line = new_token("ann")
    (tmp_path / "tokens").write_text(line + "\n")
    server = RealServer(
        tmp_path / "d", "--tls-cert", str(papers.server.cert), "--tls-key", str(papers.server.key),
        "--tokens", str(tmp_path / "tokens"),
    )  # fmt: skip
    server.start()
    try:
        trusting = waymaker.TLS(ca=papers.ca)
        with waymaker.connect_sync(server.address, tls=trusting, token=token) as wm:
            assert wm._client._connection.over_link
            wm.create_stream("s")
            assert len(wm.publish_many("s", [bytes(100_000)] * 50, subject="a")) == 50
            port = _link_port(server, token, papers)
            silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
            for number, connection in enumerate(silent):
                connection.sendall(
                    (b"", b"WMKRLNK\x01", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n")[number % 4]
                )
            assert wm.publish("s", "a", b"x") == 51
        with waymaker.connect_sync(server.address, tls=trusting, token=token) as wm:
            assert wm._client._connection.over_link, "connections without a handshake keep nobody out"
        for connection in silent:
            connection.close()
        assert isinstance(refused(server.address, tls=trusting, token="wmk_other"), waymaker.UnauthenticatedError)
        assert not (tmp_path / "d" / "link.sock").exists(), "without TLS there is no way in"
    finally:
        server.close()


def _link_port(server: RealServer, token: str, papers: Papers) -> int:
    credentials = grpc.ssl_channel_credentials(papers.ca.read_bytes())
    with grpc.secure_channel(server.address, credentials) as channel:
        call: Any = channel.unary_unary("/waymaker.admin.WaymakerAdminService/ServerInfo")
        answer = call(b"", timeout=10, metadata=(("authorization", f"Bearer {token}"),))
    return admin_pb2.ServerInfoResponse.FromString(answer).link_port
