"""The carriers of a session: gRPC's call here, the native link in `link`; and their view of the connection.

A carrier moves frames as bytes and says how the session ended. What the frames mean, and what follows from an end, is the
connection's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

import grpc
import grpc.aio

from waymaker.client.connection.failures import end_of_session
from waymaker.client.errors import UNKNOWN, ConnectionLostError, WaymakerError
from waymaker.wire.grpc_calls import Call, CallEnded, begin, send
from waymaker.wire.protocol import PIPELINE_SERVICE

METHOD = f"/{PIPELINE_SERVICE}/Session"


class Host(Protocol):
    """The connection, as its carriers see it."""

    @property
    def target(self) -> str: ...

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]: ...

    def hello(self) -> bytes:
        """Return the first frame of a session."""
        ...

    def received(self, data: bytes) -> None:
        """Take a frame."""
        ...

    def next_frame(self) -> bytes | None:
        """Return the next frame, or None where nothing may be sent now."""
        ...

    def frame_sent(self) -> None:
        """Note that the frame was taken over."""
        ...


class Carrier(Protocol):
    """One session's way to the server."""

    async def run(self) -> WaymakerError:
        """Carry the session from its hello to its end; return why it ended."""
        ...

    def wake(self) -> None:
        """Ask for the next frame soon: what is wanted in one turn of the loop travels together."""
        ...

    def send_now(self) -> None:
        """Send the next frame right here, where the carrier can."""
        ...

    def hang_up(self) -> None:
        """End the session without waiting for the server."""
        ...

    @property
    def held(self) -> tuple[object, ...]:
        """Return the objects that hold the socket."""
        ...


class GrpcCarrier:
    """The pipeline's call on a gRPC channel. One task reads, one writes."""

    def __init__(self, host: Host, channel: grpc.aio.Channel) -> None:
        self._host = host
        self._call: Call = channel.stream_stream(METHOD)(metadata=host.metadata)
        self._wake = asyncio.Event()

    async def run(self) -> WaymakerError:
        """Carry the session from its hello to its end; return why it ended."""
        call: Any = self._call
        target = self._host.target
        writer: asyncio.Task[None] | None = None
        try:
            with contextlib.suppress(CallEnded):  # reading says why
                await begin(call)
                await send(call, self._host.hello())
            while (data := await call.read()) is not grpc.aio.EOF:
                self._host.received(data)
                if writer is None:
                    writer = asyncio.get_running_loop().create_task(self._write(), name="waymaker-writer")
            if await call.code() is not grpc.StatusCode.OK:
                return await end_of_session(call, target)
        except grpc.aio.AioRpcError:
            return await end_of_session(call, target)
        finally:
            if writer is not None:
                writer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await writer
        return ConnectionLostError(f"{target} ended the session", outcome=UNKNOWN)

    async def _write(self) -> None:
        """Send frames until the session ends."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (data := self._host.next_frame()) is not None:
                    await send(self._call, data)
                    self._host.frame_sent()
        except CallEnded:
            pass  # the reader sees the same end, with its reason

    def wake(self) -> None:
        """Ask for the next frame soon."""
        self._wake.set()

    def send_now(self) -> None:
        """Do nothing: gRPC's writes are awaited, so the writer does them."""

    def hang_up(self) -> None:
        """End the session without waiting for the server."""
        self._call.cancel()

    @property
    def held(self) -> tuple[object, ...]:
        """Return the objects that hold the socket."""
        return (self._call,)
