"""The header of a journal segment: it distinguishes a segment in use from a spare, and links it to the one before.

64 bytes: magic word, version, open epoch, number, base, previous end, durable, zeros, checksum (seeded like frames' headers).
A file whose header names another number than its path was made ready and never written to. `previous_end` is the LSN where
the frames of the segment before end. A reader continues here only from exactly there, so that a lost end of one segment
cannot be skipped.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from waymaker_core.storage.checksum import extend
from waymaker_core.storage.format_version import FORMAT_VERSION, check_format_version

MAGIC: Final = b"WMjournl"
SEGMENT_HEADER_BYTES: Final = 64

_HEADER: Final = Struct("<8sIIQQQQ12x")
_CRC: Final = Struct("<I")
assert _HEADER.size + _CRC.size == SEGMENT_HEADER_BYTES


class SegmentHeader(NamedTuple):
    """A segment's header: addresses are absolute, `durable` as in frames."""

    open_epoch: int
    number: int
    base: int
    previous_end: int
    durable_lsn: int


def encode_segment_header(key: int, header: SegmentHeader) -> bytes:
    """Encode the 64 bytes at the beginning of a segment."""
    head = _HEADER.pack(MAGIC, FORMAT_VERSION, *header)
    return head + _CRC.pack(extend(key, head))


def decode_segment_header(key: int, data: bytes) -> SegmentHeader | None:
    """Decode the header in a file's first bytes; None where there is no valid one, `UnknownVersion` for one to come."""
    if len(data) < SEGMENT_HEADER_BYTES or data[:8] != MAGIC:
        return None
    head = data[: _HEADER.size]
    if extend(key, head) != _CRC.unpack_from(data, _HEADER.size)[0]:
        return None
    _, version, *fields = _HEADER.unpack(head)
    check_format_version("a journal segment", version)
    return SegmentHeader(*fields) if not any(head[48:]) else None
