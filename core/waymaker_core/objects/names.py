"""Names of an object store: its stream, and the subjects of metadata and chunks.

An object's name is escaped into one token, so that no two names meet in one subject. The name is never normalised.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.model.limits import Limits
from waymaker_core.model.tokens import escape, escaped_subject, unescape

STREAM_PREFIX: Final = "obj:"
METADATA: Final = "objm"
CHUNKS: Final = "objc"
SHARED_CHUNKS: Final = "obj_chunk"
INDEX_DIGITS: Final = 10
WHAT: Final = "an object's name"


def stream_name(bucket: str) -> str:
    """Return the name of the stream that is a bucket."""
    return STREAM_PREFIX + bucket


def check_object_name(name: str, limits: Limits) -> None:
    """Refuse (INVALID_ARGUMENT) a name for whose chunks there is no subject."""
    escaped_subject(CHUNKS, [name, "0" * INDEX_DIGITS], WHAT, limits)


def metadata_subject(name: str) -> str:
    """Return the subject of the metadata of an object, all revisions."""
    return f"{METADATA}.{escape(name)}"


def chunk_subject(name: str, index: int) -> str:
    """Return the subject of a chunk that belongs to one object."""
    return f"{CHUNKS}.{escape(name)}.{index:0{INDEX_DIGITS}}"


def shared_chunk_subject(sha256: bytes) -> str:
    """Return the subject of a chunk that is stored once for all objects that contain it."""
    return f"{SHARED_CHUNKS}.{sha256.hex()}"


def name_of(subject: str) -> str:
    """Return the name of the object whose metadata is at a subject. `NotAToken` where it is no such subject."""
    return unescape(subject.removeprefix(f"{METADATA}."))
