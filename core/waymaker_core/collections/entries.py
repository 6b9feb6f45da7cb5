"""Entries: the layer of a hash store or a set store, with the newest message of every field or member.

The service keeps one message at a subject: what replaces an entry deletes the message before it, in the same record. So the
stream's live messages are the entries. The index says where each is without a look at any block: sequence and size by subject,
in the order of subjects. It counts them by the beginning that the entries of one hash or set share.

It is made of committed records alone: messages say what was put, and a fact lists the subjects that were removed. What is
decided and not committed lies over it by subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from sortedcontainers import SortedDict

from waymaker_core.collections.settings import decode_settings
from waymaker_core.collections.subjects import head_of
from waymaker_core.layers.layer import COLLECTIONS, FACT_BYTES_MAX, LayerDecision, fact_of, messages_of
from waymaker_core.model.records import StreamRecord, seq_array
from waymaker_core.model.types import Now
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.stream.stream import Stream

VERSION: Final = 1
_SIZE_BITS: Final = 32
_SIZE_MASK: Final = (1 << _SIZE_BITS) - 1

ABSENT: Final = 0
"""The place of an entry that is not there."""


def place(seq: int, size: int) -> int:
    """Return an entry's sequence and size as one number: an index of millions holds no tuples."""
    return seq << _SIZE_BITS | size


def seq_of(found: int) -> int:
    """Return the sequence of a place."""
    return found >> _SIZE_BITS


def size_of(found: int) -> int:
    """Return the size of a place."""
    return found & _SIZE_MASK


class Entries:
    """The index of one store. Memory grows with its entries, like the stream's subject table.

    `places`: by subject, in their order. `counts`: entries by the head of their subjects. `staged`: by subject, the place it
    will have and how many decisions about it wait.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.settings = decode_settings(stream.config.service_settings)
        self.places: SortedDict[str, int] = SortedDict()
        self.counts: dict[str, int] = {}
        self.staged: dict[str, tuple[int, int]] = {}

    @property
    def kind(self) -> int:
        """Return the stored number of this kind of layer."""
        return COLLECTIONS

    # ------------------------------------------------------------ look-ups

    def projected(self, subject: str) -> int:
        """Return the place of an entry once all that is staged is applied, or ABSENT."""
        staged = self.staged.get(subject)
        return self.places.get(subject, ABSENT) if staged is None else staged[0]

    def page(self, head: str, after: str, limit: int) -> list[str]:
        """Return subjects behind `after` that begin with `head`, in their order, at most `limit`."""
        found: list[str] = []
        for subject in self.places.irange(minimum=max(head, after), inclusive=(after < head, True)):
            if len(found) == limit or not subject.startswith(head):
                break
            found.append(subject)
        return found

    # ------------------------------------------------------------ overlay

    def stage(self, subject: str, found: int) -> None:
        """Lay a decision about one entry over the committed ones."""
        staged = self.staged.get(subject)
        self.staged[subject] = (found, 1 if staged is None else staged[1] + 1)

    def discard_uncommitted(self) -> None:
        """Drop every decision that is not committed."""
        self.staged.clear()

    def has_staged(self) -> bool:
        """Return True if a decision waits for its commit."""
        return bool(self.staged)

    def _commit(self, subject: str) -> None:
        staged = self.staged.get(subject)
        if staged is None:
            return
        if staged[1] == 1:
            del self.staged[subject]
        else:
            self.staged[subject] = (staged[0], staged[1] - 1)

    # ------------------------------------------------------------ committed records

    def apply(self, record: StreamRecord) -> None:
        """Apply a committed record: entries that were put, then those that were removed."""
        messages = messages_of(record)
        if messages is not None:
            first, seqs = messages.first_seq, messages.seqs
            for entry, (subject, size) in enumerate(zip(messages.subjects, messages.sizes, strict=True)):
                self._put(subject, place(first + entry if seqs is None else seqs[entry], size))
        fact = fact_of(record, COLLECTIONS)
        if fact is not None:
            for subject in decode_removals(fact):
                self._remove(subject)

    def _put(self, subject: str, found: int) -> None:
        if subject not in self.places:
            head = head_of(subject)
            self.counts[head] = self.counts.get(head, 0) + 1
        self.places[subject] = found
        self._commit(subject)

    def _remove(self, subject: str) -> None:
        if self.places.pop(subject, ABSENT):
            head = head_of(subject)
            self.counts[head] -= 1
            if not self.counts[head]:
                del self.counts[head]
        self._commit(subject)

    # ------------------------------------------------------------ time

    def next_due(self, now: Now) -> int | None:
        """Return None: nothing of an entry falls due."""
        return None

    def decide_due(self, now: Now) -> LayerDecision | None:
        """Decide nothing: nothing of an entry falls due."""
        return None

    # ------------------------------------------------------------ snapshots

    def snapshot(self) -> object:
        """Return the index as plain values for CBOR: subjects as one text, places as pairs of columns."""
        seqs = seq_array([seq_of(found) for found in self.places.values()])
        sizes = seq_array([size_of(found) for found in self.places.values()])
        return [VERSION, "\0".join(self.places), seqs.tolist(), sizes.tolist()]

    def restore(self, snapshot: object) -> None:
        """Load a snapshot into a new layer."""
        subjects, seqs, sizes = _decode(snapshot)
        for subject, seq, size in zip(subjects, seqs, sizes, strict=True):
            self._put(subject, place(seq, size))

    def import_facts(self, snapshot: object) -> list[bytes]:
        """Return nothing: the messages of an archive are all that there is to know."""
        _decode(snapshot)
        return []

    def check(self) -> None:
        """Assert that the index is the stream's live messages, and that its counts are its own."""
        stream = self._stream
        assert len(self.places) == stream.count, f"{len(self.places)} entries of {stream.count} live messages"
        assert sum(map(size_of, self.places.values())) == stream.bytes, (
            "the sizes of the entries are the stream's bytes"
        )
        counts: dict[str, int] = {}
        for subject, found in self.places.items():
            assert stream.is_live(seq_of(found)), f"the entry at {subject!r} is a live message"
            counts[head_of(subject)] = counts.get(head_of(subject), 0) + 1
        assert counts == self.counts, "entries are counted by their heads"


def encode_removals(subjects: Sequence[str]) -> bytes:
    """Return the fact that entries were removed."""
    return bytes([VERSION]) + "\0".join(subjects).encode()


def decode_removals(fact: bytes) -> list[str]:
    """Return the subjects of a fact. CorruptRecord, UnknownVersion."""
    if fact[:1] != bytes([VERSION]):
        if not fact:
            raise CorruptRecord("the fact of a collection is empty")
        raise UnknownVersion("the fact of a collection", fact[0], VERSION)
    if len(fact) > FACT_BYTES_MAX:
        raise CorruptRecord(f"the fact of a collection has {len(fact):,} bytes")
    try:
        return fact[1:].decode().split("\0")
    except UnicodeDecodeError as problem:
        raise CorruptRecord(f"the fact of a collection: {problem}") from problem


def _decode(snapshot: object) -> tuple[list[str], list[int], list[int]]:
    match snapshot:
        case [int(version), str(text), list(seqs), list(sizes)] if version == VERSION:
            subjects = text.split("\0") if text else []
            known = [seq for seq in seqs if isinstance(seq, int) and 0 < seq < 1 << 63]
            given = [size for size in sizes if isinstance(size, int) and 0 < size <= _SIZE_MASK]
            if not len(subjects) == len(known) == len(given) == len(seqs) == len(sizes):
                raise CorruptRecord("the columns of a store's entries disagree")
            if any(subject >= later for subject, later in pairwise(subjects)):
                raise CorruptRecord("the entries of a store are not in order")
            if not all(subject.count(".") >= 2 for subject in subjects):
                raise CorruptRecord("the subject of a store's entry has no key")
            return subjects, known, given
        case [int(version), *_] if version != VERSION:
            raise UnknownVersion("the snapshot of a store", version, VERSION)
    raise CorruptRecord("not the snapshot of a store")
