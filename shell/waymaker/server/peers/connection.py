"""One connection between two members. The side that made it sends messages; the other side only answers and gives signs.

Each side says its hello and is silent if the other's does not match. A side that hears nothing for some of its own ticks ends
the connection: a tick is counted and not measured, so that a process that was stopped for a while does not blame the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final, Protocol

from waymaker.server.peers.frames import FrameError, FrameReader, Kind, frame
from waymaker.server.peers.hello import Hello, HelloError, decode_hello, encode_hello

TICK_S: Final = 1.0
HELLO_TICKS_MAX: Final = 3
SILENT_TICKS_MAX: Final = 5
_REASON_CHARS_MAX: Final = 300
_USER_TIMEOUT_MS: Final = 5_000


class Owner(Protocol):
    """The keeper of a connection."""

    def connection_made(self, connection: Connection) -> bool:
        """Note a connection; return False if it is one too many."""
        ...

    def own_hello(self, connection: Connection) -> Hello:
        """Return what this member says of itself on a connection."""
        ...

    def greeted(self, connection: Connection, hello: Hello) -> str:
        """Take the other side's hello; return why the connection is refused, or nothing."""
        ...

    def message_arrived(self, connection: Connection, data: bytes) -> None:
        """Take a message."""
        ...

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """Forget a connection."""
        ...


class Connection(asyncio.Protocol):
    """One socket. `dialled` is the member that this side wanted to reach, or 0 where the other side made the connection."""

    def __init__(self, owner: Owner, dialled: int, lane: int = 0) -> None:
        self._owner = owner
        self.dialled = dialled
        self.lane = lane
        self.peer: Hello | None = None
        """The other side, once both hellos match."""
        self.address = ""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: Any = None
        self._reader = FrameReader(self._accepts)
        self._timer: asyncio.TimerHandle | None = None
        self._said_hello = False
        self._silent_ticks = 0
        self._sent = False
        """True if something was sent since the last tick."""
        self._reason = ""
        self._over = False

    # ------------------------------------------------------------ the socket's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the side that made the connection says who it is."""
        self._transport = transport
        self.address = _name(transport.get_extra_info("peername"))
        _bound_silence(transport.get_extra_info("socket"))
        if not self._owner.connection_made(self):
            self.abort("too many connections wait for a hello")
            return
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        if self.dialled:
            self._say_hello()

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        if self._over:
            return
        self._silent_ticks = 0
        try:
            self._reader.feed(data, self._take)
        except FrameError as error:
            self.refuse(f"it sent {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        self._owner.connection_ended(self, self._reason or (str(exc) if exc is not None else "it was closed"))

    # ------------------------------------------------------------ sending

    @property
    def is_ready(self) -> bool:
        """Return True if messages can be sent."""
        return self.peer is not None and not self._over

    @property
    def waiting_bytes(self) -> int:
        """Return the bytes that were written and not taken by the socket yet."""
        waiting: int = self._transport.get_write_buffer_size()
        return waiting

    def write(self, data: bytes) -> None:
        """Send whole frames."""
        self._sent = True
        self._transport.write(data)

    def _say_hello(self) -> None:
        self._said_hello = True
        self.write(frame(Kind.HELLO, encode_hello(self._owner.own_hello(self))))

    def refuse(self, reason: str) -> None:
        """End the connection with a word to the other side."""
        if not self._over:
            self._over = True
            self._reason = reason
            self.write(frame(Kind.REFUSED, reason[:_REASON_CHARS_MAX].encode()))
            self._transport.close()

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        self._over = True
        self._reason = self._reason or reason
        self._transport.abort()

    # ------------------------------------------------------------ receiving

    def _accepts(self, kind: Kind) -> bool:
        """Return True for kinds that may come now: a hello first, and messages only from the side that made the connection."""
        if self.peer is None:
            return kind in (Kind.HELLO, Kind.REFUSED)
        return kind in (Kind.KEEPALIVE, Kind.REFUSED) or (kind is Kind.MESSAGE and not self.dialled)

    def _take(self, kind: Kind, data: bytes) -> None:
        if self._over:
            return
        if kind is Kind.MESSAGE:
            self._owner.message_arrived(self, data)
        elif kind is Kind.HELLO:
            self._greet(data)
        elif kind is Kind.REFUSED:
            text = data.decode(errors="replace")
            self.abort(f"the other side said: {text}")

    def _greet(self, data: bytes) -> None:
        try:
            hello = decode_hello(data)
        except HelloError as error:
            self.refuse(str(error))
            return
        if not self.dialled:
            self.lane = hello.lane
        reason = self._owner.greeted(self, hello)
        if reason:
            self.refuse(reason)
            return
        self.peer = hello
        if not self._said_hello:
            self._say_hello()

    # ------------------------------------------------------------ time

    def _tick(self) -> None:
        """Give a sign where nothing was sent, and end a connection on which nothing arrives."""
        self._silent_ticks += 1
        if self._silent_ticks > (SILENT_TICKS_MAX if self.peer is not None else HELLO_TICKS_MAX):
            self.abort("nothing came from it")
            return
        if self.peer is not None and not self._over and not self._sent:
            self.write(frame(Kind.KEEPALIVE))
        self._sent = False
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)


def _name(address: object) -> str:
    """Return an address as text."""
    if isinstance(address, tuple) and len(address) >= 2:
        return f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"
    return str(address)


def _bound_silence(sock: Any) -> None:
    """Let the system end a connection whose bytes are not taken, and send small frames at once."""
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
