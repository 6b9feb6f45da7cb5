"""The port where other members connect, and the certificates of both directions."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from waymaker.server.config import Address, ServerConfig

BACKLOG: Final = 64


class PeerPortError(Exception):
    """The port or the certificates cannot be used; the message says why."""


class PeerPort:
    """The port, bound before the node recovers; nothing is accepted before the start. Raises `PeerPortError`."""

    def __init__(self, config: ServerConfig) -> None:
        self.server_tls, self.client_tls = _contexts(config)
        wanted = config.member_address
        try:
            self.socket: socket.socket | None = _bound(wanted)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise PeerPortError(
                f"cannot listen on {wanted} for other members: {reason}; stop the process that uses it, or say "
                "--peer-listen HOST:PORT"
            ) from None
        self.address = Address(wanted.host, self.socket.getsockname()[1])

    def take_socket(self) -> socket.socket:
        """Give the socket to the listener that accepts on it."""
        found, self.socket = self.socket, None
        assert found is not None
        return found

    def close(self) -> None:
        """Give the port up, where no listener has taken it."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def _bound(address: Address) -> socket.socket:
    family, kind, protocol, _, target = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(target)
    except OSError:
        found.close()
        raise
    return found


def _contexts(config: ServerConfig) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Return the settings of TLS for connections that come and for those that are made; None without TLS."""
    cert, key, ca = config.peer_tls_cert, config.peer_tls_key, config.peer_tls_ca
    if cert is None or key is None or ca is None:
        return None, None
    found = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(cert, key)
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise PeerPortError(f"peer_tls_cert, peer_tls_key and peer_tls_ca cannot be used: {error}") from None
        found.append(context)
    return found[0], found[1]
