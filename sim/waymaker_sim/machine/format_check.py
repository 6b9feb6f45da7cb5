"""Versions of the format on a simulated disk: a directory as an older program left it, and what the manifest says of new files.

Format 2 differs from format 1 in what it may hold, not in how files are laid out. So a directory without local frames becomes
one of format 1 when its headers say so. It must never change anything else.
"""

from __future__ import annotations

from struct import Struct

from waymaker_core.storage.checkpoint.writer import CHECKPOINT_HEADER_BYTES
from waymaker_core.storage.checkpoint.writer import MAGIC as CHECKPOINT_MAGIC
from waymaker_core.storage.checksum import crc32c, extend
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.storage.frame import directory_key
from waymaker_core.storage.journal.segment import MAGIC as SEGMENT_MAGIC
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES
from waymaker_core.storage.manifest import MAGIC as MANIFEST_MAGIC
from waymaker_core.storage.manifest import decode_manifest
from waymaker_core.storage.paths import MANIFEST
from waymaker_sim.kernel.checks import require
from waymaker_sim.machine.disk import SimDisk

_U32 = Struct("<I")
_VERSION_AT = 8
"""Offset of the version, behind the word that says what a file is."""
HEADER_BYTES = 64
assert HEADER_BYTES == SEGMENT_HEADER_BYTES == CHECKPOINT_HEADER_BYTES


def make_format_1(disk: SimDisk) -> bool:
    """Make a directory one that a program of format 1 left, by its headers. Return False where there is none yet."""
    key = _key_of(disk)
    if key is None:
        return False
    for path in disk.paths():
        disk.rewrite(path, lambda data: _as_format_1(key, data))
    return True


def require_named(disk: SimDisk) -> None:
    """Require that no file is of a newer format than the manifest says: an older program is refused by the manifest."""
    key = _key_of(disk)
    if key is None:
        return
    named = _U32.unpack_from(disk.content(MANIFEST), _VERSION_AT)[0]
    for path in disk.paths():
        version = _version(key, disk.content(path)[:HEADER_BYTES])
        require(version <= named, "format named", f"{path} has format {version}, and the manifest says {named}")


def _key_of(disk: SimDisk) -> int | None:
    """Return the key of a directory that was opened once; None for another one, or one whose manifest is damaged."""
    if MANIFEST not in disk.paths():
        return None
    try:
        manifest = decode_manifest(disk.content(MANIFEST))
    except CorruptRecord:
        return None
    return directory_key(manifest.directory_id) if manifest.open_epoch else None


def _as_format_1(key: int, data: bytes) -> bytes:
    if data[:8] == MANIFEST_MAGIC and crc32c(data[:-4]) == _U32.unpack(data[-4:])[0]:
        head = data[:_VERSION_AT] + _U32.pack(1) + data[_VERSION_AT + 4 : -4]
        return head + _U32.pack(crc32c(head))
    if _version(key, data[:HEADER_BYTES]):
        head = data[:_VERSION_AT] + _U32.pack(1) + data[_VERSION_AT + 4 : HEADER_BYTES - 4]
        return head + _U32.pack(extend(key, head)) + data[HEADER_BYTES:]
    return data


def _version(key: int, header: bytes) -> int:
    """Return the version in the intact header of a segment or checkpoint; 0 for anything else."""
    if len(header) < HEADER_BYTES or header[:8] not in (SEGMENT_MAGIC, CHECKPOINT_MAGIC):
        return 0
    if extend(key, header[:-4]) != _U32.unpack(header[-4:])[0]:
        return 0
    version: int = _U32.unpack_from(header, _VERSION_AT)[0]
    return version
