"""Transfers: the snapshot of one stream and the bytes that it names, as pieces for another replica.

A transfer is exact, for replicas of one stream: the same incarnation, the same position of its log, all that its snapshot in
a checkpoint says, soft facts included. An archive is portable, for people: messages and settings, which make a new stream.
No path is in a transfer. Places of bodies are told by their order, and the receiver has files of its own.

    1 begin    meta: [stream id, position]
    2 bodies   meta: [block, sealed, lengths, checksums], body: the chunks of a block, one behind the other; of a block in order
    3 part     body: the beginning, or the next bytes, of the item that follows
    4 index    meta: [block], body: the end of the index of a sealed block, whose chunks came before
    5 state    meta: [chunks, bytes of bodies], body: the end of the snapshot. Nothing follows

Checksums of chunks travel with them: what arrives is what the sender verified when it read it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.pieces import PieceFormat, PieceReader, PieceWriter

_FORMAT: Final = PieceFormat(b"WMtransf", 1, "transfer")
PART_BYTES: Final = 1 << 20
"""Longer items travel in parts of this size."""
ITEM_BYTES_MAX: Final = 1 << 30
"""More than any index or snapshot has."""

_SWAP: Final = array("H", [1]).tobytes() != b"\x01\x00"

_BEGIN: Final = 1
_BODIES: Final = 2
_PART: Final = 3
_INDEX: Final = 4
_STATE: Final = 5


class Begin(NamedTuple):
    """The stream's incarnation, and the position of its log that the snapshot is of."""

    stream_id: int
    position: int


class Bodies(NamedTuple):
    """Chunks of one block: the length and checksum of each, and their bytes. `sealed`: its index follows them."""

    block: int
    sealed: bool
    lengths: array[int]
    crcs: array[int]
    data: bytes


class Index(NamedTuple):
    """The index of a sealed block. Its chunks name no files."""

    block: int
    data: bytes


class State(NamedTuple):
    """The snapshot; its blocks name no files."""

    data: bytes


class Part(NamedTuple):
    """Bytes of an item that is not whole yet."""

    byte_count: int


TransferPiece = Begin | Bodies | Index | State | Part


class TransferWriter:
    """Items in, pieces out: `first`, then each block's bodies and its index, then `state`."""

    def __init__(self) -> None:
        self._pieces = PieceWriter(_FORMAT)
        self._chunks = 0
        self._body_bytes = 0

    def first(self, begin: Begin) -> bytes:
        """Return the beginning of a transfer."""
        return self._pieces.start() + self._pieces.piece(_BEGIN, encode_plain(list(begin)))

    def bodies(self, bodies: Bodies) -> bytes:
        """Encode chunks of a block."""
        self._chunks += len(bodies.lengths)
        self._body_bytes += len(bodies.data)
        return self._pieces.piece(
            _BODIES, encode_plain([bodies.block, bodies.sealed, _raw(bodies.lengths), _raw(bodies.crcs)]), bodies.data
        )

    def index(self, index: Index) -> Iterator[bytes]:
        """Encode a block's index, in parts."""
        return self._item(_INDEX, encode_plain([index.block]), index.data)

    def state(self, state: State) -> Iterator[bytes]:
        """Encode the snapshot, in parts; nothing may follow."""
        return self._item(_STATE, encode_plain([self._chunks, self._body_bytes]), state.data)

    def _item(self, kind: int, meta: bytes, data: bytes) -> Iterator[bytes]:
        last = max(0, len(data) - 1) // PART_BYTES * PART_BYTES
        for at in range(0, last, PART_BYTES):
            yield self._pieces.piece(_PART, b"", data[at : at + PART_BYTES])
        yield self._pieces.piece(kind, meta, data[last:])


class TransferReader(PieceReader[TransferPiece]):
    """Pieces in, items out. Memory is bounded by the longest item."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)
        self._item: list[bytes] = []
        self._item_bytes = 0
        self._chunks = 0
        self._body_bytes = 0

    def _decode(self, kind: int, meta: bytes, body: bytes) -> TransferPiece:
        if (self._number == 0) != (kind == _BEGIN):
            raise CorruptRecord("a transfer begins once")
        if kind == _PART:
            self._item_bytes += len(body)
            if meta or not body or self._item_bytes > ITEM_BYTES_MAX:
                raise CorruptRecord("not a part of an item")
            self._item.append(body)
            return Part(len(body))
        if self._item and kind not in (_INDEX, _STATE):
            raise CorruptRecord("an item is not whole")
        data = b"".join([*self._item, body])
        self._item, self._item_bytes = [], 0
        return self._decode_item(kind, decode_plain(meta), data)

    def _decode_item(self, kind: int, meta: object, data: bytes) -> TransferPiece:
        match kind, meta:
            case (1, [int(stream_id), int(position)]) if stream_id > 0 and position >= 0 and not data:
                return Begin(stream_id, position)
            case (2, [int(block), bool(sealed), bytes(lengths), bytes(crcs)]) if block >= 0:
                return self._decode_bodies(Bodies(block, sealed, _column(lengths), _column(crcs), data))
            case (4, [int(block)]) if block >= 0:
                return Index(block, data)
            case (5, [int(chunks), int(body_bytes)]):
                if (chunks, body_bytes) != (self._chunks, self._body_bytes):
                    raise CorruptRecord(f"the end counts {chunks} chunks, but {self._chunks} came")
                self.finished = True
                return State(data)
        if not _BEGIN <= kind <= _STATE:
            raise UnknownVersion("a piece's kind", kind, _STATE)
        raise CorruptRecord("a piece does not have its fields")

    def _decode_bodies(self, bodies: Bodies) -> Bodies:
        _, _, lengths, crcs, data = bodies
        if len(lengths) != len(crcs) or sum(lengths) != len(data) or not all(lengths):
            raise CorruptRecord("chunks do not fit their bytes")
        at = 0
        for length, crc in zip(lengths, crcs, strict=True):
            if crc32c(data[at : at + length]) != crc:
                raise CorruptRecord("a chunk does not match its checksum")
            at += length
        self._chunks += len(lengths)
        self._body_bytes += len(data)
        return bodies


def _raw(column: array[int]) -> bytes:
    if _SWAP:
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _column(data: bytes) -> array[int]:
    column = array("I")
    if len(data) % column.itemsize:
        raise CorruptRecord("a column is cut short")
    column.frombytes(data)
    if _SWAP:
        column.byteswap()
    return column
