"""Sessions of the pipeline over gRPC: one call of `waymaker.pipeline` carries one session.

The task of the call sends, a second one reads. A session that ends with a refusal ends its call with that status.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from waymaker.server.grpc.calls import Context, SessionCall
from waymaker.server.incidents import internal_error
from waymaker.server.pipeline.endings import HELLO_S, OVER, late_hello
from waymaker.server.pipeline.session import Session, Sessions
from waymaker.server.refusals import abort
from waymaker_core.model.result_codes import Refusal, RefusedError
from waymaker_core.model.types import Principal


class GrpcSessions:
    """The pipeline's service of the gRPC listener."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def methods(self) -> dict[str, SessionCall]:
        """Return the handlers by the RPC's name."""
        return {"Session": self.serve}

    async def serve(self, principal: Principal, requests: object, context: Context) -> None:
        """Serve one session from its first frame to its end."""
        if self._sessions.stopped:
            await abort(context, OVER)
        transport = GrpcTransport(context)
        session = self._sessions.open(principal, transport)
        refusal: Refusal | None = None
        try:
            await transport.run(session)
        except RefusedError as error:
            refusal = error.refusal
        except Exception as error:
            refusal = internal_error(error, "Session", principal, admitted=True)
        finally:
            transport.stop_reading()
            self._sessions.close(session)
        if refusal is not None:
            await abort(context, refusal)


class GrpcTransport:
    """The call that carries one session."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    async def run(self, session: Session) -> None:
        """Read and send until the session is over. Raises `RefusedError`."""
        reader = self._reader = asyncio.get_running_loop().create_task(self._read(session))
        reader.add_done_callback(lambda _: self.wake())
        try:
            while True:
                if reader.done() and not reader.cancelled():
                    reader.result()
                if session.is_over():
                    return
                if items := session.next_items():
                    data = b"".join([item.data for item in items]) if len(items) > 1 else items[0].data
                    await self._context.write(data)
                    session.sent(items)
                else:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
        finally:
            reader.cancel()
            # Its exception holds the frame that was refused, and would keep it until the next full collection.
            del reader
            self._reader = None

    def wake(self) -> None:
        """Look again: there is something to send, or the session may be over."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def resume(self) -> None:
        """Read on: there is room again."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def stop_reading(self) -> None:
        """Read nothing more."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self, session: Session) -> None:
        while True:
            try:
                async with asyncio.timeout(None if session.greeted else HELLO_S):
                    data: Any = await self._context.read()
            except TimeoutError:
                raise late_hello() from None
            if data is grpc.aio.EOF:
                session.end_input()
                return
            has_room = session.receive(data)
            del data
            if not has_room:
                self._room = asyncio.get_running_loop().create_future()
                await self._room
