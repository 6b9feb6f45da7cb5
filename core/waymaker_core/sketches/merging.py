"""Merging of two sketches whose kinds are known at run time alone."""

from __future__ import annotations

from waymaker_core.sketches.bloom import BloomFilter
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.errors import DifferentParameters
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.restoring import Sketch
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import TopK


def merge(into: Sketch, other: Sketch) -> None:
    """Add all that another sketch holds. DifferentParameters, BadValue."""
    match into, other:
        case (BloomFilter(), BloomFilter()):
            into.merge(other)
        case (HyperLogLog(), HyperLogLog()):
            into.merge(other)
        case (CountMin(), CountMin()):
            into.merge(other)
        case (TopK(), TopK()):
            into.merge(other)
        case (TDigest(), TDigest()):
            into.merge(other)
        case _:
            raise DifferentParameters(
                f"a {_name(into)} cannot take in a {_name(other)}: sketches are merged with their own kind"
            )


def _name(sketch: Sketch) -> str:
    return {
        BloomFilter: "Bloom filter", HyperLogLog: "HyperLogLog", CountMin: "count-min sketch", TopK: "top-k list",
        TDigest: "t-digest",
    }[type(sketch)]  # fmt: skip
