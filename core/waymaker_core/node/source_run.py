"""Copying from one source, as far as it exists only while the stream is led: its stage, its counts, its latest trouble.

Plain data; `node.sourcing` acts on it, and handlers show it. The position is not here: it is committed state, and
`sources.positions` has it.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, Protocol

from waymaker_core.model.config import SourceConfig
from waymaker_core.model.subjects import Pattern
from waymaker_core.sources.copies import Copies, CopyBounds, SourceMessages

BACKOFF_FIRST_NS: Final = 20_000_000
BACKOFF_MAX_NS: Final = 5_000_000_000
"""Pauses after a trouble that may pass; each is twice as long as the one before it."""
QUIET_ATTEMPTS: Final = 3
"""Attempts that may fail for lack of capacity before the trouble is shown."""


class Stage(Enum):
    """Stages of copying from one source, each named for what it waits for."""

    READY = 1
    """Its turn to be read."""
    PULLING = 2
    """A batch: read from the source, or on its way into a record."""
    COMMITTING = 3
    """The commit of earlier batches."""
    WATCHING = 4
    """A change of the source: all of it was copied, or it does not exist."""
    PAUSED = 5
    """The end of a pause, after a trouble that may pass."""
    HALTED = 6
    """An operator: messages were pruned before they were copied, and `on_drop` is `HALT`."""


class Rule(Protocol):
    """Makes what a stream keeps of a source's messages. `failed` says what has become of one that fails."""

    failed: str

    def take_messages(self, messages: SourceMessages, bounds: CopyBounds) -> Copies:
        """Make it of messages, as many as fit one record."""
        ...


class SourceRun:
    """Copying from one source of one stream, in one time of leading it."""

    __slots__ = (
        "index", "source", "rule", "pattern", "stage", "in_flight", "drain_first", "pulled_total", "last_error",
        "last_error_ms", "passing", "attempts", "retry_ns", "letters_sent", "seen_seq",
        "woken", "halted",
    )  # fmt: skip

    def __init__(self, index: int, source: SourceConfig, rule: Rule) -> None:
        self.index = index
        self.source = source
        self.rule = rule
        self.pattern = Pattern(source.filter_subject) if source.filter_subject else None
        self.stage = Stage.READY
        self.in_flight: deque[int] = deque()
        """Positions of records with its batches in the stream's own log, decided and not applied."""
        self.drain_first = False
        """True if all of those must be applied before the next pull: the last one only moved the position."""
        self.pulled_total = 0
        """Messages read from the source."""
        self.last_error = ""
        self.last_error_ms = 0
        self.passing = False
        """True if the latest trouble is over with the next batch."""
        self.attempts = 0
        self.retry_ns = 0
        self.woken = False
        """True if the source has changed since the last pull began."""
        self.halted = False
        """True once it has stopped for good, at messages that were pruned before they were copied."""
        self.seen_seq = 0
        """Last sequence of the source when it was last looked at."""
        self.letters_sent = False
        """True once a letter was stored: no later letter can have been sent before this time of leading."""

    def show_trouble(self, text: str, now_ms: int, *, passing: bool) -> None:
        """Note a trouble as the latest one."""
        self.last_error, self.last_error_ms, self.passing = text, now_ms, passing

    def pause(self, now_ns: int) -> None:
        """Begin a pause, twice as long as the one before it."""
        self.stage = Stage.PAUSED
        self.retry_ns = now_ns + min(BACKOFF_MAX_NS, BACKOFF_FIRST_NS << min(self.attempts, 16))
        self.attempts += 1

    def succeed(self) -> None:
        """Note that a trouble that could pass has passed."""
        self.attempts = 0
        if self.passing:
            self.last_error, self.last_error_ms, self.passing = "", 0, False
