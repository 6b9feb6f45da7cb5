"""The checkpoint chain's reader: a stream's latest frame, and what of the chain is damaged. Sans-I/O, changes nothing.

Damage inside one stream's frame is put down to that stream, and forgotten where a later file of the chain holds a newer
frame for it; any other damage is the store's.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from waymaker_core.model.disk_ops import DiskOp, OpResult
from waymaker_core.storage.checkpoint.writer import (
    CHECKPOINT_HEADER_BYTES,
    STATE_VERSION,
    Chain,
    check_checkpoint_header,
    decode_damage,
)
from waymaker_core.storage.checksum import extend
from waymaker_core.storage.disk_steps import READ_BYTES, Steps, read
from waymaker_core.storage.errors import CorruptRecord, CorruptStore, UnknownStoreVersion, UnknownVersion
from waymaker_core.storage.frame import (
    FINISHED,
    HEADER_BYTES,
    QUARANTINED,
    SNAPSHOT,
    TOMBSTONE,
    FrameHeader,
    content_problem,
    decode_header,
    padded,
)
from waymaker_core.storage.manifest import CheckpointFile
from waymaker_core.storage.paths import checkpoint_path


@dataclass(slots=True, eq=False)
class StreamState:
    """A stream's latest frame: its snapshot at a position, or what is wrong with it (`problem`, at `path` and `offset`)."""

    position: int
    meta: bytes
    path: str
    offset: int
    problem: str


class ChainReader:
    """Reads the files in order. Afterwards: `states` by stream id, `chain`, and `superseded` damage in words."""

    def __init__(self, key: int, files: list[CheckpointFile], sizes: dict[int, int]) -> None:
        self._key = key
        self._files = files
        self._sizes = sizes
        self.states: dict[int, StreamState] = {}
        self.chain = Chain()
        self.superseded: list[str] = []
        self.bytes_read = 0

    def walk(self) -> Steps:
        """Read everything. Raises `StoreRefused` at damage that belongs to no stream."""
        for file in self._files:
            yield from self._file(file)
            self.chain.files.append(file)

    def _file(self, file: CheckpointFile) -> Steps:
        path = checkpoint_path(file.number)
        if file.number not in self._sizes:
            raise CorruptStore(path, 0, "the checkpoint is missing")
        if self._sizes[file.number] != file.length:
            detail = f"the checkpoint has {self._sizes[file.number]} bytes and should have {file.length}"
            raise CorruptStore(path, min(file.length, self._sizes[file.number]), detail)
        data = yield from read(path, 0, CHECKPOINT_HEADER_BYTES)
        try:
            check_checkpoint_header(self._key, file.number, data)
        except CorruptRecord as problem:
            raise CorruptStore(path, 0, str(problem)) from problem
        except UnknownVersion as unknown:
            raise UnknownStoreVersion(path, 0, str(unknown)) from unknown
        crc = extend(0, data)
        offset, count, damaged, finished = CHECKPOINT_HEADER_BYTES, 0, False, False
        window, start = b"", offset
        while offset < file.length:
            if len(window) - (offset - start) < HEADER_BYTES:
                start = offset
                window = yield from read(path, start, READ_BYTES)
            header = decode_header(self._key, window, offset - start)
            if header is None or header.segment != file.number or finished:
                raise CorruptStore(path, offset, "a frame of the checkpoint is damaged")
            size = HEADER_BYTES + padded(header.meta_length)
            if len(window) - (offset - start) < size:
                start = offset
                window = yield from read(path, start, max(READ_BYTES, size))
            frame = window[offset - start : offset - start + size]
            crc = extend(crc, frame)
            finished = header.kind == FINISHED
            if finished:
                if header.position != count or content_problem(header, frame[HEADER_BYTES:]):
                    raise CorruptStore(path, offset, "the checkpoint does not hold all its frames")
            else:
                damaged = self._frame(path, offset, header, frame) or damaged
                count += 1
            offset += size
        self.bytes_read += file.length
        if not finished or (crc != file.crc and not damaged):
            raise CorruptStore(path, 0, "the checkpoint's checksum does not match")

    def _frame(self, path: str, offset: int, header: FrameHeader, frame: bytes) -> bool:
        """Note one stream's frame; return True if it is damaged."""
        stream_id = header.stream_id
        problem = content_problem(header, frame[HEADER_BYTES:])
        damaged = problem != ""
        if header.version != STATE_VERSION or not SNAPSHOT <= header.kind <= QUARANTINED:
            raise UnknownStoreVersion(
                path, offset, f"a frame of kind {header.kind}, version {header.version}, is unknown"
            )
        before = self.states.pop(stream_id, None)
        if before is not None and before.problem and header.kind != QUARANTINED:
            self.superseded.append(
                f"{before.path} at {before.offset}: {before.problem} (a newer checkpoint replaces it)"
            )
        self.chain.note(stream_id, 0 if header.kind == TOMBSTONE else len(frame))
        if header.kind == TOMBSTONE and not damaged:
            return False
        meta = frame[HEADER_BYTES : HEADER_BYTES + header.meta_length]
        if header.kind == QUARANTINED and not damaged:
            try:
                path, offset, problem = decode_damage(meta)
            except CorruptRecord as error:
                problem = str(error)
        self.states[stream_id] = StreamState(header.position, meta, path, offset, problem)
        return damaged


class SnapshotFiles:
    """Checkpoint files that are not of the chain: each holds the snapshot of one stream that was adopted."""

    def __init__(self, key: int, sizes: dict[int, int]) -> None:
        self._key = key
        self._sizes = sizes

    def has(self, file: CheckpointFile) -> bool:
        """Return True if there is a file of that number."""
        return file.number in self._sizes

    def read_snapshot(self, file: CheckpointFile, stream_id: int) -> Generator[DiskOp, OpResult, StreamState]:
        """Read a stream's snapshot. `StoreRefused` where the file is damaged, `CorruptRecord` where it holds another."""
        reader = ChainReader(self._key, [file], self._sizes)
        yield from reader.walk()
        state = reader.states.get(stream_id)
        if state is None or len(reader.states) != 1 or state.problem:
            raise CorruptRecord(f"{checkpoint_path(file.number)} is not a snapshot of stream {stream_id} alone")
        return state
