"""Answers of sketches: which question which kind answers, from the committed sketch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from waymaker_core.api.sketch_requests import QuerySketch, Question
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import invalid, resource_exhausted
from waymaker_core.sketches.bloom import BloomFilter
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.errors import SketchError
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.restoring import Sketch
from waymaker_core.sketches.snapshot_format import floats, packed
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import Candidate, TopK


@dataclass(slots=True, eq=False)
class SketchAnswer:
    """The one field that answers the question. `numbers` are doubles as little-endian bytes, one of them for `DISTINCT`."""

    contained: Sequence[bool] = ()
    counts: Sequence[int] = ()
    top: Sequence[Candidate] = ()
    numbers: bytes = b""
    question: Question = field(default=Question.CONTAINS)


def answer(sketch: Sketch, request: QuerySketch, limits: Limits) -> SketchAnswer:
    """Answer a question. RefusedError where this kind does not answer it, or what is asked has no answer."""
    asked = max(len(request.values), len(request.numbers) // 8, request.limit)
    if asked > limits.page_entries_max:
        raise resource_exhausted(f"{asked:,} answers; at most {limits.page_entries_max:,} are given at once")
    if len(request.numbers) % 8:
        raise invalid("the numbers are cut: each has 8 bytes")
    try:
        found = _answer(sketch, request)
    except SketchError as problem:
        raise invalid(str(problem)) from problem
    found.question = request.question
    return found


def _answer(sketch: Sketch, request: QuerySketch) -> SketchAnswer:
    match request.question, sketch:
        case Question.CONTAINS, BloomFilter():
            return SketchAnswer(contained=sketch.contains(request.values))
        case Question.DISTINCT, HyperLogLog():
            return SketchAnswer(numbers=packed([sketch.estimate()]))
        case Question.DISTINCT, BloomFilter():
            return SketchAnswer(numbers=packed([sketch.estimate_distinct()]))
        case Question.COUNTS, CountMin():
            return SketchAnswer(counts=sketch.estimate(request.values))
        case Question.COUNTS, TopK():
            return SketchAnswer(counts=sketch.counts.estimate(request.values))
        case Question.TOP, TopK():
            return SketchAnswer(top=sketch.top(request.limit or sketch.k))
        case Question.QUANTILES, TDigest():
            return SketchAnswer(numbers=packed(sketch.quantiles(floats(request.numbers))))
        case Question.RANKS, TDigest():
            return SketchAnswer(numbers=packed(sketch.ranks(floats(request.numbers))))
    raise invalid(f"a {_NAMES[type(sketch)]} does not answer the question {request.question.name.lower()!r}")


_NAMES: dict[type[Sketch], str] = {
    BloomFilter: "Bloom filter",
    HyperLogLog: "HyperLogLog",
    CountMin: "count-min sketch",
    TopK: "top-k list",
    TDigest: "t-digest",
}
