"""Subjects and subject patterns: tokens joined by dots, `*` for one token, a final `>` for one or more.

A message's subject is literal. Patterns select; they appear in a stream's filter and in a consumer's. Matching follows
NATS: `a.*` does not match `a`, `a.>` does not match `a`, `>` matches every subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile

from waymaker_core.model.limits import Limits

_TOKEN = r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff.*>]+"
_LITERAL = re.compile(rf"{_TOKEN}(?:\.{_TOKEN})*")
_PATTERN = re.compile(rf"(?:(?:{_TOKEN}|\*)\.)*(?:{_TOKEN}|\*|>)")


def subject_bytes(subject: str, limits: Limits) -> int:
    """Return the length in UTF-8 of a literal subject, or 0 where it cannot be one."""
    if _LITERAL.fullmatch(subject) is None:
        return 0
    length = len(subject) if subject.isascii() else len(subject.encode())
    return length if length <= limits.subject_bytes_max else 0


def subject_fault(subject: str, limits: Limits) -> str:
    """Return why a text cannot be a literal subject; empty where it can be one."""
    if subject_bytes(subject, limits):
        return ""
    if not subject:
        return "it is empty"
    length = len(subject.encode("utf-8", "surrogatepass"))
    if length > limits.subject_bytes_max:
        return f"it has {length} bytes of UTF-8; at most {limits.subject_bytes_max} are allowed"
    if "" in subject.split("."):
        return "it has an empty token: dots stand between tokens, never at an end or beside each other"
    if "*" in subject or ">" in subject:
        return "it holds a wildcard (* or >), which only patterns may"
    return "it holds white space or control characters"


def is_pattern(pattern: str, limits: Limits) -> bool:
    """Return True if this can select subjects; every literal subject can."""
    return _PATTERN.fullmatch(pattern) is not None and len(pattern.encode()) <= limits.subject_bytes_max


class Pattern:
    """A valid pattern, compiled when it is first needed. `literal`: it has no wildcard, so that look-ups by subject serve it.

    `prefix` is the text every matching subject begins with, for searches in a sorted list; `whole_prefix`: every subject
    that begins with it matches.
    """

    __slots__ = ("text", "literal", "everything", "prefix", "whole_prefix", "_regex")

    def __init__(self, text: str) -> None:
        assert _PATTERN.fullmatch(text) is not None, text
        tokens = text.split(".")
        self.text = text
        self.literal = "*" not in tokens and tokens[-1] != ">"
        self.everything = text == ">"
        self.prefix = text if self.literal else _literal_prefix(tokens)
        self.whole_prefix = not self.literal and text == self.prefix + ">"
        self._regex: re.Pattern[str] | None = None

    def matches(self, subject: str) -> bool:
        """Return True if a literal subject is selected."""
        if self.literal:
            return subject == self.text
        if not subject.startswith(self.prefix):
            return False
        if self.whole_prefix:
            return len(subject) > len(self.prefix)
        if self._regex is None:
            # Not before: a node with thousands of streams starts without compiling thousands of patterns.
            self._regex = re.compile(r"\.".join(map(_token_regex, self.text.split("."))))
        return self._regex.fullmatch(subject) is not None

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def _token_regex(token: str) -> str:
    # A literal subject has no newline, so the dot of a final `>` covers all it can hold.
    return {"*": r"[^.]+", ">": r".+"}.get(token) or re.escape(token)


def _literal_prefix(tokens: list[str]) -> str:
    return "".join(token + "." for token in takewhile(lambda token: token not in {"*", ">"}, tokens))


def overlap(first: str, second: str) -> bool:
    """Return True if some literal subject matches both patterns."""
    left, right = first.split("."), second.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)


def covers(wide: str, narrow: str) -> bool:
    """Return True if every subject that `narrow` matches is matched by `wide`."""
    left, right = wide.split("."), narrow.split(".")
    for position, token in enumerate(left):
        if token == ">":
            return len(right) > position
        if position >= len(right) or right[position] == ">" or (token != "*" and token != right[position]):
            return False
    return len(left) == len(right)


class SubjectFilter:
    """The patterns a stream accepts; none at all accept everything."""

    __slots__ = ("patterns", "_literals")

    def __init__(self, patterns: Iterable[str]) -> None:
        compiled = [Pattern(text) for text in patterns]
        self._literals = frozenset(pattern.text for pattern in compiled if pattern.literal)
        self.patterns = [pattern for pattern in compiled if not pattern.literal]

    def accepts(self, subject: str) -> bool:
        """Return True if a message at a literal subject may enter."""
        if not self.patterns and not self._literals:
            return True
        return subject in self._literals or any(pattern.matches(subject) for pattern in self.patterns)


def first_overlap(patterns: list[str]) -> tuple[str, str] | None:
    """Return two patterns of a list that select a common subject, or None.

    Literal patterns are looked up, so that a long list of them costs its length; only wildcards are compared pairwise.
    """
    seen: set[str] = set()
    wild: list[Pattern] = []
    for text in patterns:
        if text in seen:
            return text, text
        seen.add(text)
        pattern = Pattern(text)
        if not pattern.literal:
            wild.append(pattern)
    for position, pattern in enumerate(wild):
        for other in wild[position + 1 :]:
            if overlap(pattern.text, other.text):
                return pattern.text, other.text
        for text in patterns:
            if text != pattern.text and overlap(pattern.text, text):
                return pattern.text, text
    return None
