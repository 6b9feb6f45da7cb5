"""Consumers of a work queue keep out of each other's way; one sentence a test."""

from __future__ import annotations

from tests.kit.consumer_world import consumer, queue, world
from waymaker_core.api.requests import AckKind
from waymaker_core.model.config import Retention
from waymaker_core.model.records import PruneRecord
from waymaker_core.model.types import ConsumerId
from waymaker_core.stream.retention import decisions as retention

ACK = AckKind.ACK
TERM = AckKind.TERM
NAK = AckKind.NAK
IN_PROGRESS = AckKind.IN_PROGRESS


def test_the_first_ack_deletes_and_a_term_does_not() -> None:
    w = queue()
    c = w.create(consumer())
    w.fetch(c, 5)
    w.ack(c, 1, 4)
    w.answer(c, TERM, [2])
    w.commit()
    assert [w.stream.is_live(seq) for seq in range(1, 6)] == [False, True, True, False, True]
    assert w.fetch(c, 5) == []
    other = w.create(consumer("other"))
    assert w.fetch(other, 5) == [(2, 1)]
    w.check()


def test_what_one_consumer_has_is_withheld_from_the_others_until_it_lets_go() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    assert w.fetch(one, 2) == [(1, 1), (2, 1)]
    assert w.fetch(two, 1) == [(3, 1)]
    assert w.fetch(two, 9) == [(4, 1), (5, 1)]
    assert w.consumers.info(two).ack_floor == 0
    assert not w.consumers.has_work(two, w.now)
    w.answer(one, NAK, [2], 50)
    assert w.consumers.has_work(two, w.now)
    assert w.fetch(two, 9) == [(2, 1)]
    w.now_ms += 50
    assert w.fetch(one, 9) == []
    w.ack(one, 1)
    assert w.consumers.info(two).ack_floor == 1
    w.check()


def test_after_an_expiry_whoever_comes_first_gets_it() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 5)
    assert w.fetch(two, 5) == []
    w.now_ms += 100
    assert w.fetch(two, 2) == [(1, 1), (2, 1)]
    assert w.fetch(one, 9) == [(3, 2), (4, 2), (5, 2)]
    w.now_ms += 100
    assert w.fetch(one, 1) == [(1, 2)]
    w.check()


def test_a_late_ack_deletes_what_another_consumer_has_by_now() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 1)
    w.now_ms += 100
    assert w.fetch(two, 1) == [(1, 1)]
    assert w.ack(one, 1) == 1
    assert not w.stream.is_live(1)
    assert w.consumers.info(two).pending == 0
    assert w.ack(two, 1) == 0
    w.check()


def test_two_acks_of_one_message_on_their_way_delete_it_once() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 1)
    w.now_ms += 100
    w.fetch(two, 1)
    assert w.answer(one, ACK, [1]) == 1
    assert w.answer(two, ACK, [1]) == 1
    w.commit()
    assert w.stream.stats().msg_count == 4
    w.check()


def test_an_extension_does_not_take_back_what_another_consumer_has() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 2)
    w.now_ms += 100
    w.fetch(two, 1)
    assert w.answer(one, IN_PROGRESS, [1, 2]) == 1
    assert w.fetch(two, 9) == [(3, 1), (4, 1), (5, 1)]
    w.check()


def test_a_spent_message_stays_withheld_until_its_drop_is_committed() -> None:
    w = queue()
    one, two = w.create(consumer("one", max_deliver=1)), w.create(consumer("two"))
    w.fetch(one, 1)
    w.now_ms += 100
    w.consumers.expire(w.now)
    assert (1, 1) not in w.fetch(two, 9)
    for spent in w.hand_out():
        w.drop(spent)
    assert w.fetch(two, 9) == []
    w.commit()
    assert w.fetch(two, 9) == [(1, 1)]
    w.check()


def test_the_end_of_a_consumer_lets_go_of_what_it_had() -> None:
    w = queue()
    one, two, three = (w.create(consumer(name)) for name in ("one", "two", "three"))
    w.fetch(one, 2)
    assert w.fetch(two, 9) == [(3, 1), (4, 1), (5, 1)]
    assert w.fetch(three, 9) == []
    w.delete("one")
    assert w.fetch(two, 1) == [(1, 1)]
    w.delete("two")
    assert w.fetch(three, 9) == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]
    w.check()


def test_a_filter_keeps_a_consumer_from_waiting_for_what_it_never_gets() -> None:
    w = world(Retention.WORK_QUEUE)
    w.publish("a", "b", "a", "b")
    one, two = w.create(consumer("one", filter_subject="a")), w.create(consumer("two"))
    w.fetch(two, 2)
    assert w.fetch(one, 9) == [(3, 1)]
    w.ack(one, 3)
    assert w.consumers.info(one).ack_floor == 0
    w.ack(two, 1)
    assert w.consumers.info(one).ack_floor == 4
    w.check()


def test_what_is_pruned_while_it_is_held_is_forgotten_by_its_holder_too() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 3)
    w.fetch(two, 1)
    w.prune(0, [2, 4])
    assert w.consumers.info(one).pending == 2 and w.consumers.info(two).pending == 0
    w.now_ms += 100
    assert w.fetch(one, 9) == [(1, 2), (3, 2), (5, 1)]
    w.check()


def test_a_second_consumer_does_not_wait_for_what_was_pruned_under_an_ack_on_its_way() -> None:
    w = queue()
    one = w.create(consumer("one"))
    w.fetch(one, 3)
    w.decide(PruneRecord(0, *retention.decide_drops(w.stream, [2])))
    created = w.consumers.decide_create(consumer("two"), w.now_ms).record
    assert created is not None
    w.decide(created)
    w.answer(one, ACK, [1, 2])
    w.commit(2)
    w.check()
    w.commit()
    assert w.fetch(ConsumerId(created.consumer_id), 9) == [(4, 1), (5, 1)]
    w.check()
