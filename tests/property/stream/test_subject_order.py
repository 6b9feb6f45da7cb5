"""The order of subjects is the sorted one wherever a listing begins, and is made no further than listings have come."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.stream.blocks import subject_order
from waymaker_core.stream.blocks.subject_order import PART_SUBJECTS, SubjectOrder
from waymaker_core.stream.blocks.subject_table import REMOVED_SLACK, SubjectTable

NAMES = st.text("abc", max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["enter", "enter", "list", "keep"]), st.lists(NAMES, max_size=30))))
def test_it_lists_what_was_entered_and_kept_in_order(steps: list[tuple[str, list[str]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject_order, "PART_SUBJECTS", 3)
        order, known = SubjectOrder(), dict[str, None]()
        for step, names in steps:
            if step == "enter":
                order.fresh += names
                known |= dict.fromkeys(names)
            elif step == "keep":
                known = {name: None for name in known if name in names}
                order.keep_only(known)
            else:
                for start in ["", *names]:
                    assert list(order.subjects_from(start)) == sorted(name for name in known if name >= start)


def names_of(count: int) -> list[str]:
    random = Random(3)
    return [f"user.{random.randrange(1 << 40):013}" for _ in range(count)]


def test_the_first_page_of_many_sorts_few_of_them_and_later_pages_the_rest() -> None:
    names = names_of(200_000)
    order = SubjectOrder()
    order.fresh = list(names)
    wanted = sorted(names)
    assert list(islice(order.subjects_from(""), 1_000)) == wanted[:1_000]
    in_order = [part for part, is_sorted in zip(order._parts, order._sorted, strict=True) if is_sorted]
    assert sum(map(len, in_order)) <= PART_SUBJECTS
    assert list(islice(order.subjects_from(wanted[150_000]), 10)) == wanted[150_000:150_010]
    assert list(order.subjects_from("")) == wanted
    # A few new ones are put where they belong; the parts stay.
    parts = len(order._parts)
    order.fresh = ["user.0", "user.5", "user.5"]
    assert list(order.subjects_from("")) == sorted([*names, "user.0", "user.5"])
    assert len(order._parts) == parts


def test_an_order_of_entry_chosen_to_spoil_the_samples_is_sorted_at_once() -> None:
    names = sorted(names_of(50_000))
    step = len(names) // subject_order.SAMPLE
    least, rest = names[:65], names[65:]
    chosen = [least[at // step] if at % step == 0 else rest[at - at // step - 1] for at in range(len(names))]
    order = SubjectOrder()
    order.fresh = list(chosen)
    assert list(islice(order.subjects_from(""), 5)) == names[:5]
    assert len(order._parts) == 1
    assert list(order.subjects_from("")) == names


def test_subjects_that_come_and_go_leave_nothing_behind_though_none_lists() -> None:
    table = SubjectTable(100)
    for number in range(20_000):
        subject = f"inbox.{number}"
        table.enter_block([subject], number // 100, 0)
        table.last[subject] = number + 1
        if number >= 10:
            table.remove(f"inbox.{number - 10}")
    assert len(table.order.fresh) <= 2 * len(table.last) + 2 * REMOVED_SLACK
