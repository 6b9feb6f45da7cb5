"""Replay: from the frames of the journal to the records that a state takes, in two phases for each log. Sans-I/O.

First the log: its records in the order of positions, each once, without those that a cut made void. Then the state: it takes
what is known to be committed, as soon as the journal says so. What is left at the end is the *suffix*: durable, and maybe not
committed.

A record without the flag `REPLICATED` is committed as soon as it is durable, with all before it in its log. Others need a
`COMMIT`. Facts hold from their place in the journal on. So a commit never means a record that a cut voids later: no cut goes
below it.

A record of a stream that the catalog does not know yet is kept: its creation may still come. That of a deleted stream is
skipped. Ids ascend, so an id below the catalog's next one without an entry was deleted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.records import ImportEnded, Record, StreamCreated, StreamDeleted
from waymaker_core.storage import record_codec
from waymaker_core.storage.checkpoint.reader import SnapshotFiles
from waymaker_core.storage.disk_steps import Steps
from waymaker_core.storage.errors import CorruptRecord, CorruptStore, UnknownStoreVersion, UnknownVersion
from waymaker_core.storage.frame import ADOPT, COMMIT, CUT, REPLICATED, WATERMARK, FrameHeader, frame_bytes
from waymaker_core.storage.journal.adoption_frame import decode_adoption
from waymaker_core.storage.journal.facts import NAMES, ReplicaFacts, decode_fact
from waymaker_core.storage.journal.places import RecordPlaces
from waymaker_core.storage.manifest import Manifest
from waymaker_core.storage.paths import (
    BLOCKS,
    FOLDERS,
    JOURNAL,
    SHARED_BLOCKS,
    block_owner,
    checkpoint_path,
    file_number,
)

CATALOG: Final = 0

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
        """Return True if the stream exists after the records so far."""
        ...

    def is_deleted(self, stream_id: int) -> bool:
        """Return True if a stream existed and does no more: its records are skipped. One that is not known yet was not."""
        ...

    def adopt_snapshot(self, stream_id: int, position: int, meta: bytes, path: str) -> None:
        """Take a stream's state from a snapshot at a position, which a file of its own holds.

        It takes the place of all that came before for the stream, its quarantine included.
        """
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
class ReadRecord:
    """A record of a log that the state has not taken: decoded, and as its frame holds it. `path` and `offset`: its frame."""

    position: int
    record: Record
    kind: int
    version: int
    meta: bytes
    chunk: Chunk | None
    path: str
    offset: int


class RecentLog:
    """The last records of one log that the state has taken, in order, within some bytes."""

    __slots__ = ("entries", "_bytes")

    def __init__(self) -> None:
        self.entries: deque[ReadRecord] = deque()
        self._bytes = 0

    def keep(self, entry: ReadRecord, bytes_max: int) -> None:
        """Keep a record, and let go of the oldest ones that have no room."""
        self.entries.append(entry)
        self._bytes += _recent_bytes(entry)
        while self._bytes > bytes_max:
            self._bytes -= _recent_bytes(self.entries.popleft())


def _recent_bytes(entry: ReadRecord) -> int:
    return len(entry.meta) + (0 if entry.chunk is None else entry.chunk.length)


class ReadLog:
    """One log while it is read. `covered`: position of its snapshot; `last`: that of the last record so far.

    `committed`: the position up to which it is known to be committed; `entries`: records that the state has not taken.
    """

    __slots__ = ("covered", "last", "committed", "entries")

    def __init__(self, covered: int) -> None:
        self.covered = self.last = self.committed = covered
        self.entries: deque[ReadRecord] = deque()

    @property
    def applied(self) -> int:
        """Return the position of the last record that the state has taken."""
        return self.entries[0].position - 1 if self.entries else self.last


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

    def __init__(self, target: Target, *, recent_bytes_max: int = 0, places: RecordPlaces | None = None) -> None:
        self._target = target
        self._recent_bytes_max = recent_bytes_max
        self._places = places
        """Places of records, if they are to be known."""
        self.recent: dict[int, RecentLog] = {}
        """By stream id: the last committed records behind the snapshot, where some are to be kept."""
        self.logs: dict[int, ReadLog] = {}
        self.facts = ReplicaFacts()
        self.snapshot_files = SnapshotFiles(0, {})
        self._adopted: dict[int, str] = {}
        """Files of snapshots that were adopted and that no checkpoint replaces."""
        self._gaps: dict[int, Gap] = {}
        """Gaps of the streams that lack a record so far."""
        self.quarantined: dict[int, Quarantine] = {}
        self.warnings: list[str] = []
        self.replayed = 0

    def _log(self, stream_id: int) -> ReadLog:
        log = self.logs.get(stream_id)
        if log is None:
            log = self.logs[stream_id] = ReadLog(0)
        return log

    def blame(self, stream_id: int, path: str, offset: int, detail: str) -> None:
        """Put damage down to a stream; to the node, if it is the catalogue's."""
        if stream_id == CATALOG:
            raise CorruptStore(path, offset, f"the catalogue is damaged: {detail}")
        if stream_id not in self.quarantined:
            self.quarantined[stream_id] = Quarantine(stream_id, path, offset, detail)
            self._target.quarantine(self.quarantined[stream_id])

    def state(self, stream_id: int, position: int, meta: bytes, path: str, offset: int) -> None:
        """Take a stream's snapshot."""
        self.logs[stream_id] = ReadLog(position)
        try:
            self._target.snapshot(stream_id, position, meta)
        except UnknownVersion as problem:
            raise UnknownStoreVersion(path, offset, str(problem)) from problem
        except NONSENSE as nonsense:
            self.blame(stream_id, path, offset, f"its snapshot: {nonsense}")

    # ------------------------------------------------------------ the log

    def frame(self, path: str, offset: int, header: FrameHeader, meta: bytes, chunk: Chunk | None) -> None:
        """Take a record into its log, unless a snapshot covers it or its stream was deleted or is damaged; or a fact."""
        if header.kind > WATERMARK:
            self._fact(path, offset, header, meta)
            return
        stream_id, position = header.stream_id, header.position
        if self._places is not None and self._alive(stream_id):
            size = frame_bytes(header.meta_length, header.body_length)
            self._places.note_place(stream_id, position, header.segment, offset, size)
        log = self._log(stream_id)
        if position <= log.covered or not self._alive(stream_id):
            return
        if stream_id in self.quarantined:
            self._pass_over(header.kind, stream_id)
            return
        if position <= log.last:
            # A checkpoint carried it forward, and the first frame is still there.
            return
        if position > log.last + 1:
            # The records before may follow: a checkpoint that carried them forward let go of their first frames.
            self._lacks(header, path, offset, f"its record {position} follows, where {log.last + 1} should")
            return
        try:
            record = record_codec.decode(header.kind, header.version, meta)
            if record_codec.body_bytes(record) != header.body_length:
                raise CorruptRecord("the record does not fit its messages")
        except UnknownVersion as problem:
            raise UnknownStoreVersion(path, offset, str(problem)) from problem
        except CorruptRecord as corrupt:
            self._damaged_log(stream_id, log, path, offset, str(corrupt))
            self._pass_over(header.kind, stream_id)
            return
        log.last = position
        log.entries.append(ReadRecord(position, record, header.kind, header.version, meta, chunk, path, offset))
        self._close_gap(stream_id, log)
        if not header.flags & REPLICATED:
            log.committed = position
        self._apply_committed(stream_id, log)

    def damaged(self, path: str, offset: int, header: FrameHeader, problem: str) -> None:
        """Take a frame that names its stream and is damaged behind that."""
        stream_id = header.stream_id
        if header.kind == ADOPT:
            self._damaged_adoption(path, offset, header, problem)
            return
        if header.kind > WATERMARK:
            self._damaged_fact(path, offset, header, problem)
            return
        log = self._log(stream_id)
        if header.position <= log.covered:
            self.warnings.append(f"{path} at {offset}: {problem} (stream {stream_id}; a snapshot covers the record)")
        elif header.position <= log.last:
            self.warnings.append(_twice(stream_id, path, offset, problem))
        elif not self._alive(stream_id):
            self.warnings.append(f"{path} at {offset}: {problem} (stream {stream_id}, which is deleted)")
        elif stream_id in self.quarantined:
            self._pass_over(header.kind, stream_id)
        else:
            # The record may follow once more, if a checkpoint carried it forward.
            self._lacks(header, path, offset, problem).damaged.append(_twice(stream_id, path, offset, problem))

    def _lacks(self, header: FrameHeader, path: str, offset: int, detail: str) -> Gap:
        """Note that a stream lacks this record, or one before it, unless they follow."""
        gap = self._gaps.setdefault(header.stream_id, Gap(path, offset, detail))
        gap.last = max(gap.last, header.position)
        self._pass_over(header.kind, header.stream_id)
        return gap

    def _close_gap(self, stream_id: int, log: ReadLog) -> None:
        """Note that a stream lacks nothing any more, if all is there that any frame showed."""
        gap = self._gaps.get(stream_id)
        if gap is not None and log.last >= gap.last:
            del self._gaps[stream_id]
            self.warnings += gap.damaged

    def _pass_over(self, kind: int, stream_id: int) -> None:
        """Take a record that its damaged stream does not get."""
        if kind == ImportEnded.KIND and self._target.exists(stream_id):
            self._target.import_ended(stream_id)

    def _damaged_log(self, stream_id: int, log: ReadLog, path: str, offset: int, detail: str) -> None:
        self.blame(stream_id, path, offset, detail)
        for entry in log.entries:
            self._pass_over(entry.kind, stream_id)
        log.entries.clear()

    def lost(self, path: str, offset: int, detail: str) -> None:
        """Take a frame that does not even name its stream."""
        raise CorruptStore(path, offset, detail)

    def _alive(self, stream_id: int) -> bool:
        """Return True unless the stream was deleted; its creation may still come."""
        return stream_id == CATALOG or not self._target.is_deleted(stream_id)

    # ------------------------------------------------------------ facts

    def _fact(self, path: str, offset: int, header: FrameHeader, meta: bytes) -> None:
        try:
            rows = decode_fact(header.kind, header.version, meta)
        except UnknownVersion as problem:
            raise UnknownStoreVersion(path, offset, str(problem)) from problem
        except CorruptRecord as corrupt:
            self._damaged_fact(path, offset, header, str(corrupt))
            return
        if header.kind == CUT:
            self._cut(path, offset, header.stream_id, header.position)
        elif header.kind == COMMIT:
            for stream_id, position in sorted(rows):  # the catalog's first: it may create the others
                log = self._log(stream_id)
                log.committed = max(log.committed, position)
                self._apply_committed(stream_id, log)
        else:
            self.facts.learn(header.kind, rows)

    def _damaged_fact(self, path: str, offset: int, header: FrameHeader, problem: str) -> None:
        """Judge a damaged fact. A forgotten commit is told anew by a majority; a forgotten promise could be broken."""
        name = NAMES.get(header.kind, f"kind {header.kind}")
        if header.kind != COMMIT:
            self.lost(path, offset, f"what this replica noted ({name}) is damaged: {problem}")
        self.warnings.append(f"{path} at {offset}: {problem} ({name}; a majority tells them anew)")

    def _cut(self, path: str, offset: int, stream_id: int, position: int) -> None:
        """Make the records void that a log has above a position. A later snapshot knows better."""
        if self._places is not None:
            self._places.void_above(stream_id, position)
        log = self._log(stream_id)
        keep = max(position, log.covered)
        gap = self._gaps.get(stream_id)
        if gap is not None:
            gap.last = min(gap.last, keep)
        if log.last > keep and stream_id not in self.quarantined and self._alive(stream_id):
            if log.applied > keep:
                self._damaged_log(
                    stream_id, log, path, offset, f"it is cut at {position}, and committed up to {log.applied}"
                )
            while log.entries and log.entries[-1].position > keep:
                log.entries.pop()
            log.last = keep
        self._close_gap(stream_id, log)

    # ------------------------------------------------------------ adoptions

    def adopt(self, path: str, offset: int, header: FrameHeader, meta: bytes) -> Steps:
        """Take another log and state for a stream, unless a checkpoint holds newer ones.

        The frames before it are of another log: none of them is at a later position (`node/transfer/adoption`).
        """
        stream_id, position = header.stream_id, header.position
        if self._places is not None and self._alive(stream_id):
            size = frame_bytes(header.meta_length, header.body_length)
            self._places.note_place(stream_id, position, header.segment, offset, size)
        log = self._log(stream_id)
        if position <= log.covered or not self._is_known(stream_id):
            return
        try:
            file = decode_adoption(header.version, meta)
            if stream_id in self.quarantined and not self.snapshot_files.has(file):
                # A checkpoint that knows of later damage has let go of it.
                return
            found = yield from self.snapshot_files.read_snapshot(file, stream_id)
            if found.position != position:
                raise CorruptRecord(f"its snapshot is at position {found.position}, not {position}")
            self._target.adopt_snapshot(stream_id, position, found.meta, found.path)
        except UnknownVersion as problem:
            raise UnknownStoreVersion(path, offset, str(problem)) from problem
        except CorruptStore as corrupt:
            # A later adoption, which may follow, has let go of its file.
            self._lacks(header, corrupt.path, corrupt.offset, corrupt.detail)
            return
        except NONSENSE as nonsense:
            self._damaged_adoption(path, offset, header, str(nonsense))
            return
        if self._places is not None:
            self._places.forget_log(stream_id)
        self.quarantined.pop(stream_id, None)
        self._gaps.pop(stream_id, None)
        self.logs[stream_id] = ReadLog(position)
        self._adopted[stream_id] = found.path
        if stream_id == CATALOG:
            self._catalog_adopted()

    def _catalog_adopted(self) -> None:
        """Let streams end that the adopted catalog does not have, and give the others what waited for their creation."""
        self.recent.pop(CATALOG, None)
        facts = self.facts
        for stream_id in sorted({*self.logs, *facts.promises, *facts.replicas, *facts.doubts} - {CATALOG}):
            if self._target.is_deleted(stream_id):
                self._deleted(stream_id)
            else:
                self._apply_committed(stream_id, self._log(stream_id))

    def _is_known(self, stream_id: int) -> bool:
        return stream_id == CATALOG or self._target.exists(stream_id)

    def _damaged_adoption(self, path: str, offset: int, header: FrameHeader, problem: str) -> None:
        """Note that a stream lacks the state that it adopted, unless it adopted another one later."""
        if header.position > self._log(header.stream_id).covered and self._is_known(header.stream_id):
            self._lacks(header, path, offset, f"a snapshot that was adopted: {problem}")

    # ------------------------------------------------------------ the state

    def _apply_committed(self, stream_id: int, log: ReadLog) -> None:
        """Give the state what is committed of a log, if the catalog knows its stream."""
        entries = log.entries
        while entries and entries[0].position <= log.committed:
            if stream_id != CATALOG and not self._target.exists(stream_id):
                if not self._alive(stream_id):
                    entries.clear()
                return
            entry = entries.popleft()
            try:
                self._target.record(stream_id, entry.position, entry.record, entry.chunk)
            except UnknownVersion as problem:
                raise UnknownStoreVersion(entry.path, entry.offset, str(problem)) from problem
            except NONSENSE as nonsense:
                detail = str(nonsense)
                if not isinstance(nonsense, CorruptRecord):
                    detail = f"a record that its state cannot take: {nonsense}"
                self._damaged_log(stream_id, log, entry.path, entry.offset, detail)
                self._pass_over(entry.kind, stream_id)
                return
            self.replayed += 1
            if self._recent_bytes_max:
                self.recent.setdefault(stream_id, RecentLog()).keep(entry, self._recent_bytes_max)
            if isinstance(entry.record, StreamCreated):
                if entry.record.replaces:
                    self._deleted(entry.record.replaces)
                self._apply_committed(entry.record.stream_id, self._log(entry.record.stream_id))
            elif isinstance(entry.record, StreamDeleted):
                self._deleted(entry.record.stream_id)

    def _deleted(self, stream_id: int) -> None:
        self.facts.drop_stream(stream_id)
        self.recent.pop(stream_id, None)
        if self._places is not None:
            self._places.forget_log(stream_id)
        self._log(stream_id).entries.clear()

    def commit_all(self) -> list[tuple[int, int]]:
        """Take all that is durable as committed: there are no other replicas. Return what no frame says: ids, positions."""
        claimed: list[tuple[int, int]] = []
        for stream_id in sorted(self.logs):
            log = self.logs[stream_id]
            if log.entries and (stream_id == CATALOG or self._target.exists(stream_id)):
                log.committed = log.last
                claimed.append((stream_id, log.last))
                self._apply_committed(stream_id, log)
        return claimed

    # ------------------------------------------------------------ the end

    def end(self) -> None:
        """Blame what is still missing at the end of the journal; mention streams that the catalog does not know."""
        for stream_id, gap in self._gaps.items():
            # A deleted stream may lack records that were released with it, yet damage is mentioned.
            if self._alive(stream_id) or gap.damaged:
                self._damaged_log(stream_id, self._log(stream_id), gap.path, gap.offset, gap.detail)
        for stream_id, entries in self.suffixes().items():
            if stream_id != CATALOG and not self._target.exists(stream_id):
                self.unknown(stream_id, entries)

    def unknown(self, stream_id: int, entries: list[ReadRecord]) -> None:
        """Mention records of a stream that the catalog does not know, and has not known."""
        first = entries[0]
        self.warnings.append(
            f"{first.path} at {first.offset}: the catalog does not know stream {stream_id} yet; its {len(entries)} records"
            " are kept"
        )

    def suffixes(self) -> dict[int, list[ReadRecord]]:
        """Return by stream id the records that the state has not taken, in order."""
        return {stream_id: list(log.entries) for stream_id, log in self.logs.items() if log.entries}

    def judge_quarantines(self) -> list[Quarantine]:
        """Return the quarantines of streams that exist; the others become warnings."""
        living: list[Quarantine] = []
        for found in self.quarantined.values():
            if self._target.exists(found.stream_id):
                living.append(found)
            else:
                where, what = (
                    f"{found.path} at {found.offset}",
                    "unknown yet" if self._alive(found.stream_id) else "deleted since",
                )
                self.warnings.append(f"{where}: {found.detail} (stream {found.stream_id}, {what})")
        return living

    def check_files(self, manifest: Manifest, folders: dict[str, dict[str, int]]) -> list[str]:
        """Blame missing files on their streams; list the files that nothing names.

        What a quarantined stream may still hold is kept: its block files, and all shared ones, which do not name their
        owners.
        """
        named = {checkpoint_path(file.number) for file in manifest.chain}
        named.update(path for stream_id, path in self._adopted.items() if self._alive(stream_id))
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
