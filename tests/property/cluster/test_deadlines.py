"""Deadlines of replicas against the obvious model: a dict, of which all that is due is taken out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.cluster.deadlines import SLACK, Deadlines
from waymaker_core.replication.state import NEVER

moments = st.integers(0, 30)
acts = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(1, 6), moments | st.just(NEVER)),
        st.tuples(st.just("due"), moments, st.just(0)),
    ),
    max_size=300,
)


@given(acts)
def test_what_is_due_is_taken_once_the_earliest_first(script: list[tuple[str, int, int]]) -> None:
    deadlines, model = Deadlines(), dict[int, int]()
    for what, first, at in script:
        if what == "set":
            deadlines.set(first, at)
            model.pop(first, None)
            if at < NEVER:
                model[first] = at
        else:
            due = sorted((at, key) for key, at in model.items() if at <= first)
            assert deadlines.pop_due(first) == [key for _, key in due]
            for _, key in due:
                del model[key]
        assert deadlines.next() == min(model.values(), default=NEVER)


def test_a_deadline_that_is_set_again_and_again_takes_no_memory() -> None:
    deadlines = Deadlines()
    deadlines.set(1, 5)
    for at in range(100_000, 10, -1):
        deadlines.set(2, at)
    assert len(deadlines._heap) <= 2 * 2 + SLACK + 1
    assert deadlines.pop_due(11) == [1, 2]
