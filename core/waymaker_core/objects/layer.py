"""The layer of an object store: its committed state, and what only the leader has: uploads, readings, pins.

Committed records alone change the state. Uploads and readings belong to the token of the call that began them, and end with it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from waymaker_core.layers.decide import Draft, decide_draft
from waymaker_core.layers.layer import FACT_BYTES_MAX, OBJECTS, LayerDecision, fact_of
from waymaker_core.layers.waits import Waits
from waymaker_core.model.records import LayerRecord, StreamRecord
from waymaker_core.model.types import Now, Token
from waymaker_core.objects.chunk_map import ChunkMap, decode_chunk_map
from waymaker_core.objects.facts import Deleted, Finished, Loaded, Stored, Swept, decode_fact, encode_fact
from waymaker_core.objects.pins import Pins
from waymaker_core.objects.state import ObjectEntry, ObjectState, entry_of
from waymaker_core.storage.config_codec import encode_plain
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.stream.stream import Stream

SWEEP_MAX: Final = 512
"""Messages that one record of the sweep deletes."""
SWEEP_BYTES_MAX: Final = 32 * 1024
"""Bytes of the names that one record of the sweep ends."""
IMPORTED_CHUNKS_MAX: Final = 10_000_000
"""Chunks that the objects of an archive may name together, those that objects share counted each time."""


class Upload:
    """An object that is being sent: its name, the chunks stored so far, and how it stores them."""

    __slots__ = ("name", "shared", "chunks")

    def __init__(self, name: str, *, shared: bool) -> None:
        self.name = name
        self.shared = shared
        self.chunks = ChunkMap()


class ObjectLayer:
    """The objects of one bucket."""

    __slots__ = (
        "state",
        "uploads",
        "readings",
        "holds",
        "pins",
        "_stream",
        "_staged",
        "_sweep",
        "_deletions",
    )

    def __init__(self, stream: Stream) -> None:
        self.state = ObjectState()
        self.uploads: dict[Token, Upload] = {}
        self.readings: dict[Token, int] = {}
        """Of each reading, the revision that it reads."""
        self.holds: dict[Token, None] = {}
        """While there is one, an archive is being made, and nothing is collected."""
        self.pins = Pins(Waits(self._loose_since))
        self._stream = stream
        self._staged: deque[tuple[LayerRecord, str, Upload | None]] = deque()
        """Revisions that wait for their commit: the record, the name, and the upload that ends with it."""
        self._sweep: LayerRecord | None = None
        """The record of the sweep that waits for its commit."""
        self._deletions: Waits[str] = Waits(self._deleted_since)

    @property
    def kind(self) -> int:
        """Return the stored number of this kind of layer."""
        return OBJECTS

    # ------------------------------------------------------------------ committed records

    def apply(self, record: StreamRecord) -> None:
        """Apply the fact of a committed record, if it carries one for this layer."""
        raw = fact_of(record, OBJECTS)
        if raw is None:
            return
        assert isinstance(record, LayerRecord)
        match decode_fact(raw):
            case Stored():
                self._apply_stored(record)
            case Finished(name, total_bytes, shared, chunks):
                self._apply_revision(record, name, ObjectEntry(0, total_bytes, shared, chunks, False, 0))
            case Deleted(name):
                self._apply_revision(record, name, ObjectEntry(0, 0, False, b"", True, 0))
            case Swept(ended):
                self._apply_swept(record, ended)
            case Loaded(entries, loose):
                self._apply_loaded(entries, loose)

    def _apply_stored(self, record: LayerRecord) -> None:
        if record.messages is None:
            raise CorruptRecord("chunks without messages")
        first = record.messages.first_seq
        seqs = range(first, first + len(record.messages.subjects))
        self.state.add_loose(seqs, record.messages.times_ms[0])
        self.pins.due.append_keys(seqs)

    def _apply_revision(self, record: LayerRecord, name: str, entry: ObjectEntry) -> None:
        if record.messages is None or len(record.messages.subjects) != 1:
            raise CorruptRecord("a revision without its metadata")
        entry.revision, entry.since_ms = record.messages.first_seq, record.messages.times_ms[0]
        before, freed = self.state.put(name, entry)
        if before is not None and not before.deleted:
            self.pins.replaced(before.revision, before.chunks)
        self.pins.due.append_keys(freed)
        if entry.deleted:
            self._deletions.append_keys([name])
        if record.drop_seqs:
            self.state.forget_revisions(name, record.drop_seqs)
        if self._staged and self._staged[0][0] is record:
            _, _, upload = self._staged.popleft()
            if upload is not None:
                self.pins.unpin(upload.chunks.sequences())

    def _apply_swept(self, record: LayerRecord, ended: list[str]) -> None:
        for seq in record.drop_seqs:
            self.state.loose.pop(seq, None)
        for name in ended:
            self.state.end_name(name)
        if self._sweep is record:
            self._sweep = None

    def _apply_loaded(self, entries: list[object], loose: list[object]) -> None:
        self.state.load(entries, loose)
        self._restart()

    # ------------------------------------------------------------------ what only the leader has

    def stage_revision(self, record: LayerRecord, name: str, upload: Upload | None) -> None:
        """Note a revision that waits for its commit. The chunks of its upload stay pinned until then."""
        self._staged.append((record, name, upload))

    def is_staged(self, name: str) -> bool:
        """Return True if a revision of a name waits for its commit."""
        return any(staged == name for _, staged, _ in self._staged)

    def hold(self, token: Token) -> None:
        """Collect nothing until the token ends."""
        self.holds[token] = None

    @property
    def held(self) -> bool:
        """Return True while nothing may be collected."""
        return bool(self.holds)

    def close(self, token: Token) -> None:
        """End an upload, a reading or a hold; the chunks of an upload become collectable."""
        self.holds.pop(token, None)
        upload = self.uploads.pop(token, None)
        if upload is not None:
            self.pins.unpin(upload.chunks.sequences())
        revision = self.readings.pop(token, None)
        if revision is not None:
            self.pins.end_reading(revision)

    def discard_uncommitted(self) -> None:
        """Drop what is staged, and all uploads and readings with their pins."""
        self._staged.clear()
        self._sweep = None
        self.uploads.clear()
        self.readings.clear()
        self.holds.clear()
        self._restart()

    def _restart(self) -> None:
        """Let all that waits to be collected wait anew, without pins."""
        self.pins.restart(self.state.loose)
        self._deletions.restart(self.state.tombstones)

    def has_staged(self) -> bool:
        """Return True if a decision is staged whose record is not applied."""
        return bool(self._staged) or self._sweep is not None

    # ------------------------------------------------------------------ the sweep

    def _loose_since(self, seq: int) -> int | None:
        return self.state.loose.get(seq)

    def _deleted_since(self, name: str) -> int | None:
        return self.state.tombstones.get(name)

    def next_due(self, now: Now) -> int | None:
        """Return the monotonic nanosecond at which something may be collected; None: never."""
        if self._sweep is not None or self.holds:
            return None
        limits = self._stream.limits
        ends = (
            self.pins.due.next_end(limits.object_grace_ms, now),
            self._deletions.next_end(limits.object_tombstone_ms, now),
        )
        return min((end_ns for end_ns in ends if end_ns is not None), default=None)

    def decide_due(self, now: Now) -> LayerDecision | None:
        """Decide what is collected next: chunks whose grace period is over, and deleted names. May raise `NeedBlocks`."""
        if self._sweep is not None or self.holds:
            return None
        seen, pinned, drops = self._due_chunks(now)
        looked_at, ended = self._due_tombstones(now)
        for name in ended:
            entry = self.state.objects[name]
            drops += [*entry.older, entry.revision]
        record: LayerRecord | None = None
        if drops:
            fact = encode_fact(Swept(ended))
            record = decide_draft(self._stream, Draft(drops=sorted(drops), facts=[(OBJECTS, fact)]), now.wall_ms)
        # Nothing was noted before: the decision may have needed a block.
        self.pins.due.drop(seen)
        self._deletions.drop(looked_at)
        for seq in pinned:
            self.pins.put_aside(seq)
        self._sweep = record
        return None if record is None else LayerDecision(record)

    def _due_chunks(self, now: Now) -> tuple[int, list[int], list[int]]:
        """Return how many of the chunks in line are dealt with, those among them that are pinned, and those to collect."""
        pinned: list[int] = []
        drops: dict[int, None] = {}
        seen = 0
        for seq, waited in self.pins.due.over(self._stream.limits.object_grace_ms, now):
            if len(drops) == SWEEP_MAX:
                break
            seen += 1
            if not waited:
                continue
            if self.pins.is_pinned(seq):
                pinned.append(seq)
            else:
                drops[seq] = None
        return seen, pinned, list(drops)

    def _due_tombstones(self, now: Now) -> tuple[int, list[str]]:
        """Return how many of the deleted names in line are dealt with, and those among them that end."""
        ended: dict[str, None] = {}
        seen = messages = name_bytes = 0
        for name, waited in self._deletions.over(self._stream.limits.object_tombstone_ms, now):
            # One that is staged has a revision again by the time at which this record is applied.
            if waited and name not in ended and not self.is_staged(name):
                messages += 1 + len(self.state.objects[name].older)
                name_bytes += 4 * len(name) + 8
                if ended and (messages > SWEEP_MAX // 2 or name_bytes > SWEEP_BYTES_MAX):
                    break
                ended[name] = None
            seen += 1
        return seen, list(ended)

    # ------------------------------------------------------------------ snapshots

    def snapshot(self) -> object:
        """Return the committed state as plain values."""
        return self.state.snapshot()

    def restore(self, snapshot: object) -> None:
        """Load a snapshot into a new layer."""
        self.state.restore(snapshot)
        self._restart()

    def import_facts(self, snapshot: object) -> list[bytes]:
        """Return facts that give the empty layer of an imported stream the state of a snapshot, of any origin."""
        match snapshot:
            case [1, list(entries), list(loose), list()]:
                pass
            case _:
                raise CorruptRecord("not the snapshot of an object store")
        self._check_imported(entries)
        present: list[object] = [pair for pair in loose if isinstance(pair, list) and pair and self._is_there(pair[0])]
        trial = ObjectState()
        trial.load(entries, present)
        return [encode_fact(Loaded([], part)) for part in _parts(present)] + [
            encode_fact(Loaded(part, [])) for part in _parts(entries)
        ]

    def _check_imported(self, entries: list[object]) -> None:
        """Refuse objects whose chunks are not in the stream, at a cost that a small archive cannot make large."""
        own = named = 0
        for value in entries:
            _, entry = entry_of(value)
            chunks = decode_chunk_map(entry.chunks)
            named += chunks.count
            own += 0 if entry.shared else chunks.count
            if own > self._stream.count or named - own > IMPORTED_CHUNKS_MAX:
                raise CorruptRecord("objects with more chunks than the archive has messages")
            if not all(map(self._stream.is_live, chunks.sequences())):
                raise CorruptRecord("an object without its chunks")
            if not all(map(self._stream.is_live, [*entry.older, entry.revision])):
                raise CorruptRecord("an object without its metadata")

    def _is_there(self, seq: object) -> bool:
        return isinstance(seq, int) and seq > 0 and self._stream.is_live(seq)

    # ------------------------------------------------------------------ invariants

    def check(self) -> None:
        """Assert that every chunk of an object is there, that nothing else is, and that no chunk in use is pinned in vain."""
        state, stream = self.state, self._stream
        if stream.importing:
            return
        chunks: dict[int, None] = {}
        for entry in state.objects.values():
            for seq in [*entry.sequences(), *entry.older, entry.revision]:
                assert stream.is_live(seq), "every chunk and every metadata message of an object is there"
                chunks[seq] = None
        for seq in state.loose:
            assert seq not in chunks and stream.is_live(seq), "a loose chunk is there, and no object's"
        assert stream.count == len(chunks) + len(state.loose), "nothing lies in a bucket that the sweep does not know"
        assert len(chunks) == state.chunk_count + state.metadata_count
        for upload in self.uploads.values():
            for seq in upload.chunks.sequences():
                assert self.pins.is_pinned(seq), "a running upload pins its chunks"
                assert not stream.overlay.is_dropped(seq), "a pinned chunk is not collected"


def _parts(values: list[object]) -> list[list[object]]:
    """Cut plain values into lists whose facts are not too long."""
    parts: list[list[object]] = []
    room = 0
    for value in values:
        length = len(encode_plain(value))
        if length > room:
            parts.append([])
            room = FACT_BYTES_MAX - 64
        parts[-1].append(value)
        room -= length
    return parts
