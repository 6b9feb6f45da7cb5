"""The conversation with buckets of objects: uploads and readings side by side, lists, revisions, deletions, collection.

Payloads are compared chunk by chunk, also of versions that were replaced while they are read. Revisions must ascend; which
numbers they have is the node's choice. With everything ended and every wait over, nothing else may be left in a bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from waymaker_core.api import object_requests as ob
from waymaker_core.api.requests import CreateStream, DeleteStream, GetStreamInfo, Page, StreamInfo
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import KIB
from waymaker_core.model.message_codec import decode_body, payload_field, subject_field
from waymaker_core.model.result_codes import Status
from waymaker_core.model.types import Token
from waymaker_core.objects.metadata import Metadata, decode_metadata
from waymaker_core.objects.names import chunk_subject, shared_chunk_subject
from waymaker_sim.compare.conversation import Conversation
from waymaker_sim.compare.pair import PAIR_LIMITS
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage
from waymaker_sim.reference.naive_objects import NaiveObjects, NaiveVersion

LIMITS: Final = replace(
    PAIR_LIMITS, page_entries_max=40, page_bytes_max=64 * KIB, record_bytes_max=16 * KIB, segment_bytes=512 * KIB,
    checkpoint_journal_bytes=32 * KIB, object_revisions_max=3, object_grace_ms=500, object_tombstone_ms=2_000,
    object_uploads_max=4, object_readings_max=4,
)  # fmt: skip
"""Segments have room for what is due at once, as in `services`."""
BUCKETS: Final = ("obj:o", "obj:p")
NAMES: Final = ("a", "a.b", "a/b", "b", "%", "", "é *")
CHUNKS: Final = (b"1", b"22", b"4444", b"333" * 2_000)
"""Few, so that those stored by content are shared; one is long, so that segments fill and checkpoints are made."""
READ_AT_ONCE: Final = 40


@dataclass(slots=True)
class Upload:
    """An upload on both sides: where it goes, and the chunks that were sent."""

    bucket: NaiveObjects
    stream: str
    name: str
    dedupe: bool
    sent: list[bytes]


@dataclass(slots=True)
class Reading:
    """A reading on both sides: the version that it began with."""

    bucket: NaiveObjects
    stream: str
    metadata: Metadata
    chunks: list[bytes]


class ObjectCalls(Conversation):
    """Draws calls about objects, sends them to the node and to the naive store, and compares."""

    def __init__(self, track: Track) -> None:
        super().__init__(track, LIMITS)
        self.buckets: dict[str, NaiveObjects] = {}
        self.shared: dict[str, dict[str, bool]] = {}
        """By bucket and name: True where the latest version was stored by content."""
        self.uploads: dict[Token, Upload] = {}
        self.readings: dict[Token, Reading] = {}
        self._last_revision: dict[str, int] = {}
        self._acts += [
            (8, self.begin_upload),
            (16, self.send_chunks),
            (12, self.finish_upload),
            (2, self.end_upload),
            (10, self.open_object),
            (12, self.read_chunks),
            (4, self.end_reading),
            (8, self.delete_object),
            (6, self.find_object),
            (8, self.list_objects),
            (6, self.list_revisions),
            (3, self.make_bucket),
            (1, self.delete_bucket),
            (8, self.pass_time),
            (2, self.restart),
            (1, self.rest),
        ]

    def _bucket(self) -> tuple[str, NaiveObjects | None]:
        stream = self.track.pick("bucket", BUCKETS)
        return stream, self.buckets.get(stream)

    def _name(self) -> str:
        return self.track.pick("name", NAMES)

    # ------------------------------------------------------------ buckets

    def make_bucket(self) -> None:
        """Make a bucket."""
        stream, bucket = self._bucket()
        request = CreateStream(StreamConfig(stream))
        if self._ask(request, bucket is not None, outcomes.ALREADY_EXISTS) is not None:
            self.buckets[stream] = NaiveObjects(
                LIMITS.object_revisions_max, LIMITS.object_grace_ms, LIMITS.object_tombstone_ms
            )
            self.shared[stream], self._last_revision[stream] = {}, 0

    def delete_bucket(self) -> None:
        """Delete a bucket, with what is under way in it."""
        stream, bucket = self._bucket()
        self._ask(DeleteStream(stream), bucket is None, outcomes.NO_SUCH_STREAM)
        self.buckets.pop(stream, None)

    # ------------------------------------------------------------ uploads

    def begin_upload(self) -> None:
        """Begin an upload."""
        stream, bucket = self._bucket()
        name, dedupe = self._name(), self.track.draw("dedupe", 2) == 1
        request = ob.BeginUpload(stream, name, dedupe)
        if bucket is not None and self._count(self.uploads, bucket) == LIMITS.object_uploads_max:
            self._refused(request, Status.RESOURCE_EXHAUSTED)
        elif self._ask(request, bucket is None, outcomes.NO_SUCH_BUCKET) is not None:
            assert bucket is not None
            self.uploads[self.node.last_token] = Upload(bucket, stream, name, dedupe, [])

    @staticmethod
    def _count(some: dict[Token, Upload] | dict[Token, Reading], bucket: NaiveObjects) -> int:
        return sum(each.bucket is bucket for each in some.values())

    def send_chunks(self) -> None:
        """Store the next chunks of an upload; sometimes not the next ones."""
        if not self.uploads:
            return
        track = self.track
        token = track.pick("upload", list(self.uploads))
        upload = self.uploads[token]
        more = [track.pick("chunk", CHUNKS) for _ in range(track.between("chunks", 1, 4))]
        index = len(upload.sent) + (1 if track.draw("odd index", 20) == 19 else 0)
        request = _chunks(upload, token, index, more)
        if self._is_over(upload, request):
            return
        if index != len(upload.sent):
            self._refused(request, Status.ABORTED)
            return
        there = self._stored_by_content(upload) if upload.dedupe else {}
        new = len([each for each in (dict.fromkeys(more) if upload.dedupe else more) if each not in there])
        found = self._ask(request, False, outcomes.NO_SUCH_BUCKET)
        assert found is not None
        stored = found[0].value
        # A loose chunk may still be there, and is stored once more where it is not.
        least = 0 if upload.dedupe else new
        self._require(isinstance(stored, int) and least <= stored <= new, request, f"{new} new chunks", stored)
        upload.sent += more

    def _stored_by_content(self, upload: Upload) -> dict[bytes, None]:
        """Return the chunks that objects of the bucket share, and those that uploads have sent to be shared."""
        shared = self.shared[upload.stream]
        lists = [upload.bucket.get(name) or [] for name in upload.bucket.versions if shared.get(name)]
        lists += [each.sent for each in self.uploads.values() if each.bucket is upload.bucket and each.dedupe]
        return dict.fromkeys(chunk for chunks in lists for chunk in chunks)

    def _is_over(self, each: Upload | Reading, request: ob.UploadChunks | ob.FinishUpload | ob.ReadChunks) -> bool:
        """Return True, once that is compared, if the bucket of an upload or a reading was deleted."""
        bucket = self.buckets.get(each.stream)
        if bucket is None:
            self._ask(request, True, outcomes.NO_SUCH_BUCKET)
        elif bucket is not each.bucket:
            self._refused(request, Status.ABORTED)
        return bucket is not each.bucket

    def finish_upload(self) -> None:
        """Make an object of an upload; sometimes with a count that is wrong."""
        if not self.uploads:
            return
        token = self.track.pick("upload", list(self.uploads))
        upload = self.uploads[token]
        count = len(upload.sent) + (1 if self.track.draw("odd count", 20) == 19 else 0)
        digest = sha256(b"".join(upload.sent)).digest()
        request = ob.FinishUpload(upload.stream, token, count, 0, digest, b"")
        if self._is_over(upload, request):
            return
        if count != len(upload.sent):
            self._refused(request, Status.ABORTED)
            return
        found = self._ask(request, False, outcomes.NO_SUCH_BUCKET)
        assert found is not None
        upload.bucket.put(upload.name, upload.sent, self.now.wall_ms)
        self.shared[upload.stream][upload.name] = upload.dedupe
        self._number(upload.stream, upload.name, found[0].value)
        del self.uploads[token]
        self.node.cancel(token)

    def _number(self, stream: str, name: str, value: object) -> None:
        """Note the number of the version that was made: greater than all before it."""
        assert isinstance(value, tuple)
        revision, time_ms = value
        self._require(revision > self._last_revision[stream], name, "a revision above all others", revision)
        self._same((name, revision), self.now.wall_ms, time_ms)
        self._last_revision[stream] = revision
        version = self.buckets[stream].latest(name)
        assert version is not None
        version.revision = revision

    def end_upload(self) -> None:
        """Give an upload up."""
        if self.uploads:
            token = self.track.pick("upload", list(self.uploads))
            del self.uploads[token]
            self.node.cancel(token)

    # ------------------------------------------------------------ readings

    def open_object(self) -> None:
        """Begin to read the latest version, or one that is named."""
        stream, bucket = self._bucket()
        name = self._name()
        version = bucket.latest(name) if bucket is not None else None
        revision = self.track.pick("revision", (0, 0, version.revision if version else 7, 1))
        request = ob.OpenObject(stream, name, revision)
        if bucket is None:
            self._ask(request, True, outcomes.NO_SUCH_BUCKET)
        elif version is None or version.chunks is None:
            self._ask(request, True, outcomes.NO_SUCH_OBJECT)
        elif revision not in (0, version.revision):
            self._ask(request, True, outcomes.INCOMPLETE)
        elif self._count(self.readings, bucket) == LIMITS.object_readings_max:
            self._refused(request, Status.RESOURCE_EXHAUSTED)
        else:
            found = self._ask(request, False, outcomes.NO_SUCH_OBJECT)
            assert found is not None
            metadata = self._metadata(request, version, found[1])
            self.readings[self.node.last_token] = Reading(bucket, stream, metadata, version.chunks)

    def _metadata(self, request: object, version: NaiveVersion, got: Sequence[ReceivedMessage]) -> Metadata:
        """Return the metadata of a live version, once it is compared."""
        assert version.chunks is not None
        self._same(request, [version.revision], [message.seq for message in got])
        metadata = decode_metadata(decode_body(got[0].body)[2])
        payload = b"".join(version.chunks)
        wanted = (len(version.chunks), len(payload), sha256(payload).digest())
        self._same(request, wanted, (metadata.chunks.count, metadata.chunks.total_bytes, metadata.sha256))
        return metadata

    def read_chunks(self) -> None:
        """Read a part of an object that is open, whatever has become of it since."""
        if not self.readings:
            return
        track = self.track
        token = track.pick("reading", list(self.readings))
        reading = self.readings[token]
        total = sum(map(len, reading.chunks))
        offset = track.draw("offset", total + 1) if track.draw("part", 2) else 0
        length = track.draw("length", total + 1) if track.draw("part", 2) else total
        ranges, begin = reading.metadata.chunks.covering(offset, length, READ_AT_ONCE, 1 << 30)
        if not ranges:
            return
        request = ob.ReadChunks(reading.stream, token, ranges)
        if self._is_over(reading, request):
            return
        found = self._ask(request, False, outcomes.INCOMPLETE)
        assert found is not None
        data = b"".join(decode_body(message.body)[2] for message in found[1])
        wanted = b"".join(reading.chunks)[offset : offset + length]
        self._same(request, wanted, data[offset - begin : offset - begin + length])

    def end_reading(self) -> None:
        """End a reading."""
        if self.readings:
            token = self.track.pick("reading", list(self.readings))
            del self.readings[token]
            self.node.cancel(token)

    # ------------------------------------------------------------ names

    def delete_object(self) -> None:
        """Delete an object."""
        stream, bucket = self._bucket()
        name = self._name()
        request = ob.DeleteObject(stream, name)
        found = self._ask(request, bucket is None, outcomes.NO_SUCH_BUCKET)
        if bucket is None or found is None:
            return
        latest = bucket.latest(name)
        if bucket.delete(name, self.now.wall_ms):
            self._number(stream, name, found[0].value)
        else:
            self._same(request, (latest.revision if latest else 0, 0), found[0].value)

    def find_object(self) -> None:
        """Look an object up."""
        stream, bucket = self._bucket()
        request = ob.FindObject(stream, self._name())
        version = bucket.latest(request.name) if bucket is not None else None
        missing = bucket is None or version is None
        code = outcomes.NO_SUCH_BUCKET if bucket is None else outcomes.NO_SUCH_OBJECT
        found = self._ask(request, missing, code)
        if found is None or version is None:
            return
        if version.chunks is None:
            self._same(request, None, found[0].value)
        else:
            self._metadata(request, version, found[1])

    def list_objects(self) -> None:
        """List objects, a page at most."""
        track, (stream, bucket) = self.track, self._bucket()
        prefix, after = track.pick("prefix", ("", "a", "a.", "b")), track.pick("after", ("", "a", "a.b", "z"))
        deleted, limit = track.draw("deleted", 2) == 1, track.pick("limit", (0, 1, 2, 6))
        request = ob.ListObjects(stream, prefix, deleted, after, limit)
        found = self._ask(request, bucket is None, outcomes.NO_SUCH_BUCKET)
        if bucket is None or found is None:
            return
        assert isinstance(found[0].value, Page)
        names = [name for name in bucket.names(prefix, include_deleted=deleted) if not after or name > after]
        shown = names[: limit or len(names)]
        rows = [(name, sum(map(len, bucket.get(name) or ())), bucket.get(name) is None) for name in shown]
        real = [(each.name, each.total_bytes, each.deleted) for each in found[0].value.entries]
        self._same(request, rows, real)
        self._same(request, shown[-1] if len(shown) < len(names) else "", found[0].value.next_after)

    def list_revisions(self) -> None:
        """List the revisions of an object."""
        track, (stream, bucket) = self.track, self._bucket()
        name = self._name()
        versions = bucket.versions.get(name, []) if bucket is not None else []
        first = track.pick("from", (0, 0, versions[-1].revision if versions else 5))
        limit = track.pick("limit", (0, 1, 2))
        request = ob.ListObjectRevisions(stream, name, first, limit)
        found = self._ask(request, bucket is None, outcomes.NO_SUCH_BUCKET)
        if bucket is not None and found is not None:
            wanted = [(each.revision, each.chunks is None) for each in versions if each.revision >= first]
            real = [(message.seq, decode_metadata(decode_body(message.body)[2]).deleted) for message in found[1]]
            self._same(request, wanted[: limit or 100], real)

    # ------------------------------------------------------------ time and restarts

    def sweep(self) -> None:
        """Forget deleted names whose time is over."""
        for bucket in self.buckets.values():
            bucket.sweep(self.now.wall_ms)

    def restart(self) -> None:
        """Restart the node: what was under way is over."""
        super().restart()
        self.uploads, self.readings = {}, {}

    def rest(self) -> None:
        """End all that is under way, let every wait pass, and count what is left."""
        for token in [*self.uploads, *self.readings]:
            self.node.cancel(token)
        self.uploads, self.readings = {}, {}
        self._wait(LIMITS.object_tombstone_ms + LIMITS.object_grace_ms)
        for stream, bucket in self.buckets.items():
            found = self._ask(GetStreamInfo(stream), False, outcomes.NO_SUCH_STREAM)
            assert found is not None and isinstance(found[0].value, StreamInfo)
            self._same(
                (stream, "at rest"), bucket.messages_at_rest(self.shared[stream]), found[0].value.stats.msg_count
            )


def _chunks(upload: Upload, token: Token, index: int, chunks: Sequence[bytes]) -> ob.UploadChunks:
    """Make the request that stores chunks, as a server does."""
    subjects = [
        shared_chunk_subject(sha256(chunk).digest()) if upload.dedupe else chunk_subject(upload.name, index + place)
        for place, chunk in enumerate(chunks)
    ]
    bodies = [subject_field(subject) + payload_field(chunk) for subject, chunk in zip(subjects, chunks, strict=True)]
    return ob.UploadChunks(upload.stream, token, index, subjects, list(map(len, chunks)), bodies)
