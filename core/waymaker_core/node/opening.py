"""Opening a node: recovery of the directory, state from its records, and streams that a restart deletes.

Ephemeral streams kept their messages in memory only. So each begins a new incarnation, under a new id, before any client is
served. A restore that was interrupted left a stream that no client was served from; it is deleted.
"""

from __future__ import annotations

from collections.abc import Generator

from waymaker_core.api.inputs import SentRecord
from waymaker_core.model.disk_ops import DiskFailure, DiskOp, FailureKind, OpResult
from waymaker_core.model.records import MembersRecord
from waymaker_core.model.types import CATALOG, Now, StreamId
from waymaker_core.node.apply import EMPTIED, start_replica
from waymaker_core.node.config import NodeConfig
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import record_frame_bytes_max
from waymaker_core.node.maintenance.incarnations import end_of
from waymaker_core.node.node import Node
from waymaker_core.node.startup.restored import Restored
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.node.startup.suffixes import restore_suffix
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.storage.disk_steps import Steps
from waymaker_core.storage.errors import JournalFull
from waymaker_core.storage.format_version import FORMAT_VERSION
from waymaker_core.storage.frame import COMMIT, DOUBT, RAFT_HARD
from waymaker_core.storage.journal.facts import batches, encode_fact
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.paths import BLOCKS, JOURNAL, SHARED_BLOCKS, block_owner
from waymaker_core.storage.recovery.recovery import Recovered, recover
from waymaker_core.storage.recovery.reopening import erase, perform
from waymaker_core.storage.recovery.replay import Quarantine

TERMS_SKIPPED = 1 << 16
"""Terms that a node skips where it may have forgotten votes; each takes a write of its own."""
NO_FREE_SPACE = "the disk is full: there was no room to begin this ephemeral stream anew; free some and start again"


def open_node(config: NodeConfig, now: Now) -> Generator[DiskOp, OpResult, Node]:
    """Recover the directory and return the node that serves it.

    A generator of disk operations: perform each that it yields and send back the operation's result, or throw the
    `DiskFailure` into it. Its return value is the node. An empty directory becomes a new one. What makes a start
    impossible is raised: `store.errors.StoreRefused` (names file and offset), or the `DiskFailure` itself. May be run
    again on the same directory after any of these, or after a crash at any operation; a run never makes a directory worse.
    """
    restoring = Restoring(config.limits, config.layers)
    recovered = yield from recover(
        restoring,
        config.limits,
        config.identity,
        config.node_id,
        replicated=config.replicated,
        keeps_recent=config.member,
        notes_tears=config.member,
    )
    restoring.finish_restore()
    journal = Journal(recovered.journal, config.limits)
    if not config.replicated:
        yield from _note_committed(recovered, journal)
        yield from _begin_new_incarnations(restoring, journal, now)
    if recovered.remnants:
        yield from _note_tear(recovered, restoring, journal)
    state = NodeState(config, restoring.catalog, restoring.catalog_position, restoring.replicas, restoring.changes)
    state.overrides.refresh_all()
    state.now = now
    if state.recent is not None:
        for stream_id, records in recovered.recent.items():
            for read, body in records:
                state.recent.keep(stream_id, read.position, SentRecord(read.kind, read.version, read.meta, body))
    for replica in restoring.replicas.values():
        replica.log = StreamLog(replica.id, replica.stream.position, replica.log.memory)
        replica.log.reserved_synced = replica.stream.reserved_to
        start_replica(replica, state)
        suffix = recovered.suffixes.pop(replica.id, None)
        if replica.damage is not None:
            suffix = None  # it stands behind a state that is not there
        if config.member:
            replica.leading.over = True
        if config.replicated and (replica.importing or replica.stream.config.ephemeral):
            replica.leading.over = True
            state.passing.append(replica)
        if suffix is not None:
            # It leads when the whole log is applied: nothing is decided over records that may not be committed.
            replica.leading.over = True
            if not config.member:
                state.opening[replica.id] = replica
            restore_suffix(replica.log, suffix, recovered, state)
        elif not replica.leading.over:
            replica.stream.skip_reserved()
            replica.consumers.resume(now, complete=recovered.complete)
    _restore_others(restoring, state, recovered)
    _report(state, recovered)
    return Node(Restored(state, journal, recovered, _orphans(state, recovered)))


def _restore_others(restoring: Restoring, state: NodeState, recovered: Recovered) -> None:
    """Restore the suffixes of the catalog, and of the streams that it does not know yet."""
    suffix = recovered.suffixes.pop(CATALOG, None)
    if suffix is not None:
        state.catalog_leads = False
        restore_suffix(state.catalog_log, suffix, recovered, state)
        state.found_end = state.catalog_log.end
    for stream_id, records in recovered.suffixes.items():
        log = state.unknown[StreamId(stream_id)] = StreamLog(stream_id, records[0].position - 1)
        restore_suffix(log, records, recovered, state)
        log.majority = recovered.commits.get(stream_id, 0)
        log.commit(log.majority)
        state.log("warning", "unknown_stream", stream_id=stream_id, records=len(records))
    state.unknown_damage = restoring.damage_of_unknown()


def _note_committed(recovered: Recovered, journal: Journal) -> Steps:
    """Say durably that all is committed that other replicas had not confirmed: from here on there is only this one.

    What follows rests on it: answers about what is applied, and the deletion of files.
    """
    if not recovered.claimed:
        return
    yield from _make_spare(journal)
    try:
        for some in batches([*recovered.claimed]):
            journal.append_fact(COMMIT, encode_fact(COMMIT, some))
    except JournalFull as problem:
        raise DiskFailure(FailureKind.NO_SPACE, JOURNAL, 0, str(problem)) from problem
    yield from _flush(journal)


def term_without_votes(known: int) -> int:
    """Return a term in which this node gave no vote, though it may have forgotten later ones (rule `skip_terms`)."""
    return known + TERMS_SKIPPED


def _note_tear(recovered: Recovered, restoring: Restoring, journal: Journal) -> Steps:
    """Note durably that the end of the journal may be missing, before the signs of it are erased.

    What was promised, acknowledged or voted last may be forgotten. The node enters a term of the catalog's group in which it
    gave no vote: a torn end holds far fewer terms than the node skips.
    """
    facts = recovered.facts
    suffix = recovered.suffixes.get(CATALOG, [])
    grouped = facts.raft_hard.term > 0 or restoring.catalog.group.members[-1].position > 0
    rows: list[tuple[int, tuple[int, ...]]] = []
    term = 1
    if grouped or any(isinstance(each.record, MembersRecord) for each in suffix):
        term = term_without_votes(facts.raft_hard.term)
        rows.append((RAFT_HARD, (CATALOG, term, 0)))
    rows.append((DOUBT, (CATALOG, term, 1)))
    yield from _make_spare(journal)
    try:
        for kind, row in rows:
            journal.append_fact(kind, encode_fact(kind, [row]))
            facts.learn(kind, [row])
    except JournalFull as problem:
        raise DiskFailure(FailureKind.NO_SPACE, JOURNAL, 0, str(problem)) from problem
    yield from _flush(journal)
    yield from erase(recovered.remnants, *journal.place())


def _flush(journal: Journal) -> Steps:
    flush = journal.flush()
    while flush is not None:
        yield from perform(flush.ops)
        journal.done(flush)
        flush = journal.flush()


def _begin_new_incarnations(restoring: Restoring, journal: Journal, now: Now) -> Generator[DiskOp, OpResult, None]:
    """Delete streams that cannot outlive a restart, and create the ephemeral ones anew, in one commit.

    Streams for which even the journal's reserve has no space are not served until the next start.
    """
    passing = [entry for entry in restoring.catalog.entries.values() if entry.importing or entry.config.ephemeral]
    if not passing:
        return
    yield from _make_spare(journal)
    anew: list[StreamId] = []
    for entry in passing:
        stream_id = StreamId(restoring.catalog.next_id)
        record = end_of(entry, 0 if entry.importing else stream_id, now)
        if not journal.fits(record_frame_bytes_max(record), ordinary=False):
            restoring.quarantine(Quarantine(entry.stream_id, JOURNAL, 0, NO_FREE_SPACE))
            continue
        position = restoring.catalog_position + 1
        journal.append(CATALOG, position, record)
        restoring.record(CATALOG, position, record, None)
        if not entry.importing:
            anew.append(stream_id)
    yield from _flush(journal)
    restoring.finish_restore()
    for stream_id in anew:
        restoring.replicas[stream_id].stream.notice = EMPTIED


def _make_spare(journal: Journal) -> Generator[DiskOp, OpResult, None]:
    """Make one spare segment, if one is wanted and the disk has space for it."""
    job = journal.spare_job()
    if job is None:
        return
    try:
        for op in job.ops:
            yield op
    except DiskFailure:
        for op in journal.spare_failed(job):
            yield op
        return
    journal.spare_done(job)


def _orphans(state: NodeState, recovered: Recovered) -> list[str]:
    """Return the unnamed files to delete. Those of a damaged stream are evidence, and stay until it is deleted."""
    damaged = [replica.id for replica in state.replicas.values() if replica.damage is not None]
    orphans: list[str] = []
    for path in recovered.orphans:
        if damaged and (path.startswith(SHARED_BLOCKS) or (path.startswith(BLOCKS) and block_owner(path) in damaged)):
            continue
        orphans.append(path)
    return orphans


def _report(state: NodeState, recovered: Recovered) -> None:
    """Count and log the findings of recovery for the operator."""
    stats = state.stats
    stats.recovered_records = recovered.replayed
    stats.recovered_bytes_cut = recovered.cut_bytes
    stats.recovered_orphans = len(recovered.orphans)
    stats.streams = len(state.replicas)
    stats.consumers = sum(len(replica.consumers) for replica in state.replicas.values())
    state.log(
        "info", "opened", streams=len(state.replicas), records=recovered.replayed, clean=recovered.clean,
        new=recovered.is_new,
    )  # fmt: skip
    if recovered.found_version != FORMAT_VERSION:
        state.log("info", "migrated", from_format=recovered.found_version, to_format=FORMAT_VERSION)
    if recovered.cut_bytes and recovered.cut_at is not None:
        path, offset = recovered.cut_at
        state.log("warning", "torn_tail_cut", path=path, offset=offset, bytes=recovered.cut_bytes)
    for warning in recovered.warnings:
        state.log("warning", "recovery", detail=warning)
    for replica in state.replicas.values():
        if replica.damage is not None:
            stats.quarantined_streams += 1
            damage = replica.damage
            state.log(
                "error", "quarantined", stream=replica.name, stream_id=replica.id, path=damage.path, offset=damage.offset,
                detail=damage.detail,
            )  # fmt: skip
        elif replica.stream.notice:
            state.log("warning", "stream_emptied", stream=replica.name, stream_id=replica.id)
