"""What consumers deliver, and what an answer to a delivery does; one sentence a test."""

from __future__ import annotations

import pytest

from tests.kit.consumer_world import consumer, expanded, world
from waymaker_core.api.requests import AckKind
from waymaker_core.model.config import Retention
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import RefusedError

ACK = AckKind.ACK
TERM = AckKind.TERM
NAK = AckKind.NAK
IN_PROGRESS = AckKind.IN_PROGRESS


# ------------------------------------------------------------------ delivery


def test_new_messages_come_in_order_and_once() -> None:
    w = world()
    w.publish(*["a"] * 5)
    c = w.create(consumer())
    assert w.fetch(c, 3) == [(1, 1), (2, 1), (3, 1)]
    assert w.fetch(c, 3) == [(4, 1), (5, 1)]
    assert w.fetch(c, 3) == []
    w.check()


def test_due_redeliveries_come_first_by_sequence_then_new_ones() -> None:
    w = world()
    w.publish(*["a"] * 6)
    c = w.create(consumer())
    w.fetch(c, 4)
    w.answer(c, NAK, [3])
    w.answer(c, NAK, [1])
    assert w.fetch(c, 3) == [(1, 2), (3, 2), (5, 1)]
    w.check()


def test_after_its_wait_a_delivery_is_due_again_and_not_before() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer())
    w.fetch(c, 1)
    w.now_ms += 99
    assert w.fetch(c, 1) == []
    w.now_ms += 1
    assert w.fetch(c, 1) == [(1, 2)]


def test_a_nak_waits_for_its_delay() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer())
    w.fetch(c, 1)
    assert w.answer(c, NAK, [1], 500) == 1
    w.now_ms += 499
    assert w.fetch(c, 1) == []
    w.now_ms += 1
    assert w.fetch(c, 1) == [(1, 2)]


def test_in_progress_starts_the_wait_anew_without_counting() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer())
    w.fetch(c, 1)
    for _ in range(5):
        w.now_ms += 90
        assert w.answer(c, IN_PROGRESS, [1]) == 1
    assert w.fetch(c, 1) == []
    w.now_ms += 100
    assert w.fetch(c, 1) == [(1, 2)]


def test_what_is_not_pending_cannot_be_answered() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer())
    w.fetch(c, 1)
    w.ack(c, 1)
    for kind in (ACK, TERM, NAK, IN_PROGRESS):
        assert w.answer(c, kind, [0, 1, 2, 3, (1 << 64) - 1]) == 0
    assert w.overlay == []
    assert w.fetch(c, 5) == [(2, 1)]


def test_a_late_ack_counts() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer())
    w.fetch(c, 1)
    w.now_ms += 1_000
    assert w.ack(c, 1) == 1
    assert w.fetch(c, 1) == []


def test_a_filter_lets_through_what_matches_and_the_floor_passes_the_rest() -> None:
    w = world()
    w.publish("a.x", "b", "a.y", "b", "b")
    c = w.create(consumer(filter_subject="a.*"))
    assert w.fetch(c, 5) == [(1, 1), (3, 1)]
    w.ack(c, 1)
    assert w.consumers.info(c).ack_floor == 2
    w.ack(c, 3)
    assert w.consumers.info(c).ack_floor == 5
    assert w.consumers.info(c).last_delivered == 3


def test_an_answer_is_bounded_in_bytes_but_holds_one_message_at_least() -> None:
    w = world()
    w.publish("a", "a", "a", payload=b"x" * 100)
    c = w.create(consumer())
    assert w.fetch(c, 3, byte_max=1) == [(1, 1)]
    assert w.fetch(c, 3, byte_max=300) == [(2, 1), (3, 1)]
    w.now_ms += 100
    assert w.fetch(c, 3, byte_max=1) == [(1, 2)]
    assert w.fetch(c, 3, byte_max=300) == [(2, 2), (3, 2)]
    w.publish("a", payload=b"x" * 100)
    w.now_ms += 100
    assert w.fetch(c, 4, byte_max=500) == [(1, 3), (2, 3), (3, 3)]
    assert w.fetch(c, 4, byte_max=500) == [(4, 1)]
    w.check()


def test_at_the_limit_of_pending_only_redeliveries_go_out() -> None:
    w = world(limits=Limits(pending_max=3))
    w.publish(*["a"] * 9)
    c = w.create(consumer())
    assert len(w.fetch(c, 9)) == 3
    assert w.fetch(c, 9) == [] and not w.consumers.has_work(c, w.now)
    w.answer(c, NAK, [2])
    assert w.fetch(c, 9) == [(2, 2)]
    w.ack(c, 1)
    assert w.fetch(c, 9) == [(4, 1)]


def test_an_answer_in_any_order_with_repeats_counts_each_message_once() -> None:
    w = world()
    w.publish(*["a"] * 9)
    c = w.create(consumer())
    w.fetch(c, 9)
    assert w.ack(c, 7, 3, 3, 99, 7, 1) == 3
    assert w.consumers.info(c).pending == 6


# ------------------------------------------------------------------ floors and pruning


def test_the_floor_waits_for_the_oldest_and_for_the_commit() -> None:
    w = world()
    w.publish(*["a"] * 5)
    c = w.create(consumer())
    w.fetch(c, 5)
    w.ack(c, 2, 3)
    assert w.consumers.info(c).ack_floor == 0
    w.answer(c, ACK, [1])
    assert w.consumers.info(c).ack_floor == 0
    w.commit()
    assert w.consumers.info(c).ack_floor == 3


def test_what_is_pruned_is_no_longer_out_and_the_floor_moves() -> None:
    w = world()
    w.publish(*["a"] * 9)
    c = w.create(consumer())
    w.fetch(c, 6)
    w.prune(3)
    assert (w.consumers.info(c).ack_floor, w.consumers.info(c).pending) == (2, 4)
    w.prune(0, [3, 5])
    assert (w.consumers.info(c).ack_floor, w.consumers.info(c).pending) == (3, 2)
    w.now_ms += 100
    assert w.fetch(c, 3) == [(4, 2), (6, 2), (7, 1)]
    w.prune(10)
    assert w.consumers.info(c).pending == 0
    w.check()


def test_interest_is_not_held_by_what_a_filter_excludes() -> None:
    w = world(Retention.INTEREST)
    w.publish("b", "b", "a", "b")
    assert w.consumers.interest_floor() == 4
    all_ = w.create(consumer("all"))
    some = w.create(consumer("some", filter_subject="a"))
    assert w.consumers.interest_floor() == 0
    w.fetch(all_, 4)
    w.ack(all_, 1, 2, 3, 4)
    assert w.consumers.interest_floor() == 2
    assert w.consumers.info(some).ack_floor == 0
    w.fetch(some, 1)
    w.ack(some, 3)
    assert w.consumers.interest_floor() == 4
    w.publish("b", "a")
    assert w.consumers.interest_floor() == 4


# ------------------------------------------------------------------ bounds and clocks


def test_absurd_answers_are_refused() -> None:
    w = world(limits=Limits(ack_batch_max=4))
    w.publish("a")
    c = w.create(consumer())
    w.fetch(c, 1)
    with pytest.raises(RefusedError):
        w.answer(c, ACK, [1] * 5)
    for delay_ms in (-1, 8 * 24 * 3_600_000):
        with pytest.raises(RefusedError):
            w.answer(c, NAK, [1], delay_ms)
    assert w.answer(c, ACK, [-5, 1, 1 << 70]) == 1


def test_the_timer_is_set_to_the_next_expiry_only() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer())
    assert w.consumers.next_deadline() is None
    w.fetch(c, 1)
    first = w.now.mono_ns + 100_000_000
    assert w.consumers.next_deadline() == first
    w.now_ms += 10
    w.fetch(c, 1)
    assert w.consumers.next_deadline() == first
    w.ack(c, 1)
    assert w.consumers.next_deadline() == first + 10_000_000
    w.ack(c, 2)
    assert w.consumers.next_deadline() is None


def test_there_is_work_where_something_could_be_handed_out() -> None:
    w = world()
    c = w.create(consumer())
    assert not w.consumers.has_work(c, w.now)
    w.publish("a")
    assert w.consumers.has_work(c, w.now)
    assert expanded(w.consumers.dispatch(c, w.now, 1, 1000)) == [(1, 1)]
    assert not w.consumers.has_work(c, w.now)
    w.now_ms += 100
    assert w.consumers.has_work(c, w.now)
