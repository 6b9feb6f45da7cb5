"""Server time after a wall clock that was wrong: how far it runs ahead, what expires when, and the same again from the log."""

from __future__ import annotations

from collections.abc import Callable

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.stream_bench import LIMITS, Bench
from waymaker_core.model.records import PruneRecord
from waymaker_core.storage import record_codec
from waymaker_core.stream.clock import CORRECTIONS_MAX, Correction
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.join import joinable
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot

DAY = 24 * 3_600_000
NOW = 20_000 * DAY
AGE = 7 * DAY
AHEAD = LIMITS.clock_ahead_max_ms


def restart(bench: Bench) -> None:
    bench.stream = decode_snapshot(cbor2.loads(cbor2.dumps(encode_snapshot(bench.stream))), LIMITS)
    check_stream(bench.stream)


def stay(bench: Bench) -> None:
    pass


def time_of(bench: Bench, seq: int) -> int:
    block = bench.stream.blocks[bench.stream.block_of(seq)]
    return block.resident().times_ms[seq - block.first]


@pytest.mark.parametrize("between", [stay, restart])
@pytest.mark.parametrize("strict", [False, True])
def test_a_jump_of_400_days_that_is_corrected(strict: bool, between: Callable[[Bench], None]) -> None:
    bench = Bench(max_age_ms=AGE, strict_limits=strict)
    bench.publish("a", "b", wall_ms=NOW)
    bench.publish("a", "b", "c", wall_ms=NOW + 400 * DAY)
    between(bench)
    bench.publish("a", wall_ms=NOW + 1_000)
    assert time_of(bench, 6) == NOW + 1_000, "the real time again"
    between(bench)
    bench.publish("a", wall_ms=NOW + 900)
    assert time_of(bench, 7) == NOW + 1_000, "and from there on it does not go back"
    between(bench)
    bench.publish("a", wall_ms=NOW + DAY)
    if strict:
        bench.prune(NOW + AGE)
        assert bench.live() == [3, 4, 5, 6, 7, 8]
    bench.prune(NOW + 999 + AGE)
    assert {3, 4, 5, 6, 7, 8} <= set(bench.live()), "no message goes earlier than `max_age` after it was published"
    between(bench)
    bench.prune(NOW + 1_000 + AGE)
    if strict:
        assert bench.live() == [8], "what was stamped in the future went, and shielded nothing"
    else:
        assert 8 in bench.live() and len(bench.live()) < 1 + bench.stream.block_size
        assert not {3, 4, 5} & set(bench.live())
    between(bench)
    bench.prune(NOW + DAY + AGE)
    assert bench.live() == []


@pytest.mark.parametrize("between", [stay, restart])
@pytest.mark.parametrize("strict", [False, True])
def test_a_stream_to_which_nothing_is_published_any_more(strict: bool, between: Callable[[Bench], None]) -> None:
    bench = Bench(max_age_ms=AGE, strict_limits=strict)
    bench.publish("a", "b", "a", "c", "a", wall_ms=NOW + 400 * DAY)
    assert retention.next_expiry_ms(bench.stream) == NOW + 400 * DAY + AGE
    assert not bench.stream.is_ahead(NOW + 400 * DAY - AHEAD)
    assert bench.stream.is_ahead(NOW)
    bench.prune(NOW)
    between(bench)
    assert retention.next_expiry_ms(bench.stream) == NOW + AGE
    bench.prune(NOW + AGE - 1)
    assert bench.live() == [1, 2, 3, 4, 5]
    bench.prune(NOW + AGE)
    assert bench.live() == []


def test_a_lead_within_the_bound_holds_server_time() -> None:
    bench = Bench()
    bench.publish("a", wall_ms=NOW + AHEAD)
    bench.publish("a", wall_ms=NOW)
    assert time_of(bench, 2) == NOW + AHEAD
    bench.publish("a", wall_ms=NOW - 1)
    assert time_of(bench, 3) == NOW - 1
    assert bench.stream.corrections == [Correction(2, NOW - 1, NOW + AHEAD)]


@pytest.mark.parametrize("strict", [False, True])
def test_a_clock_that_was_behind_for_a_while_deletes_nothing_early(strict: bool) -> None:
    bench = Bench(max_age_ms=AGE, strict_limits=strict)
    bench.publish("a", wall_ms=NOW)
    bench.publish("a", "b", wall_ms=1_000)
    bench.prune(2_000)
    bench.prune(NOW + 5_000)
    assert bench.live() == [1, 2, 3], "both kinds of messages are younger than a week"
    bench.publish("a", wall_ms=NOW + 5_000)
    bench.prune(NOW + AGE - 1)
    assert bench.live() == [1, 2, 3, 4]
    bench.prune(NOW + AGE)
    assert bench.live() == [4] or not strict
    bench.prune(NOW + AGE + 5_000)
    assert bench.live() == []


def test_a_client_s_own_times_correct_nothing() -> None:
    bench = Bench(max_age_ms=AGE, strict_limits=True)
    bench.publish("a", times=[NOW + 400 * DAY], wall_ms=NOW)
    bench.publish("b", wall_ms=NOW)
    bench.prune(NOW + AGE)
    assert bench.live() == [1] and bench.stream.corrections == []


def test_a_clock_that_is_wrong_again_and_again_keeps_nothing_longer() -> None:
    bench = Bench(max_age_ms=AGE, strict_limits=True)
    for day in range(3 * CORRECTIONS_MAX):
        bench.publish("a", wall_ms=NOW + day * DAY + 400 * DAY)
        bench.publish("a", wall_ms=NOW + day * DAY)
        bench.prune(NOW + day * DAY)
        assert len(bench.stream.corrections) <= CORRECTIONS_MAX
        assert len(bench.live()) <= 2 * 7, day


def test_a_decision_under_way_does_not_raise_the_clock_again_when_it_is_applied() -> None:
    bench = Bench(max_age_ms=AGE)
    ahead = bench.decide("a", wall_ms=NOW + 400 * DAY)
    right = bench.decide("a", wall_ms=NOW)
    assert ahead.record is not None and right.record is not None
    assert not joinable(ahead.record, right.record), "one record would hide the correction"
    bench.apply(ahead)
    later = bench.decide("a", wall_ms=NOW - 5)
    bench.apply(right)
    bench.apply(later)
    assert [time_of(bench, seq) for seq in (1, 2, 3)] == [NOW + 400 * DAY, NOW, NOW]
    assert bench.stream.corrections == [Correction(1, NOW, NOW + 400 * DAY)]


def test_a_correction_by_retention_survives_what_is_applied_before_it() -> None:
    bench = Bench(max_age_ms=AGE)
    bench.publish("a", wall_ms=NOW)
    ahead = bench.decide("a", wall_ms=NOW + 400 * DAY)
    prune = retention.decide_retention(bench.stream, NOW + 1, None)
    assert prune is not None and prune.clock_ms == NOW + 1
    bench.apply(ahead)
    assert bench.stream.server_time(NOW) == NOW + 1
    bench.stream.apply(bench.stream.position + 1, prune, None)
    check_stream(bench.stream)
    assert bench.stream.corrections == [Correction(2, NOW + 1, NOW + 400 * DAY)]
    again = retention.decide_retention(bench.stream, NOW + 1, None)
    assert again is None


def test_a_prune_that_corrects_the_clock_is_stored_as_version_2() -> None:
    for record, version in ((PruneRecord(5), 1), (PruneRecord(5, clock_ms=NOW), 2)):
        assert record_codec.version_of(record) == version
        back = record_codec.decode(PruneRecord.KIND, version, record_codec.encode(record))
        assert isinstance(back, PruneRecord)
        assert (back.truncate_to, back.clock_ms) == (5, record.clock_ms)


@given(st.lists(st.tuples(st.sampled_from([0, 400 * DAY, -30 * DAY, 20_000]), st.integers(1, 9)), max_size=30))
def test_replay_gives_the_same_and_stamps_stay_within_the_bound(moves: list[tuple[int, int]]) -> None:
    bench, twin = Bench(max_age_ms=AGE, strict_limits=True), Bench(max_age_ms=AGE, strict_limits=True)
    chunk, wall_ms = bench.disk.append("journal/0000000000000001.seg", b"xy"), NOW
    for skew_ms, hours in moves:
        wall_ms += hours * 3_600_000
        shown_ms = wall_ms + skew_ms
        decision = bench.decide("abc"[hours % 3], wall_ms=shown_ms)
        assert decision.record is not None
        assert shown_ms <= decision.record.times_ms[0] <= shown_ms + AHEAD
        bench.apply(decision)
        position = bench.stream.position
        twin.stream.apply(position, decision.record, chunk)
        while (record := retention.decide_retention(bench.stream, shown_ms, None)) is not None:
            position += 1
            meta = record_codec.encode(record)
            again = record_codec.decode(PruneRecord.KIND, record_codec.version_of(record), meta)
            assert isinstance(again, PruneRecord)
            bench.stream.apply(position, record, None)
            twin.stream.apply(position, again, None)
        check_stream(twin.stream)
        assert twin.stream.corrections == bench.stream.corrections
        assert twin.stream.overlay.clock_ms == bench.stream.overlay.clock_ms == bench.stream.clock_ms
        assert twin.live() == bench.live()
