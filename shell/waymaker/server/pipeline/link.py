"""One connection of the native link: it carries one session of the pipeline over bytes of a socket.

Envelopes come in by `wire.link`, and what they hold goes to the session as it would over gRPC. Everything happens in
callbacks of the socket and at the end of the node's turns, without a task: a caller that waits alone is answered in the turn
in which its frame came. Until the session is open, a connection may send a greeting and one small envelope, and has ten
seconds for it. Sending stops while the client takes nothing, and with it, by the session's windows, reading.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, Protocol

from google.protobuf.message import DecodeError

from waymaker.server.auth.authenticator import Authenticator
from waymaker.server.config import TRANSPORT_BYTES_MAX
from waymaker.server.incidents import internal_error
from waymaker.server.node_runner import NodeRunner
from waymaker.server.pipeline.endings import HELLO_S, OVER, late_hello
from waymaker.server.pipeline.session import Session, Sessions
from waymaker.server.pipeline.work import Outgoing
from waymaker.server.refusals import UNAUTHENTICATED
from waymaker.wire.link import GREETING, SMALL_BYTES, Kind, LinkError, Receiver, envelope, header
from waymaker.wire.statuses import refused
from waymaker_core.model.result_codes import Refusal, RefusedError, invalid, resource_exhausted
from waymaker_core.model.types import ANYONE, Principal
from waymaker_proto import pipeline_pb2 as pipe

ENVELOPE_S: Final = 60.0
"""The time that an envelope may take to arrive, once it has begun."""
LINGER_S: Final = 5.0
"""The time that a client has to take the end of its session and hang up."""
WRITE_BUFFER_BYTES: Final = 256 << 10
"""Unsent bytes above which no more frames are made."""
_TEXT_MAX: Final = 1_024
ALONE_FRAMES: Final = 4
"""Frames in a row of one session alone, after which its next one is held to come alone too."""


class Figures:
    """The counts of a listener: connections, refusals, bytes, and the memory of envelopes that are not complete."""

    def __init__(self) -> None:
        self.connections = 0
        self.refused = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.held_bytes = 0


class Owner(Protocol):
    """The listener of a connection."""

    sessions: Sessions
    authenticator: Authenticator
    runner: NodeRunner
    figures: Figures
    identity: bytes
    held_bytes_max: int
    last: LinkConnection | None
    streak: int

    def opened(self, connection: LinkConnection) -> bool:
        """Note a connection; return False where it is one too many."""
        ...

    def closed(self, connection: LinkConnection) -> None:
        """Forget a connection."""
        ...


class LinkConnection(asyncio.BufferedProtocol):
    """The protocol of one socket, and the transport of its session."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._receiver = Receiver(self._largest)
        self._socket: Any = None
        self._session: Session | None = None
        self._principal: Principal = ANYONE
        self._admitted = False
        self._timer: asyncio.TimerHandle | None = None
        self._held_bytes = 0
        self._busy = False
        """Bytes are taken or sent right now: what wakes the session is looked at behind that."""
        self._woken = False
        self._no_room = False
        self._reads = True
        self._input_ended = False
        self._write_paused = False
        self._over = False

    # ------------------------------------------------------------ the socket's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: greet, say which server this is, and set the clock."""
        self._socket = transport
        self._socket.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._admitted = self._owner.opened(self)
        ready = pipe.LinkReady(server_id=self._owner.identity)
        self._write(GREETING + envelope(Kind.READY, ready.SerializeToString()))
        if self._admitted:
            self._timer = self._loop.call_later(HELLO_S, self._late)
        else:
            self._owner.figures.refused += 1
            self._end(resource_exhausted("too many connections; try again later, or use gRPC").refusal)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return room for what arrives."""
        return self._receiver.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what arrived."""
        self._owner.figures.received_bytes += nbytes
        if self._over:
            return  # what a client sends until it has read the end is of no account; the same room serves again
        self._receiver.filled(nbytes)
        self._take()

    def eof_received(self) -> bool:
        """Hang up: a client that is done says so with END before."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the session; the core finishes what was admitted."""
        self._over = True
        self._stop_timer()
        self._leave()
        self._hold(0)
        if self._admitted:
            self._owner.closed(self)

    def pause_writing(self) -> None:
        """Make no more frames until the client has taken some."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Go on sending."""
        self._write_paused = False
        self.wake()

    # ------------------------------------------------------------ the session's transport

    def wake(self) -> None:
        """Look again: there is something to send, or the session may be over."""
        if not self._busy and not self._woken and not self._over:
            self._woken = True
            self._owner.runner.behind_turn(self._look)

    def resume(self) -> None:
        """Read on: there is room again."""
        self._no_room = False
        if self._reads and not self._over:
            self._socket.resume_reading()
            self._loop.call_soon(self._take)

    def stop_reading(self) -> None:
        """Read nothing more."""
        self._reads = False
        if not self._over:
            self._socket.pause_reading()

    def finish(self) -> None:
        """End a connection without a session; one with a session ends with it."""
        if self._session is None:
            self._end(OVER)

    def abort(self) -> None:
        """Hang up without a word."""
        if self._socket is not None:
            self._socket.abort()

    # ------------------------------------------------------------ in

    def _largest(self, kind: int) -> int | None:
        if self._input_ended:
            return None
        if self._session is None:
            return SMALL_BYTES if kind == Kind.OPEN else None
        return TRANSPORT_BYTES_MAX if kind == Kind.FRAME else 0 if kind == Kind.END else None

    def _take(self) -> None:
        """Take every envelope that is complete, in one go, then send what that gave."""
        if self._over or self._busy:
            return
        self._busy = True
        frames = 0
        try:
            while self._reads and not self._no_room and (found := self._receiver.next()) is not None:
                frames += self._envelope(*found)
                del found
            self._watch()
            if frames:
                self._turn(frames)
            self._send()
        except LinkError as error:
            self._end((resource_exhausted if error.too_large else invalid)(str(error)).refusal)
        except RefusedError as error:
            self._end(error.refusal)
        except Exception as error:
            self._end(internal_error(error, "Session", self._principal, admitted=True))
        finally:
            self._busy = False

    def _envelope(self, kind: Kind, data: bytes) -> bool:
        """Take one envelope; return True for a frame."""
        if kind is Kind.OPEN:
            self._open(data)
        elif kind is Kind.FRAME:
            assert self._session is not None
            has_room = self._session.receive(data)
            self._stop_timer()
            if not has_room:
                self._no_room = True
                self._socket.pause_reading()
            return True
        else:
            assert self._session is not None
            self._input_ended = True
            self._session.end_input()
        return False

    def _open(self, data: bytes) -> None:
        """Let the client in, under the same tokens as a call. Raises `RefusedError`."""
        try:
            given = pipe.LinkOpen.FromString(data).authorization
        except DecodeError:
            raise invalid("OPEN does not hold a LinkOpen") from None
        metadata = (("authorization", given),) if given else ()
        authenticator = self._owner.authenticator
        principal = authenticator.principal(metadata)
        if principal is None:
            raise RefusedError(UNAUTHENTICATED)
        if self._owner.sessions.stopped:
            raise RefusedError(OVER)
        self._principal = principal
        self._session = self._owner.sessions.open(principal, self)
        authenticator.enter(principal, metadata, self._not_welcome)

    def _turn(self, frames: int) -> None:
        """Let the node take its turn right here where this session has been alone for a while and one call is open."""
        owner = self._owner
        if owner.last is self:
            owner.streak += 1
            if owner.streak > ALONE_FRAMES and frames == 1:
                owner.runner.turn_now()
        else:
            owner.last, owner.streak = self, 0

    def _watch(self) -> None:
        """Bound time and memory of what is not complete."""
        if self._timer is None and self._receiver.is_within and not self._no_room:
            self._timer = self._loop.call_later(ENVELOPE_S, self._late)
        capacity = self._receiver.capacity
        if capacity != self._held_bytes:
            self._hold(capacity)
            if self._owner.figures.held_bytes > self._owner.held_bytes_max and capacity > SMALL_BYTES * 8:
                raise resource_exhausted("too many large frames arrive at once; try again later")

    def _hold(self, capacity: int) -> None:
        self._owner.figures.held_bytes += capacity - self._held_bytes
        self._held_bytes = capacity

    def _late(self) -> None:
        self._timer = None
        if self._over:
            self._socket.abort()
        elif self._session is not None and self._session.greeted:
            self._end(invalid(f"a frame that takes longer than {ENVELOPE_S:g} s to arrive").refusal)
        else:
            self._end(late_hello().refusal)

    def _not_welcome(self) -> None:
        self._end(UNAUTHENTICATED)

    # ------------------------------------------------------------ out

    def _look(self) -> None:
        """Send what there is, at the end of a turn."""
        self._woken = False
        if self._over or self._busy:
            return
        self._busy = True
        try:
            self._send()
        except RefusedError as error:
            self._end(error.refusal)
        except Exception as error:
            self._end(internal_error(error, "Session", self._principal, admitted=True))
        finally:
            self._busy = False

    def _send(self) -> None:
        """Send frames while the client takes them. Raises `RefusedError` at the session's end."""
        session = self._session
        if session is None:
            return
        while not self._write_paused and (items := session.next_items()):
            self._write_frame(items)
            session.sent(items)
        if session.is_over():
            self._end(None)

    def _write_frame(self, items: list[Outgoing]) -> None:
        parts = [item.data for item in items]
        self._write(b"".join((header(Kind.FRAME, sum(map(len, parts))), *parts)))

    def _write(self, data: bytes) -> None:
        self._owner.figures.sent_bytes += len(data)
        self._socket.write(data)

    def _end(self, refusal: Refusal | None) -> None:
        """Say how the session ended, and wait for the client to hang up."""
        if self._over:
            return
        self._over = True
        self._leave()
        self._stop_timer()
        self._hold(0)
        self._timer = self._loop.call_later(LINGER_S, self._late)
        message = pipe.Refused() if refusal is None else refused(refusal)
        message.message = message.message[:_TEXT_MAX]
        self._write(envelope(Kind.END, message.SerializeToString()))
        # What still comes is read and thrown away: a socket closed with unread bytes takes what was written back.
        self._socket.resume_reading()
        if self._socket.can_write_eof():
            with suppress(OSError):  # the client has hung up
                self._socket.write_eof()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._owner.authenticator.leave(self._not_welcome)
            self._owner.sessions.close(session)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
