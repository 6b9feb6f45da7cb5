"""What consumers ask of the stream they read. `stream.Stream` is one; nothing here knows how it does it.

The one rule of every caller: whatever may raise `NeedBlocks` is called before any state of a consumer is changed, so that
the call can be repeated as it is once the indexes are there.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol

from waymaker_core.api.requests import Messages
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream.answers import CopyDecision, Selection


class Source(Protocol):
    """A stream as its consumers see it: committed and live messages, and decisions about their end."""

    @property
    def id(self) -> int:
        """The incarnation of the stream."""

    @property
    def config(self) -> StreamConfig:
        """Settings; the retention decides what an ack means."""

    @property
    def first_seq(self) -> int:
        """First live message; `last_seq + 1` when there is none."""

    @property
    def last_seq(self) -> int:
        """Last committed message."""

    def select(self, from_seq: int, pattern: Pattern | None, limit: int, byte_max: int) -> Selection:
        """Live messages from a cursor on that match; the first is taken whatever its size. Raises `NeedBlocks`."""

    def messages_in(self, ranges: Sequence[tuple[int, int]], deliver_count: int) -> Messages:
        """Ranges of live messages, one delivery count for all. Raises `NeedBlocks`."""

    def messages_at(self, seqs: Sequence[int], counts: Sequence[int]) -> Messages:
        """Ascending sequences with their delivery counts; what is not live is left out. Raises `NeedBlocks`."""

    def is_live(self, seq: int) -> bool:
        """Whether a committed message is still there. Needs no index."""

    def live_count_from(self, seq: int) -> int:
        """How many live messages have this sequence or a later one. Needs no index."""

    def first_seq_at_or_after_time(self, time_ms: int) -> int:
        """The first live message with that time or a later one; `last_seq + 1` when there is none."""

    def last_matching(self, pattern: Pattern | None) -> int:
        """The last live message that matches, or 0. Raises `NeedBlocks`."""

    def decide_drops(self, seqs: Iterable[int]) -> tuple[array[int], array[int]]:
        """Stage the end of single messages; those that live and are not dropped yet, with sizes. Raises `NeedBlocks`."""

    def decide_copies(
        self, subject: str, seqs: Sequence[int], bodies: Sequence[bytes], wall_ms: int, replace: bool
    ) -> CopyDecision:
        """Stage copies of messages under another subject, with `replace` in their place. Raises `NeedBlocks`, `Displaced`."""
