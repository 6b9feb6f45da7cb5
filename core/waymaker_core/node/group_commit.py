"""Group commit: pending records of all streams are written and synced as one job, and are durable when it is done.

While a job runs, the next records become pending. Consecutive pending publishes of one stream become one record. What is
durable is told to its log (`stream_log`), which says what may be applied.

A sync that fails halts the node, for a second one that succeeds would prove nothing. A write that found no free space is
written again, the very same bytes, until there is some: nothing was synced, so nothing is known to be lost. See
docs/decisions/0005-failed-sync-full-disk.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from waymaker_core.api.effects import Kept, Lane, Placed
from waymaker_core.api.inputs import SentRecord
from waymaker_core.model.config import SourceConfig
from waymaker_core.model.disk_ops import Chunk, DiskFailure, DiskOp, FailureKind, OpResult, Write
from waymaker_core.model.records import (
    AckRecord,
    AuthorityOpened,
    ConsumerCreated,
    ConsumerDeleted,
    DeliveredRecord,
    DropRecord,
    ImportEnded,
    LayerRecord,
    MembersRecord,
    PruneRecord,
    PublishRecord,
    Record,
    SettingsRecord,
    StreamCreated,
    StreamsClaimed,
    StreamUpdated,
    appended,
)
from waymaker_core.model.types import CATALOG
from waymaker_core.node.context import NodeState
from waymaker_core.node.facts import Facts
from waymaker_core.node.memory_files import MemoryFiles
from waymaker_core.node.stream_log import PendingRecord, Rest, StreamLog
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.node.timers import Timer
from waymaker_core.storage import record_codec
from waymaker_core.storage.errors import JournalFull
from waymaker_core.storage.frame import CUT, REPLICATED, frame_bytes
from waymaker_core.storage.journal.writer import Encoded, Flush, Journal, frame_bytes_max
from waymaker_core.stream.join import join_publishes, joinable

FACT_FRAME_BYTES = 8
"""Bytes that a fact takes in a record besides itself, at most."""
WATERMARK_DELAY_NS = 1_000_000_000
"""The time after the last commit at which an idle node writes a watermark."""


class GroupCommit:
    """The pending records of a node, and those in flight."""

    def __init__(self, state: NodeState, journal: Journal, facts: Facts) -> None:
        self._state = state
        self.journal = journal
        self._facts = facts
        self._flags = REPLICATED if state.config.replicated else 0
        self._interval_ns = state.config.sync_interval_ms * 1_000_000
        self._pending: deque[PendingRecord] = deque()
        self._pending_bytes_max = 0
        self._pending_largest = 0
        """The greatest bound of a record since none was pending."""
        self._joining: dict[int, PendingRecord] = {}
        """The last pending record of a stream, where it is a publish that the next one may join."""
        self._logging: dict[int, StreamReplica] = {}
        """Streams with pending acks, drops or deletions: their deliveries are logged behind them."""
        self._in_flight: list[PendingRecord] = []
        self._written_records: list[PendingRecord] = []
        """Records written by the last job, whose logs have not been told."""
        self._carrying: list[StreamLog] = []
        """Logs whose uncommitted records were given a second place, which the next job writes."""
        self._carry_in_flight: list[StreamLog] = []
        self._carried: list[StreamLog] = []
        self._when_durable: list[Callable[[], None]] = []
        """Calls that follow when the frames are durable that the next job writes."""
        self._when_durable_in_flight: list[Callable[[], None]] = []
        self._flush: Flush | None = None
        self._ops: list[DiskOp] = []
        self._started_ns = 0
        self._sync_due = False
        self._no_room = False
        """True if the first pending record did not fit the journal, and nothing has changed since."""
        self.stalled = False
        """True while the group commit in flight waits for free space on the disk."""
        self.failed: DiskFailure | None = None
        """The failure after which durability can no longer be promised."""
        state.written_lsn = journal.end_lsn
        self.capacity_changes = 0
        """The number of times there may be more free space: pending records were written, or a spare segment was made."""

    # ------------------------------------------------------------------ pending records

    def has_room_for(self, log: StreamLog, bound: int, *, ordinary: bool) -> bool:
        """Return True if a record of at most `bound` bytes may be decided: whatever adds one to a log asks this first.

        The log is not crowded, and the record fits allocated segments behind the pending ones. Those of an ephemeral
        stream are not written there. `ordinary`: the reserve of a full disk is not for it.
        """
        if log.is_crowded(self._state.limits):
            return False
        fits = self.journal.fits
        return log.memory is not None or fits(bound, ordinary, self._pending_bytes_max, self._pending_largest)

    def add_record(
        self, replica: StreamReplica, record: Record, parts: list[bytes], bound: int, body_bytes: int
    ) -> Rest:
        """Add a stream's record; return its position. `bound` is what its frame takes at most; `parts` are its bodies."""
        if type(record) is PublishRecord:
            joined = self._join(replica, record, parts, bound, body_bytes)
            if joined is not None:
                return joined.log, joined.position
        item = replica.log.decide("", record, parts, bound, body_bytes)
        self._enqueue(item)
        if type(record) is PublishRecord:
            item.messages = len(record.subjects)
            self._joining[replica.id] = item
        else:
            # A later publish was decided behind this record, and must stand behind it in the log.
            self._joining.pop(replica.id, None)
            if isinstance(record, AckRecord | DropRecord | ConsumerDeleted):
                self._logging[replica.id] = replica
        return item.log, item.position

    def add_to_catalog(self, account: str, record: Record) -> Rest:
        """Add a record of the catalog's log; return its position."""
        item = self._state.catalog_log.decide(account, record, [], record_frame_bytes_max(record), 0)
        self._enqueue(item)
        return item.log, item.position

    def add_sent(self, log: StreamLog, encoded: Encoded, record: Record, body: bytes) -> PendingRecord:
        """Add a record that another node sent; it is stored as it was encoded."""
        parts = [body] if body else []
        item = log.decide("", record, parts, frame_bytes(len(encoded.meta), len(body)), len(body))
        item.encoded, item.sent = encoded, True
        self._enqueue(item)
        return item

    def _enqueue(self, item: PendingRecord) -> None:
        self._pending.append(item)
        self._pending_bytes_max += item.bound
        self._pending_largest = max(self._pending_largest, item.bound)
        self._state.stats.inflight_bytes += item.body_bytes
        self._state.stats.pending_records += 1

    def _join(
        self, replica: StreamReplica, record: PublishRecord, parts: list[bytes], bound: int, body_bytes: int
    ) -> PendingRecord | None:
        item = self._joining.get(replica.id)
        if item is None:
            return None
        limits = self._state.limits
        last = item.joined[-1] if item.joined else item.record
        if (
            item.messages + len(record.subjects) > limits.record_messages_max
            or item.body_bytes + body_bytes > limits.record_bytes_max
            or not isinstance(last, PublishRecord)
            or not joinable(last, record)
        ):
            return None
        item.joined.append(record)
        item.parts += parts
        item.messages += len(record.subjects)
        item.body_bytes += body_bytes
        item.bound += bound
        self._pending_bytes_max += bound
        self._pending_largest = max(self._pending_largest, item.bound)
        self._state.stats.inflight_bytes += body_bytes
        return item

    def has_undurable(self) -> bool:
        """Return True if a record is decided and not durable."""
        return bool(self._pending or self._in_flight)

    def writing_since(self) -> int | None:
        """Return when the write under way began; None where there is none."""
        return self._started_ns if self._ops else None

    def idle(self) -> bool:
        """Return True if no record is pending and none is in flight."""
        return not self._ops and not self._pending and not self._sync_due

    @property
    def wants_flush(self) -> bool:
        """Return True if a flush would write or sync something at once.

        Records that were decided after the flush of their step wait for the next step; maybe nothing else leads to one.
        """
        if self._ops or self.failed is not None:
            return False
        return self._sync_due or (bool(self._pending) and not self._no_room)

    # ------------------------------------------------------------------ writing

    def flush(self) -> None:
        """Write the pending records, unless a group commit is in flight."""
        if self._ops or self.failed is not None or not (self._pending or self._sync_due):
            return
        # Last of all decisions, so that no delivery is listed that a pending ack has settled.
        self._log_deliveries()
        limits, ops, taken = self._state.limits, self._ops, 0
        while self._pending:
            item = self._pending[0]
            # The first one is placed whatever its size, or it would wait for ever.
            if self._in_flight and taken + item.bound > limits.flush_bytes_max:
                break
            self._no_room = not self._place(item, ops)
            if self._no_room:
                break
            taken += item.bound
            self._pending.popleft()
            self._pending_bytes_max -= item.bound
            self._in_flight.append(item)
        if not self._pending:
            self._pending_largest = 0
        # A record that has its place in the journal cannot grow any more.
        self._joining.clear()
        if self._in_flight:
            self.note_capacity()
            if self._state.config.member:
                self._send_early()
        if self._in_flight or self._sync_due:
            self._write()

    def _send_early(self) -> None:
        """Let the other replicas have what was decided here, beside the sync. A write that fails for good ends the node."""
        placed: dict[int, StreamLog] = {}
        for item in self._in_flight:
            log = item.log
            if not item.sent and not log.abandoned and log.stream_id != CATALOG:
                log.sendable = item.position
                placed[log.stream_id] = log
        self._state.effects += [Placed(log.stream_id, log.sendable) for log in placed.values()]

    def _log_deliveries(self) -> None:
        for replica in list(self._logging.values()):
            if not replica.log.is_crowded(self._state.limits):
                self.log_deliveries(replica)
        self._logging.clear()

    def forget_joining(self, replica: StreamReplica) -> None:
        """Let no later publish join a record of a stream that is led no longer; log none of its deliveries."""
        self._joining.pop(replica.id, None)
        self._logging.pop(replica.id, None)

    def log_deliveries(self, replica: StreamReplica) -> bool:
        """Add records of what a stream's consumers delivered since they were last logged; False if it is not led here."""
        if self._state.replicas.get(replica.id) is not replica or not replica.leads:
            return False
        for record in replica.consumers.delivered_records(self._state.now):
            self.add_record(replica, record, [], record_frame_bytes_max(record), 0)
        return True

    def _place(self, item: PendingRecord, ops: list[DiskOp]) -> bool:
        """Give a record its place; return False if the journal has no free space for it yet."""
        record = item.record
        if item.joined:
            assert isinstance(record, PublishRecord)
            item.record = record = join_publishes([record, *item.joined])
            item.joined.clear()
        if self._state.recent is not None:
            _encode(item)
        if item.log.memory is not None:
            self._place_in_memory(item.log.memory, item, ops)
            self._keep_recent(item)
            return True
        try:
            # Admission checked for free space. A publish may use the reserve by now, so that it never delays acks.
            item.chunk = self._append(item)
        except JournalFull:
            return False
        item.segment = self.journal.newest_segment()
        self._keep_recent(item)
        return True

    def _keep_recent(self, item: PendingRecord) -> None:
        """Keep a record that has its place for the other replicas of its log."""
        if self._state.recent is not None and not item.log.abandoned:
            self._state.recent.keep(item.log.stream_id, item.position, sent_record(item))

    def forget_records(self, stream_id: int) -> None:
        """Keep no records of a log for other replicas any more: its stream was deleted, or has another log by now."""
        if self._state.recent is not None:
            self._state.recent.forget_log(stream_id)
        if self.journal.places is not None:
            self.journal.places.forget_log(stream_id)

    def _append(self, item: PendingRecord) -> Chunk | None:
        if item.encoded is None:
            return self.journal.append(item.log.stream_id, item.position, item.record, item.parts, flags=self._flags)
        body = b"".join(item.parts)
        return self.journal.append_encoded(item.log.stream_id, item.position, item.encoded, body, flags=self._flags)

    def _place_in_memory(self, memory: MemoryFiles, item: PendingRecord, ops: list[DiskOp]) -> None:
        """Write an ephemeral stream's bodies to memory. Its records are written nowhere."""
        messages = appended(item.record)
        if messages is None or not item.parts:
            return
        body = b"".join(item.parts)
        self._state.stats.ephemeral_bytes += len(body)
        item.chunk, write = memory.append(messages.first_seq if messages.seqs is None else messages.seqs[0], body)
        ops.append(write)

    def _write(self) -> None:
        self._carry_in_flight, self._carrying = self._carrying, []
        if self._facts.may_ride:
            self._facts.place_commits()
        self._when_durable_in_flight, self._when_durable = self._when_durable, []
        sync = not self._interval_ns or self._sync_due or any(map(_must_sync, self._in_flight))
        self._flush = self.journal.flush(sync)
        self._sync_due = False
        if self._flush is not None:
            self._ops += self._flush.ops
        if not self._ops:
            self._written([])
            return
        self._started_ns = self._state.now.mono_ns
        self._start()

    def _start(self) -> None:
        self._state.start(Lane.JOURNAL, self._ops, self._written, self._not_written)

    # ------------------------------------------------------------------ written

    def _written(self, _results: list[OpResult]) -> None:
        state, stats, flush, in_flight = self._state, self._state.stats, self._flush, self._in_flight
        self.stalled = False
        self._ops, self._flush, self._in_flight = [], None, []
        if flush is not None:
            self.journal.done(flush)
            state.written_lsn = flush.end_lsn
            stats.journal_bytes_written += flush.byte_count
            if flush.synced:
                stats.count_sync(state.now.mono_ns - self._started_ns)
            self._arm_sync(flush.synced)
        if in_flight:
            stats.commits += 1
            stats.records_committed += len(in_flight)
        synced = flush is not None and flush.synced
        self._end_carrying()
        for item in in_flight:
            if item.void:
                _forget_place(item)
                continue
            item.log.made_durable(item)
            self._written_records.append(item)
            messages = appended(item.record) if synced else None
            if messages is not None:
                item.log.reserved_synced = max(item.log.reserved_synced, messages.reserved_to)
        calls, self._when_durable_in_flight = self._when_durable_in_flight, []
        for call in calls:
            call()

    def call_when_durable(self, call: Callable[[], None]) -> None:
        """Call this when all frames that have their place by now are durable."""
        self._when_durable.append(call)
        self._sync_due = True

    def take_written(self) -> list[PendingRecord]:
        """Take out the records that became durable since the last call, in order."""
        written, self._written_records = self._written_records, []
        return written

    # ------------------------------------------------------------------ carrying forward

    def carry(self, cut: int) -> tuple[int, int]:
        """Write what is durable and not applied in segments below `cut` a second time, so that they can be released.

        Return the cut, lower where that is not possible now, and the LSN that must be durable before it is made.
        """
        state = self._state
        logs = [state.catalog_log, *(replica.log for replica in state.replicas.values()), *state.unknown.values()]
        for log in logs:
            held = log.placed() if log.memory is None and log.entries else []
            if not held or held[0].segment >= cut:
                continue
            # All of them follow, in order: none may stand before an older one of its log, those in flight included.
            if log.carrying or not self._fits_again(held):
                cut = min([cut, *(item.segment for item in held)])
                continue
            for item in held:
                chunk = self._append(item)
                item.carried = self.journal.newest_segment(), chunk
            log.carrying = True
            self._carrying.append(log)
            self._sync_due = True
        cut, written = self._facts.carry(cut, logs)
        self._sync_due = self._sync_due or written
        return cut, self.journal.end_lsn if self._carrying or written else 0

    def _fits_again(self, held: list[PendingRecord]) -> bool:
        """Return True if these records and the pending ones fit allocated segments."""
        bounds = [item.bound for item in held]
        ahead = self._pending_bytes_max + sum(bounds) - bounds[-1]
        return self.journal.fits(bounds[-1], False, ahead, max(*bounds, self._pending_largest))

    def _end_carrying(self) -> None:
        """Read from the second place, now that it is durable."""
        for log in self._carry_in_flight:
            log.carrying = False
            for item in log.entries:
                if item.carried is not None:
                    (item.segment, item.chunk), item.carried = item.carried, None
        self._carried += self._carry_in_flight
        self._carry_in_flight = []

    def take_carried(self) -> list[StreamLog]:
        """Take out the logs whose records were carried forward since the last call: they may be applied again."""
        carried, self._carried = self._carried, []
        return carried

    # ------------------------------------------------------------------ facts

    def answer_when_durable(self, ask: int) -> None:
        """Answer a question when the facts that have their place by now are durable."""
        self.call_when_durable(lambda: self._state.effects.append(Kept(ask)))

    def cut(self, log: StreamLog, position: int) -> bool:
        """Make the records of a log void that stand above a position; return False if there is no free space to say so."""
        if log.memory is None:
            try:
                self.journal.append_fact(CUT, b"", log.stream_id, position)
            except JournalFull:
                return False
        self.void_above(log, position)
        return True

    def void_above(self, log: StreamLog, position: int) -> None:
        """Take the records of a log back that stand above a position, after a frame that makes them void."""
        stats = self._state.stats
        if self._state.recent is not None:
            self._state.recent.void_above(log.stream_id, position)
        durable = log.durable
        for item in reversed(log.cut(position)):
            if item.ask is not None and item.position > durable:
                self.answer_when_durable(item.ask)  # it was kept, until the frame behind it
            stats.inflight_bytes -= item.body_bytes
            stats.pending_records -= 1
            if item not in self._in_flight:
                _forget_place(item)
        self._pending_bytes_max -= sum(item.bound for item in self._pending if item.void)
        self._pending = deque(item for item in self._pending if not item.void)

    def _arm_sync(self, synced: bool) -> None:
        timers, now_ns = self._state.timers, self._state.now.mono_ns
        if not synced:
            if timers.deadline(Timer.SYNC, 0) is None:
                timers.arm(Timer.SYNC, 0, now_ns + self._interval_ns)
        else:
            timers.arm(Timer.SYNC, 0, None)
            if self.journal.watermark_wanted():
                timers.arm(Timer.WATERMARK, 0, now_ns + WATERMARK_DELAY_NS)

    def _not_written(self, failure: DiskFailure) -> None:
        failed_op = self._ops[failure.op_index] if failure.op_index < len(self._ops) else None
        if failure.kind is FailureKind.NO_SPACE and isinstance(failed_op, Write):
            self.stalled = True
            self._state.stats.commit_retries += 1
            self._state.retry_disk_by(Timer.COMMIT_RETRY)
            return
        self.failed = failure

    def note_capacity(self) -> None:
        """Note that there may be more free space, so that what was parked is tried again."""
        self.capacity_changes += 1
        self._no_room = False

    # ------------------------------------------------------------------ timers

    def retry_write(self) -> None:
        """Write the group commit again that found no free space."""
        assert self.stalled, "no other job of it is under way"
        self._start()

    def write_commits(self) -> None:
        """Write down what is committed, with the next flush: the node has been idle for a while."""
        self._sync_due = self._sync_due or self._facts.has_unwritten

    def sync_due(self) -> None:
        """Sync with the next flush: the interval between two syncs is over."""
        self._sync_due = True

    def watermark_due(self) -> None:
        """Write a watermark, unless a frame advertises the durable LSN already."""
        if self.idle() and self.journal.watermark_wanted():
            self.journal.watermark()
            self._sync_due = True

    def place_commits(self) -> bool:
        """Let the frames that follow stand behind all that is committed by now; False: there is no free space for it."""
        return not self._facts.has_unwritten or self._facts.place_commits()

    def watermark_clean(self, complete: bool) -> None:
        """Write the watermark of an orderly stop: nothing confirmed lies behind it, nor (`complete`) any delivery."""
        self.place_commits()
        self.journal.watermark(clean=True, complete=complete)
        self._sync_due = True


def _encode(item: PendingRecord) -> None:
    """Encode a record as its frame will hold it, so that it can be sent and written a second time as it is."""
    if item.encoded is None:
        record = item.record
        item.encoded = Encoded(record.KIND, record_codec.version_of(record), record_codec.encode(record))
        item.parts = [b"".join(item.parts)] if item.parts else []


def sent_record(item: PendingRecord) -> SentRecord:
    """Return a record that is encoded as it is sent to another replica."""
    assert item.encoded is not None
    return SentRecord(*item.encoded, item.parts[0] if len(item.parts) == 1 else b"".join(item.parts))


def _forget_place(item: PendingRecord) -> None:
    """Note that a void record is in flight to no file in memory any more."""
    if item.log.memory is not None and item.chunk is not None:
        item.log.memory.written(item.chunk.path)


def _must_sync(item: PendingRecord) -> bool:
    """Return True if a record must not wait for the sync interval.

    It may be a catalog change, new settings, a complete restore, a new consumer, or have unreserved sequences.
    Otherwise a loss of power in between could let an id or a sequence be assigned twice.
    """
    record, log = item.record, item.log
    if log.memory is not None:
        return False
    if log.stream_id == CATALOG or isinstance(record, ConsumerCreated | SettingsRecord | ImportEnded):
        return True
    messages = appended(record)
    if messages is None:
        return False
    last = messages.seqs[-1] if messages.seqs is not None else messages.first_seq + len(messages.subjects) - 1
    return last > log.reserved_synced


def record_frame_bytes_max(record: Record) -> int:
    """Return what the frame of a record without bodies takes at most: columns of sequences, and the text of settings."""
    columns = drops = text = 0
    match record:
        case AckRecord() | DropRecord():
            columns, drops = len(record.seqs), len(record.drop_seqs)
        case DeliveredRecord():
            columns = len(record.listed) + sum(len(each.seqs) for each in record.listed)
        case PruneRecord():
            drops = len(record.drop_seqs)
        case LayerRecord():
            drops, text = len(record.drop_seqs), sum(FACT_FRAME_BYTES + len(fact) for _, fact in record.facts)
        case StreamCreated() | StreamUpdated() | SettingsRecord():
            config = record.config
            text = 256 + 4 * len(config.name) + sum(8 + 4 * len(one) for one in config.subjects_filter)
            text += sum(map(_source_bytes_max, config.sources))
        case StreamsClaimed():
            columns = len(record.stream_ids) + sum(map(len, dict.fromkeys(map(tuple, record.replicas))))
        case AuthorityOpened():
            columns = len(record.stream_ids)
        case MembersRecord():
            text = len(record.data)
        case ConsumerCreated():
            asked = record.config
            words = (asked.name, asked.filter_subject, asked.deliver_group, asked.dead_letter_subject)
            text = 256 + sum(8 + 4 * len(one) for one in words)
        case _:
            pass
    return frame_bytes_max(columns, text, 0, drops)


def _source_bytes_max(source: SourceConfig) -> int:
    words = (source.source_stream, source.filter_subject, source.dlq_stream, *(source.subject_transform or ()))
    return 64 + sum(8 + 4 * len(word) for word in words)
