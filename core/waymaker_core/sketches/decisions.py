"""Decisions about a sketch: what is added is checked as the sketch itself would, before it becomes a fact.

A fact that is committed is applied without a question. So everything that a sketch could refuse is refused here, against the
sketch as it will be once all that is decided before is applied.
"""

from __future__ import annotations

from waymaker_core.api.sketch_requests import AddToSketch, MergeIntoSketch
from waymaker_core.layers.layer import FACT_BYTES_MAX, SKETCHES, LayerDecision
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import LayerRecord
from waymaker_core.model.result_codes import invalid, resource_exhausted
from waymaker_core.sketches.count_min import TOTAL_MAX, CountMin
from waymaker_core.sketches.errors import SketchError
from waymaker_core.sketches.facts import (
    FACT_HEAD_BYTES,
    Purpose,
    count_added,
    encode_numbers,
    encode_pieces,
    encode_values,
    values_fact_bytes,
)
from waymaker_core.sketches.layer import SketchLayer, parameters_of_sketch
from waymaker_core.sketches.restoring import restore
from waymaker_core.sketches.snapshot_format import floats
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import VALUE_BYTES_MAX, TopK


def check_add(layer: SketchLayer, request: AddToSketch, limits: Limits) -> None:
    """Refuse (RefusedError) a batch that the sketch would refuse, or that is too large for one fact."""
    if isinstance(layer.sketch, TDigest):
        if request.values:
            raise invalid("a t-digest ranks numbers; values of bytes were given")
        count = _check_numbers(request.numbers)
        size = FACT_HEAD_BYTES + len(request.numbers)
    else:
        if request.numbers:
            raise invalid("this sketch takes values of bytes; numbers were given, which a t-digest takes")
        count, size = len(request.values), values_fact_bytes(request.values)
        longest = max(map(len, request.values), default=0)
        if isinstance(layer.sketch, TopK) and longest > VALUE_BYTES_MAX:
            raise invalid(
                f"a value has {longest:,} bytes; at most {VALUE_BYTES_MAX:,} are allowed, for frequent values are kept whole"
            )
    if not count:
        raise invalid("nothing is to be added")
    if count > limits.page_entries_max or size > FACT_BYTES_MAX:
        raise resource_exhausted(
            f"a batch of {count:,} values and {size:,} bytes; at most {limits.page_entries_max:,} values and "
            f"{FACT_BYTES_MAX:,} bytes are added at once"
        )
    _check_total(layer, count)


def decide_add(layer: SketchLayer, request: AddToSketch) -> LayerDecision:
    """Decide an `AddToSketch` that `check_add` let pass."""
    count = len(request.values) or len(request.numbers) // 8
    fact = encode_numbers(request.numbers) if request.numbers else encode_values(request.values)
    layer.stage(fact, count)
    return LayerDecision(LayerRecord(None, facts=[(SKETCHES, fact)]))


def decide_merge(layer: SketchLayer, request: MergeIntoSketch) -> list[LayerRecord]:
    """Decide `MergeIntoSketch`: records that belong together; the merge happens with the last. RefusedError."""
    try:
        other = restore(request.snapshot)
    except SketchError as problem:
        raise invalid(f"the snapshot cannot be merged: {problem}") from problem
    if parameters_of_sketch(other) != layer.parameters:
        raise invalid(
            f"a sketch {parameters_of_sketch(other).text} cannot be merged into one of {layer.parameters.text}: "
            "make both with the same parameters"
        )
    match other:
        case CountMin():
            more = other.total
        case TopK():
            more = other.counts.total
        case TDigest():
            more = other.count
        case _:
            more = 0
    _check_total(layer, more)
    facts = list(encode_pieces(Purpose.MERGE, request.snapshot))
    for fact in facts:
        layer.stage(fact, more if fact is facts[-1] else 0)
    return [LayerRecord(None, facts=[(SKETCHES, fact)]) for fact in facts]


def check_sourced(layer: SketchLayer, fact: bytes) -> None:
    """Refuse (RefusedError) what a batch of a source adds, where the total would be too great. It may be less later."""
    _check_total(layer, count_added(fact))


def stage_sourced(layer: SketchLayer, fact: bytes) -> None:
    """Lay what a batch of a source adds over what is committed."""
    layer.stage(fact, count_added(fact))


def _check_numbers(numbers: bytes) -> int:
    """Return how many numbers there are; refuse those that a t-digest cannot rank."""
    if len(numbers) % 8:
        raise invalid("the numbers are cut: each has 8 bytes")
    found = floats(numbers)
    for number in found:
        if number - number != 0:  # an infinity, or not a number
            raise invalid(f"{number} is not a finite number: a t-digest ranks finite numbers only")
    return len(found)


def _check_total(layer: SketchLayer, more: int) -> None:
    if layer.total() + more > TOTAL_MAX:
        raise resource_exhausted(f"the total would be {layer.total() + more:,}; at most {TOTAL_MAX:,} is counted")
