"""A dead letter: the copy that is stored of a message that a consumer drops.

A dead letter is the message under another subject, with headers that say where it came from; payload and old headers are
carried over byte for byte. Clients cannot set those headers, so they prove provenance: a message that carries a
consumer's own mark is never made a dead letter by it again, however it came back to it (its filter may match the
dead-letter subject, or another consumer's dead letters may lead back to it).

A dead letter of a dead letter has one set of them, the newest. The first set is kept under `origin-`, and who gave the
message up in between is listed under `via`, so that no mark is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.model.message_codec import DEAD_LETTER_PREFIX, decode_body, readdress

STREAM = DEAD_LETTER_PREFIX + "stream"
CONSUMER = DEAD_LETTER_PREFIX + "consumer"
GROUP = DEAD_LETTER_PREFIX + "group"
SEQ = DEAD_LETTER_PREFIX + "seq"
SUBJECT = DEAD_LETTER_PREFIX + "subject"
DELIVER_COUNT = DEAD_LETTER_PREFIX + "deliver-count"
REASON = DEAD_LETTER_PREFIX + "reason"
REASON_MAX_DELIVER = "max_deliver"
ORIGIN_PREFIX = DEAD_LETTER_PREFIX + "origin-"
VIA = DEAD_LETTER_PREFIX + "via"
"""Each as `stream/consumer`, or `stream/consumer/group`, the latest first, with `%` and `,` escaped, separated by `, `."""


@dataclass(slots=True, eq=False)
class DeadLetterBuilder:
    """Makes the dead letters of one queue group. `group` is empty for a consumer by itself."""

    stream: str
    consumer: str
    group: str
    members: list[str]
    subject: str

    def letter(self, seq: int, deliver_count: int, body: bytes) -> bytes | None:
        """Return the stored body of a message's dead letter; None where the message is already one of this group's own."""
        subject, headers, _ = decode_body(body)
        earlier, origin, via = _sets_of(headers)
        chain = [*earlier, *via, *([origin] if origin else [])]
        if any(map(self._is_own, chain)):
            return None
        marks = [
            (STREAM, self.stream),
            (CONSUMER, self.consumer),
            (SEQ, str(seq)),
            (SUBJECT, subject),
            (DELIVER_COUNT, str(deliver_count)),
            (REASON, REASON_MAX_DELIVER),
        ]
        if self.group:
            marks.append((GROUP, self.group))
        if chain:
            first = chain.pop()
            marks += [(ORIGIN_PREFIX + key.removeprefix(DEAD_LETTER_PREFIX), first[key]) for key in first]
        if chain:
            marks.append((VIA, ", ".join(map(_way_point, chain))))
        return readdress(body, self.subject, marks, drop_prefix=DEAD_LETTER_PREFIX if headers else "")

    def _is_own(self, marks: Marks) -> bool:
        """Return True if some earlier dead-lettering was this group's."""
        return marks.get(STREAM) == self.stream and (
            marks.get(CONSUMER) in self.members or (GROUP in marks and marks[GROUP] == self.group)
        )


Marks = dict[str, str]
"""Headers of one dead-lettering."""


def _sets_of(headers: list[tuple[str, str]]) -> tuple[list[Marks], Marks, list[Marks]]:
    """Return the sets of marks that a message carries, latest first; its origin's; and those in between.

    Dead letters of earlier versions carry several whole sets, each of which begins with its stream's name.
    """
    sets: list[Marks] = []
    origin: Marks = {}
    via: list[Marks] = []
    for key, value in headers:
        if key.startswith(ORIGIN_PREFIX):
            origin[DEAD_LETTER_PREFIX + key.removeprefix(ORIGIN_PREFIX)] = value
        elif key == VIA:
            via = [_marks_of(point) for point in value.split(", ")]
        elif key == STREAM:
            sets.append({key: value})
        elif key.startswith(DEAD_LETTER_PREFIX) and sets:
            sets[-1][key] = value
    return sets, origin, via


def _way_point(marks: Marks) -> str:
    names = [marks[key] for key in (STREAM, CONSUMER, GROUP) if key in marks]
    return "/".join(names).replace("%", "%25").replace(",", "%2C")


def _marks_of(point: str) -> Marks:
    """Return the marks that a point names. A slash is in a group's name only, which comes last."""
    names = point.replace("%2C", ",").replace("%25", "%").split("/", 2)
    return dict(zip((STREAM, CONSUMER, GROUP), names, strict=False))
