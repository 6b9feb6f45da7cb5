"""The native link: the session over a socket of its own, without gRPC.

It runs in callbacks of the socket, so that an answer reaches its caller with no task in between. A link that cannot be opened,
or whose server is another one than `ServerInfo` told, is no error: the connection goes on over gRPC. Credentials are sent only
once the server has said that it is the one that was meant.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any, Final, NamedTuple

from waymaker.client.connection.carriers import Host
from waymaker.client.connection.failures import CLOSED, ended_with
from waymaker.client.errors import DataLossError, UnavailableError, WaymakerError
from waymaker.client.options import RECEIVE_BYTES_MAX, Options, host_and_port, is_local
from waymaker.wire.link import ALPN, GREETING, SMALL_BYTES, Kind, LinkError, Receiver, envelope, header
from waymaker_proto import pipeline_pb2 as pl

OPEN_S: Final = 2.0
"""The time that a link may take to open before gRPC is used, at most."""
WRITE_BUFFER_BYTES: Final = 1 << 20
_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2), ("TCP_USER_TIMEOUT", 40_000),
)  # fmt: skip


class Place(NamedTuple):
    """The place of a native link, as its server tells it."""

    port: int
    socket_path: str
    identity: bytes


class LinkUnusable(Exception):
    """A link that cannot be used; the message says why."""


async def open_link(host: Host, options: Options, place: Place) -> LinkCarrier:
    """Connect, and make sure that it is the server that was meant. Raises `LinkUnusable`."""
    problem = "it is not offered here"
    for connect in _ways(options, place):
        carrier = LinkCarrier(host)
        try:
            async with asyncio.timeout(min(OPEN_S, options.connect_timeout / 3)):
                await connect(carrier)
                identity = await carrier.ready
            if identity == place.identity:
                return carrier
            problem = "another server answers there"
        except TimeoutError:
            problem = "no answer in time"
        except (OSError, LinkError, LinkUnusable) as error:
            problem = str(error) or type(error).__name__
        except BaseException:
            carrier.hang_up()
            raise
        carrier.hang_up()
    raise LinkUnusable(problem)


def _ways(options: Options, place: Place) -> list[Any]:
    """Return the ways to connect a carrier, the quickest first."""
    loop = asyncio.get_running_loop()
    ways: list[Any] = []
    if place.socket_path and options.tls is None and is_local(options.target) and os.path.exists(place.socket_path):
        ways.append(lambda carrier: loop.create_unix_connection(lambda: carrier, place.socket_path))
    name, _ = host_and_port(options.target)
    if place.port and name:
        context, verified = None, None
        if options.tls is not None:
            from waymaker.client.tls.certificates import context_of

            context, verified = context_of(options.tls, ALPN), options.tls.server_name or name
        ways.append(
            lambda carrier: loop.create_connection(
                lambda: carrier, name, place.port, ssl=context, server_hostname=verified
            )
        )
    return ways


class LinkCarrier(asyncio.BufferedProtocol):
    """One connection of the native link."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._receiver = Receiver(self._largest)
        self._socket: Any = None
        self._sends: asyncio.Handle | None = None
        """The sending that is scheduled."""
        self._opened = False
        self._write_paused = False
        self._busy = False
        self._woken = False
        self.ready: asyncio.Future[bytes] = self._loop.create_future()
        """The identity of the server, once it has said it."""
        self._end: asyncio.Future[WaymakerError] = self._loop.create_future()

    async def run(self) -> WaymakerError:
        """Carry the session from its hello to its end; return why it ended."""
        authorization = dict(self._host.metadata).get("authorization", "")
        self._socket.write(envelope(Kind.OPEN, pl.LinkOpen(authorization=authorization).SerializeToString()))
        self._socket.write(envelope(Kind.FRAME, self._host.hello()))
        self._opened = True
        return await self._end

    def wake(self) -> None:
        """Ask for the next frame soon."""
        if self._busy:
            self._woken = True
        elif self._sends is None and not self._write_paused:
            self._sends = self._loop.call_soon(self._send)

    def send_now(self) -> None:
        """Send the next frame right here."""
        if not self._busy and not self._write_paused:
            if self._sends is not None:
                self._sends.cancel()
            self._send()

    def hang_up(self) -> None:
        """End the session without waiting for the server."""
        if self._sends is not None:
            self._sends.cancel()
        for future in (self.ready, self._end):
            future.cancel()
        if self._socket is not None:
            self._socket.abort()

    @property
    def held(self) -> tuple[object, ...]:
        """Return the objects that hold the socket."""
        return (self, self._socket)

    # ------------------------------------------------------------ the socket's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport
        self._socket.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        _keep_alive(self._socket.get_extra_info("socket"))
        self._socket.write(GREETING)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._receiver.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Take every envelope that is complete."""
        if self._end.done():
            return
        self._receiver.filled(nbytes)
        self._busy = True
        try:
            while not self._end.done() and (found := self._receiver.next()) is not None:
                self._envelope(*found)
        except LinkError as error:
            self._lost(DataLossError(f"{self._host.target}: {error}"))
        except Exception as error:
            self._fail(error)
        self._busy = False
        if self._woken:
            self._woken = False
            self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session: the server said nothing of its end."""
        if not self.ready.done():
            self.ready.set_exception(LinkUnusable("the server hung up"))
        self._lost(UnavailableError(f"{self._host.target}: {CLOSED}"))

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self.wake()

    # ------------------------------------------------------------ envelopes

    def _largest(self, kind: int) -> int | None:
        if not self.ready.done():
            return SMALL_BYTES if kind in (Kind.READY, Kind.END) else None
        return RECEIVE_BYTES_MAX if kind == Kind.FRAME else SMALL_BYTES if kind == Kind.END else None

    def _envelope(self, kind: Kind, data: bytes) -> None:
        if kind is Kind.FRAME:
            if self._opened:
                self._host.received(data)
        elif kind is Kind.READY:
            self.ready.set_result(pl.LinkReady.FromString(data).server_id)
        else:
            self._lost(ended_with(pl.Refused.FromString(data), self._host.target))

    def _send(self) -> None:
        """Send frames while the server takes them."""
        self._sends = None
        if self._end.done():
            return
        try:
            while not self._write_paused and (data := self._host.next_frame()) is not None:
                self._socket.write(b"".join((header(Kind.FRAME, len(data)), data)))
                self._host.frame_sent()
        except Exception as error:
            self._fail(error)

    def _lost(self, error: WaymakerError) -> None:
        if not self._end.done():
            self._end.set_result(error)
        if not self.ready.done():
            self.ready.set_exception(LinkUnusable(str(error)))

    def _fail(self, error: Exception) -> None:
        """End the session's task with what should not have been raised."""
        if not self._end.done():
            self._end.set_exception(error)


def _keep_alive(found: Any) -> None:
    """Let the system find out that the server is gone."""
    if found is None or found.family == socket.AF_UNIX:
        return
    with contextlib.suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
