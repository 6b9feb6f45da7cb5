"""Look-ups in sealed blocks: right at every place, and at a cost that does not grow with the block."""

from __future__ import annotations

from array import array
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.storage.blocks import block_index
from waymaker_core.storage.blocks.block_index import MARK_BYTES, EncodedSubjects, OpenIndex
from waymaker_core.stream.blocks import columns as columns_module
from waymaker_core.stream.blocks.columns import STARTS_STEP, Columns


def encoded(subjects: list[str]) -> EncodedSubjects:
    return EncodedSubjects("\0".join(subjects).encode(), len(subjects))


def sealed(subjects: list[str], counts: list[int]) -> Columns:
    """Return the columns of a block whose postings are the numbers from 0 on, group by group."""
    postings = array("I", range(sum(counts)))
    empty = array("I", [0]) * len(postings)
    index = OpenIndex(
        1, empty, empty, array("q", [0]) * len(postings), empty, encoded(subjects), postings, array("I", counts)
    )
    return Columns.loaded(index)


@given(
    st.lists(st.text("abé.", min_size=1, max_size=6), min_size=1, max_size=40, unique=True).map(sorted),
    st.integers(1, 9),
    st.text("abé.", max_size=6),
)
def test_a_subject_is_found_at_its_place_wherever_the_marks_lie(subjects: list[str], step: int, other: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(block_index, "MARK_BYTES", step)
        table = encoded(subjects)
        assert [table.find(subject) for subject in subjects] == list(range(len(subjects)))
        assert table.find(other) == (subjects.index(other) if other in subjects else -1)
        low, high = table.range_of(other)
        assert subjects[low:high] == [subject for subject in subjects if subject.startswith(other)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.integers(1, 9))
def test_the_postings_of_a_subject_are_its_own_wherever_the_sums_lie(counts: list[int], step: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(columns_module, "STARTS_STEP", step)
        subjects = [f"{number:03}" for number in range(len(counts))]
        columns = sealed(subjects, counts)
        starts = list(accumulate(counts, initial=0))
        for place, subject in enumerate(subjects):
            assert columns.postings_of(subject).tolist() == list(range(starts[place], starts[place + 1]))


class _Counting(bytes):
    """Bytes that note how many of them a count goes through."""

    seen = 0

    def count(self, what, start=0, end=None) -> int:  # type: ignore[no-untyped-def]
        end = len(self) if end is None else end
        type(self).seen += end - start
        return super().count(what, start, end)


def test_a_look_up_costs_no_more_in_a_block_of_many_subjects() -> None:
    subjects = [f"user.{number:06}" for number in range(20_000)]
    table = EncodedSubjects(_Counting("\0".join(subjects).encode()), len(subjects))
    assert table.find(subjects[-1]) == len(subjects) - 1
    _Counting.seen = 0
    for place in range(0, len(subjects), 1_999):
        assert table.find(subjects[place]) == place
    assert _Counting.seen <= 11 * MARK_BYTES
    columns = sealed(subjects, [1] * len(subjects))
    columns.postings_of(subjects[7])
    assert len(columns.group_starts) == len(subjects) // STARTS_STEP + 2
