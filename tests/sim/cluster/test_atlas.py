"""The fault atlas: copies are known from reports, and no permitted fault leaves a stream without a majority of good ones."""

from __future__ import annotations

from itertools import combinations

from hypothesis import example, given
from hypothesis import strategies as st

from waymaker_sim.cluster.atlas import EMPTY, Atlas, Copy

THREE = (1, 2, 3)


def atlas_with(*positions: int, epoch: int = 1) -> Atlas:
    """Make an atlas of one stream, whose copies end at these positions."""
    atlas = Atlas()
    atlas.place("s", range(1, len(positions) + 1))
    for machine, position in enumerate(positions, 1):
        atlas.report(machine, "s", Copy(epoch, position))
    return atlas


def test_an_atlas_without_reports_permits_nothing() -> None:
    assert not Atlas().permits(1)


def test_the_only_copy_is_never_lost() -> None:
    assert not atlas_with(7).permits(1)
    assert not atlas_with(0).permits(1)


def test_what_a_majority_holds_may_be_committed() -> None:
    assert atlas_with(9, 5, 3).committed("s") == Copy(1, 5)
    assert atlas_with(9, 5, 3).good("s") == [1, 2]
    assert atlas_with(4, 4, 4, 9, 9).committed("s") == Copy(1, 4)


def test_one_of_three_equal_copies_may_be_lost_and_then_no_other() -> None:
    atlas = atlas_with(5, 5, 5)
    assert all(atlas.permits(machine) for machine in THREE)
    atlas.lost(2)
    assert not atlas.permits(1) and not atlas.permits(3)
    assert atlas.good("s") == [1, 3]


def test_a_copy_that_lags_may_be_lost_and_those_that_it_lags_behind_may_not() -> None:
    atlas = atlas_with(5, 5, 4)
    assert [machine for machine in THREE if atlas.permits(machine)] == [3]


def test_a_copy_ahead_of_a_majority_is_kept_for_its_acks_may_still_count() -> None:
    atlas = atlas_with(5, 5, 6)
    assert atlas.committed("s") == Copy(1, 5)
    assert not atlas.permits(3)
    atlas.report(1, "s", Copy(1, 6))
    atlas.report(2, "s", Copy(1, 6))
    assert atlas.permits(3)


def test_a_lost_copy_counts_once_its_machine_reports_it_after_a_start() -> None:
    atlas = atlas_with(5, 5, 5)
    atlas.lost(3)
    atlas.report(3, "s", Copy(1, 5))  # what it knew before it stopped
    assert atlas.good("s") == [1, 2]
    atlas.started(3)
    atlas.report(3, "s", Copy(1, 2))
    assert atlas.good("s") == [1, 2] and not atlas.permits(1)
    atlas.report(3, "s", Copy(1, 5))
    assert atlas.good("s") == [1, 2, 3] and atlas.permits(1)


def test_a_damaged_copy_counts_only_when_it_was_mended_or_its_directory_replaced() -> None:
    atlas = atlas_with(5, 5, 5)
    atlas.damage(1)
    atlas.started(1)
    atlas.report(1, "s", Copy(1, 6))
    assert atlas.good("s") == [2, 3] and not atlas.permits(2)
    atlas.mended(1, "s")
    assert atlas.good("s") == [1, 2, 3]
    atlas.damage(1, ["s"])
    atlas.replaced(1)
    atlas.started(1)
    atlas.report(1, "s", Copy(1, 5))
    assert atlas.good("s") == [1, 2, 3]


def test_a_longer_copy_of_an_older_epoch_is_not_good() -> None:
    atlas = atlas_with(9, 4, 4)
    atlas.report(2, "s", Copy(2, 5))
    atlas.report(3, "s", Copy(2, 5))
    assert atlas.committed("s") == Copy(2, 5)
    assert atlas.good("s") == [2, 3]


def test_what_a_report_says_is_committed_counts() -> None:
    atlas = atlas_with(5, 5, 3)
    atlas.report(3, "s", Copy(1, 3), committed=Copy(1, 4))
    assert atlas.committed("s") == Copy(1, 5)
    atlas.report(3, "s", Copy(1, 3), committed=Copy(2, 6))
    assert atlas.committed("s") == Copy(2, 6) and atlas.good("s") == []


def test_streams_are_judged_each_by_its_own_set() -> None:
    atlas = atlas_with(5, 5, 5)
    atlas.place("t", (3, 4, 5))
    for machine in (3, 4):
        atlas.report(machine, "t", Copy(1, 1))
    assert atlas.permits(1) and not atlas.permits(3) and not atlas.permits(4)
    assert atlas.permits(3, ["s"])
    atlas.forget("t")
    assert atlas.permits(3) and atlas.streams() == ["s"]
    atlas.place("s", (1, 2))
    assert not atlas.permits(1) and atlas.permits(3)


def test_a_machine_may_doubt_its_copy_unless_a_lost_directory_leaves_too_few_that_are_certain() -> None:
    atlas = atlas_with(5, 5, 5)
    assert all(atlas.permits_tear(machine) for machine in THREE)
    atlas.report(3, "s", EMPTY)
    assert all(atlas.permits_tear(machine) for machine in THREE), "all are there, so all may be in doubt"
    atlas.report(3, "s", Copy(1, 5))
    atlas.replaced(2)
    assert [machine for machine in THREE if atlas.permits_tear(machine)] == [2]
    atlas.started(2)
    atlas.report(2, "s", EMPTY)
    assert [machine for machine in THREE if atlas.permits_tear(machine)] == [2], "no claim counts the new directory yet"
    atlas.report(2, "s", Copy(1, 1))
    assert all(atlas.permits_tear(machine) for machine in THREE), "a copy that lags is certain, too"


def test_the_majority_that_is_certain_may_be_the_rest_of_a_larger_set() -> None:
    atlas = atlas_with(5, 5, 5, 5, 5)
    atlas.replaced(2)
    assert atlas.permits_tear(1)
    atlas.report(3, "s", EMPTY)
    assert not atlas.permits_tear(1) and atlas.permits_tear(2)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "lose", "damage", "start", "mend"]),
        st.integers(0, 4),
        st.integers(0, 2),
    ),
    max_size=60,
)


@given(st.sampled_from([1, 3, 5]), STEPS)
@example(3, [("append", 0, 1), ("lose", 0, 0), ("append", 1, 1)])
def test_no_permitted_fault_leaves_a_majority_without_what_may_be_committed(
    count: int, steps: list[tuple[str, int, int]]
) -> None:
    """Acks are never taken back here: what a majority has ever acknowledged is committed, whatever was lost since."""
    atlas, machines = Atlas(), range(1, count + 1)
    atlas.place("s", machines)
    held, acked = dict.fromkeys(machines, 0), dict.fromkeys(machines, 0)
    spoilt: set[int] = set()
    for machine in machines:
        atlas.report(machine, "s", Copy(1, 0))
    end = 0
    for what, number, by in steps:
        machine = 1 + number % count
        if what == "append":
            end = max(end, held[machine] + by)
            held[machine] = min(end, held[machine] + by)
            acked[machine] = max(acked[machine], held[machine])
            atlas.started(machine)
            atlas.report(machine, "s", Copy(1, held[machine]))
        elif what in ("lose", "damage") and atlas.permits(machine):
            held[machine] = 0
            if what == "damage":
                spoilt.add(machine)
                atlas.damage(machine)
            else:
                spoilt.discard(machine)
                atlas.replaced(machine)
        elif what == "start":
            atlas.started(machine)
            if machine not in spoilt:
                atlas.report(machine, "s", Copy(1, held[machine]))
        elif what == "mend" and machine in spoilt:
            spoilt.discard(machine)
            atlas.mended(machine, "s")
            atlas.report(machine, "s", Copy(1, held[machine]))
        majority = count // 2 + 1
        committed = max(min(acked[each] for each in some) for some in combinations(machines, majority))
        # Each majority that may be asked has a copy with all of it.
        for some in combinations(machines, majority):
            assert max(held[each] for each in some) >= committed
