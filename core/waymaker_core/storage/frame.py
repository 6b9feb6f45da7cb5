"""Frames: the envelope of everything that is appended, in the journal and in checkpoint files.

A frame is a header of 64 bytes, a meta part and a body part, each padded with zeros to a multiple of 8. Three checksums
stand apart, so that damage can be attributed: with an intact header, a damaged meta or body is known to belong to one
stream and to end at a known place. The body is the messages' stored bodies and nothing else, so that it is a `Chunk` as
it lies.

The header's checksum starts from the directory's key (`directory_key`), 32 bits that no client ever sees: bytes inside a
message can therefore not pass for a frame when damage forces a reader to search for the next one.

Two fields distinguish a frame from older bytes at the same place: `segment` is the number of the file it was written for (a
recycled file has a new number), `open_epoch` counts the directory's openings (a tail cut by one recovery is older than all that
is written after it). `durable` is the LSN below which everything was synced when the frame was written: a reader of the frame
knows that whatever is missing below was lost afterwards.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from waymaker_core.storage.checksum import crc32c, extend

MAGIC: Final = b"WMfr"
HEADER_BYTES: Final = 64
ALIGNMENT: Final = 8
FRAME_VERSION: Final = 1
"""Layout of the header. It has no field of its own: another layout would have another magic word."""

# Kinds below 64 are records (`records`), with the record's version.
WATERMARK: Final = 64
"""A watermark in the journal: no content, its `durable` is the news."""
SNAPSHOT: Final = 65
"""In a checkpoint: a stream's state at its position; the meta is the owner's."""
TOMBSTONE: Final = 66
"""In a checkpoint: the stream is no more."""
QUARANTINED: Final = 67
"""In a checkpoint: the stream is damaged; the meta says where (see `checkpoint`)."""
FINISHED: Final = 68
"""The last frame of a checkpoint; `position` is the number of frames before it."""

# Local frames: what this replica knows by itself, in the journal. No record, and no other replica has them. Format 2.
PROMISE: Final = 69
"""The highest epoch that this replica obeys."""
CUT: Final = 70
"""The end of a stream's log goes back to this position."""
COMMIT: Final = 71
"""Positions up to which logs are committed."""
REPLICA: Final = 72
"""The replica of a stream: its incarnation, and since when it counts."""
ADOPT: Final = 73
"""Log and state of a stream are from here on those of a snapshot's file."""
RAFT_HARD: Final = 74
"""The newest term that the node has seen in Raft, and its vote in it."""
DOUBT: Final = 75
"""Claims, and terms, up to which the node may have forgotten something: its journal ended with a tear."""

CLEAN: Final = 1
COMPLETE: Final = 2
"""Flag of a `WATERMARK` written by a drained node: all that was confirmed lies before it."""
REPLICATED: Final = 4
"""Flag of a record: it is committed only where a `COMMIT` or a snapshot says so. Without it a durable record is committed."""

_HEADER: Final = Struct("<4sBBHQQQQIIIII")
_CRC: Final = Struct("<I")
assert _HEADER.size == HEADER_BYTES - _CRC.size


class FrameHeader(NamedTuple):
    """A header as read. Lengths are bytes without padding; `open_epoch` and `segment` are 0 in checkpoints."""

    magic: bytes
    kind: int
    version: int
    flags: int
    segment: int
    stream_id: int
    position: int
    durable_lsn: int
    open_epoch: int
    meta_length: int
    body_length: int
    meta_crc: int
    body_crc: int


def directory_key(directory_id: bytes) -> int:
    """Return the key that seeds header checksums, from the directory's random id."""
    return crc32c(b"waymaker frame key" + directory_id)


def padded(length: int) -> int:
    """Round a length up to the alignment."""
    return (length + 7) & ~7


def frame_bytes(meta_length: int, body_length: int) -> int:
    """Return the bytes that a whole frame takes."""
    return HEADER_BYTES + ((meta_length + 7) & ~7) + ((body_length + 7) & ~7)


def encode_header(
    key: int, kind: int, version: int, flags: int, segment: int, stream_id: int, position: int, durable: int, open_epoch: int,
    meta_length: int, body_length: int, meta_crc: int, body_crc: int,
) -> bytes:  # fmt: skip
    """Encode the 64 bytes of a header."""
    head = _HEADER.pack(
        MAGIC,
        kind,
        version,
        flags,
        segment,
        stream_id,
        position,
        durable,
        open_epoch,
        meta_length,
        body_length,
        meta_crc,
        body_crc,
    )
    return head + _CRC.pack(extend(key, head))


def decode_header(key: int, data: bytes, at: int = 0) -> FrameHeader | None:
    """Decode the header at `at`; None where there is no valid one (too few bytes included)."""
    if data[at : at + 4] != MAGIC or len(data) - at < HEADER_BYTES:
        return None
    if extend(key, data[at : at + 60]) != _CRC.unpack_from(data, at + 60)[0]:
        return None
    return FrameHeader._make(_HEADER.unpack_from(data, at))


def encode_frame(
    key: int, kind: int, version: int, stream_id: int, position: int, meta: bytes, segment: int = 0, open_epoch: int = 0
) -> bytes:
    """Encode a whole frame without a body, as checkpoints hold it."""
    head = encode_header(
        key, kind, version, 0, segment, stream_id, position, 0, open_epoch, len(meta), 0, crc32c(meta), 0
    )
    return head + meta + PADDING[-len(meta) & 7]


PADDING: Final = tuple(bytes(n) for n in range(ALIGNMENT))
"""Zeros by number: `PADDING[-length & 7]` fills up to the alignment."""


def content_problem(header: FrameHeader, content: bytes) -> str:
    """Return the fault of the bytes behind a header (`frame_bytes` of them, less the header), or an empty text.

    The padding is judged too: a flipped bit there is damage like any other.
    """
    meta_length, body_length = header.meta_length, header.body_length
    body_at = (meta_length + 7) & ~7
    if len(content) != body_at + ((body_length + 7) & ~7):
        return "the frame is cut short"
    if crc32c(content[:meta_length]) != header.meta_crc:
        return "the record's checksum does not match"
    if body_length and crc32c(content[body_at : body_at + body_length]) != header.body_crc:
        return "the messages' checksum does not match"
    if any(content[meta_length:body_at]) or any(content[body_at + body_length :]):
        return "the padding is not zero"
    return ""
