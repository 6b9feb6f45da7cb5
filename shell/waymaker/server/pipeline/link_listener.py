"""The listener of the native link: its port, its Unix socket, its certificate, and the connections that are open.

Clients find it by `ServerInfo`, so any port will do: where the one beside the contract's is taken, the system chooses. The
socket in the data directory is for the same user's programs on this machine. Both begin to listen once the node has
recovered, and a connection over the bound of all of them is refused with a word and closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import stat
from pathlib import Path
from typing import Final

import structlog

from waymaker.server.auth.authenticator import Authenticator
from waymaker.server.config import AUTO, OFF, Address, ServerConfig
from waymaker.server.grpc.listener import StartError, why_not
from waymaker.server.node_runner import NodeRunner
from waymaker.server.pipeline.link import Figures, LinkConnection
from waymaker.server.pipeline.session import Sessions
from waymaker.wire.link import ALPN
from waymaker_proto import admin_pb2

SOCKET_NAME: Final = "link.sock"
HELD_BYTES_MAX: Final = 256 << 20
"""Memory of envelopes that are not complete, of all connections."""
_BACKLOG: Final = 128
_HANDSHAKE_S: Final = 10.0
_PORT_MAX: Final = 65_535
_IDENTITY_BYTES: Final = 16
_PROBES: Final = 4

log = structlog.get_logger("waymaker.server")


class LinkPort:
    """The port of the native link, bound before the node recovers. Raises `StartError`."""

    def __init__(self, config: ServerConfig, contract: Address) -> None:
        self._config = config
        self.tls = _context(config)
        self.socket: socket.socket | None = None
        self.address: Address | None = None
        if config.link_listen == OFF:
            return
        wanted = _wanted(config, contract)
        try:
            self.socket = _bound(wanted)
        except OSError:
            if config.link_listen != AUTO:
                raise StartError(
                    f"cannot listen on {wanted} for the native link: {why_not(wanted, '--link-listen')}"
                ) from None
            try:
                self.socket = _bound(Address(wanted.host, 0))
            except OSError as error:
                raise StartError(f"cannot listen on {wanted.host} for the native link: {error.strerror}") from None
        self.address = Address(wanted.host, self.socket.getsockname()[1])
        _keep_alive(self.socket, config)

    def close(self) -> None:
        """Give the port up."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class LinkListener:
    """The connections of the native link."""

    def __init__(
        self, config: ServerConfig, port: LinkPort, sessions: Sessions, authenticator: Authenticator, runner: NodeRunner,
        figures: Figures,
    ) -> None:  # fmt: skip
        self.sessions = sessions
        self.authenticator = authenticator
        self.runner = runner
        self.figures = figures
        self.identity = os.urandom(_IDENTITY_BYTES)
        self.held_bytes_max = HELD_BYTES_MAX
        self.last: LinkConnection | None = None
        self.streak = 0
        self.socket_path: Path | None = None
        self._config = config
        self._port = port
        self._servers: list[asyncio.Server] = []
        self._open: set[LinkConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._connections_max = min(config.link_connections_max, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    # ------------------------------------------------------------ lifecycle

    async def start(self) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        if self._port.socket is not None:
            handshake_s = _HANDSHAKE_S if self._port.tls is not None else None
            server = await loop.create_server(
                self._connection, sock=self._port.socket, backlog=_BACKLOG, ssl=self._port.tls,
                ssl_handshake_timeout=handshake_s,
            )  # fmt: skip
            self._port.socket = None
            self._servers.append(server)
        await self._open_socket(loop)

    async def _open_socket(self, loop: asyncio.AbstractEventLoop) -> None:
        path = self._wanted_path()
        if path is None:
            return
        try:
            self._servers.append(
                await loop.create_unix_server(self._connection, sock=_bound_path(path), backlog=_BACKLOG)
            )
            self.socket_path = path
        except OSError as error:
            problem = error.strerror or str(error)
            if self._config.link_socket != AUTO:
                raise StartError(f"cannot serve the native link on {path}: {problem}") from None
            log.info("link_socket_not_opened", path=str(path), problem=problem)

    def _wanted_path(self) -> Path | None:
        wanted = self._config.link_socket
        if wanted == AUTO and self._port.tls is None and self._port.address is not None:
            wanted = self._config.data_dir / SOCKET_NAME
        return Path(os.path.abspath(wanted)) if isinstance(wanted, Path) else None

    def stop_accepting(self) -> None:
        """Turn new connections away."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self.socket_path is not None:
            with contextlib.suppress(OSError):
                self.socket_path.unlink()
            self.socket_path = None

    async def close(self, grace_s: float) -> None:
        """End every connection; sessions that are ending have this long to say so."""
        self.stop_accepting()
        for connection in list(self._open):
            connection.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        for connection in list(self._open):
            connection.abort()
        if self._open:
            await asyncio.sleep(0)

    def announce(self, response: admin_pb2.ServerInfoResponse) -> None:
        """Tell clients where the native link is."""
        if self._servers:
            response.link_port = self._port.address.port if self._port.address is not None else 0
            response.link_socket = str(self.socket_path or "")
            response.link_id = self.identity

    # ------------------------------------------------------------ connections

    def _connection(self) -> LinkConnection:
        return LinkConnection(self)

    def opened(self, connection: LinkConnection) -> bool:
        """Note a connection; return False where it is one too many."""
        if len(self._open) >= self._connections_max:
            return False
        self._open.add(connection)
        self._empty.clear()
        self.figures.connections = len(self._open)
        return True

    def closed(self, connection: LinkConnection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self.figures.connections = len(self._open)
        if self.last is connection:
            self.last = None
        if not self._open:
            self._empty.set()


def _wanted(config: ServerConfig, contract: Address) -> Address:
    if isinstance(config.link_listen, Address):
        return config.link_listen
    beside = contract.port + 1 if config.listen.port and contract.port < _PORT_MAX else 0
    return Address(contract.host, beside)


def _bound(address: Address) -> socket.socket:
    """Return a socket with an address, which does not listen yet."""
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


def _bound_path(path: Path) -> socket.socket:
    """Return a Unix socket at a path, which does not listen yet; one that a killed server left is replaced."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found.bind(str(path))
        path.chmod(0o600)  # only this user may connect
    except OSError:
        found.close()
        raise
    return found


def _keep_alive(listening: socket.socket, config: ServerConfig) -> None:
    """Let the system find out which clients are gone; connections inherit it from their listener."""
    interval_s = max(1, config.keepalive_timeout_ms // 1_000 // _PROBES)
    for option, value in (
        ("TCP_KEEPIDLE", max(1, config.keepalive_ms // 1_000)),
        ("TCP_KEEPINTVL", interval_s),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", config.keepalive_ms + config.keepalive_timeout_ms),
        ("TCP_NODELAY", 1),
    ):
        if hasattr(socket, option):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _context(config: ServerConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"tls_cert and tls_key cannot be used together: {error}") from None
    return context
