"""The dedupe table: which numbers of which producers a stream has stored, and at which sequences.

A producer numbers its messages, so that one that it sends again is found here and not stored a second time. The table is
state: committed records alone change it, and it goes with the stream into snapshots. Decisions stage the spans that they
store; `apply` commits them, `discard` drops the rest (docs/architecture.md, "Overlays").

It is bounded, and forgets in the order of the log: past `producers_max` the producer that stored nothing for longest, past
`producer_spans_max` a producer's lowest numbers. It never takes what it may have forgotten for new (`Producers.find_number`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from waymaker_core.model.limits import Limits
from waymaker_core.model.records import ProducerSpan

FRESH = 0
"""Found for a number that was certainly never stored."""
FORGOTTEN = -1
"""Found for a number that may have been stored, which the table does not remember."""


class StoredSpan(NamedTuple):
    """Consecutive numbers of a producer at consecutive sequences."""

    producer_id: int
    epoch: int
    first_number: int
    first_seq: int
    length: int


class KnownProducer:
    """A producer as a stream remembers it: its newest `epoch`, and columns of spans, ascending by number.

    Of numbers up to `floor` only those in the spans are known; the others may have been stored.
    """

    __slots__ = ("epoch", "floor", "numbers", "seqs", "counts")

    def __init__(self, epoch: int, floor: int) -> None:
        self.epoch = epoch
        self.floor = floor
        self.numbers = array("Q")
        self.seqs = array("Q")
        self.counts = array("Q")

    @property
    def newest(self) -> int:
        """Return the greatest number stored, or the floor."""
        return max(self.floor, self.numbers[-1] + self.counts[-1] - 1) if self.numbers else self.floor

    def is_sound(self, last_seq: int) -> bool:
        """Return True if its spans ascend, apart from each other, and lie within the stream."""
        end = 1
        for number, seq, count in zip(self.numbers, self.seqs, self.counts, strict=True):
            if not count or not seq or number < end or seq + count - 1 > last_seq:
                return False
            end = number + count
        return len(self.numbers) > 0

    def find_number(self, number: int) -> int:
        """Return the sequence of a number; `FRESH` or `FORGOTTEN` where there is none."""
        place = bisect_right(self.numbers, number) - 1
        if place >= 0 and number - self.numbers[place] < self.counts[place]:
            return self.seqs[place] + number - self.numbers[place]
        return FORGOTTEN if number <= self.floor else FRESH

    def add(self, span: StoredSpan, spans_max: int) -> None:
        """Add a span, and forget the lowest ones past the bound."""
        self.epoch = max(self.epoch, span.epoch)
        place = bisect_right(self.numbers, span.first_number)
        before = place - 1
        if before >= 0 and (
            self.numbers[before] + self.counts[before] == span.first_number
            and self.seqs[before] + self.counts[before] == span.first_seq
        ):
            self.counts[before] += span.length
        else:
            self.numbers.insert(place, span.first_number)
            self.seqs.insert(place, span.first_seq)
            self.counts.insert(place, span.length)
        excess = len(self.numbers) - spans_max
        if excess > 0:
            self.floor = max(self.floor, self.numbers[excess - 1] + self.counts[excess - 1] - 1)
            del self.numbers[:excess], self.seqs[:excess], self.counts[:excess]


class Producers:
    """The table of one stream, and the spans that are staged over it.

    `known`: producers by id, the one that stored nothing for longest first. `forgot`: a producer was forgotten once, so
    that one that is not known may have stored messages all the same.
    """

    __slots__ = ("limits", "known", "forgot", "staged", "_staged_of")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.known: dict[int, KnownProducer] = {}
        self.forgot = False
        self.staged: deque[StoredSpan] = deque()
        self._staged_of: dict[int, list[StoredSpan]] = {}

    # ------------------------------------------------------------ look-ups, for decisions

    def epoch_of(self, producer_id: int) -> int:
        """Return the newest epoch of a producer, committed or staged; 0 for one that is not known."""
        staged = self._staged_of.get(producer_id)
        if staged:
            return staged[-1].epoch  # no lower one is staged behind it
        known = self.known.get(producer_id)
        return 0 if known is None else known.epoch

    def newest_of(self, producer_id: int) -> int:
        """Return the greatest number of a producer that is stored, staged or forgotten; 0 where there is none."""
        known = self.known.get(producer_id)
        newest = 0 if known is None else known.newest
        for span in self._staged_of.get(producer_id, ()):
            newest = max(newest, span.first_number + span.length - 1)
        return newest

    def find_number(self, producer_id: int, number: int, resent: bool) -> int:
        """Return the sequence of a producer's number, committed or staged; `FRESH` or `FORGOTTEN` where there is none.

        A number that is sent again by a producer that is not known is `FORGOTTEN` once the table forgot any producer: it
        may have been this one.
        """
        for span in self._staged_of.get(producer_id, ()):
            if span.first_number <= number < span.first_number + span.length:
                return span.first_seq + number - span.first_number
        known = self.known.get(producer_id)
        if known is not None:
            return known.find_number(number)
        return FORGOTTEN if resent and self.forgot else FRESH

    def is_staged(self, producer_id: int) -> bool:
        """Return True if what is found of a producer may rest on what is not committed."""
        return producer_id in self._staged_of

    # ------------------------------------------------------------ changes

    def stage(self, spans: Iterable[ProducerSpan], first_seq: int) -> None:
        """Stage the spans of a record that was decided."""
        for span in _stored(spans, first_seq):
            self.staged.append(span)
            self._staged_of.setdefault(span.producer_id, []).append(span)

    def apply(self, spans: Iterable[ProducerSpan], first_seq: int, last_seq: int) -> None:
        """Apply the spans of a committed record, and let go of those staged up to its last sequence."""
        for span in _stored(spans, first_seq):
            # A producer that comes back after it was forgotten must not take its earlier numbers for new ones.
            known = self.known.pop(span.producer_id, None) or KnownProducer(
                span.epoch, span.first_number - 1 if self.forgot else 0
            )
            self.known[span.producer_id] = known
            known.add(span, self.limits.producer_spans_max)
        while len(self.known) > self.limits.producers_max:
            del self.known[next(iter(self.known))]
            self.forgot = True
        while self.staged and self.staged[0].first_seq <= last_seq:
            span = self.staged.popleft()
            waiting = self._staged_of[span.producer_id]
            waiting.pop(0)
            if not waiting:
                del self._staged_of[span.producer_id]

    def discard(self) -> None:
        """Drop all that is staged."""
        self.staged.clear()
        self._staged_of.clear()


def _stored(spans: Iterable[ProducerSpan], first_seq: int) -> Iterable[StoredSpan]:
    for span in spans:
        yield StoredSpan(span.producer_id, span.epoch, span.first_number, first_seq + span.start, span.length)
