"""The conversation with sketches: every answer must lie within the documented bound around the exact one.

Each kind is asked its questions, at random moments, about values that were added and about values that never were. Batches,
merges of snapshots, questions that a kind does not answer and restarts come in between. Rates are judged over a whole
conversation, on values that are asked about once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from waymaker_core.api import sketch_requests as sk
from waymaker_core.api.requests import CreateStream, DeleteStream
from waymaker_core.api.sketch_requests import Question
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import Status
from waymaker_core.sketches.answers import SketchAnswer
from waymaker_sim.compare.conversation import Conversation
from waymaker_sim.compare.pair import PAIR_LIMITS
from waymaker_sim.kernel.tape import Track
from waymaker_sim.reference.naive_sketches import Chances, NaiveCounts, NaiveNumbers

LIMITS: Final = replace(
    PAIR_LIMITS, page_entries_max=500, page_bytes_max=64 * KIB, segment_bytes=512 * KIB,
    checkpoint_journal_bytes=32 * KIB,
)  # fmt: skip
BLOOM, HLL, COUNT_MIN, TOP_K, T_DIGEST = "bloom", "hyperloglog", "count_min", "top_k", "t_digest"
PARAMETERS: Final = {
    BLOOM: ((1_000, 10_000_000), (1_000, 100_000_000), (500, 1_000_000)),
    HLL: ((8,), (6,), (12,)),
    COUNT_MIN: ((10_000_000, 1_000), (50_000_000, 1_000), (50_000_000, 100_000_000)),
    TOP_K: ((10, 10_000_000, 1_000), (3, 50_000_000, 1_000), (40, 10_000_000, 1_000)),
    T_DIGEST: ((100,), (20,), (50,)),
}
"""By kind: parameters to draw. A count-min sketch fails once in a million questions, where it must not be seen to fail."""
SURE_PPB: Final = 1_000
QUESTIONS: Final = {
    BLOOM: (Question.CONTAINS, Question.DISTINCT),
    HLL: (Question.DISTINCT,),
    COUNT_MIN: (Question.COUNTS,),
    TOP_K: (Question.TOP, Question.COUNTS),
    T_DIGEST: (Question.QUANTILES, Question.RANKS),
}
SHARES: Final = (0, 1, 10, 250, 500, 900, 999, 1_000)
"""Thousandths of all numbers."""
FRESH: Final = 40
"""Values that never were added, asked about at once."""


@dataclass(slots=True)
class OnBoth:
    """One sketch on both sides."""

    name: str
    kind: str
    parameters: tuple[int, ...]
    counts: NaiveCounts
    numbers: NaiveNumbers
    false_yes: Chances
    too_high: Chances

    @property
    def text(self) -> str:
        """Return its settings."""
        return ".".join([self.kind, *map(str, self.parameters)])


class SketchCalls(Conversation):
    """Draws batches and questions, sends them to the node, and holds the answers against the exact ones."""

    def __init__(self, track: Track) -> None:
        super().__init__(track, LIMITS)
        self.sketches: dict[str, OnBoth] = {}
        self._fresh = 0
        self._ask_about: dict[Question, Callable[[OnBoth], None]] = {
            Question.CONTAINS: self._contains,
            Question.DISTINCT: self._distinct,
            Question.COUNTS: self._how_often,
            Question.TOP: self._top,
            Question.QUANTILES: self._quantiles,
            Question.RANKS: self._ranks,
        }
        self._acts += [
            (30, self.add),
            (25, self.question),
            (4, self.merge),
            (4, self.info),
            (3, self.wrong),
            (6, self.make_sketch),
            (1, self.delete_sketch),
            (1, self.pass_time),
            (1, self.restart),
        ]

    def _name(self) -> str:
        """Draw a sketch: two of each kind, of the same parameters, so that they merge."""
        return f"sketch:{self.track.pick('kind', tuple(PARAMETERS))}-{self.track.pick('which', ('a', 'b'))}"

    # ------------------------------------------------------------ sketches

    def make_sketch(self) -> None:
        """Make a sketch; the second of a kind has the parameters of the first."""
        name = self._name()
        kind = name.removeprefix("sketch:")[:-2]
        twin = next((each for each in self.sketches.values() if each.kind == kind), None)
        parameters: tuple[int, ...] = self.track.pick("parameters", PARAMETERS[kind])
        parameters = twin.parameters if twin is not None else parameters
        rate = parameters[1] if kind in (BLOOM, COUNT_MIN) else 0
        sketch = OnBoth(name, kind, parameters, NaiveCounts(), NaiveNumbers(), Chances(rate), Chances(rate))
        request = CreateStream(StreamConfig(name, service_settings=sketch.text.encode()))
        if self._ask(request, name in self.sketches, outcomes.ALREADY_EXISTS) is not None:
            self.sketches[name] = sketch

    def delete_sketch(self) -> None:
        """Delete a sketch."""
        name = self._name()
        self._ask(DeleteStream(name), name not in self.sketches, outcomes.NO_SUCH_STREAM)
        self.sketches.pop(name, None)

    def _drawn(self) -> OnBoth | None:
        """Draw a sketch that exists; one that does not must be said to be missing."""
        name = self._name()
        if name not in self.sketches:
            self._ask(sk.GetSketchInfo(name), True, outcomes.NO_SUCH_STREAM)
        return self.sketches.get(name)

    # ------------------------------------------------------------ changes

    def add(self) -> None:
        """Add a batch: of numbers of all magnitudes, or of values of which some are frequent, or none."""
        sketch = self._drawn()
        if sketch is None:
            return
        count = self.track.pick("values", (1, 5, 60, 200))
        if sketch.kind == T_DIGEST:
            numbers = [self.track.magnitude("number", 1 << 20) - 500 for _ in range(count)]
            self._ask(sk.AddToSketch(sketch.name, [], _doubles(numbers)), False, outcomes.NO_SUCH_STREAM)
            sketch.numbers.add(numbers)
        else:
            draw = self.track.pick("spread", (self.track.magnitude, self.track.draw))
            values = [b"%d" % draw("value", 2_000) for _ in range(count)]
            self._ask(sk.AddToSketch(sketch.name, values), False, outcomes.NO_SUCH_STREAM)
            sketch.counts.add(values)

    def merge(self) -> None:
        """Merge the other sketch of a kind into one, or one into itself."""
        sketch, other = self._drawn(), self._drawn()
        if sketch is None or other is None:
            return
        found = self._ask(sk.GetSketchSnapshot(other.name), False, outcomes.NO_SUCH_STREAM)
        assert found is not None and isinstance(found[0].value, bytes)
        request = sk.MergeIntoSketch(sketch.name, found[0].value)
        if sketch.text != other.text:
            self._refused(request, Status.INVALID_ARGUMENT)
        elif sketch.counts.total() + len(sketch.numbers.numbers) < 20_000:
            self._ask(request, False, outcomes.NO_SUCH_STREAM)
            sketch.counts.merge(replace(other.counts, counts=dict(other.counts.counts)))
            sketch.numbers.merge(replace(other.numbers, numbers=list(other.numbers.numbers)))

    # ------------------------------------------------------------ questions

    def info(self) -> None:
        """Read the figures."""
        sketch = self._drawn()
        if sketch is not None:
            found = self._ask(sk.GetSketchInfo(sketch.name), False, outcomes.NO_SUCH_STREAM)
            assert found is not None and isinstance(found[0].value, sk.SketchInfo)
            info = found[0].value
            added = sketch.numbers.added if sketch.kind == T_DIGEST else sketch.counts.added
            self._same(
                (sketch.name, "info"), (sketch.text, added, False), (info.parameters, info.added, info.ephemeral)
            )

    def wrong(self) -> None:
        """Ask and add what the kind must refuse."""
        sketch = self._drawn()
        if sketch is None:
            return
        question = self.track.pick("question", tuple(Question))
        if question not in QUESTIONS[sketch.kind]:
            request = sk.QuerySketch(sketch.name, question, [b"1"], _doubles([0]), 1)
            self._refused(request, Status.INVALID_ARGUMENT)
        values, numbers = [b"1"], _doubles([1])
        is_digest = sketch.kind == T_DIGEST
        bad: tuple[sk.AddToSketch | sk.MergeIntoSketch, ...] = (
            sk.AddToSketch(sketch.name, values if is_digest else [], b"" if is_digest else numbers),
            sk.AddToSketch(sketch.name),
            sk.AddToSketch(sketch.name, [], numbers[:7] if is_digest else numbers),
            sk.AddToSketch(sketch.name, [], struct.pack("<d", float("inf")) if is_digest else numbers),
            sk.MergeIntoSketch(sketch.name, b"WMsk"),
        )
        self._refused(self.track.pick("bad", bad), Status.INVALID_ARGUMENT)
        if not is_digest:
            too_many = sk.AddToSketch(sketch.name, values * (LIMITS.page_entries_max + 1))
            self._refused(too_many, Status.RESOURCE_EXHAUSTED)

    def question(self) -> None:
        """Ask a sketch one of its questions."""
        sketch = self._drawn()
        if sketch is not None:
            self._ask_about[self.track.pick("question", QUESTIONS[sketch.kind])](sketch)

    def _answer(
        self, sketch: OnBoth, question: Question, values: list[bytes], numbers: bytes = b"", limit: int = 0
    ) -> SketchAnswer:
        request = sk.QuerySketch(sketch.name, question, values, numbers, limit)
        found = self._ask(request, False, outcomes.NO_SUCH_STREAM)
        assert found is not None and isinstance(found[0].value, SketchAnswer)
        return found[0].value

    def _require_within(self, sketch: OnBoth, fault: str) -> None:
        self._require(not fault, (sketch.name, sketch.text), "an answer within its bound", fault)

    def _never_added(self) -> list[bytes]:
        """Return values that were never added, and are asked about only this once."""
        self._fresh += FRESH
        return [b"-%d" % number for number in range(self._fresh - FRESH, self._fresh)]

    def _some_added(self, sketch: OnBoth) -> list[bytes]:
        added = list(sketch.counts.counts)
        at = self.track.draw("at", len(added) + 1)
        return added[at : at + FRESH]

    def _contains(self, sketch: OnBoth) -> None:
        added, fresh = self._some_added(sketch), self._never_added()
        found = list(self._answer(sketch, Question.CONTAINS, added + fresh).contained)
        self._require_within(sketch, "" if all(found[: len(added)]) else f"a false no to one of {added}")
        if len(sketch.counts.counts) <= sketch.parameters[0]:
            sketch.false_yes.count(found[len(added) :])
            self._require_within(sketch, f"false yes {sketch.false_yes}" if sketch.false_yes.too_often() else "")

    def _distinct(self, sketch: OnBoth) -> None:
        answer = _fractions(self._answer(sketch, Question.DISTINCT, []).numbers)[0]
        if sketch.kind == HLL:
            self._require_within(sketch, sketch.counts.distinct_fault(answer, sketch.parameters[0]))
        elif len(sketch.counts.counts) <= sketch.parameters[0]:
            self._require_within(sketch, sketch.counts.about_fault(answer))

    def _how_often(self, sketch: OnBoth) -> None:
        added, fresh = self._some_added(sketch), self._never_added()
        error_ppb, failure_ppb = sketch.parameters[-2:]
        found = self._answer(sketch, Question.COUNTS, added + fresh).counts
        faults = [
            sketch.counts.count_fault(value, count, error_ppb)
            for value, count in zip(added + fresh, found, strict=True)
        ]
        if failure_ppb == SURE_PPB:
            self._require_within(sketch, next(filter(None, faults), ""))
            return
        low = [value for value, count in zip(added, found, strict=False) if count < sketch.counts.counts[value]]
        self._require_within(sketch, f"{low} were added more often" if low else "")
        sketch.too_high.count([bool(fault) for fault in faults[len(added) :]])
        self._require_within(sketch, f"too high {sketch.too_high}" if sketch.too_high.too_often() else "")

    def _top(self, sketch: OnBoth) -> None:
        k, error_ppb, _ = sketch.parameters
        limit = self.track.pick("limit", (0, 1, 5, 100))
        top = [(value, count) for value, count in self._answer(sketch, Question.TOP, [], b"", limit).top]
        self._require_within(sketch, sketch.counts.top_fault(top, k, limit or k, error_ppb))

    def _quantiles(self, sketch: OnBoth) -> None:
        shares = [each / 1_000 for each in SHARES]
        request = sk.QuerySketch(sketch.name, Question.QUANTILES, [], struct.pack(f"<{len(shares)}d", *shares))
        if not sketch.numbers.numbers:
            self._refused(request, Status.INVALID_ARGUMENT)
            return
        found = _fractions(self._answer(sketch, Question.QUANTILES, [], request.numbers).numbers)
        self._same((sketch.name, "in order"), sorted(found), found)
        for share, answer in zip(shares, found, strict=True):
            self._require_within(sketch, sketch.numbers.quantile_fault(Fraction(share), answer, sketch.parameters[0]))

    def _ranks(self, sketch: OnBoth) -> None:
        numbers = sorted(self.track.magnitude("number", 1 << 20) - 500 for _ in range(5))
        if not sketch.numbers.numbers:
            request = sk.QuerySketch(sketch.name, Question.RANKS, [], _doubles(numbers))
            self._refused(request, Status.INVALID_ARGUMENT)
            return
        found = _fractions(self._answer(sketch, Question.RANKS, [], _doubles(numbers)).numbers)
        self._same((sketch.name, "in order"), sorted(found), found)
        for number, answer in zip(numbers, found, strict=True):
            self._require_within(sketch, sketch.numbers.rank_fault(number, answer, sketch.parameters[0]))


def _doubles(numbers: list[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def _fractions(doubles: bytes) -> list[Fraction]:
    return [Fraction(number) for (number,) in struct.iter_unpack("<d", doubles)]
