"""Rules of answers: what services say within their documented bounds, and which keys, objects and versions they select.

No client of a world judges these. A sketch is compared there, byte for byte, with one of the same code in one process; so what
the code itself gets wrong shows only beside exact counts. The conversations with naive services (`compare`) notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from waymaker_core.kv import decisions as kv_decisions
from waymaker_core.kv.layer import KvLayer
from waymaker_core.kv.reads import Watch
from waymaker_core.objects import decisions
from waymaker_core.sketches import bloom
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.hashing import longs_of, words_of
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.scale_function import ArcsineScale
from waymaker_core.sketches.top_k import TopK
from waymaker_sim.mutants.planting import Mutant, giving, nothing

Answers = partial(Mutant, caught_by=("answers alike",))


def _of_every_key(original: Any) -> Any:
    def begin(self: Watch, layer: Any, bucket: str, pattern: str, after: int | None = None) -> None:
        original(self, layer, bucket, "", after)

    return begin


def _with_deleted(original: Any) -> Any:
    return lambda layer, request, limits: original(layer, replace(request, include_deleted=True), limits)


def _any_revision(original: Any) -> Any:
    return lambda stream, layer, token, name, revision: original(stream, layer, token, name, 0)


def _half_the_bits(original: Any) -> Any:
    def dimensions(capacity: int, error_ppb: int) -> tuple[int, int]:
        hashes, bits = original(capacity, error_ppb)
        return hashes, bits // 128 * 64

    return dimensions


def _latest_rank(_: Any) -> Any:
    def add(self: HyperLogLog, values: Sequence[bytes]) -> None:
        shift = 64 - self.precision
        for hashes in longs_of(values):
            for each in hashes:
                rest = each & ((1 << shift) - 1)
                self._registers[each >> shift] = shift + 1 - rest.bit_length()

    return add


def _first_row(_: Any) -> Any:
    def estimate(self: CountMin, values: Sequence[bytes]) -> list[int]:
        return [
            self._counters[word % self.width] for words in words_of(values, self.depth) for word in words[:: self.depth]
        ]

    return estimate


def _first_come(_: Any) -> Any:
    def keep(self: TopK, candidates: dict[bytes, int]) -> None:
        kept = dict(list(candidates.items())[: self.k])
        self._candidates = dict(sorted(kept.items(), key=lambda item: (-item[1], item[0])))

    return keep


ANSWERS = {
    "watch-every-key": Answers(
        rule="a watch sends the keys that its pattern selects, and no others",
        owner=Watch, name="__init__", make=_of_every_key, conversation="watches",
    ),
    "watch-what-was-replaced": Answers(
        rule="a watch begins with live values, not with what was replaced or ended before",
        owner=KvLayer, name="is_value", make=giving(True), conversation="watches",
    ),
    "count-what-tombstones-drop": Answers(
        rule="what a tombstone drops counts no more for the bounds of its bucket, in the same request too",
        owner=kv_decisions._Write, name="_uncount", make=nothing, conversation="watches",
    ),
    "list-deleted-objects": Answers(
        rule="a list of objects leaves out deleted ones, unless they are asked for",
        owner=decisions, name="list_objects", make=_with_deleted, conversation="objects",
    ),
    "open-any-revision": Answers(
        rule="an object is read at the revision that was asked for, or not at all",
        owner=decisions, name="open_object", make=_any_revision, conversation="objects",
    ),
    "halve-the-filter": Answers(
        rule="a Bloom filter has as many bits as its rate of false yeses needs",
        owner=bloom, name="dimensions", make=_half_the_bits, conversation="sketches",
    ),
    "keep-the-latest-rank": Answers(
        rule="a register of HyperLogLog keeps its greatest rank",
        owner=HyperLogLog, name="add", make=_latest_rank, conversation="sketches",
    ),
    "ask-one-row": Answers(
        rule="a count-min sketch answers with the least counter of all its rows",
        owner=CountMin, name="estimate", make=_first_row, conversation="sketches",
    ),
    "keep-the-first-values": Answers(
        rule="a frequent value takes the place of a rarer candidate",
        owner=TopK, name="_keep", make=_first_come, conversation="sketches",
    ),
    "join-without-limit": Answers(
        rule="a centroid of a t-digest stands for no more values than its place allows",
        owner=ArcsineScale, name="limit", make=giving(1.0), conversation="sketches",
    ),
}  # fmt: skip
