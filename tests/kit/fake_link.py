"""The native link of the client's fake server: it carries the same sessions as the fake's gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, ClassVar, NoReturn, Protocol

import grpc

from tests.kit.link_client import envelope, page
from waymaker_proto import pipeline_pb2 as pl


class Sessions(Protocol):
    """The fake server, as its link sees it."""

    link_id: bytes
    metadata: list[dict[str, Any]]
    refuse_sessions: grpc.StatusCode | None

    def frames_of(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]: ...


class _Ended(Exception):
    def __init__(self, end: pl.Refused) -> None:
        super().__init__(end.message)
        self.end = end


class _Context:
    """The part of gRPC's context that a session needs."""

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailers: tuple[tuple[str, str], ...] = ()
    ) -> NoReturn:
        outcome = dict(trailers).get("wmkr-outcome", "")
        raise _Ended(pl.Refused(status=code.value[0], message=details, outcome=outcome))


class FakeLink:
    """A listener of the native link. `offered`: fake servers have one, and tell of it."""

    offered: ClassVar[bool] = False

    def __init__(self, server: Sessions) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        self._server.link_id = secrets.token_bytes(16)
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Hang up on every client at once."""
        assert self._listener is not None
        self._listener.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._session(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kinds = page().kinds
        writer.write(
            page().greeting + envelope("READY", pl.LinkReady(server_id=self._server.link_id).SerializeToString())
        )
        assert await reader.readexactly(len(page().greeting)) == page().greeting

        async def read() -> tuple[int, bytes]:
            head = await reader.readexactly(page().length_bytes + page().kind_bytes)
            length = int.from_bytes(head[: page().length_bytes], "big")
            return int.from_bytes(head[page().length_bytes :], "big"), await reader.readexactly(length)

        async def frames() -> AsyncIterator[bytes]:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    kind, content = await read()
                    if kind != kinds["FRAME"]:
                        return
                    yield content

        kind, content = await read()
        assert kind == kinds["OPEN"]
        authorization = pl.LinkOpen.FromString(content).authorization
        self._server.metadata.append({"authorization": authorization} if authorization else {})
        end = pl.Refused()
        try:
            if self._server.refuse_sessions is not None:
                await _Context().abort(self._server.refuse_sessions, "refused by the test")
            sending = self._server.frames_of(frames(), _Context())
            async with contextlib.aclosing(sending):  # type: ignore[type-var]
                async for data in sending:
                    writer.write(envelope("FRAME", data))
                    await writer.drain()
        except _Ended as ended:
            end = ended.end
        writer.write(envelope("END", end.SerializeToString()))
        await writer.drain()
