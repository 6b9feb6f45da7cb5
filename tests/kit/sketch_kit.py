"""One small sketch of each kind for tests and fuzz targets, and the use of one in every way."""

from __future__ import annotations

from waymaker_core.sketches.bloom import BloomFilter
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.restoring import Sketch, restore
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import TopK

TENTH = 100_000_000


def empty_sketches() -> dict[str, Sketch]:
    """Make one empty sketch of each kind, with few bytes."""
    return {
        "bloom": BloomFilter(20, TENTH),
        "hyperloglog": HyperLogLog(4),
        "count-min": CountMin(TENTH, TENTH),
        "top-k": TopK(3, TENTH, TENTH),
        "t-digest": TDigest(20),
    }


def add(sketch: Sketch, numbers: list[int]) -> None:
    """Add numbers, as bytes where the sketch takes bytes."""
    if isinstance(sketch, TDigest):
        sketch.add([float(number) for number in numbers])
    else:
        sketch.add([b"%d" % number for number in numbers])


def small_sketches(count: int = 300) -> dict[str, Sketch]:
    """Make one sketch of each kind after so many values, most of them repeated."""
    made = empty_sketches()
    for sketch in made.values():
        add(sketch, [number * number % 101 for number in range(count)])
    return made


def merge(into: Sketch, other: Sketch) -> None:
    """Merge two sketches of one kind."""
    match into, other:
        case (BloomFilter(), BloomFilter()) | (HyperLogLog(), HyperLogLog()) | (CountMin(), CountMin()):
            into.merge(other)  # type: ignore[arg-type]
        case (TopK(), TopK()):
            into.merge(other)
        case (TDigest(), TDigest()):
            into.merge(other)
        case _:
            raise AssertionError("two kinds")


def answers(sketch: Sketch) -> object:
    """Return the answers to everything that a sketch can be asked."""
    asked = [b"%d" % number for number in range(30)]
    match sketch:
        case BloomFilter():
            return sketch.contains(asked), sketch.bits_set(), sketch.estimate_distinct()
        case HyperLogLog():
            return sketch.estimate()
        case CountMin():
            return sketch.estimate(asked), sketch.total, sketch.error_bound()
        case TopK():
            return sketch.top(10), sketch.counts.estimate(asked), sketch.counts.total
        case TDigest():
            if not sketch.count:
                return 0
            shares = [0.0, 0.1, 0.5, 0.9, 1.0]
            return sketch.quantiles(shares), sketch.ranks([-1e300, 0.0, 3.5, 1e300]), sketch.count, sketch.centroids()


def used(snapshot: bytes) -> Sketch:
    """Restore a sketch and use it in every way: asked, added to, merged with itself and stored again."""
    sketch = restore(snapshot)
    assert sketch.snapshot() == snapshot
    before = answers(sketch)
    assert answers(restore(snapshot)) == before
    add(sketch, list(range(400)))
    merge(sketch, restore(sketch.snapshot()))
    answers(sketch)
    again = sketch.snapshot()
    assert restore(again).snapshot() == again
    return sketch
