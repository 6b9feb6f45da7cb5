"""What a client's group makes of its answers: each says something about the delivery it was sent to, about no later one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from waymaker_core.api.requests import AckKind
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.model.types import Token
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.history.groups import FOREVER_NS, MS, GroupOf, PendingDelivery, Stored
from waymaker_sim.history.history import Group, History, Letter
from waymaker_sim.kernel.events import Events
from waymaker_sim.machine.process import Process, ReceivedMessage, StepId

SEQ, WAIT_MS, DELAY_MS = 7, 500, 20


@dataclass
class NoMessages:
    """An incarnation of a stream of which nothing is known."""

    live: Mapping[int, Stored] = field(default_factory=dict)
    times: Mapping[int, int] = field(default_factory=dict)

    def ends_in_order(self) -> bool:
        return False


def new_group() -> GroupOf[NoMessages]:
    return GroupOf(NoMessages(), ConsumerConfig("c", ack_wait_ms=WAIT_MS, max_deliver=2), 0)


def deliver(group: GroupOf[NoMessages], delivery: int, step_id: StepId) -> None:
    message = ReceivedMessage(SEQ, 0, delivery, b"")
    group.due.delivered([message], "c", step_id, WAIT_MS * MS)
    group.pending[SEQ] = PendingDelivery(step_id.run, step_id.time_ns + WAIT_MS * MS)


@pytest.mark.parametrize("later", [AckKind.ACK, AckKind.TERM])
@pytest.mark.parametrize("kind", [AckKind.NAK, AckKind.IN_PROGRESS])
def test_an_answer_says_nothing_about_a_later_delivery_that_is_being_answered(kind: AckKind, later: AckKind) -> None:
    group = new_group()
    deliver(group, 1, StepId(1, 1, 1 * MS))
    out = group.answering(kind, [SEQ])[SEQ]
    deliver(group, 2, StepId(1, 2, 2 * MS))
    group.answering(later, [SEQ])
    group.took_effect(kind, SEQ, out, 1 * MS, 0, StepId(1, 3, 3 * MS))
    assert group.put_off[SEQ].until_ns < FOREVER_NS, "the last attempt was not given back"
    assert group.last_naks == {}
    assert group.due.at(SEQ, 1) == FOREVER_NS, "whether the later answer took effect is not known"


@pytest.mark.parametrize(("delivery", "until_ns"), [(1, (1 + DELAY_MS) * MS), (2, FOREVER_NS)])
def test_a_nak_puts_off_the_delivery_it_was_sent_to(delivery: int, until_ns: int) -> None:
    group = new_group()
    deliver(group, delivery, StepId(1, 1, 1 * MS))
    out = group.answering(AckKind.NAK, [SEQ])[SEQ]
    group.took_effect(AckKind.NAK, SEQ, out, 1 * MS, DELAY_MS, StepId(1, 2, 2 * MS))
    assert group.put_off[SEQ].until_ns == until_ns
    assert group.due.at(SEQ, 1) == (2 + DELAY_MS) * MS
    assert (SEQ in group.last_naks) == (delivery == 2)


@pytest.mark.parametrize("resolved", [False, True])
def test_a_nak_that_is_on_its_way_may_end_a_delivery_that_left_after_it(resolved: bool) -> None:
    incarnation = History().begin_incarnation("s", StreamConfig("s"))
    group = Group(incarnation, ConsumerConfig("c", ack_wait_ms=WAIT_MS, max_deliver=2), 0)
    group.note_naks([SEQ], 1, 1)
    if resolved:
        group.note_naks([SEQ], 1, -1)
    message = ReceivedMessage(SEQ, 0, 1, b"", "", 0)
    incarnation.at[SEQ], incarnation.times[SEQ] = Letter(None, SEQ, "a", b"", 0), 0
    incarnation.deliver(group, [message], History(), 0, StepId(1, 1, 1 * MS), 1)
    assert group.pending[SEQ].free is not resolved


@pytest.mark.parametrize("sent_first", [False, True])
def test_a_late_nak_may_count_a_delivery_that_no_program_got(sent_first: bool) -> None:
    incarnation = History().begin_incarnation("s", StreamConfig("s"))
    group = Group(incarnation, ConsumerConfig("c", ack_wait_ms=WAIT_MS, max_deliver=2), 0)
    incarnation.at[SEQ], incarnation.times[SEQ] = Letter(None, SEQ, "a", b"", 0), 0
    if sent_first:
        group.answering(AckKind.NAK, [SEQ])
    message = ReceivedMessage(SEQ, 0, 2, b"", "", 0)
    incarnation.deliver(group, [message], History(), 0, StepId(1, 1, 1 * MS), 1)
    group.due.delivered([message], "c", StepId(1, 1, 1 * MS), WAIT_MS * MS)
    assert incarnation.may_be_dropped(group, SEQ) is sent_first
    group.answering(AckKind.NAK, [SEQ])
    assert incarnation.may_be_dropped(group, SEQ)


@pytest.mark.parametrize(("reported_ns", "counted"), [(WAIT_MS * MS - 1, {1}), (WAIT_MS * MS, None)])
def test_a_report_is_in_time_by_when_the_node_took_the_message(reported_ns: int, counted: set[int] | None) -> None:
    events, history = Events(), History()
    view = ClientView(events, cast(Process, None), history, ["s"])
    group = Group(history.begin_incarnation("s", StreamConfig("s")), ConsumerConfig("c", ack_wait_ms=WAIT_MS), 0)
    view.reached_program(Token(1), group, ReceivedMessage(SEQ, 0, 1, b"", "", 0))
    events.now_ns = reported_ns
    view.reported(Token(1))
    assert group.counts.get(SEQ) == counted
