"""State machines change as their tables say, and every state and event of a table has a use."""

from __future__ import annotations

from enum import Enum

import pytest

from waymaker.client.connection import states
from waymaker.client.connection.states import TRANSITIONS, Event, State
from waymaker.server import lifecycle
from waymaker.state_machine import StateMachine


def test_an_event_that_the_table_does_not_list_has_no_effect() -> None:
    machine = StateMachine(State.IDLE, TRANSITIONS)
    assert [(machine.on(event), machine.state) for event in (Event.RESUME, Event.OPEN, Event.OPEN, Event.CLOSE)] == [
        (False, State.IDLE),
        (True, State.CONNECTING),
        (False, State.CONNECTING),
        (True, State.CLOSED),
    ]


@pytest.mark.parametrize(
    ("table", "initial"),
    [(states.TRANSITIONS, states.State.IDLE), (lifecycle.TRANSITIONS, lifecycle.State.STARTING)],
)
def test_every_state_is_reached_every_event_is_used_and_all_ends_in_closed(
    table: dict[tuple[Enum, Enum], Enum], initial: Enum
) -> None:
    reached: set[Enum] = {initial}
    while more := {after for (before, _), after in table.items() if before in reached} - reached:
        reached |= more
    assert reached == set(type(initial))
    assert {event for _, event in table} == set(type(next(iter(table))[1]))
    assert reached - {before for before, _ in table} == {type(initial)["CLOSED"]}


def test_a_connection_is_either_in_a_session_or_ended_or_on_its_way_to_one() -> None:
    assert states.TAKES_WORK < states.IN_SESSION
    assert not states.IN_SESSION & states.ENDED
    assert set(State) - states.IN_SESSION - states.ENDED == {State.IDLE, State.CONNECTING, State.BACKING_OFF}
