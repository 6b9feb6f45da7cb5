"""Decisions about entries and queues: each is one record, staged in the stream and in the layer, or none where nothing changes.

All of a batch is checked before anything is staged. A store that is full refuses what would make it larger; it never drops an
entry or a value by itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from waymaker_core.api.collection_requests import PopValues, PushValues, PutEntries, RemoveEntries
from waymaker_core.collections.entries import ABSENT, Entries, encode_removals, place, seq_of, size_of
from waymaker_core.collections.queue import Pushed, Queue, Taken, encode_take
from waymaker_core.collections.settings import StoreSettings
from waymaker_core.collections.subjects import VALUES
from waymaker_core.layers.layer import COLLECTIONS, FACT_BYTES_MAX, LayerDecision
from waymaker_core.model.records import LayerRecord
from waymaker_core.model.result_codes import invalid, resource_exhausted
from waymaker_core.model.subjects import subject_bytes
from waymaker_core.model.types import Token
from waymaker_core.stream import admission, projection
from waymaker_core.stream.answers import MESSAGE_OVERHEAD_BYTES
from waymaker_core.stream.retention import limits as bounds
from waymaker_core.stream.stream import Stream

# ---------------------------------------------------------------- entries


def decide_put(stream: Stream, entries: Entries, request: PutEntries, wall_ms: int) -> LayerDecision:
    """Decide `PutEntries`: new messages, and the deletion of those that they replace."""
    _check_columns(stream, entries.settings, request.sizes, request.bodies, len(request.subjects))
    lengths = _check_subjects(stream, request.subjects)
    found = [entries.projected(subject) for subject in request.subjects]
    chosen = [number for number, at in enumerate(found) if not (request.only_absent and at)]
    if not chosen:
        return LayerDecision(None, [], [0] * len(found), depends_on_uncommitted=entries.has_staged())
    more = sum(request.sizes[number] + lengths[number] for number in chosen)
    _require_bytes(entries.settings, stream.overlay.bytes + more - sum(size_of(found[number]) for number in chosen))
    subjects = [request.subjects[number] for number in chosen]
    bodies = [request.bodies[number] for number in chosen]
    sizes = [request.sizes[number] for number in chosen]
    record = admission.decide_for_service(stream, subjects, sizes, array("I", map(len, bodies)), (), wall_ms).messages
    assert record is not None, "messages have a record"
    removal = bounds.Removal()
    for number in chosen:
        if found[number] != ABSENT:
            bounds.drop(stream, seq_of(found[number]), size_of(found[number]), removal)
    record.drop_seqs.extend(removal.drop_seqs)
    record.drop_sizes.extend(removal.drop_sizes)
    seqs = [0] * len(found)
    for entry, number in enumerate(chosen):
        seqs[number] = record.first_seq + entry
        entries.stage(subjects[entry], place(record.first_seq + entry, record.sizes[entry]))
    return LayerDecision(record, bodies, seqs)


def decide_remove(stream: Stream, entries: Entries, request: RemoveEntries) -> LayerDecision:
    """Decide `RemoveEntries`: the deletion of those that are there, and the fact that says so."""
    _check_subjects(stream, request.subjects)
    present = [subject for subject in request.subjects if entries.projected(subject)]
    if not present:
        return LayerDecision(None, [], 0, depends_on_uncommitted=entries.has_staged())
    fact = encode_removals(present)
    if len(fact) > FACT_BYTES_MAX:
        raise resource_exhausted(
            f"the names of the entries to remove have {len(fact):,} bytes; at most {FACT_BYTES_MAX:,} are taken at once"
        )
    removal = bounds.Removal()
    stream.overlay.savepoint()
    for subject in present:
        found = entries.projected(subject)
        bounds.drop(stream, seq_of(found), size_of(found), removal)
        entries.stage(subject, ABSENT)
    record = LayerRecord(None, removal.drop_seqs, removal.drop_sizes, [(COLLECTIONS, fact)])
    return LayerDecision(record, [], len(present))


# ---------------------------------------------------------------- queues


def decide_push(stream: Stream, queue: Queue, request: PushValues, wall_ms: int) -> LayerDecision:
    """Decide `PushValues`."""
    count = len(request.bodies)
    _check_columns(stream, queue.settings, request.sizes, request.bodies, count)
    most = queue.settings.max_values
    if most and queue.projected_count() + count > most:
        raise resource_exhausted(
            f"the queue holds {queue.projected_count():,} values, and max_messages is {most:,}; take some first"
        )
    more = sum(request.sizes) + count * len(VALUES)
    _require_bytes(queue.settings, queue.projected_bytes() + more)
    record = admission.decide_for_service(
        stream, [VALUES] * count, request.sizes, array("I", map(len, request.bodies)), (), wall_ms
    ).messages
    assert record is not None, "messages have a record"
    queue.stage_push(Pushed(record.first_seq + count - 1, count, more))
    return LayerDecision(record, request.bodies, record.first_seq)


def decide_pop(stream: Stream, queue: Queue, request: PopValues, token: Token) -> tuple[LayerDecision, list[int]]:
    """Decide `PopValues`; return the decision and the sequences of the values. Raises `NeedBlocks`.

    Values whose push is not committed yet may be among them: the take stands behind it in the log.
    """
    limits = stream.limits
    if not 1 <= request.limit <= limits.page_entries_max:
        raise invalid(f"limit = {request.limit}; 1 to {limits.page_entries_max:,} values are taken at once")
    seqs, sizes = first_values(stream, queue.cursor, request.limit, limits.page_bytes_max)
    if not seqs:
        return LayerDecision(None, [], None, depends_on_uncommitted=queue.has_staged()), []
    take = Taken(seqs[-1], len(seqs), sum(sizes))
    queue.stage_take(take, token, seqs[0])
    return LayerDecision(LayerRecord(None, facts=[(COLLECTIONS, encode_take(take))])), seqs


def first_values(stream: Stream, cursor: int, limit: int, byte_max: int) -> tuple[list[int], list[int]]:
    """Return sequences and sizes of the first values behind a cursor, in the projection. Raises `NeedBlocks`.

    At least one if there is any, whatever its size.
    """
    seqs: list[int] = []
    sizes: list[int] = []
    left = byte_max
    for number in _blocks_from(stream, cursor + 1):
        more_seqs, more_sizes = projection.live_run(stream, number, cursor + 1, limit - len(seqs))
        for seq, size in zip(more_seqs, more_sizes, strict=True):
            left -= size + MESSAGE_OVERHEAD_BYTES
            if left < 0 and seqs:
                return seqs, sizes
            seqs.append(seq)
            sizes.append(size)
        if len(seqs) == limit:
            break
    return seqs, sizes


def _blocks_from(stream: Stream, seq: int) -> list[int]:
    """Return the blocks with messages from a sequence on, committed or staged, in order."""
    first = stream.block_of(max(1, seq))
    numbers = dict.fromkeys(stream.blocks.irange(first))
    overlay = stream.overlay
    for place_ in range(overlay.place_from(seq), len(overlay.staged)):
        numbers.update(dict.fromkeys(number for number, _, _ in overlay.staged[place_].parts if number >= first))
    return list(numbers)


# ---------------------------------------------------------------- checks


def _check_columns(
    stream: Stream, settings: StoreSettings, sizes: Sequence[int], bodies: Sequence[bytes], count: int
) -> None:
    if not count or len(sizes) != count or len(bodies) != count:
        raise invalid("the columns of a batch disagree, or it is empty")
    most = stream.limits.message_bytes_max
    if stream.settings.max_msg_bytes:
        most = min(most, stream.settings.max_msg_bytes)
    if max(sizes) > most:
        raise resource_exhausted(f"a value has {max(sizes):,} bytes; at most {most:,} are allowed")
    stored = settings.max_bytes
    if stored and max(sizes) > stored:
        raise resource_exhausted(f"a value has {max(sizes):,} bytes; max_bytes of the whole store is {stored:,}")


def _check_subjects(stream: Stream, subjects: list[str]) -> list[int]:
    """Return the lengths of the subjects; refuse what no edge makes."""
    lengths = [subject_bytes(subject, stream.limits) for subject in subjects]
    if not subjects or 0 in lengths or len(set(subjects)) != len(subjects):
        raise invalid("the entries of a batch have no proper names, or the same one twice")
    return lengths


def _require_bytes(settings: StoreSettings, total: int) -> None:
    most = settings.max_bytes
    if most and total > most:
        raise resource_exhausted(
            f"the store would hold {total:,} bytes, and max_bytes is {most:,}; remove something first"
        )
