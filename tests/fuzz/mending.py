"""Checksums made right again after a mutation, so that what stands behind them is reached.

Nothing here knows more of a format than where its checksums stand. What no longer has the shape of the format is left as it
is.
"""

from __future__ import annotations

from struct import Struct, pack_into, unpack_from

from waymaker_core.storage.blocks.block_index import INDEX_HEAD_BYTES
from waymaker_core.storage.checksum import crc32c, extend
from waymaker_core.storage.frame import ALIGNMENT, HEADER_BYTES, MAGIC, padded

_LENGTHS_AT = 44
_INDEX_SECTIONS_AT, _INDEX_SECTIONS, _SUBJECTS = 48, 9, 6
_SECTION = Struct("<QQI")
_PIECE_BYTES = 32
_PIECE_MAGIC = b"WMpc"
_ARCHIVE_HEAD_BYTES = 16


def mend_header(key: int, data: bytearray, at: int = 0, size: int = 64) -> None:
    """A header whose last four bytes are its checksum, seeded with the directory's key."""
    if len(data) >= at + size:
        pack_into("<I", data, at + size - 4, extend(key, bytes(data[at : at + size - 4])))


def mend_frames(key: int, data: bytearray, start: int) -> None:
    """Frames of a journal segment or a checkpoint: contents first, then headers; lengths are believed where they fit."""
    at = data.find(MAGIC, start)
    while at >= 0:
        if len(data) < at + HEADER_BYTES:
            return
        meta_length, body_length = unpack_from("<II", data, at + _LENGTHS_AT)
        meta_at = at + HEADER_BYTES
        body_at = meta_at + padded(meta_length)
        end = body_at + padded(body_length)
        if end <= len(data):
            pack_into("<I", data, at + 52, crc32c(bytes(data[meta_at : meta_at + meta_length])))
            pack_into("<I", data, at + 56, crc32c(bytes(data[body_at : body_at + body_length])))
        mend_header(key, data, at)
        at = data.find(MAGIC, end if start <= at < end <= len(data) else at + ALIGNMENT)


def mend_manifest(data: bytearray) -> None:
    """The length of the content and the checksum at the end."""
    if len(data) >= 20:
        pack_into("<I", data, 12, len(data) - 20)
        pack_into("<I", data, len(data) - 4, crc32c(bytes(data[:-4])))


def mend_subjects(data: bytearray, at: int, length: int) -> None:
    """The subject table of a block's index carries its own checksum at its end."""
    if length >= 4 and at + length <= len(data):
        pack_into("<I", data, at + length - 4, crc32c(bytes(data[at : at + length - 4])))


def mend_index(data: bytearray) -> None:
    """Every section of a block's index, then its head. Sections are laid one behind the other, the last takes the rest."""
    if len(data) < INDEX_HEAD_BYTES:
        return
    offset = INDEX_HEAD_BYTES
    for number in range(_INDEX_SECTIONS):
        place = _INDEX_SECTIONS_AT + number * _SECTION.size
        _, length, _ = _SECTION.unpack_from(data, place)
        if number == _INDEX_SECTIONS - 1 or offset + length > len(data):
            length = len(data) - offset
        if number == _SUBJECTS:
            mend_subjects(data, offset, length)
        _SECTION.pack_into(data, place, offset, length, crc32c(bytes(data[offset : offset + length])))
        offset += length
    pack_into("<I", data, INDEX_HEAD_BYTES - 4, crc32c(bytes(data[: INDEX_HEAD_BYTES - 4])))


def mend_archive(data: bytearray) -> None:
    """The archive's head and its pieces, numbered anew: one reaches to the next, its meta takes what the body leaves."""
    if len(data) < _ARCHIVE_HEAD_BYTES:
        return
    pack_into("<I", data, 12, crc32c(bytes(data[:12])))
    places: list[int] = []
    at = data.find(_PIECE_MAGIC, _ARCHIVE_HEAD_BYTES)
    while at >= 0:
        places.append(at)
        at = data.find(_PIECE_MAGIC, at + _PIECE_BYTES)
    for number, (at, end) in enumerate(zip(places, [*places[1:], len(data)], strict=False)):
        content_at = at + _PIECE_BYTES
        if end < content_at:
            return
        body_length = min(unpack_from("<I", data, at + 16)[0], end - content_at)
        body_at = end - body_length
        meta, body = bytes(data[content_at:body_at]), bytes(data[body_at:end])
        pack_into("<IIIII", data, at + 8, number, len(meta), len(body), crc32c(meta), crc32c(body))
        pack_into("<I", data, at + 28, crc32c(bytes(data[at : at + 28])))
