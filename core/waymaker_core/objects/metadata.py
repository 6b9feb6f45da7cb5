"""Metadata of an object: the payload of the message that makes the object visible, or of its tombstone.

The payload is a CBOR list that begins with its version. It names the chunks by their sequences: a reader of one revision is
never led to the chunks of another. The object's name is in the message's subject, its headers are the message's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.objects.chunk_map import ChunkMap, decode_chunk_map
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

VERSION: Final = 1
HASH_BYTES: Final = 32


@dataclass(slots=True, eq=False)
class Metadata:
    """One revision of an object. `deleted`: a tombstone, and nothing else is known.

    `chunk_size` is what the writer said; the sizes that the chunks have are in `chunks`.
    """

    deleted: bool = False
    chunk_size: int = 0
    sha256: bytes = b""
    shared: bool = False
    chunks: ChunkMap = field(default_factory=ChunkMap)


def encode_metadata(metadata: Metadata) -> bytes:
    """Return the payload of a metadata message."""
    if metadata.deleted:
        return encode_plain([VERSION, True])
    return encode_plain(
        [VERSION, False, metadata.chunk_size, metadata.sha256, metadata.shared, metadata.chunks.encode()]
    )


def decode_metadata(payload: bytes) -> Metadata:
    """Return what a metadata message says. `CorruptRecord` or `UnknownVersion` where it is none."""
    match decode_plain(payload):
        case [int(version), *_] if version > VERSION:
            raise UnknownVersion("an object's metadata", version, VERSION)
        case [1, True]:
            metadata = Metadata(deleted=True)
        case [1, False, int(chunk_size), bytes(sha256), bool(shared), bytes(chunks)]:
            if not 0 <= chunk_size <= SEQ_MAX or len(sha256) != HASH_BYTES:
                raise CorruptRecord("metadata with a number out of range")
            metadata = Metadata(False, chunk_size, sha256, shared, decode_chunk_map(chunks))
        case _:
            raise CorruptRecord("not an object's metadata")
    if encode_metadata(metadata) != payload:
        raise CorruptRecord("not the shortest metadata")
    return metadata
