"""Pieces: a sequence of bytes that a reader takes as it comes, in numbered parts with checksums of their own.

Archives and transfers are made of them. A writer turns pieces into bytes; a reader gives each piece back at once when it is
whole, and holds one at most. Bytes that are cut short, damaged, reordered or foreign end in a `PieceError` that says where,
never in fewer pieces.

    file head (16): magic word (8) | version u32 | CRC32C u32
    pieces: magic "WMpc" | kind u8 | version u8 | zeros u16 | number u32 | meta length u32 | body length u32 |
            meta CRC32C u32 | body CRC32C u32 | header CRC32C u32 | meta | body
"""

from __future__ import annotations

from struct import Struct
from typing import Final, Generic, NamedTuple, TypeVar

from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

PIECE_MAGIC: Final = b"WMpc"
PIECE_VERSION: Final = 1
META_BYTES_MAX: Final = 256 << 20
"""More than any head has; a longer piece is damage."""
BODY_BYTES_MAX: Final = 64 << 20
"""Stored bodies in one piece, at most."""

_FILE: Final = Struct("<8sI")
_PIECE: Final = Struct("<4sBB2xIIIII")
_CRC: Final = Struct("<I")
_FILE_BYTES: Final = _FILE.size + _CRC.size
_PIECE_BYTES: Final = _PIECE.size + _CRC.size

P = TypeVar("P")


class PieceFormat(NamedTuple):
    """The kind of a sequence of pieces: its word, its version, and its name in messages."""

    magic: bytes
    version: int
    name: str


class PieceError(ValueError):
    """The bytes are no whole, undamaged sequence of pieces of a known version. `offset` counts from the first byte."""

    def __init__(self, name: str, offset: int, detail: str) -> None:
        super().__init__(f"{name} at byte {offset}: {detail}")
        self.offset = offset
        self.detail = detail


class PieceWriter:
    """Pieces in, bytes out: `start` first."""

    def __init__(self, piece_format: PieceFormat) -> None:
        self._format = piece_format
        self._number = 0

    def start(self) -> bytes:
        """Return the beginning of the sequence."""
        start = _FILE.pack(self._format.magic, self._format.version)
        return start + _CRC.pack(crc32c(start))

    def piece(self, kind: int, meta: bytes, body: bytes = b"") -> bytes:
        """Encode the next piece."""
        head = _PIECE.pack(
            PIECE_MAGIC, kind, PIECE_VERSION, self._number, len(meta), len(body), crc32c(meta), crc32c(body)
        )  # fmt: skip
        self._number += 1
        return b"".join((head, _CRC.pack(crc32c(head)), meta, body))


class PieceReader(Generic[P]):
    """Bytes in, pieces out, in order and each at once when it is whole. Memory is bounded by one piece.

    A subclass decodes them (`_decode`), and sets `finished` with the last one.
    """

    def __init__(self, piece_format: PieceFormat) -> None:
        self._format = piece_format
        self._buffer = bytearray()
        self._offset = 0
        """Of the buffer's first byte in the sequence."""
        self._started = False
        self._number = 0
        self._broken = False
        self.finished = False
        """True once the last piece has come."""

    def _decode(self, kind: int, meta: bytes, body: bytes) -> P:
        """Decode piece `_number`. `CorruptRecord` or `UnknownVersion` where it is none."""
        raise NotImplementedError

    def feed(self, data: bytes) -> list[P]:
        """Return the pieces that these bytes complete. After an error the reader is of no more use."""
        assert not self._broken, "what was refused is not read on"
        self._buffer += data
        pieces: list[P] = []
        try:
            self._take_start()
            while self._take_piece(pieces):
                pass
        except PieceError:
            self._broken = True
            raise
        return pieces

    def require_whole(self) -> None:
        """Raise an error unless all pieces have come: no more bytes do."""
        if not self.finished or self._buffer or self._broken:
            raise self._error(f"the {self._format.name} is cut short")

    def _error(self, detail: str) -> PieceError:
        return PieceError(self._format.name, self._offset, detail)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._offset += size
        return data

    def _take_start(self) -> None:
        if self._started:
            return
        magic, known, name = self._format
        if not magic.startswith(self._buffer[: len(magic)]):
            raise self._error(f"this is not {_one(name)}")
        if len(self._buffer) < _FILE_BYTES:
            return
        start = bytes(self._buffer[:_FILE_BYTES])
        if crc32c(start[: _FILE.size]) != _CRC.unpack_from(start, _FILE.size)[0]:
            raise self._error("the beginning does not match its checksum")
        version = _FILE.unpack_from(start)[1]
        if version != known:
            raise self._error(str(UnknownVersion(_one(name), version, known)))
        self._take(_FILE_BYTES)
        self._started = True

    def _take_piece(self, pieces: list[P]) -> bool:
        """Add the next piece, if it is whole."""
        if self.finished and self._buffer:
            raise self._error("something follows the summary")
        if not self._started or len(self._buffer) < _PIECE_BYTES:
            return False
        head = bytes(self._buffer[:_PIECE_BYTES])
        if crc32c(head[: _PIECE.size]) != _CRC.unpack_from(head, _PIECE.size)[0]:
            raise self._error("a piece's header does not match its checksum")
        magic, kind, version, number, meta_length, body_length, meta_crc, body_crc = _PIECE.unpack_from(head)
        if magic != PIECE_MAGIC or any(head[6:8]):
            raise self._error("there is no piece where one should begin")
        if version != PIECE_VERSION:
            raise self._error(str(UnknownVersion(f"a piece of the {self._format.name}", version, PIECE_VERSION)))
        if number != self._number:
            raise self._error(f"piece {number} follows, where {self._number} should")
        if meta_length > META_BYTES_MAX or body_length > BODY_BYTES_MAX:
            raise self._error("a piece is longer than any can be")
        if len(self._buffer) < _PIECE_BYTES + meta_length + body_length:
            return False
        meta = bytes(self._buffer[_PIECE_BYTES : _PIECE_BYTES + meta_length])
        body = bytes(self._buffer[_PIECE_BYTES + meta_length : _PIECE_BYTES + meta_length + body_length])
        if crc32c(meta) != meta_crc or crc32c(body) != body_crc:
            raise self._error("a piece does not match its checksum")
        try:
            pieces.append(self._decode(kind, meta, body))
        except (CorruptRecord, UnknownVersion) as problem:
            raise self._error(str(problem)) from problem
        self._take(_PIECE_BYTES + meta_length + body_length)
        self._number += 1
        return True


def _one(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
