"""Recovery: from the files of a data directory to the state they hold, or to a clear refusal. Sans-I/O.

A generator yields `disk` operations and is sent their results; a failed operation is thrown into it as `DiskFailure`. It
reads the manifest, the checkpoint chain and then the journal, and passes what it finds to a `Target` (`replay`).

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

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from waymaker_core.model.disk_ops import DiskFailure, DiskOp, OpResult, ReadChunk
from waymaker_core.model.limits import Limits
from waymaker_core.storage.checkpoint.reader import ChainReader, SnapshotFiles
from waymaker_core.storage.checkpoint.writer import Chain
from waymaker_core.storage.disk_steps import list_folder, read
from waymaker_core.storage.errors import CorruptRecord, CorruptStore, NotAStore, UnknownStoreVersion, UnknownVersion
from waymaker_core.storage.format_version import FORMAT_VERSION
from waymaker_core.storage.frame import directory_key
from waymaker_core.storage.journal.facts import ReplicaFacts
from waymaker_core.storage.journal.places import RecordPlaces
from waymaker_core.storage.journal.reader import JournalReader, Remnant
from waymaker_core.storage.journal.writer import JournalState
from waymaker_core.storage.manifest import MANIFEST_BYTES_MAX, Manifest, decode_manifest, replace_ops
from waymaker_core.storage.paths import (
    FOLDERS,
    JOURNAL,
    LOCK,
    MANIFEST,
    MANIFEST_NEW,
    RESERVE,
    file_number,
    segment_number,
)
from waymaker_core.storage.recovery.reopening import create, perform, reopen
from waymaker_core.storage.recovery.replay import Quarantine, ReadRecord, RecentLog, Replay, Target

FIRST_SEGMENT: Final = 1
IGNORED_NAMES: Final = frozenset((LOCK, MANIFEST, MANIFEST_NEW, RESERVE, "lost+found", *FOLDERS))
"""Names in a data directory that do not speak against its being empty."""


@dataclass(slots=True, eq=False)
class Recovered:
    """The findings of recovery.

    `clean`: the last stop was a drain; `complete`: and records hold every delivery. `orphans`: files that nothing names,
    to be deleted at leisure. `found_version`: the version of the format in which the directory was found. `warnings`: damage
    that takes nothing away (a superseded snapshot, a frame of a deleted stream), in words. `cut_bytes`: length of the torn
    tail; `cut_at`: its path and offset, or None.

    `suffixes`: by stream id the records that are durable and not known to be committed, in order; also those of streams that
    the catalog does not know yet. `bodies`: of those with stored bodies, by id and position. `commits`: by stream id the
    position that is known to be committed. `claimed`: ids and positions that count as committed for want of other replicas,
    though no frame says so. `recent`: by stream id the last committed records behind a snapshot, each with its stored bodies.
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
    suffixes: dict[int, list[ReadRecord]] = field(default_factory=dict)
    bodies: dict[tuple[int, int], bytes] = field(default_factory=dict)
    commits: dict[int, int] = field(default_factory=dict)
    claimed: list[tuple[int, int]] = field(default_factory=list)
    recent: dict[int, list[tuple[ReadRecord, bytes]]] = field(default_factory=dict)
    facts: ReplicaFacts = field(default_factory=ReplicaFacts)
    remnants: list[Remnant] = field(default_factory=list)


def recover(
    target: Target,
    limits: Limits,
    fresh_id: bytes,
    node_id: int = 1,
    *,
    replicated: bool = False,
    keeps_recent: bool = False,
    notes_tears: bool = False,
) -> Generator[DiskOp, OpResult, Recovered]:
    """Open a data directory. `fresh_id`: 16 random bytes, the id of the directory if it turns out to be new.

    Without `replicated` there are no other replicas: all that is durable is committed. With `keeps_recent` the last records
    of each log are read for other replicas, and it is known where each record stands. With `notes_tears` what lies behind a
    torn end stays (`remnants`): its caller erases it when the tear is noted durably.

    Raises `StoreRefused` (`CorruptStore`, `UnknownStoreVersion`, `NotAStore`), naming file and offset, before anything was
    written; `DiskFailure` where the disk itself failed. When it returns, all that was handed over is durable.
    """
    places = RecordPlaces() if keeps_recent else None
    folders = yield from list_store()
    manifest = yield from read_manifest(folders)
    if manifest is None:
        manifest = Manifest(fresh_id, node_id, 0, FIRST_SEGMENT, 1, [])
        yield from perform(replace_ops(manifest))
    if manifest.open_epoch == 0:
        recovered = Recovered(manifest, (yield from create(manifest, limits)), Chain())
        recovered.journal.places = places
        recovered.is_new = recovered.clean = True
        return recovered
    replay = Replay(target, recent_bytes_max=limits.recent_log_bytes_max if keeps_recent else 0, places=places)
    chain = yield from read_chain(manifest, folders, replay)
    key = directory_key(manifest.directory_id)
    sizes = segment_sizes(folders)
    reader = JournalReader(key, manifest.open_epoch, manifest.first_segment, sizes, replay)
    yield from reader.walk()
    claimed = [] if replicated else replay.commit_all()
    replay.end()
    orphans = replay.check_files(manifest, folders)
    manifest.next_file = max([manifest.next_file, *(number + 1 for number in _file_numbers(folders))])
    journal = yield from reopen(manifest, reader, sizes, limits, orphans, erases=not notes_tears)
    journal.places = places
    recovered = Recovered(manifest, journal, chain)
    recovered.quarantines = replay.judge_quarantines()
    recovered.orphans = orphans
    recovered.warnings = replay.warnings
    recovered.claimed, recovered.facts = claimed, replay.facts
    recovered.commits = {stream_id: log.committed for stream_id, log in replay.logs.items()}
    recovered.suffixes = replay.suffixes()
    recovered.bodies = yield from _read_bodies(recovered.suffixes)
    recovered.recent = yield from _read_recent(replay.recent, limits.recent_bytes_max)
    recovered.clean = reader.clean
    recovered.remnants = reader.remnants if notes_tears else []
    recovered.found_version = manifest.version
    recovered.complete = reader.clean and reader.complete
    recovered.replayed = replay.replayed
    recovered.replayed_bytes = reader.bytes_read
    last = reader.segments[-1]
    if reader.torn_bytes:
        recovered.cut_bytes, recovered.cut_at = reader.torn_bytes, (last.path, last.end)
    return recovered


def _read_bodies(suffixes: dict[int, list[ReadRecord]]) -> Generator[DiskOp, OpResult, dict[tuple[int, int], bytes]]:
    """Read the stored bodies of suffixes: a checkpoint may have to write them a second time."""
    bodies: dict[tuple[int, int], bytes] = {}
    for stream_id, entries in suffixes.items():
        for entry in entries:
            if entry.chunk is not None:
                body = yield ReadChunk(entry.chunk)
                assert isinstance(body, bytes)
                bodies[stream_id, entry.position] = body
    return bodies


def _read_recent(
    recent: dict[int, RecentLog], bytes_max: int
) -> Generator[DiskOp, OpResult, dict[int, list[tuple[ReadRecord, bytes]]]]:
    """Read the stored bodies of recent records, the newest of each log first, within some bytes.

    They are a convenience for other replicas. What cannot be read ends the part that is kept of a log, and fails nothing.
    """
    kept: dict[int, list[tuple[ReadRecord, bytes]]] = {}
    for stream_id, log in recent.items():
        found: list[tuple[ReadRecord, bytes]] = []
        for entry in reversed(log.entries):
            body = b""
            if entry.chunk is not None:
                bytes_max -= entry.chunk.length
                if bytes_max < 0:
                    break
                try:
                    result = yield ReadChunk(entry.chunk)
                except DiskFailure:
                    break
                assert isinstance(result, bytes)
                body = result
            found.append((entry, body))
        kept[stream_id] = found[::-1]
    return kept


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
        except UnknownVersion as unknown:
            raise UnknownStoreVersion(MANIFEST, 0, str(unknown)) from unknown
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
    key = directory_key(manifest.directory_id)
    replay.snapshot_files = SnapshotFiles(key, sizes)
    reader = ChainReader(key, manifest.chain, sizes)
    yield from reader.walk()
    for stream_id in sorted(reader.states):
        state = reader.states.pop(stream_id)
        if state.problem:
            replay.blame(stream_id, state.path, state.offset, state.problem)
        else:
            replay.state(stream_id, state.position, state.meta, state.path, state.offset)
    replay.warnings += reader.superseded
    return reader.chain
