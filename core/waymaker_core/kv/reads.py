"""Reads of a bucket: live values, keys, the history of a key, and the two parts of a watch. They see committed state only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from waymaker_core.api.kv_requests import KvKey
from waymaker_core.api.requests import Messages, Page
from waymaker_core.kv.keys import key_of, key_subject, keys_pattern, subject_head
from waymaker_core.kv.layer import KvLayer
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import NeedBlocks, reads

WATCH_LOOK_MAX: Final = 1_000
"""Messages that one turn of a watch looks at for live values."""


def read_keys(layer: KvLayer, bucket: str, keys: Sequence[str], byte_max: int) -> Messages:
    """Return the live values of keys, and in `of_keys` the sequence of each, 0 for none. Raises `NeedBlocks`.

    Of more than `byte_max` only the first keys are read, at least one: as many as `of_keys` has entries.
    """
    stream = layer.stream
    of_keys: list[int] = []
    size = 0
    head = subject_head(bucket)
    for key in keys:
        state = layer.committed(head + key)
        seq = state.seq if state.is_live else 0
        if seq:
            block = stream.blocks[stream.block_of(seq)]
            if block.columns is None:
                raise NeedBlocks([block.number])
            size += block.columns.lengths[seq - block.first]
        if of_keys and size > byte_max:
            break
        of_keys.append(seq)
    seqs = sorted(set(of_keys) - {0})
    messages = reads.messages_at(stream, seqs, [0] * len(seqs))
    messages.of_keys = of_keys
    return messages


def list_keys(layer: KvLayer, bucket: str, after: str, limit: int) -> Page[KvKey]:
    """Return the keys behind `after`, sorted, with their newest revisions. Raises `NeedBlocks`."""
    head = key_subject(bucket, "")
    page = reads.list_subjects(layer.stream, head, head + after if after else "", limit)
    entries = [
        KvKey(key_of(bucket, subject), state.seq, state.tombstone)
        for subject in page.entries
        if (state := layer.committed(subject)).seq
    ]
    return Page(entries, page.next_after[len(head) :])


def read_history(layer: KvLayer, bucket: str, key: str, from_revision: int, limit: int, byte_max: int) -> Messages:
    """Return the revisions of a key that are kept, tombstones included. Raises `NeedBlocks`."""
    return reads.scan_subject(layer.stream, key_subject(bucket, key), from_revision, limit, byte_max)


class Watch:
    """The place of one watch in its bucket: first the live values as they stood when it began, then every change.

    A key that changes before its value was sent is left to the changes, where it comes anyway; so none comes twice, and none is
    left out. The revisions between that its history drops before the watch reads them are not sent; the newest always is.
    """

    __slots__ = ("layer", "pattern", "cursor", "live_to")

    def __init__(self, layer: KvLayer, bucket: str, pattern: str, after: int | None = None) -> None:
        self.layer = layer
        self.pattern = Pattern(keys_pattern(bucket, pattern))
        self.cursor = 1 if after is None else after + 1
        self.live_to = layer.stream.last_seq if after is None else after

    def has_more(self) -> bool:
        """Return True if there is something to look at."""
        return self.cursor <= self.layer.stream.last_seq

    def read(self, limit: int, byte_max: int) -> Messages:
        """Return what comes next, maybe nothing although there is more to look at. Raises `NeedBlocks`."""
        stream = self.layer.stream
        if self.cursor > self.live_to:
            found = reads.select(stream, self.cursor, self.pattern, limit, byte_max)
            messages = reads.messages_in(stream, found.ranges, 0)
            self.cursor = found.next_seq
            return messages
        found = reads.select(stream, self.cursor, self.pattern, min(limit, WATCH_LOOK_MAX), byte_max)
        seqs = [
            seq
            for first, last in found.ranges
            for seq in range(first, min(last, self.live_to) + 1)
            if self.layer.is_value(self._subject(seq), seq)
        ]
        messages = reads.messages_at(stream, seqs, [0] * len(seqs))
        self.cursor = min(found.next_seq, self.live_to + 1)
        return messages

    def _subject(self, seq: int) -> str:
        block = self.layer.stream.blocks[self.layer.stream.block_of(seq)]
        return block.resident().subject_at(seq - block.first)
