"""An archive on its way out: one moment's head, then a walk over the messages up to the last sequence of that moment.

The walk asks by name, so the stream's id is compared before and after it: ids are never used twice, and the same id at both
ends is the same stream in between.

What is removed while the walk lasts is missing from the archive, and so it should be, with one exception. A message of a work
queue or an interest stream that is given up leaves its dead letter behind, at a sequence above the head's: neither would be in
the archive. So a second walk, over what was stored meanwhile, adds the dead letters whose originals the first one may have
missed. Where that is uncertain the dead letter is added: a message twice is better than none.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from typing import Final

from waymaker.storage.store import Bodies
from waymaker_core.api import requests as core
from waymaker_core.model.config import Retention
from waymaker_core.model.message_codec import DEAD_LETTER_PREFIX, SERVER_HEADER_PREFIXES, decode_body
from waymaker_core.model.result_codes import NO_SUCH_STREAM, Answer, Outcome, Refusal, RefusedError, Status
from waymaker_core.storage.archive import ArchiveWriter, Batch, Head
from waymaker_proto import admin_pb2

_PAGE_MESSAGES: Final = 4_096
_SERVER_KEYS: Final = (*SERVER_HEADER_PREFIXES, DEAD_LETTER_PREFIX)
_ORIGINALS: Final = (f"{DEAD_LETTER_PREFIX}seq", f"{DEAD_LETTER_PREFIX}origin-seq")
"""Headers of a dead letter that name the message it was made of, and the first one in a row of them."""

Headers = list[tuple[str, str]]
Ask = Callable[[core.Request], Awaitable[tuple[Answer, Bodies | None]]]
Send = Callable[[bytes], Awaitable[None]]


class Export:
    """One archive being made of a stream."""

    def __init__(self, stream: str, ask: Ask, send: Send) -> None:
        self._stream = stream
        self._ask = ask
        self._send = send
        self._writer = ArchiveWriter()
        self._total = 0
        self._messages = 0
        self._first_seq = 0
        self._last_seq = 0
        self._reads: list[tuple[int, int]] = []
        """Of each page: its last sequence, and the stream's last sequence at a moment after the page was read."""

    async def run(self) -> admin_pb2.ArchiveSummary:
        """Send the whole archive; return its summary."""
        stream_id = (await self._info()).stream_id
        answer, _ = await self._ask(core.ExportStream(self._stream))
        head = answer.value
        assert isinstance(head, Head)
        self._last_seq = head.last_seq
        await self._send_piece(self._writer.head(head))
        removes_settled = head.config.retention is not Retention.LIMITS
        await self._walk(head.first_seq, head.last_seq, watch=removes_settled)
        if removes_settled:
            await self._add_dead_letters(head.last_seq)
        if (await self._info()).stream_id != stream_id:
            text = f"stream {self._stream} was deleted while it was copied, and made anew"
            raise RefusedError(Refusal(Status.NOT_FOUND, text, Outcome.NOT_APPLIED, NO_SUCH_STREAM))
        await self._send_piece(self._writer.finish(self._last_seq))
        return admin_pb2.ArchiveSummary(
            total_bytes=self._total, messages=self._messages, last_seq=self._last_seq, stream_id=stream_id,
            first_seq=self._first_seq,
        )  # fmt: skip

    async def _walk(self, next_seq: int, last_seq: int, *, watch: bool) -> None:
        while (page := await self._page(next_seq, last_seq)) is not None:
            batch = archive_batch(*page, last_seq)
            next_seq = batch.seqs[-1] + 1
            if watch:  # before it is sent, for that may last
                self._reads.append((batch.seqs[-1], (await self._info()).stats.last_seq))
            await self._send_batch(batch)

    async def _add_dead_letters(self, head_seq: int) -> None:
        """Send the dead letters of messages up to `head_seq` that the archive may lack."""
        last_seq, next_seq = (await self._info()).stats.last_seq, head_seq + 1

        def is_wanted(seq: int, headers: Headers) -> bool:
            return is_dead_letter_of_missing(seq, headers, head_seq, self._reads)

        while (page := await self._page(next_seq, last_seq)) is not None:
            next_seq = page[0].runs[-1].sequences()[-1] + 1
            batch = archive_batch(*page, last_seq, is_wanted)
            if batch.seqs:
                self._last_seq = batch.seqs[-1]
                await self._send_batch(batch)

    async def _page(self, next_seq: int, last_seq: int) -> tuple[core.Messages, Bodies] | None:
        """Read the messages from one sequence on; None where no live one is left up to the last."""
        if next_seq > last_seq:
            return None
        answer, bodies = await self._ask(core.ReadRange(self._stream, next_seq, _PAGE_MESSAGES))
        page = answer.value
        assert isinstance(page, core.Messages)
        return (page, bodies or []) if page.runs and page.runs[0].first_seq <= last_seq else None

    async def _send_batch(self, batch: Batch) -> None:
        self._messages += len(batch.seqs)
        self._first_seq = self._first_seq or batch.seqs[0]
        await self._send_piece(self._writer.batch(batch))

    async def _send_piece(self, piece: bytes) -> None:
        self._total += len(piece)
        await self._send(piece)

    async def _info(self) -> core.StreamInfo:
        """Return the facts of the stream that has this name now."""
        answer, _ = await self._ask(core.GetStreamInfo(self._stream))
        assert isinstance(answer.value, core.StreamInfo)
        return answer.value


def is_dead_letter_of_missing(seq: int, headers: Headers, head_seq: int, reads: list[tuple[int, int]]) -> bool:
    """Return True if this is the dead letter of a message up to `head_seq` that a walk with these reads may have missed.

    A dead letter is stored in the same record as its original is dropped. If it is above the stream's last sequence when the
    original's page had been read, the original was in that page.
    """
    values = dict(headers)
    for header in _ORIGINALS:
        original = values.get(header, "")
        if original.isdecimal() and int(original) <= head_seq:
            at = bisect_left(reads, (int(original), 0))
            return at == len(reads) or seq <= reads[at][1]
    return False


def archive_batch(
    page: core.Messages, bodies: Bodies, last_seq: int, is_wanted: Callable[[int, Headers], bool] | None = None
) -> Batch:
    """Return messages read from a stream as an archive carries them, without those above `last_seq` or not wanted."""
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
            if is_wanted is not None and not is_wanted(seq, headers):
                continue
            seqs.append(seq)
            times.append(time_ms)
            lengths.append(length)
            sizes.append(_counted(headers, payload))
            subjects.append(subject)
            parts.append(body)
    return Batch(seqs, times, subjects, sizes, lengths, b"".join(parts))


def _counted(headers: Headers, payload: bytes) -> int:
    """Return the size that a client's publish would have: payload and headers, without those that the server added."""
    own = (len(k.encode()) + len(v.encode()) for k, v in headers if not k.startswith(_SERVER_KEYS))
    return len(payload) + sum(own)
