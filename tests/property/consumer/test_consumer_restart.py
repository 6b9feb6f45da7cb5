"""What consumers know after a restart, a cut tail or a move into another log; one sentence a test."""

from __future__ import annotations

import pytest

from tests.kit.consumer_world import consumer, queue, world
from waymaker_core.api.requests import AckKind
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.model.config import Retention
from waymaker_core.model.limits import Limits
from waymaker_core.model.types import ConsumerId

ACK = AckKind.ACK
TERM = AckKind.TERM
NAK = AckKind.NAK


@pytest.mark.parametrize("snapshot", [False, True])
def test_what_was_out_is_out_again_for_the_rest_of_its_wait(snapshot: bool) -> None:
    w = world()
    w.publish(*["a"] * 5)
    c = w.create(consumer())
    w.fetch(c, 2)
    w.answer(c, NAK, [1])
    w.fetch(c, 1)
    w.log_deliveries()
    w.commit()
    w.now_ms += 50
    if snapshot:
        w.take_snapshot()
    w.now_ms += 20
    w.restart()
    assert w.consumers.info(c).pending == 2
    w.now_ms += 29
    assert w.fetch(c, 9) == [(3, 1), (4, 1), (5, 1)]
    w.now_ms += 1
    assert w.fetch(c, 9) == [(1, 3), (2, 2)]
    w.check()


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_nak_and_an_extension_outlive_a_crash_with_count_and_deadline(snapshot: bool) -> None:
    w = world()
    w.publish(*["a"] * 3)
    c = w.create(consumer())
    assert w.fetch(c, 3) == [(1, 1), (2, 1), (3, 1)]
    w.now_ms += 60
    assert w.answer(c, NAK, [1], delay_ms=3_600_000) == 1
    assert w.answer(c, AckKind.IN_PROGRESS, [3]) == 1
    w.commit()
    if snapshot:
        w.take_snapshot()
    w.now_ms += 30
    w.restart()
    w.check()
    assert w.consumers.info(c).pending == (3 if snapshot else 2), "what nobody logged goes out again"
    assert w.fetch(c, 9) == ([] if snapshot else [(2, 1)])
    w.now_ms += 69
    assert w.fetch(c, 9) == ([(2, 2)] if snapshot else [])
    w.now_ms += 1
    assert w.fetch(c, 9) == [(3, 2)]
    w.answer(c, ACK, [2, 3])
    w.commit()
    w.now_ms += 3_600_000 - 101
    assert w.fetch(c, 9) == []
    w.now_ms += 1
    assert w.fetch(c, 9) == [(1, 2)]
    w.check()


def test_a_nak_that_the_log_did_not_take_is_none() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer())
    w.fetch(c, 1)
    w.log_deliveries()
    w.commit()
    w.answer(c, NAK, [1], delay_ms=3_600_000)
    w.restart()
    w.now_ms += 100
    assert w.fetch(c, 9) == [(1, 2)]


def test_the_nak_of_the_last_attempt_gives_up_after_a_crash_too() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dead"))
    w.fetch(c, 1)
    assert w.consumers.decide_ack(c, NAK, [9], 0, w.now).given_up == []
    decision = w.consumers.decide_ack(c, NAK, [1], 50_000, w.now)
    assert decision.given_up == [1] and w.consumers.is_dropping(c, [1])
    assert decision.record is not None
    w.decide(decision.record)
    w.restart(survives=1)
    assert w.fetch(c, 1) == [(2, 1)], "no second delivery"
    w.give_up()
    assert w.consumers.info(c).redelivered_dropped == 1 and not w.consumers.is_dropping(c, [1])
    assert w.stream.count == 3
    w.restart()
    w.give_up()
    assert w.stream.count == 3, "one dead letter"
    w.check()


@pytest.mark.parametrize(("jump_ms", "rest_ms"), [(-1_000_000_000, 100), (1_000_000_000, 0)])
def test_a_wall_clock_that_jumped_makes_no_wait_longer(jump_ms: int, rest_ms: int) -> None:
    w = world()
    w.now_ms = 2_000_000_000
    w.publish("a")
    c = w.create(consumer())
    w.fetch(c, 1)
    w.log_deliveries()
    w.commit()
    w.now_ms += jump_ms
    w.restart()
    if rest_ms:
        w.now_ms += rest_ms - 1
        assert w.fetch(c, 9) == []
        w.now_ms += 1
    assert w.fetch(c, 9) == [(1, 2)]


def test_a_count_that_went_up_since_is_not_taken_back_by_an_older_record() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer())
    w.fetch(c, 1)
    w.answer(c, NAK, [1])
    assert w.fetch(c, 1) == [(1, 2)]
    w.take_snapshot()
    w.restart(survives=1)
    w.now_ms += 100
    assert w.fetch(c, 1) == [(1, 3)]


def test_whoever_hands_back_or_extends_a_delivery_has_it_from_then_on() -> None:
    w = world()
    w.publish("a", "a")
    one, two = (w.create(consumer(name, deliver_group="g")) for name in ("one", "two"))
    w.fetch(one, 2)
    w.answer(two, NAK, [1], delay_ms=50)
    w.answer(two, AckKind.IN_PROGRESS, [2])
    w.commit()
    w.delete("one")
    assert w.fetch(two, 9) == []
    w.restart()
    assert w.fetch(two, 9) == []
    w.now_ms += 50
    assert w.fetch(two, 9) == [(1, 2)]


@pytest.mark.parametrize("snapshot", [False, True])
def test_what_was_handed_back_keeps_nobody_else_from_it_after_a_restart(snapshot: bool) -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 2)
    w.answer(one, NAK, [1], delay_ms=3_600_000)
    w.answer(one, AckKind.IN_PROGRESS, [2])
    w.commit()
    if snapshot:
        w.take_snapshot()
    w.restart()
    w.check()
    assert w.fetch(two, 1) == [(1, 1)]
    assert [seq for seq, _ in w.fetch(two, 9)] == [3, 4, 5]
    w.check()


def test_what_was_out_unknown_to_the_log_goes_out_again() -> None:
    w = world()
    w.publish(*["a"] * 3)
    c = w.create(consumer())
    w.fetch(c, 2)
    w.restart()
    assert w.fetch(c, 9) == [(1, 1), (2, 1), (3, 1)]


def test_a_message_from_before_the_crash_can_still_be_acked() -> None:
    w = world()
    w.publish("a", "b", "a", "a")
    c = w.create(consumer(filter_subject="a"))
    w.fetch(c, 3)
    w.restart()
    w.publish("a")
    assert w.ack(c, 2, 3, 5) == 1
    assert w.fetch(c, 9) == [(1, 1), (4, 1), (5, 1)]
    w.ack(c, 1)
    assert w.consumers.info(c).ack_floor == 3
    w.restart()
    assert w.fetch(c, 9) == [(4, 1), (5, 1)]
    w.check()


@pytest.mark.parametrize("snapshot", [False, True])
def test_an_orderly_stop_does_not_end_what_a_crash_before_it_left_open(snapshot: bool) -> None:
    w = world()
    w.publish(*["a"] * 3)
    c = w.create(consumer())
    w.fetch(c, 2)
    w.restart()
    w.publish("a")
    if snapshot:
        w.take_snapshot()
    w.restart(orderly=True)
    w.restart(orderly=True)
    assert w.ack(c, 2, 4) == 1
    assert w.fetch(c, 9) == [(1, 1), (3, 1), (4, 1)]


@pytest.mark.parametrize("retention", [Retention.LIMITS, Retention.WORK_QUEUE])
@pytest.mark.parametrize("kind", [ACK, TERM])
def test_after_an_orderly_stop_an_answer_to_what_was_never_delivered_has_no_effect(
    retention: Retention, kind: AckKind
) -> None:
    w = world(retention)
    w.publish(*["a"] * 5)
    c = w.create(consumer())
    w.fetch(c, 2)
    w.restart(orderly=True)
    assert w.answer(c, kind, [3, 4, 5]) == 0
    assert w.answer(c, kind, [2]) == 1
    w.commit()
    assert w.fetch(c, 9) == [(3, 1), (4, 1), (5, 1)]
    assert all(w.stream.is_live(seq) for seq in (3, 4, 5))


def test_an_ack_from_before_the_crash_reaches_whoever_has_the_message_now() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(two, 5)
    w.restart()
    w.fetch(one, 1)
    assert w.ack(two, 1) == 1
    assert w.consumers.info(one).pending == 0 and not w.stream.is_live(1)
    w.check()


def test_an_ack_that_reached_the_log_before_its_delivery_holds() -> None:
    w = world()
    w.publish(*["a"] * 4)
    c = w.create(consumer())
    w.fetch(c, 4)
    w.ack(c, 2, 3)
    w.restart()
    assert w.fetch(c, 9) == [(1, 1), (4, 1)]
    w.ack(c, 1, 4)
    assert w.consumers.info(c).ack_floor == 4
    w.check()


def test_a_floor_that_was_logged_comes_back() -> None:
    w = world()
    w.publish("a", "b", "b", "b")
    c = w.create(consumer(filter_subject="a"))
    w.fetch(c, 9)
    w.ack(c, 1)
    assert w.consumers.unlogged()
    w.log_deliveries()
    w.commit()
    assert not w.consumers.unlogged()
    floor = w.consumers.info(c).ack_floor
    w.restart()
    assert w.consumers.info(c).ack_floor == floor == 4
    assert w.consumers.info(c).last_delivered == 1


def test_a_logged_delivery_of_a_message_that_is_gone_is_forgotten() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 1)
    w.now_ms += 100
    w.fetch(two, 1)
    w.answer(one, ACK, [1])
    w.log_deliveries()
    w.commit()
    w.restart()
    assert w.consumers.info(two).pending == 0
    w.check()


def test_what_was_passed_over_is_not_lost_by_a_crash() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 2)
    w.fetch(two, 9)
    w.log_deliveries()
    w.commit()
    w.restart()
    w.answer(one, NAK, [2])
    assert w.fetch(two, 9) == [(2, 1)]
    w.check()


def test_after_a_crash_a_message_is_out_at_one_consumer_only() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two"))
    w.fetch(one, 2)
    w.now_ms += 100
    w.fetch(two, 1)
    w.log_deliveries()
    w.commit()
    w.restart()
    w.check()
    assert w.consumers.info(one).pending == 2 and w.consumers.info(two).pending == 1
    assert w.fetch(one, 9) == [(2, 2), (3, 1), (4, 1), (5, 1)], "the second was due again"
    assert w.fetch(two, 9) == []


def test_a_snapshot_holds_what_is_staged_as_still_out() -> None:
    w = world()
    w.publish(*["a"] * 4)
    c = w.create(consumer())
    w.fetch(c, 3)
    w.answer(c, ACK, [1])
    w.take_snapshot()
    w.restart()
    assert w.consumers.info(c).pending == 3
    w.now_ms += 100
    assert w.fetch(c, 9) == [(1, 2), (2, 2), (3, 2), (4, 1)]


def test_a_tail_that_is_cut_off_leaves_no_trace() -> None:
    w = queue()
    one, two = w.create(consumer("one")), w.create(consumer("two", max_deliver=1))
    w.fetch(one, 3)
    w.fetch(two, 1)
    w.answer(one, ACK, [1, 3])
    w.answer(two, TERM, [4])
    w.consumers.decide_delete("one")
    w.consumers.decide_create(consumer("three"), 5)
    w.consumers.discard_uncommitted()
    w.stream.discard_uncommitted()
    w.overlay = []
    w.check()
    assert w.consumers.find_consumer_id("one") == one
    assert w.ack(one, 1, 3) == 2
    w.now_ms += 100
    assert w.fetch(one, 9) == [(2, 2), (5, 1)]
    w.check()


def test_consumers_can_be_carried_into_another_log() -> None:
    w = queue()
    one = w.create(consumer("one", deliver_group="g"))
    w.create(consumer("two", deliver_group="g"))
    other = w.create(consumer("other"))
    w.fetch(one, 2)
    w.fetch(other, 9)
    w.answer(one, NAK, [2])
    w.fetch(one, 1)
    old = [w.consumers.info(w.consumers.find_consumer_id(name)) for name in ("one", "two", "other")]
    records = w.consumers.import_records(w.consumers.snapshot(w.now))
    fresh = Consumers(w.stream, w.limits)
    for record in records:
        fresh.apply(record)
    fresh.resume(w.now, complete=True)
    fresh.check()
    new = [fresh.info(fresh.find_consumer_id(name)) for name in ("one", "two", "other")]
    for before, after in zip(old, new, strict=True):
        assert w.consumers.exists(ConsumerId(before.consumer_id)) and not w.consumers.exists(
            ConsumerId(after.consumer_id)
        )
        for field in ("config", "ack_floor", "last_delivered", "created_ms", "redelivered_dropped", "pending", "lag"):
            assert getattr(before, field) == getattr(after, field), field


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [4, []],
        [4, [], 0],
        [4, [], -1],
        [4, [], 1 << 64],
        [4, [], "1"],
        [4, [], 1, 1],
        [3, [], 1],
        [5, [], 1],
        [3, [[1]]],
        [2, [[1]]],
        [1, [[1]]],
        [1, [[1, 2, 3, 4, [], [], b"", b""]]],
        [1, [[1, 2, 3, 4, [[1, 2]], [], b"", b"x"]]],
        7,
    ],
)
def test_what_is_no_snapshot_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Consumers(world().stream, Limits()).restore(value)


def test_an_id_is_not_given_again_after_deletions_and_snapshots() -> None:
    w = world()
    given = [w.create(consumer(name)) for name in "abc"]
    w.delete("c")
    w.take_snapshot()
    w.restart()
    given.append(w.create(consumer("c")))
    w.delete("c")
    w.restart()
    given.append(w.create(consumer("c")))
    assert given == [1, 2, 3, 4, 5]
    w.check()


def test_an_id_that_only_a_record_before_the_snapshot_gave_lies_below_the_catalog_s_in_an_older_layout() -> None:
    w = world()
    first = w.create(consumer("a"))
    state = w.consumers.snapshot(w.now)
    assert isinstance(state, list)
    for next_id, expected in ((1, 2), (40, 40)):
        again = Consumers(w.stream, w.limits)
        again.restore([3, state[1]], next_id)
        again.resume(w.now)
        again.check()
        record = again.decide_create(consumer("b"), 5).record
        assert record is not None and record.consumer_id == expected > first
    again = Consumers(w.stream, w.limits)
    again.restore(state, 40)
    assert again.decide_create(consumer("b"), 5).record.consumer_id == 2  # type: ignore[union-attr]


def test_half_of_a_log_of_deliveries_is_half_as_good() -> None:
    w = world()
    w.publish(*["a"] * 5)
    one = w.create(consumer("one", deliver_group="g"))
    two = w.create(consumer("two", deliver_group="g"))
    w.fetch(one, 2)
    w.fetch(two, 2)
    w.log_deliveries()
    assert len(w.overlay) == 2
    w.restart(survives=1)
    w.check()
    assert w.consumers.info(one).pending == 2
    assert w.fetch(two, 9) == [(3, 1), (4, 1), (5, 1)]
    w.check()


def test_every_count_that_was_logged_comes_back() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer())
    for _ in range(3):
        w.fetch(c, 1)
        w.log_deliveries()
        w.commit()
        w.answer(c, NAK, [1])
    w.restart()
    w.now_ms += 100
    assert w.fetch(c, 1) == [(1, 4)]


def test_what_was_acked_before_the_restart_is_not_acked_again() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer())
    w.fetch(c, 2)
    w.ack(c, 1)
    w.log_deliveries()
    w.commit()
    w.restart()
    assert w.ack(c, 1) == 0
