"""Committed state of an object store: its objects, and which chunks have none.

Made by facts of committed records, and by snapshots. A chunk belongs to the latest revision of an object, or is *loose* since a
time: its upload is not finished, or its object was replaced or deleted. Loose chunks are collected after the grace period.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sortedcontainers import SortedDict

from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.objects.chunk_map import decode_chunk_map
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

VERSION: Final = 1


@dataclass(slots=True, eq=False)
class ObjectEntry:
    """One name: its latest revision, since when it is the latest, and the sequences of the older ones' metadata.

    `chunks` is an encoded `ChunkMap`. `shared`: the chunks are stored by content, and other objects may have them too.
    """

    revision: int
    total_bytes: int
    shared: bool
    chunks: bytes
    deleted: bool
    since_ms: int
    older: array[int] = field(default_factory=lambda: array("Q"))

    def sequences(self) -> Iterator[int]:
        """Yield the sequences of its chunks."""
        return decode_chunk_map(self.chunks).sequences()

    def plain(self, name: str) -> list[object]:
        """Return it as plain values."""
        return [
            name, self.revision, self.total_bytes, self.shared, self.chunks, self.deleted, self.since_ms, list(self.older),
        ]  # fmt: skip


class ObjectState:
    """The objects of one bucket by name, in order; `loose` chunks by sequence, with the time since when they are, oldest first.

    `uses`: of each chunk that is stored by content, how often objects name it. `tombstones`: deleted names, oldest first.
    """

    __slots__ = ("objects", "loose", "uses", "tombstones", "metadata_count", "chunk_count")

    def __init__(self) -> None:
        self.objects: SortedDict[str, ObjectEntry] = SortedDict()
        self.loose: dict[int, int] = {}
        self.uses: dict[int, int] = {}
        self.tombstones: dict[str, int] = {}
        self.metadata_count = 0
        """Metadata messages of all revisions of all names."""
        self.chunk_count = 0
        """Chunks that objects have, each once."""

    # ------------------------------------------------------------------ what records do

    def add_loose(self, seqs: range, time_ms: int) -> None:
        """Note chunks that were stored."""
        for seq in seqs:
            self.loose[seq] = time_ms

    def put(self, name: str, entry: ObjectEntry) -> tuple[ObjectEntry | None, list[int]]:
        """Make a revision the latest one; return the one before it, and the chunks that are loose now."""
        # First what it has, so that a chunk that both revisions share is not loose in between.
        self._retain(entry)
        before = self.objects.get(name)
        freed: list[int] = []
        if before is not None:
            entry.older = before.older
            entry.older.append(before.revision)
            freed = self._release(before, entry.since_ms)
        self.objects[name] = entry
        self.metadata_count += 1
        self.tombstones.pop(name, None)
        if entry.deleted:
            self.tombstones[name] = entry.since_ms
        return before, freed

    def forget_revisions(self, name: str, revisions: array[int]) -> None:
        """Forget the metadata of older revisions that were deleted."""
        entry = self.objects[name]
        gone = dict.fromkeys(revisions)
        kept = array("Q", [seq for seq in entry.older if seq not in gone])
        self.metadata_count -= len(entry.older) - len(kept)
        entry.older = kept

    def end_name(self, name: str) -> None:
        """Forget a deleted name with all its revisions."""
        entry = self.objects.get(name)
        if entry is None or not entry.deleted:
            raise CorruptRecord("the end of a name that is not deleted")
        del self.objects[name]
        self.tombstones.pop(name, None)
        self.metadata_count -= 1 + len(entry.older)

    def _retain(self, entry: ObjectEntry) -> None:
        loose, uses = self.loose, self.uses
        for seq in entry.sequences():
            loose.pop(seq, None)
            if entry.shared:
                before = uses.get(seq, 0)
                uses[seq] = before + 1
                self.chunk_count += not before
            else:
                self.chunk_count += 1

    def _release(self, entry: ObjectEntry, time_ms: int) -> list[int]:
        freed: list[int] = []
        for seq in entry.sequences():
            if entry.shared:
                left = self.uses[seq] - 1
                if left:
                    self.uses[seq] = left
                    continue
                del self.uses[seq]
            self.loose[seq] = time_ms
            freed.append(seq)
        self.chunk_count -= len(freed)
        return freed

    # ------------------------------------------------------------------ snapshots

    def snapshot(self) -> list[object]:
        """Return the whole state as plain values."""
        entries = [entry.plain(name) for name, entry in self.objects.items()]
        return [VERSION, entries, [[seq, since_ms] for seq, since_ms in self.loose.items()], list(self.tombstones)]

    def restore(self, snapshot: object) -> None:
        """Load a snapshot into an empty state. `CorruptRecord` or `UnknownVersion` where it is none."""
        match snapshot:
            case [int(version), *_] if version > VERSION:
                raise UnknownVersion("an object store", version, VERSION)
            case [1, list(entries), list(loose), list(tombstones)]:
                self.load(entries, loose)
            case _:
                raise CorruptRecord("not the snapshot of an object store")
        if sorted(map(str, tombstones)) != sorted(self.tombstones):
            raise CorruptRecord("tombstones that no object has")
        self.tombstones = {name: self.tombstones[name] for name in tombstones}

    def load(self, entries: list[object], loose: list[object]) -> None:
        """Add objects and loose chunks in plain form. `CorruptRecord` where they are none, or are there already."""
        for value in loose:
            seq, since_ms = _pair(value)
            self.loose[seq] = since_ms
        for value in entries:
            name, entry = entry_of(value)
            if name in self.objects:
                raise CorruptRecord("an object that is there twice")
            for seq in entry.sequences():
                if seq in self.loose or (not entry.shared and seq in self.uses):
                    raise CorruptRecord("a chunk in two places")
            self._retain(entry)
            self.objects[name] = entry
            self.metadata_count += 1 + len(entry.older)
            if entry.deleted:
                self.tombstones[name] = entry.since_ms


def entry_of(value: object) -> tuple[str, ObjectEntry]:
    """Return name and entry of `ObjectEntry.plain`. `CorruptRecord` where it is none."""
    match value:
        case [
            str(name), int(revision), int(total_bytes), bool(shared), bytes(chunks), bool(deleted), int(since_ms), list(older),
        ]:  # fmt: skip
            revisions = [*older, revision]
            ascending = all(isinstance(seq, int) for seq in older) and revisions == sorted(dict.fromkeys(revisions))
            if not (ascending and revisions[0] > 0 and revision <= SEQ_MAX and 0 <= since_ms <= SEQ_MAX):
                raise CorruptRecord("an object whose revisions cannot be")
            if decode_chunk_map(chunks).total_bytes != total_bytes or (deleted and chunks):
                raise CorruptRecord("an object whose chunks are not as long as it is")
            return name, ObjectEntry(revision, total_bytes, shared, chunks, deleted, since_ms, array("Q", older))
    raise CorruptRecord("not an object")


def _pair(value: object) -> tuple[int, int]:
    match value:
        case [int(seq), int(since_ms)] if 0 < seq <= SEQ_MAX and 0 <= since_ms <= SEQ_MAX:
            return seq, since_ms
    raise CorruptRecord("not a loose chunk")
