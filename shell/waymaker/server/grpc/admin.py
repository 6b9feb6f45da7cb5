"""The operator's service: archives out and in, facts about the server, a change tried without making it.

An archive is made from one moment's head and a walk over the messages up to the last sequence of that moment. The walk asks
by name, so the stream's id is compared before and after it: ids are never used twice, and the same id at both ends is the same
stream in between. A restore
reserves the name, takes batches in as ordinary durable work, and opens the stream only once the archive's own summary has
been verified; whatever breaks it off gives the reservation up.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from waymaker.server.grpc.calls import Calls, Context, SessionCall, StreamCall, UnaryCall
from waymaker.server.grpc.rpcs import PREVIEW_UPDATE, coded
from waymaker.server.incidents import internal_error
from waymaker.server.node_runner import NodeRunner
from waymaker.server.refusals import abort
from waymaker.storage.store import Bodies
from waymaker_core.api import requests as core
from waymaker_core.model.message_codec import DEAD_LETTER_PREFIX, SERVER_HEADER_PREFIXES, decode_body
from waymaker_core.model.result_codes import (
    NO_SUCH_STREAM,
    OK,
    Answer,
    Outcome,
    Refusal,
    RefusedError,
    Status,
    invalid,
    resource_exhausted,
)
from waymaker_core.model.types import Principal
from waymaker_core.storage.archive import ArchiveError, ArchiveReader, ArchiveWriter, Batch, Head, Summary
from waymaker_proto import admin_pb2

TRANSFER_CORRUPTED: Final = "transfer_corrupted"

RESTORES_MAX: Final = 4
"""Restores at once: each may hold a piece of its archive."""
_PAGE_MESSAGES: Final = 4_096
_PIECE_BYTES: Final = 1 << 20
_UPLOAD_PAUSE_S: Final = 60.0
_SERVER_KEYS: Final = (*SERVER_HEADER_PREFIXES, DEAD_LETTER_PREFIX)


class RestoreFailed(Exception):
    """A restore that ends with a result code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Admin:
    """The operator's calls. `facts` fills in what the server knows of itself."""

    def __init__(
        self, runner: NodeRunner, calls: Calls, facts: Callable[[admin_pb2.ServerInfoResponse], None]
    ) -> None:  # fmt: skip
        self._runner = runner
        self._calls = calls
        self._facts = facts
        self._started = time.monotonic()
        self._restores = 0

    def unary(self) -> dict[str, UnaryCall]:
        """Return calls with one message each way."""
        return {"ServerInfo": self.server_info, "PreviewUpdate": partial(self._calls.serve, PREVIEW_UPDATE)}

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
        stream_id = await self._stream_id(principal, stream)
        answer, _ = await self._ask(principal, core.ExportStream(stream))
        head = answer.value
        assert isinstance(head, Head)
        writer = ArchiveWriter()
        total = messages = first_seq = 0

        async def send(piece: bytes) -> None:
            nonlocal total
            total += len(piece)
            for at in range(0, len(piece), _PIECE_BYTES):
                chunk = admin_pb2.ArchiveChunk(data=piece[at : at + _PIECE_BYTES])
                await context.write(chunk.SerializeToString())

        await send(writer.head(head))
        next_seq = head.first_seq
        while next_seq <= head.last_seq:
            answer, bodies = await self._ask(principal, core.ReadRange(stream, next_seq, _PAGE_MESSAGES))
            page = answer.value
            assert isinstance(page, core.Messages)
            if not page.runs or page.runs[0].first_seq > head.last_seq:
                break
            batch = archive_batch(page, bodies or [], head.last_seq)
            messages += len(batch.seqs)
            first_seq = first_seq or batch.seqs[0]
            next_seq = batch.seqs[-1] + 1
            await send(writer.batch(batch))
        if await self._stream_id(principal, stream) != stream_id:
            text = f"stream {stream} was deleted while it was copied, and made anew"
            raise RefusedError(Refusal(Status.NOT_FOUND, text, Outcome.NOT_APPLIED, NO_SUCH_STREAM))
        await send(writer.finish(head.last_seq))
        summary = admin_pb2.ArchiveSummary(
            total_bytes=total, messages=messages, last_seq=head.last_seq, stream_id=stream_id, first_seq=first_seq
        )
        await context.write(admin_pb2.ArchiveChunk(summary=summary).SerializeToString())

    async def _stream_id(self, principal: Principal, stream: str) -> int:
        """Return the id of the stream that has this name now."""
        answer, _ = await self._ask(principal, core.GetStreamInfo(stream))
        assert isinstance(answer.value, core.StreamInfo)
        return answer.value.stream_id

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
        self._stream_id: int | None = None
        self._summary: Summary | None = None

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
        assert self._stream_id is not None
        await self._ask(core.ImportEnd(self._stream_id, commit=True))
        self._stream_id = None
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
            answer = await self._ask(core.ImportBegin(self._name, piece))
            assert isinstance(answer.value, int)
            self._stream_id = answer.value
        elif isinstance(piece, Batch):
            assert self._stream_id is not None
            await self._ask(
                core.ImportBatch(
                    self._stream_id,
                    list(piece.seqs),
                    list(piece.times_ms),
                    piece.subjects,
                    list(piece.sizes),
                    list(piece.lengths),
                    piece.body,
                )
            )

    async def _ask(self, request: core.Request) -> Answer:
        answer, _ = await self._runner.ask(self._principal, request)
        if isinstance(answer, Refusal):
            raise RefusedError(answer)
        if answer.code != OK:
            raise RestoreFailed(answer.code, answer.message)
        return answer

    def give_up(self) -> None:
        """Delete what is left of an unfinished restore, without waiting for it."""
        if self._stream_id is not None:
            stream_id, self._stream_id = self._stream_id, None
            self._runner.call(self._principal, core.ImportEnd(stream_id, commit=False), lambda *_: None)


def archive_batch(page: core.Messages, bodies: Bodies, last_seq: int) -> Batch:
    """Return messages read from a stream as an archive carries them, without those above `last_seq`."""
    seqs, times, sizes, lengths = array("Q"), array("q"), array("I"), array("I")
    subjects: list[str] = []
    parts: list[bytes] = []
    for run, data in zip(page.runs, bodies, strict=True):
        at = 0
        for seq, time_ms, length in zip(run.sequences(), run.times_ms, run.lengths, strict=True):
            if seq > last_seq:
                break
            body = data[at : at + length]
            at += length
            subject, headers, payload = decode_body(body)
            seqs.append(seq)
            times.append(time_ms)
            lengths.append(length)
            sizes.append(_counted(headers, payload))
            subjects.append(subject)
            parts.append(body)
    return Batch(seqs, times, subjects, sizes, lengths, b"".join(parts))


def _counted(headers: list[tuple[str, str]], payload: bytes) -> int:
    """Return the size that a client's publish would have: payload and headers, without those that the server added."""
    own = (len(k.encode()) + len(v.encode()) for k, v in headers if not k.startswith(_SERVER_KEYS))
    return len(payload) + sum(own)
