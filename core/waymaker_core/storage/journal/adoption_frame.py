"""The content of an `ADOPT` frame: the checkpoint file that holds one stream's snapshot, and nothing else."""

from __future__ import annotations

from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.journal.facts import FACT_VERSION
from waymaker_core.storage.manifest import CheckpointFile


def encode_adoption(file: CheckpointFile) -> bytes:
    """Encode number, length and checksum of a snapshot's file."""
    return encode_plain([file.number, file.length, file.crc])


def decode_adoption(version: int, meta: bytes) -> CheckpointFile:
    """Decode them; `CorruptRecord` or `UnknownVersion` where the bytes are none."""
    if version != FACT_VERSION:
        raise UnknownVersion("an adoption", version, FACT_VERSION)
    match decode_plain(meta):
        case [int(number), int(length), int(crc)]:
            return CheckpointFile(number, length, crc)
    raise CorruptRecord("not the file of a snapshot")
