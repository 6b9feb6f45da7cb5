"""The heap of deadlines against a dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.node.timers import Timer, Timers

KINDS = st.sampled_from([Timer.AGE, Timer.DELIVERIES])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), KINDS, st.integers(0, 6), st.integers(0, 50)),
        st.tuples(st.just("clear"), KINDS, st.integers(0, 6), st.just(0)),
        st.tuples(st.just("take"), KINDS, st.just(0), st.integers(0, 60)),
    ),
    max_size=200,
)


@given(ACTIONS)
def test_what_is_due_comes_out_once_and_in_order(actions: list[tuple[str, Timer, int, int]]) -> None:
    timers = Timers()
    model: dict[tuple[Timer, int], int] = {}
    for action, kind, key, at in actions:
        if action == "arm":
            timers.arm(kind, key, at)
            model[(kind, key)] = at
        elif action == "clear":
            timers.arm(kind, key, None)
            model.pop((kind, key), None)
        else:
            taken = timers.take_due(at)
            due = {name: deadline for name, deadline in model.items() if deadline <= at}
            assert sorted(taken) == sorted(due)
            assert [due[name] for name in taken] == sorted(due.values())
            for name in taken:
                del model[name]
        assert timers.next_deadline() == min(model.values(), default=None)
        for other in Timer:
            assert sorted(timers.armed(other)) == sorted(key for owner, key in model if owner is other)


def test_arming_again_and_again_does_not_grow_the_heap() -> None:
    timers = Timers()
    for at in range(100_000):
        timers.arm(Timer.AGE, 1, at)
    assert len(timers._heap) < 200
    assert timers.next_deadline() == 99_999
