"""Receiving a stream: pieces become files that nothing names yet, and at last a snapshot that names them.

Bodies of sealed blocks go to block files with numbers drawn here, those of open blocks to one shared block file, the snapshot
to a checkpoint file of its own. Nothing that was there before is touched. The files of a receipt that ends early are garbage;
after a crash recovery finds them as orphans.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from waymaker_core.model.disk_ops import Chunk, DiskOp, SyncFile, Write
from waymaker_core.node.checkpoint.snapshots import decode_stream, encode_parts
from waymaker_core.storage.blocks.block_file import (
    BLOCK_MAGIC,
    FILE_HEADER_BYTES,
    SHARED_BLOCK_MAGIC,
    encode_file_header,
    finish_ops,
    index_ops,
)
from waymaker_core.storage.blocks.block_index import decode_index, encode_index
from waymaker_core.storage.checkpoint.writer import Chain, CheckpointWriter
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.storage.manifest import CheckpointFile
from waymaker_core.storage.paths import block_path, checkpoint_path, shared_block_path
from waymaker_core.storage.transfer_format import Begin, Bodies, Index, Part, State, TransferPiece, TransferReader
from waymaker_core.stream.snapshot import BlockPlace, place_blocks

SHARED_BYTES_MAX: Final = 1 << 20
"""Small blocks share a file up to this size, as where a checkpoint writes them."""
BLOCKS_A_FILE_MAX: Final = 128


class _NewFile:
    """A file that is being written: bodies first, then the indexes of its blocks."""

    __slots__ = ("path", "end", "indexes")

    def __init__(self, path: str) -> None:
        self.path = path
        self.end = FILE_HEADER_BYTES
        self.indexes: list[tuple[BlockPlace, bytes]] = []

    def is_full(self, more: int, part_bytes: int) -> bool:
        """Return True if a chunk of `more` bytes begins another file."""
        return self.end > FILE_HEADER_BYTES and self.end + more > part_bytes

    def is_shared_enough(self) -> bool:
        """Return True if the next block begins another file."""
        size = self.end + sum(len(index) for _, index in self.indexes)
        return len(self.indexes) >= BLOCKS_A_FILE_MAX or (bool(self.indexes) and size >= SHARED_BYTES_MAX)


class Received(NamedTuple):
    """A snapshot that is complete on the disk: its file, its position, its meta, and the shared block file that it names."""

    position: int
    file: CheckpointFile
    meta: bytes
    shared_file: tuple[str, int] | None


class Receipt:
    """One transfer as it arrives. `feed` returns what to write; `received` is there with the last piece."""

    def __init__(self, key: int, stream_id: int, part_bytes: int, draw_number: Callable[[], int]) -> None:
        self._key = key
        self._stream_id = stream_id
        self._part_bytes = part_bytes
        self._draw_number = draw_number
        self._reader = TransferReader()
        self._position = 0
        self._places: dict[int, BlockPlace] = {}
        self._file: _NewFile | None = None
        self._shared: _NewFile | None = None
        self.paths: list[str] = []
        """All files that were begun, but for the snapshot's."""
        self.snapshot_path = ""
        self.received: Received | None = None

    def feed(self, data: bytes) -> list[DiskOp]:
        """Return the operations for the pieces that these bytes complete. `PieceError`, `CorruptRecord`: they are none."""
        ops: list[DiskOp] = []
        for piece in self._reader.feed(data):
            ops += self._take(piece)
        return ops

    def _take(self, piece: TransferPiece) -> list[DiskOp]:
        match piece:
            case Begin():
                if piece.stream_id != self._stream_id:
                    raise CorruptRecord(f"this is stream {piece.stream_id}, not {self._stream_id}")
                self._position = piece.position
                return []
            case Bodies():
                return self._take_bodies(piece)
            case Index():
                return self._take_index(piece)
            case State():
                return self._take_state(piece)
            case Part():
                return []

    def _take_bodies(self, bodies: Bodies) -> list[DiskOp]:
        place = self._places.get(bodies.block)
        ops: list[DiskOp] = []
        if place is None:
            if self._places and bodies.block <= next(reversed(self._places)):
                raise CorruptRecord("blocks are not in order")
            place = self._places[bodies.block] = BlockPlace()
            if self._file is not None and self._file.is_shared_enough():
                ops += self._close_file()
        elif place.index is not None or bodies.block != next(reversed(self._places)):
            raise CorruptRecord("chunks of a block that is complete")
        at = 0
        for length, crc in zip(bodies.lengths, bodies.crcs, strict=True):
            file = self._file_for(bodies, length, ops)
            data = bodies.data[at : at + length]
            _add_write(ops, file.path, file.end, data)
            place.chunks.append(Chunk(file.path, file.end, length, crc))
            file.end += length
            at += length
        return ops

    def _file_for(self, bodies: Bodies, length: int, ops: list[DiskOp]) -> _NewFile:
        if not bodies.sealed:
            if self._shared is None:
                self._shared = self._begin_file(ops, None)
            return self._shared
        if self._file is not None and self._file.is_full(length, self._part_bytes):
            ops += self._close_file()
        if self._file is None:
            self._file = self._begin_file(ops, bodies.block)
        return self._file

    def _begin_file(self, ops: list[DiskOp], block: int | None) -> _NewFile:
        number = self._draw_number()
        if block is None:
            path = shared_block_path(number)
            header = encode_file_header(self._key, SHARED_BLOCK_MAGIC, 0, number, 0)
        else:
            path = block_path(self._stream_id, number)
            header = encode_file_header(self._key, BLOCK_MAGIC, self._stream_id, number, block)
        self.paths.append(path)
        ops.append(Write(path, 0, [header]))
        return _NewFile(path)

    def _take_index(self, piece: Index) -> list[DiskOp]:
        place, file = self._places.get(piece.block), self._file
        if place is None or place.index is not None or file is None or place.chunks[-1].path != file.path:
            raise CorruptRecord(f"the index of block {piece.block} follows no chunks of it")
        index = decode_index(piece.data)
        if [chunk.length for chunk in index.chunks] != [chunk.length for chunk in place.chunks]:
            raise CorruptRecord(f"the index of block {piece.block} does not fit its chunks")
        index.chunks = place.chunks
        data = encode_index(index)
        # Where it will lie is known when the file is closed.
        place.index = Chunk(file.path, 0, len(data), 0)
        place.files = sorted({chunk.path for chunk in place.chunks})
        place.chunks = []
        file.indexes.append((place, data))
        return []

    def _close_file(self) -> list[DiskOp]:
        """Close a block file with the indexes of its blocks."""
        file, self._file = self._file, None
        ops: list[DiskOp] = []
        if file is not None:
            for place, data in file.indexes:
                more, place.index = index_ops(file.path, file.end, data)
                ops += more
                file.end += len(data)
            # Not all of it at the end, where others would wait for it.
            ops.append(SyncFile(file.path))
        return ops

    def _take_state(self, piece: State) -> list[DiskOp]:
        ops = self._close_file()
        snapshot = decode_stream(piece.data)
        place_blocks(snapshot.stream, self._places)
        meta = encode_parts(snapshot)
        writer = CheckpointWriter(self._key, self._draw_number(), full=False)
        writer.add_snapshot(self._stream_id, self._position, meta)
        self.snapshot_path = writer.path
        ops += finish_ops(self.paths) if self.paths else []
        ops += writer.finish()
        (file,) = writer.chain_after(Chain()).files
        assert checkpoint_path(file.number) == writer.path
        shared = None if self._shared is None else (self._shared.path, self._shared.end)
        self.received = Received(self._position, file, meta, shared)
        return ops


def _add_write(ops: list[DiskOp], path: str, offset: int, data: bytes) -> None:
    """Write bytes, with those before them where they follow."""
    last = ops[-1] if ops else None
    follows = isinstance(last, Write) and last.path == path and last.offset + sum(map(len, last.parts)) == offset
    if isinstance(last, Write) and follows and isinstance(last.parts, list):
        last.parts.append(data)
    else:
        ops.append(Write(path, offset, [data]))
