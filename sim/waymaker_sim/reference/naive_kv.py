"""The naive bucket of keys: lists of revisions in a dictionary, every rule a loop, and nothing but its own words.

The reference for the key-value service of the core. Written from the documented semantics alone (docs/key-value.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

KEY = re.compile(r"[-/_=A-Za-z0-9]+(\.[-/_=A-Za-z0-9]+)*")


@dataclass(slots=True)
class NaiveRevision:
    """One message of a key: its sequence, its value (None: a tombstone), its time, and the time of its end (None: none)."""

    seq: int
    value: bytes | None
    time_ms: int
    ends_ms: int | None = None


class NaiveChange(NamedTuple):
    """One change: `op` is put, create, update, delete or touch."""

    op: str
    key: str
    value: bytes = b""
    expected: int = 0
    ttl_ms: int = 0


class NaiveOutcome(NamedTuple):
    """The key's revision after a change, and what it was refused with: a result code, or `full`, `large` or `malformed`."""

    revision: int
    refused: str = ""


@dataclass(slots=True)
class NaiveBucket:
    """One bucket. 0: no bound."""

    name: str
    history: int = 0
    max_messages: int = 0
    max_bytes: int = 0
    max_value_size: int = 0
    max_age_ms: int = 0
    tombstone_ms: int = 24 * 3_600_000
    keys: dict[str, list[NaiveRevision]] = field(default_factory=dict)
    last_seq: int = 0

    # ------------------------------------------------------------ changes

    def write(self, changes: list[NaiveChange], now_ms: int) -> list[NaiveOutcome]:
        """Make changes one after the other, each seeing those before it."""
        first = self.last_seq + 1
        return [self._write(change, now_ms, first) for change in changes]

    def _write(self, change: NaiveChange, now_ms: int, first: int) -> NaiveOutcome:
        op, key, value, expected, ttl_ms = change
        if not KEY.fullmatch(key):
            return NaiveOutcome(0, "malformed" if op == "delete" else "invalid_key")
        if op in ("put", "create", "update") and self.max_value_size and len(value) > self.max_value_size:
            return NaiveOutcome(0, "large")
        newest = self.newest(key)
        revision = newest.seq if newest else 0
        is_live = newest is not None and newest.value is not None
        if op == "delete":
            return NaiveOutcome(self._end(key, now_ms, first) if is_live else revision)
        if op == "update" and expected and revision != expected:
            return NaiveOutcome(revision, "wrong_revision")
        if (op == "create" or (op == "update" and not expected)) and is_live:
            return NaiveOutcome(revision, "wrong_revision")
        if op == "touch" and not is_live:
            return NaiveOutcome(revision, "wrong_revision")
        ends = [each for each in (ttl_ms, self.max_age_ms) if each]
        ends_ms = now_ms + min(ends) if ends else None
        if op == "touch":
            assert newest is not None
            newest.ends_ms = ends_ms
            return NaiveOutcome(revision)
        if self._is_full(key, value):
            return NaiveOutcome(0, "full")
        return NaiveOutcome(self._append(key, NaiveRevision(0, value, now_ms, ends_ms)))

    def _is_full(self, key: str, value: bytes) -> bool:
        """Return True if a value has no room: only what its key's history drops makes some."""
        revisions = self.keys.get(key, [])
        pushed = revisions[:1] if self.history and len(revisions) >= self.history else []
        count = self.message_count() + 1 - len(pushed)
        size = self.byte_count() + self._size(key, value) - sum(self._size(key, each.value) for each in pushed)
        return (0 < self.max_messages < count) or (0 < self.max_bytes < size)

    def message_count(self) -> int:
        """Return how many revisions there are, tombstones included."""
        return sum(map(len, self.keys.values()))

    def byte_count(self) -> int:
        """Return the bytes that all revisions count for: values, and a subject each."""
        return sum(self._size(key, each.value) for key, revisions in self.keys.items() for each in revisions)

    def _size(self, key: str, value: bytes | None) -> int:
        return len(self.name) + 1 + len(key) + len(value or b"")

    def _append(self, key: str, revision: NaiveRevision) -> int:
        self.last_seq += 1
        revision.seq = self.last_seq
        revisions = self.keys.setdefault(key, [])
        revisions.append(revision)
        if self.history:
            del revisions[: -self.history]
        return revision.seq

    def _end(self, key: str, now_ms: int, first: int) -> int:
        """Put a tombstone in place of a value. In a bucket with bounds it makes room: older revisions go, up to `first`."""
        if self.max_messages or self.max_bytes:
            self.keys[key] = [each for each in self.keys[key] if each.seq >= first]
        return self._append(key, NaiveRevision(0, None, now_ms))

    # ------------------------------------------------------------ time

    def sweep(self, now_ms: int) -> None:
        """End the values whose time is over, in the order of their ends, and forget keys whose tombstones are old."""
        over = [
            (revision.ends_ms, key)
            for key in self.keys
            if (revision := self.keys[key][-1]).ends_ms is not None and revision.ends_ms <= now_ms
        ]
        for _, key in sorted(over):
            self._end(key, now_ms, self.last_seq + 1)
        for key in list(self.keys):
            newest = self.keys[key][-1]
            if newest.value is None and newest.time_ms + self.tombstone_ms <= now_ms:
                del self.keys[key]

    # ------------------------------------------------------------ reads

    def newest(self, key: str) -> NaiveRevision | None:
        """Return the newest revision of a key, a tombstone perhaps."""
        revisions = self.keys.get(key)
        return revisions[-1] if revisions else None

    def get(self, key: str) -> tuple[int, bytes] | None:
        """Return revision and value of a key that has a value."""
        newest = self.newest(key)
        return None if newest is None or newest.value is None else (newest.seq, newest.value)

    def list_keys(self, after: str, limit: int) -> list[tuple[str, int, bool]]:
        """Return keys behind another, with their newest revision, and True for a tombstone."""
        rows = [(key, self.keys[key][-1]) for key in sorted(self.keys) if key > after]
        return [(key, newest.seq, newest.value is None) for key, newest in rows[:limit]]

    def history_of(self, key: str, from_revision: int, limit: int) -> list[tuple[int, bytes | None]]:
        """Return the revisions of a key from one on."""
        found = [(each.seq, each.value) for each in self.keys.get(key, []) if each.seq >= from_revision]
        return found[:limit]


class NaiveWatch:
    """A watch: first the live values as they stood when it began, then every change that its key's history still has.

    A value that is replaced before it was sent comes with the changes. `after` begins with the changes behind a revision.
    """

    def __init__(self, bucket: NaiveBucket, pattern: str, after: int | None = None) -> None:
        self.bucket = bucket
        self.pattern = pattern
        self.begun_at = bucket.last_seq if after is None else after
        self.seen_to = 0 if after is None else after

    def take(self, limit: int) -> list[tuple[int, bytes | None]]:
        """Return the next revisions to send, at most so many."""
        rows = sorted(
            (each.seq, each.value)
            for key, revisions in self.bucket.keys.items()
            if selects(self.pattern, key)
            for each in revisions
            if each.seq > self.seen_to
            and (each.seq > self.begun_at or (each is revisions[-1] and each.value is not None))
        )
        taken = rows[:limit]
        # What is at rest and not sent is none of this watch: a later revision at its key was sent, or will be.
        self.seen_to = max(taken[-1][0] if len(taken) < len(rows) else self.bucket.last_seq, self.seen_to)
        return taken


def selects(pattern: str, key: str) -> bool:
    """Return True if a pattern of keys selects a key."""
    return not pattern or _selects(pattern.split("."), key.split("."))


def _selects(pattern: list[str], key: list[str]) -> bool:
    if not pattern or not key:
        return not pattern and not key
    return pattern == [">"] or (pattern[0] in ("*", key[0]) and _selects(pattern[1:], key[1:]))
