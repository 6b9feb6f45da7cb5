"""Deliveries that never left the server because they could not be read: no attempt was made; one sentence a test."""

from __future__ import annotations

from tests.kit.consumer_world import ConsumerWorld, consumer, queue, world
from waymaker_core.api.requests import AckKind, Messages
from waymaker_core.model.config import Retention
from waymaker_core.model.types import ConsumerId


def taken(w: ConsumerWorld, name: ConsumerId, count: int) -> Messages:
    messages = w.consumers.dispatch(name, w.now, count, 1 << 40)
    assert messages is not None
    return messages


def test_it_comes_again_when_it_would_have_been_due_and_counts_as_no_attempt() -> None:
    w = world()
    w.publish("a", "a", "a")
    c = w.create(consumer(max_deliver=1))
    w.consumers.not_sent(taken(w, c, 2))
    w.check()
    assert w.fetch(c, 9) == [(3, 1)]
    assert w.consumers.info(c).pending == 3
    w.now_ms += 100
    assert w.fetch(c, 9) == [(1, 1), (2, 1)]
    w.check()


def test_a_disk_that_fails_for_long_drops_nothing() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer(max_deliver=2))
    w.fetch(c, 1)
    for _ in range(5):
        w.now_ms += 100
        w.consumers.not_sent(taken(w, c, 1))
        w.give_up()
        w.check()
    w.now_ms += 100
    assert w.fetch(c, 1) == [(1, 2)]
    w.now_ms += 100
    w.give_up()
    assert w.consumers.info(c).pending == 0


def test_what_was_answered_or_went_out_again_meanwhile_stays_as_it_is() -> None:
    w = world()
    w.publish("a", "a", "a")
    c = w.create(consumer(max_deliver=5))
    first = taken(w, c, 3)
    w.ack(c, 1)
    w.answer(c, AckKind.NAK, [2])
    assert w.fetch(c, 1) == [(2, 2)]
    w.consumers.not_sent(first)
    w.check()
    w.now_ms += 100
    assert w.fetch(c, 9) == [(2, 3), (3, 1)]


def test_a_last_attempt_that_nobody_reported_drops_nothing() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dead"))
    first = taken(w, c, 1)
    taken(w, c, 1)
    w.now_ms += 100
    w.consumers.expire(w.now)
    assert w.hand_out(1) == []
    w.consumers.not_sent(first)
    w.check()
    assert not w.consumers.has_exhausted()
    assert w.fetch(c, 9) == [(1, 1), (2, 1)]
    w.check()


def test_on_a_work_queue_it_goes_to_whoever_comes_first() -> None:
    w = queue()
    one, two = w.create(consumer("one", max_deliver=1)), w.create(consumer("two"))
    messages = taken(w, one, 2)
    w.consumers.not_sent(messages)
    w.check()
    assert w.fetch(two, 9) == [(3, 1), (4, 1), (5, 1)]
    w.now_ms += 100
    w.consumers.expire(w.now)
    w.check()
    assert {(1, 1), (2, 1)} <= set(w.fetch(two, 9))
    assert w.fetch(one, 9) == []
    w.check()


def test_a_last_attempt_on_a_work_queue_lets_go_of_its_message() -> None:
    w = queue()
    one, two = w.create(consumer("one", max_deliver=1)), w.create(consumer("two"))
    messages = taken(w, one, 1)
    w.now_ms += 100
    w.consumers.expire(w.now)
    w.consumers.not_sent(messages)
    w.check()
    assert (1, 1) in w.fetch(two, 9)
    w.check()


def test_after_a_restart_it_is_out_as_before_or_was_never_out() -> None:
    for survives in (0, 9):
        w = world(Retention.LIMITS)
        w.publish("a", "a")
        c = w.create(consumer(max_deliver=3))
        w.consumers.not_sent(taken(w, c, 1))
        w.log_deliveries()
        w.restart(survives=survives)
        w.check()
        w.now_ms += 100
        assert w.fetch(c, 9) == [(1, 1), (2, 1)]


def test_a_consumer_that_is_gone_has_nothing_to_take_back() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer("c"))
    messages = taken(w, c, 1)
    w.delete("c")
    w.consumers.not_sent(messages)
    w.check()
