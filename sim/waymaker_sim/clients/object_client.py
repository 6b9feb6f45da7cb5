"""The object client: uploads, replaces, deletes and reads objects of one bucket, step by step, while faults happen.

Several uploads and readings are under way at a time, of few names and of payloads that have chunks in common. Each reading must
give the payload of one upload, however long it lasts. At rest the bucket holds what its objects name and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Final

from waymaker_core.api.inputs import Cancel
from waymaker_core.api.object_requests import (
    BeginUpload,
    DeleteObject,
    FindObject,
    FinishUpload,
    ListObjectRevisions,
    ListObjects,
    OpenObject,
    ReadChunks,
    UploadChunks,
)
from waymaker_core.api.requests import CreateStream, Page, Request
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.message_codec import decode_body, payload_field, subject_field
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_core.model.types import Token
from waymaker_core.objects.metadata import Metadata, decode_metadata
from waymaker_core.objects.names import chunk_subject, shared_chunk_subject, stream_name
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.observations import Asker, SeenStream
from waymaker_sim.machine.process import ReceivedMessage, StepId
from waymaker_sim.machine.process_state import State
from waymaker_sim.machine.swarm import Plan

BUCKET: Final = stream_name("o")
NAMES: Final = ("a", "b", "c.d", "")
CHUNKS: Final = (b"one", b"two", b"three" * 40, b"four", b"one")
"""The contents of chunks: few, so that objects share them."""
UNDER_WAY_MAX: Final = 3
"""Uploads, and readings, under way at a time."""


@dataclass(slots=True, eq=False)
class Write:
    """The end of an upload, or a deletion (`payload` is None), and what is known of it.

    `revision` is 0 until it is known. `open`: it may have happened, or may still happen.
    """

    name: str
    payload: bytes | None
    revision: int = 0
    open: bool = True


@dataclass(slots=True, eq=False)
class _Upload:
    name: str
    dedupe: bool
    term: int
    token: Token
    wanted: list[bytes]
    sent: int = 0
    waiting: int = 0
    refused: bool = False
    """True if a chunk was refused: the node takes none behind it."""


@dataclass(slots=True, eq=False)
class _Reading:
    name: str
    term: int
    token: Token
    metadata: Metadata
    payload: bytes
    got: bytearray = field(default_factory=bytearray)
    waiting: bool = False


class ObjectClient:
    """Every step of every object goes through here; one client, for what was confirmed to one is seen by all."""

    def __init__(self, view: ClientView, track: Track, plan: Plan) -> None:
        self.view = view
        self.track = track
        self.plan = plan
        self.made = False
        self._busy = False
        self._uploads: list[_Upload] = []
        self._readings: list[_Reading] = []
        self._opening = 0
        self._writes: list[Write] = []
        self._latest: dict[str, int] = {}
        """By name, the greatest revision that was confirmed."""
        view.others.append(BUCKET)

    # ------------------------------------------------------------ turns

    def act(self) -> None:
        """Take one step of one object."""
        self.track.begin()
        if not self.made:
            self._make()
            return
        kind = self.track.weighted(
            "object", ((1, "rest"), (3, "upload"), (6, "send"), (4, "finish"), (4, "open"), (6, "read"), (1, "delete"),
                       (1, "drop"), (1, "leave"), (1, "list")),
        )  # fmt: skip
        if kind == "upload" and len(self._uploads) < UNDER_WAY_MAX:
            self._begin()
        elif kind in ("send", "finish", "drop") and self._uploads:
            upload = self.track.pick("which upload", self._uploads)
            {"send": self._send, "finish": self._finish, "drop": self._drop}[kind](upload)
        elif kind == "open" and len(self._readings) + self._opening < UNDER_WAY_MAX:
            self._open(self.track.pick("name", NAMES))
        elif kind in ("read", "leave") and self._readings:
            reading = self.track.pick("which reading", self._readings)
            if kind == "read":
                self._read(reading)
            else:
                self._close(reading)
        elif kind == "delete":
            self._delete(self.track.pick("name", NAMES))
        elif kind == "list":
            self.view.ask(ListObjects(BUCKET, "", True, "", 2), self._listed, _nothing)

    def _make(self) -> None:
        if self._busy:
            return

        def made(ask: Ask, answer: Answer | Refusal, got: object, step_id: StepId) -> None:
            self._busy = False
            if isinstance(answer, Answer) and answer.code in (outcomes.OK, outcomes.ALREADY_EXISTS):
                self.made = True

        def lost() -> None:
            self._busy = False

        config = StreamConfig(BUCKET, block_size=self.track.pick("block", [0, 20, 3, 1]))
        self._busy = self.view.ask(CreateStream(config), made, lost) is not None

    # ------------------------------------------------------------ uploads

    def _begin(self) -> None:
        name, dedupe = self.track.pick("name", NAMES), self.track.draw("dedupe", 2) == 1
        wanted = [self.track.pick("chunk", CHUNKS) for _ in range(self.track.draw("chunks", 6))]
        ask = self.view.ask(BeginUpload(BUCKET, name, dedupe), partial(self._begun, name, dedupe, wanted), _nothing)
        if ask is not None and ask.token is not None and self.track.draw("gone at once", 20) == 19:
            ask.cancel()

    def _begun(
        self,
        name: str,
        dedupe: bool,
        wanted: list[bytes],
        ask: Ask,
        answer: Answer | Refusal,
        got: object,
        step_id: StepId,
    ) -> None:
        assert ask.token is not None
        if isinstance(answer, Answer) and answer.code == outcomes.OK:
            # Some payloads differ from all others, so that a mixture of two is never mistaken for a third.
            unique = b"%d" % ask.token
            self._uploads.append(_Upload(name, dedupe, self.view.process.term, ask.token, [unique, *wanted]))
        else:
            self._end(ask.token)

    def _send(self, upload: _Upload) -> None:
        count = 1 + self.track.draw("at once", 3)
        chunks = upload.wanted[upload.sent : upload.sent + count]
        if not chunks or (upload.waiting and not self.track.draw("ahead", 2)):
            return
        subjects = [
            shared_chunk_subject(sha256(chunk).digest())
            if upload.dedupe
            else chunk_subject(upload.name, upload.sent + place)
            for place, chunk in enumerate(chunks)
        ]
        bodies = [subject_field(s) + payload_field(chunk) for s, chunk in zip(subjects, chunks, strict=True)]
        request = UploadChunks(BUCKET, upload.token, upload.sent, subjects, list(map(len, chunks)), bodies)
        if self.view.ask(request, partial(self._sent, upload), partial(self._forget_upload, upload)) is not None:
            upload.sent += len(chunks)
            upload.waiting += 1

    def _sent(self, upload: _Upload, ask: Ask, answer: Answer | Refusal, got: object, step_id: StepId) -> None:
        upload.waiting -= 1
        if isinstance(answer, Refusal):
            self._check_over(upload.term, upload.refused, answer, "an upload")
            upload.refused = True

    def _finish(self, upload: _Upload) -> None:
        if upload.waiting or (upload.sent < len(upload.wanted) and self.track.draw("short", 10) != 9):
            return
        payload = b"".join(upload.wanted[: upload.sent])
        write = Write(upload.name, payload)
        digest = sha256(payload).digest()
        request = FinishUpload(BUCKET, upload.token, upload.sent, 0, digest, b"")
        lost = partial(self._forget_upload, upload)
        ask = self.view.ask(request, partial(self._finished, upload, write), lost)
        if ask is not None:
            self._writes.append(write)
            self._uploads.remove(upload)
            if self.track.draw("gone", 20) == 19 and ask.token is not None:
                ask.cancel()
                self._end(upload.token)

    def _finished(
        self, upload: _Upload, write: Write, ask: Ask, answer: Answer | Refusal, got: object, step_id: StepId
    ) -> None:
        self._end(upload.token)
        if isinstance(answer, Refusal):
            if answer.status is Status.ABORTED and answer.outcome is Outcome.NOT_APPLIED:
                self._check_over(upload.term, upload.refused, answer, "the end of an upload")
            write.open = answer.outcome is not Outcome.NOT_APPLIED
            return
        require(
            not upload.refused, "object whole", f"an upload of {write.name!r} ended well though a chunk was refused"
        )
        self._confirmed(write, answer)

    def _drop(self, upload: _Upload) -> None:
        self._uploads.remove(upload)
        self._end(upload.token)
        upload.refused = True  # chunks that wait for an index or for free space find it over
        self.view.mark("upload given up")

    def _forget_upload(self, upload: _Upload) -> None:
        if upload in self._uploads:
            self._uploads.remove(upload)

    def _delete(self, name: str) -> None:
        write = Write(name, None)
        if self.view.ask(DeleteObject(BUCKET, name), partial(self._deleted, write), _nothing) is not None:
            self._writes.append(write)

    def _deleted(self, write: Write, ask: Ask, answer: Answer | Refusal, got: object, step_id: StepId) -> None:
        if isinstance(answer, Refusal):
            write.open = answer.outcome is not Outcome.NOT_APPLIED
        elif isinstance(answer.value, tuple) and answer.value[0]:
            self._confirmed(write, answer)
        else:
            write.open = False

    def _confirmed(self, write: Write, answer: Answer) -> None:
        """Note a revision whose end is known."""
        require(answer.code == outcomes.OK, "object kept", f"a write of {write.name!r} ended with {answer!r}")
        assert isinstance(answer.value, tuple)
        revision = answer.value[0]
        for other in self._writes:
            if other is not write and other.name == write.name and other.revision == revision:
                # A reader took it for another one with the same payload whose outcome is not known; or a tombstone twice.
                require(
                    other.payload == write.payload,
                    "object whole",
                    f"two writes of {write.name!r} are revision {revision}",
                )
                if write.payload is not None:
                    other.revision, other.open = 0, True
        write.revision, write.open = revision, False
        self._latest[write.name] = max(self._latest.get(write.name, 0), revision)
        self.view.mark("object stored" if write.payload is not None else "object deleted")

    # ------------------------------------------------------------ readings

    def _open(self, name: str) -> None:
        least = self._latest.get(name, 0)

        def lost() -> None:
            self._opening -= 1

        if self.view.ask(OpenObject(BUCKET, name), partial(self._opened, name, least), lost) is not None:
            self._opening += 1

    def _opened(
        self,
        name: str,
        least: int,
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        assert ask.token is not None
        self._opening -= 1
        if not got:
            self._end(ask.token)
            if isinstance(answer, Answer):
                self._check_absence(name, least)
            return
        metadata = decode_metadata(decode_body(got[0].body)[2])
        write = self._identify(name, got[0].seq, metadata, least)
        assert write.payload is not None
        self._readings.append(_Reading(name, self.view.process.term, ask.token, metadata, write.payload))

    def _check_absence(self, name: str, least: int) -> None:
        """Require a reason for which an object is not there: a deletion after what was confirmed before the call."""
        if not least or not any(write.revision == least and write.payload is not None for write in self._of(name)):
            return
        deleted = any(write.payload is None and (write.open or write.revision > least) for write in self._of(name))
        require(deleted, "object kept", f"{name!r} was stored as revision {least}, and is not there")

    def _identify(self, name: str, revision: int, metadata: Metadata, least: int) -> Write:
        """Return the write that a revision is. A reader may be the first to learn that one has happened."""
        require(revision >= least, "object kept", f"{name!r} is revision {revision}, and {least} was confirmed before")
        known = [write for write in self._of(name) if write.revision == revision and write.payload is not None]
        found = known or [
            write for write in self._of(name)
            if write.open and not write.revision and write.payload is not None
            and sha256(write.payload).digest() == metadata.sha256
        ]  # fmt: skip
        if not found:
            violated("object whole", f"revision {revision} of {name!r} is what nobody stored")
        write = found[0]
        write.revision = revision
        assert write.payload is not None
        require(
            sha256(write.payload).digest() == metadata.sha256 and metadata.chunks.total_bytes == len(write.payload),
            "object whole", f"revision {revision} of {name!r} has the metadata of another payload",
        )  # fmt: skip
        return write

    def _of(self, name: str) -> list[Write]:
        return [write for write in self._writes if write.name == name]

    def _read(self, reading: _Reading) -> None:
        if reading.waiting:
            return
        chunks = reading.metadata.chunks
        ranges, _ = chunks.covering(len(reading.got), chunks.total_bytes, 1 + self.track.draw("chunks", 3), 1 << 20)
        if not ranges:
            self._close(reading)
            return
        request = ReadChunks(BUCKET, reading.token, ranges)
        reading.waiting = (
            self.view.ask(request, partial(self._was_read, reading), partial(self._forget_reading, reading)) is not None
        )

    def _was_read(
        self, reading: _Reading, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        reading.waiting = False
        if reading not in self._readings:
            return  # it was closed while the call waited
        if isinstance(answer, Refusal):
            self._check_over(reading.term, False, answer, "a reading")
            self._close(reading)
            return
        if got is None:
            violated("object whole", f"{reading.name!r} is being read, and its chunks are gone: {answer!r}")
        for message in got:
            reading.got += decode_body(message.body)[2]
        require(
            reading.payload.startswith(bytes(reading.got)), "object whole",
            f"{reading.name!r} reads {bytes(reading.got)[:80]!r}, and {reading.payload[:80]!r} was stored",
        )  # fmt: skip
        if len(reading.got) == len(reading.payload):
            self.view.mark("object read")

    def _close(self, reading: _Reading) -> None:
        self._forget_reading(reading)
        self._end(reading.token)

    def _forget_reading(self, reading: _Reading) -> None:
        if reading in self._readings:
            self._readings.remove(reading)

    def _check_over(self, term: int, refused: bool, refusal: Refusal, what: str) -> None:
        """Require a reason for which the node knows an upload or a reading no longer."""
        if refusal.status is Status.ABORTED and refusal.outcome is Outcome.NOT_APPLIED:
            require(
                refused or self.view.process.term != term, "object whole",
                f"{what} is over, and nothing has ended it: {refusal.message}",
            )  # fmt: skip

    def _listed(self, ask: Ask, answer: Answer | Refusal, got: object, step_id: StepId) -> None:
        if isinstance(answer, Answer) and isinstance(answer.value, Page):
            names = [entry.name for entry in answer.value.entries]
            require(
                names == sorted(names) and all(name in NAMES for name in names), "object kept", f"a list says {names}"
            )

    # ------------------------------------------------------------ at rest

    def settle(self) -> None:
        """End all that is under way, and let the grace periods pass."""
        for upload in self._uploads:
            self._end(upload.token)
        for reading in self._readings:
            self._end(reading.token)
        self._uploads.clear()
        self._readings.clear()
        limits = self.plan.limits
        wait_ns = (limits.object_grace_ms + limits.object_tombstone_ms) * MS + 10 * SECOND
        self.view.events.run_until(self.view.events.now_ns + wait_ns)

    def audit(self, asker: Asker, seen: SeenStream | str | None) -> None:
        """Compare what is there with what was stored: every object whole, and nothing that no object names."""
        if not isinstance(seen, SeenStream):
            require(not self.made or isinstance(seen, str), "acked survives", f"{BUCKET} was created and is not there")
            return
        bodies = {message.seq: message.body for message in seen.messages}
        there: dict[int, None] = {}
        for name in NAMES:
            least = self._latest.get(name, 0)
            revisions = self._ask(asker, ListObjectRevisions(BUCKET, name, 0, 5))
            from_seq = 0
            while revisions:
                there.update(dict.fromkeys(message.seq for message in revisions))
                from_seq = revisions[-1].seq + 1
                revisions = self._ask(asker, ListObjectRevisions(BUCKET, name, from_seq, 5))
            got = self._ask(asker, FindObject(BUCKET, name))
            if not got:
                self._check_absence(name, least)
                continue
            metadata = decode_metadata(decode_body(got[0].body)[2])
            write = self._identify(name, got[0].seq, metadata, least)
            seqs = list(metadata.chunks.sequences())
            require(all(seq in bodies for seq in seqs), "object whole", f"chunks of {name!r} are not there")
            payload = b"".join(decode_body(bodies[seq])[2] for seq in seqs)
            require(payload == write.payload, "object whole", f"{name!r} holds {payload[:80]!r}, not {write.payload!r}")
            there.update(dict.fromkeys(seqs))
            self.view.mark("object audited")
        left = [seq for seq in bodies if seq not in there]
        require(not left, "chunks collected", f"no object names the messages {left[:10]} of {len(bodies)}")

    def _end(self, token: Token) -> None:
        """End what an answered call has begun."""
        process = self.view.process
        if process.state is State.UP:
            process._add_input(Cancel(token))

    def _ask(self, asker: Asker, request: Request) -> list[ReceivedMessage]:
        answer, got = asker.ask(request)
        if isinstance(answer, Refusal):
            violated("progress", f"at rest {type(request).__name__} ended with {answer!r}")
        return got or []


def _nothing() -> None:
    """Note nothing."""
