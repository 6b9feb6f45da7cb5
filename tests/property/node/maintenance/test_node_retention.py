"""Retention in time: age and interest judged when something is due, and never by looking at every stream."""

from __future__ import annotations

import pytest

from tests.kit.node_kit import Server, publish
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Lane
from waymaker_core.api.requests import AckKind


@pytest.mark.parametrize("strict", [False, True])
def test_old_messages_go_soon_after_their_time(strict: bool) -> None:
    server = Server()
    server.create("s", max_age_ms=10_000, strict_limits=strict, block_size=4)
    server.publish("s", *[b"x"] * 4)
    server.pass_ms(5_000)
    server.publish("s", *[b"y"] * 4)
    server.pass_ms(4_000)
    assert server.stats().msg_count == 8
    server.pass_ms(2_000)
    assert server.stats().msg_count == 4
    server.pass_ms(6_000)
    assert server.stats().msg_count == 0
    assert server.stats().last_seq == 8
    server.kill()
    assert server.stats().msg_count == 0
    assert server.publish("s", b"z").first_seq == 9


def test_age_goes_on_while_the_node_is_down() -> None:
    server = Server()
    server.create("s", max_age_ms=10_000)
    server.publish("s", b"x")
    server.disk.kill()
    server.wall_ms += 60_000
    server.open()
    server.pass_ms(1_000)
    assert server.stats().msg_count == 0


def test_a_jump_of_the_wall_clock_is_noticed() -> None:
    server = Server()
    server.create("s", max_age_ms=3_600_000)
    server.publish("s", b"x")
    server.pass_ms(10_000)
    due = server.node.next_deadline()
    assert due is not None
    assert due > server.mono_ns + 3_000_000_000_000
    server.wall_ms += 3_700_000
    server.step()
    server.pass_ms(600)
    assert server.stats().msg_count == 0
    server.publish("s", b"y")
    server.wall_ms -= 7_400_000
    server.step()
    server.pass_ms(5_000)
    assert server.stats().msg_count == 1, "a time in the future is age 0"


def test_streams_that_do_not_age_have_no_timer() -> None:
    server = Server()
    for number in range(50):
        server.create(f"s{number}", max_msgs=5)
        server.publish(f"s{number}", b"x")
    server.pass_ms(3_000)
    assert server.node.next_deadline() is None


def test_interest_keeps_what_somebody_still_wants() -> None:
    server = Server()
    server.create("s", retention="INTEREST", block_size=2)
    server.consumer("s", "c")
    server.consumer("s", "d", filter_subject="other")
    server.publish("s", *[b"x"] * 6)
    server.pass_ms(3_000)
    assert server.stats().msg_count == 6
    server.fetch()
    server.ack(1, 2, 3)
    server.pass_ms(1_000)
    assert [seq for seq, _, _ in server.all()] == [3, 4, 5, 6]
    server.ack(4, 5, 6, kind=AckKind.TERM)
    server.pass_ms(1_000)
    assert server.all() == []
    server.pass_ms(3_000)
    assert server.node.next_deadline() is None


def test_without_consumers_nothing_interests() -> None:
    server = Server()
    server.create("s", retention="INTEREST", block_size=100)
    server.publish("s", *[b"x"] * 6)
    server.pass_ms(1_500)
    assert server.all() == []
    server.consumer("s", "c")
    server.publish("s", b"y")
    server.pass_ms(1_500)
    assert [seq for seq, _, _ in server.all()] == [7]
    server.ok(rq.DeleteConsumer("s", "c"))
    server.pass_ms(1_500)
    assert server.all() == []


def test_many_streams_that_age_are_judged_one_by_one() -> None:
    server = Server()
    for number in range(40):
        server.create(f"s{number}", max_age_ms=1_000 * (number + 1))
        server.publish(f"s{number}", b"x")
    server.pass_ms(20_500)
    left = [number for number in range(40) if server.stats(f"s{number}").msg_count]
    assert left == list(range(20, 40))


@pytest.mark.parametrize("steps_ms", [20, 150])
def test_what_is_too_old_goes_in_time_while_a_write_is_always_under_way(steps_ms: int) -> None:
    server = Server()
    server.create("s", max_age_ms=1_000, strict_limits=True)
    (replica,) = server.node._state.replicas.values()
    interval_ms = server.config.limits.retention_interval_ms
    play = Play(server)
    born_ms = {}
    for turn in range(1, 5_000 // steps_ms):
        # What is published waits behind the write under way, and is the next one as soon as that ends.
        play.tell((turn, publish("s", ("a", b"x"))))
        born_ms[turn] = server.wall_ms
        writes = [number for number, job in play.jobs.items() if job.lane is Lane.JOURNAL]
        for number in sorted(play.jobs) if turn > 1 else []:
            play.done(number)
        play.pass_ms(steps_ms)
        assert server.node._group_commit.has_undurable()
        assert len(writes) == 1
        oldest_ms = server.wall_ms - born_ms[replica.stream.first_seq]
        assert oldest_ms <= 1_000 + interval_ms + 3 * steps_ms, "a prune is decided, gathers, and is written"
    assert replica.stream.first_seq > 10


def test_interest_keeps_a_message_that_is_pending_beyond_the_logged_scan() -> None:
    """The wait of a delivery was extended, which is durable; how far the group had scanned was not logged yet."""
    server = Server()
    server.create("s", retention="INTEREST")
    server.consumer("s", "c", filter_subject="a")
    server.publish("s", b"other", subject="b")
    server.publish("s", b"work")
    assert [seq for seq, _, _ in server.fetch("s", "c", 5)] == [2]
    server.ack(2, kind=AckKind.IN_PROGRESS)
    server.kill()
    server.publish("s", b"later", subject="b")
    server.pass_ms(2_000)
    assert 2 in [seq for seq, _, _ in server.all("s")]
    server.pass_ms(60_000)
    assert [seq for seq, _, _ in server.fetch("s", "c", 5)] == [2]
    server.ack(2)
    server.pass_ms(2_000)
    assert server.all("s") == []


def test_what_is_too_old_goes_as_soon_as_the_journal_has_space(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    server.create("s", max_age_ms=10_000)
    server.publish("s", b"x")
    group_commit = server.node._group_commit
    with monkeypatch.context() as full:
        full.setattr(group_commit, "has_room_for", lambda log, bound, ordinary: False)
        full.setattr(group_commit, "has_undurable", lambda: True)
        server.pass_ms(10_600)
        assert server.stats().msg_count == 1
    group_commit.note_capacity()
    server.step()
    assert server.stats().msg_count == 0, "no interval has to end first"
