"""Following: what a replica keeps for a log that it does not lead: records of its leader, cuts, promises, memberships.

Everything is answered when it is durable (`Kept`), or declined with a reason. Records are stored as they were sent, byte for
byte, and applied when they are committed. Nothing is decided here. A record of a stream whose creation this node has not
applied yet is kept: the catalog is a log of its own, and may come later. See docs/logs.md, "Following".
"""

from __future__ import annotations

from collections.abc import Sequence

from waymaker_core.api.effects import Declined, Kept
from waymaker_core.api.inputs import Append, Cut, Enrol, KeepDoubts, KeepVote, Promise, SentRecord
from waymaker_core.model.records import CatalogRecord, ClusterRecord, EpochRecord, MembersRecord, Record
from waymaker_core.model.types import CATALOG, StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.facts import Facts
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.raft.entries import HardState
from waymaker_core.storage import record_codec
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.frame import frame_bytes
from waymaker_core.storage.journal.facts import Membership, may_follow
from waymaker_core.storage.journal.writer import Encoded

NO_ROOM = "the journal has no free space for it"
UNKNOWN_STREAMS_MAX = 1_024
"""Streams that the catalog does not know yet and whose records are kept, at most."""


class Following:
    """Keeps what the leader of a log, or a candidate, asks this replica to keep."""

    def __init__(self, state: NodeState, group_commit: GroupCommit, facts: Facts) -> None:
        self._state = state
        self._group_commit = group_commit
        self._facts = facts

    @property
    def _inflight_bytes_max(self) -> int:
        """Return the bound of what waits for commits here, for records of other leaders.

        Each member may have as much decided as it admits itself. Would one with that much of its own take nothing of others,
        then none could commit anything, once all had.
        """
        return self._state.limits.inflight_bytes_max * max(1, len(self._state.config.members))

    # ------------------------------------------------------------------ facts

    def promise(self, event: Promise) -> None:
        """Promise to obey no older epoch."""
        alive = [stream_id for stream_id in event.stream_ids if not self._is_deleted(stream_id)]
        self._keep(event.ask, self._facts.promise(alive, event.epoch))

    def keep_vote(self, event: KeepVote) -> None:
        """Note a term of the catalog's group, and the vote in it."""
        hard, before = HardState(event.term, event.vote), self._facts.found.raft_hard
        if may_follow(before, hard):
            self._keep(event.ask, self._facts.keep_vote(hard))
        else:
            self._decline(event.ask, f"the vote in term {before.term} is for node {before.vote}")

    def keep_doubts(self, event: KeepDoubts) -> None:
        """Note up to which claims this replica of some streams may have forgotten something."""
        alive = [row for row in event.doubts if row[0] == CATALOG or not self._is_deleted(row[0])]
        self._keep(event.ask, not alive or self._facts.note_doubts(alive))

    def enrol(self, event: Enrol) -> None:
        """Note since when this replica of a stream counts."""
        if self._is_deleted(event.stream_id):
            self._decline(event.ask, "no such stream")
            return
        self._keep(event.ask, self._facts.enrol(event.stream_id, Membership(event.since, event.log_epoch)))

    def _keep(self, ask: int, placed: bool) -> None:
        if placed:
            self._group_commit.answer_when_durable(ask)
        else:
            self._decline(ask, NO_ROOM)

    def _decline(self, ask: int, reason: str, log: StreamLog | None = None) -> None:
        self._state.effects.append(Declined(ask, reason, 0 if log is None else log.end))

    # ------------------------------------------------------------------ the log

    def cut(self, event: Cut) -> None:
        """Let the log end at a position: what is above it is void, and the next record gets the position behind it."""
        log = self._state.find_log(event.stream_id)
        if log is None:
            self._decline(event.ask, "no such stream")
        elif self._leads(event.stream_id):
            self._decline(event.ask, "this node leads the stream", log)
        elif event.position < max(log.committed, log.majority):
            self._decline(event.ask, f"it is committed up to {max(log.committed, log.majority)}", log)
        else:
            self._keep(event.ask, self._group_commit.cut(log, event.position))

    def append_sent(self, event: Append) -> None:
        """Keep records behind the last one of the log, all of them or none."""
        state = self._state
        log = state.find_log(event.stream_id) or self._begin_unknown(event.stream_id)
        if log is None:
            self._decline(event.ask, "the stream was deleted, or too many are unknown here")
            return
        problem = self._problem(log, event)
        records: list[Record] = []
        if not problem:
            try:
                records = self._decode(log, event.records)
            except (CorruptRecord, UnknownVersion) as error:
                problem = str(error)
        if problem:
            self._decline(event.ask, problem, log)
            return
        last = None
        for sent, record in zip(event.records, records, strict=True):
            last = self._group_commit.add_sent(log, Encoded(sent.kind, sent.version, sent.meta), record, sent.body)
        if last is None:
            state.effects.append(Kept(event.ask))
        else:
            last.ask = event.ask

    def _problem(self, log: StreamLog, event: Append) -> str:
        """Return the reason why these records are not kept, or an empty text."""
        limits = self._state.limits
        bounds = [frame_bytes(len(sent.meta), len(sent.body)) for sent in event.records]
        bodies = sum(len(sent.body) for sent in event.records)
        if not self._state.config.replicated or (self._leads(event.stream_id) and not self._is_of_group(event)):
            return "this node leads the stream"
        if log.abandoned:
            return "a snapshot is being adopted in its place"
        if event.first != log.end + 1:
            return f"the log ends at {log.end}, and record {event.first} was sent"
        if log.is_crowded(limits) or self._state.stats.inflight_bytes + bodies > self._inflight_bytes_max:
            return "too much waits to be committed here"
        if bounds and not all(self._group_commit.has_room_for(log, bound, ordinary=True) for bound in bounds):
            return NO_ROOM
        return ""

    def _decode(self, log: StreamLog, sent: Sequence[SentRecord]) -> list[Record]:
        """Decode records; `CorruptRecord` where one is none of this log."""
        records: list[Record] = []
        epoch = self._last_epoch(log)
        for each in sent:
            record = record_codec.decode(each.kind, each.version, each.meta)
            if record_codec.body_bytes(record) != len(each.body):
                raise CorruptRecord("the record does not fit its messages")
            of_catalog = log.stream_id == CATALOG
            if isinstance(record, CatalogRecord | ClusterRecord) != of_catalog and not (
                of_catalog and isinstance(record, EpochRecord)
            ):
                raise CorruptRecord("a record of the catalog in a stream's log, or of a stream in the catalog's")
            if isinstance(record, EpochRecord):
                if record.epoch <= epoch:
                    raise CorruptRecord(f"epoch {record.epoch} follows epoch {epoch}")
                epoch = record.epoch
            records.append(record)
        return records

    def _last_epoch(self, log: StreamLog) -> int:
        if log.epochs:
            return log.epochs[-1][0]
        if log.stream_id == CATALOG:
            return self._state.catalog.group.last_term
        replica = self._state.replicas.get(StreamId(log.stream_id))
        return 0 if replica is None else replica.stream.epochs.last

    # ------------------------------------------------------------------ which log

    def _is_deleted(self, stream_id: int) -> bool:
        """Return True if a stream was deleted: no fact about it is kept."""
        catalog = self._state.catalog
        return stream_id != CATALOG and stream_id < catalog.next_id and stream_id not in catalog.entries

    def _leads(self, stream_id: int) -> bool:
        if stream_id == CATALOG:
            return self._state.catalog_leads or self._state.catalog_opening
        replica = self._state.replicas.get(StreamId(stream_id))
        return replica is not None and replica.leads

    def _is_of_group(self, event: Append) -> bool:
        """Return True for records of the catalog's group that its leader adds to its own log."""
        return (
            self._state.config.member
            and event.stream_id == CATALOG
            and all(each.kind == MembersRecord.KIND for each in event.records)
        )

    def _begin_unknown(self, stream_id: int) -> StreamLog | None:
        """Begin the log of a stream that the catalog does not know yet; None where it was deleted, or too many are unknown."""
        state = self._state
        if self._is_deleted(stream_id) or len(state.unknown) >= UNKNOWN_STREAMS_MAX:
            return None
        log = state.unknown[StreamId(stream_id)] = StreamLog(stream_id, 0)
        state.log("warning", "unknown_stream", stream_id=stream_id, records=0)
        return log
