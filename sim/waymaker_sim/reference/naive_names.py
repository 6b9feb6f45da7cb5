"""Names, subjects and patterns of the naive broker, in the most literal way: split at the dots and compare."""

from __future__ import annotations

from waymaker_core.model.limits import Limits


def _plain(text: str) -> bool:
    return not any(c.isspace() or ord(c) < 32 or 127 <= ord(c) < 160 for c in text)


def good_name(name: str, limits: Limits) -> bool:
    """Return True if a stream or consumer may have this name."""
    return 1 <= len(name.encode()) <= limits.name_bytes_max and _plain(name) and not set(name) & set(".*>/\\")


def good_subject(subject: str, limits: Limits) -> bool:
    """Return True if this is a literal subject."""
    return good_pattern(subject, limits) and not any(token in ("*", ">") for token in subject.split("."))


def good_pattern(pattern: str, limits: Limits) -> bool:
    """Return True if this is a pattern: whole-token wildcards, `>` only last."""
    tokens = pattern.split(".")
    if not 1 <= len(pattern.encode()) <= limits.subject_bytes_max or not _plain(pattern):
        return False
    for index, token in enumerate(tokens):
        if not token or (token == ">" and index < len(tokens) - 1):
            return False
        if token not in ("*", ">") and ("*" in token or ">" in token):
            return False
    return True


def good_filter(patterns: tuple[str, ...], limits: Limits) -> bool:
    """Return True if a stream may have this filter: good patterns of which no two can accept the same subject."""
    if not all(good_pattern(pattern, limits) for pattern in patterns):
        return False
    return not any(overlap(a, b) for index, a in enumerate(patterns) for b in patterns[:index])


def overlap(a: str, b: str) -> bool:
    """Return True if some subject fits both patterns."""
    return _overlap(a.split("."), b.split("."))


def _overlap(a: list[str], b: list[str]) -> bool:
    if not a or not b:
        return not a and not b
    if a[0] == ">" or b[0] == ">":
        return True
    return (a[0] == b[0] or "*" in (a[0], b[0])) and _overlap(a[1:], b[1:])
