"""Stored sketches: the same bytes everywhere, an exact way back, and refusal of whatever no sketch wrote."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tracemalloc
from array import array
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.sketch_corpora import DISTRIBUTIONS, numbered, zipf
from tests.kit.sketch_kit import add, answers, empty_sketches, merge, small_sketches, used
from waymaker_core.sketches import snapshot_format
from waymaker_core.sketches.bloom import BloomFilter
from waymaker_core.sketches.count_min import CountMin
from waymaker_core.sketches.errors import BadValue, CorruptSnapshot, SketchError
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.restoring import Sketch, restore
from waymaker_core.sketches.snapshot_format import MAGIC, Kind
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import TopK

ROOT = Path(__file__).resolve().parents[3]
KINDS = list(empty_sketches())
numbers = st.lists(st.integers(0, 50), max_size=40)


@pytest.mark.parametrize("kind", KINDS)
@given(first=numbers, second=numbers, repeated=st.integers(1, 8))
def test_a_restored_sketch_is_the_same_and_goes_on_as_the_same(
    kind: str, first: list[int], second: list[int], repeated: int
) -> None:
    made, merged = empty_sketches()[kind], empty_sketches()[kind]
    add(made, first * repeated)
    add(merged, second)
    back = restore(made.snapshot())
    assert type(back) is type(made)
    assert back.snapshot() == made.snapshot()
    assert answers(back) == answers(made)
    for each in (made, back):
        add(each, second)
        merge(each, merged)
    assert back.snapshot() == made.snapshot()


GOLDEN = {
    "bloom": "1db903897b8ecccc",
    "hyperloglog": "13a0022cf42ba152",
    "count-min": "1db52d8795ba64b6",
    "top-k": "40575d174835b97f",
    "t-digest": "721e6538bc5c223b",
}
"""Digests of snapshots in version 1: another one means that stored sketches would be read as something else."""

MAKE = """
from tests.property.sketches.test_sketch_snapshots import digests
print(digests())
"""


def digests() -> dict[str, str]:
    """A digest of a filled and merged sketch of each kind."""
    bloom, hyperloglog = BloomFilter(1_000, 1_000), HyperLogLog(10)
    count_min, top_k, t_digest = CountMin(5_000_000, 1_000_000), TopK(20, 5_000_000, 1_000_000), TDigest(50)
    bytes_in: list[BloomFilter | HyperLogLog | CountMin | TopK] = [bloom, hyperloglog, count_min, top_k]
    for each in bytes_in:
        each.add(numbered("golden", 1_000))
        each.add(zipf(1, 1_000))
    random = Random(1)
    t_digest.add([random.random() * 1e6 for _ in range(5_000)])
    other = TDigest(50)
    other.add([random.random() * 3e6 - 1e6 for _ in range(3_000)])
    t_digest.merge(other)
    t_digest.add([random.random() for _ in range(100)])
    made: list[Sketch] = [*bytes_in, t_digest]
    return {name: sha256(sketch.snapshot()).hexdigest()[:16] for name, sketch in zip(KINDS, made, strict=True)}


def test_stored_sketches_are_the_same_bytes_for_ever() -> None:
    assert digests() == GOLDEN


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_the_hash_seed_of_the_process_is_without_influence(seed: str) -> None:
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", MAKE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(GOLDEN)


# ---------------------------------------------------------------- hostile bytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_cut_short_or_continued_is_refused(kind: str) -> None:
    data = small_sketches()[kind].snapshot()
    for length in range(len(data)):
        with pytest.raises(CorruptSnapshot):
            restore(data[:length])
    for more in (b"\0", b"\xff" * 8, data):
        with pytest.raises(CorruptSnapshot):
            restore(data + more)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_is_refused_or_makes_another_sketch_that_works(kind: str) -> None:
    data = small_sketches()[kind].snapshot()
    step = max(1, len(data) // 250)
    for at in [*range(min(40, len(data))), *range(40, len(data), step)]:
        for change in (0x01, 0x80, 0xFF):
            changed = bytearray(data)
            changed[at] ^= change
            try:
                used(bytes(changed))
            except SketchError as refused:
                assert isinstance(refused, CorruptSnapshot | BadValue)
                assert 10 < len(str(refused)) < 300


@given(st.sampled_from(list(Kind)), st.binary(max_size=80))
def test_any_bytes_are_refused_or_a_sketch(kind: Kind, content: bytes) -> None:
    for data in (content, MAGIC + content, MAGIC + bytes([kind, 1]) + content):
        try:
            sketch = restore(data)
        except CorruptSnapshot:
            continue
        assert sketch.snapshot() == data


HUGE = {
    "bloom": struct.pack("<QI", 1 << 22, 10_000_000),
    "bloom beyond": struct.pack("<QI", (1 << 64) - 1, 1),
    "hyperloglog": struct.pack("<B", 18),
    "hyperloglog beyond": struct.pack("<B", 255),
    "count-min": struct.pack("<IIQ", 20_000, 10_000_000, 0),
    "count-min beyond": struct.pack("<IIQ", 1, 1, (1 << 64) - 1),
    "top-k": struct.pack("<IIH", 1_000, (1 << 32) - 1, 1_000),
    "top-k beyond": struct.pack("<IIH", (1 << 32) - 1, (1 << 32) - 1, 65_535),
    "t-digest": struct.pack("<HHH", 1_000, 2_000, 7_999),
    "t-digest beyond": struct.pack("<HHH", 65_535, 65_535, 65_535),
}


@pytest.mark.parametrize("name", HUGE)
def test_great_promises_without_content_cost_no_memory(name: str) -> None:
    kind = Kind(1 + KINDS.index(name.removesuffix(" beyond")))
    data = MAGIC + bytes([kind, 1]) + HUGE[name] + bytes(100)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptSnapshot):
            restore(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_columns_have_one_order_of_bytes_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, real = array("Q", [1, 1 << 63]), array("d", [1.0, -2.5])
    assert snapshot_format.column_bytes(whole) == struct.pack("<2Q", *whole)
    assert snapshot_format.column_bytes(real) == struct.pack("<2d", *real)
    # As a machine of the other order would, whose columns lie the other way round in memory.
    monkeypatch.setattr(snapshot_format, "_SWAP", not snapshot_format._SWAP)
    assert snapshot_format.column_bytes(whole) == struct.pack(">2Q", *whole)
    assert snapshot_format.integers(snapshot_format.column_bytes(whole)) == whole
    assert snapshot_format.floats(snapshot_format.column_bytes(real)) == real


def refusal(data: bytes) -> str:
    with pytest.raises(CorruptSnapshot) as refused:
        restore(data)
    return str(refused.value)


def test_a_refusal_says_what_is_wrong() -> None:
    made = {name: sketch.snapshot() for name, sketch in small_sketches().items()}
    assert "not the snapshot of a sketch" in refusal(b"")
    assert "not the snapshot of a sketch" in refusal(b"WMsk\1")
    assert "kind 9" in refusal(MAGIC + b"\x09\x01")
    assert "version 2; this program knows version 1" in refusal(MAGIC + b"\x01\x02" + made["bloom"][6:])
    with pytest.raises(CorruptSnapshot, match="of kind hyperloglog; bloom was expected"):
        BloomFilter.restore(made["hyperloglog"])
    assert "ends after 3 of 12 bytes" in refusal(made["bloom"][:9])
    assert "bytes behind its head" in refusal(made["bloom"] + b"x")
    assert "parameters are out of range" in refusal(MAGIC + b"\x01\x01" + bytes(20))
    assert "precision is 3" in refusal(MAGIC + b"\x02\x01\x03" + bytes(8))
    assert "holds more than 61" in refusal(made["hyperloglog"][:-1] + b"\x3e")
    counters = made["count-min"]
    assert "do not add up" in refusal(counters[:-1] + bytes([counters[-1] ^ 0x80]))
    total = struct.pack("<Q", 1 << 63)
    assert "do not add up" in refusal(counters[:14] + total + counters[22:])


def test_candidates_that_the_sketch_did_not_count_are_refused() -> None:
    counts = CountMin(100_000_000, 100_000_000)
    counts.add([b"a", b"a", b"b"])
    inner = counts.snapshot()

    def stored(*entries: tuple[bytes, int], k: int = 3, more: bytes = b"") -> bytes:
        packed = b"".join(struct.pack("<QH", times, len(value)) + value for value, times in entries)
        return MAGIC + b"\x04\x01" + struct.pack("<IIH", k, len(inner), len(entries)) + inner + packed + more

    assert isinstance(restore(stored((b"a", 2), (b"b", 1))), TopK)
    assert "at most 2 times" in refusal(stored((b"a", 3)))
    assert "0 times" in refusal(stored((b"a", 0)))
    assert "not in order" in refusal(stored((b"b", 1), (b"a", 2)))
    assert "not in order" in refusal(stored((b"a", 2), (b"a", 2)))
    assert "not in order" in refusal(stored((b"a", 2), more=b"x"))
    assert "2 candidates for k = 1" in refusal(stored((b"a", 2), (b"b", 1), k=1))
    assert "for k = 0" in refusal(stored(k=0))
    assert "length of 1,025 bytes" in refusal(stored((b"a" * 1_025, 1)))
    assert "past the end" in refusal(stored((b"a", 2), (b"b", 1))[:-1])


def test_digests_that_no_values_make_are_refused() -> None:
    def stored(extremes: list[float], centroids: list[tuple[float, int]], buffer: list[float]) -> bytes:
        columns = [struct.pack("<d", value) for value in extremes]
        columns += [struct.pack("<d", mean) for mean, _ in centroids] + [
            struct.pack("<Q", weight) for _, weight in centroids
        ]
        columns += [struct.pack("<d", value) for value in buffer]
        return MAGIC + b"\x05\x01" + struct.pack("<HHH", 20, len(centroids), len(buffer)) + b"".join(columns)

    assert isinstance(used(stored([1.0, 9.0], [(2.0, 3), (2.0, 1), (8.0, 1 << 61)], [1.0, 9.0])), TDigest)
    assert isinstance(used(stored([0.0, 0.0], [], [])), TDigest)
    nan, infinite = float("nan"), float("inf")
    for value in (nan, infinite, -infinite):
        assert "not finite" in refusal(stored([value, 9.0], [(2.0, 3)], []))
        assert "not finite" in refusal(stored([1.0, 9.0], [(value, 3)], []))
        assert "not finite" in refusal(stored([1.0, 9.0], [(2.0, 3)], [value]))
    assert "not in order" in refusal(stored([9.0, 1.0], [], [5.0]))
    assert "not in order" in refusal(stored([1.0, 9.0], [(3.0, 1), (2.0, 1)], []))
    assert "not in order" in refusal(stored([1.0, 9.0], [(10.0, 1)], []))
    assert "not in order" in refusal(stored([1.0, 9.0], [(2.0, 1)], [0.5]))
    assert "without values" in refusal(stored([1.0, 9.0], [(2.0, 0)], []))
    assert "more values than are counted" in refusal(stored([1.0, 9.0], [(2.0, 1 << 63)], []))
    assert "no values" in refusal(stored([1.0, 9.0], [], []))
    assert "too many" in refusal(stored([1.0, 9.0], [(2.0, 1)] * 41, []))
    assert "too many" in refusal(stored([1.0, 9.0], [], [2.0] * 160))
    smallest = 5e-324
    assert isinstance(used(stored([0.0, smallest], [(0.0, 5), (smallest, 2)], [])), TDigest)
    most = 1.7976931348623157e308
    assert isinstance(used(stored([-most, most], [(-most, 5), (most, 2)], [])), TDigest)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_digest_never_grows_beyond_what_restoring_allows(name: str) -> None:
    made = TDigest(20)
    for value in DISTRIBUTIONS[name](Random(5), 700):
        made.add([value])
        back = TDigest.restore(made.snapshot())
        assert (back.count, back.least, back.greatest) == (made.count, made.least, made.greatest)


def test_every_kind_of_snapshot_is_documented_with_its_number_and_version() -> None:
    page = (ROOT / "docs" / "sketches.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\w -]+) \| (\d+) \|", page, re.MULTILINE)
    assert {name.lower().removesuffix(" filter"): (int(kind), int(version)) for kind, name, version in rows} == {
        name: (sketch.snapshot()[4], sketch.snapshot()[5]) for name, sketch in empty_sketches().items()
    }
    assert [kind.value for kind in Kind] == [int(kind) for kind, _, _ in rows]
