"""The clients' listener: a gRPC server with its bounds, its certificate and its port.

Two servers on one port would share it silently, each with half of the calls, unless the system is told to refuse; so it is.
Compressed requests are not taken: what a few bytes blow up to is the sender's to choose, and messages are rarely worth it.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import grpc

from waymaker.server.config import TRANSPORT_BYTES_MAX, Address, ServerConfig

_METADATA_BYTES: Final = 16 << 10
_HANDSHAKE_MS: Final = 10_000
_PING_INTERVAL_MIN_MS: Final = 5_000
_IDENTITY_ONLY: Final = 1


class StartError(Exception):
    """The server cannot start; the message says why and what to do."""


def new_server(config: ServerConfig) -> grpc.aio.Server:
    """Return a server without services. Needs a running event loop."""
    options: list[tuple[str, Any]] = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", TRANSPORT_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", config.calls_per_connection_max),
        # It counts calls that have ended and are not freed yet, and so refuses clients that keep to their limit.
        ("grpc.http.overload_protection", 0),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 2 * _METADATA_BYTES),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
        ("grpc.keepalive_time_ms", config.keepalive_ms),
        ("grpc.keepalive_timeout_ms", config.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_INTERVAL_MIN_MS),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=config.calls_max)


def bind(server: grpc.aio.Server, config: ServerConfig) -> Address:
    """Open the port. Raises `StartError`."""
    credentials = _credentials(config)
    try:
        if credentials is None:
            port = server.add_insecure_port(str(config.listen))
        else:
            port = server.add_secure_port(str(config.listen), credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise StartError(f"cannot listen on {config.listen}: {why_not(config.listen)}")
    return Address(config.listen.host, port)


def _credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    pieces: list[bytes] = []
    for name, path in (("tls_key", config.tls_key), ("tls_cert", config.tls_cert)):
        try:
            pieces.append(path.read_bytes())
        except OSError as error:
            raise StartError(f"{name}: {path} cannot be read: {error.strerror}") from None
    return grpc.ssl_server_credentials([(pieces[0], pieces[1])])


def why_not(address: Address, flag: str = "--listen") -> str:
    """Ask the system why an address cannot be bound, for gRPC does not say it."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return f"{reason}; stop the process that uses it or choose another address with {flag}"
    return "gRPC refused the address; with TLS, check that certificate and key belong together"


def forwarding_credentials(config: ServerConfig) -> grpc.ChannelCredentials | None:
    """Return the credentials for calls that are sent on to other members; None where they go without TLS.

    Raises `StartError`.
    """
    if config.tls_cert is None:
        return None
    authorities: bytes | None = None
    if config.forward_tls_ca is not None:
        try:
            authorities = config.forward_tls_ca.read_bytes()
        except OSError as error:
            raise StartError(f"forward_tls_ca: {config.forward_tls_ca} cannot be read: {error.strerror}") from None
    return grpc.ssl_channel_credentials(authorities)
