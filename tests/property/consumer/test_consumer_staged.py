"""Consumers while something is decided and not committed, and what becomes of it; one sentence a test."""

from __future__ import annotations

from array import array

import pytest

from tests.kit.consumer_world import ConsumerWorld, consumer, expanded, queue, world
from waymaker_core.api.requests import AckKind
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.consumer.pending.batch import shapes_of
from waymaker_core.consumer.pending.pending import Pending
from waymaker_core.consumer.pending.states import Event, State
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention
from waymaker_core.model.records import AckRecord, ConsumerDeleted, DeliveredRecord, Listed, PruneRecord
from waymaker_core.model.result_codes import CodeError, RefusedError
from waymaker_core.model.types import ConsumerId
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.retention import decisions as retention

ACK, NAK, TERM = AckKind.ACK, AckKind.NAK, AckKind.TERM


def stage(w: ConsumerWorld, config: ConsumerConfig) -> ConsumerId:
    """A consumer is decided, and not committed."""
    decision = w.consumers.decide_create(config, w.now_ms)
    assert decision.record is not None
    w.decide(decision.record)
    return ConsumerId(decision.record.consumer_id)


def cut(w: ConsumerWorld) -> None:
    """What is staged will never be committed."""
    w.consumers.discard_uncommitted()
    w.stream.discard_uncommitted()
    w.overlay = []
    w.check()


# ---------------------------------------------------------------- lives


def test_a_member_that_is_only_decided_binds_the_next_one() -> None:
    w = world()
    stage(w, consumer("one", deliver_group="g"))
    stage(w, consumer("alone", deliver_group="other", max_deliver=9))
    with pytest.raises((CodeError, RefusedError), match="max_deliver"):
        w.consumers.decide_create(consumer("two", deliver_group="g", max_deliver=3), 5)
    stage(w, consumer("two", deliver_group="g"))
    w.commit()
    w.check()
    w.publish("a", "a")
    assert w.fetch(w.consumers.find_consumer_id("one"), 1) == [(1, 1)]
    assert w.fetch(w.consumers.find_consumer_id("two"), 9) == [(2, 1)]


def test_a_group_whose_end_is_decided_binds_nobody() -> None:
    w = world()
    w.create(consumer("one", deliver_group="g"))
    w.decide(w.consumers.decide_delete("one"))
    stage(w, consumer("two", deliver_group="g", max_deliver=3))
    with pytest.raises((CodeError, RefusedError), match="max_deliver"):
        w.consumers.decide_create(consumer("three", deliver_group="g"), 5)
    w.commit()
    w.check()
    assert w.consumers.info(w.consumers.find_consumer_id("two")).config.max_deliver == 3


def test_a_consumer_may_be_deleted_and_made_anew_before_it_was_committed() -> None:
    w = world()
    stage(w, consumer("c"))
    w.decide(w.consumers.decide_delete("c"))
    second = stage(w, consumer("c", max_deliver=3))
    for _ in range(3):
        w.commit(1)
        w.check()
    assert w.consumers.find_consumer_id("c") == second
    assert w.consumers.info(second).config.max_deliver == 3


def test_a_record_of_a_life_that_is_over_takes_only_its_messages() -> None:
    w = queue()
    c = w.create(consumer())
    w.fetch(c, 2)
    drops, sizes = retention.decide_drops(w.stream, [1])
    w.decide(AckRecord(99, False, array("Q", [1]), drops, sizes))
    w.decide(ConsumerDeleted(99))
    w.commit()
    check_stream(w.stream)
    assert w.consumers.find_consumer_id("c") == c


def test_a_delivery_of_a_life_that_is_over_is_passed_over_in_replay() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer())
    w.log.append((DeliveredRecord(99, 1, 1, 0, 0, [Listed(1, array("Q", [1]))]), None))
    w.restart()
    w.check()
    assert w.fetch(c, 9) == [(1, 1)]


# ---------------------------------------------------------------- what is cut off


def uncertain() -> tuple[ConsumerWorld, ConsumerId]:
    """Four messages went out, and the process ended before any record told of it."""
    w = world()
    w.publish(*["a"] * 6)
    c = w.create(consumer())
    w.fetch(c, 4)
    w.restart()
    return w, c


@pytest.mark.parametrize("kind", [ACK, TERM])
def test_an_ack_of_what_no_record_tells_of_is_cut_off_without_a_trace(kind: AckKind) -> None:
    w, c = uncertain()
    assert w.answer(c, kind, [2, 4]) == 2
    cut(w)
    assert w.fetch(c, 9) == [(seq, 1) for seq in range(1, 7)]
    w.check()


def test_what_was_passed_over_for_an_ack_that_is_cut_off_goes_out_after_all() -> None:
    w, c = uncertain()
    w.answer(c, ACK, [2])
    assert w.fetch(c, 3) == [(1, 1), (3, 1), (4, 1)]
    cut(w)
    assert w.fetch(c, 9) == [(2, 1), (5, 1), (6, 1)]
    w.check()
    w.log_deliveries()
    w.commit()
    w.restart()
    assert w.consumers.info(c).pending == 6


@pytest.mark.parametrize("logged", [True, False], ids=["told of", "untold"])
def test_what_left_the_stream_meanwhile_does_not_come_back_with_a_tail_that_is_cut_off(logged: bool) -> None:
    w, c = uncertain()
    if logged:
        assert w.fetch(c, 4) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    drop_seqs, drop_sizes = retention.decide_drops(w.stream, [2])
    w.decide(PruneRecord(0, drop_seqs, drop_sizes))
    assert w.answer(c, ACK, [2, 3]) == 2
    w.commit(1)
    cut(w)
    w.now_ms += 100
    assert [seq for seq, _ in w.fetch(c, 9)] == [1, 3, 4, 5, 6]
    w.check()


# ---------------------------------------------------------------- beyond what is known


def test_what_another_group_held_may_be_acked_after_a_start_by_whoever_passed_over_it() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 2)
    assert w.fetch(two, 2) == [(3, 1), (4, 1)]
    w.log_deliveries()
    w.commit()
    w.restart()
    assert w.answer(two, ACK, [1]) == 1, "it may have gone out to the second in what no record tells of"
    w.commit()
    w.check()
    assert not w.stream.is_live(1)


def test_what_was_passed_over_and_is_pruned_is_forgotten() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 2)
    w.fetch(two, 1)
    w.publish(*["a"] * 5)
    w.prune(8)
    w.check()
    w.now_ms += 100
    assert [seq for seq, _ in w.fetch(two, 9)] == [8, 9, 10]


def test_what_was_spent_and_is_acked_after_all_is_not_dropped() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer(max_deliver=1))
    w.fetch(c, 2)
    w.now_ms += 100
    w.consumers.expire(w.now)
    assert w.answer(c, ACK, [1, 2]) == 2
    assert w.hand_out() == []
    assert not w.consumers.has_exhausted()
    w.commit()
    assert w.consumers.info(c).redelivered_dropped == 0


def test_what_is_spent_in_a_group_whose_end_is_decided_stays_until_that_is_committed() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer("one", max_deliver=1))
    w.create(consumer("two", max_deliver=1))
    w.fetch(c, 1)
    w.now_ms += 100
    w.consumers.expire(w.now)
    w.decide(w.consumers.decide_delete("one"))
    assert w.hand_out() == []
    cut(w)
    (spent,) = w.hand_out()
    w.delete("one")
    w.consumers.abort_dead_lettering(spent)
    assert w.drop(spent) == []
    w.check()


# ---------------------------------------------------------------- smaller things


def test_a_start_by_time_is_a_time() -> None:
    with pytest.raises(CodeError, match="start_time_ms"):
        world().create(consumer(policy=DeliveryPolicy.BY_START_TIME, start_time_ms=1 << 63))


def test_a_deadline_that_was_set_twice_passes_once_when_its_member_leaves() -> None:
    pending = Pending(3)
    pending.add([1, 2], 7, 1, 100)
    for _ in range(2):
        pending.happen(pending.find_parts([1, 2]), Event.EXTENDED, 200)
    pending.leave(7)
    pending.check()
    assert pending.due.to_list() == [1, 2]
    assert [batch.state for batch in pending.batches()] == [State.DUE]


def test_nothing_has_no_shape_and_what_lies_behind_a_batch_is_not_in_it() -> None:
    assert shapes_of([]) == []
    pending = Pending(3)
    pending.add([1, 1_000_000, 3_000_000], 7, 1, 100)
    ((batch, mask),) = pending.find_parts([1_000_000])
    assert batch.seqs_of(mask) == [1_000_000]
    assert batch.mask_of([2_000_000, 3_000_000, 4_000_000]) == 0b100


def test_consumers_that_are_carried_over_pass_what_is_out_elsewhere_over_once() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer())
    w.fetch(c, 1)
    w.log_deliveries()
    w.commit()
    w.log.append((DeliveredRecord(c, 1, 1, 0, 0, [Listed(0, array("Q", [1]))]), None))
    fresh = Consumers(w.stream, w.limits)
    for record, _ in w.log:
        fresh.apply(record)
    fresh.resume(w.now)
    fresh.check()
    assert expanded(fresh.dispatch(fresh.find_consumer_id("c"), w.now, 9, 1 << 40)) == [(2, 1)], (
        "the first is out, not passed over"
    )


def test_what_a_consumer_on_its_way_wants_is_of_interest_already() -> None:
    w = world(Retention.INTEREST)
    w.publish(*["a"] * 5)
    one = w.create(consumer("one"))
    w.fetch(one, 9)
    w.ack(one, 1, 2, 3, 4, 5)
    assert w.consumers.interest_floor() == 5
    stage(w, consumer("two", policy=DeliveryPolicy.BY_START_SEQ, start_seq=4))
    assert w.consumers.interest_floor() == 3
    stage(w, consumer("three"))
    assert w.consumers.interest_floor() == 0
    w.decide(w.consumers.decide_delete("three"))
    assert w.consumers.interest_floor() == 3
    w.commit()
    assert w.consumers.interest_floor() == 3
    stage(w, consumer("four"))
    cut(w)
    assert w.consumers.interest_floor() == 3
