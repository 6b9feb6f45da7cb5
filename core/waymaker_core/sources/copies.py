"""Copies of a source's messages: their subjects, their headers, and which messages cannot be copied for their own sake.

A copy is the source's stored body under the subject that the transform makes of it, with headers that say where it came from.
The payload and all other headers are carried over byte for byte. Clients cannot set these headers, so they prove provenance.
The copy of a copy has one set of them, its own source's; the very first set is kept under `waymaker-source-origin-`.

Made for thousands of messages at a time: what depends on a subject is made once for each subject. It must never decide
what is stored, or look at a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from waymaker_core.model.config import SourceConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body, header_field, readdress, subject_field
from waymaker_core.sources.transform import Transform, parse

PREFIX = "waymaker-source-"
STREAM = PREFIX + "stream"
SEQ = PREFIX + "seq"
SUBJECT = PREFIX + "subject"
TIME = PREFIX + "ts-ms"
ORIGIN_PREFIX = PREFIX + "origin-"
SUBJECTS_REMEMBERED = 10_000
"""Subjects of one source whose transformed subject and headers are remembered."""

_MARKER = PREFIX.encode()
_SEQ_HEADERS = [header_field(SEQ, "0" * digits)[: -digits or None] for digits in range(20)]
_TIME_HEADERS = [header_field(TIME, "0" * digits)[: -digits or None] for digits in range(20)]
"""A header up to its value, by the length of the value."""


@dataclass(slots=True, eq=False)
class SourceMessages:
    """Messages of a source in its order, as columns; `sizes` are as stored, with the subject."""

    seqs: Sequence[int]
    times_ms: Sequence[int]
    subjects: list[str]
    sizes: Sequence[int]
    bodies: list[bytes]


@dataclass(slots=True, eq=False)
class Failure:
    """A message that cannot be copied for its own sake: its place in the columns, and the reason."""

    place: int
    reason: str


@dataclass(slots=True, eq=False)
class Copies:
    """Copies as columns for `layers.decide`, `sizes` without their subjects, and the messages that could not be copied.

    `taken`: how many messages of those given these are, from the first on. The others were more than one record takes.
    """

    subjects: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    taken: int = 0


@dataclass(slots=True, eq=False)
class CopyBounds:
    """Bounds of a stream: `message`, payload and headers of one; `stored` (0: any), that with its subject; `record`, a record's
    copies together.
    """

    message: int
    stored: int
    record: int


class CopyRule:
    """Makes the copies of one source."""

    def __init__(self, source: SourceConfig, limits: Limits) -> None:
        rule = source.subject_transform
        self._source = source
        self._transform: Transform | None = None if rule is None else parse(*rule, limits)
        self._stream_header = header_field(STREAM, source.source_stream)
        self._known: dict[str, tuple[str, bytes, int, int]] = {}
        """By subject: that of the copy, the copy's beginning, the length of the original's, the bytes of the subject."""

    def make(self, messages: SourceMessages, bounds: CopyBounds) -> Copies:
        """Make the copies of messages, as many as fit one record. A message over a bound by itself fails."""
        size_max, stored_max, room = bounds.message, bounds.stored, bounds.record
        copies = Copies()
        subjects, sizes, bodies = copies.subjects, copies.sizes, copies.bodies
        known = self._known
        columns = zip(messages.seqs, messages.times_ms, messages.subjects, messages.sizes, messages.bodies, strict=True)
        for place, (seq, time_ms, subject, stored, body) in enumerate(columns):
            made = known.get(subject) or self._learn(subject)
            if made is None:
                assert self._transform is not None
                copies.failures.append(Failure(place, self._transform.fault(subject)))
                continue
            target, head, behind, subject_bytes = made
            size = stored - subject_bytes
            if size > size_max or (stored_max and size + len(target.encode()) > stored_max):
                copies.failures.append(Failure(place, _oversize(size, size_max, target, stored_max)))
                continue
            if _MARKER in body:
                copy = self._copy_again(seq, time_ms, subject, target, body)
            else:
                number, time = b"%d" % seq, b"%d" % time_ms
                seq_head, time_head = _SEQ_HEADERS[len(number)], _TIME_HEADERS[len(time)]
                copy = b"".join((head, seq_head, number, time_head, time, body[behind:]))
            room -= len(copy)
            if room < 0 and bodies:
                copies.taken = place
                return copies
            subjects.append(target)
            sizes.append(size)
            bodies.append(copy)
        copies.taken = len(messages.bodies)
        return copies

    def _learn(self, subject: str) -> tuple[str, bytes, int, int] | None:
        target = subject if self._transform is None else self._transform.apply(subject)
        if target is None:
            return None
        head = subject_field(target) + self._stream_header + header_field(SUBJECT, subject)
        if len(self._known) >= SUBJECTS_REMEMBERED:
            self._known.clear()
        made = target, head, len(subject_field(subject)), len(subject.encode())
        self._known[subject] = made
        return made

    def _copy_again(self, seq: int, time_ms: int, subject: str, target: str, body: bytes) -> bytes:
        """Make the copy of a message that may be a copy itself."""
        marks = [
            (STREAM, self._source.source_stream),
            (SUBJECT, subject),
            (SEQ, str(seq)),
            (TIME, str(time_ms)),
        ]
        earlier = [(key, value) for key, value in decode_body(body)[1] if key.startswith(PREFIX)]
        origin = [(key, value) for key, value in earlier if key.startswith(ORIGIN_PREFIX)]
        marks += origin or [(ORIGIN_PREFIX + key.removeprefix(PREFIX), value) for key, value in earlier]
        return readdress(body, target, marks, drop_prefix=PREFIX)


def _oversize(size: int, size_max: int, target: str, stored_max: int) -> str:
    if size > size_max:
        return f"{size} bytes of payload and headers; the stream takes at most {size_max} (max_msg_bytes)"
    return f"{size + len(target.encode())} bytes stored; max_bytes of the whole stream is {stored_max}"
