"""Rules of the storage: the order of syncs, cuts, refusals, and of files that replace each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import waymaker_core.node.checkpoint.checkpoints as checkpoints
import waymaker_core.storage.journal.reader as journal_reader
import waymaker_core.storage.journal.segment as segment
import waymaker_core.storage.journal.writer as journal
import waymaker_core.storage.recovery.recovery as recovery
import waymaker_core.storage.recovery.reopening as reopening
import waymaker_sim.machine.process as process
from waymaker_core.model.disk_ops import FailureKind, Rename, SyncDir, SyncFile, Write
from waymaker_core.model.limits import KIB
from waymaker_core.node.checkpoint.checkpoints import Checkpoints
from waymaker_core.node.checkpoint.relocations import RelocationBatch
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.index_cache import Wait
from waymaker_core.node.timers import Timer
from waymaker_core.node.transfer.receiving import Receipt
from waymaker_core.storage.checkpoint.writer import CheckpointWriter
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.errors import UnknownVersion
from waymaker_core.storage.format_version import FORMAT_VERSION
from waymaker_core.storage.journal.reader import JournalReader
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.manifest import encode_manifest
from waymaker_core.storage.recovery.replay import Replay
from waymaker_core.stream import NeedBlocks
from waymaker_sim.kernel.events import MS
from waymaker_sim.machine.late_reads import LateReads
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving


def _torn(plan: Plan) -> bool:
    """Return True for worlds with batches of many records, torn by a loss of power."""
    return plan.power > 15_000 and plan.disk.tear and plan.pace.sync_ns >= 3 * MS and plan.publishers >= 2


def _rotten(plan: Plan) -> bool:
    """Return True for worlds where bits rot between one start and the next."""
    return plan.rot > 4_000 and plan.kill + plan.power > 10_000


def _rotting(plan: Plan) -> None:
    """Let bits rot often, in a journal that is long because checkpoints are seldom and segments are large."""
    plan.rot = 200_000
    plan.kill, plan.power = 60_000, 0
    plan.disk.read_error = 0
    plan.limits = replace(plan.limits, segment_bytes=64 * KIB, checkpoint_journal_bytes=2048 * KIB)


def _rotting_before_checkpoints(plan: Plan) -> None:
    """Let bits rot often, and write checkpoints between two starts."""
    _rotting(plan)
    plan.limits = replace(plan.limits, segment_bytes=16 * KIB, checkpoint_journal_bytes=16 * KIB)


def _filling_under_checkpoints(plan: Plan) -> None:
    """Let the disk fill while checkpoints are written, streams come and go, and the process be killed."""
    plan.full, plan.targeted_disk_full = max(plan.full, 1), 300_000
    plan.churn = 100_000
    plan.kill = 60_000
    plan.limits = replace(plan.limits, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)


def _names_lost(plan: Plan) -> bool:
    """Return True for worlds with losses of power while segments and files are made and deleted."""
    return plan.power > 10_000 and plan.disk.lose_names and plan.limits.segment_bytes <= 16 * KIB


def _crashing(plan: Plan) -> bool:
    """Return True for worlds with crashes while segments and files are made and deleted."""
    return plan.power + plan.kill > 10_000 and plan.limits.segment_bytes <= 16 * KIB


def _failing_checkpoints(plan: Plan) -> bool:
    """Return True for worlds with checkpoints that fail for lack of space while segments are made and deleted."""
    return plan.targeted_disk_full > 40_000 and plan.limits.segment_bytes <= 16 * KIB


def _little_index_memory(plan: Plan) -> bool:
    """Return True for worlds with many blocks, and indexes that evict each other."""
    return plan.limits.index_cache_bytes <= 16 * KIB and plan.limits.block_size_default <= 3


def _late_readers(plan: Plan) -> bool:
    """Return True for worlds with slow reads of bodies while segments are made and deleted."""
    return plan.pace.late_reads > 0 and plan.limits.segment_bytes <= 32 * KIB


def _failing_syncs(plan: Plan) -> bool:
    return plan.disk.sync_error > 1_000 and plan.disk.lose


def _waiting_anew(original: Any) -> Any:
    def copy_batch(self: Checkpoints, running: Any, first: Any) -> None:
        try:
            original(self, running, first)
        except NeedBlocks as need:
            again, lost = partial(copy_batch, self, running, first), partial(self._no_index, running, first)
            self._indexes._fill(Wait(first, again, lost, None), need.blocks)

    return copy_batch


def _without_syncs(original: Any) -> Any:
    def flush(self: Journal, sync: bool = True) -> Any:
        found = original(self, sync)
        if found is not None:
            found.ops = [op for op in found.ops if not isinstance(op, SyncFile)]
        return found

    return flush


def _past_the_gate(_: Any) -> Any:
    return lambda self, token, answer, *rests_on: self.reply(token, answer)


def _gathering_nothing(_: Any) -> Any:
    def gather(self: Any, *arguments: Any) -> Iterator[Any]:
        yield from ()

    return gather


def _vouching_for_nothing(original: Any) -> Any:
    def encode(key: int, kind: int, version: int, flags: int, segment: int, stream_id: int, position: int, durable: int,
               *rest: Any) -> Any:  # fmt: skip
        return original(key, kind, version, flags, segment, stream_id, position, 0, *rest)

    return encode


def _vouching_early(original: Any) -> Any:
    def write(self: Journal, *arguments: Any) -> Any:
        durable, self.durable_lsn = self.durable_lsn, self.end_lsn
        try:
            return original(self, *arguments)
        finally:
            self.durable_lsn = durable

    return write


def _trying_again(original: Any) -> Any:
    def not_written(self: Any, failure: Any) -> None:
        if failure.kind is FailureKind.NO_SPACE:
            original(self, failure)
        else:
            # Only the sync, as code would that assumes the pages are still dirty.
            del self._ops[: failure.op_index]
            self._start()

    return not_written


def _ops_without(*kinds: type) -> Any:
    def make(original: Any) -> Any:
        def ops(*arguments: Any) -> Any:
            return [op for op in original(*arguments) if not isinstance(op, kinds)]

        return ops

    return make


def _spare_without_name(original: Any) -> Any:
    def spare_job(self: Journal) -> Any:
        job = original(self)
        if job is not None:
            job.ops = [op for op in job.ops if not isinstance(op, SyncDir)]
        return job

    return spare_job


def _releasing_first(original: Any) -> Any:
    def begin(self: Any) -> None:
        original(self)
        ops = self._group_commit.journal.release(self._running.cut)
        if ops:
            self._start(ops, lambda _: None, lambda _: None)

    return begin


def _manifest_in_place(_: Any) -> Any:
    def replace_ops(manifest: Any) -> Any:
        # Over the old one, so that a crash in between loses both.
        return [Write("MANIFEST", 0, [encode_manifest(manifest)]), SyncFile("MANIFEST"), SyncDir("")]

    return replace_ops


def _without_catalogue(original: Any) -> Any:
    def finish(self: Any, running: Any) -> None:
        if not running.writer.full:
            self._state.changes.catalog = False
        original(self, running)

    return finish


def _forgetting_what_failed(original: Any) -> Any:
    def failed(self: Checkpoints, *arguments: Any) -> None:
        changed = self._state.changes.catalog
        original(self, *arguments)
        self._state.changes.catalog = changed

    return failed


def _forgetting_streams(original: Any) -> Any:
    def failed(self: Checkpoints, *arguments: Any) -> None:
        changed = dict(self._state.changes.replicas)
        original(self, *arguments)
        self._state.changes.replicas = changed

    return failed


def _passing_over(_: Any) -> Any:
    def damaged_log(self: Any, stream_id: int, log: Any, path: str, offset: int, detail: str) -> None:
        # The log ends before the damage, and the stream is served from there on.
        log.entries.clear()

    return damaged_log


def _forgetting_damage(_: Any) -> Any:
    return lambda self, stream_id, path, offset, detail: None


def _writing_once(original: Any) -> Any:
    def not_written(self: GroupCommit, failure: Any) -> None:
        original(self, failure)
        self._state.timers.arm(Timer.COMMIT_RETRY, 0, None)

    return not_written


def _with_the_next_step(_: Any) -> Any:
    return property(lambda self: self._sync_due and not self._ops)


def _unsynced_receipt(original: Any) -> Any:
    return lambda self, data: [op for op in original(self, data) if not isinstance(op, SyncFile)]


def _moving_what_is_read(original: Any) -> Any:
    return lambda op: "" if isinstance(op, Rename) else original(op)


def _in_its_old_format(original: Any) -> Any:
    def replace_ops(manifest: Any) -> Any:
        ops = original(manifest)
        head = b"".join(ops[1].parts)[:-4]
        head = head[:8] + manifest.version.to_bytes(4, "little") + head[12:]
        ops[1].parts = [head, crc32c(head).to_bytes(4, "little")]
        return ops

    return replace_ops


def _knowing_the_newest_only(_: Any) -> Any:
    def check_format_version(what: str, found: int) -> None:
        if found != FORMAT_VERSION:
            raise UnknownVersion(what, found, FORMAT_VERSION)

    return check_format_version


def _old(plan: Plan) -> bool:
    """Return True for worlds with a directory of an older format, and crashes after it was opened."""
    return plan.old_format and plan.kill + plan.power > 10_000


def _full_when_writing_over(plan: Plan) -> bool:
    """Return True for worlds with disks that fill and need space for overwrites."""
    return plan.disk.copy_on_write and plan.full + plan.targeted_disk_full > 10_000


STORE = {
    "skip-sync": Mutant(
        "what is confirmed is synced", ("recovery honest", "ledger grows", "acked survives", "one history"),
        Journal, "flush", _without_syncs,
    ),
    "answer-early": Mutant(
        "an answer leaves after all that it rests on is committed", ("ledger grows", "acked survives", "one history"),
        Gate, "answer", _past_the_gate,
    ),
    "retry-failed-sync": Mutant(
        "a sync that failed is never tried again",
        ("recovery honest", "answer allowed", "ledger grows", "acked survives"),
        GroupCommit, "_not_written", _trying_again, _failing_syncs,
    ),
    "cut-damage": Mutant(
        "damage below what was durable is not the end", ("ledger grows", "acked survives", "one history"),
        JournalReader, "_gather_evidence", _gathering_nothing, _rotten,
    ),
    "forget-watermark": Mutant(
        "each frame says what was durable when it was written", ("ledger grows", "acked survives", "one history"),
        journal, "encode_header", _vouching_for_nothing, _rotten,
    ),
    "vouch-early": Mutant(
        "a frame calls durable only what was synced before it", ("recovery honest", "recovery twice"),
        Journal, "_write", _vouching_early, _torn,
    ),
    "trust-frames": Mutant(
        "a frame that does not match its checksum is none", ("recovery honest", "answer allowed"),
        journal_reader, "content_problem", giving(""), _torn,
    ),
    "pass-over-damage": Mutant(
        "a record that is damaged puts its stream into quarantine", ("acked survives", "one history", "ledger grows"),
        Replay, "_damaged_log", _passing_over, adapt=_rotting,
    ),
    "forget-quarantine": Mutant(
        "a checkpoint says which streams are damaged", ("quarantine stays", "acked survives", "one history", "ledger grows"),
        CheckpointWriter, "add_quarantine", _forgetting_damage, adapt=_rotting_before_checkpoints,
    ),
    "let-go-behind-a-read": Mutant(
        "a delivery that waits behind a read keeps its file until it is read", ("files held",),
        LateReads, "_hold", giving([]), _late_readers,
    ),
    "adopt-what-is-not-synced": Mutant(
        "a snapshot that is adopted is synced before, with all files that it names", ("adopted equal",),
        Receipt, "feed", _unsynced_receipt, _crashing,
    ),
    "pass-over-adoptions": Mutant(
        "a start takes the state that a stream has adopted", ("adopted equal",),
        Replay, "adopt", _gathering_nothing, _crashing,
    ),
    "recycle-under-a-read": Mutant(
        "a journal segment is not used again before every read of it is over", ("files held",),
        process, "moved_path", _moving_what_is_read, _late_readers,
    ),
    "reuse-orphans": Mutant(
        "the number of an orphaned file is not used again", ("recovery honest", "answer allowed", "answered"),
        recovery, "_file_numbers", giving(()), _crashing,
    ),
    "unsynced-move": Mutant(
        "messages are read from their new file once it is synced",
        ("recovery honest", "answer allowed", "recovery twice"),
        RelocationBatch, "sync_ops", _ops_without(SyncFile), _names_lost,
    ),
    "load-anew": Mutant(
        "a checkpoint keeps the indexes that it waited for until it has all", ("progress",),
        Checkpoints, "_copy_batch", _waiting_anew, _little_index_memory,
    ),
    "unsynced-checkpoint": Mutant(
        "a checkpoint is synced before a manifest names it", ("recovery honest",),
        CheckpointWriter, "finish", _ops_without(SyncFile), _names_lost,
    ),
    "unnamed-checkpoint": Mutant(
        "a checkpoint's name is durable before a manifest names it", ("recovery honest",),
        CheckpointWriter, "finish", _ops_without(SyncDir), _names_lost,
    ),
    "unnamed-segment": Mutant(
        "a segment's name is durable before the segment is written to", ("recovery honest", "ledger grows"),
        Journal, "spare_job", _spare_without_name, _names_lost,
    ),
    "release-first": Mutant(
        "journal segments go when a checkpoint that covers them is in force", ("recovery honest", "answer allowed"),
        Checkpoints, "begin", _releasing_first, _crashing,
    ),
    "unsynced-manifest": Mutant(
        "a manifest is synced before it takes the old one's place", ("recovery honest",),
        checkpoints, "replace_ops", _ops_without(SyncFile), _names_lost,
    ),
    "manifest-in-place": Mutant(
        "a manifest is replaced by a rename, never written over", ("recovery honest",),
        checkpoints, "replace_ops", _manifest_in_place, _crashing,
    ),
    "stale-catalogue": Mutant(
        "a checkpoint that lets go of the catalogue's records holds its state",
        ("lives apart", "acked survives", "recovery honest"),
        Checkpoints, "_finish", _without_catalogue, _crashing,
    ),
    "open-in-the-old-format": Mutant(
        "the manifest that counts an opening says the newest format", ("format named",),
        reopening, "replace_ops", _in_its_old_format, _old,
    ),
    "read-the-newest-only": Mutant(
        "segments of an older format are read until they are released", ("recovery honest",),
        segment, "check_format_version", _knowing_the_newest_only, _old,
    ),
    "flush-with-the-next-call": Mutant(
        "a record decided after its step's flush is written at once", ("answered", "progress"),
        GroupCommit, "wants_flush", _with_the_next_step,
    ),
    "write-once": Mutant(
        "a write of the journal that found no room is tried again", ("progress", "answered"),
        GroupCommit, "_not_written", _writing_once, _full_when_writing_over,
    ),
    "forget-failed-catalogue": Mutant(
        "the catalogue that a failed checkpoint was to hold is in the next one",
        ("lives apart", "acked survives", "recovery honest", "recovery twice"),
        Checkpoints, "_failed", _forgetting_what_failed, adapt=_filling_under_checkpoints,
    ),
    "forget-failed-streams": Mutant(
        "the streams that a failed checkpoint was to hold are in the next one",
        ("ledger grows", "acked survives", "recovery honest", "recovery twice", "answer allowed"),
        Checkpoints, "_failed", _forgetting_streams, _failing_checkpoints,
    ),
}  # fmt: skip
