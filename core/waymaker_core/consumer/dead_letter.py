"""What is stored of a message that a consumer gives up: its dead letter.

A dead letter is the message under another subject, with headers that say where it came from; payload and old headers are
carried over byte for byte. Clients cannot set those headers, so they prove provenance: a message that carries a
consumer's own mark is never made a dead letter by it again, however it came back to it (its filter may match the
dead-letter subject, or another consumer's dead letters may lead back to it).
"""

from __future__ import annotations

from waymaker_core.message import DEAD_LETTER_PREFIX, decode_body, readdress

STREAM = DEAD_LETTER_PREFIX + "stream"
CONSUMER = DEAD_LETTER_PREFIX + "consumer"
GROUP = DEAD_LETTER_PREFIX + "group"
SEQ = DEAD_LETTER_PREFIX + "seq"
SUBJECT = DEAD_LETTER_PREFIX + "subject"
DELIVER_COUNT = DEAD_LETTER_PREFIX + "deliver-count"
REASON = DEAD_LETTER_PREFIX + "reason"
REASON_MAX_DELIVER = "max_deliver"


class Undertaker:
    """Makes the dead letters of one queue group. `group` is empty for a consumer by itself."""

    __slots__ = ("stream", "consumer", "group", "members", "subject")

    def __init__(self, stream: str, consumer: str, group: str, members: list[str], subject: str) -> None:
        self.stream = stream
        self.consumer = consumer
        self.group = group
        self.members = members
        self.subject = subject

    def letter(self, seq: int, deliver_count: int, body: bytes) -> bytes | None:
        """The stored body of a message's dead letter; None where the message is already one of this group's own."""
        subject, headers, _ = decode_body(body)
        if self._is_own(headers):
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
        return readdress(body, self.subject, marks)

    def _is_own(self, headers: list[tuple[str, str]]) -> bool:
        """Whether the marks of some earlier dead-lettering name this group. Each begins with its stream's name."""
        stream = ""
        for key, value in headers:
            if key == STREAM:
                stream = value
            elif stream == self.stream and (
                (key == CONSUMER and value in self.members) or (key == GROUP and value == self.group)
            ):
                return True
        return False
