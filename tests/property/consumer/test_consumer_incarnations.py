"""How consumers begin, where they start, how groups share, and how they end; one sentence a test."""

from __future__ import annotations

import pytest

from tests.kit.consumer_world import ConsumerWorld, configured, consumer, world
from waymaker_core.api.requests import AckKind, ConsumerInfo
from waymaker_core.model.config import DeliveryPolicy, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import CodeError, RefusedError

NAK = AckKind.NAK


# ------------------------------------------------------------------ where it starts


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({}, 3),
        ({"policy": DeliveryPolicy.LAST}, 6),
        ({"policy": DeliveryPolicy.LAST, "filter_subject": "a"}, 5),
        ({"policy": DeliveryPolicy.LAST, "filter_subject": "none"}, 7),
        ({"policy": DeliveryPolicy.BY_START_SEQ, "start_seq": 1}, 3),
        ({"policy": DeliveryPolicy.BY_START_SEQ, "start_seq": 4}, 4),
        ({"policy": DeliveryPolicy.BY_START_SEQ, "start_seq": 99}, 99),
        ({"policy": DeliveryPolicy.BY_START_TIME, "start_time_ms": -5}, 3),
        ({"policy": DeliveryPolicy.BY_START_TIME, "start_time_ms": 1_004}, 5),
        ({"policy": DeliveryPolicy.BY_START_TIME, "start_time_ms": 9_999}, 7),
    ],
)
def test_each_policy_starts_where_it_says(settings: dict[str, object], first: int) -> None:
    w = world()
    for subject in ["a", "b", "a", "b", "a", "b"]:
        w.publish(subject)
        w.now_ms += 1
    w.prune(3)
    c = w.create(configured(settings))
    assert w.consumers.info(c).ack_floor == first - 1
    w.publish(*["none" if "filter_subject" in settings else "b"] * 100)
    delivered = w.fetch(c, 1)
    expected = 7 if settings.get("filter_subject") == "none" else first
    assert delivered == [(expected, 1)]


def test_a_consumer_of_an_empty_stream_starts_with_what_comes() -> None:
    w = world()
    c = w.create(consumer())
    assert w.consumers.info(c).ack_floor == 0
    assert w.fetch(c, 1) == []
    w.publish("a")
    assert w.fetch(c, 1) == [(1, 1)]


# ------------------------------------------------------------------ coming and going


def test_creating_the_same_again_is_fine_and_another_under_its_name_is_not() -> None:
    w = world()
    w.create(consumer(max_deliver=5))
    again = w.consumers.decide_create(consumer(), 5)
    assert again.record is None and not again.depends_on_uncommitted
    with pytest.raises(CodeError) as caught:
        w.consumers.decide_create(consumer(max_deliver=6), 5)
    assert caught.value.code == "already_exists"


def test_a_creation_on_its_way_counts_for_later_decisions() -> None:
    w = world(limits=Limits(consumers_max=1))
    decision = w.consumers.decide_create(consumer(), 5)
    again = w.consumers.decide_create(consumer(), 6)
    assert again.record is None and again.depends_on_uncommitted
    with pytest.raises(RefusedError):
        w.consumers.decide_create(consumer("d"), 6)
    with pytest.raises(CodeError):
        w.consumers.find_consumer_id("c")
    assert decision.record is not None
    w.decide(decision.record)
    w.commit()
    assert w.consumers.find_consumer_id("c") == decision.record.consumer_id


def test_a_consumer_created_anew_is_another_one() -> None:
    w = world()
    w.publish("a", "a")
    first = w.create(consumer())
    w.fetch(first, 2)
    record = w.consumers.decide_delete("c")
    w.decide(record)
    with pytest.raises(CodeError):
        w.consumers.find_consumer_id("c")
    with pytest.raises(CodeError):
        w.consumers.decide_delete("c")
    decision = w.consumers.decide_create(consumer(), 6)
    assert decision.record is not None
    w.decide(decision.record)
    w.commit()
    second = w.consumers.find_consumer_id("c")
    assert not w.consumers.exists(first) and second == first + 1
    assert w.fetch(second, 5) == [(1, 1), (2, 1)]
    w.check()


@pytest.mark.parametrize(
    "settings",
    [
        {"name": ""},
        {"name": "a.b"},
        {"filter_subject": "a..b"},
        {"filter_subject": "a.>.b"},
        {"policy": DeliveryPolicy.BY_START_SEQ},
        {"policy": DeliveryPolicy.BY_START_SEQ, "start_seq": 1 << 63},
        {"ack_wait_ms": 8 * 24 * 3_600_000},
        {"ack_wait_ms": -1},
        {"max_deliver": -1},
        {"max_deliver": 1 << 32},
        {"dead_letter_subject": "other"},
        {"dead_letter_subject": "dlq.*"},
        {"deliver_group": "x" * 256},
        {"deliver_group": "a\nb"},
    ],
)
def test_an_impossible_configuration_is_refused(settings: dict[str, object]) -> None:
    w = world(subjects_filter=("a.>", "dlq.>"))
    with pytest.raises(CodeError) as caught:
        w.create(configured(settings))
    assert caught.value.code == "invalid_config"
    assert len(w.consumers) == 0


def test_a_queue_has_no_consumers_and_a_service_stream_no_dead_letters() -> None:
    for name, settings in (("queue:q", {}), ("kv:b", {"dead_letter_subject": "b.x"})):
        w = ConsumerWorld(StreamConfig(name, block_size=7))
        with pytest.raises(CodeError):
            w.create(configured(settings))
    ConsumerWorld(StreamConfig("kv:b", block_size=7)).create(consumer())


def test_settings_that_a_policy_ignores_do_not_make_another_consumer() -> None:
    w = world()
    w.create(consumer(start_seq=5, start_time_ms=7))
    assert w.consumers.decide_create(consumer(), 5).record is None


def test_consumers_are_listed_by_name_in_pages() -> None:
    w = world()
    for name in ("b", "d", "a", "c"):
        w.create(consumer(name))

    def names(entries: list[ConsumerInfo]) -> list[str]:
        return [entry.config.name for entry in entries]

    page = w.consumers.page("", 3, 1 << 20)
    assert names(page.entries) == ["a", "b", "c"] and page.next_after == "c"
    page = w.consumers.page("c", 3, 1 << 20)
    assert names(page.entries) == ["d"] and page.next_after == ""
    w.delete("d")
    w.create(consumer("bb"))
    page = w.consumers.page("b", 3, 1 << 20)
    assert names(page.entries) == ["bb", "c"] and page.next_after == ""


# ------------------------------------------------------------------ queue groups


def test_members_of_a_group_share_one_position() -> None:
    w = world()
    w.publish(*["a"] * 6)
    one = w.create(consumer("one", deliver_group="g"))
    two = w.create(consumer("two", deliver_group="g"))
    assert w.fetch(one, 2) == [(1, 1), (2, 1)]
    assert w.fetch(two, 2) == [(3, 1), (4, 1)]
    assert w.ack(two, 1) == 1
    w.answer(one, NAK, [3])
    assert w.fetch(one, 2) == [(3, 2), (5, 1)]
    assert w.consumers.info(one).ack_floor == w.consumers.info(two).ack_floor == 1
    w.check()


def test_what_a_leaving_member_had_is_due_at_once() -> None:
    w = world()
    w.publish(*["a"] * 4)
    one = w.create(consumer("one", deliver_group="g"))
    two = w.create(consumer("two", deliver_group="g"))
    w.fetch(one, 2)
    w.fetch(two, 1)
    w.delete("one")
    assert w.fetch(two, 9) == [(1, 2), (2, 2), (4, 1)]
    w.check()


def test_the_last_member_ends_the_group() -> None:
    w = world()
    w.publish(*["a"] * 4)
    w.create(consumer("one", deliver_group="g"))
    w.fetch(w.consumers.find_consumer_id("one"), 4)
    w.delete("one")
    again = w.create(consumer("two", deliver_group="g"))
    assert w.fetch(again, 9) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    w.check()


@pytest.mark.parametrize("settings", [{"ack_wait_ms": 7}, {"max_deliver": 9}, {"filter_subject": "a"}])
def test_members_must_agree(settings: dict[str, object]) -> None:
    w = world()
    w.create(consumer("one", deliver_group="g"))
    with pytest.raises(CodeError) as caught:
        w.create(consumer("two", deliver_group="g", **settings))
    assert caught.value.code == "invalid_config"
    w.create(consumer("three", deliver_group="h", **settings))


def test_what_a_gone_member_had_is_not_lost_by_a_crash() -> None:
    w = world()
    w.publish(*["a"] * 4)
    one = w.create(consumer("one", deliver_group="g"))
    two = w.create(consumer("two", deliver_group="g"))
    w.fetch(one, 2)
    w.decide(w.consumers.decide_delete("one"))
    w.log_deliveries()
    w.commit()
    w.restart()
    assert w.consumers.info(two).pending == 2
    w.now_ms += 100
    assert w.fetch(two, 9) == [(1, 2), (2, 2), (3, 1), (4, 1)]
