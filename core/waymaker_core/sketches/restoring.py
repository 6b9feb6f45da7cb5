"""Restoring a sketch whose kind is known from its snapshot alone, and what all sketches have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from waymaker_core.sketches.bloom import BloomFilter
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.snapshot_format import Kind, kind_of
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import TopK

Sketch = BloomFilter | HyperLogLog | CountMin | TopK | TDigest

_RESTORE: Final[Mapping[Kind, Callable[[bytes], Sketch]]] = {
    Kind.BLOOM: BloomFilter.restore,
    Kind.HYPERLOGLOG: HyperLogLog.restore,
    Kind.COUNT_MIN: CountMin.restore,
    Kind.TOP_K: TopK.restore,
    Kind.T_DIGEST: TDigest.restore,
}


def restore(snapshot: bytes) -> Sketch:
    """Return the sketch of a snapshot, whatever kind it is of. CorruptSnapshot."""
    return _RESTORE[kind_of(snapshot)](snapshot)
