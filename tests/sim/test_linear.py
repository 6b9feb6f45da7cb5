"""The check of registers: known histories, and every small one against trying all orders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from waymaker_sim.checkers.linear import ANY, NEVER, NOTHING, Kind, Operation, Verdict, check_register


def write(value: int, asked: int, answered: int = NEVER, expected: int = ANY) -> Operation:
    return Operation(Kind.WRITE, value, asked, answered, expected)


def read(value: int, asked: int, answered: int) -> Operation:
    return Operation(Kind.READ, value, asked, answered)


def refused(actual: int, asked: int, answered: int, expected: int) -> Operation:
    return Operation(Kind.REFUSED, actual, asked, answered, expected)


def verdict(*operations: Operation, vanishing: bool = False) -> Verdict:
    return check_register(operations, vanishing=vanishing).verdict


# ---------------------------------------------------------------- known histories


def test_one_after_the_other_is_fine() -> None:
    history = [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5, expected=1), refused(2, 6, 7, expected=1), read(2, 8, 9)]
    assert verdict(*history) is Verdict.LINEARIZABLE


def test_a_read_that_began_after_a_write_was_confirmed_finds_it() -> None:
    assert verdict(write(1, 0, 1), read(NOTHING, 2, 3)) is Verdict.VIOLATED
    assert verdict(write(1, 0, 2), read(NOTHING, 1, 3)) is Verdict.LINEARIZABLE


def test_two_reads_may_not_see_a_change_backwards() -> None:
    assert verdict(write(1, 0, 9), read(1, 1, 2), read(NOTHING, 3, 4)) is Verdict.VIOLATED
    assert verdict(write(1, 0, 9), read(NOTHING, 1, 2), read(1, 3, 4)) is Verdict.LINEARIZABLE


def test_of_two_who_expect_the_same_one_wins() -> None:
    first, second = write(1, 0, 5, expected=NOTHING), write(2, 1, 6, expected=NOTHING)
    assert verdict(first, second) is Verdict.VIOLATED
    assert verdict(first, refused(1, 1, 6, expected=NOTHING)) is Verdict.LINEARIZABLE
    assert verdict(refused(1, 1, 6, expected=NOTHING)) is Verdict.VIOLATED


def test_who_is_told_of_a_write_has_made_it_known() -> None:
    told_early = refused(7, 1, 2, expected=NOTHING)
    assert verdict(write(7, 0, 9), told_early, read(NOTHING, 3, 4)) is Verdict.VIOLATED
    assert verdict(write(7, 0, 9), told_early, read(7, 3, 4)) is Verdict.LINEARIZABLE


def test_what_was_never_answered_may_happen_at_any_later_time_or_never() -> None:
    lost = write(5, 2)
    assert verdict(lost) is Verdict.LINEARIZABLE
    assert verdict(lost, read(NOTHING, 3, 4), write(6, 5, 6), read(5, 50, 51)) is Verdict.LINEARIZABLE
    assert verdict(lost, read(5, 0, 1)) is Verdict.VIOLATED, "before it was asked"
    assert verdict(lost, read(5, 3, 4), write(6, 5, 6), read(5, 7, 8)) is Verdict.VIOLATED, "twice"
    assert verdict(write(5, 2, expected=4), read(5, 3, 4)) is Verdict.VIOLATED, "its condition never held"


def test_a_register_may_vanish_where_it_may_and_never_comes_back() -> None:
    history = [write(1, 0, 1), read(NOTHING, 2, 3)]
    assert verdict(*history, vanishing=True) is Verdict.LINEARIZABLE
    assert verdict(*history, read(1, 4, 5), vanishing=True) is Verdict.VIOLATED
    assert verdict(*history, write(2, 4, 5, expected=NOTHING), read(2, 6, 7), vanishing=True) is Verdict.LINEARIZABLE
    assert verdict(write(1, 0, 1), write(2, 2, 3), read(1, 4, 5), vanishing=True) is Verdict.VIOLATED


def test_a_search_beyond_its_budget_decides_nothing() -> None:
    crowd = [write(n, 0, 100) for n in range(1, 13)]
    impossible = [*crowd, read(99, 101, 102)]
    assert check_register(impossible, budget=50).verdict is Verdict.UNDECIDED
    assert check_register(impossible).verdict is Verdict.VIOLATED


def test_a_violation_names_what_nothing_could_go_on_with() -> None:
    stale = read(NOTHING, 2, 3)
    assert check_register([write(1, 0, 1), stale]).stuck == (stale,)


def test_a_long_history_costs_about_what_it_is_long() -> None:
    history: list[Operation] = []
    for n in range(1, 400):
        history += [
            write(n, 10 * n, 10 * n + 25),
            read(n, 10 * n + 26, 10 * n + 27) if n == 399 else write(1000 + n, 10 * n),
        ]
    history = [op for op in history if op.answered != NEVER or op.value % 40 == 0]
    found = check_register(history)
    assert found.verdict is Verdict.LINEARIZABLE
    assert found.examined < 3 * len(history)


# ---------------------------------------------------------------- against trying everything


def orders(operations: list[Operation]) -> Iterator[tuple[Operation, ...]]:
    """Every order of all answered operations and of any of the others that no moment speaks against."""
    for chosen in range(1 << len(operations)):
        taken = [op for index, op in enumerate(operations) if chosen >> index & 1]
        if any(op.answered < NEVER and not chosen >> index & 1 for index, op in enumerate(operations)):
            continue
        for order in permutations(taken):
            if not any(later.answered < earlier.asked for at, earlier in enumerate(order) for later in order[at + 1 :]):
                yield order


def can_happen(order: tuple[Operation, ...], value: int, vanishing: bool) -> bool:
    if not order:
        return True
    first, rest = order[0], order[1:]
    values = {value, NOTHING} if vanishing else {value}
    for before in values:
        match first.kind:
            case Kind.READ if before == first.value:
                after = before
            case Kind.REFUSED if before == first.value and before != first.expected:
                after = before
            case Kind.WRITE if first.expected in (ANY, before):
                after = first.value
            case _:
                continue
        if can_happen(rest, after, vanishing):
            return True
    return False


VALUES = st.integers(0, 3)
MOMENTS = st.integers(0, 8)


@st.composite
def operation(draw: st.DrawFn) -> Operation:
    kind = draw(st.sampled_from(Kind))
    asked = draw(MOMENTS)
    answered = asked + draw(st.integers(0, 5))
    if kind is Kind.READ:
        return read(draw(VALUES), asked, answered)
    expected = draw(st.integers(-1, 3))
    if kind is Kind.REFUSED:
        return refused(draw(VALUES), asked, answered, max(0, expected))
    return write(1 + draw(st.integers(0, 2)), asked, draw(st.sampled_from((answered, NEVER))), expected)


@settings(max_examples=200)
@given(st.lists(operation(), max_size=5), st.booleans())
@example([write(1, 0, 1), read(NOTHING, 2, 3)], True)
def test_the_search_agrees_with_trying_every_order(operations: list[Operation], vanishing: bool) -> None:
    possible = any(can_happen(order, NOTHING, vanishing) for order in orders(operations))
    found = check_register(operations, vanishing=vanishing)
    assert found.verdict is (Verdict.LINEARIZABLE if possible else Verdict.VIOLATED), (operations, found)
