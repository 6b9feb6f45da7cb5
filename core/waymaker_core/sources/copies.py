"""Copies of a source's messages: their subjects, their headers, and which messages cannot be copied for their own sake.

A copy is the source's stored body under the subject that the transform makes of it, with headers that say where it came from.
The payload and all other headers are carried over byte for byte. Clients cannot set these headers, so they prove provenance.
The copy of a copy has one set of them, its own source's; the very first set is kept under `waymaker-source-origin-`.

Made for thousands of messages at a time: what depends on a subject is made once for each subject. It must never decide
what is stored, or look at a stream.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

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
    `facts`: what another layer of the stream is given instead of copies.
    """

    subjects: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    taken: int = 0
    facts: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class CopyBounds:
    """Bounds of a stream: `message`, payload and headers of one; `stored` (0: any), that with its subject; `record`, a record's
    copies together.
    """

    message: int
    stored: int
    record: int


class _Made(NamedTuple):
    """Parts that all copies at one subject have in common."""

    target: str
    head: bytes
    """The beginning of a copy, with places for the sequence and the time of its original."""
    behind: int
    """Length of the original's subject field, which the copy does not have."""
    subject_bytes: int


class CopyRule:
    """Makes the copies of one source."""

    failed = "cannot be copied"

    def __init__(self, source: SourceConfig, limits: Limits) -> None:
        rule = source.subject_transform
        self._source = source
        self._transform: Transform | None = None if rule is None else parse(*rule, limits)
        self._stream_header = header_field(STREAM, source.source_stream)
        self._digits = (0, 0)
        """Digits of sequence and time for which the beginnings are made: they determine lengths inside of them."""
        self._known: dict[str, _Made | None] = {}
        """By subject; None where it cannot be transformed."""

    def take_messages(self, messages: SourceMessages, bounds: CopyBounds) -> Copies:
        """Make the copies of messages, as many as fit one record. A message over a bound by itself fails."""
        digits = _digits(messages)
        made = self._made(messages.subjects, digits) if digits else []
        if (
            made
            and None not in made
            and not bounds.stored
            and max(messages.sizes) <= bounds.message
            and _MARKER not in b"".join(messages.bodies)
        ):
            return _cut(_make_alike(messages, made), bounds.record)  # type: ignore[arg-type]
        return self._make_each(messages, bounds)

    def _made(self, subjects: list[str], digits: tuple[int, int]) -> list[_Made | None]:
        """Return what copies at each subject have in common, for sequences and times of so many digits."""
        if digits != self._digits or len(self._known) > SUBJECTS_REMEMBERED:
            self._digits = digits
            self._known.clear()
        known = self._known
        for subject in dict.fromkeys(subjects):
            if subject not in known:
                known[subject] = self._learn(subject, digits)
        return [known[subject] for subject in subjects]

    def _learn(self, subject: str, digits: tuple[int, int]) -> _Made | None:
        target = subject if self._transform is None else self._transform.apply(subject)
        if target is None:
            return None
        fixed = subject_field(target) + self._stream_header + header_field(SUBJECT, subject)
        head = fixed.replace(b"%", b"%%") + _SEQ_HEADERS[digits[0]] + b"%d" + _TIME_HEADERS[digits[1]] + b"%d"
        return _Made(target, head, len(subject_field(subject)), len(subject.encode()))

    def _make_each(self, messages: SourceMessages, bounds: CopyBounds) -> Copies:
        """Make copies one by one, and find out which messages cannot be copied."""
        copies = Copies()
        room = bounds.record
        columns = zip(messages.seqs, messages.times_ms, messages.subjects, messages.sizes, messages.bodies, strict=True)
        for place, (seq, time_ms, subject, stored, body) in enumerate(columns):
            digits = len(str(seq)), len(str(time_ms))
            made = self._made([subject], digits)[0]
            if made is None:
                assert self._transform is not None
                copies.failures.append(Failure(place, self._transform.fault(subject)))
                continue
            size = stored - made.subject_bytes
            fault = _oversize(size, made.target, bounds)
            if fault:
                copies.failures.append(Failure(place, fault))
                continue
            if _MARKER in body:
                copy = self._copy_again(seq, time_ms, subject, made.target, body)
            else:
                copy = made.head % (seq, time_ms) + body[made.behind :]
            room -= len(copy)
            if room < 0 and copies.bodies:
                copies.taken = place
                return copies
            copies.subjects.append(made.target)
            copies.sizes.append(size)
            copies.bodies.append(copy)
        copies.taken = len(messages.bodies)
        return copies

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


def _digits(messages: SourceMessages) -> tuple[int, int] | None:
    """Return the digits of all sequences and of all times, if each has as many."""
    if not messages.bodies:
        return None
    seqs, times_ms = messages.seqs, messages.times_ms
    first, last = len(str(seqs[0])), len(str(seqs[-1]))
    low, high = len(str(min(times_ms))), len(str(max(times_ms)))
    return (first, low) if first == last and low == high else None


def _make_alike(messages: SourceMessages, made: list[_Made]) -> Copies:
    """Make copies where each message can be copied, and none is a copy itself."""
    columns = zip(made, messages.seqs, messages.times_ms, messages.bodies, strict=True)
    return Copies(
        [each.target for each in made],
        [size - each.subject_bytes for size, each in zip(messages.sizes, made, strict=True)],
        [head % (seq, time_ms) + body[behind:] for (_, head, behind, _), seq, time_ms, body in columns],
        [],
        len(made),
    )


def _cut(copies: Copies, room: int) -> Copies:
    """Leave off the copies that do not fit one record; the first one fits in any case."""
    if sum(map(len, copies.bodies)) > room:
        fits = max(1, bisect_right(list(accumulate(map(len, copies.bodies))), room))
        del copies.subjects[fits:], copies.sizes[fits:], copies.bodies[fits:]
        copies.taken = fits
    return copies


def _oversize(size: int, target: str, bounds: CopyBounds) -> str:
    if size > bounds.message:
        return f"{size} bytes of payload and headers; the stream takes at most {bounds.message} (max_msg_bytes)"
    stored = size + len(target.encode())
    if 0 < bounds.stored < stored:
        return f"{stored} bytes stored; max_bytes of the whole stream is {bounds.stored}"
    return ""
