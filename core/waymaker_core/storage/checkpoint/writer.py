"""Checkpoints: files that hold streams' states, so that the journal before them can be deleted.

A checkpoint file holds a frame for each stream that changed since the file before it: `SNAPSHOT` (the state at a position
in its log), `TOMBSTONE` (the stream was deleted) or `QUARANTINED` (it is damaged, and must stay refused after the journal
that shows so was deleted). The files in force form a chain that the manifest lists; a stream's latest frame in the chain holds.
Streams' snapshots need not be of one moment: each is exact for its own log, and replay passes over the records it covers.

When most of the chain is superseded frames, the next checkpoint should be full (all streams) and begins a new chain.

    header (64): magic word (8) | version u32 | full u32 | number u64 | zeros | CRC32C u32
    frames, each with the file's number as its segment; the last is FINISHED
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from waymaker_core.model.disk_ops import DiskOp, SyncDir, SyncFile, Write
from waymaker_core.storage.checkpoint.deferred import DeferredFrame, FrameParts, Pieces
from waymaker_core.storage.checksum import extend
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.storage.format_version import FORMAT_VERSION, check_format_version
from waymaker_core.storage.frame import FINISHED, QUARANTINED, SNAPSHOT, TOMBSTONE, encode_frame
from waymaker_core.storage.manifest import CheckpointFile
from waymaker_core.storage.paths import CHECKPOINTS, checkpoint_path

MAGIC: Final = b"WMchkpnt"
CHECKPOINT_HEADER_BYTES: Final = 64
STATE_VERSION: Final = 1
"""Version of the frames in a checkpoint."""
GARBAGE_MIN_BYTES: Final = 64 * 1024
"""A chain below this is never worth a full checkpoint for its garbage."""
CHAIN_FILES_MAX: Final = 64
"""A longer chain is replaced by a full checkpoint, whatever its garbage: each file costs an open at start."""

_HEADER: Final = Struct("<8sIIQ36x")
_CRC: Final = Struct("<I")
assert _HEADER.size + _CRC.size == CHECKPOINT_HEADER_BYTES


def encode_state(state: object) -> bytes:
    """Encode a snapshot's meta from plain values (lists, tuples, dicts, ints, str, bytes, bool, None)."""
    return encode_plain(state)


def decode_state(meta: bytes) -> object:
    """Decode the plain values of a snapshot's meta (tuples come back as lists); `CorruptRecord` where it is not one."""
    return decode_plain(meta)


def encode_checkpoint_header(key: int, number: int, full: bool) -> bytes:
    """Encode the first 64 bytes of a checkpoint file."""
    head = _HEADER.pack(MAGIC, FORMAT_VERSION, full, number)
    return head + _CRC.pack(extend(key, head))


def check_checkpoint_header(key: int, number: int, data: bytes) -> None:
    """Raise `CorruptRecord` or `UnknownVersion` where a file does not begin as checkpoint `number`."""
    if len(data) < CHECKPOINT_HEADER_BYTES or data[:8] != MAGIC:
        raise CorruptRecord("this is not a checkpoint")
    head = data[: _HEADER.size]
    if extend(key, head) != _CRC.unpack_from(data, _HEADER.size)[0]:
        raise CorruptRecord("the checkpoint's header does not match its checksum")
    _, version, full, found = _HEADER.unpack(head)
    check_format_version("a checkpoint", version)
    if found != number or full > 1:
        raise CorruptRecord(f"this is checkpoint {found}")


def encode_damage(path: str, offset: int, detail: str) -> bytes:
    """Encode the meta of a `QUARANTINED` frame."""
    return encode_plain([path, offset, detail])


def decode_damage(meta: bytes) -> tuple[str, int, str]:
    """Decode path, offset and detail of a `QUARANTINED` frame; `CorruptRecord` where it has none."""
    match decode_plain(meta):
        case [str(path), int(offset), str(detail)]:
            return path, offset, detail
    raise CorruptRecord("not a place of damage")


class Chain:
    """The checkpoint files in force and how much of them still counts. Made by recovery."""

    __slots__ = ("files", "latest", "live_bytes")

    def __init__(self) -> None:
        self.files: list[CheckpointFile] = []
        self.latest: dict[int, int] = {}
        """Bytes of each stream's latest frame."""
        self.live_bytes = 0

    def copy(self) -> Chain:
        """Return a chain of its own with the same content."""
        twin = Chain()
        twin.files = list(self.files)
        twin.latest = dict(self.latest)
        twin.live_bytes = self.live_bytes
        return twin

    def note(self, stream_id: int, frame_bytes: int) -> None:
        """Note the bytes of a stream's latest frame (0: it was deleted)."""
        self.live_bytes += frame_bytes - self.latest.pop(stream_id, 0)
        if frame_bytes:
            self.latest[stream_id] = frame_bytes

    def full_wanted(self, few_bytes: bool = False) -> bool:
        """Return True if the next checkpoint should hold all streams and begin a new chain.

        One that has to make do with few bytes should do so only where the chain is long.
        """
        if len(self.files) >= CHAIN_FILES_MAX:
            return True
        total = sum(file.length for file in self.files)
        garbage = total - self.live_bytes
        return not few_bytes and garbage > self.live_bytes and total > GARBAGE_MIN_BYTES


_Part = tuple[int | None, bytes | DeferredFrame]


class CheckpointWriter:
    """One checkpoint file in the making. Add frames, take operations as often as wanted, then `finish`.

    The file counts when `finish`'s operations are done and then a manifest with `chain_after(...)` is durable.
    """

    def __init__(self, key: int, number: int, full: bool) -> None:
        self._key = key
        self.number = number
        self.path = checkpoint_path(number)
        self.full = full
        self._parts: list[_Part] = [(None, encode_checkpoint_header(key, number, full))]
        """Parts added since the last `take`: each with the stream whose latest frame it is, or None."""
        self._taken: list[_Part] = []
        """Parts that the last `take` gave: their length counts once they are encoded, that is, written."""
        self._length = 0
        self._crc = 0
        self._frames: list[tuple[int, int]] = []
        self._seen: set[int] = set()
        self._finished = False

    def _add(self, kind: int, stream_id: int, position: int, meta: bytes) -> None:
        self._note(kind, stream_id)
        frame = encode_frame(self._key, kind, STATE_VERSION, stream_id, position, meta, segment=self.number)
        self._parts.append((None if kind in (FINISHED, TOMBSTONE) else stream_id, frame))
        if kind == TOMBSTONE:
            self._frames.append((stream_id, 0))

    def _note(self, kind: int, stream_id: int) -> None:
        assert not self._finished
        assert kind == FINISHED or stream_id not in self._seen, "one frame a stream"
        if kind != FINISHED:
            self._seen.add(stream_id)

    def _settle(self) -> None:
        """Count what was taken, and written since."""
        for stream_id, part in self._taken:
            data = part.parts() if isinstance(part, DeferredFrame) else (part,)
            size = sum(map(len, data))
            self._length += size
            for piece in data:
                self._crc = extend(self._crc, piece)
            if stream_id is not None:
                self._frames.append((stream_id, size))
        self._taken = []

    def add_snapshot(self, stream_id: int, position: int, meta: bytes) -> None:
        """Add a stream's state (`encode_state`) at a position of its log. The catalog is stream 0."""
        self._add(SNAPSHOT, stream_id, position, meta)

    def defer_snapshot(self, stream_id: int, position: int, pieces: Pieces) -> None:
        """Add a stream's state that is encoded when it is written."""
        self._note(SNAPSHOT, stream_id)
        frame = DeferredFrame(self._key, STATE_VERSION, self.number, stream_id, position, pieces)
        self._parts.append((stream_id, frame))

    def add_tombstone(self, stream_id: int) -> None:
        """Add that a stream was deleted. A full checkpoint leaves it out: there, absence means deletion."""
        if not self.full:
            self._add(TOMBSTONE, stream_id, 0, b"")

    def add_quarantine(self, stream_id: int, path: str, offset: int, detail: str) -> None:
        """Add that a stream is damaged there."""
        self._add(QUARANTINED, stream_id, 0, encode_damage(path, offset, detail))

    def take(self) -> list[DiskOp]:
        """Return the writes of what was added since the last time (for the BACKGROUND lane, in order).

        What was taken before must have been written, or is encoded here.
        """
        self._settle()
        if not self._parts:
            return []
        parts = [part for _, part in self._parts]
        at_once = [part for part in parts if isinstance(part, bytes)]
        write = Write(self.path, self._length, at_once if len(at_once) == len(parts) else FrameParts(parts))
        self._parts, self._taken = [], self._parts
        return [write]

    def finish(self) -> list[DiskOp]:
        """Return the remaining writes and the syncs. Nothing may be added afterwards."""
        self._add(FINISHED, 0, len(self._seen), b"")
        self._finished = True
        return [*self.take(), SyncFile(self.path), SyncDir(CHECKPOINTS)]

    def chain_after(self, chain: Chain) -> Chain:
        """Return the chain once this finished file is in force; its `files` belong into the next manifest."""
        assert self._finished
        self._settle()
        after = Chain() if self.full else chain.copy()
        after.files.append(CheckpointFile(self.number, self._length, self._crc))
        for stream_id, frame_bytes in self._frames:
            after.note(stream_id, frame_bytes)
        return after
