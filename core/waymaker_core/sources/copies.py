"""Copies of a source's messages: their subjects, their headers, and which messages cannot be copied for their own sake.

A copy is the source's stored body under the subject that the transform makes of it, with headers that say where it came from.
The payload and all other headers are carried over byte for byte. Clients cannot set these headers, so they prove provenance.
The copy of a copy has one set of them, its own source's; the very first set is kept under `waymaker-source-origin-`.

Made for thousands of messages at a time: what depends on a subject is made once for each subject, what depends on a time once
for each time. The copies of a record are joined here, so that nothing behind looks at each of them again. It must never decide
what is stored, or look at a stream.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter, sub
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


class Cut(NamedTuple):
    """Stored bodies in the bytes of one chunk: where each begins, and how long it is."""

    data: bytes
    starts: Sequence[int]
    lengths: Sequence[int]


@dataclass(slots=True, eq=False)
class SourceMessages:
    """Messages of a source in its order, as columns; `sizes` are as stored, with the subject.

    Their bodies stay in the chunks they were read in, `cuts`, until one is needed by itself.
    """

    seqs: Sequence[int]
    times_ms: Sequence[int]
    subjects: list[str]
    sizes: Sequence[int]
    cuts: list[Cut]
    _bodies: list[bytes] = field(default_factory=list)

    @property
    def bodies(self) -> list[bytes]:
        """Return the stored body of each message. They are cut out the first time."""
        if not self._bodies:
            for data, starts, lengths in self.cuts:
                self._bodies += [data[at : at + length] for at, length in zip(starts, lengths, strict=True)]
        return self._bodies

    def has(self, part: bytes) -> bool:
        """Return False if no body has these bytes in it; True if one may have."""
        searched = b""
        for data, _, _ in self.cuts:
            if data is not searched and part in data:
                return True
            searched = data
        return False


@dataclass(slots=True, eq=False)
class Failure:
    """A message that cannot be copied for its own sake: its place in the columns, and the reason."""

    place: int
    reason: str


@dataclass(slots=True, eq=False)
class Copies:
    """Copies as columns for `layers.decide`, `sizes` without their subjects, and the messages that could not be copied.

    `body` has the stored bodies one after the other; `lengths` says how long each is.

    `taken`: how many messages of those given these are, from the first on. The others were more than one record takes.
    `facts`: what another layer of the stream is given instead of copies.
    """

    subjects: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    lengths: array[int] = field(default_factory=lambda: array("I"))
    body: bytes = b""
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
    """The beginning of a copy, up to the sequence of its original."""
    behind: int
    """Length of the original's subject field, which the copy does not have."""
    subject_bytes: int


_TARGET, _SUBJECT_BYTES = attrgetter("target"), attrgetter("subject_bytes")


class CopyRule:
    """Makes the copies of one source."""

    failed = "cannot be copied"

    def __init__(self, source: SourceConfig, limits: Limits) -> None:
        rule = source.subject_transform
        self._source = source
        self._transform: Transform | None = None if rule is None else parse(*rule, limits)
        self._stream_header = header_field(STREAM, source.source_stream)
        self._digits = 0
        """Digits of the sequences for which the beginnings are made: they determine lengths inside of them."""
        self._known: dict[str, _Made | None] = {}
        """By subject; None where it cannot be transformed."""

    def take_messages(self, messages: SourceMessages, bounds: CopyBounds) -> Copies:
        """Make the copies of messages, as many as fit one record. A message over a bound by itself fails."""
        digits = _digits(messages.seqs) if messages.seqs else 0
        made = self._made(messages.subjects, digits) if digits else []
        if (
            made
            and None not in made
            and not bounds.stored
            and max(messages.sizes) <= bounds.message
            and not messages.has(_MARKER)
        ):
            return _make_alike(messages, made, bounds.record)  # type: ignore[arg-type]
        return self._make_each(messages, bounds)

    def _made(self, subjects: list[str], digits: int) -> list[_Made | None]:
        """Return what copies at each subject have in common, for sequences of so many digits."""
        if digits != self._digits or len(self._known) > SUBJECTS_REMEMBERED:
            self._digits = digits
            self._known.clear()
        known = self._known
        for subject in dict.fromkeys(subjects):
            if subject not in known:
                known[subject] = self._learn(subject, digits)
        return list(map(known.__getitem__, subjects))

    def _learn(self, subject: str, digits: int) -> _Made | None:
        target = subject if self._transform is None else self._transform.apply(subject)
        if target is None:
            return None
        head = subject_field(target) + self._stream_header + header_field(SUBJECT, subject) + _SEQ_HEADERS[digits]
        return _Made(target, head, len(subject_field(subject)), len(subject.encode()))

    def _make_each(self, messages: SourceMessages, bounds: CopyBounds) -> Copies:
        """Make copies one by one, and find out which messages cannot be copied."""
        copies = Copies(taken=len(messages.seqs))
        bodies: list[bytes] = []
        room = bounds.record
        columns = zip(messages.seqs, messages.times_ms, messages.subjects, messages.sizes, messages.bodies, strict=True)
        for place, (seq, time_ms, subject, stored, body) in enumerate(columns):
            made = self._made([subject], len(str(seq)))[0]
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
                copy = made.head + b"%d" % seq + _time_header(time_ms) + body[made.behind :]
            room -= len(copy)
            if room < 0 and bodies:
                copies.taken = place
                break
            copies.subjects.append(made.target)
            copies.sizes.append(size)
            bodies.append(copy)
        copies.lengths, copies.body = array("I", map(len, bodies)), b"".join(bodies)
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


def _digits(seqs: Sequence[int]) -> int:
    """Return the digits of all sequences, which ascend, if each has as many; else 0."""
    first, last = len(str(seqs[0])), len(str(seqs[-1]))
    return first if first == last else 0


def _time_header(time_ms: int) -> bytes:
    text = b"%d" % time_ms
    return _TIME_HEADERS[len(text)] + text


def _make_alike(messages: SourceMessages, made: list[_Made], room: int) -> Copies:
    """Make copies where each message can be copied, and none is a copy itself; the first one fits one record in any case."""
    times = {time_ms: _time_header(time_ms) for time_ms in dict.fromkeys(messages.times_ms)}
    columns = zip(made, messages.seqs, messages.times_ms, strict=True)
    bodies: list[bytes] = []
    for data, starts, cut_lengths in messages.cuts:
        bodies += [
            b"%b%d%b%b" % (head, seq, times[time_ms], data[start + behind : start + length])
            for start, length, ((_, head, behind, _), seq, time_ms) in zip(starts, cut_lengths, columns, strict=False)
        ]
    lengths = array("I", map(len, bodies))
    if sum(lengths) > room:
        fits = max(1, bisect_right(list(accumulate(lengths)), room))
        del bodies[fits:], lengths[fits:], made[fits:]
    sizes = list(map(sub, messages.sizes, map(_SUBJECT_BYTES, made)))
    return Copies(list(map(_TARGET, made)), sizes, lengths, b"".join(bodies), [], len(made))


def _oversize(size: int, target: str, bounds: CopyBounds) -> str:
    if size > bounds.message:
        return f"{size} bytes of payload and headers; the stream takes at most {bounds.message} (max_msg_bytes)"
    stored = size + len(target.encode())
    if 0 < bounds.stored < stored:
        return f"{stored} bytes stored; max_bytes of the whole stream is {bounds.stored}"
    return ""
