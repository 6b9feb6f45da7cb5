"""Messages made of lines, for `waymaker pub`: plain lines, JSON values with a subject template, envelopes.

Responsible for the way from a line to a message and for the number of each message's line. It ends at the first line that makes
no message and keeps the reason: what came before it is published and told of. It never lets data decide the shape of a subject:
a template is filled in one pass, and a value is one token of it unless the caller says otherwise.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from waymaker.cli import exits
from waymaker.cli.failure import CommandError
from waymaker.cli.input.reading import LineTooLong

if TYPE_CHECKING:
    from waymaker.client.producer.publishing import Many
    from waymaker.client.values import Outgoing

FIELD = re.compile(r"\{([^{}]*)\}")
Pairs = list[tuple[str, str]]


class BadLine(Exception):
    """A line that makes no message; the text continues "line 7"."""


class LineMessages:
    """Asynchronous iterator of the messages of lines, from line `first` on. `stopped` says why it ended early."""

    def __init__(self, read: AsyncIterator[bytes], make: Callable[[bytes], Many], first: int, skip_blank: bool) -> None:
        self._read = read
        self._make = make
        self._first = first
        self._skip_blank = skip_blank
        self._count = 0
        self._starts: list[int] = [0]
        self._lines: list[int] = [first]
        self.stopped: CommandError | None = None

    async def __aiter__(self) -> AsyncIterator[Many]:
        number = 0
        try:
            async for line in self._read:
                number += 1
                if number < self._first or (self._skip_blank and not line.strip()):
                    continue
                message = self._make(line)
                self._count_one(number)
                yield message
        except BadLine as error:
            self.stopped = CommandError(f"line {number} {error}", exits.REFUSED, code="bad_line")
        except LineTooLong as error:
            self.stopped = CommandError(f"line {number + 1}: {error}", exits.REFUSED, code="bad_line")

    def _count_one(self, number: int) -> None:
        """Remember a message's line; lines without a gap cost nothing."""
        if number != self._lines[-1] + self._count - self._starts[-1]:
            self._starts.append(self._count)
            self._lines.append(number)
        self._count += 1

    def line_of(self, index: int) -> int:
        """Return the line of the message with this index, counted from 1."""
        run = bisect_right(self._starts, index) - 1
        return self._lines[run] + index - self._starts[run]


# ------------------------------------------------------------------------------------ ways to a message


def plain(subject: str, headers: Pairs, ts_ms: int) -> Callable[[bytes], Many]:
    """Return a maker of messages that takes every line as a payload."""
    return _maker(headers, ts_ms, lambda line: subject)


def ndjson(subject: str, headers: Pairs, ts_ms: int, many_tokens: bool) -> Callable[[bytes], Many]:
    """Return a maker of messages from JSON values, stored as they stand. Fields named in the subject are filled in."""
    filled = bool(FIELD.search(subject))

    def subject_of(line: bytes) -> str:
        value = _json(line)
        return _filled(subject, value, many_tokens) if filled else subject

    return _maker(headers, ts_ms, subject_of)


def envelopes(subject: str | None, headers: Pairs) -> Callable[[bytes], Many]:
    """Return a maker of messages from what `sub --json` prints."""
    return lambda line: _envelope(_json(line), subject, headers)


def _maker(headers: Pairs, ts_ms: int, subject_of: Callable[[bytes], str]) -> Callable[[bytes], Many]:
    if not headers and not ts_ms:
        return lambda line: (subject_of(line), line)
    from waymaker.client.values import Outgoing

    return lambda line: Outgoing(subject_of(line), line, headers, ts_ms)


def _envelope(value: Any, subject: str | None, headers: Pairs) -> Outgoing:
    from waymaker.client.values import Outgoing

    if not isinstance(value, dict):
        raise BadLine("is not a JSON object")
    where = subject if subject is not None else value.get("subject")
    if not isinstance(where, str):
        raise BadLine("has no subject; give SUBJECT for all")
    ts_ms = value.get("ts_ms", 0)
    if not isinstance(ts_ms, int) or isinstance(ts_ms, bool):
        raise BadLine("has a ts_ms that is no whole number")
    return Outgoing(where, _payload(value), [*_header_pairs(value.get("headers")), *headers], ts_ms)


def _payload(value: dict[str, Any]) -> bytes:
    if "payload_base64" in value:
        try:
            return base64.b64decode(value["payload_base64"], validate=True)
        except (ValueError, TypeError):
            raise BadLine("has a payload_base64 that is not base64") from None
    payload = value.get("payload", "")
    if not isinstance(payload, str):
        raise BadLine("has a payload that is no string; --ndjson stores JSON values as they are")
    return payload.encode("utf-8", "surrogatepass")


def _header_pairs(own: Any) -> Pairs:
    pairs = list(own.items()) if isinstance(own, dict) else [] if own is None else own
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in pairs
    ):
        raise BadLine("has headers that are neither an object nor pairs of strings")
    return [(key, text) for key, text in pairs]


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except RecursionError:
        raise BadLine("is JSON that is nested too deeply") from None
    except ValueError as error:
        raise BadLine(f"is not JSON: {error}") from None


def _filled(subject: str, value: Any, many_tokens: bool) -> str:
    """Fill in a template's fields in one pass, so that no value is read as a template again."""
    return FIELD.sub(lambda match: _token(subject, match[1], value, many_tokens), subject)


def _token(subject: str, field: str, value: Any, many_tokens: bool) -> str:
    found: Any = value
    for key in field.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, str | int | float) or isinstance(found, bool) or found == "":
        raise BadLine(f"has no field {field!r} to make the subject {subject!r} of")
    text = str(found)
    if any(character in "*>" or character.isspace() for character in text):
        raise BadLine(f"has {text[:80]!r} in field {field!r}: no token of a subject holds *, > or white space")
    if "." in text and not many_tokens:
        raise BadLine(
            f"has {text[:80]!r} in field {field!r}: a dot would make several tokens of it; --dots-in-fields allows that"
        )
    return text
