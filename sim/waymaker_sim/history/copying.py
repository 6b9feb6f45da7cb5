"""Streams that copy from others, as clients see them: what each copy says of its original, and whether that can be true.

The rules of copying are written down a second time here, as plainly as can be: they share nothing with the core's but the
encoding of a stored body.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from waymaker_core.model.config import SourceConfig, StreamConfig
from waymaker_core.model.message_codec import decode_body, header_field, payload_field, subject_field
from waymaker_sim.history.history import Attempt, History, Letter, StreamIncarnation
from waymaker_sim.history.subjects import DLQ
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.machine.process import ReceivedMessage
from waymaker_sim.reference.naive_consumer import matches

NO_REPLICA = "has no replica"
"""Part of the trouble of a source whose records go to other members than the one that copies."""
MARK = "waymaker-source-"
ORIGIN = MARK + "origin-"
PREFIXED = (">", "t.>")
SWAPPED = ("*.*", "{{wildcard(2)}}.{{wildcard(1)}}")
"""The transforms of these worlds."""


def transformed(source: SourceConfig, subject: str) -> str | None:
    """Return the subject of a copy; None where the transform does not match."""
    rule = source.subject_transform
    if rule is None:
        return subject
    if tuple(rule) == PREFIXED:
        return f"t.{subject}"
    assert tuple(rule) == SWAPPED, rule
    tokens = subject.split(".")
    return f"{tokens[1]}.{tokens[0]}" if len(tokens) == 2 else None


@dataclass(slots=True, eq=False)
class CopiedMessage:
    """One copy: its source by the place in the settings, and its original as far as it is known."""

    seq: int
    index: int
    source_seq: int
    original: bytes
    incarnation: StreamIncarnation | None
    body: bytes
    stored_ms: int = 0
    """Time at which a source that copies itself stored the original; it tells its incarnations apart."""


@dataclass(slots=True, eq=False)
class CopyLog:
    """All that was read of one incarnation of a stream that copies; nothing is ever removed from such a stream."""

    name: str
    config: StreamConfig
    skips: bool
    """True if an unclean stop may skip sequences of its own: syncs come at intervals."""
    copied: list[CopiedMessage] = field(default_factory=list)
    by_original: dict[tuple[int, int, bytes, int], int] = field(default_factory=dict)
    by_seq: dict[int, CopiedMessage] = field(default_factory=dict)

    @property
    def last_seq(self) -> int:
        """Return the sequence of the last copy that was read."""
        return self.copied[-1].seq if self.copied else 0

    def add(self, message: ReceivedMessage, history: History, names: dict[str, CopyingName]) -> None:
        """Check and note the next copy."""
        what = f"{self.name} seq {message.seq}"
        follows = message.seq > self.last_seq if self.skips else message.seq == self.last_seq + 1
        require(follows, "copied all", f"{what} follows {self.last_seq}")
        subject, headers, payload = decode_body(message.body)
        marks = {key.removeprefix(MARK): value for key, value in headers if key.startswith(MARK)}
        own = {key: value for key, value in marks.items() if not key.startswith("origin-")}
        known = own.keys() == {"stream", "seq", "subject", "ts-ms"} and own["seq"].isdigit() and own["ts-ms"].isdigit()
        require(known, "copies honest", f"{what} has the marks {marks}")
        index, source = self._source(what, own["stream"], own["subject"])
        wanted = transformed(source, own["subject"])
        require(subject == wanted, "copies honest", f"{what}: {own['subject']!r} became {subject!r}, not {wanted!r}")
        rest = [(key, value) for key, value in headers if not key.startswith(MARK)]
        kept = [
            (MARK + key.removeprefix("origin-"), value) for key, value in marks.items() if key.startswith("origin-")
        ]
        original = _encode(own["subject"], rest, payload)
        copy = CopiedMessage(message.seq, index, int(own["seq"]), original, None, message.body)
        if source.source_stream in names:
            copy.stored_ms = int(own["ts-ms"])
            _check_chained(what, names[source.source_stream], copy, dict(kept), rest, payload)
        else:
            require(not kept, "copies honest", f"{what} is of no copy, and has {kept}")
            copy.incarnation = _find(what, source.source_stream, copy, int(own["ts-ms"]), history, rest)
        self._check_order(what, copy, history)
        self.copied.append(copy)
        self.by_seq[copy.seq] = copy

    def _source(self, what: str, stream: str, subject: str) -> tuple[int, SourceConfig]:
        for index, source in enumerate(self.config.sources):
            if source.source_stream == stream and matches(source.filter_subject, subject):
                return index, source
        return violated("copies honest", f"{what} is of {stream} at {subject!r}, which no source selects")

    def _check_order(self, what: str, copy: CopiedMessage, history: History) -> None:
        key = (copy.index, copy.source_seq, copy.original, copy.stored_ms)
        if key in self.by_original:
            violated("copied once", f"{what} and {self.by_original[key]} are both of {copy.source_seq}")
        self.by_original[key] = copy.seq
        before = next((each for each in reversed(self.copied) if each.index == copy.index), None)
        if before is None:
            return
        if (
            before.incarnation is not None
            and copy.incarnation is not None
            and before.incarnation is not copy.incarnation
        ):
            later = copy.incarnation.number > before.incarnation.number
            require(later, "copied once", f"{what} is of an earlier life than {before.seq}")
            return
        if copy.source_seq <= before.source_seq:
            name = self.config.sources[copy.index].source_stream
            several = sum(each.name == name for each in history.incarnations)
            known = before.incarnation is not None and copy.incarnation is before.incarnation
            chained = not several
            require(
                not known and (several > 1 or chained), "copied once",
                f"{what} is of {copy.source_seq}, behind one of {before.source_seq}",
            )  # fmt: skip


@dataclass(slots=True, eq=False)
class CopyingName:
    """A name that a stream with sources has, or one that receives letters about what could not be copied."""

    name: str
    may_exist: bool = False
    known: bool = True
    """False while the outcome of a creation or deletion is unknown."""
    logs: dict[int, CopyLog] = field(default_factory=dict)
    """By the id of an incarnation."""
    letters: bool = False
    skips: bool = False
    made: int = 0
    """Creations that have happened, or may have."""

    def log(self, stream_id: int, config: StreamConfig) -> CopyLog:
        """Return the log of an incarnation."""
        return self.logs.setdefault(stream_id, CopyLog(self.name, config, self.skips))


def _encode(subject: str, headers: list[tuple[str, str]], payload: bytes) -> bytes:
    return subject_field(subject) + b"".join(header_field(*each) for each in headers) + payload_field(payload)


def _find(
    what: str, name: str, copy: CopiedMessage, time_ms: int, history: History, headers: list[tuple[str, str]]
) -> StreamIncarnation | None:
    """Return the incarnation that has the original, as far as that is certain."""
    attempt = history.attempts.get(copy.original)
    if attempt is None:
        letter = any(key == DLQ + "stream" and value == name for key, value in headers)
        require(letter, "copies honest", f"{what} is of {name} seq {copy.source_seq}, which no client published")
        return next((each for each in history.incarnations if _has(each, name, copy)), None)
    same = f"{what} is of {name} seq {copy.source_seq}, attempt {attempt.number}"
    require(attempt.stream == name, "copies honest", f"{same}, sent to {attempt.stream}")
    require(not attempt.refused, "copies honest", f"{same}, which was refused")
    if attempt.seq:
        require(attempt.seq == copy.source_seq, "copies honest", f"{same}, which is at {attempt.seq}")
    if attempt.incarnation is not None:
        attempt.incarnation.see(history, copy.source_seq, time_ms, copy.original, -1)
    return attempt.incarnation


def _has(incarnation: StreamIncarnation, name: str, copy: CopiedMessage) -> bool:
    message: Attempt | Letter | None = incarnation.at.get(copy.source_seq)
    return incarnation.name == name and isinstance(message, Letter) and message.body == copy.original


def _check_chained(
    what: str, source: CopyingName, copy: CopiedMessage, origin: dict[str, str], headers: list[tuple[str, str]],
    payload: bytes,
) -> None:  # fmt: skip
    """Require that the copy of a copy is one of what the middle stream was read to hold, where that was read."""
    found = [log.by_seq[copy.source_seq].body for log in source.logs.values() if copy.source_seq in log.by_seq]
    if not found or source.made > 1:
        return  # it may be one of another incarnation, maybe of one that was never read
    _, its_headers, its_payload = decode_body(found[0])
    marks = dict(each for each in its_headers if each[0].startswith(MARK))
    first = {MARK + key.removeprefix(ORIGIN): value for key, value in marks.items() if key.startswith(ORIGIN)}
    rest = [each for each in its_headers if not each[0].startswith(MARK)]
    same = payload == its_payload and headers == rest and origin == (first or marks)
    require(same, "copies honest", f"{what} is of {source.name} seq {copy.source_seq}, and differs: {origin}")
