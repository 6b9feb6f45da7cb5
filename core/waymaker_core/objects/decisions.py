"""Decisions of an object store: chunks of an upload, its end, the deletion of an object, and what a reader may have.

An upload stores chunks as they come; they belong to no object. Its end is one record: the metadata, which names the chunks. So
an object appears whole or not at all. No decision looks into a payload; hashes are the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from waymaker_core.api.object_requests import FinishUpload, ListObjects, ObjectListing, UploadChunks
from waymaker_core.api.requests import ENTRY_OVERHEAD_BYTES, Messages, Page
from waymaker_core.layers.decide import Draft, decide_draft
from waymaker_core.layers.layer import OBJECTS, LayerDecision
from waymaker_core.model.limits import SEQ_MAX, Limits
from waymaker_core.model.message_codec import payload_field, subject_field
from waymaker_core.model.result_codes import (
    INCOMPLETE,
    NO_SUCH_OBJECT,
    CodeError,
    Outcome,
    Refusal,
    RefusedError,
    Status,
    invalid,
    resource_exhausted,
)
from waymaker_core.model.subjects import subject_bytes
from waymaker_core.model.types import Now, Token
from waymaker_core.objects.facts import Deleted, Finished, Stored, encode_fact
from waymaker_core.objects.layer import ObjectLayer, Upload
from waymaker_core.objects.metadata import HASH_BYTES, Metadata, encode_metadata
from waymaker_core.objects.names import check_object_name, metadata_subject
from waymaker_core.objects.state import ObjectEntry
from waymaker_core.stream import reads
from waymaker_core.stream.stream import Stream

RUN_BYTES_MAX: Final = 30
"""Bytes that a chunk can add to an encoded map, at most."""


# ---------------------------------------------------------------- uploads


def begin_upload(layer: ObjectLayer, token: Token, name: str, *, shared: bool, limits: Limits) -> None:
    """Begin an upload, which ends with `FinishUpload` or with its token."""
    check_object_name(name, limits)
    if len(layer.uploads) >= limits.object_uploads_max:
        raise resource_exhausted(
            f"{limits.object_uploads_max:,} uploads into this bucket are under way; try again later"
        )
    layer.uploads[token] = Upload(name, shared=shared)


def decide_chunks(stream: Stream, layer: ObjectLayer, request: UploadChunks, now: Now) -> LayerDecision:
    """Decide the next chunks of an upload: those that are stored already, if it shares chunks, are not stored again."""
    upload = _running(layer, request.upload)
    _check_chunks(upload, request, stream)
    found = _stored_already(stream, request.subjects) if upload.shared else [0] * len(request.subjects)
    seqs: list[int] = []
    new: dict[str, int] = {}
    draft = Draft(facts=[(OBJECTS, encode_fact(Stored()))])
    next_seq = stream.overlay.last_seq + 1
    for subject, size, body, seq in zip(request.subjects, request.sizes, request.bodies, found, strict=True):
        seq = seq or (new.get(subject, 0) if upload.shared else 0)
        if not seq:
            seq = new[subject] = next_seq + len(draft.subjects)
            draft.subjects.append(subject)
            draft.sizes.append(size)
            draft.bodies.append(body)
        seqs.append(seq)
    record = decide_draft(stream, draft, now.wall_ms) if draft.subjects else None
    assert record is None or (record.messages is not None and record.messages.first_seq == next_seq)
    layer.pins.pin(seqs)
    for seq, size in zip(seqs, request.sizes, strict=True):
        upload.chunks.add_chunk(seq, size)
    waits = any(stream.last_seq < seq < next_seq for seq in found)
    return LayerDecision(record, draft.bodies, len(draft.subjects), depends_on_uncommitted=waits)


def _stored_already(stream: Stream, subjects: Sequence[str]) -> list[int]:
    """Return the sequence of each chunk that is stored by content, or staged, and 0 for the others. `NeedBlocks`."""
    return [stream.projected_latest(subject) for subject in subjects]


def _check_chunks(upload: Upload, request: UploadChunks, stream: Stream) -> None:
    count, chunks, limits = len(request.subjects), upload.chunks, stream.limits
    bytes_max = min(limits.message_bytes_max, stream.settings.max_msg_bytes or limits.message_bytes_max)
    if not count or len(request.sizes) != count or len(request.bodies) != count:
        raise invalid("the columns of an upload disagree")
    if request.index != chunks.count:
        raise _aborted("a chunk before these was not stored, so the upload cannot go on; begin it again")
    if not 0 < min(request.sizes) <= max(request.sizes) <= bytes_max:
        raise resource_exhausted(
            f"a chunk of {max(request.sizes):,} bytes; at most {bytes_max:,} are allowed, and no chunk is empty"
        )
    if not all(subject_bytes(subject, limits) for subject in request.subjects):
        raise invalid("a chunk's subject is none")
    if chunks.count + count > limits.object_chunks_max:
        raise resource_exhausted(
            f"an object of more than {limits.object_chunks_max:,} chunks; send it again with larger chunks"
        )
    if chunks.encoded_bytes + count * RUN_BYTES_MAX > limits.object_map_bytes_max:
        raise resource_exhausted(
            f"the chunks of this object lie in too many places, {chunks.encoded_bytes:,} bytes to name them; send it again "
            "with larger chunks of one size, without dedupe, or beside fewer other uploads"
        )


def decide_finish(stream: Stream, layer: ObjectLayer, request: FinishUpload, now: Now) -> LayerDecision:
    """Decide the end of an upload: the one record that makes the object visible, in place of its version before."""
    upload = _running(layer, request.upload)
    if request.chunk_count != upload.chunks.count:
        raise _aborted("a chunk of the upload was not stored; begin it again")
    if not 0 <= request.chunk_size <= SEQ_MAX:
        raise invalid("chunk_size is out of range")
    if len(request.sha256) != HASH_BYTES:
        raise invalid("a SHA-256 has 32 bytes")
    metadata = Metadata(False, request.chunk_size, request.sha256, upload.shared, upload.chunks)
    fact = Finished(upload.name, upload.chunks.total_bytes, upload.shared, upload.chunks.encode())
    decision = _decide_revision(stream, layer, upload.name, metadata, request.headers, encode_fact(fact), now)
    del layer.uploads[request.upload]
    assert decision.record is not None and not isinstance(decision.value, int)
    layer.stage_revision(decision.record, upload.name, upload)  # type: ignore[arg-type]
    return decision


def decide_delete(stream: Stream, layer: ObjectLayer, name: str, now: Now) -> LayerDecision:
    """Decide a tombstone; the one that is there already, or none for a name that never was, is not written again."""
    check_object_name(name, stream.limits)
    entry = layer.state.objects.get(name)
    if (entry is None or entry.deleted) and not layer.is_staged(name):
        return LayerDecision(None, value=(0 if entry is None else entry.revision, 0))
    decision = _decide_revision(stream, layer, name, Metadata(deleted=True), b"", encode_fact(Deleted(name)), now)
    layer.stage_revision(decision.record, name, None)  # type: ignore[arg-type]
    return decision


def _decide_revision(
    stream: Stream, layer: ObjectLayer, name: str, metadata: Metadata, headers: bytes, fact: bytes, now: Now
) -> LayerDecision:
    """Stage a revision of an object. Of its older ones, those beyond the bound go with the same record."""
    payload, subject = encode_metadata(metadata), metadata_subject(name)
    body = subject_field(subject) + headers + payload_field(payload)
    drops: list[int] = []
    entry = layer.state.objects.get(name)
    if entry is not None and not layer.held:
        revisions = [*entry.older, entry.revision]
        drops = revisions[: max(0, len(revisions) + 1 - stream.limits.object_revisions_max)]
    draft = Draft([subject], [len(headers) + len(payload)], [body], drops, [(OBJECTS, fact)])
    record = decide_draft(stream, draft, now.wall_ms)
    assert record.messages is not None
    return LayerDecision(record, draft.bodies, (record.messages.first_seq, record.messages.times_ms[0]))


def _running(layer: ObjectLayer, token: Token) -> Upload:
    upload = layer.uploads.get(token)
    if upload is None:
        raise _aborted("the upload is over: the server was restarted, or another one leads the bucket; begin it again")
    return upload


def _aborted(message: str) -> RefusedError:
    return RefusedError(Refusal(Status.ABORTED, message, Outcome.NOT_APPLIED))


# ---------------------------------------------------------------- reading


def open_object(stream: Stream, layer: ObjectLayer, token: Token, name: str, revision: int) -> Messages:
    """Begin a reading of the latest version, which lasts until its token ends; return its metadata."""
    entry = _live(layer, name)
    if revision not in (0, entry.revision):
        raise CodeError(
            INCOMPLETE,
            f"{name[:80]!r} was replaced: its revision is {entry.revision} now, not {revision}; read it anew",
        )
    if len(layer.readings) >= stream.limits.object_readings_max:
        raise resource_exhausted(
            f"{stream.limits.object_readings_max:,} objects of this bucket are being read; try again later"
        )
    messages = reads.messages_in(stream, [(entry.revision, entry.revision)], 0)
    layer.pins.begin_reading(entry.revision)
    layer.readings[token] = entry.revision
    return messages


def read_chunks(stream: Stream, layer: ObjectLayer, token: Token, ranges: Sequence[tuple[int, int]]) -> Messages:
    """Return the chunks in ranges of sequences, in this order; the reading keeps them."""
    if token not in layer.readings:
        raise _aborted("the reading is over: another server leads the bucket; read the object again")
    seen = 0
    for first, last in ranges:
        seen += last - first + 1
        if not 0 < first <= last <= stream.last_seq or seen > stream.limits.page_entries_max:
            raise invalid("a range of chunks that cannot be")
        if not all(map(stream.is_live, range(first, last + 1))):
            raise CodeError(INCOMPLETE, "chunks of the object are missing")
    return reads.messages_in(stream, ranges, 0)


def find_object(stream: Stream, layer: ObjectLayer, name: str) -> Messages | None:
    """Return the metadata of a live object; None where a tombstone is the latest."""
    entry = layer.state.objects.get(name)
    if entry is not None and entry.deleted:
        return None
    entry = _live(layer, name)
    return reads.messages_in(stream, [(entry.revision, entry.revision)], 0)


def list_objects(layer: ObjectLayer, request: ListObjects, limits: Limits) -> Page[ObjectListing]:
    """Return the objects whose names begin with a prefix and lie behind a name, in order."""
    most = request.limit or limits.page_entries_max
    objects = layer.state.objects
    found: list[ObjectListing] = []
    byte_count = 0
    start = max(request.prefix, request.after)
    for name in objects.irange(start, inclusive=(start != request.after or not start, True)):
        if not name.startswith(request.prefix):
            break
        entry = objects[name]
        if entry.deleted and not request.include_deleted:
            continue
        byte_count += len(name.encode()) + 4 * ENTRY_OVERHEAD_BYTES
        if len(found) == most or byte_count > limits.page_bytes_max:
            return Page(found, found[-1].name)
        found.append(ObjectListing(name, entry.total_bytes, entry.deleted))
    return Page(found, "")


def list_revisions(stream: Stream, name: str, from_seq: int, limit: int) -> Messages:
    """Return the metadata of an object's revisions in order. `NeedBlocks`."""
    check_object_name(name, stream.limits)
    return reads.scan_subject(stream, metadata_subject(name), from_seq, limit, stream.limits.page_bytes_max)


def _live(layer: ObjectLayer, name: str) -> ObjectEntry:
    entry = layer.state.objects.get(name)
    if entry is None or entry.deleted:
        raise CodeError(NO_SUCH_OBJECT, f"there is no object {name[:80]!r} in this bucket")
    return entry
