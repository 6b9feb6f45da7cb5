"""Publish records that were decided one after the other, as one record.

Appending two batches and then dropping what either pushed out is the same as doing it batch by batch, so publishes of one
stream that arrive together can share a record, a frame and a chunk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from waymaker_core.model.records import ProducerSpan, PublishRecord


def joinable(first: PublishRecord, second: PublishRecord) -> bool:
    """Return True if `second`, decided right after `first`, may share its record."""
    return (
        first.seqs is None
        and second.seqs is None
        and first.first_seq + len(first.subjects) == second.first_seq
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
    spans: list[ProducerSpan] = []
    truncate_to = reserved_to = clock_ms = 0
    for record in records:
        if record.spans:
            join_spans(spans, record.spans, len(subjects))
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
        drop_sizes=drop_sizes, reserved_to=reserved_to, clock_ms=clock_ms, spans=spans,
        corrects=any(record.corrects for record in records),
    )  # fmt: skip


def join_spans(spans: list[ProducerSpan], more: Iterable[ProducerSpan], behind: int) -> None:
    """Add the spans of a record whose messages follow `behind` others; one that continues the last of them extends it."""
    for span in more:
        moved = span._replace(start=behind + span.start)
        last = spans[-1] if spans else None
        if last is not None and _continues(last, moved):
            spans[-1] = last._replace(length=last.length + moved.length)
        else:
            spans.append(moved)


def _continues(last: ProducerSpan, following: ProducerSpan) -> bool:
    return (
        last.producer_id == following.producer_id
        and last.epoch == following.epoch
        and last.first_number + last.length == following.first_number
        and last.start + last.length == following.start
    )
