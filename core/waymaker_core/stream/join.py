"""Publish records that were decided one after the other, as one record.

Appending two batches and then dropping what either pushed out is the same as doing it batch by batch, so publishes of one
stream that arrive together can share a record, a frame and a chunk.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from waymaker_core.model.records import PublishRecord


def joinable(first: PublishRecord, second: PublishRecord) -> bool:
    """Return True if `second`, decided right after `first`, may share its record."""
    return (
        first.seqs is None
        and second.seqs is None
        and first.first_seq + len(first.subjects) == second.first_seq
        and not first.producer_id
        and not second.producer_id
        # A correction holds for everything before its record.
        and not second.corrects
    )


def join_publishes(records: Sequence[PublishRecord]) -> PublishRecord:
    """Join several records, each `joinable` to the one before, into one; they are not used any more afterwards."""
    if len(records) == 1:
        return records[0]
    times_ms, sizes, lengths = array("q"), array("I"), array("I")
    drop_seqs, drop_sizes = array("Q"), array("Q")
    subjects: list[str] = []
    truncate_to = reserved_to = clock_ms = 0
    for record in records:
        times_ms += record.times_ms
        sizes += record.sizes
        lengths += record.lengths
        subjects += record.subjects
        drop_seqs += record.drop_seqs
        drop_sizes += record.drop_sizes
        truncate_to = max(truncate_to, record.truncate_to)
        reserved_to = max(reserved_to, record.reserved_to)
        clock_ms = max(clock_ms, record.clock_ms)
    return PublishRecord(
        records[0].first_seq, times_ms, sizes, lengths, subjects, truncate_to=truncate_to, drop_seqs=drop_seqs,
        drop_sizes=drop_sizes, reserved_to=reserved_to, clock_ms=clock_ms, corrects=any(record.corrects for record in records),
    )  # fmt: skip
