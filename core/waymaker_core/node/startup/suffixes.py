"""Suffixes: the durable end of a log that is not known to be committed, from what recovery read to a log's entries."""

from __future__ import annotations

from waymaker_core.api.inputs import SentRecord
from waymaker_core.node.context import NodeState
from waymaker_core.node.stream_log import PendingRecord, StreamLog
from waymaker_core.storage.frame import frame_bytes
from waymaker_core.storage.journal.writer import Encoded
from waymaker_core.storage.paths import segment_number
from waymaker_core.storage.recovery.recovery import Recovered
from waymaker_core.storage.recovery.replay import ReadRecord


def restore_suffix(log: StreamLog, suffix: list[ReadRecord], recovered: Recovered, state: NodeState) -> None:
    """Give a log the records behind what its state holds: durable, decoded, and as they were encoded."""
    entries: list[PendingRecord] = []
    for read in suffix:
        body = recovered.bodies.pop((log.stream_id, read.position), b"")
        parts = [body] if body else []
        bound = frame_bytes(len(read.meta), len(body))
        entry = PendingRecord(log, read.position, "", read.record, parts, bound, len(body))
        entry.encoded = Encoded(read.kind, read.version, read.meta)
        entry.chunk = read.chunk
        entry.segment = segment_number(read.path.rpartition("/")[2]) or 0
        entries.append(entry)
        if state.recent is not None:
            state.recent.keep(log.stream_id, read.position, SentRecord(read.kind, read.version, read.meta, body))
        state.stats.inflight_bytes += entry.body_bytes
        state.stats.pending_records += 1
    log.restore(entries)
