"""A toy node over the real store: streams that only remember what was written to them, with checkpoints and spares.

It does with the journal what the node does, in the same order of operations and with none of its meaning, so that crashes
at every operation can be tried by the thousand.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from random import Random

from tests.kit.store_disk import MemoryDisk
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import Chunk, Delete, DiskFailure, FailureKind, ReadChunk
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.records import PruneRecord, PublishRecord, Record, StreamCreated, StreamDeleted
from waymaker_core.storage.blocks.block_file import finish_ops, plan_shared_file
from waymaker_core.storage.checkpoint.writer import CheckpointWriter, decode_state, encode_state
from waymaker_core.storage.errors import JournalFull
from waymaker_core.storage.journal.writer import Flush, Journal
from waymaker_core.storage.manifest import Manifest, replace_ops
from waymaker_core.storage.recovery.recovery import Recovered, recover
from waymaker_core.storage.recovery.replay import Quarantine

LIMITS = Limits(
    segment_bytes=4 * KIB, checkpoint_journal_bytes=12 * KIB, record_bytes_max=2 * KIB, flush_bytes_max=6 * KIB,
)  # fmt: skip
FRESH_ID = b"sixteen bytes id"


class History:
    """Recovery's target: for each stream what its records said, and where its bodies lie."""

    def __init__(self) -> None:
        self.alive: dict[int, int] = {}
        self.positions: dict[int, int] = {0: 0}
        self.said: dict[int, list[int]] = {}
        """First sequence of each publish, or minus the truncation of each prune."""
        self.stored: dict[int, list[Chunk]] = {}
        self.quarantined: dict[int, Quarantine] = {}
        self.changed: set[int] = set()
        """Streams with records behind their latest snapshot, replayed ones included."""

    # as a target

    def snapshot(self, stream_id: int, position: int, meta: bytes) -> None:
        state = decode_state(meta)
        self.positions[stream_id] = position
        if stream_id == 0:
            self.alive = dict.fromkeys(state, 1)  # type: ignore[call-overload]
        else:
            assert isinstance(state, list)
            self.said[stream_id] = state[0]
            self.stored[stream_id] = [Chunk(*fields) for fields in state[1]]

    def adopt_snapshot(self, stream_id: int, position: int, meta: bytes, path: str) -> None:
        self.quarantined.pop(stream_id, None)
        self.snapshot(stream_id, position, meta)

    def record(self, stream_id: int, position: int, record: Record, chunk: Chunk | None) -> None:
        assert position == self.positions.get(stream_id, 0) + 1, "no gaps"
        self.positions[stream_id] = position
        self.changed.add(stream_id)
        match record:
            case StreamCreated():
                self.alive[record.stream_id] = 1
            case StreamDeleted():
                del self.alive[record.stream_id]
            case PublishRecord():
                self.said.setdefault(stream_id, []).append(record.first_seq)
                if chunk is not None:
                    self.stored.setdefault(stream_id, []).append(chunk)
            case PruneRecord():
                self.said.setdefault(stream_id, []).append(-record.truncate_to)

    def exists(self, stream_id: int) -> bool:
        return stream_id in self.alive

    def is_deleted(self, stream_id: int) -> bool:
        return stream_id not in self.alive

    def quarantine(self, quarantine: Quarantine) -> None:
        self.quarantined[quarantine.stream_id] = quarantine

    def import_ended(self, stream_id: int) -> None:
        pass

    def files(self) -> Iterable[tuple[int, str]]:
        return [
            (s, chunk.path) for s in sorted(self.alive) for chunk in self.stored.get(s, []) if "tails" in chunk.path
        ]

    def chunks(self) -> Iterable[tuple[int, Chunk]]:
        return [(s, chunk) for s in sorted(self.alive) for chunk in self.stored.get(s, [])]

    def indexes(self) -> Iterable[tuple[int, Chunk]]:
        return []

    # for comparisons

    def story(self) -> dict[int, list[int]]:
        return {stream_id: self.said.get(stream_id, []) for stream_id in sorted(self.alive)}

    def state_of(self, stream_id: int) -> object:
        chunks = [[c.path, c.offset, c.length, c.crc] for c in self.stored.get(stream_id, [])]
        return [self.said.get(stream_id, []), chunks]


def open_directory(disk: MemoryDisk, limits: Limits = LIMITS) -> tuple[History, Recovered]:
    history = History()
    return history, disk.drive(recover(history, limits, FRESH_ID))


class ToyNode:
    """A node that appends, flushes, makes spares and checkpoints at random; `confirmed` is what its callers were told."""

    def __init__(self, disk: MemoryDisk, random: Random, limits: Limits = LIMITS, lazy: bool = False) -> None:
        self.disk = disk
        self.random = random
        self.limits = limits
        self.lazy = lazy
        """Syncs come now and then, as with `sync = interval`."""
        self.history, recovered = open_directory(disk, limits)
        self.journal = Journal(recovered.journal, limits)
        self.manifest: Manifest = recovered.manifest
        self.chain = recovered.chain
        self.key = recovered.journal.key
        self.positions = dict(self.history.positions)
        self.next_id = max([0, *self.history.positions, *self.history.alive]) + 1
        self.next_seq = {s: max([0, *said]) + 1 for s, said in self.history.said.items()}
        self.streams = sorted(self.history.alive)
        self.confirmed: list[tuple[int, int]] = []
        """(stream, position) of what is durable, in order."""
        self.submitted: list[tuple[int, int, Record]] = []
        self.pending: list[tuple[int, int, Record, Chunk | None]] = []
        self.synced = 0
        """The number of `confirmed` that a loss of power may not take."""
        self.began_alive = dict(self.history.alive)
        self.began_positions = dict(self.history.positions)
        self.began_said = {stream_id: list(said) for stream_id, said in self.history.said.items()}

    # ------------------------------------------------------------ writing

    def append(self, stream_id: int, record: Record, body: bytes = b"") -> None:
        position = self.positions.get(stream_id, 0) + 1
        chunk = self.journal.append(stream_id, position, record, [body] if body else None)
        self.pending.append((stream_id, position, record, chunk))
        self.positions[stream_id] = position
        self.submitted.append((stream_id, position, record))

    def gather(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            try:
                self._one_record()
            except JournalFull:
                return

    def _one_record(self) -> None:
        draw = self.random.random()
        if not self.streams or (draw < 0.1 and len(self.streams) < 4):
            self.append(0, StreamCreated(self.next_id, StreamConfig(f"s{self.next_id}"), 5))
            self.streams.append(self.next_id)
            self.next_id += 1
        elif draw < 0.13:
            stream_id = self.random.choice(self.streams)
            self.append(0, StreamDeleted(stream_id))
            self.streams.remove(stream_id)
        elif draw < 0.2:
            self.append(self.random.choice(self.streams), PruneRecord(self.random.randint(0, 5)))
        else:
            stream_id = self.random.choice(self.streams)
            lengths = [self.random.choice([1, 40, 300, 700]) for _ in range(self.random.randint(1, 3))]
            if self.random.random() < 0.02:
                lengths.append(self.limits.segment_bytes + 100)
            count = len(lengths)
            seq = self.next_seq.get(stream_id, 1)
            record = PublishRecord(
                seq, array("q", [7] * count), array("I", lengths), array("I", lengths), ["a.b"] * count
            )
            self.append(stream_id, record, self.random.randbytes(sum(lengths)))
            self.next_seq[stream_id] = seq + count

    def flush(self, sync: bool = False) -> None:
        flush = self.journal.flush(sync=sync or not self.lazy or self.random.random() < 0.3)
        if flush is not None:
            self.disk.run(flush.ops)
            self.apply(flush)

    def apply(self, flush: Flush) -> None:
        self.journal.done(flush)
        for stream_id, position, record, chunk in self.pending:
            if self.history.exists(stream_id) or stream_id == 0:
                self.history.record(stream_id, position, record, chunk)
            self.confirmed.append((stream_id, position))
        self.pending = []
        if flush.synced:
            self.synced = len(self.confirmed)

    # ------------------------------------------------------------ background

    def make_spare(self) -> None:
        job = self.journal.spare_job()
        if job is not None:
            try:
                self.disk.run(job.ops)
            except DiskFailure as failure:
                assert failure.kind is FailureKind.NO_SPACE
                self.disk.run(self.journal.spare_failed(job))
            else:
                self.journal.spare_done(job)

    def checkpoint(self) -> None:
        self.flush(sync=True)
        cut = self.journal.current_segment()
        old = {segment.path for segment in self.journal._segments if segment.number < cut}
        moved = self._move(old)
        full = self.chain.full_wanted() or self.random.random() < 0.2
        writer = CheckpointWriter(self.key, self.manifest.draw_file(), full)
        for stream_id in sorted([0, *self.history.alive]):
            if full or stream_id in self.history.changed:
                state = sorted(self.history.alive) if stream_id == 0 else self.history.state_of(stream_id)
                writer.add_snapshot(stream_id, self.history.positions.get(stream_id, 0), encode_state(state))
                if self.random.random() < 0.5:
                    self.disk.run(writer.take())
        for stream_id in sorted(self.history.changed):
            if stream_id and stream_id not in self.history.alive:
                writer.add_tombstone(stream_id)
        self.disk.run(writer.finish())
        chain = writer.chain_after(self.chain)
        self.manifest.first_segment = cut
        self.manifest.chain = chain.files
        self.disk.run(replace_ops(self.manifest))
        before, self.chain = self.chain, chain
        self.history.changed = set()
        self.disk.run(self.journal.release(cut))
        kept = {file.number for file in chain.files}
        for file in before.files:
            if file.number not in kept:
                self.disk.perform(Delete(f"checkpoints/{file.number}.ckpt"))
        for path in moved:
            self.disk.perform(Delete(path))

    def _move(self, old: set[str]) -> list[str]:
        """Copy the chunks in old segments and old tails into one new tail; the tails that go once that counts."""
        tails = {c.path for chunks in self.history.stored.values() for c in chunks if c.path.startswith("tails/")}
        places = [
            (stream_id, index)
            for stream_id in sorted(self.history.alive)
            for index, chunk in enumerate(self.history.stored.get(stream_id, []))
            if chunk.path in old or chunk.path in tails
        ]
        for stream_id in [s for s in self.history.stored if s not in self.history.alive]:
            del self.history.stored[stream_id]
        if places:
            plan = plan_shared_file(self.key, self.manifest.draw_file(), [self.history.stored[s][i] for s, i in places])
            results = self.disk.run(plan.ops)
            crcs = results[-1]
            assert isinstance(crcs, list)
            self.disk.run(finish_ops([plan.path]))
            for (stream_id, index), chunk in zip(places, plan.copied(crcs), strict=True):
                self.history.stored[stream_id][index] = chunk
                self.history.changed.add(stream_id)
        return sorted(tails)

    # ------------------------------------------------------------ life

    def live(self, rounds: int) -> None:
        for _ in range(rounds):
            self.gather()
            self.flush()
            if self.random.random() < 0.6:
                self.make_spare()
            if self.random.random() < 0.15 and self.journal.watermark_wanted():
                self.journal.watermark()
                self.flush()
            if self.random.random() < 0.08:
                self.checkpoint()

    def drain(self) -> None:
        self.flush(sync=True)
        self.journal.watermark(clean=True)
        self.flush(sync=True)


def bodies(disk: MemoryDisk, history: History) -> dict[int, list[bytes]]:
    """Return all stored bodies that the streams name; fail where one cannot be read."""
    found: dict[int, list[bytes]] = {}
    for stream_id in history.story():
        found[stream_id] = []
        for chunk in history.stored.get(stream_id, []):
            data = disk.perform(ReadChunk(chunk))
            assert isinstance(data, bytes)
            found[stream_id].append(data)
    return found
