"""Admission: which messages of a batch enter, with which sequences and times, and what they push out.

The one place that assigns sequences. A batch is decided as one wherever that gives what deciding message by message would
give; where an earlier message's deletions can decide a later one (a compare-and-set beside a limit, bytes beside a
cap a subject), it is decided message by message, and the records are joined.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import add

from waymaker_core.api.requests import ImportBatch, Publish, Published
from waymaker_core.model.limits import SEQ_MAX, U64_MAX
from waymaker_core.model.records import ImportEnded, PublishRecord
from waymaker_core.model.result_codes import OVERSIZE, SUBJECT_REJECTED, WRONG_REVISION, invalid
from waymaker_core.model.subjects import subject_bytes, subject_fault
from waymaker_core.stream import deduplication, projection
from waymaker_core.stream.answers import CopyDecision, Displaced, PublishDecision, ServiceDecision
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.join import join_publishes
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.retention import limits as bounds
from waymaker_core.stream.stream import Stream

RESERVE_MIN = 64
"""With interval sync: sequences reserved at a time by a stream to which little is published."""
RESERVE_MAX = 1 << 20
"""And by one to which much is."""
RESERVE_INTERVALS = 8
"""Intervals between syncs that a reservation should last; how many times as large as the one before it may be."""
ACCEPTED_MAX = 100_000
"""Subjects remembered as valid and accepted by the filter."""

Failures = dict[int, tuple[str, str, int]]


class _Batch:
    """A publish that is being decided: its columns, and the result so far."""

    __slots__ = ("subjects", "sizes", "lengths", "times_ms", "expected", "now_ms", "failures", "depends_on_uncommitted")

    def __init__(self, request: Publish, now_ms: int) -> None:
        self.subjects = request.subjects
        self.sizes = request.sizes
        self.lengths = request.lengths
        self.times_ms = request.times_ms
        self.expected = request.expected
        self.now_ms = now_ms
        self.failures: Failures = {}
        self.depends_on_uncommitted = False


def decide_publish(stream: Stream, request: Publish, wall_ms: int) -> PublishDecision:
    """Assign sequences and times, check every message, decide what limits push out; stage all of it.

    Single messages fail on their own (`Published.failures`). Raises `NeedBlocks`, and `RefusedError`
    (INVALID_ARGUMENT) for a negative time or columns that disagree.
    """
    _check_columns(request)
    known = None if request.producer is None else deduplication.look_up(stream.producers, request.producer)
    if known is None:
        return _decide_new(stream, request, wall_ms)
    if known.fresh:
        decision = _decide_new(stream, deduplication.only(request, known.fresh), wall_ms)
    else:
        decision = PublishDecision(None, [], Published(0, 0, None), False)
    decision.published = deduplication.merge(known, decision.published, len(request.subjects))
    decision.depends_on_uncommitted = decision.depends_on_uncommitted or known.depends_on_uncommitted
    return decision


def _decide_new(stream: Stream, request: Publish, wall_ms: int) -> PublishDecision:
    """Decide a publish of which nothing was stored before."""
    count = len(request.subjects)
    if stream.reserved and not request.service:
        reason = f"only its service writes to {stream.config.name!r}"
        failures: Failures = dict.fromkeys(range(count), (SUBJECT_REJECTED, reason, 0))
        return PublishDecision(None, [], Published(0, 0, failures or None), False)
    settings = stream.settings
    if settings.max_msgs_per_subject:
        stream.need_all()
        stream.caps.evict_oldest()
    batch = _Batch(request, stream.server_time(wall_ms))
    bounded = bool(settings.max_msgs or settings.max_bytes)
    one_by_one = (settings.max_msgs_per_subject > 0 and settings.max_bytes > 0) or (
        request.expected is not None and (bounded or settings.max_msgs_per_subject > 0)
    )
    savepoint = stream.overlay.savepoint()
    try:
        if one_by_one:
            records = [record for entry in range(count) if (record := _decide_run(stream, batch, entry, entry + 1))]
            record = join_publishes(records) if records else None
        else:
            record = _decide_run(stream, batch, 0, count)
    except NeedBlocks:
        stream.overlay.rollback(savepoint)
        stream.caps.forget()
        raise
    if record is None:
        return PublishDecision(None, [], Published(0, 0, batch.failures or None), batch.depends_on_uncommitted)
    if request.producer is not None:
        record.spans = deduplication.spans_of(request.producer, batch.failures)
        stream.producers.stage(record.spans, record.first_seq)
    parts = [request.body] if not batch.failures else _accepted_bodies(request, batch.failures)
    published = Published(record.first_seq, len(record.subjects), batch.failures or None)
    return PublishDecision(record, parts, published, batch.depends_on_uncommitted)


def decide_import(stream: Stream, request: ImportBatch, wall_ms: int) -> PublishDecision:
    """Stage messages with the sequences and times they had; limits prune nothing. RefusedError where they do not fit."""
    seqs, count = request.seqs, len(request.seqs)
    columns = (request.times_ms, request.subjects, request.sizes, request.lengths)
    if not count or any(len(column) != count for column in columns) or sum(request.lengths) != len(request.body):
        raise invalid("the columns of an import disagree")
    previous = stream.overlay.last_seq
    for seq in seqs:
        if not previous < seq <= SEQ_MAX:
            raise invalid(f"sequence {seq} of an import does not follow {previous}")
        previous = seq
    if not 0 <= min(request.times_ms) <= max(request.times_ms) <= SEQ_MAX:
        raise invalid("a time of an import is out of range")
    if min(request.sizes) < 0 or max(request.sizes) > stream.limits.message_bytes_max:
        raise invalid("the size of an imported message is out of range")
    lengths = [subject_bytes(subject, stream.limits) for subject in request.subjects]
    if 0 in lengths:
        raise invalid(f"an imported message has the subject {request.subjects[lengths.index(0)][:80]!r}")
    overlay = stream.overlay
    overlay.savepoint()
    times_ms = array("q", request.times_ms)
    sizes = array("I", map(add, request.sizes, lengths))
    dense = seqs[-1] - seqs[0] == count - 1
    column = None if dense else array("Q", seqs)
    # Times of the server stay monotone behind an import, but nothing drags them into the future.
    overlay.clock_ms = max(overlay.clock_ms, min(max(times_ms), wall_ms))
    record = PublishRecord(
        seqs[0], times_ms, sizes, array("I", request.lengths), request.subjects, seqs=column, clock_ms=overlay.clock_ms
    )
    overlay.stage_publish(column, seqs[0], record.subjects, sizes, times_ms)
    stream.caps.forget()
    return PublishDecision(record, [request.body], Published(seqs[0], count, None), False)


def decide_import_end(stream: Stream, last_seq: int) -> ImportEnded:
    """Stage the end of a restore. Nothing is restored behind it; the stream continues behind `last_seq`, or a later message."""
    assert stream.importing and not stream.overlay.import_ended, "a restore ends once"
    stream.overlay.import_ended = True
    return ImportEnded(max(last_seq, stream.overlay.last_seq))


def decide_copies(
    stream: Stream, subject: str, seqs: Sequence[int], bodies: Sequence[bytes], wall_ms: int, replace: bool = False
) -> CopyDecision:
    """Stage copies of live messages under another subject: dead letters, with their new stored bodies.

    They get sequences and server times like a publish, and push out what a publish would push out, but nothing is
    refused. With `replace` the originals end with it, as one decision. Raises `NeedBlocks`, or `Displaced` where the
    limits would remove one of the copies by this very decision; nothing is staged then.
    """
    assert len(seqs) == len(bodies) > 0, "every copy has an original"
    if stream.settings.max_msgs_per_subject:
        stream.need_all()
    absent = {stream.block_of(seq) for seq in seqs if stream.blocks[stream.block_of(seq)].columns is None}
    if absent:
        raise NeedBlocks(sorted(absent))
    sizes = array("I")
    for seq in seqs:
        block = stream.blocks[stream.block_of(seq)]
        columns = block.resident()
        entry = seq - block.first
        sizes.append(columns.sizes[entry] - len(columns.subject_at(entry).encode()) + len(subject.encode()))
    now_ms = stream.server_time(wall_ms)
    savepoint = stream.overlay.savepoint()
    try:
        # Originals are dropped first: a cap a subject must not count them beside their copies.
        drops = retention.stage_drops(stream, seqs) if replace else (array("Q"), array("Q"))
        record = _append(
            stream,
            [subject] * len(seqs),
            sizes,
            array("I", map(len, bodies)),
            array("q", [now_ms]) * len(seqs),
            now_ms,
            True,
        )
        if record.truncate_to > record.first_seq or max(record.drop_seqs, default=0) >= record.first_seq:
            raise Displaced
        return CopyDecision(record, *drops)
    except (NeedBlocks, Displaced):
        stream.overlay.rollback(savepoint)
        stream.caps.forget()
        raise


def decide_for_service(
    stream: Stream, subjects: list[str], sizes: Sequence[int], lengths: array[int], drops: Sequence[int], wall_ms: int
) -> ServiceDecision:
    """Stage messages of the service that owns the stream, with server time, and the deletion of committed ones.

    Deletions are staged first: a cap a subject must not count them. `sizes` are without the subjects. Raises `NeedBlocks`;
    nothing is staged then.
    """
    assert len(subjects) == len(sizes) == len(lengths), "columns of a service's messages"
    if stream.settings.max_msgs_per_subject:
        stream.need_all()
        stream.caps.evict_oldest()
    now_ms = stream.server_time(wall_ms)
    savepoint = stream.overlay.savepoint()
    try:
        drop_seqs, drop_sizes = retention.stage_drops(stream, drops) if drops else (array("Q"), array("Q"))
        record: PublishRecord | None = None
        if subjects:
            subject_sizes = {subject: len(subject.encode()) for subject in dict.fromkeys(subjects)}
            stored = array("I", map(add, sizes, map(subject_sizes.__getitem__, subjects)))
            times_ms = array("q", [now_ms]) * len(subjects)
            record = _append(stream, subjects, stored, lengths, times_ms, now_ms, True)
        return ServiceDecision(record, drop_seqs, drop_sizes)
    except NeedBlocks:
        stream.overlay.rollback(savepoint)
        stream.caps.forget()
        raise


def _check_columns(request: Publish) -> None:
    count = len(request.subjects)
    if len(request.sizes) != count or len(request.lengths) != count or not count:
        raise invalid("the columns of a publish disagree")
    if sum(request.lengths) != len(request.body):
        raise invalid("the bodies of a publish are not as long as they should be")
    if request.times_ms is not None:
        if len(request.times_ms) != count:
            raise invalid("the columns of a publish disagree")
        if min(request.times_ms) < 0:
            raise invalid("a time before 1970 was given; 0 asks for the server's time")
        if max(request.times_ms) > SEQ_MAX:
            raise invalid("a time beyond the range of 64 bits was given")
    if request.expected is not None:
        if len(request.expected) != count:
            raise invalid("the columns of a publish disagree")
        if min(request.expected) < -1 or max(request.expected) > U64_MAX:
            raise invalid("an expected sequence is out of range")
    if request.producer is not None:
        deduplication.check_producer(request.producer, count)


def _decide_run(stream: Stream, batch: _Batch, start: int, end: int) -> PublishRecord | None:
    """Decide entries `start` to `end` of a batch as one; None when none of them enters."""
    whole = start == 0 and end == len(batch.subjects)
    subjects = batch.subjects if whole else batch.subjects[start:end]
    given = batch.sizes if whole else batch.sizes[start:end]
    known = list(map(stream.accepted.get, subjects))
    lengths: list[int] = _judge_subjects(stream, subjects, known) if None in known else known  # type: ignore[assignment]
    refused = _refused(stream, batch, subjects, given, lengths, start)
    if batch.expected is not None:
        _compare(stream, batch, subjects, batch.expected[start:end], refused, start)
    if not refused:
        sizes = array("I", map(add, given, lengths))
        body_lengths = array("I", batch.lengths if whole else batch.lengths[start:end])
        times_ms = _times(batch, range(start, end), whole)
        server_timed = batch.times_ms is None or 0 in (batch.times_ms if whole else batch.times_ms[start:end])
    else:
        entries = [entry for entry in range(len(subjects)) if entry not in refused]
        if not entries:
            return None
        sizes = array("I", [given[entry] + lengths[entry] for entry in entries])
        body_lengths = array("I", [batch.lengths[start + entry] for entry in entries])
        times_ms = _times(batch, [start + entry for entry in entries], False)
        subjects = [subjects[entry] for entry in entries]
        server_timed = batch.times_ms is None or any(not batch.times_ms[start + entry] for entry in entries)
    return _append(stream, subjects, sizes, body_lengths, times_ms, batch.now_ms, server_timed)


def _judge_subjects(stream: Stream, subjects: list[str], known: list[int | None]) -> list[int]:
    """Return the UTF-8 lengths of the subjects; 0 for one that cannot enter."""
    accepted = stream.accepted
    if len(accepted) + len(subjects) > ACCEPTED_MAX:
        accepted.clear()
    lengths: list[int] = []
    for subject, length in zip(subjects, known, strict=True):
        if length is None:
            length = subject_bytes(subject, stream.limits)
            if length and stream.filter.accepts(subject):
                accepted[subject] = length
            else:
                length = 0
        lengths.append(length)
    return lengths


def _refused(
    stream: Stream, batch: _Batch, subjects: list[str], sizes: list[int], lengths: list[int], start: int
) -> set[int]:
    """Return the entries that cannot enter for their subject or size; their failures are noted."""
    settings = stream.settings
    size_max = min(settings.max_msg_bytes or stream.limits.message_bytes_max, stream.limits.message_bytes_max)
    stored_max = settings.max_bytes
    refused: set[int] = set()
    if 0 not in lengths and max(sizes) <= size_max and (not stored_max or max(map(add, sizes, lengths)) <= stored_max):
        return refused
    for entry, (subject, size, length) in enumerate(zip(subjects, sizes, lengths, strict=True)):
        if not length:
            fault = subject_fault(subject, stream.limits)
            reason = (
                f"{subject[:80]!r} is not a subject: {fault}"
                if fault
                else f"the stream's filter does not accept {subject[:80]!r}"
            )
            failure = (SUBJECT_REJECTED, reason, 0)
        elif size > size_max:
            whose = "max_msg_bytes" if size_max == settings.max_msg_bytes else "the server's limit message_bytes_max"
            failure = (OVERSIZE, f"{size} bytes of payload and headers; {whose} is {size_max}", 0)
        elif stored_max and size + length > stored_max:
            failure = (OVERSIZE, f"{size + length} bytes stored; max_bytes of the whole stream is {stored_max}", 0)
        else:
            continue
        batch.failures[start + entry] = failure
        refused.add(entry)
    return refused


def _compare(
    stream: Stream, batch: _Batch, subjects: list[str], expected: list[int], refused: set[int], start: int
) -> None:
    """Compare what was expected with the newest sequence at each subject, each message seeing those before it."""
    newest: dict[str, int] = {}
    seq = stream.overlay.last_seq
    for entry, (subject, wanted) in enumerate(zip(subjects, expected, strict=True)):
        if entry in refused:
            continue
        if wanted >= 0:
            actual = newest.get(subject) or stream.projected_latest(subject)
            if actual != wanted:
                text = f"the last sequence at {subject[:80]!r} is {actual}, not {wanted}"
                batch.failures[start + entry] = (WRONG_REVISION, text, actual)
                batch.depends_on_uncommitted = batch.depends_on_uncommitted or not stream.is_settled()
                refused.add(entry)
                continue
        seq += 1
        newest[subject] = seq


def _times(batch: _Batch, entries: Sequence[int], whole: bool) -> array[int]:
    times_ms, now_ms = batch.times_ms, batch.now_ms
    if times_ms is None:
        return array("q", [now_ms]) * len(entries)
    if whole and 0 not in times_ms:
        return array("q", times_ms)
    return array("q", [times_ms[entry] or now_ms for entry in entries])


def _append(
    stream: Stream, subjects: list[str], sizes: array[int], lengths: array[int], times_ms: array[int], now_ms: int,
    server_timed: bool,
) -> PublishRecord:  # fmt: skip
    """Assign sequences, stage, and decide what is pushed out. `server_timed`: a message has server time. `NeedBlocks`."""
    overlay, settings = stream.overlay, stream.settings
    clock_ms = now_ms if server_timed else 0
    first_seq = overlay.last_seq + 1
    removal = bounds.Removal()
    if settings.max_msgs_per_subject:
        _cap(stream, subjects, sizes, first_seq, settings.max_msgs_per_subject, removal)
    overlay.stage_publish(None, first_seq, subjects, sizes, times_ms)
    if settings.max_msgs or settings.max_bytes:
        bounds.enforce(stream, settings, removal, settings.strict_limits)
    corrects = 0 < clock_ms < overlay.clock_ms
    overlay.clock_ms = clock_ms or overlay.clock_ms
    return PublishRecord(
        first_seq, times_ms, sizes, lengths, subjects, truncate_to=removal.truncate_to, drop_seqs=removal.drop_seqs,
        drop_sizes=removal.drop_sizes, reserved_to=_reserve(stream, now_ms), clock_ms=clock_ms,
        corrects=corrects,
    )  # fmt: skip


def _cap(
    stream: Stream, subjects: list[str], sizes: array[int], first_seq: int, cap: int, removal: bounds.Removal
) -> None:
    """Stage what the cap of each subject pushes out, this batch's own messages included."""
    push, live_at, is_live = stream.caps.push, stream.projected_seqs_at, stream.is_projected
    before = removal.count
    for entry, subject in enumerate(subjects):
        gone = push(subject, first_seq + entry, cap, live_at, is_live)
        if gone is not None:
            for seq in gone:
                size = sizes[seq - first_seq] if seq >= first_seq else projection.size_of(stream, seq)
                bounds.drop(stream, seq, size, removal)
    if removal.count > before:
        stream.judge_age_anew()


def _reserve(stream: Stream, now_ms: int) -> int:
    """Return a new reservation when less than half of the last one is left; 0 when none is wanted.

    An unclean stop skips what is reserved, so it is what the stream publishes between a few syncs, as it has done since
    the reservation before. Too little costs a sync ahead of its time, and the next reservation is larger.
    """
    overlay = stream.overlay
    left = overlay.reserved_to - overlay.last_seq
    if not stream.reserve_interval_ms or 2 * left >= stream.reserve_ahead:
        return 0
    elapsed_ms = max(1, now_ms - stream.reserve_noted_ms)
    rate = (overlay.last_seq - stream.reserve_noted_seq) * stream.reserve_interval_ms // elapsed_ms
    most = min(RESERVE_MAX, RESERVE_INTERVALS * stream.reserve_ahead)
    stream.reserve_ahead = max(RESERVE_MIN, min(RESERVE_INTERVALS * rate, most))
    stream.reserve_noted_ms, stream.reserve_noted_seq = now_ms, overlay.last_seq
    overlay.reserved_to = max(overlay.reserved_to, overlay.last_seq + stream.reserve_ahead)
    return overlay.reserved_to


def _accepted_bodies(request: Publish, failures: Failures) -> list[bytes]:
    """Return the stored bodies of the messages that entered, neighbours together."""
    parts: list[bytes] = []
    at = begin = 0
    for entry, length in enumerate(request.lengths):
        if entry in failures:
            if at > begin:
                parts.append(request.body[begin:at])
            begin = at + length
        at += length
    if at > begin:
        parts.append(request.body[begin:at])
    return parts
