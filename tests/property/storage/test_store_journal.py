"""The journal's writer: where records go, what a flush asks for, and how segments come and go."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.store_strategies import publish_records
from tests.kit.store_toy import LIMITS
from waymaker_core.model.disk_ops import CreateFile, Delete, Rename, SyncDir, SyncFile, Write
from waymaker_core.model.records import AckRecord, PublishRecord
from waymaker_core.storage.errors import JournalFull
from waymaker_core.storage.frame import HEADER_BYTES, decode_header, frame_bytes
from waymaker_core.storage.journal.segment import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
)
from waymaker_core.storage.journal.writer import Flush, Journal, JournalState, Segment, frame_bytes_max
from waymaker_core.storage.paths import segment_path
from waymaker_core.storage.record_codec import encode

SIZE = LIMITS.segment_bytes
ACK = AckRecord(1, False, array("Q", [1]))


def journal(spares: int = 2, free: list[int] | None = None) -> Journal:
    segment = Segment(5, 1000, SEGMENT_HEADER_BYTES, SIZE)
    ready = [(6 + n, SIZE) for n in range(spares)]
    end = 1000 + SEGMENT_HEADER_BYTES
    return Journal(JournalState(9, 3, [segment], ready, free or [], end, end), LIMITS)


def publish(body: bytes) -> PublishRecord:
    return PublishRecord(1, array("q", [1]), array("I", [len(body)]), array("I", [len(body)]), ["a"])


def append(writer: Journal, position: int, size: int, ordinary: bool = False) -> None:
    body = bytes([position % 256]) * size
    writer.append(1, position, publish(body), [body], ordinary)


def positions(flush: Flush) -> list[int]:
    """Positions of the records that a flush writes, in order."""
    found = [decode_header(9, part) for op in flush.ops if isinstance(op, Write) for part in op.parts]
    return [header.position for header in found if header is not None]


def written(ops: list[object]) -> list[tuple[str, int, int]]:
    return [(op.path, op.offset, sum(map(len, op.parts))) for op in ops if isinstance(op, Write)]


def test_a_flush_writes_all_that_gathered_in_one_piece_and_syncs_once() -> None:
    writer = journal()
    for position in range(1, 4):
        append(writer, position, 100)
    flush = writer.flush()
    assert flush is not None
    assert [type(op) for op in flush.ops] == [Write, SyncFile]
    assert written(list(flush.ops)) == [(segment_path(5), SEGMENT_HEADER_BYTES, flush.byte_count)]
    assert positions(flush) == [1, 2, 3]
    assert flush.end_lsn == 1000 + SEGMENT_HEADER_BYTES + flush.byte_count == writer.end_lsn


def test_an_append_returns_where_its_bodies_lie_and_the_write_offers_them_to_a_cache() -> None:
    writer = journal()
    chunk = writer.append(1, 1, publish(b"abcdef"), [b"abc", b"def"])
    flush = writer.flush()
    assert flush is not None
    write = flush.ops[0]
    assert isinstance(write, Write)
    assert chunk is not None
    at = chunk.offset - write.offset
    assert b"".join(write.parts)[at : at + chunk.length] == b"abcdef"
    assert write.bodies == [(chunk.offset, b"abcdef")]
    assert writer.append(1, 2, ACK) is None


def test_what_gathers_during_a_sync_waits_for_the_next_flush() -> None:
    writer = journal()
    append(writer, 1, 10)
    first = writer.flush()
    assert first is not None
    append(writer, 2, 10)
    writer.done(first)
    assert writer.durable_lsn == first.end_lsn
    second = writer.flush()
    assert second is not None
    assert positions(second) == [2]
    assert second.advertises_lsn == first.end_lsn
    writer.done(second)
    assert writer.flush() is None


def test_a_record_that_does_not_fit_begins_the_next_segment_with_a_link_to_the_end_before() -> None:
    writer = journal()
    append(writer, 1, 2900)
    end = writer.end_lsn
    append(writer, 2, 2900)
    flush = writer.flush()
    assert flush is not None
    assert [type(op) for op in flush.ops] == [Write, Write, SyncFile, SyncFile]
    second = flush.ops[1]
    assert isinstance(second, Write)
    header = decode_segment_header(9, next(iter(second.parts)))
    assert header == SegmentHeader(
        open_epoch=3, number=6, base=1000 + SIZE, previous_end=end, durable_lsn=1000 + SEGMENT_HEADER_BYTES
    )


def test_a_record_longer_than_a_segment_makes_its_segment_longer() -> None:
    writer = journal()
    append(writer, 1, 10)
    append(writer, 2, SIZE + 500)
    append(writer, 3, 10)
    flush = writer.flush()
    assert flush is not None
    assert [path for path, _, _ in written(list(flush.ops))] == [segment_path(5), segment_path(6), segment_path(7)]
    writer.done(flush)
    assert writer.current_segment() == 7
    assert Delete(segment_path(6)).path in [op.path for op in writer.release(7) if isinstance(op, Delete)]
    assert writer.free == [5]


def test_an_ordinary_record_leaves_the_reserve_alone() -> None:
    writer = journal(spares=1)
    count = 0
    while writer.fits(1100, ordinary=True):
        append(writer, count + 1, 1000, ordinary=True)
        count += 1
    assert count == 3
    with pytest.raises(JournalFull):
        append(writer, count + 1, 1000, ordinary=True)
    assert writer.pending_count == count
    for extra in range(3):
        append(writer, count + 1 + extra, 1000)
    with pytest.raises(JournalFull):
        append(writer, count + 4, 1000)
    # The reserve that was begun is still a reserve.
    assert not writer.fits(10, ordinary=True)


def test_lazy_flushes_are_synced_together_later() -> None:
    writer = journal()
    append(writer, 1, 2900)
    first = writer.flush(sync=False)
    assert first is not None
    assert [type(op) for op in first.ops] == [Write]
    writer.done(first)
    assert writer.durable_lsn == 1000 + SEGMENT_HEADER_BYTES
    append(writer, 2, 2900)
    second = writer.flush(sync=False)
    assert second is not None
    writer.done(second)
    append(writer, 3, 10)
    third = writer.flush(sync=False)
    assert third is not None
    writer.done(third)
    sync = writer.flush()
    assert sync is not None
    assert [(type(op), op.path) for op in sync.ops if isinstance(op, SyncFile)] == [
        (SyncFile, segment_path(5)),
        (SyncFile, segment_path(6)),
    ]
    assert sync.end_lsn == writer.end_lsn
    writer.done(sync)
    assert writer.durable_lsn == writer.end_lsn
    assert writer.flush() is None


@given(st.lists(st.integers(1, 1500), max_size=12), st.integers(1, 1500), st.integers(0, 3), st.booleans())
def test_a_record_that_was_found_to_fit_behind_others_does(
    sizes: list[int], size: int, spares: int, ordinary: bool
) -> None:
    """Whatever the order and sizes of what goes ahead, a yes is kept, and ordinary records leave the reserve whole."""
    writer = journal(spares)
    frames = [frame_bytes(len(encode(publish(bytes(n)))), n) for n in sizes]
    frame = frame_bytes(len(encode(publish(bytes(size)))), size)
    if not writer.fits(frame, ordinary, sum(frames), max(frames, default=0)):
        return
    for position, ahead in enumerate(sizes, 1):
        append(writer, position, ahead)
    append(writer, len(sizes) + 1, size, ordinary)


def test_without_others_ahead_the_answer_is_exact() -> None:
    writer = journal(spares=0)
    left = SIZE - SEGMENT_HEADER_BYTES
    assert writer.fits(left, ordinary=False)
    assert not writer.fits(left + 1, ordinary=False)
    assert journal(spares=1).fits(SIZE * 3, ordinary=False)
    assert not journal(spares=1).fits(SIZE * 3, ordinary=True)
    assert journal(spares=2).fits(SIZE * 3, ordinary=True)


def test_a_mark_is_wanted_once_for_what_was_made_durable() -> None:
    writer = journal()
    assert not writer.watermark_wanted()
    append(writer, 1, 10)
    assert not writer.watermark_wanted()
    flush = writer.flush()
    assert flush is not None
    assert not writer.watermark_wanted()
    writer.done(flush)
    assert writer.watermark_wanted()
    writer.watermark()
    mark = writer.flush(sync=False)
    assert mark is not None
    assert mark.byte_count == HEADER_BYTES
    writer.done(mark)
    assert not writer.watermark_wanted()
    synced = writer.flush()
    assert synced is not None
    writer.done(synced)
    assert not writer.watermark_wanted()


def test_spares_are_made_ahead_and_released_segments_used_again() -> None:
    writer = journal(spares=0)
    job = writer.spare_job()
    assert job is not None
    assert [type(op) for op in job.ops] == [Delete, CreateFile, SyncFile, SyncDir]
    assert writer.spare_job() is None
    writer.spare_done(job)
    assert writer.spares == [(6, SIZE)]
    append(writer, 1, 2900)
    append(writer, 2, 2900)
    flush = writer.flush()
    assert flush is not None
    writer.done(flush)
    assert writer.release(writer.current_segment()) == []
    assert writer.free == [5]
    again = writer.spare_job()
    assert again is not None
    assert again.recycled == 5
    assert [(op.source, op.target) for op in again.ops if isinstance(op, Rename)] == [
        (segment_path(5), segment_path(7))
    ]
    writer.spare_done(again)
    fresh = writer.spare_job()
    assert fresh is not None
    assert (fresh.number, fresh.recycled) == (8, 0)
    assert [type(op) for op in writer.spare_failed(fresh)] == [Delete]
    retry = writer.spare_job()
    assert retry is not None
    assert retry.number == 8
    writer.spare_done(retry)
    assert writer.spare_job() is None


def test_the_cut_of_a_checkpoint_stays_at_records_that_are_not_done() -> None:
    writer = journal()
    append(writer, 1, 2900)
    append(writer, 2, 2900)
    assert writer.current_segment() == 5
    flush = writer.flush()
    assert flush is not None
    assert writer.current_segment() == 5
    writer.done(flush)
    assert writer.current_segment() == 6
    append(writer, 3, 2900)
    assert writer.current_segment() == 7


def test_a_release_keeps_the_first_segment_that_is_needed() -> None:
    writer = journal()
    for position in range(1, 4):
        append(writer, position, 2900)
    flush = writer.flush()
    assert flush is not None
    writer.done(flush)
    writer.release(6)
    assert writer.free == [5]
    assert writer.oldest_segment() == 6


def test_a_released_segment_is_not_synced_any_more() -> None:
    writer = journal()
    append(writer, 1, 2900)
    append(writer, 2, 2900)
    flush = writer.flush(sync=False)
    assert flush is not None
    writer.done(flush)
    writer.release(writer.current_segment())
    sync = writer.flush()
    assert sync is not None
    assert [op.path for op in sync.ops if isinstance(op, SyncFile)] == [segment_path(6)]


@given(publish_records(), st.integers(0, 4000))
def test_the_bound_of_a_frame_is_never_too_low(record: PublishRecord, body_bytes: int) -> None:
    subject_bytes = sum(len(subject.encode()) for subject in record.subjects)
    bound = frame_bytes_max(len(record.subjects), subject_bytes, body_bytes, len(record.drop_seqs))
    assert frame_bytes(len(encode(record)), body_bytes) <= bound


def test_a_flipped_bit_anywhere_in_a_segment_s_header_makes_it_invalid() -> None:
    header = SegmentHeader(1, 2, 3, 4, 5)
    data = encode_segment_header(9, header)
    assert decode_segment_header(9, data) == header
    for bit in range(8 * SEGMENT_HEADER_BYTES):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_segment_header(9, bytes(flipped)) is None
