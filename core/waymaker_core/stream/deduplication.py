"""Deduplication: which messages of a publish are new, and the one answer for those and the ones stored before.

A producer that lost the answer to a publish sends the same numbers again. Numbers that the stream has stored are answered
with the sequence that they have, before anything else is asked of the message: a resent compare-and-set that was stored is
`ok`. A message that was refused has no number stored; sent again, it is decided anew. It never decides what enters:
that is `admission`'s, for the new messages alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from waymaker_core.api.requests import Producer, Publish, Published
from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.records import ProducerSpan
from waymaker_core.model.result_codes import OUTCOME_UNKNOWN, PRODUCER_FENCED, invalid
from waymaker_core.stream.producers import FORGOTTEN, FRESH, Producers

Failures = dict[int, tuple[str, str, int]]
EPOCH_MAX = (1 << 32) - 1
ID_MAX = (1 << 64) - 1


def check_producer(producer: Producer, count: int) -> None:
    """Raise `RefusedError` unless a producer numbers so many messages."""
    numbers = producer.numbers
    if not 0 < producer.id <= ID_MAX or not 0 <= producer.epoch <= EPOCH_MAX:
        raise invalid("a producer has an id of 1 to 64 bits and an epoch of 32")
    if len(numbers) != count:
        raise invalid(f"{len(numbers)} numbers of a producer for {count} messages")
    ascending = isinstance(numbers, range) or all(map(int.__lt__, numbers, numbers[1:]))
    if not 0 < numbers[0] <= numbers[-1] <= SEQ_MAX or not ascending:
        raise invalid("the numbers of a producer ascend from 1")


class Known:
    """The facts about a publish before it is decided: messages stored before, by index, and those that are refused.

    `fresh`: the indexes of the others. `depends_on_uncommitted`: what was found may not be committed yet.
    """

    __slots__ = ("stored", "failures", "fresh", "depends_on_uncommitted")

    def __init__(self, stored: dict[int, int], failures: Failures, fresh: list[int], staged: bool) -> None:
        self.stored = stored
        self.failures = failures
        self.fresh = fresh
        self.depends_on_uncommitted = staged


def look_up(producers: Producers, producer: Producer) -> Known | None:
    """Return what is known of a producer's messages; None where all of them are new."""
    epoch, staged = producers.epoch_of(producer.id), producers.is_staged(producer.id)
    count = len(producer.numbers)
    if producer.epoch < epoch:
        text = f"epoch {producer.epoch} of this producer is over: its newest is {epoch}"
        return Known({}, dict.fromkeys(range(count), (PRODUCER_FENCED, text, 0)), [], staged)
    if producer.numbers[0] > producers.newest_of(producer.id) and not (producer.resent and producers.forgot):
        return None
    stored: dict[int, int] = {}
    failures: Failures = {}
    fresh: list[int] = []
    for index, number in enumerate(producer.numbers):
        seq = producers.find_number(producer.id, number, producer.resent)
        if seq == FRESH:
            fresh.append(index)
        elif seq == FORGOTTEN:
            text = f"number {number} of this producer is older than what the stream remembers: it may have been stored"
            failures[index] = (OUTCOME_UNKNOWN, text, 0)
        else:
            stored[index] = seq
    return Known(stored, failures, fresh, staged) if stored or failures else None


def only(request: Publish, entries: list[int]) -> Publish:
    """Return a publish of these messages alone."""
    parts: list[bytes] = []
    at, wanted = 0, dict.fromkeys(entries)
    for index, length in enumerate(request.lengths):
        if index in wanted:
            parts.append(request.body[at : at + length])
        at += length
    producer = request.producer
    return Publish(
        request.stream,
        service=request.service,
        subjects=[request.subjects[entry] for entry in entries],
        sizes=[request.sizes[entry] for entry in entries],
        lengths=[request.lengths[entry] for entry in entries],
        body=b"".join(parts),
        times_ms=None if request.times_ms is None else [request.times_ms[entry] for entry in entries],
        expected=None if request.expected is None else [request.expected[entry] for entry in entries],
        producer=producer and _numbered(producer, entries),
    )


def _numbered(producer: Producer, entries: list[int]) -> Producer:
    return Producer(producer.id, producer.epoch, [producer.numbers[entry] for entry in entries], producer.resent)


def merge(known: Known, decided: Published, count: int) -> Published:
    """Return the answer to a whole publish: what is known of it, and what was decided about its new messages."""
    failures = dict(known.failures)
    failures.update({known.fresh[index]: failure for index, failure in (decided.failures or {}).items()})
    seqs = array("Q")
    seq = decided.first_seq
    for index in range(count):
        if index in known.stored:
            seqs.append(known.stored[index])
        elif index not in failures:
            seqs.append(seq)
            seq += 1
    if not seqs:
        return Published(0, 0, failures)
    consecutive = all(seqs[place] == seqs[0] + place for place in range(len(seqs)))
    return Published(seqs[0], len(seqs), failures or None, None if consecutive else seqs)


def spans_of(producer: Producer, refused: Failures) -> list[ProducerSpan]:
    """Return the spans of the messages of a publish that entered, as they lie in its record."""
    numbers: Sequence[int] = producer.numbers
    if not refused and numbers[-1] - numbers[0] == len(numbers) - 1:
        return [ProducerSpan(producer.id, producer.epoch, numbers[0], 0, len(numbers))]
    spans: list[ProducerSpan] = []
    start = 0
    for index, number in enumerate(numbers):
        if index in refused:
            continue
        last = spans[-1] if spans else None
        if last is not None and last.first_number + last.length == number:
            spans[-1] = last._replace(length=last.length + 1)
        else:
            spans.append(ProducerSpan(producer.id, producer.epoch, number, start, 1))
        start += 1
    return spans
