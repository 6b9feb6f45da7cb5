"""Archives: one stream as one sequence of bytes, for backup, restore and moving.

An archive is a head (configuration, figures, the consumers' states), batches of messages with the sequences and times they
had, and a summary that says how many there were: `pieces`, of which the summary is the last. A truncated, damaged, reordered or
foreign archive ends in an `ArchiveError` that says where, never in a shorter stream. Pure: a writer turns pieces into bytes, a
reader takes bytes as they come and gives pieces back.

A batch's meta is a publish record (`record_codec`) with sequences, its body the stored bodies.

Checksums prove that an archive is what its writer wrote, not that a node was the writer. So a reader believes nothing: every
body must be a message at the subject that its batch names, and every number one from which a stream may continue.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.message_codec import decode_body, header_field, payload_field, subject_field
from waymaker_core.model.records import PublishRecord
from waymaker_core.storage import record_codec
from waymaker_core.storage.config_codec import decode_plain, encode_plain, stream_config, stream_config_list
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.pieces import BODY_BYTES_MAX, PieceError, PieceFormat, PieceReader, PieceWriter

MAGIC: Final = b"WMarchiv"
ARCHIVE_VERSION: Final = 1
BATCH_BYTES_MAX: Final = BODY_BYTES_MAX
"""Stored bodies in one batch, at most."""
LAST_SEQ_MAX: Final = SEQ_MAX >> 1
"""The greatest sequence in an archive: the stream must be able to assign more behind it."""

_HEAD: Final = 1
_BATCH: Final = 2
_SUMMARY: Final = 3

_FORMAT: Final = PieceFormat(MAGIC, ARCHIVE_VERSION, "archive")
ArchiveError = PieceError
"""The bytes are not a whole, undamaged archive of a known version. `offset` counts from the archive's first byte."""


@dataclass(slots=True, eq=False)
class Head:
    """The head of an archive: all but its messages. `consumers`: plain values, the consumers' own snapshot (or None).

    `layers`: those of the stream's layers, with their kinds; empty where it has none, and in older archives.
    """

    config: StreamConfig
    created_ms: int
    first_seq: int
    last_seq: int
    count: int
    byte_count: int
    consumers: object
    layers: list[object] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Batch:
    """Messages in order of sequence: columns as in `requests.ImportBatch`."""

    seqs: array[int]
    times_ms: array[int]
    subjects: list[str]
    sizes: array[int]
    lengths: array[int]
    body: bytes


@dataclass(slots=True, eq=False)
class Summary:
    """The end of an archive: messages and bytes of stored bodies that were in it, and the last sequence of the stream."""

    count: int
    body_bytes: int
    last_seq: int


class ArchiveWriter:
    """Pieces in, bytes out: `head` first, then `batch` any number of times, then `finish`."""

    def __init__(self) -> None:
        self._pieces = PieceWriter(_FORMAT)
        self._last_seq = 0
        self._count = 0
        self._body_bytes = 0
        self._head: Head | None = None
        self._finished = False

    def _piece(self, kind: int, meta: bytes, body: bytes = b"") -> bytes:
        assert not self._finished
        return self._pieces.piece(kind, meta, body)

    def head(self, head: Head) -> bytes:
        """Return the archive's beginning."""
        assert self._head is None
        self._head = head
        meta = encode_plain(
            [
                stream_config_list(head.config),
                head.created_ms,
                head.first_seq,
                head.last_seq,
                head.count,
                head.byte_count,
                head.consumers,
                *([head.layers] if head.layers else []),
            ]
        )
        return self._pieces.start() + self._piece(_HEAD, meta)

    def batch(self, batch: Batch) -> bytes:
        """Encode one batch of messages, above all sequences before (at most `BATCH_BYTES_MAX` of bodies)."""
        assert self._head is not None
        problem = _batch_problem(batch, self._last_seq)
        if problem:
            raise ValueError(problem)
        self._count += len(batch.seqs)
        self._body_bytes += len(batch.body)
        self._last_seq = batch.seqs[-1]
        record = PublishRecord(
            batch.seqs[0], batch.times_ms, batch.sizes, batch.lengths, batch.subjects, _seqs_unless_dense(batch.seqs)
        )  # fmt: skip
        return self._piece(_BATCH, record_codec.encode(record), batch.body)

    def finish(self, last_seq: int) -> bytes:
        """Encode the summary; nothing may follow. `last_seq`: the stream's, at least the last message's."""
        assert self._head is not None
        assert last_seq >= self._last_seq
        data = self._piece(_SUMMARY, encode_plain([self._count, self._body_bytes, last_seq]))
        self._finished = True
        return data


def _seqs_unless_dense(seqs: array[int]) -> array[int] | None:
    return None if seqs[-1] - seqs[0] + 1 == len(seqs) else seqs


def _batch_problem(batch: Batch, last_seq: int) -> str:
    """Return the fault of a batch that follows `last_seq`, or an empty text."""
    seqs = batch.seqs
    if not seqs:
        return "a batch without messages"
    if not len(batch.times_ms) == len(batch.subjects) == len(batch.sizes) == len(batch.lengths) == len(seqs):
        return "columns of a batch differ in length"
    if sum(batch.lengths) != len(batch.body):
        return "a batch does not fit its messages"
    if len(batch.body) > BATCH_BYTES_MAX:
        return f"a batch of more than {BATCH_BYTES_MAX} bytes"
    if seqs[0] <= last_seq or any(seq >= after for seq, after in pairwise(seqs)):
        return "sequences that do not ascend"
    if seqs[-1] > LAST_SEQ_MAX:
        return f"a sequence above {LAST_SEQ_MAX}"
    return ""


def _check_bodies(batch: Batch) -> None:
    """Raise `CorruptRecord` where a body is not, byte for byte, a message at its subject, of at least its size."""
    at = 0
    for seq, subject, size, length in zip(batch.seqs, batch.subjects, batch.sizes, batch.lengths, strict=True):
        body = batch.body[at : at + length]
        at += length
        try:
            _, headers, payload = decode_body(body)
        except ValueError as problem:
            raise CorruptRecord(f"message {seq}: {problem}") from problem
        if b"".join((subject_field(subject), *(header_field(*h) for h in headers), payload_field(payload))) != body:
            raise CorruptRecord(f"message {seq} is not a message at the subject that its batch names")
        if size > length:
            raise CorruptRecord(f"message {seq} counts more bytes than it has")


class ArchiveReader(PieceReader[Head | Batch | Summary]):
    """Bytes in, pieces out, in order and each at once when it is whole. Memory is bounded by one piece."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)
        self._last_seq = 0
        self._count = 0
        self._body_bytes = 0
        self._summary: Summary | None = None

    def close(self) -> Summary:
        """Return the summary, since no more bytes come; `ArchiveError` where the archive is not whole."""
        self.require_whole()
        assert self._summary is not None
        return self._summary

    def _decode(self, kind: int, meta: bytes, body: bytes) -> Head | Batch | Summary:
        if (self._number == 0) != (kind == _HEAD):
            raise CorruptRecord("an archive begins with its one head")
        if kind == _BATCH:
            return self._decode_batch(meta, body)
        if body:
            raise CorruptRecord("a body where none belongs")
        if kind == _HEAD:
            return _decode_head(meta)
        if kind == _SUMMARY:
            return self._decode_summary(meta)
        raise UnknownVersion("a piece's kind", kind, _SUMMARY)

    def _decode_batch(self, meta: bytes, body: bytes) -> Batch:
        record = record_codec.decode(PublishRecord.KIND, record_codec.VERSION, meta)
        assert isinstance(record, PublishRecord)
        count = len(record.subjects)
        if record.seqs is None and record.first_seq + count > 1 << 64:
            raise CorruptRecord("sequences out of range")
        seqs = record.seqs if record.seqs is not None else array("Q", range(record.first_seq, record.first_seq + count))
        batch = Batch(seqs, record.times_ms, record.subjects, record.sizes, record.lengths, body)
        problem = _batch_problem(batch, self._last_seq)
        if problem:
            raise CorruptRecord(problem)
        _check_bodies(batch)
        self._last_seq = seqs[-1]
        self._count += count
        self._body_bytes += len(body)
        return batch

    def _decode_summary(self, meta: bytes) -> Summary:
        match decode_plain(meta):
            case [int(count), int(body_bytes), int(last_seq)]:
                if (count, body_bytes) != (self._count, self._body_bytes) or last_seq < self._last_seq:
                    raise CorruptRecord(f"the summary counts {count} messages, but {self._count} came")
                self._summary, self.finished = Summary(count, body_bytes, last_seq), True
                return self._summary
        raise CorruptRecord("not a summary")


def _decode_head(meta: bytes) -> Head:
    match decode_plain(meta):
        case [
            list(config), int(created_ms), int(first_seq), int(last_seq), int(count), int(byte_count), consumers, *rest,
        ]:  # fmt: skip
            if min(created_ms, first_seq, last_seq, count, byte_count) < 0 or last_seq > LAST_SEQ_MAX:
                raise CorruptRecord("a figure of the head is out of range")
            layers = rest[0] if rest else []
            if len(rest) > 1 or not isinstance(layers, list):
                raise CorruptRecord("not the layers of a stream")
            return Head(stream_config(config), created_ms, first_seq, last_seq, count, byte_count, consumers, layers)
    raise CorruptRecord("not the head of an archive")
