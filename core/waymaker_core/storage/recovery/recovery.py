"""Recovery: from the files of a data directory to the state they hold, or to a clear refusal. Sans-I/O.

A generator yields `disk` operations and is sent their results; a failed operation is thrown into it as `DiskFailure`. It
reads the manifest, the checkpoint chain and then the journal, and passes what it finds to a `Target`.

The end of the journal's frames is a judgement (`journal/reader`). Damage below belongs to its stream if a header is intact
(`Quarantine`), else to the node (`CorruptStore`); it is never the end. A torn tail is cut, and cutting is safe to
repeat: the headers found behind the cut are erased, and were they not, they would still have an older `open_epoch` than
whatever is written next, so what was cut never comes back. What was accepted without proof that it was durable is written once
more and synced before anything depends on it: a file system that failed to write it may still show it.

Recovery deletes no file that holds data: it lists the files that nothing names as `orphans`. It deletes only unfinished spare
segments, for their numbers are used again, and on a full disk something that can be spared (`reopening`).
Interrupted at any operation or done twice, it gives the same state.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from waymaker_core.model.disk_ops import Chunk, DiskOp, OpResult
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import ImportEnded, Record
from waymaker_core.storage import record_codec
from waymaker_core.storage.checkpoint.reader import ChainReader
from waymaker_core.storage.checkpoint.writer import Chain
from waymaker_core.storage.disk_steps import list_folder, read
from waymaker_core.storage.errors import CorruptRecord, CorruptStore, NotAStore, UnknownStoreVersion, UnknownVersion
from waymaker_core.storage.format_version import FORMAT_VERSION
from waymaker_core.storage.frame import FrameHeader, directory_key
from waymaker_core.storage.journal.reader import JournalReader
from waymaker_core.storage.journal.writer import JournalState
from waymaker_core.storage.manifest import MANIFEST_BYTES_MAX, Manifest, decode_manifest, replace_ops
from waymaker_core.storage.paths import (
    BLOCKS,
    FOLDERS,
    JOURNAL,
    LOCK,
    MANIFEST,
    MANIFEST_NEW,
    RESERVE,
    SHARED_BLOCKS,
    block_owner,
    checkpoint_path,
    file_number,
    segment_number,
)
from waymaker_core.storage.recovery.reopening import create, perform, reopen

CATALOG: Final = 0
FIRST_SEGMENT: Final = 1
IGNORED_NAMES: Final = frozenset((LOCK, MANIFEST, MANIFEST_NEW, RESERVE, "lost+found", *FOLDERS))
"""Names in a data directory that do not speak against its being empty."""


NONSENSE: Final = (ValueError, AssertionError, LookupError, ArithmeticError, TypeError)
"""Errors that a state raises at a record or a snapshot that does not fit it: damage too, though every checksum matches."""


@dataclass(slots=True, eq=False)
class Quarantine:
    """Damage that belongs to one stream: the file, the offset in it, and what is wrong."""

    stream_id: int
    path: str
    offset: int
    detail: str

    def __repr__(self) -> str:
        return f"Quarantine(stream {self.stream_id}, {self.path} at {self.offset}: {self.detail})"


class Target(Protocol):
    """The state that recovery fills. The first two may raise `CorruptRecord` or any of `NONSENSE`: quarantine follows."""

    def snapshot(self, stream_id: int, position: int, meta: bytes) -> None:
        """Take a stream's state at a position of its log. The catalog (0) comes first, then ascending ids.

        A stream that the catalog's state does not hold may be created by a record still to come, or have been deleted.
        """
        ...

    def record(self, stream_id: int, position: int, record: Record, chunk: Chunk | None) -> None:
        """Take a committed record, in order and without gaps for each stream; `chunk` holds its stored bodies."""
        ...

    def exists(self, stream_id: int) -> bool:
        """Return True if the stream exists after the records so far; records of others are skipped."""
        ...

    def quarantine(self, quarantine: Quarantine) -> None:
        """Note that a stream's data are damaged; nothing more of it follows. It is never the catalog.

        As with `snapshot`, the stream may not be known yet, or have been deleted.
        """
        ...

    def import_ended(self, stream_id: int) -> None:
        """Note that the restore of a quarantined stream had ended, by a record of its log."""
        ...

    def files(self) -> Iterable[tuple[int, str]]:
        """Yield stream id and path of all block files and shared ones that the streams' states name; called at the end."""
        ...


@dataclass(slots=True, eq=False)
class Recovered:
    """The findings of recovery.

    `clean`: the last stop was a drain; `complete`: and records hold every delivery. `orphans`: files that nothing names,
    to be deleted at leisure. `found_version`: the version of the format in which the directory was found. `warnings`: damage
    that takes nothing away (a superseded snapshot, a frame of a deleted stream), in words. `cut_bytes`: length of the torn
    tail; `cut_at`: its path and offset, or None.
    """

    manifest: Manifest
    journal: JournalState
    chain: Chain
    quarantines: list[Quarantine] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    clean: bool = False
    complete: bool = False
    is_new: bool = False
    found_version: int = FORMAT_VERSION
    replayed: int = 0
    replayed_bytes: int = 0
    cut_bytes: int = 0
    cut_at: tuple[str, int] | None = None


def recover(
    target: Target, limits: Limits, fresh_id: bytes, node_id: int = 1
) -> Generator[DiskOp, OpResult, Recovered]:
    """Open a data directory. `fresh_id`: 16 random bytes, the id of the directory if it turns out to be new.

    Raises `StoreRefused` (`CorruptStore`, `UnknownStoreVersion`, `NotAStore`), naming file and offset, before anything was
    written; `DiskFailure` where the disk itself failed. When it returns, all that was handed over is durable.
    """
    folders = yield from list_store()
    manifest = yield from read_manifest(folders)
    if manifest is None:
        manifest = Manifest(fresh_id, node_id, 0, FIRST_SEGMENT, 1, [])
        yield from perform(replace_ops(manifest))
    if manifest.open_epoch == 0:
        recovered = Recovered(manifest, (yield from create(manifest, limits)), Chain())
        recovered.is_new = recovered.clean = True
        return recovered
    replay = Replay(target)
    chain = yield from read_chain(manifest, folders, replay)
    key = directory_key(manifest.directory_id)
    sizes = segment_sizes(folders)
    reader = JournalReader(key, manifest.open_epoch, manifest.first_segment, sizes, replay)
    yield from reader.walk()
    replay.end()
    orphans = replay.check_files(manifest, folders)
    manifest.next_file = max([manifest.next_file, *(number + 1 for number in _file_numbers(folders))])
    journal = yield from reopen(manifest, reader, sizes, limits, orphans)
    recovered = Recovered(manifest, journal, chain)
    recovered.quarantines = replay.judge_quarantines()
    recovered.orphans = orphans
    recovered.warnings = replay.warnings
    recovered.clean = reader.clean
    recovered.found_version = manifest.version
    recovered.complete = reader.clean and reader.complete
    recovered.replayed = replay.replayed
    recovered.replayed_bytes = reader.bytes_read
    last = reader.segments[-1]
    if reader.torn_bytes:
        recovered.cut_bytes, recovered.cut_at = reader.torn_bytes, (last.path, last.end)
    return recovered


# ---------------------------------------------------------------- what is there


def list_store() -> Generator[DiskOp, OpResult, dict[str, dict[str, int]]]:
    """Read names and sizes in the root ("") and each folder."""
    folders = {"": (yield from list_folder(""))}
    for folder in FOLDERS:
        folders[folder] = yield from list_folder(folder)
    return folders


def read_manifest(folders: dict[str, dict[str, int]]) -> Generator[DiskOp, OpResult, Manifest | None]:
    """Read the manifest; None in an empty directory. Refuse what is neither."""
    if MANIFEST in folders[""]:
        data = yield from read(MANIFEST, 0, MANIFEST_BYTES_MAX)
        try:
            return decode_manifest(data)
        except CorruptRecord as problem:
            raise CorruptStore(MANIFEST, 0, str(problem)) from problem
        except UnknownVersion as problem:
            raise UnknownStoreVersion(MANIFEST, 0, str(problem)) from problem
    for folder in FOLDERS:
        for name in folders[folder]:
            raise NotAStore(MANIFEST, 0, f"there is no manifest, but there is {folder}/{name}: the manifest was lost")
    for name in folders[""]:
        if name not in IGNORED_NAMES:
            raise NotAStore("", 0, f"not empty and not a data directory: it holds {name!r}")
    return None


def segment_sizes(folders: dict[str, dict[str, int]]) -> dict[int, int]:
    """Return the sizes of the journal's segments by number."""
    sizes: dict[int, int] = {}
    for name, size in folders[JOURNAL].items():
        number = segment_number(name)
        if number is not None:
            sizes[number] = size
    return sizes


def _file_numbers(folders: dict[str, dict[str, int]]) -> list[int]:
    """Return the numbers of all checkpoint and block files there are."""
    numbers = [file_number(folder, name) for folder in FOLDERS if folder != JOURNAL for name in folders[folder]]
    return [number for number in numbers if number is not None]


def read_chain(
    manifest: Manifest, folders: dict[str, dict[str, int]], replay: Replay
) -> Generator[DiskOp, OpResult, Chain]:
    """Read the checkpoint chain and hand the streams' states over."""
    sizes: dict[int, int] = {}
    for name, size in folders["checkpoints"].items():
        number = file_number("checkpoints", name)
        if number is not None:
            sizes[number] = size
    reader = ChainReader(directory_key(manifest.directory_id), manifest.chain, sizes)
    yield from reader.walk()
    for stream_id in sorted(reader.states):
        state = reader.states.pop(stream_id)
        if state.problem:
            replay.blame(stream_id, state.path, state.offset, state.problem)
        else:
            replay.state(stream_id, state.position, state.meta, state.path, state.offset)
    replay.warnings += reader.superseded
    return reader.chain


# ---------------------------------------------------------------- replay


@dataclass(slots=True, eq=False)
class Gap:
    """Records that a stream lacks so far: where the first frame stands that shows it, and what that means if none follow.

    `last`: the position up to which it is known to have records. `damaged`: what is said of damaged frames if they follow.
    """

    path: str
    offset: int
    detail: str
    last: int = 0
    damaged: list[str] = field(default_factory=list)


class Replay:
    """A journal reader's sink that hands records to a target and puts damage down to streams."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._covered: dict[int, int] = {}
        """Position of each stream's snapshot."""
        self._positions: dict[int, int] = {}
        """Position of each stream's last record handed over."""
        self._gaps: dict[int, Gap] = {}
        """Gaps of the streams that lack a record so far."""
        self.quarantined: dict[int, Quarantine] = {}
        self.warnings: list[str] = []
        self.replayed = 0

    def blame(self, stream_id: int, path: str, offset: int, detail: str) -> None:
        """Put damage down to a stream; to the node, if it is the catalogue's."""
        if stream_id == CATALOG:
            raise CorruptStore(path, offset, f"the catalogue is damaged: {detail}")
        if stream_id not in self.quarantined:
            self.quarantined[stream_id] = Quarantine(stream_id, path, offset, detail)
            self._target.quarantine(self.quarantined[stream_id])

    def state(self, stream_id: int, position: int, meta: bytes, path: str, offset: int) -> None:
        """Take a stream's snapshot."""
        self._covered[stream_id] = position
        try:
            self._target.snapshot(stream_id, position, meta)
        except UnknownVersion as problem:
            raise UnknownStoreVersion(path, offset, str(problem)) from problem
        except NONSENSE as problem:
            self.blame(stream_id, path, offset, f"its snapshot: {problem}")

    def frame(self, path: str, offset: int, header: FrameHeader, meta: bytes, chunk: Chunk | None) -> None:
        """Take a record, unless a snapshot covers it or its stream was deleted or is damaged."""
        stream_id, position = header.stream_id, header.position
        covered = self._covered.get(stream_id, 0)
        if position <= covered or not self._alive(stream_id):
            return
        if stream_id in self.quarantined:
            self._pass_over(header)
            return
        expected = self._positions.get(stream_id, covered) + 1
        if position < expected:
            # A checkpoint carried it forward, and the first frame is still there.
            return
        if position > expected:
            # The records before may follow: a checkpoint that carried them forward let go of their first frames.
            self._lacks(header, path, offset, f"its record {position} follows, where {expected} should")
            return
        try:
            record = record_codec.decode(header.kind, header.version, meta)
            if record_codec.body_bytes(record) != header.body_length:
                raise CorruptRecord("the record does not fit its messages")
            self._target.record(stream_id, position, record, chunk)
        except UnknownVersion as problem:
            raise UnknownStoreVersion(path, offset, str(problem)) from problem
        except CorruptRecord as problem:
            self.blame(stream_id, path, offset, str(problem))
            self._pass_over(header)
            return
        except NONSENSE as problem:
            self.blame(stream_id, path, offset, f"a record that its state cannot take: {problem}")
            self._pass_over(header)
            return
        self._positions[stream_id] = position
        self.replayed += 1
        gap = self._gaps.get(stream_id)
        if gap is not None and position >= gap.last:
            del self._gaps[stream_id]
            self.warnings += gap.damaged

    def damaged(self, path: str, offset: int, header: FrameHeader, problem: str) -> None:
        """Take a frame that names its stream and is damaged behind that."""
        stream_id = header.stream_id
        if header.position <= self._covered.get(stream_id, 0):
            self.warnings.append(f"{path} at {offset}: {problem} (stream {stream_id}; a snapshot covers the record)")
        elif header.position <= self._positions.get(stream_id, 0):
            self.warnings.append(_twice(stream_id, path, offset, problem))
        elif not self._alive(stream_id):
            self.warnings.append(f"{path} at {offset}: {problem} (stream {stream_id}, which is deleted)")
        elif stream_id in self.quarantined:
            self._pass_over(header)
        else:
            # The record may follow once more, if a checkpoint carried it forward.
            self._lacks(header, path, offset, problem).damaged.append(_twice(stream_id, path, offset, problem))

    def _lacks(self, header: FrameHeader, path: str, offset: int, detail: str) -> Gap:
        """Note that a stream lacks this record, or one before it, unless they follow."""
        gap = self._gaps.setdefault(header.stream_id, Gap(path, offset, detail))
        gap.last = max(gap.last, header.position)
        self._pass_over(header)
        return gap

    def _pass_over(self, header: FrameHeader) -> None:
        """Take a record that its damaged stream does not get."""
        if header.kind == ImportEnded.KIND:
            self._target.import_ended(header.stream_id)

    def lost(self, path: str, offset: int, detail: str) -> None:
        """Take a frame that does not even name its stream."""
        raise CorruptStore(path, offset, detail)

    def _alive(self, stream_id: int) -> bool:
        return stream_id == CATALOG or self._target.exists(stream_id)

    def end(self) -> None:
        """Blame what is still missing at the end of the journal."""
        for stream_id, gap in self._gaps.items():
            # A deleted stream may lack records that were released with it, yet damage is mentioned.
            if self._alive(stream_id) or gap.damaged:
                self.blame(stream_id, gap.path, gap.offset, gap.detail)

    def judge_quarantines(self) -> list[Quarantine]:
        """Return the quarantines of streams that exist; the others become warnings."""
        living: list[Quarantine] = []
        for found in self.quarantined.values():
            if self._alive(found.stream_id):
                living.append(found)
            else:
                where = f"{found.path} at {found.offset}"
                self.warnings.append(f"{where}: {found.detail} (stream {found.stream_id}, deleted since)")
        return living

    def check_files(self, manifest: Manifest, folders: dict[str, dict[str, int]]) -> list[str]:
        """Blame missing files on their streams; list the files that nothing names.

        What a quarantined stream may still hold is kept: its block files, and all shared ones, which do not name their
        owners.
        """
        named = {checkpoint_path(file.number) for file in manifest.chain}
        for stream_id, path in self._target.files():
            folder, _, name = path.partition("/")
            if name not in folders.get(folder, {}):
                self.blame(stream_id, path, 0, "the file is missing")
            named.add(path)
        orphans: list[str] = []
        for folder in FOLDERS:
            for name in folders[folder]:
                path = f"{folder}/{name}"
                if folder == JOURNAL or path in named:
                    continue
                if file_number(folder, name) is None:
                    self.warnings.append(f"{path} is not a file of this store; it is left alone")
                elif folder == BLOCKS and block_owner(path) in self.quarantined:
                    continue
                elif folder != SHARED_BLOCKS or not self.quarantined:
                    orphans.append(path)
        return orphans


def _twice(stream_id: int, path: str, offset: int, problem: str) -> str:
    return f"{path} at {offset}: {problem} (stream {stream_id}; the record stands twice, and the other frame is sound)"
