"""Archives: one stream as one sequence of bytes, for backup, restore and moving.

An archive is a head (configuration, figures, the consumers' states), batches of messages with the sequences and times they
had, and a summary that says how many there were. Each piece is a frame with its own number and checksums; the summary's
frame is the last. Pure: a writer turns pieces into bytes, a reader takes bytes as they come and gives pieces back. A
truncated, damaged, reordered or foreign archive ends in an `ArchiveError` that says where, never in a shorter stream.

    file head (16): magic word (8) | version u32 | CRC32C u32
    pieces: magic "WMpc" | kind u8 | version u8 | zeros u16 | number u32 | meta length u32 | body length u32 |
            meta CRC32C u32 | body CRC32C u32 | header CRC32C u32 | meta | body

A batch's meta is a publish record (`record_codec`) with sequences, its body the stored bodies.

Checksums prove that an archive is what its writer wrote, not that a node was the writer. So a reader believes nothing: every
body must be a message at the subject that its batch names, and every number one from which a stream may continue.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from struct import Struct
from typing import Final

from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.message_codec import decode_body, header_field, payload_field, subject_field
from waymaker_core.model.records import PublishRecord
from waymaker_core.storage import record_codec
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.config_codec import decode_plain, encode_plain, stream_config, stream_config_list
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

MAGIC: Final = b"WMarchiv"
ARCHIVE_VERSION: Final = 1
PIECE_MAGIC: Final = b"WMpc"
PIECE_VERSION: Final = 1
META_BYTES_MAX: Final = 256 << 20
"""More than any head has; a longer piece is damage."""
BATCH_BYTES_MAX: Final = 64 << 20
"""Stored bodies in one batch, at most."""
LAST_SEQ_MAX: Final = SEQ_MAX >> 1
"""The greatest sequence in an archive: the stream must be able to assign more behind it."""

_HEAD: Final = 1
_BATCH: Final = 2
_SUMMARY: Final = 3

_FILE: Final = Struct("<8sI")
_PIECE: Final = Struct("<4sBB2xIIIII")
_CRC: Final = Struct("<I")
_FILE_BYTES: Final = _FILE.size + _CRC.size
_PIECE_BYTES: Final = _PIECE.size + _CRC.size


class ArchiveError(ValueError):
    """The bytes are not a whole, undamaged archive of a known version. `offset` counts from the archive's first byte."""

    def __init__(self, offset: int, detail: str) -> None:
        super().__init__(f"archive at byte {offset}: {detail}")
        self.offset = offset
        self.detail = detail


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
        self._number = 0
        self._last_seq = 0
        self._count = 0
        self._body_bytes = 0
        self._head: Head | None = None
        self._finished = False

    def _piece(self, kind: int, meta: bytes, body: bytes = b"") -> bytes:
        assert not self._finished
        head = _PIECE.pack(
            PIECE_MAGIC, kind, PIECE_VERSION, self._number, len(meta), len(body), crc32c(meta), crc32c(body)
        )  # fmt: skip
        self._number += 1
        return b"".join((head, _CRC.pack(crc32c(head)), meta, body))

    def head(self, head: Head) -> bytes:
        """Return the archive's beginning."""
        assert self._head is None
        self._head = head
        start = _FILE.pack(MAGIC, ARCHIVE_VERSION)
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
        return start + _CRC.pack(crc32c(start)) + self._piece(_HEAD, meta)

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


class ArchiveReader:
    """Bytes in, pieces out, in order and each at once when it is whole. Memory is bounded by one piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._offset = 0
        """Of the buffer's first byte in the archive."""
        self._started = False
        self._number = 0
        self._last_seq = 0
        self._count = 0
        self._body_bytes = 0
        self._summary: Summary | None = None
        self._broken = False

    def feed(self, data: bytes) -> list[Head | Batch | Summary]:
        """Return the pieces that these bytes complete. After an `ArchiveError` the reader is of no more use."""
        assert not self._broken, "an archive that was refused is not read on"
        self._buffer += data
        pieces: list[Head | Batch | Summary] = []
        try:
            self._take_start()
            while (piece := self._take_piece()) is not None:
                pieces.append(piece)
        except ArchiveError:
            self._broken = True
            raise
        return pieces

    def close(self) -> Summary:
        """Return the summary, since no more bytes come; `ArchiveError` where the archive is not whole."""
        if self._summary is None or self._buffer or self._broken:
            raise self._error("the archive is cut short")
        return self._summary

    def _error(self, detail: str) -> ArchiveError:
        return ArchiveError(self._offset, detail)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._offset += size
        return data

    def _take_start(self) -> None:
        if self._started:
            return
        if not MAGIC.startswith(self._buffer[: len(MAGIC)]):
            raise self._error("this is not an archive")
        if len(self._buffer) < _FILE_BYTES:
            return
        start = bytes(self._buffer[:_FILE_BYTES])
        if crc32c(start[: _FILE.size]) != _CRC.unpack_from(start, _FILE.size)[0]:
            raise self._error("the beginning does not match its checksum")
        version = _FILE.unpack_from(start)[1]
        if version != ARCHIVE_VERSION:
            raise self._error(str(UnknownVersion("an archive", version, ARCHIVE_VERSION)))
        self._take(_FILE_BYTES)
        self._started = True

    def _take_piece(self) -> Head | Batch | Summary | None:
        if not self._started or len(self._buffer) < _PIECE_BYTES:
            if self._summary is not None and self._buffer:
                raise self._error("something follows the summary")
            return None
        if self._summary is not None:
            raise self._error("something follows the summary")
        head = bytes(self._buffer[:_PIECE_BYTES])
        if crc32c(head[: _PIECE.size]) != _CRC.unpack_from(head, _PIECE.size)[0]:
            raise self._error("a piece's header does not match its checksum")
        magic, kind, version, number, meta_length, body_length, meta_crc, body_crc = _PIECE.unpack_from(head)
        if magic != PIECE_MAGIC or any(head[6:8]):
            raise self._error("there is no piece where one should begin")
        if version != PIECE_VERSION:
            raise self._error(str(UnknownVersion("a piece of the archive", version, PIECE_VERSION)))
        if number != self._number:
            raise self._error(f"piece {number} follows, where {self._number} should")
        if meta_length > META_BYTES_MAX or body_length > BATCH_BYTES_MAX:
            raise self._error("a piece is longer than any can be")
        if len(self._buffer) < _PIECE_BYTES + meta_length + body_length:
            return None
        meta = bytes(self._buffer[_PIECE_BYTES : _PIECE_BYTES + meta_length])
        body = bytes(self._buffer[_PIECE_BYTES + meta_length : _PIECE_BYTES + meta_length + body_length])
        if crc32c(meta) != meta_crc or crc32c(body) != body_crc:
            raise self._error("a piece does not match its checksum")
        try:
            piece = self._decode(kind, meta, body)
        except CorruptRecord as problem:
            raise self._error(str(problem)) from problem
        except UnknownVersion as problem:
            raise self._error(str(problem)) from problem
        self._take(_PIECE_BYTES + meta_length + body_length)
        self._number += 1
        return piece

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
                self._summary = Summary(count, body_bytes, last_seq)
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
