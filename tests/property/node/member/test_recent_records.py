"""The last records of each log are in memory as their frames hold them, bounded in bytes, and gone with a cut."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.member_kit import EVERYTHING, Cluster, Member
from tests.kit.node_kit import SMALL, publish, stream_config
from tests.kit.node_play import Play
from tests.property.node.test_node_following import records_of
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Cut, Lead, Replicated, SentRecord, StepDown
from waymaker_core.model.limits import KIB
from waymaker_core.model.types import CATALOG
from waymaker_core.node.recent_records import RECORD_BYTES, RecentRecords, size_of

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)


def record(size: int) -> SentRecord:
    return SentRecord(1, 1, b"m", bytes(size))


# ---------------------------------------------------------------- alone

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 3), st.integers(0, 300)),
        st.tuples(st.just("cut"), st.integers(0, 3), st.integers(0, 12)),
        st.tuples(st.just("forget"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("jump"), st.integers(0, 3), st.integers(1, 9)),
    ),
    max_size=60,
)


@given(ACTS, st.integers(1, 6_000), st.integers(1, 9_000))
def test_what_is_kept_is_a_stretch_at_the_end_of_each_log_within_the_bounds(
    acts: list[tuple[str, int, int]], log_bytes: int, node_bytes: int
) -> None:
    recent = RecentRecords(log_bytes, node_bytes)
    model: dict[int, dict[int, SentRecord]] = {}
    ends: dict[int, int] = {}
    for what, stream_id, value in acts:
        if what == "keep":
            position = ends[stream_id] = ends.get(stream_id, 0) + 1
            model.setdefault(stream_id, {})[position] = record(value)
            recent.keep(stream_id, position, record(value))
        elif what == "cut":
            ends[stream_id] = min(ends.get(stream_id, 0), value)
            model[stream_id] = {at: each for at, each in model.get(stream_id, {}).items() if at <= value}
            recent.void_above(stream_id, value)
        elif what == "forget":
            model.pop(stream_id, None)
            recent.forget_log(stream_id)
        else:  # another log takes its place, whose next record is further on
            ends[stream_id] = ends.get(stream_id, 0) + value
            model[stream_id] = {}
        total = 0
        for log, records in model.items():
            first, end = recent.first_of(log), ends[log]
            if first is None or not records:
                continue
            found = recent.read_from(log, first, EVERYTHING)
            assert found == [records[at] for at in range(first, end + 1)]
            assert sum(map(size_of, found)) <= log_bytes
            total += sum(map(size_of, found))
            assert recent.read_from(log, first - 1, EVERYTHING) is None
            assert recent.read_from(log, end + 1, EVERYTHING) is None
        assert total <= recent.bytes <= node_bytes


def test_a_read_gives_one_record_at_least_and_about_as_many_bytes_as_asked() -> None:
    recent = RecentRecords(EVERYTHING, EVERYTHING)
    for position in range(1, 11):
        recent.keep(7, position, record(99))
    size = 100 + RECORD_BYTES
    assert [len(recent.read_from(7, 3, limit) or ()) for limit in (0, 1, size, 3 * size - 1, 3 * size, EVERYTHING)] == [
        1, 1, 1, 2, 3, 8,
    ]  # fmt: skip


def test_past_the_bound_of_the_node_the_log_goes_first_that_was_written_to_least_recently() -> None:
    size = 1 + RECORD_BYTES
    recent = RecentRecords(EVERYTHING, 4 * size)
    for stream_id, position in ((1, 1), (2, 1), (1, 2), (2, 2), (1, 3)):
        recent.keep(stream_id, position, record(0))
    assert (recent.first_of(1), recent.first_of(2)) == (1, 2)
    recent.keep(1, 4, record(0))
    assert (recent.first_of(1), recent.first_of(2)) == (1, None)


# ---------------------------------------------------------------- in a node


def test_records_are_those_of_the_journal_byte_for_byte_on_every_member() -> None:
    cluster = Cluster()
    stream_id, primary = cluster.serve()
    cluster.publish(primary, stream_id, b"x", b"y")
    cluster.publish(primary, stream_id, b"z")
    for member in cluster.members:
        for log in (CATALOG, stream_id):
            assert member.records(log) == records_of(member, log) != []
            assert member.node.first_in_memory(log) == 1
    assert primary.node.sent_records(stream_id, 3, 1) == records_of(primary, stream_id)[2:3]
    end = primary.log(stream_id).end
    assert primary.node.sent_records(stream_id, end + 1, EVERYTHING) == []
    assert primary.node.sent_records(99, 1, EVERYTHING) is None


def test_a_record_can_be_sent_as_soon_as_it_has_its_place_and_no_sooner() -> None:
    cluster = Cluster(1)
    stream_id, member = cluster.serve()
    end = member.log(stream_id).end
    with Play(member) as play:
        play.tell((1001, publish("s", ("a", b"in flight"))))
        play.tell((1002, publish("s", ("a", b"pending"))))
        assert member.log(stream_id).end == end + 2
        assert len(member.records(stream_id, end + 1)) == 1
        assert member.node.sent_records(stream_id, end + 2, EVERYTHING) == []
        play.done(1)
        assert len(member.records(stream_id, end + 1)) == 2
        play.done(2)
        play.lines.clear()


def test_what_waits_is_in_memory_beyond_the_bounds_and_what_is_applied_is_not() -> None:
    cluster = Cluster(1, replace(SMALL, recent_log_bytes_max=1))
    stream_id, member = cluster.serve()
    end = member.log(stream_id).end
    for payload in (b"1", b"2", b"3"):
        member.ask(publish("s", ("a", payload)))
    sent = records_of(member, stream_id)
    assert member.records(stream_id, end + 1) == sent[end:]
    assert member.node.sent_records(stream_id, end + 2, 1) == sent[end + 1 : end + 2]
    member.step(Replicated(stream_id, end + 1))
    assert member.node.sent_records(stream_id, end + 1, EVERYTHING) is None
    assert member.node.first_in_memory(stream_id) == end + 2
    assert member.records(stream_id, end + 2) == sent[end + 1 :]


def test_a_cut_takes_records_from_memory_and_later_ones_take_their_places() -> None:
    cluster = Cluster(2)
    stream_id, primary = cluster.serve()
    other = next(each for each in cluster.members if each is not primary)
    end = primary.log(stream_id).end
    primary.ask(publish("s", ("a", b"void")))
    cluster.send(primary, other, stream_id)
    primary.step(StepDown(stream_id))
    for member in (primary, other):
        member.step(Cut(1, stream_id, end))
        assert member.node.sent_records(stream_id, end + 1, EVERYTHING) == []
    cluster.lead(other, stream_id, other.node.epoch_table(stream_id)[-1][0] + 5)
    cluster.publish(other, stream_id, b"new")
    assert (
        primary.records(stream_id)
        == other.records(stream_id)
        == records_of(other, stream_id)[:end] + other.records(stream_id, end + 1)
    )
    for member in cluster.members:
        epochs = [member.node.epoch_at(stream_id, at) for at in range(member.log(stream_id).end + 2)]
        assert epochs[0] == 0 and epochs[-1] == -1
        assert epochs[end] + 5 == epochs[end + 1] == epochs[end + 2]


def test_epochs_of_records_that_wait_are_known_and_go_with_a_cut() -> None:
    cluster = Cluster(2)
    leader, other = cluster.members
    leader.ask(rq.CreateStream(stream_config("s")))
    cluster.send(leader, other)
    other.step(Lead(CATALOG, 4))
    end = other.log().end
    assert other.log().applied < end
    assert [other.node.epoch_at(CATALOG, at) for at in (0, 1, end - 1, end, end + 1, -1)] == [0, 1, 1, 4, -1, -1]
    assert other.node.epoch_table(CATALOG) == [(0, 0), (1, 1), (4, end)]
    other.pass_ms(200)
    other.kill()
    assert other.node.epoch_table(CATALOG) == [(0, 0), (1, 1), (4, end)], "a start knows those of the suffix"
    other.step(Cut(1, CATALOG, end - 1))
    assert other.node.epoch_table(CATALOG) == [(0, 0), (1, 1)]
    assert other.node.epoch_at(CATALOG, end - 1) == 1


def test_a_start_has_the_catalogs_records_behind_its_checkpoint_and_all_suffixes() -> None:
    cluster = Cluster(1, TINY)
    stream_id, member = cluster.serve("busy", block_size=20, max_msgs=50)
    for _ in range(120):
        cluster.publish(member, stream_id, bytes(300), name="busy")
    assert member.node.stats.checkpoints
    covered = member.log().applied
    for name in ("a", "b"):
        cluster.create(name)
    member.pass_ms(200)
    member.ask(rq.CreateStream(stream_config("c")))
    member.ask(publish("busy", ("a", b"waits")))
    expected = member.records(CATALOG, covered + 1)
    waiting = member.records(stream_id, member.log(stream_id).applied + 1)
    member.lose_power()
    first = member.node.first_in_memory(CATALOG)
    assert first is not None and first <= covered + 1
    assert member.records(CATALOG, covered + 1) == expected
    assert member.log().applied < member.log().end
    log = member.log(stream_id)
    assert member.records(stream_id, log.applied + 1)[-len(waiting) :] == waiting != []
    member.commit(stream_id)
    assert member.records(stream_id, log.end) == waiting[-1:], "applied, and still in memory"


def test_what_is_carried_forward_keeps_its_bytes() -> None:
    cluster = Cluster(1, TINY)
    stream_id, member = cluster.serve()
    busy, _ = cluster.serve("busy", block_size=20, max_msgs=50)
    member.ask(publish("s", ("a", b"starves")))
    sent = records_of(member, stream_id)[-1]
    first = member.log(stream_id).entries[0].segment
    for _ in range(150):
        cluster.publish(member, busy, bytes(300), name="busy")
    assert member.log(stream_id).entries[0].segment > first
    assert records_of(member, stream_id)[-1] == sent == member.records(stream_id)[-1]


def test_the_records_of_a_deleted_stream_are_forgotten() -> None:
    cluster = Cluster(1)
    stream_id, member = cluster.serve()
    cluster.publish(member, stream_id, bytes(3_000))
    recent = member.node._state.recent
    assert recent is not None
    before = recent.bytes
    cluster.call(rq.DeleteStream("s"))
    assert recent.first_of(stream_id) is None
    assert recent.bytes < before - 3_000
    assert member.node.sent_records(stream_id, 1, EVERYTHING) is None


def test_an_ephemeral_streams_records_can_be_sent() -> None:
    cluster = Cluster(1)
    stream_id, member = cluster.serve("s", ephemeral=True)
    cluster.publish(member, stream_id, b"x")
    assert [each.kind for each in member.records(stream_id)] == [10, 1]
    assert b"x" in member.records(stream_id)[-1].body


def test_records_that_came_before_their_streams_creation_are_known() -> None:
    cluster = Cluster(2)
    stream_id, primary = cluster.serve()
    cluster.publish(primary, stream_id, b"x")
    late = Member(3, (1, 2, 3))
    cluster.send(primary, late, stream_id)
    assert late.records(stream_id) == primary.records(stream_id)
    assert late.node.epoch_table(stream_id) == primary.node.epoch_table(stream_id)
    assert [late.node.epoch_at(stream_id, at) for at in (0, 1, 2)] == [
        0,
        *(primary.node.epoch_at(stream_id, at) for at in (1, 2)),
    ]
    cluster.send(cluster.leader, late)
    late.commit()
    assert not late.leads(stream_id)
    late.commit(stream_id)
    assert late.log(stream_id).applied == primary.log(stream_id).applied
    assert late.records(stream_id) == primary.records(stream_id)
