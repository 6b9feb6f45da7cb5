"""The manifest: the one small file that names what exists. Replaced atomically, never edited.

What it does not name is not there: a checkpoint counts once a manifest that lists it has taken the old one's place, and a
journal segment is released once `first_segment` has passed it. It also says which version of the format the directory has.

    magic word (8) | version u32 | length of the rest without the checksum u32 | CBOR list | CRC32C u32 over all before
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from waymaker_core.model.disk_ops import Delete, DiskOp, Rename, SyncDir, SyncFile, Write
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.storage.format_version import FORMAT_VERSION, check_format_version
from waymaker_core.storage.paths import MANIFEST, MANIFEST_NEW

MAGIC: Final = b"WMmanifs"
MANIFEST_BYTES_MAX: Final = 1 << 20
"""More bytes than any manifest has: the size of a read."""
ID_BYTES: Final = 16

_HEAD: Final = Struct("<8sII")
_CRC: Final = Struct("<I")


@dataclass(slots=True, eq=False)
class CheckpointFile:
    """A checkpoint file as the manifest lists it: its whole length and the CRC32C over it."""

    number: int
    length: int
    crc: int


class Manifest:
    """The files that exist.

    `chain`: checkpoint files, oldest first. `open_epoch`: how often the directory was opened (0: being made).

    `next_file` is the next number for checkpoints, block files and shared ones. Numbers drawn and lost in a crash are not drawn
    again: recovery raises it above every file found.

    `version`: that of the format in which it was read. It is written in the newest one, whatever this says.
    """

    __slots__ = ("directory_id", "node_id", "open_epoch", "first_segment", "next_file", "chain", "version")

    def __init__(
        self,
        directory_id: bytes,
        node_id: int,
        open_epoch: int,
        first_segment: int,
        next_file: int,
        chain: list[CheckpointFile],
        version: int = FORMAT_VERSION,
    ) -> None:
        assert len(directory_id) == ID_BYTES
        self.directory_id = directory_id
        self.node_id = node_id
        self.open_epoch = open_epoch
        self.first_segment = first_segment
        self.next_file = next_file
        self.chain = chain
        self.version = version

    def draw_file(self) -> int:
        """Draw a new file number."""
        number = self.next_file
        self.next_file += 1
        return number


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode the file's bytes."""
    content = encode_plain(
        [
            manifest.directory_id,
            manifest.node_id,
            manifest.open_epoch,
            manifest.first_segment,
            manifest.next_file,
            [[file.number, file.length, file.crc] for file in manifest.chain],
        ]
    )
    data = _HEAD.pack(MAGIC, FORMAT_VERSION, len(content)) + content
    assert len(data) < MANIFEST_BYTES_MAX
    return data + _CRC.pack(crc32c(data))


def decode_manifest(data: bytes) -> Manifest:
    """Decode the manifest in a file's bytes; `CorruptRecord` or `UnknownVersion` where there is none."""
    if len(data) < _HEAD.size + _CRC.size:
        raise CorruptRecord("the manifest is cut short")
    magic, version, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise CorruptRecord("this is not a manifest")
    if crc32c(data[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise CorruptRecord("the manifest's checksum does not match")
    check_format_version("the manifest", version)
    if len(data) != _HEAD.size + length + _CRC.size:
        raise CorruptRecord("the manifest does not have its length")
    match decode_plain(data[_HEAD.size : -_CRC.size]):
        case [bytes(directory_id), int(node_id), int(open_epoch), int(first_segment), int(next_file), list(chain)] if (
            len(directory_id) == ID_BYTES and min(node_id, open_epoch, first_segment, next_file) >= 0
        ):
            files = [_checkpoint_file(file) for file in chain]
            return Manifest(directory_id, node_id, open_epoch, first_segment, next_file, files, version)
    raise CorruptRecord("the manifest does not have its fields")


def _checkpoint_file(value: object) -> CheckpointFile:
    match value:
        case [int(number), int(length), int(crc)]:
            return CheckpointFile(number, length, crc)
    raise CorruptRecord("the manifest does not have its fields")


def replace_ops(manifest: Manifest) -> list[DiskOp]:
    """Return operations that put this manifest in the old one's place; durable when they are done.

    They may be repeated from the beginning after a failure for want of space.
    """
    return [
        Delete(MANIFEST_NEW),
        Write(MANIFEST_NEW, 0, [encode_manifest(manifest)]),
        SyncFile(MANIFEST_NEW),
        Rename(MANIFEST_NEW, MANIFEST),
        SyncDir(""),
    ]
