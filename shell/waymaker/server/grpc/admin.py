"""The operator's service: archives out and in, facts about the server, a change tried without making it.

A restore reserves the name, takes batches in as ordinary durable work, and opens the stream only once the archive's own summary
has been verified; whatever breaks it off gives the reservation up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from waymaker.server.grpc.calls import Calls, Context, SessionCall, StreamCall, UnaryCall
from waymaker.server.grpc.export import Export
from waymaker.server.grpc.reservation import Reservation
from waymaker.server.grpc.rpcs import PREVIEW_UPDATE, coded
from waymaker.server.incidents import internal_error
from waymaker.server.node_runner import NodeRunner
from waymaker.server.objects.asking import Lease
from waymaker.server.refusals import abort
from waymaker.storage.store import Bodies
from waymaker_core.api import requests as core
from waymaker_core.api.object_requests import HoldBucket
from waymaker_core.model.result_codes import (
    OK,
    Answer,
    CodeError,
    Outcome,
    Refusal,
    RefusedError,
    Status,
    invalid,
    resource_exhausted,
)
from waymaker_core.model.types import Principal
from waymaker_core.node.stream_replica import NOT_LEADING
from waymaker_core.objects.names import STREAM_PREFIX
from waymaker_core.storage.archive import ArchiveError, ArchiveReader, Batch, Head, Summary
from waymaker_proto import admin_pb2

TRANSFER_CORRUPTED: Final = "transfer_corrupted"

RESTORES_MAX: Final = 4
"""Restores at once: each may hold a piece of its archive."""
_PIECE_BYTES: Final = 1 << 20
_UPLOAD_PAUSE_S: Final = 60.0
_OPENING_S: Final = 10.0
"""The time that a stream which was just created may take to be led."""
_OPENING_PAUSE_S: Final = 0.02


class RestoreFailed(Exception):
    """A restore that ends with a result code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Admin:
    """The operator's calls. `facts` fills in what the server knows of itself, `cluster` what it knows of its cluster."""

    def __init__(
        self, runner: NodeRunner, calls: Calls, facts: Callable[[admin_pb2.ServerInfoResponse], None],
        cluster: Callable[[admin_pb2.ClusterStatusResponse], None],
    ) -> None:  # fmt: skip
        self._runner = runner
        self._calls = calls
        self._facts = facts
        self._cluster = cluster
        self._started = time.monotonic()
        self._restores = 0

    def unary(self) -> dict[str, UnaryCall]:
        """Return calls with one message each way."""
        return {
            "ServerInfo": self.server_info,
            "ClusterStatus": self.cluster_status,
            "PreviewUpdate": partial(self._calls.serve, PREVIEW_UPDATE),
        }

    def streams(self) -> dict[str, StreamCall]:
        """Return calls with many messages out."""
        return {"Backup": self.backup}

    def sessions(self) -> dict[str, SessionCall]:
        """Return calls with many messages in."""
        return {"Restore": self.restore}

    async def server_info(self, principal: Principal, data: bytes, context: Context) -> bytes:
        """Return facts about this process."""
        response = admin_pb2.ServerInfoResponse(uptime_ms=int((time.monotonic() - self._started) * 1000))
        self._facts(response)
        return response.SerializeToString()

    async def cluster_status(self, principal: Principal, data: bytes, context: Context) -> bytes:
        """Return the cluster as this member knows it."""
        response = admin_pb2.ClusterStatusResponse()
        self._cluster(response)
        return response.SerializeToString()

    # ------------------------------------------------------------ out

    async def backup(self, principal: Principal, data: bytes, context: Context) -> None:
        """Send a stream as an archive."""
        refusal: Refusal | None = None
        try:
            stream = admin_pb2.BackupRequest.FromString(data).stream
            del data  # the sending may last
            await self._send_archive(principal, stream, context)
        except DecodeError:
            refusal = invalid("the request is not a valid BackupRequest").refusal
        except RefusedError as error:
            refusal = error.refusal
        except Exception as error:
            refusal = internal_error(error, "Backup", principal, admitted=False)
        if refusal is not None:
            await abort(context, refusal)

    async def _send_archive(self, principal: Principal, stream: str, context: Context) -> None:
        async def send(piece: bytes) -> None:
            for at in range(0, len(piece), _PIECE_BYTES):
                chunk = admin_pb2.ArchiveChunk(data=piece[at : at + _PIECE_BYTES])
                await context.write(chunk.SerializeToString())

        hold = Lease(self._runner, principal)
        try:
            if stream.startswith(STREAM_PREFIX):  # nothing of an object may be collected while it is copied
                with contextlib.suppress(CodeError):  # there is none; the export finds it out
                    await hold.begin(HoldBucket(stream))
            summary = await Export(stream, partial(self._ask, principal), send).run()
        finally:
            hold.end()
        await context.write(admin_pb2.ArchiveChunk(summary=summary).SerializeToString())

    async def _ask(self, principal: Principal, request: core.Request) -> tuple[Answer, Bodies | None]:
        """Return an answer with code `ok`. Raises `RefusedError`; another code is NOT_FOUND with the code beside it."""
        answer, bodies = await self._runner.ask(principal, request)
        if isinstance(answer, Refusal):
            raise RefusedError(answer)
        if answer.code != OK:
            raise RefusedError(Refusal(Status.NOT_FOUND, answer.message, Outcome.NOT_APPLIED, answer.code))
        return answer, bodies

    # ------------------------------------------------------------ in

    async def restore(self, principal: Principal, requests: object, context: Context) -> None:
        """Make a stream from an archive."""
        refusal: Refusal | None = None
        if self._restores >= RESTORES_MAX:
            await abort(context, resource_exhausted(f"{RESTORES_MAX} restores are under way; try again later").refusal)
        self._restores += 1
        upload = _Upload(self._runner, principal, context)
        try:
            await context.write(await upload.run())
        except RestoreFailed as error:
            await context.write(coded(error.code, error.text))
        except RefusedError as error:
            refusal = error.refusal
        except Exception as error:
            refusal = internal_error(error, "Restore", principal, admitted=True)
        finally:
            self._restores -= 1
            upload.give_up()
        if refusal is not None:
            await abort(context, refusal)


class _Upload:
    """One restore under way."""

    def __init__(self, runner: NodeRunner, principal: Principal, context: Context) -> None:
        self._runner = runner
        self._principal = principal
        self._context = context
        self._name = ""
        self._reservation = Reservation(runner, principal)

    async def run(self) -> bytes:
        """Take the archive in; the response. Raises `RestoreFailed` and `RefusedError`."""
        reader = ArchiveReader()
        first = True
        while True:
            data: Any = await self._next()
            if data is grpc.aio.EOF:
                break
            frame = self._frame(data)
            if first != (frame.WhichOneof("body") == "start"):
                raise invalid("a restore is one frame of start and then frames of data")
            if first:
                self._name = frame.start.name
                first = False
                continue
            try:
                pieces = reader.feed(frame.data)
            except ArchiveError as error:
                raise RestoreFailed(TRANSFER_CORRUPTED, str(error)) from None
            for piece in pieces:
                await self._take(piece)
        try:
            summary = reader.close()
        except ArchiveError as error:
            raise RestoreFailed(TRANSFER_CORRUPTED, str(error)) from None
        assert self._reservation.stream_id is not None
        await self._ask(core.ImportEnd(self._reservation.stream_id, commit=True))
        self._reservation.opened()
        return admin_pb2.RestoreResponse(
            success=True, result_code=OK, name=self._name, messages=summary.count, last_seq=summary.last_seq
        ).SerializeToString()

    async def _next(self) -> object:
        try:
            async with asyncio.timeout(_UPLOAD_PAUSE_S):
                return await self._context.read()
        except TimeoutError:
            raise RestoreFailed(TRANSFER_CORRUPTED, f"nothing came for {_UPLOAD_PAUSE_S:.0f} s") from None

    @staticmethod
    def _frame(data: bytes) -> admin_pb2.RestoreFrame:
        try:
            return admin_pb2.RestoreFrame.FromString(data)
        except DecodeError:
            raise invalid("a frame that is not a valid RestoreFrame") from None

    async def _take(self, piece: Head | Batch | Summary) -> None:
        if isinstance(piece, Head):
            self._name = self._name or piece.config.name
            _require_ok(await self._reservation.begin(core.ImportBegin(self._name, piece)))
        elif isinstance(piece, Batch):
            assert self._reservation.stream_id is not None
            await self._ask(
                core.ImportBatch(
                    self._reservation.stream_id,
                    list(piece.seqs),
                    list(piece.times_ms),
                    piece.subjects,
                    list(piece.sizes),
                    list(piece.lengths),
                    piece.body,
                )
            )

    async def _ask(self, request: core.Request) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + _OPENING_S
        answer, _ = await self._runner.ask(self._principal, request)
        # In a cluster a new stream is led a moment after its creation; an import is led where it was begun.
        while isinstance(answer, Refusal) and answer.message == NOT_LEADING.message and loop.time() < ends:
            await asyncio.sleep(_OPENING_PAUSE_S)
            answer, _ = await self._runner.ask(self._principal, request)
        _require_ok(answer)

    def give_up(self) -> None:
        """Delete what is left of an unfinished restore, without waiting for it."""
        self._reservation.give_up()


def _require_ok(answer: Answer | Refusal) -> None:
    if isinstance(answer, Refusal):
        raise RefusedError(answer)
    if answer.code != OK:
        raise RestoreFailed(answer.code, answer.message)
