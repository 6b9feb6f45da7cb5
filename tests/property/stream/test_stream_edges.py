"""What a stream promises, one sentence a test: the cases that are easy to get wrong."""

from __future__ import annotations

from array import array

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.stream_bench import LIMITS, Bench
from tests.kit.stream_model import ack_record, resident, view
from waymaker_core.api.requests import Publish, Run, UpdateStream
from waymaker_core.consumer.delivery.dispatch import within
from waymaker_core.model.config import Retention
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.result_codes import RefusedError
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import NeedBlocks, PublishDecision, admission, reads, updated
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.relocation import relocation as relocating
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot


def revisions(decision: PublishDecision) -> dict[int, int]:
    failures = decision.published.failures or {}
    assert all(code == "wrong_revision" for code, _, _ in failures.values())
    return {entry: seq for entry, (_, _, seq) in failures.items()}


# ---------------------------------------------------------------- compare and set


def test_of_two_equal_expectations_in_one_batch_the_first_wins() -> None:
    decision = Bench().decide("a", "a", "b", expected=[0, 0, 0])
    assert revisions(decision) == {1: 1}
    assert (decision.published.first_seq, decision.published.count) == (1, 2)


def test_of_two_equal_expectations_in_two_batches_the_first_wins_and_the_refusal_waits_for_it() -> None:
    bench = Bench()
    first = bench.decide("a", expected=[0])
    second = bench.decide("a", expected=[0])
    assert second.record is None
    assert revisions(second) == {0: 1}
    assert second.depends_on_uncommitted
    bench.apply(first)
    third = bench.decide("a", expected=[0])
    assert revisions(third) == {0: 1}
    assert not third.depends_on_uncommitted


def test_a_publish_without_expectation_counts_for_the_next_ones_expectation() -> None:
    decision = Bench().decide("a", "a", "a", expected=[-1, 1, 1])
    assert revisions(decision) == {2: 2}


def test_zero_is_expected_rightly_where_everything_was_pruned() -> None:
    bench = Bench(max_msgs=1, strict_limits=True)
    bench.publish("a", "b")
    assert revisions(bench.decide("a", expected=[1])) == {0: 0}
    assert revisions(bench.decide("a", expected=[0])) == {}


def test_a_refusal_that_rests_on_a_staged_deletion_waits_for_it() -> None:
    bench = Bench(max_msgs=1, strict_limits=True)
    bench.publish("a")
    bench.decide("b")
    late = bench.decide("a", expected=[1])
    assert revisions(late) == {0: 0}
    assert late.depends_on_uncommitted


def test_a_refused_publish_leaves_the_others_of_its_batch_with_neighbouring_sequences() -> None:
    bench = Bench(max_msg_bytes=5, subjects_filter=("a", "b"))
    request = Publish("s", ["a", "c", "b", "a", "a b"], [1, 1, 9, 1, 1], [1, 2, 1, 1, 1], b"123456")
    decision = admission.decide_publish(bench.stream, request, 5)
    assert {entry: code for entry, (code, _, _) in (decision.published.failures or {}).items()} == {
        1: "subject_rejected",
        2: "oversize",
        4: "subject_rejected",
    }
    assert decision.parts == [b"1", b"5"]
    bench.apply(decision)
    assert bench.live() == [1, 2]


# ---------------------------------------------------------------- subjects whose entries are repaired


def test_a_subject_that_died_and_came_back_in_one_block_is_listed_again() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=100)
    bench.publish("a", "b")
    bench.drop(1)
    assert reads.list_subjects(bench.stream, "", "", 0).entries == ["b"]
    bench.publish("a")
    assert reads.list_subjects(bench.stream, "", "", 0).entries == ["a", "b"]


def test_a_subject_that_died_before_a_restart_is_listed_again_when_it_comes_back() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=100)
    bench.publish("a", "b")
    bench.drop(1)
    assert reads.list_subjects(bench.stream, "", "", 0).entries == ["b"]
    bench.stream = decode_snapshot(cbor2.loads(cbor2.dumps(encode_snapshot(bench.stream))), LIMITS)
    bench.publish("a")
    assert reads.list_subjects(bench.stream, "", "", 0).entries == ["a", "b"]


def test_an_old_message_is_still_found_after_newer_ones_at_its_subject_were_acknowledged() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish("a", "b", "b", "b", "b", "a")
    bench.drop(6)
    assert bench.stream.latest("a") == 1
    bench.publish("a")
    assert [first for first, _ in reads.select(bench.stream, 0, Pattern("a"), 9, 1 << 20).ranges] == [1, 7]


# ---------------------------------------------------------------- work queue


def test_a_message_acknowledged_twice_goes_once() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish("a", "b", "c")
    first = retention.decide_drops(bench.stream, [2, 2])
    second = retention.decide_drops(bench.stream, [2, 3])
    assert (list(first[0]), list(second[0])) == ([2], [3])
    bench.stream.apply(2, ack_record(*first), None)
    bench.stream.apply(3, ack_record(*second), None)
    bench.stream.apply(4, ack_record(*first), None)
    check_stream(bench.stream)
    assert bench.live() == [1]
    assert (bench.stream.count, bench.stream.bytes) == (1, 4)


def test_what_is_not_committed_cannot_be_acknowledged() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.decide("a")
    assert list(retention.decide_drops(bench.stream, [1, 2, 99])[0]) == []


# ---------------------------------------------------------------- times


def test_server_times_never_go_back_not_even_over_a_restart() -> None:
    bench = Bench()
    bench.publish("a", wall_ms=500)
    bench.publish("b", times=[9_000_000], wall_ms=400)
    again = decode_snapshot(cbor2.loads(cbor2.dumps(encode_snapshot(bench.stream))), LIMITS)
    decision = admission.decide_publish(again, Publish("s", ["c"], [1], [1], b"x"), 300)
    assert decision.record is not None
    assert list(decision.record.times_ms) == [500], "and a client's time in the future does not drag them along"


def test_a_time_before_1970_is_refused_and_nothing_of_its_batch_is_staged() -> None:
    bench = Bench()
    with pytest.raises(RefusedError):
        bench.decide("a", "b", times=[5, -1])
    assert bench.stream.overlay.last_seq == 0


# ---------------------------------------------------------------- age


def test_strictly_a_young_message_does_not_protect_old_ones_behind_it() -> None:
    bench = Bench(max_age_ms=100, strict_limits=True)
    bench.publish("a", "b", "c", "d", "e", "f", times=[5000, 10, 20, 5000, 30, 5000])
    bench.prune(1000)
    assert bench.live() == [1, 4, 6]


def test_a_newer_message_never_goes_before_an_older_one_of_its_subject() -> None:
    bench = Bench(max_age_ms=100, strict_limits=True)
    bench.publish("a", "b", "a", "b", "c", "a", times=[5000, 10, 20, 30, 5000, 40])
    bench.seal()
    bench.prune(1000)
    assert bench.live() == [1, 3, 5, 6]
    bench.prune(5100)
    assert bench.live() == []


def test_what_was_kept_for_an_older_ones_sake_goes_when_a_limit_takes_that_one() -> None:
    bench = Bench(max_age_ms=100, max_msgs=3, strict_limits=True)
    bench.publish("a", "a", "b", times=[5000, 10, 5000])
    bench.prune(1000)
    assert bench.live() == [1, 2, 3]
    bench.publish("c", times=[5000])
    bench.prune(1000)
    assert bench.live() == [3, 4]


def test_by_blocks_an_open_block_that_is_wholly_expired_goes_too() -> None:
    bench = Bench(max_age_ms=100)
    bench.publish("a", "b", "c", "d", "e", wall_ms=1000)
    bench.prune(1099)
    assert bench.live() == [1, 2, 3, 4, 5]
    bench.prune(1100)
    assert bench.live() == []
    assert bench.stream.first_seq == 6
    bench.publish("f", wall_ms=1100)
    assert bench.live() == [6]


def test_by_blocks_messages_in_order_are_judged_without_any_index() -> None:
    bench = Bench(max_age_ms=100)
    for wall_ms in range(1000, 1040):
        bench.publish("a", wall_ms=wall_ms)
    bench.seal()
    record = retention.decide_retention(bench.stream, 1115, None)
    assert record is not None
    assert (record.truncate_to, len(record.drop_seqs)) == (17, 0)
    assert retention.decide_retention(bench.stream, 1115, None) is None


@given(
    times=st.lists(st.integers(0, 60), min_size=1, max_size=60), block_size=st.integers(1, 8),
    subjects=st.integers(1, 4), passed=st.lists(st.integers(0, 30), min_size=1, max_size=6),
)  # fmt: skip
def test_by_blocks_fewer_than_one_block_too_many_stay_whatever_the_order_of_times(
    times: list[int], block_size: int, subjects: int, passed: list[int]
) -> None:
    bench = Bench(max_age_ms=30, block_size=block_size)
    exact = Bench(max_age_ms=30, block_size=block_size, strict_limits=True)
    names = [f"s{place * 7 % subjects}" for place in range(len(times))]
    for one in (bench, exact):
        one.publish(*names, times=[time + 1 for time in times])
        one.seal()
    now = 20
    for step in passed:
        now += step
        bench.prune(now)
        exact.prune(now)
        assert set(exact.live()) <= set(bench.live())
        assert len(bench.live()) - len(exact.live()) < block_size


# ---------------------------------------------------------------- limits


def test_an_update_prunes_exactly_in_block_aligned_mode_too_and_a_dry_run_changes_nothing() -> None:
    bench = Bench()
    bench.publish(*"abcdefghij")
    bench.seal()
    config = updated(bench.stream.config, UpdateStream("s", max_msgs=3), LIMITS)
    before = view(bench.stream, bench.disk)
    dry = resident(bench.stream, bench.disk, lambda: retention.decide_update(bench.stream, config, 1000, True))
    assert dry.pruned == 7
    assert view(bench.stream, bench.disk) == before
    assert bench.stream.is_settled()
    bench.seal()
    decision = resident(bench.stream, bench.disk, lambda: retention.decide_update(bench.stream, config, 1000))
    assert decision.pruned == 7
    for record in decision.records:
        bench.stream.apply(bench.stream.position + 1, record, None)
    check_stream(bench.stream)
    assert bench.stream.config == config
    assert bench.live() == [8, 9, 10]


def test_limits_hold_exactly_inside_a_batch_larger_than_they_are() -> None:
    bench = Bench(max_msgs=3, strict_limits=True)
    bench.publish(*["a"] * 11)
    assert bench.live() == [9, 10, 11]
    assert bench.stream.stats().msg_count == 3


def test_the_cap_of_a_subject_counts_what_is_staged() -> None:
    bench = Bench(max_msgs_per_subject=2)
    first, second = bench.decide("a", "b", "a"), bench.decide("a", "a")
    assert second.record is not None
    assert list(second.record.drop_seqs) == [1, 3]
    bench.apply(first)
    bench.apply(second)
    assert bench.live() == [2, 4, 5]


def test_the_cap_of_a_subject_does_not_count_what_was_acknowledged_out_of_order() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, max_msgs_per_subject=3)
    bench.publish("a", "a", "a")
    bench.drop(2)
    bench.publish("a")
    assert bench.live() == [1, 3, 4]
    bench.publish("a")
    assert bench.live() == [3, 4, 5]


def test_a_message_larger_than_the_whole_stream_is_oversize() -> None:
    bench = Bench(max_bytes=10)
    failures = bench.decide("a", size=10).published.failures
    assert failures is not None
    assert failures[0][0] == "oversize"
    assert bench.decide("a", size=9).published.failures is None


# ---------------------------------------------------------------- reserved streams, wrong input


def test_only_its_service_writes_to_a_reserved_stream() -> None:
    bench = Bench(name="kv:b")
    failures = bench.decide("b.k", "b.l").published.failures
    assert failures is not None
    assert [code for code, _, _ in failures.values()] == ["subject_rejected"] * 2
    assert bench.decide("b.k", service=True).published.first_seq == 1


@pytest.mark.parametrize(
    "request_", [
        Publish("s", [], [], [], b""),
        Publish("s", ["a"], [1, 2], [1], b"x"),
        Publish("s", ["a"], [1], [2], b"x"),
        Publish("s", ["a"], [1], [1], b"x", times_ms=[]),
        Publish("s", ["a"], [1], [1], b"x", times_ms=[1 << 63]),
        Publish("s", ["a"], [1], [1], b"x", expected=[1, 2]),
        Publish("s", ["a"], [1], [1], b"x", expected=[1 << 64]),
    ],
)  # fmt: skip
def test_columns_that_disagree_or_absurd_numbers_are_refused(request_: Publish) -> None:
    with pytest.raises(RefusedError):
        admission.decide_publish(Bench().stream, request_, 5)


def test_pruned_messages_are_left_out_of_redeliveries() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish(*"abcd")
    bench.drop(2)
    messages = reads.messages_at(bench.stream, [1, 2, 3, 9], [1, 1, 1, 1])
    assert [seq for run in messages.runs for seq in run.sequences()] == [1, 3]


def test_scattered_messages_of_one_chunk_are_one_run() -> None:
    bench = Bench(block_size=100)
    bench.publish(*"abacabaabcab")
    bench.publish(*"baaaaaaaaaab")
    selection = reads.select(bench.stream, 1, Pattern("a"), 100, 1 << 30)
    messages = reads.messages_in(bench.stream, selection.ranges, 1)
    assert [seq for run in messages.runs for seq in run.sequences()] == [1, 3, 5, 7, 8, 11, *range(14, 24)]
    assert [list(run.stretches()) for run in messages.runs] == [[(0, 1), (1, 2), (2, 3), (3, 5), (5, 6)], [(0, 10)]]
    few = within(messages, messages.byte_count - 11 * (messages.byte_count // 16))
    assert [seq for run in few.runs for seq in run.sequences()] == [1, 3, 5, 7, 8]
    data = b"".join(b"%02d" % number for number in range(5))
    run = Run(
        Chunk("p", 0, 10, 0), 0, array("I", [2, 2]), 1, array("q", [1, 2]), 1, array("Q", [1, 4]), array("Q", [0, 6])
    )
    assert (run.bodies_in(data), run.head(1).bodies_in(data)) == (b"0003", b"00")


def test_copies_of_messages_are_as_large_as_their_originals_but_for_the_subject() -> None:
    bench = Bench()
    bench.publish("a.long.subject", size=7)
    decision = admission.decide_copies(bench.stream, "d", [1], [b"body"], 50)
    record = decision.copies
    assert (list(record.sizes), list(record.lengths), record.first_seq) == ([8], [4], 2)
    assert list(record.times_ms) == [1000], "server times do not go back for copies either"
    assert not decision.drop_seqs


def test_a_burial_that_lacks_an_index_leaves_nothing_staged() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, max_msgs_per_subject=2, block_size=2)
    bench.publish(*"abcd")
    bench.seal()
    stream = decode_snapshot(encode_snapshot(bench.stream), LIMITS)
    place = relocating.index_location(stream, 0)
    assert place is not None
    relocating.load_index(stream, 0, place, bench.disk.read(place))
    with pytest.raises(NeedBlocks) as need:
        admission.decide_copies(stream, "d", [1], [b"body"], 50, replace=True)
    assert need.value.blocks == [1]
    assert stream.is_settled()
    assert stream.is_projected(1)
    check_stream(stream)


@pytest.mark.parametrize("subject", ["a", "c"])
def test_two_limits_together_keep_less_than_one_block_too_much(subject: str) -> None:
    bench = Bench(block_size=3, max_msgs=1, max_age_ms=1000)
    bench.publish("a", wall_ms=5000)
    bench.publish("b", wall_ms=5000)
    bench.publish(subject, times=[2400], wall_ms=5000)
    assert bench.live() == [1, 2, 3], "two too many, and the third not judged yet"
    bench.prune(5000)
    assert bench.live() == [], "one limit or the other would have removed each of them"
