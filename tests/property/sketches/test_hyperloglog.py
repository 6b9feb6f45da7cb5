"""HyperLogLog: answers within the standard error from none to many, and a maximum of whatever was added."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.sketch_corpora import numbered
from waymaker_core.sketches.errors import BadParameters, DifferentParameters
from waymaker_core.sketches.hyperloglog import HASH_BITS, PRECISION_MAX, PRECISION_MIN, HyperLogLog

values = st.lists(st.binary(max_size=3), max_size=20)
precisions = st.integers(PRECISION_MIN, 10)


def filled(precision: int, added: list[bytes]) -> HyperLogLog:
    made = HyperLogLog(precision)
    made.add(added)
    return made


def standard_error(precision: int) -> float:
    return 1.04 / math.sqrt(1 << precision)


def sets() -> Iterator[tuple[int, str, list[int]]]:
    """Precisions, labels, and the sizes at which a growing set is asked about."""
    sizes = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000]
    for precision in (4, 6, 8, 10, 12):
        for label in "abcdefgh":
            yield precision, label, sizes
    yield 14, "m", [*sizes, 20_000, 50_000, 100_000]
    yield PRECISION_MAX, "n", [*sizes, 20_000, 50_000]


def test_answers_are_within_four_standard_errors() -> None:
    squares: dict[int, list[float]] = {}
    for precision, label, sizes in sets():
        made, added = HyperLogLog(precision), 0
        everything = numbered(label, sizes[-1])
        for size in sizes:
            made.add(everything[added:size])
            added = size
            off = (made.estimate() - size) / size / standard_error(precision)
            assert abs(off) <= 4, (precision, label, size)
            squares.setdefault(precision, []).append(off * off)
    for precision, offs in squares.items():
        assert sum(offs) / len(offs) <= 1.5, (
            f"the root mean square error at precision {precision} is above the standard error"
        )


@pytest.mark.parametrize("precision", [6, 10])
def test_answers_have_no_bias(precision: int) -> None:
    """Where plain HyperLogLog with linear counting is off on average: around 2.5 to 5 values a register."""
    for size in (1 << precision, 5 << (precision - 1), 5 << precision):
        answers = [filled(precision, numbered(f"{label}", size)).estimate() for label in range(24)]
        off = (sum(answers) / len(answers) - size) / size / standard_error(precision)
        assert abs(off) <= 3 / 24**0.5


@pytest.mark.parametrize("bits", [40, 56, 58, 60, 61, 62, 63])
def test_counts_are_as_close_where_the_hash_runs_out(bits: int) -> None:
    """Registers are drawn as so many values would leave them: each is at most k with probability exp(-n / (m * 2 ** k))."""
    precision, size, random, answers = 10, 1 << bits, Random(bits), []
    highest = HASH_BITS - precision + 1
    for _ in range(60):
        registers = bytearray()
        for _ in range(1 << precision):
            drawn = -math.log(random.random()) * (1 << precision) / size
            registers.append(min(highest, max(0, math.ceil(-math.log2(drawn)))))
        made = HyperLogLog.restore(HyperLogLog(precision).snapshot()[: -1 << precision] + registers)
        answers.append(made.estimate())
    assert max(abs(answer - size) for answer in answers) <= 5 * standard_error(precision) * size
    assert abs(sum(answers) / 60 - size) <= 3 / math.sqrt(60) * standard_error(precision) * size


@pytest.mark.parametrize("precision", [PRECISION_MIN, PRECISION_MAX])
def test_every_precision_is_restored(precision: int) -> None:
    made = filled(precision, numbered("p", 500))
    assert HyperLogLog.restore(made.snapshot()).snapshot() == made.snapshot()


def test_small_counts_are_nearly_exact() -> None:
    for size in range(1, 60):
        assert filled(14, numbered("s", size)).estimate() == pytest.approx(size, abs=0.35)


def test_nothing_is_none_and_everything_is_as_much_as_there_is() -> None:
    made = HyperLogLog(4)
    assert made.estimate() == 0.0
    full = bytes([HASH_BITS - 4 + 1]) * 16
    empty = made.snapshot()
    assert HyperLogLog.restore(empty[:-16] + full).estimate() == 2.0**64
    nearly = HyperLogLog.restore(empty[:-16] + full[:-1] + b"\1")
    assert 0 < nearly.estimate() <= 2.0**64


@given(precisions, values)
def test_order_repetition_and_batches_change_nothing(precision: int, added: list[bytes]) -> None:
    one_by_one = HyperLogLog(precision)
    for value in reversed(added):
        one_by_one.add([value])
    assert (
        filled(precision, added).snapshot() == filled(precision, sorted(added) * 2).snapshot() == one_by_one.snapshot()
    )


@given(precisions, values, values, values)
def test_a_merged_sketch_is_the_sketch_of_both(
    precision: int, first: list[bytes], second: list[bytes], third: list[bytes]
) -> None:
    one, other = filled(precision, first), filled(precision, second)
    one.merge(other)
    assert one.snapshot() == filled(precision, first + second).snapshot()
    other.merge(filled(precision, first))
    assert other.snapshot() == one.snapshot()
    one.merge(filled(precision, third))
    assert one.snapshot() == filled(precision, third + second + first).snapshot()
    before = one.snapshot()
    one.merge(one)
    assert one.snapshot() == before


@pytest.mark.parametrize("precision", [-1, 3, 19])
def test_a_precision_out_of_range_is_refused(precision: int) -> None:
    with pytest.raises(BadParameters, match="between 4 and 18"):
        HyperLogLog(precision)


def test_sketches_of_different_precision_are_not_merged() -> None:
    made = filled(5, [b"a"])
    before = made.snapshot()
    with pytest.raises(DifferentParameters, match="precision 5 cannot take in one of precision 4"):
        made.merge(HyperLogLog(4))
    assert made.snapshot() == before
