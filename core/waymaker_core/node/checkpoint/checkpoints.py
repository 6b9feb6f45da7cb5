"""Checkpoints: messages move out of the journal, states are written down, and the journal before them is deleted.

One runs at a time, a few streams a job, while the node serves. It begins when the journal has grown by enough bytes or by
enough records (a start replays each, however short), when enough bytes of removed messages can be left behind, and on a full
disk when it may free space.

It may stop at any point, by a crash or a full disk: until a manifest names the new checkpoint the old one holds, and the
journal behind it is still there. The order is what makes it safe: chunks are copied and synced; only then does the stream
read from there; its snapshot is written and synced; the manifest takes the old one's place; only then are journal segments
and files of the earlier state deleted.

A snapshot is exact for its own stream at its own position; those of different streams need not be of one moment, and the
catalog's is the last. See docs/decisions/0008-checkpoints-copy-live.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from waymaker_core.api.effects import Lane
from waymaker_core.model.disk_ops import Delete, DiskFailure, DiskOp, FailureKind, OpResult, Rename, SyncDir, SyncFile
from waymaker_core.model.types import CATALOG, StreamId
from waymaker_core.node.checkpoint.relocations import RelocationBatch
from waymaker_core.node.checkpoint.reserve import Reserve
from waymaker_core.node.checkpoint.shared_block_files import SharedBlockFiles
from waymaker_core.node.checkpoint.snapshots import defer_stream, encode_catalog, encode_stream
from waymaker_core.node.context import NodeState
from waymaker_core.node.file_gc import Garbage
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.jobs import Done, Failed
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.node.timers import Timer
from waymaker_core.storage.checkpoint.writer import Chain, CheckpointWriter
from waymaker_core.storage.frame import directory_key
from waymaker_core.storage.manifest import Manifest, replace_ops
from waymaker_core.storage.paths import JOURNAL, SHARED_BLOCKS, checkpoint_path, segment_number
from waymaker_core.stream import NeedBlocks

STREAMS_A_BATCH = 32
"""Streams whose snapshots are encoded in one step: the calls of that step wait for them."""
COPY_BYTES_A_BATCH = 8 * 1024 * 1024
"""Message bytes copied by one job, about: new spare segments wait behind it on the same lane."""


@dataclass(slots=True, eq=False)
class Running:
    """One checkpoint in progress: the streams left to write, and the files to delete when it is in force."""

    work: list[StreamReplica]
    writer: CheckpointWriter
    cut: int
    sparse: dict[str, list[StreamId]]
    begun_ns: int
    garbage: list[str] = field(default_factory=list)
    changed: dict[StreamId, None] = field(default_factory=dict)
    """Streams that have changed, or whose chunks it has moved: their snapshots in force are outdated."""
    written: dict[StreamId, None] = field(default_factory=dict)
    dead_bytes: int = 0
    """Bytes of removed messages that it leaves behind, about."""
    carried_lsn: int = 0
    """LSN behind the records that were carried forward for it."""
    covered_records: int = 0
    """Records that the one before it covered."""
    catalog_position: int = 0
    """Position of the catalog's snapshot in it; 0 where it has none."""
    partial: bool = False
    """True if part of the journal stays, since there is no space to copy its live messages."""

    def leaves(self, path: str) -> bool:
        """Return True if the chunks in this file are to move."""
        if path.startswith(JOURNAL):
            return not self.partial or (segment_number(path.rpartition("/")[2]) or 0) < self.cut
        return path in self.sparse


class Checkpoints:
    """The checkpoint that runs, if one does, and when the next one is due."""

    def __init__(
        self,
        state: NodeState,
        group_commit: GroupCommit,
        garbage: Garbage,
        indexes: Indexes,
        quarantine: Quarantine,
        shared_files: SharedBlockFiles,
        reserve: Reserve,
        manifest: Manifest,
        chain: Chain,
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._garbage = garbage
        self._indexes = indexes
        self._quarantine = quarantine
        self._shared_files = shared_files
        self._reserve = reserve
        self._manifest = manifest
        self._chain = chain
        self._key = directory_key(manifest.directory_id)
        self._covered = group_commit.journal.end_lsn - group_commit.journal.journal_bytes()
        """LSN up to which the last checkpoint covers the journal, about."""
        self._covered_records = -state.stats.recovered_records
        """Records of the journal since the start that it covers; below 0 while it does not cover what was replayed."""
        self._running: Running | None = None
        self._unsynced: tuple[Running, int] | None = None
        """A finished file that waits for the journal to be synced up to there."""
        self._left_garbage: list[str] = []
        """Files that the next manifest makes garbage."""
        self.full = False
        """True if the last attempt found no free space, and none has succeeded since."""
        self._paused = False
        """True if the last attempt failed, for whatever reason; another follows when the disk is tried again."""
        self._scope: int | None = None
        """The number of oldest journal segments that the next attempt tries to release; None: all that it may."""
        self._looked = False
        """True if a checkpoint has been made since the start, so that what was dead before is left behind."""
        self._cramped = False
        """True if the attempt that runs, or the last one, began on a full disk."""
        self._reserve_used_at = -1
        """Dead bytes at the moment when the reserve was last deleted for an attempt."""
        self._tried_ns = 0
        """Time at which a checkpoint was last begun to free space."""
        self.failed: DiskFailure | None = None
        """The failure after which it is unknown what is durable."""

    @property
    def cramped(self) -> bool:
        """Return True while one runs that needs every byte a full disk has left."""
        return self._running is not None and self._cramped

    @property
    def running(self) -> bool:
        """Return True while one runs."""
        return self._running is not None

    def advance(self) -> None:
        """Begin one if the journal has grown enough; go on with one that waits for a sync."""
        if self._unsynced is not None and self._group_commit.journal.durable_lsn >= self._unsynced[1]:
            running, self._unsynced = self._unsynced[0], None
            self._replace_manifest(running)
        if self._running is None and not self._paused and self._is_due():
            self.begin()

    def _is_due(self) -> bool:
        """Return True if the journal has grown enough, enough has died, or it may free space on a full disk.

        On a full disk any commit may be the one that lets a checkpoint free space; one attempt a pause is made.
        """
        state = self._state
        bound = state.limits.checkpoint_journal_bytes
        grown = self._group_commit.journal.end_lsn - self._covered
        records = self._group_commit.journal.records - self._covered_records
        if grown >= bound or records >= state.limits.checkpoint_records or state.changes.dead_bytes >= bound:
            return True
        pause_ns = state.limits.disk_retry_ms * 1_000_000
        if not state.stats.disk_full or not grown or state.now.mono_ns < self._tried_ns + pause_ns:
            return False
        return self._may_leave_dead()

    def _may_leave_dead(self) -> bool:
        """Return True if something has died since the last checkpoint; what died before the start is not known."""
        if self._state.changes.dead_bytes > 0 or self._looked:
            return self._state.changes.dead_bytes > 0
        return self._group_commit.journal.segment_count > 1 or bool(self._shared_files.sparse())

    def draw_number(self) -> int:
        """Draw a number for a new file of another part of the node."""
        return self._manifest.draw_file()

    def retry_checkpoint(self) -> None:
        """End the pause after a failed attempt: there may be free space again."""
        self._paused = False

    def begin(self) -> None:
        """Begin a checkpoint of everything committed so far."""
        state, changes, journal = self._state, self._state.changes, self._group_commit.journal
        current, carried_lsn = self._group_commit.carry(journal.current_segment())
        nearer = self._limit_scope(current)
        partial = nearer is not None
        full = self._chain.full_wanted(few_bytes=partial) or self._writes_all()
        sparse = self._sparse_files(partial)
        work: dict[StreamId, StreamReplica] = dict(state.replicas) if full else dict(changes.replicas)
        for stream_id in [user for users in sparse.values() for user in users]:
            if stream_id in state.replicas:
                work[stream_id] = state.replicas[stream_id]
        changed, changes.replicas = changes.replicas, {}
        writer = CheckpointWriter(self._key, self._manifest.draw_file(), full)
        cut = current if nearer is None else nearer
        self._running = Running(list(work.values()), writer, cut, sparse, state.now.mono_ns, partial=partial)
        self._running.changed = dict.fromkeys(changed)
        self._running.carried_lsn = carried_lsn
        self._running.covered_records, self._covered_records = self._covered_records, journal.records
        self._running.garbage, self._left_garbage = self._left_garbage, []
        self._covered = journal.bytes_from(cut) if partial else journal.end_lsn
        self._make_room()
        self._running.dead_bytes, changes.dead_bytes = changes.dead_bytes, 0
        self._next_batch(self._running)

    def _limit_scope(self, current: int) -> int | None:
        """Return where an attempt on a full disk cuts the journal, or None for one that releases all before `current`.

        It releases no segment at first, and leaves behind what is dead; then more and more. Live messages in the segments
        that stay are not copied, nor are those in sparse files; the streams' snapshots name them there.
        """
        if self._scope is None and self._state.stats.disk_full:
            self._scope = self._smallest_scope()
        if self._scope is None:
            return None
        nearer = self._group_commit.journal.oldest_segment() + self._scope
        return nearer if nearer < current else None

    def _sparse_files(self, partial: bool) -> dict[str, list[StreamId]]:
        """Return the shared block files to leave: none on a full disk until all segments may go.

        Copies stay when an attempt fails. Those of sparse files could take the bytes that the next attempt needs.
        """
        return {} if partial else self._shared_files.sparse()

    def _writes_all(self) -> bool:
        """Return True if an attempt on a full disk writes all streams anyway: then the files before it can go."""
        return self._state.stats.disk_full and len(self._state.changes.replicas) >= len(self._state.replicas)

    def _smallest_scope(self) -> int:
        """Return how many segments the first attempt releases: with nothing dead, releasing none would gain nothing."""
        return 0 if self._may_leave_dead() else 1

    def _make_room(self) -> None:
        """Delete an unused segment for an attempt on a full disk, or the reserve, if enough has died to make it again."""
        state, dead_bytes = self._state, self._state.changes.dead_bytes
        self._cramped = state.stats.disk_full
        if not self._cramped:
            self._reserve_used_at = -1
            return
        self._tried_ns = state.now.mono_ns
        ops = self._group_commit.journal.give_up_segment()
        enough = dead_bytes >= self._reserve.size or not self._looked
        if not ops and self.full and enough and dead_bytes != self._reserve_used_at:
            ops, self._reserve_used_at = self._reserve.take(), dead_bytes
        if ops:
            self._garbage.delete(ops)

    # ------------------------------------------------------------------ streams

    def _next_batch(self, running: Running) -> None:
        """Copy the next streams, as soon as the indexes of the first of them are resident; end where none is left."""
        work = running.work
        while work and (not self._serves(work[-1]) or work[-1].stream.config.ephemeral):
            work.pop()
        if not work:
            self._finish(running)
            return
        first = work[-1]
        copy, lost = partial(self._copy_batch, running, first), partial(self._no_index, running, first)
        self._indexes.when_resident(first, copy, lost)

    def _copy_batch(self, running: Running, first: StreamReplica) -> None:
        """Copy some streams, as many as need no index, but for the first. `NeedBlocks` passes through for that one.

        Its wait then keeps the blocks that it holds. A wait that began anew would release them, and indexes larger than the
        cache would push each other out for ever.
        """
        if not self._serves(first):
            self._next_batch(running)
            return
        batch = RelocationBatch(self._key, self._manifest, self._state.limits.block_bytes_max)
        while running.work and len(batch.streams) < STREAMS_A_BATCH and batch.byte_count < COPY_BYTES_A_BATCH:
            replica = running.work.pop()
            if not self._serves(replica) or replica.stream.config.ephemeral:
                continue
            try:
                batch.add_stream(replica, running.leaves, not running.partial)
            except NeedBlocks:
                running.work.append(replica)
                if replica is first:
                    raise
                break
        batch.plan_shared_file()
        if batch.ops:
            self._start(batch.ops, partial(self._copied, running, batch), partial(self._not_copied, running, batch))
        else:
            self._moved(running, batch, [])

    def _no_index(self, running: Running, replica: StreamReplica, failure: DiskFailure) -> None:
        if self._serves(replica):
            self._quarantine.found(replica, failure)
            if replica.damage is None:
                self._failed(running, None, [], failure)
                return
        self._next_batch(running)

    def _copied(self, running: Running, batch: RelocationBatch, results: list[OpResult]) -> None:
        batch.copied(results)
        if batch.shared_file is not None:
            self._shared_files.created(batch.shared_file.path, batch.shared_file.end)
        self._index(running, batch, [])

    def _index(self, running: Running, batch: RelocationBatch, _results: list[OpResult]) -> None:
        """Write one file's indexes a step, then sync."""
        ops = batch.index_next()
        if ops is not None:
            self._start(ops, partial(self._index, running, batch), partial(self._failed, running, batch, ops))
            return
        ops = batch.sync_ops()
        self._start(ops, partial(self._moved, running, batch), partial(self._failed, running, batch, ops))

    def _moved(self, running: Running, batch: RelocationBatch, _results: list[OpResult]) -> None:
        """Let streams read from the durable copies, and write their snapshots."""
        unused = batch.settle(self._serves, self._indexes.admit)
        running.garbage += unused
        writer = running.writer
        for replica in batch.streams:
            if not self._serves(replica):
                continue
            released = [path for path in replica.stream.take_released() if not path.startswith(SHARED_BLOCKS)]
            running.garbage += released
            if released or replica.id in batch.relocated:
                running.changed[replica.id] = None
            if replica.id in batch.unfinished and replica.damage is None:
                running.work.append(replica)
                continue
            running.written[replica.id] = None
            adopted = self._state.changes.adopted.pop(replica.id, None)
            running.garbage += [] if adopted is None else [adopted]
            damage = replica.damage
            if damage is not None:
                writer.add_quarantine(replica.id, damage.path, damage.offset, damage.detail)
                continue
            self._shared_files.note(replica)
            if running.partial and replica.id in running.changed:
                self._state.changes.replicas.setdefault(replica.id, replica)
            if len(replica.stream.subjects.last) < self._state.limits.checkpoint_deferred_subjects:
                writer.add_snapshot(replica.id, replica.stream.position, encode_stream(replica, self._state.now))
            else:
                writer.defer_snapshot(replica.id, replica.stream.position, defer_stream(replica, self._state.now))
        ops = writer.take()
        self._start(ops, partial(self._written, running), partial(self._failed, running, None, ops))

    def _written(self, running: Running, _results: list[OpResult]) -> None:
        self._next_batch(running)

    def _serves(self, replica: StreamReplica) -> bool:
        return self._state.replicas.get(replica.id) is replica

    # ------------------------------------------------------------------ the end

    def _finish(self, running: Running) -> None:
        changes, writer = self._state.changes, running.writer
        for stream_id in list(changes.ended):
            if stream_id not in running.written:
                del changes.ended[stream_id]
                if stream_id in self._chain.latest:
                    writer.add_tombstone(stream_id)
        if changes.catalog or writer.full:
            changes.catalog = False
            running.catalog_position = self._state.catalog_log.applied
            writer.add_snapshot(CATALOG, running.catalog_position, encode_catalog(self._state.catalog))
            adopted = changes.adopted.pop(StreamId(CATALOG), None)
            running.garbage += [] if adopted is None else [adopted]
        ops = writer.finish()
        self._start(ops, partial(self._file_written, running), partial(self._failed, running, None, ops))

    def _file_written(self, running: Running, _results: list[OpResult]) -> None:
        """Name the finished file in a manifest when every body that its snapshots name is durable.

        With interval sync some bodies may not be durable yet, and a snapshot must not outlive them.
        """
        needed = max(self._state.written_lsn, running.carried_lsn)
        if self._group_commit.journal.durable_lsn < needed:
            self._group_commit.sync_due()
            self._unsynced = (running, needed)
        else:
            self._replace_manifest(running)

    def _replace_manifest(self, running: Running) -> None:
        chain, manifest = running.writer.chain_after(self._chain), self._manifest
        successor = Manifest(
            manifest.directory_id, manifest.node_id, manifest.open_epoch, running.cut, manifest.next_file, chain.files
        )
        ops = replace_ops(successor)
        done, failed = partial(self._in_force, running, chain, successor), partial(self._failed, running, None, ops)
        self._start(ops, done, failed)

    def _in_force(self, running: Running, chain: Chain, manifest: Manifest, _results: list[OpResult]) -> None:
        state, before = self._state, self._chain
        # Numbers were drawn while it was written.
        manifest.next_file = max(manifest.next_file, self._manifest.next_file)
        self._manifest, self._chain, self._running = manifest, chain, None
        state.release_group_history(running.catalog_position)
        kept = {file.number for file in chain.files}
        gone = [checkpoint_path(file.number) for file in before.files if file.number not in kept]
        ops = [*self._group_commit.journal.release(running.cut), *map(Delete, gone)]
        if ops:
            self._garbage.delete(ops)
        self._shared_files.keep_only(state.replicas)
        for path in [*running.garbage, *self._shared_files.take_unused()]:
            self._garbage.delete_shared_later(path)
        self.full, self._looked = False, True
        self._reserve.retry()
        if running.partial:
            # It freed some space: go on at once, with more segments.
            self._scope, self._tried_ns = 2 * (self._scope or 0) + 1, 0
        else:
            self._scope = None
        state.stats.checkpoints += 1
        state.stats.checkpoint_ns_last = state.now.mono_ns - running.begun_ns

    # ------------------------------------------------------------------ failure

    def _not_copied(self, running: Running, batch: RelocationBatch, failure: DiskFailure) -> None:
        owner = batch.owner_of(failure) if failure.kind in {FailureKind.CORRUPT, FailureKind.MISSING} else None
        if owner is None:
            self._failed(running, batch, batch.ops, failure)
            return
        self._quarantine.found(owner, failure)
        running.work += reversed(batch.streams)
        running.garbage += batch.paths
        self._next_batch(running)

    def _failed(self, running: Running, batch: RelocationBatch | None, ops: list[DiskOp], failure: DiskFailure) -> None:
        """Abandon this attempt: the next one must cover all that this one was to cover."""
        failed_op = ops[failure.op_index] if failure.op_index < len(ops) else None
        no_free_space = failure.kind is FailureKind.NO_SPACE
        # From the rename on a start may find either manifest, and after a failed sync nothing proves what is durable.
        if isinstance(failed_op, Rename) or (isinstance(failed_op, SyncFile | SyncDir) and not no_free_space):
            self.failed = failure
            return
        if isinstance(failed_op, SyncDir) and any(isinstance(op, Rename) for op in ops):
            self.failed = failure
            return
        state, changes = self._state, self._state.changes
        self._running, self._paused, self.full = None, True, no_free_space
        changes.dead_bytes += running.dead_bytes
        if no_free_space:
            # Chosen with the next attempt: by then there may be something dead.
            self._scope = None
        state.stats.checkpoint_failures += 1
        state.log("error", "checkpoint_failed", path=failure.path, kind=failure.kind.value, detail=failure.detail)
        left_over = [*running.work, *(batch.streams if batch is not None else ())]
        left_over += [state.replicas[stream_id] for stream_id in running.written if stream_id in state.replicas]
        for replica in left_over:
            # Not one that a checkpoint of all streams was to write anew: the next one would have to be as large.
            if self._serves(replica) and replica.id in running.changed:
                changes.replicas.setdefault(replica.id, replica)
        changes.catalog = True
        self._covered = min(
            self._covered, self._group_commit.journal.end_lsn - self._group_commit.journal.journal_bytes()
        )
        self._covered_records = running.covered_records
        self._left_garbage = running.garbage
        paths = [running.writer.path, *(batch.paths if batch is not None else ())]
        self._garbage.delete([Delete(path) for path in paths])
        state.retry_disk_by(Timer.DISK_RETRY)

    def _start(self, ops: list[DiskOp], done: Done, failed: Failed) -> None:
        self._state.start(Lane.BACKGROUND, ops, done, failed)
