"""A client of the native link made from its page and from nothing else of this project.

It stands for a program in another language: greeting, kinds, layout and bounds are read from the tables of
`docs/native-link.md`. A page that said something wrong would make a client that the server refuses.
"""

from __future__ import annotations

import asyncio
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio

from waymaker_proto import pipeline_pb2 as pipe

PAGE = Path(__file__).parents[2] / "docs" / "native-link.md"
_STATUSES = {code.value[0]: code for code in grpc.StatusCode}


class Page(NamedTuple):
    """The facts of the page."""

    greeting: bytes
    length_bytes: int
    kind_bytes: int
    kinds: dict[str, int]
    largest: dict[tuple[str, str], int]
    """By kind and sender."""
    example: list[bytes]
    refusals: dict[str, str]


@functools.cache
def page() -> Page:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|") and "---" not in line
    ]
    kinds: dict[str, int] = {}
    largest: dict[tuple[str, str], int] = {}
    for row in rows:
        if len(row) == 5 and row[1].isdigit():
            name = row[0].strip("`")
            kinds[name] = int(row[1])
            for sender in ("server", "client") if row[2] == "both" else (row[2],):
                largest[name, sender] = int(row[4])
    layout = {row[0]: row[1] for row in rows if len(row) == 2}
    return Page(
        _bytes(layout["greeting"]),
        int(layout["length"]),
        int(layout["kind"]),
        kinds,
        largest,
        [_bytes(row[2]) for row in rows if len(row) == 3 and row[1] == "client"],
        {row[0]: row[1].strip("`") for row in rows if len(row) == 2 and re.fullmatch(r"`[A-Z_]+`", row[1])},
    )


def _bytes(cell: str) -> bytes:
    return bytes.fromhex(cell.strip("`"))


def envelope(kind: str, content: bytes = b"") -> bytes:
    said = page()
    return len(content).to_bytes(said.length_bytes, "big") + said.kinds[kind].to_bytes(said.kind_bytes, "big") + content


class LinkCall:
    """A session with the methods of gRPC's call: `write`, `read`, `done_writing`, `cancel`, `code`."""

    def __init__(self, port: int, *, socket_path: str = "", authorization: str = "", tls: Any = None) -> None:
        self._port = port
        self._socket_path = socket_path
        self._authorization = authorization
        self._tls = tls
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._opening = asyncio.Lock()
        self._code: grpc.StatusCode | None = None
        self.identity = b""

    async def connect(self) -> None:
        """Greet, and read who the server is."""
        if self._socket_path:
            self._reader, self._writer = await asyncio.open_unix_connection(self._socket_path)
        else:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._tls, server_hostname="localhost" if self._tls else None
            )
        self.send(page().greeting)
        assert await self._reader.readexactly(len(page().greeting)) == page().greeting
        kind, content = await self.envelope()
        assert kind == page().kinds["READY"]
        self.identity = pipe.LinkReady.FromString(content).server_id

    async def _open(self) -> None:
        async with self._opening:
            if self._writer is None:
                await self.connect()
                self.send(envelope("OPEN", pipe.LinkOpen(authorization=self._authorization).SerializeToString()))

    def send(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    async def envelope(self) -> tuple[int, bytes]:
        """Return the next envelope's kind and content. Raises `IncompleteReadError` where the server hung up."""
        assert self._reader is not None
        said = page()
        length = int.from_bytes(await self._reader.readexactly(said.length_bytes), "big")
        kind = int.from_bytes(await self._reader.readexactly(said.kind_bytes), "big")
        return kind, await self._reader.readexactly(length)

    async def write(self, frame: pipe.Frame | bytes) -> None:
        await self._open()
        self.send(envelope("FRAME", frame if isinstance(frame, bytes) else frame.SerializeToString()))
        assert self._writer is not None
        await self._writer.drain()

    async def read(self) -> Any:
        """Return the next frame, or gRPC's EOF; AioRpcError where the session ended with another status than OK."""
        await self._open()
        if self._code is grpc.StatusCode.OK:
            return grpc.aio.EOF
        try:
            kind, content = await self.envelope()
        except (asyncio.IncompleteReadError, ConnectionError):
            raise _error(grpc.StatusCode.UNAVAILABLE, "the connection was closed") from None
        if kind == page().kinds["FRAME"]:
            return pipe.Frame.FromString(content)
        assert kind == page().kinds["END"], kind
        assert len(content) <= page().largest["END", "server"]
        end = pipe.Refused.FromString(content)
        self.cancel()
        self._code = _STATUSES[end.status]
        if self._code is grpc.StatusCode.OK:
            return grpc.aio.EOF
        trailers = (("wmkr-outcome", end.outcome), ("wmkr-code", end.code))
        raise _error(self._code, end.message, *[(name, value) for name, value in trailers if value])

    async def done_writing(self) -> None:
        await self._open()
        self.send(envelope("END"))

    async def code(self) -> grpc.StatusCode | None:
        return self._code

    def cancel(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()


def _error(code: grpc.StatusCode, details: str, *trailers: tuple[str, str]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details)
