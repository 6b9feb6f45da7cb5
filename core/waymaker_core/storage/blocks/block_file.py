"""Block and tail files: messages moved out of the journal. This module plans their writing; `block_index` is their index.

A block's messages lie in one or more part files of about `block_bytes_max`: a header of 64 bytes, then the stored bodies in
chunks copied verbatim, without gaps. A sealed block's last part ends in its index; small neighbours share a part, which ends
in their indexes (the block number in the header is the first one's). A shared block file is the same without an
index: chunks of many streams' open blocks, named by the streams' snapshots. Neither is ever changed once a snapshot in
force names it.

    header (64): magic word (8) | version u32 | zeros u32 | stream id u64 | file number u64 | block number u64 | zeros | CRC32C
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from waymaker_core.model.disk_ops import Chunk, CopyChunks, DiskOp, SyncDir, SyncFile, Write
from waymaker_core.storage.blocks.block_index import (
    HOLE,
    INDEX_HEAD_BYTES,
    BlockIndex,
    SubjectTable,
    decode_index,
    decode_subjects,
    encode_index,
    subject_section,
)
from waymaker_core.storage.checksum import crc32c, extend
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.paths import block_path, shared_block_path

__all__ = [
    "FILE_HEADER_BYTES", "HOLE", "INDEX_HEAD_BYTES", "BlockIndex", "PartPlan", "SubjectTable", "check_file_header",
    "decode_index", "decode_subjects", "encode_file_header", "encode_index", "finish_ops", "index_ops", "plan_block",
    "plan_shared_file", "subject_section",
]  # fmt: skip

BLOCK_MAGIC: Final = b"WMblockf"
SHARED_BLOCK_MAGIC: Final = b"WMtailfl"
FILE_VERSION: Final = 1
FILE_HEADER_BYTES: Final = 64
"""Header of block and tail files; chunks begin behind it."""

_HEADER: Final = Struct("<8sI4xQQQ20x")
_CRC: Final = Struct("<I")
assert _HEADER.size + _CRC.size == FILE_HEADER_BYTES

Keep = list[list[tuple[int, int]] | None]
"""The parts of each source to copy, as in `disk_ops.CopyChunks`."""


def encode_file_header(key: int, magic: bytes, stream_id: int, number: int, block_no: int) -> bytes:
    """Encode the first 64 bytes of a block file (`BLOCK_MAGIC`) or a shared one (`SHARED_BLOCK_MAGIC`, stream and block 0)."""
    head = _HEADER.pack(magic, FILE_VERSION, stream_id, number, block_no)
    return head + _CRC.pack(extend(key, head))


def check_file_header(key: int, path: str, number: int, data: bytes) -> None:
    """Raise `CorruptRecord` or `UnknownVersion` where a file does not begin as the block or tail that its path names."""
    magic = BLOCK_MAGIC if path.startswith("blocks/") else SHARED_BLOCK_MAGIC
    if len(data) < FILE_HEADER_BYTES or data[:8] != magic:
        raise CorruptRecord("this is not a block or tail file")
    head = data[: _HEADER.size]
    if extend(key, head) != _CRC.unpack_from(data, _HEADER.size)[0]:
        raise CorruptRecord("the file's header does not match its checksum")
    _, version, stream_id, found, _ = _HEADER.unpack(head)
    if version != FILE_VERSION:
        raise UnknownVersion("a block or tail file", version, FILE_VERSION)
    if path != (block_path(stream_id, found) if magic == BLOCK_MAGIC else shared_block_path(found)) or found != number:
        raise CorruptRecord(f"this is file {found} of stream {stream_id}")


@dataclass(slots=True, eq=False)
class PartPlan:
    """One file to be written: `ops` write its header and copy its chunks; `copied` then says where they lie."""

    path: str
    number: int
    lengths: list[int]
    """Bytes of each copy."""
    end: int
    """File offset behind the last one."""
    ops: list[DiskOp]
    """A `Write` of the header and one `CopyChunks`, in this order."""

    def copied(self, crcs: list[int]) -> list[Chunk]:
        """Return the chunks as they lie in the new file, in the order of the sources. `crcs`: the `CopyChunks`' result."""
        chunks: list[Chunk] = []
        offset = FILE_HEADER_BYTES
        for length, crc in zip(self.lengths, crcs, strict=True):
            chunks.append(Chunk(self.path, offset, length, crc))
            offset += length
        assert offset == self.end
        return chunks


def _plan(path: str, number: int, header: bytes, sources: list[Chunk], keep: Keep | None) -> PartPlan:
    lengths = [_kept_bytes(source, keep[i] if keep is not None else None) for i, source in enumerate(sources)]
    ops: list[DiskOp] = [Write(path, 0, [header]), CopyChunks(path, FILE_HEADER_BYTES, sources, keep)]
    return PartPlan(path, number, lengths, FILE_HEADER_BYTES + sum(lengths), ops)


def _kept_bytes(source: Chunk, ranges: list[tuple[int, int]] | None) -> int:
    return source.length if ranges is None else sum(end - start for start, end in ranges)


def plan_block(
    key: int, stream_id: int, draw_number: Callable[[], int], block_no: int, sources: list[Chunk], keep: Keep | None,
    part_bytes_max: int,
) -> list[PartPlan]:  # fmt: skip
    """Copy a block's chunks, in order, into new files of the stream, each of about `part_bytes_max` at most."""
    plans: list[PartPlan] = []
    start = 0
    while start < len(sources):
        stop = start
        total = 0
        while stop < len(sources):
            length = _kept_bytes(sources[stop], keep[stop] if keep is not None else None)
            if stop > start and total + length > part_bytes_max:
                break
            total += length
            stop += 1
        number = draw_number()
        header = encode_file_header(key, BLOCK_MAGIC, stream_id, number, block_no)
        part_keep = keep[start:stop] if keep is not None else None
        plans.append(_plan(block_path(stream_id, number), number, header, sources[start:stop], part_keep))
        start = stop
    return plans


def plan_shared_file(key: int, number: int, sources: list[Chunk], keep: Keep | None = None) -> PartPlan:
    """Copy chunks of any streams into the shared block file `number`."""
    return _plan(
        shared_block_path(number), number, encode_file_header(key, SHARED_BLOCK_MAGIC, 0, number, 0), sources, keep
    )


def index_ops(path: str, end: int, index: bytes) -> tuple[list[DiskOp], Chunk]:
    """Write a sealed block's index behind its last part's chunks: operations, and where it will lie."""
    return [Write(path, end, [index])], Chunk(path, end, len(index), crc32c(index))


def finish_ops(paths: list[str]) -> list[DiskOp]:
    """Return the syncs that make finished block files durable, names included."""
    ops: list[DiskOp] = [SyncFile(path) for path in paths]
    folders = dict.fromkeys(path.partition("/")[0] for path in paths)
    return ops + [SyncDir(folder) for folder in folders]
